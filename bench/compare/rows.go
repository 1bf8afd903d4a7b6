package main

import (
	"slices"
	"strconv"
	"strings"
)

// A row is one kind of work.
type row struct {
	group      string // flat (out), codec (flat out, compressed text) or open (loop)
	size       int
	keyed      bool
	goroutines int
	codec      string
	rate       int
	count      int
}

// name is made of the parts that -rows chooses by.
func (r row) name() string {
	parts := []string{r.group, "100B", "unkeyed", strconv.Itoa(r.goroutines)}
	if r.size == 1000 {
		parts[1] = "1KB"
	}
	if r.keyed {
		parts[2] = "keyed"
	}
	if r.codec != "" {
		parts = append(parts, r.codec)
	}
	return strings.Join(parts, "/")
}

// records scales how many are sent. An open loop keeps its rate, and so takes
// longer.
func (r row) records(scale float64) row {
	r.count = max(int(float64(r.count)*scale), 1000)
	return r
}

// flags are the driver's.
func (r row) flags() []string {
	f := []string{
		"-records", strconv.Itoa(r.count),
		"-size", strconv.Itoa(r.size),
		"-goroutines", strconv.Itoa(r.goroutines),
	}
	if r.keyed {
		f = append(f, "-keyed")
	}
	if r.codec != "" {
		f = append(f, "-codec", r.codec)
	}
	if r.rate > 0 {
		f = append(f, "-rate", strconv.Itoa(r.rate), "-linger", "0", "-warmup", "1000")
	}
	return f
}

func allRows() (rows []row) {
	for _, size := range []int{100, 1000} {
		count := 4_000_000
		if size == 1000 {
			count = 2_000_000
		}
		for _, keyed := range []bool{false, true} {
			for _, g := range []int{1, 8} {
				rows = append(rows, row{group: "flat", size: size, keyed: keyed, goroutines: g, count: count})
			}
		}
	}
	for _, codec := range []string{"lz4", "zstd"} {
		for _, g := range []int{1, 8} {
			rows = append(rows, row{group: "codec", size: 1000, goroutines: g, codec: codec, count: 500_000})
		}
	}
	for _, g := range []int{1, 8} {
		rows = append(rows, row{group: "open", size: 100, goroutines: g, rate: 20_000, count: 100_000})
	}
	return rows
}

// choose returns the rows that one of the terms fits: all, or parts that a name
// has.
func choose(rows []row, terms string) (chosen []row) {
	for _, r := range rows {
		parts := strings.Split(r.name(), "/")
		fits := func(term string) bool {
			missing := func(part string) bool { return !slices.Contains(parts, part) }
			return term == "all" || !slices.ContainsFunc(strings.Split(term, "/"), missing)
		}
		if slices.ContainsFunc(strings.Split(terms, ","), fits) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// distinctCodecs returns the first unkeyed and keyed row of every codec that
// runs flat out.
func distinctCodecs(rows []row) (distinct []row) {
	for _, r := range rows {
		same := func(o row) bool { return o.codec == r.codec && o.keyed == r.keyed }
		if r.rate == 0 && !slices.ContainsFunc(distinct, same) {
			distinct = append(distinct, r)
		}
	}
	return distinct
}
