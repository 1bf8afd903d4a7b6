package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	reportFile    = "benchmarks.md"
	figuresFolder = "benchmarks"
	nullFile      = "null.json"
	realFile      = "real.json"
)

// noFigures stands where there is nothing yet.
const noFigures = "\nNo figures yet.\n"

// writeReport fills in the places of benchmarks.md from what was measured. What
// stands between the places is written by hand and stays.
func writeReport(folder string) error {
	figures := filepath.Join(folder, figuresFolder)
	if err := os.MkdirAll(figures, 0o755); err != nil {
		return err
	}
	null, err := readResults(filepath.Join(figures, nullFile))
	if err != nil {
		return err
	}
	kafka, err := readResults(filepath.Join(figures, realFile))
	if err != nil {
		return err
	}
	page := filepath.Join(folder, reportFile)
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	pictures, err := plots(figures, null, kafka)
	if err != nil {
		return err
	}
	filled := string(text)
	for _, place := range []struct{ name, text string }{
		{"machines", machines(null, kafka)},
		{"targets", targets(null, kafka)},
		{"settings", configured(null, kafka)},
		{"plots", pictures},
		{"rows", works()},
		{"null", tablesOf(null)},
		{"real", tablesOf(kafka)},
	} {
		if filled, err = fill(filled, place.name, place.text); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}

func tablesOf(results *Results) string {
	if results == nil {
		return ""
	}
	return "\n" + tables(results)
}

// works lists all rows with their work and the command that repeats each.
func works() string {
	var b strings.Builder
	t := table{head: []string{"row", "work", "clients"}}
	for _, r := range append(allRows(), realRows()...) {
		var clients []string
		for _, c := range r.clients {
			if name, options := split(c); len(options) > 0 {
				c = name + " with " + strings.Join(options, ", ")
			}
			clients = append(clients, c)
		}
		t.rows = append(t.rows, []string{"`" + r.name() + "`", r.describe(), strings.Join(clients, ", ")})
	}
	t.print(&b)
	return b.String()
}

// fill replaces what stands between the two marks of a place.
func fill(page, name, text string) (string, error) {
	begin, end := "<!-- begin "+name+" -->", "<!-- end "+name+" -->"
	before, rest, found := strings.Cut(page, begin)
	if !found {
		return "", fmt.Errorf("no mark %q", begin)
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("no mark %q after %q", end, begin)
	}
	if strings.TrimSpace(text) == "" {
		text = noFigures
	}
	return before + begin + "\n" + strings.TrimRight(text, "\n") + "\n\n" + end + after, nil
}
