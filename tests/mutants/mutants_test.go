package mutants

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	most = flag.Int("most", 20_000, "how many seeds a mutant may survive")
	only = flag.String("only", "", "run one mutant")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMutants builds all mutants into one campaign and runs it until it finds
// each of them; the campaign without a mutant finds nothing in the same seeds.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the campaign anew")
	}
	mutants, err := Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) < 15 {
		t.Fatalf("%d mutants", len(mutants))
	}
	campaign := build(t, mutants)
	if out, found := campaign.run("", 1, 200); found {
		t.Fatalf("the campaign finds something without a mutant:\n%s", out)
	}
	killed := 0
	for _, m := range mutants {
		if *only != "" && *only != m.Name {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			at, what := campaign.hunt(m.Name, *most)
			if at == 0 {
				t.Fatalf("%s\nsurvives %d seeds", m.Why, *most)
			}
			killed++
			t.Logf("found by seed %d: %s", at, what)
		})
	}
	fmt.Printf("mutants: %d of %d killed\n", killed, len(mutants))
}

// campaign is the program of the simulation with every mutant built in.
type campaign struct {
	t      *testing.T
	binary string
}

func build(t *testing.T, mutants []Mutant) *campaign {
	t.Helper()
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	overlay, err := Overlay(module, folder, mutants)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(folder, "campaign")
	// Without the race detector, whatever this test was built with: each run of the
	// campaign is one goroutine.
	command := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./tests/sim/campaign")
	command.Dir = module
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return &campaign{t, binary}
}

// chunks of seeds, so that the first violation ends the hunt soon.
var chunks = []int{50, 150, 800, 3000}

// hunt runs seeds until a mutant is found, and returns the seed.
func (c *campaign) hunt(mutant string, most int) (seed int, what string) {
	first := 1
	for i := 0; first <= most; i++ {
		n := min(chunks[min(i, len(chunks)-1)], most-first+1)
		if out, found := c.run(mutant, first, n); found {
			return firstSeed(out)
		}
		first += n
	}
	return 0, ""
}

// run runs n seeds and reports whether any was violated.
func (c *campaign) run(mutant string, first, n int) (out string, found bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, c.binary, "-first", strconv.Itoa(first), "-seeds", strconv.Itoa(n), "-show", "1", "-long", "20", "-sometimes", "1000000")
	command.Env = append(os.Environ(), Variable+"="+mutant)
	text, err := command.CombinedOutput()
	if err == nil {
		return string(text), false
	}
	if !strings.Contains(string(text), "seed ") {
		c.t.Fatalf("mutant %q: the campaign failed, and not over a seed: %v\n%.3000s", mutant, err, text)
	}
	return string(text), true
}

// firstSeed finds the first seed that the campaign complains about, and why.
func firstSeed(out string) (int, string) {
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		rest, ok := strings.CutPrefix(line, "seed ")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ",")
		if n, err := strconv.Atoi(number); err == nil && i+1 < len(lines) {
			return n, strings.TrimSpace(lines[i+1])
		}
	}
	return -1, "it crashed"
}

// TestParse holds the format of the files.
func TestParse(t *testing.T) {
	m, err := parse("m", "# why\n--- a.go\n\tx\n+++\n\tif MUTANT { x }\n--- b.go inline\ny\n+++\nz MUTANT\n")
	if err != nil {
		t.Fatal(err)
	}
	if m.Why != "why" || len(m.Edits) != 2 || m.Edits[0].Find != "\tx\n" || m.Edits[1].Find != "y" || m.Edits[1].Replace != "z MUTANT" {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{"", "# why\n", "text\n", "# why\n--- a.go\n+++\nMUTANT\n", "# why\n--- a.go\nx\n+++\ny\n", "--- a.go\nx\n+++\nMUTANT\n"} {
		if _, err := parse("m", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestEditsApply finds a mutant whose text is gone without building anything.
func TestEditsApply(t *testing.T) {
	mutants, err := Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Overlay(module, t.TempDir(), mutants); err != nil {
		t.Fatal(err)
	}
}
