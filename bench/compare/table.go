package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// baseline is what all ratios are to, and duty the floor with the same duties.
const (
	baseline = "franz"
	duty     = "duties"
)

// A column of a row's table. It is left out when no client has a figure.
type column struct {
	head   string
	format string
	of     measure
	// over makes it a ratio to a client, with the spread of the rounds.
	over string
}

var columns = []column{
	{"CPU s/M", "%.3f", cpuPerMillion, ""},
	{"× " + baseline, "", cpuPerMillion, baseline},
	{"× " + duty, "", cpuPerMillion, duty},
	{"k records/s", "%.0f", streaming(func(r *Run) float64 { return r.Driver.RecordsPerSecond / 1e3 }), ""},
	{"× " + baseline, "", recordsPerSecond, baseline},
	{"allocs/record", "%.3f", allocsPerRecord, ""},
	{"B alloc/record", "%.0f", bytesPerRecord, ""},
	{"peak MB", "%.0f", megabytes, ""},
	{"mutex ns/record", "%.1f", mutexWait, ""},
	{"p50 ms", "%.2f", latencyP50, ""},
	{"p99 ms", "%.2f", latencyP99, ""},
	{"p99.9 ms", "%.2f", latencyP999, ""},
	{"p99 × " + baseline, "", latencyP99, baseline},
	{"lag p99 ms", "%.2f", lagP99, ""},
	{"first start ms", "%.1f", func(r *Run) (float64, bool) { return r.Driver.First, r.Driver.First > 0 }, ""},
	{"compressed ×", "%.2f", compression, ""},
	{"records/request", "%.0f", recordsPerRequest, ""},
	{"idle MB", "%.1f", idleMegabytes, ""},
	{"idle heap MB", "%.1f", idleHeap, ""},
	{"idle goroutines", "%.0f", idleGoroutines, ""},
}

// cell is empty when there is no figure.
func (c column) cell(r *Result, client string) string {
	if c.over == "" {
		if v := r.each(client, c.of); len(v) > 0 {
			return fmt.Sprintf(c.format, median(v))
		}
		return ""
	}
	if client == c.over {
		return ""
	}
	if v := r.ratios(client, c.over, c.of); len(v) > 0 {
		return spread(v)
	}
	return ""
}

// table writes the figures of one row, a line for each client.
func (r *Result) table(b *strings.Builder) {
	t := table{head: []string{r.Row}}
	for _, client := range r.Clients {
		t.rows = append(t.rows, []string{client})
	}
	for _, c := range columns {
		var cells []string
		for _, client := range r.Clients {
			cells = append(cells, c.cell(r, client))
		}
		if strings.Join(cells, "") == "" {
			continue
		}
		t.head = append(t.head, c.head)
		for i, cell := range cells {
			t.rows[i] = append(t.rows[i], cell)
		}
	}
	t.print(b)
}

// noise says how much else happened, which is what a figure can be trusted by.
func (r *Result) noise() string {
	if len(r.Runs) == 0 {
		return fmt.Sprintf("no run at %s, %s", r.Commit, r.Started)
	}
	return fmt.Sprintf("%d rounds at %s, %s; other load %.2f cores, line pass %.0f ns",
		r.Rounds, r.Commit, r.Started, median(r.each("", othersCores)), median(r.each("", linePassNS)))
}

// tables writes all rows.
func tables(results *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Against %s. Medians; a ratio is of runs of the same round, with the least and the greatest of the rounds.\n", results.Against)
	group := ""
	for _, r := range results.Rows {
		if r.Group != group {
			group = r.Group
			fmt.Fprintf(&b, "\n#### %s\n", group)
		}
		fmt.Fprintf(&b, "\n**%s**: %s.\n", r.Row, r.Work)
		r.table(&b)
		for _, client := range slices.Sorted(maps.Keys(r.Failed)) {
			fmt.Fprintf(&b, "\n**%s failed**: %s\n", client, r.Failed[client])
		}
		fmt.Fprintf(&b, "\n%s.\n", r.noise())
	}
	return b.String()
}

// machines writes on what the figures were taken, once for each machine.
func machines(all ...*Results) string {
	count := map[Machine]int{}
	for _, results := range all {
		if results == nil {
			continue
		}
		for _, r := range results.Rows {
			count[r.Machine]++
		}
	}
	t := table{head: []string{"rows", "CPU", "cores", "memory", "kernel", "Go"}}
	byRows := slices.SortedFunc(maps.Keys(count), func(a, b Machine) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	for _, m := range byRows {
		t.rows = append(t.rows, []string{fmt.Sprint(count[m]), m.CPU, fmt.Sprint(m.Cores), m.Memory, m.Kernel, m.Go})
	}
	var b strings.Builder
	t.print(&b)
	return b.String()
}

// configured writes what each client was told, as the clients said it themselves:
// what all rows have in common, then what some have.
func configured(all ...*Results) string {
	type client struct {
		version string
		runs    int
		times   map[string]int
	}
	clients := map[string]*client{}
	for _, results := range all {
		if results == nil {
			continue
		}
		for _, r := range results.Rows {
			for _, run := range r.Runs {
				c := clients[run.Client]
				if c == nil {
					c = &client{times: map[string]int{}}
					clients[run.Client] = c
				}
				c.version = run.Driver.Version
				if run.Round > 0 { // the first says it for all
					continue
				}
				c.runs++
				for _, s := range run.Driver.Configured {
					c.times[s]++
				}
			}
		}
	}
	t := table{head: []string{"client", "version", "in every row", "in some rows"}}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		c := clients[name]
		var every, some []string
		for _, s := range slices.Sorted(maps.Keys(c.times)) {
			if c.times[s] == c.runs {
				every = append(every, s)
			} else {
				some = append(some, s)
			}
		}
		t.rows = append(t.rows, []string{name, c.version, strings.Join(every, "; "), strings.Join(some, "; ")})
	}
	var b strings.Builder
	t.print(&b)
	return b.String()
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
