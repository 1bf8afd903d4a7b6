package main

import "testing"

func TestChoose(t *testing.T) {
	for terms, want := range map[string]int{
		"all":                   14,
		"flat":                  8,
		"codec":                 4,
		"open":                  2,
		"flat/100B/8,codec/lz4": 4,
		"100B/keyed/1":          1,
		"flat,100B/keyed/1":     8, // no row twice
		"2KB":                   0,
		"":                      0,
	} {
		if got := len(choose(allRows(), terms)); got != want {
			t.Errorf("-rows %q: %d rows, want %d", terms, got, want)
		}
	}
}

func TestRatiosArePairwise(t *testing.T) {
	r := &Result{}
	add := func(client string, cpu float64) {
		r.Runs = append(r.Runs, &Run{Client: client, Driver: Report{CPUPerMillion: cpu}})
	}
	add("a", 1)
	add("b", 2)
	add("b", 10) // the second round in the other order
	add("a", 1)
	add("a", 3)
	add("b", 4)
	if got, want := spread(r.ratios([]string{"a", "b"}, cpuPerMillion)), "0.50 (0.10–0.75)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
