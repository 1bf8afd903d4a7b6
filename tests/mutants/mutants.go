package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variable is the environment variable that names the mutant to switch on.
const Variable = "TROUPE_MUTANT"

// Mutant is one way in which the runtime is broken.
type Mutant struct {
	Name  string
	Why   string
	Edits []Edit
}

// Edit replaces a text that stands once in a file of the module.
type Edit struct {
	File          string
	Find, Replace string
}

// Load reads all mutants of a folder.
func Load(folder string) ([]Mutant, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var mutants []Mutant
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m, err := parse(strings.TrimSuffix(filepath.Base(name), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		mutants = append(mutants, m)
	}
	return mutants, nil
}

// parse reads "# why", then for each edit "--- file", the text to find, "+++" and
// the text to put in its place. After "--- file inline" the texts have no end of
// line of their own.
func parse(name, text string) (Mutant, error) {
	m := Mutant{Name: name}
	var into *string
	inline := false
	end := func() {
		if into != nil && inline {
			*into = strings.TrimSuffix(*into, "\n")
		}
	}
	for line := range strings.Lines(text) {
		switch word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); {
		case len(m.Edits) == 0 && word == "#":
			m.Why = rest
		case word == "---":
			end()
			file, mode, _ := strings.Cut(rest, " ")
			inline = mode == "inline"
			m.Edits = append(m.Edits, Edit{File: file})
			into = &m.Edits[len(m.Edits)-1].Find
		case word == "+++" && rest == "":
			end()
			into = &m.Edits[len(m.Edits)-1].Replace
		case into == nil:
			return m, fmt.Errorf("mutant %s: %q is no edit", name, line)
		default:
			*into += line
		}
	}
	end()
	for _, e := range m.Edits {
		if e.Find == "" || !strings.Contains(e.Replace, "MUTANT") {
			return m, fmt.Errorf("mutant %s: an edit of %s without a text to find, or without MUTANT", name, e.File)
		}
	}
	if m.Why == "" || len(m.Edits) == 0 {
		return m, fmt.Errorf("mutant %s says nothing", name)
	}
	return m, nil
}

// active is added to package seams, which every mutated package imports.
const active = `package seams

import "os"

// Mutant names the mutant that is switched on.
var Mutant = os.Getenv("` + Variable + `")
`

// qualifier is how a file of the module names package seams.
func qualifier(file string) string {
	if strings.HasPrefix(file, "seams/") {
		return ""
	}
	return "seams."
}

// Overlay writes the mutated sources and the overlay file for go build into a
// folder, and returns the file's name.
func Overlay(module, folder string, mutants []Mutant) (string, error) {
	original, mutated := make(map[string]string), make(map[string]string)
	for _, m := range mutants {
		for _, e := range m.Edits {
			if _, ok := original[e.File]; !ok {
				text, err := os.ReadFile(filepath.Join(module, e.File))
				if err != nil {
					return "", err
				}
				original[e.File], mutated[e.File] = string(text), string(text)
			}
			if n := strings.Count(original[e.File], e.Find); n != 1 {
				return "", fmt.Errorf("mutant %s: its text stands %d times in %s, expected once:\n%s", m.Name, n, e.File, e.Find)
			}
			if !strings.Contains(mutated[e.File], e.Find) {
				return "", fmt.Errorf("mutant %s: another mutant has changed its text in %s:\n%s", m.Name, e.File, e.Find)
			}
			mutated[e.File] = strings.Replace(mutated[e.File], e.Find, strings.ReplaceAll(e.Replace, "MUTANT", fmt.Sprintf("(%sMutant == %q)", qualifier(e.File), m.Name)), 1)
		}
	}
	replace := make(map[string]string)
	put := func(file, text string) error {
		name := filepath.Join(folder, strings.ReplaceAll(file, "/", "__"))
		replace[filepath.Join(module, file)] = name
		return os.WriteFile(name, []byte(text), 0o644)
	}
	if err := put("seams/mutant.go", active); err != nil {
		return "", err
	}
	for file, text := range mutated {
		if qualifier(file) != "" && !strings.Contains(text, "troupe/seams\"") {
			text = strings.Replace(text, "import (\n", "import (\n\t\"github.com/troupe-kafka/troupe/seams\"\n", 1)
		}
		if err := put(file, text); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, os.WriteFile(name, text, 0o644)
}
