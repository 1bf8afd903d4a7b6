package architecture_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testsOf maps each test function of the module to the texts in its body: names
// of subtests are among them, or their beginnings. Two tests of one name count
// together.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	err := filepath.WalkDir(filepath.Join("..", ".."), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, decl := range parse(t, filepath.ToSlash(name), string(text)).syntax.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			literals := append([]string{}, tests[f.Name.Name]...)
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if s, err := strconv.Unquote(l.Value); err == nil {
						literals = append(literals, s)
					}
				}
				return true
			})
			tests[f.Name.Name] = literals
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

var (
	quoted   = regexp.MustCompile("`([^`]+)`")
	listed   = regexp.MustCompile(`^(java|museum|librdkafka)\d+-`)
	ruleRow  = regexp.MustCompile(`(?m)^\| (4\.\d+) `)
	plainRow = regexp.MustCompile(`(?m)^\| (\d+) `)
)

// checkGuards returns what a text names that does not exist.
func checkGuards(text string, tests map[string][]string, exists func(string) bool) []string {
	var wrong []string
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		name := m[1]
		mutant, isMutant := strings.CutPrefix(name, "mutant ")
		switch {
		case isMutant:
			if !exists("tests/mutants/testdata/" + mutant) {
				wrong = append(wrong, name+": there is no such mutant")
			}
		case strings.HasSuffix(name, ".txt"):
			if !exists("actors/accumulator/testdata/" + name) {
				wrong = append(wrong, name+": there is no such script")
			}
		case strings.HasSuffix(name, ".json"):
			if !exists("tests/sim/testdata/corpus/" + name) {
				wrong = append(wrong, name+": there is no such plan")
			}
		case strings.HasPrefix(name, "Test"):
			function, sub, _ := strings.Cut(name, "/")
			literals, ok := tests[function]
			found := ok && sub == ""
			for _, l := range literals {
				found = found || (sub != "" && strings.HasPrefix(l, sub))
			}
			if !found {
				wrong = append(wrong, name+": there is no such test")
			}
		}
	}
	return wrong
}

// exists reports whether the repository has a file.
func exists(name string) bool {
	_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name)))
	return err == nil
}

var entry = regexp.MustCompile(`(?m)^\d+\. `)

// unguarded returns the entries of a numbered list that name no guard.
func unguarded(list string) []string {
	var wrong []string
	starts := entry.FindAllStringIndex(list, -1)
	for i, at := range starts {
		end := len(list)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		_, guards, _ := strings.Cut(strings.Join(strings.Fields(list[at[0]:end]), " "), "Guarded by ")
		named := false
		for _, m := range quoted.FindAllStringSubmatch(guards, -1) {
			named = named || strings.HasPrefix(m[1], "Test") || strings.HasSuffix(m[1], ".txt") || strings.HasSuffix(m[1], ".json")
		}
		if !named {
			wrong = append(wrong, list[at[0]:at[0]+min(60, end-at[0])])
		}
	}
	return wrong
}

// TestNonObviousIsGuarded: each entry of DESIGN.md's list names what fails when it
// is undone, and all of that exists.
func TestNonObviousIsGuarded(t *testing.T) {
	list := section(t, read(t, "DESIGN.md"), "Non-obvious")
	_, list, _ = strings.Cut(list, "\n1. ") // what stands before explains the notation
	list = "1. " + list
	if n := len(entry.FindAllString(list, -1)); n < 34 {
		t.Errorf("%d entries only", n)
	}
	for _, w := range unguarded(list) {
		t.Errorf("nothing guards: %s", w)
	}
	for _, w := range checkGuards(list, testsOf(t), exists) {
		t.Error(w)
	}
	if len(unguarded("1. One. Guarded by `TestX`.\n2. Two `TestX`.\n3. Three. Guarded by `x`.\n")) != 2 {
		t.Error("the check does not see an entry without a guard")
	}
}

// TestPromisesAreGuarded holds docs/promises.md against what there is: every test,
// script and mutant that it names, and every row and script that it has to name.
func TestPromisesAreGuarded(t *testing.T) {
	text := read(t, "docs/promises.md")
	_, table, _ := strings.Cut(text, "\n## ") // what stands before explains the notation
	tests := testsOf(t)
	for _, w := range checkGuards(table, tests, exists) {
		t.Error(w)
	}
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| ") && !strings.Contains(line, "`") && !strings.HasSuffix(line, "| guarded by |\n") {
			t.Errorf("nothing guards: %s", line)
		}
	}
	scripts, err := filepath.Glob(filepath.Join("..", "..", "actors", "accumulator", "testdata", "*.txt"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, s := range scripts {
		if name := filepath.Base(s); listed.MatchString(name) && !strings.Contains(table, "`"+name+"`") {
			t.Errorf("docs/promises.md does not name %s", name)
		}
	}

	rules := make(map[string]bool)
	for _, m := range ruleRow.FindAllStringSubmatch(section(t, table, "The rules against Kafka"), -1) {
		rules[m[1]] = true
	}
	for n := 1; n <= 15; n++ {
		if rule := "4." + strconv.Itoa(n); !rules[rule] {
			t.Errorf("docs/promises.md has no row for rule %s", rule)
		}
	}
	wantRows(t, section(t, table, "Java's checklist"), 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 26)
	wantRows(t, section(t, table, "The museum"), 1, 2, 3, 4, 5, 6, 7, 8, 9)

	for _, bad := range []string{"`TestNothing`", "`TestMuseum1/java 99`", "`no-such.txt`", "`no-such.json`", "`mutant no-such.txt`"} {
		if len(checkGuards(bad, tests, exists)) == 0 {
			t.Errorf("the check does not see that %s does not exist", bad)
		}
	}
}

// section is the part of a text below the heading that begins so.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut("\n## "+text, "\n## "+heading)
	if !found {
		t.Fatalf("no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

func wantRows(t *testing.T, section string, numbers ...int) {
	t.Helper()
	rows := make(map[string]bool)
	for _, m := range plainRow.FindAllStringSubmatch(section, -1) {
		rows[m[1]] = true
	}
	for _, n := range numbers {
		if !rows[strconv.Itoa(n)] {
			t.Errorf("docs/promises.md has no row %d under%.30s", n, section)
		}
	}
}
