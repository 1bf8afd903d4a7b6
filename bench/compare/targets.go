package main

import (
	"fmt"
	"slices"
	"strings"
)

const ours = "troupe"

// A goal is one bound of the list of what Troupe is to reach: a figure of one
// row, which must not be above the bound, or not below it.
type goal struct {
	number int
	what   string
	row    string
	figure func(*Result) []float64 // by round
	bound  float64
	least  bool // the figure must not be below the bound
}

// over is the ratio of ours to a client.
func over(client string, m measure) func(*Result) []float64 {
	return func(r *Result) []float64 { return r.ratios(ours, client, m) }
}

// plain is our figure itself.
func plain(m measure) func(*Result) []float64 {
	return func(r *Result) []float64 { return r.each(ours, m) }
}

// overBest is the ratio of ours to the best peer of each round: the one with the
// greatest figure, or the least.
func overBest(m measure, greatest bool) func(*Result) []float64 {
	return func(r *Result) []float64 {
		var best []float64
		for round := range r.Rounds {
			var figures []float64
			var own float64
			for _, run := range r.Runs {
				v, ok := m(run)
				switch {
				case !ok || run.Round != round || run.Client == duty || run.Client == "floor" || run.Client == "generator":
				case run.Client == ours:
					own = v
				default:
					figures = append(figures, v)
				}
			}
			if len(figures) == 0 || own == 0 {
				continue
			}
			peer := slices.Min(figures)
			if greatest {
				peer = slices.Max(figures)
			}
			if peer > 0 {
				best = append(best, own/peer)
			}
		}
		return best
	}
}

// laterThan is by how many milliseconds ours is above a client.
func laterThan(client string, m measure) func(*Result) []float64 {
	return func(r *Result) []float64 {
		a, b := r.each(ours, m), r.each(client, m)
		var d []float64
		for i := range min(len(a), len(b)) {
			d = append(d, a[i]-b[i])
		}
		return d
	}
}

// noAllocation is what counts as none: what a batch or a request needs, spread
// over its records.
const noAllocation = 0.01

// sameRatio is what counts as equally well compressed.
const sameRatio = 0.995

func goals() (list []goal) {
	add := func(number int, what, row string, figure func(*Result) []float64, bound float64, least bool) {
		list = append(list, goal{number, what, row, figure, bound, least})
	}
	const head = "flat/100B/unkeyed/1"
	cpu, speed := over(baseline, cpuPerMillion), over(baseline, recordsPerSecond)
	add(1, "CPU × franz-go", head, cpu, 0.33, false)
	add(1, "CPU × floor with the same duties", head, over(duty, cpuPerMillion), 1.6, false)
	add(1, "allocations per record", head, plain(allocsPerRecord), noAllocation, false)
	add(1, "records/s × franz-go", head, speed, 2.5, true)
	for _, row := range []string{"flat/100B/unkeyed/8", "flat/100B/unkeyed/64", "flat/100B/keyed/1", "flat/100B/keyed/8", "flat/100B/keyed/64"} {
		add(2, "CPU × franz-go", row, cpu, 0.33, false)
		add(2, "mutex delay per record × franz-go", row, over(baseline, mutexWait), 0.2, false)
	}
	for _, row := range []string{"flat/1KB/unkeyed/1", "flat/1KB/unkeyed/8", "flat/1KB/keyed/1", "flat/1KB/keyed/8"} {
		add(3, "CPU × franz-go", row, cpu, 0.60, false)
	}
	for _, codec := range []string{"lz4", "zstd", "snappy", "gzip"} {
		for _, g := range []string{"1", "8"} {
			row := "codec/1KB/unkeyed/" + g + "/" + codec
			add(3, "records/s × franz-go", row, speed, 1.7, true)
			add(3, "ratio of compression × franz-go's", row, over(baseline, compression), sameRatio, true)
		}
	}
	for _, row := range []string{"flat/100B/keyed/1/1000p", "flat/100B/keyed/8/1000p", "open/100B/keyed/8/100k/1000p"} {
		add(4, "CPU × franz-go", row, cpu, 0.6, false)
	}
	add(4, "MB resident above none", "idle/10000p", plain(idleMegabytes), 20, false)
	for _, row := range []string{"open/100B/unkeyed/1/20k", "open/100B/unkeyed/8/20k", "open/100B/unkeyed/1/100k", "open/100B/unkeyed/8/100k"} {
		add(5, "p50 × franz-go", row, over(baseline, latencyP50), 1, false)
		add(5, "p99 × franz-go", row, over(baseline, latencyP99), 1, false)
		add(5, "CPU × franz-go", row, cpu, 1, false)
	}
	for _, r := range allRows() {
		if !slices.Contains(r.clients, ours) || !slices.Contains(r.clients, baseline) {
			continue
		}
		if r.group == "flat" {
			add(6, "peak resident MB", r.name(), plain(megabytes), 60, false)
		}
		add(6, "peak resident × franz-go", r.name(), over(baseline, megabytes), 1, false)
	}
	add(7, "records/s × franz-go", "call/100B/unkeyed/64/x1", speed, 1, true)
	add(7, "p99 × franz-go", "call/100B/unkeyed/64/x1", over(baseline, latencyP99), 1, false)
	for _, g := range []string{"1", "8"} {
		add(7, "CPU × franz-go", "call/100B/unkeyed/"+g+"/x1000", cpu, 0.5, false)
	}
	add(8, "ms to the first acknowledgement above franz-go", "start", laterThan(baseline, latencyP50), 10, false)
	for _, r := range []struct {
		row   string
		bound float64
	}{
		{"real/100B/unkeyed/1", 0.45}, {"real/100B/keyed/8", 0.45}, {"real/1KB/unkeyed/1", 0.70}, {"real/1KB/keyed/8", 0.70},
	} {
		add(9, "CPU × franz-go", r.row, cpu, r.bound, false)
		add(9, "records/s × fastest peer", r.row, overBest(recordsPerSecond, true), 1, true)
	}
	for _, row := range []string{"real/100B/unkeyed/1/20k", "real/100B/unkeyed/1/100k"} {
		add(9, "p99 × best peer", row, overBest(latencyP99, false), 1, false)
	}
	return list
}

// verdict compares the median with the bound.
func (g goal) verdict(all ...*Results) (figure, verdict string) {
	for _, results := range all {
		r := results.row(g.row)
		if r == nil {
			continue
		}
		v := g.figure(r)
		if len(v) == 0 {
			return "", "no figure"
		}
		reached := median(v) <= g.bound
		if g.least {
			reached = median(v) >= g.bound
		}
		if reached {
			return spread(v), "reached"
		}
		return spread(v), "**missed**"
	}
	return "", "not measured"
}

// targets writes a line for each goal.
func targets(all ...*Results) string {
	t := table{head: []string{"target", "figure", "row", "bound", "median (min–max)", ""}}
	for _, g := range goals() {
		sign := "≤"
		if g.least {
			sign = "≥"
		}
		figure, verdict := g.verdict(all...)
		t.rows = append(t.rows, []string{
			fmt.Sprint(g.number), g.what, "`" + g.row + "`", fmt.Sprintf("%s %v", sign, g.bound), figure, verdict,
		})
	}
	var b strings.Builder
	t.print(&b)
	return b.String()
}
