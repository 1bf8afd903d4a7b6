package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// A measure is one figure of a run.
type measure func(*Run) float64

func cpuPerMillion(r *Run) float64    { return r.Driver.CPUPerMillion }
func recordsPerSecond(r *Run) float64 { return r.Driver.RecordsPerSecond }
func allocsPerRecord(r *Run) float64  { return r.Driver.AllocsPerRecord }
func megabytes(r *Run) float64        { return float64(r.Driver.PeakRSS) / 1e6 }
func othersCores(r *Run) float64      { return r.Others }
func linePassNS(r *Run) float64       { return r.LinePass }

// each returns a figure of every run of a client, or of all for "", by round.
func (r *Result) each(client string, m measure) (values []float64) {
	for _, run := range r.Runs {
		if client == "" || run.Client == client {
			values = append(values, m(run))
		}
	}
	return values
}

// ratios returns the first client's figure over the second's of every round.
func (r *Result) ratios(clients []string, m measure) []float64 {
	a, b := r.each(clients[0], m), r.each(clients[1], m)
	for i := range a {
		a[i] /= b[i]
	}
	return a
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(v), slices.Min(v), slices.Max(v))
}

// printTables writes a table of the rows that run flat out, and one of the open
// loops.
func printTables(w io.Writer, results *Results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores, %d rounds; medians, ratios %s (min–max of the rounds)\n",
		results.Go, results.Cores, results.Rounds, strings.Join(results.Clients, "/"))
	results.flat(&b)
	results.open(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (results *Results) flat(b *strings.Builder) {
	clients := results.Clients
	pair := len(clients) == 2
	head := []string{"work"}
	for _, c := range clients {
		head = append(head, "CPU s/M "+c)
	}
	if pair {
		head = append(head, "CPU ratio")
	}
	for _, c := range clients {
		head = append(head, "M records/s "+c)
	}
	if pair {
		head = append(head, "records/s ratio")
	}
	names := strings.Join(clients, ", ")
	head = append(head, "allocations/record "+names, "peak RSS MB "+names, "other load, cores", "line pass ns")
	t := table{head: head}
	for _, r := range results.Rows {
		if r.row.rate > 0 {
			continue
		}
		cells := []string{r.Row}
		for _, c := range clients {
			cells = append(cells, fmt.Sprintf("%.3f", median(r.each(c, cpuPerMillion))))
		}
		if pair {
			cells = append(cells, spread(r.ratios(clients, cpuPerMillion)))
		}
		for _, c := range clients {
			cells = append(cells, fmt.Sprintf("%.2f", median(r.each(c, recordsPerSecond))/1e6))
		}
		if pair {
			cells = append(cells, spread(r.ratios(clients, recordsPerSecond)))
		}
		cells = append(cells, r.list(clients, "%.3f", allocsPerRecord), r.list(clients, "%.0f", megabytes))
		t.rows = append(t.rows, append(cells, r.noise()...))
	}
	t.print(b)
}

func (results *Results) open(b *strings.Builder) {
	clients := results.Clients
	t := table{head: []string{"open loop"}}
	quantiles := []struct {
		name string
		of   measure
	}{
		{"p50 ms", func(r *Run) float64 { return r.Driver.Latency.P50 }},
		{"p99 ms", func(r *Run) float64 { return r.Driver.Latency.P99 }},
		{"p99.9 ms", func(r *Run) float64 { return r.Driver.Latency.P999 }},
		{"generator's lag p99 ms", func(r *Run) float64 { return r.Driver.Lag.P99 }},
	}
	names := strings.Join(clients, ", ")
	for _, q := range quantiles {
		t.head = append(t.head, q.name+" "+names)
	}
	t.head = append(t.head, "CPU s/M "+names)
	if len(clients) == 2 {
		t.head = append(t.head, "CPU ratio")
	}
	t.head = append(t.head, "other load, cores", "line pass ns")
	for _, r := range results.Rows {
		if r.row.rate == 0 {
			continue
		}
		cells := []string{r.Row}
		for _, q := range quantiles {
			cells = append(cells, r.list(clients, "%.2f", q.of))
		}
		cells = append(cells, r.list(clients, "%.1f", cpuPerMillion))
		if len(clients) == 2 {
			cells = append(cells, spread(r.ratios(clients, cpuPerMillion)))
		}
		t.rows = append(t.rows, append(cells, r.noise()...))
	}
	t.print(b)
}

// list returns the medians of all clients in one cell.
func (r *Result) list(clients []string, format string, m measure) string {
	var cells []string
	for _, c := range clients {
		cells = append(cells, fmt.Sprintf(format, median(r.each(c, m))))
	}
	return strings.Join(cells, ", ")
}

func (r *Result) noise() []string {
	return []string{
		fmt.Sprintf("%.2f", median(r.each("", othersCores))),
		fmt.Sprintf("%.0f", median(r.each("", linePassNS))),
	}
}

type table struct {
	head []string
	rows [][]string
}

func (t table) print(b *strings.Builder) {
	if len(t.rows) == 0 {
		return
	}
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	b.WriteByte('\n')
	line(t.head)
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		line(row)
	}
}
