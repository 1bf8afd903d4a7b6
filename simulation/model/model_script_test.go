package model

import (
	"os"
	"path/filepath"
	"testing"
)

func scripts(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) < 7 {
		t.Fatalf("found the scripts %v: %v", names, err)
	}
	return names
}

// TestScripts runs the scripts that tests/kafka compares with real brokers.
func TestScripts(t *testing.T) {
	for _, name := range scripts(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := ParseScript(string(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range []Version{V4, V3} {
			t.Run(filepath.Base(name)+"/"+v.String(), func(t *testing.T) {
				for _, problem := range RunScript(steps, v, Scripted(v, 1_800_000_000_000)) {
					t.Error(problem)
				}
			})
		}
	}
}
