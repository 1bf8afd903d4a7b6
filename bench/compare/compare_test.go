package main

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

func TestChoose(t *testing.T) {
	all := allRows()
	for terms, want := range map[string]int{
		"all":                  len(all),
		"open/20k":             3,
		"codec/lz4":            3,
		"call/x1":              2,
		"flat/100B/keyed/1":    2, // 12 and 1,000 partitions
		"start,start":          1, // no row twice
		"2KB":                  0,
		"":                     0,
		"idle/10000p,slow/5ms": 2,
	} {
		if got := len(choose(all, terms)); got != want {
			t.Errorf("-rows %q: %d rows, want %d", terms, got, want)
		}
	}
}

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range slices.Concat(allRows(), realRows()) {
		if seen[r.name()] {
			t.Errorf("two rows are %s", r.name())
		}
		seen[r.name()] = true
		if len(r.clients) == 0 || r.count == 0 || r.partitions == 0 {
			t.Errorf("%s: %+v", r.name(), r)
		}
	}
	for _, g := range goals() {
		if !seen[g.row] {
			t.Errorf("target %d is measured by %s, which is no row", g.number, g.row)
		}
	}
}

// Every row of the matrix that is named there must be in the list.
func TestRowsCoverTheWork(t *testing.T) {
	has := func(fits func(row) bool) bool { return slices.ContainsFunc(allRows(), fits) }
	for _, size := range []int{100, 1000, 10_000} {
		for _, keyed := range []bool{false, true} {
			if !has(func(r row) bool { return r.size == size && r.keyed == keyed }) {
				t.Errorf("no row of %d bytes, keyed %v", size, keyed)
			}
		}
	}
	for _, g := range []int{1, 8, 64} {
		if !has(func(r row) bool { return r.group == "flat" && r.goroutines == g }) {
			t.Errorf("no row of %d goroutines", g)
		}
	}
	for _, p := range []int{1, 12, 1000} {
		if !has(func(r row) bool { return r.group == "flat" && r.partitions == p }) {
			t.Errorf("no row of %d partitions", p)
		}
	}
	for _, codec := range []string{"", "lz4", "zstd", "snappy", "gzip"} {
		if !has(func(r row) bool { return r.codec == codec }) {
			t.Errorf("no row of codec %q", codec)
		}
	}
	for _, client := range []string{"troupe", "troupe-actor", "franz", "sarama", "kafka-go", "confluent", "floor", "duties"} {
		if !has(func(r row) bool { return slices.Contains(r.clients, client) }) {
			t.Errorf("no row of %s", client)
		}
	}
}

func cpuRun(round int, client string, cpu float64) *Run {
	return &Run{Round: round, Client: client, Driver: figure.Report{CPUPerMillion: cpu}}
}

func TestRatiosAreOfOneRound(t *testing.T) {
	r := &Result{Rounds: 4, Runs: []*Run{
		cpuRun(0, "a", 1), cpuRun(0, "b", 2),
		cpuRun(1, "b", 10), cpuRun(1, "a", 1), // in the other order
		cpuRun(2, "a", 3), cpuRun(2, "b", 4),
		cpuRun(3, "a", 100), // without a partner
	}}
	if got, want := spread(r.ratios("a", "b", cpuPerMillion)), "0.50 (0.10–0.75)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := r.ratios("a", "c", cpuPerMillion); len(got) != 0 {
		t.Errorf("ratios to nobody: %v", got)
	}
}

func TestOverBestTakesTheBestOfEachRound(t *testing.T) {
	r := &Result{Rounds: 2, Runs: []*Run{
		cpuRun(0, ours, 4), cpuRun(0, "x", 2), cpuRun(0, "y", 8), cpuRun(0, "floor", 1),
		cpuRun(1, ours, 4), cpuRun(1, "x", 16), cpuRun(1, "y", 8),
	}}
	if got := overBest(cpuPerMillion, false)(r); !slices.Equal(got, []float64{2, 0.5}) {
		t.Errorf("over the least: %v", got)
	}
	if got := overBest(cpuPerMillion, true)(r); !slices.Equal(got, []float64{0.5, 0.25}) {
		t.Errorf("over the greatest: %v", got)
	}
}

func TestVerdicts(t *testing.T) {
	r := &Result{Row: "w", Rounds: 3, Runs: []*Run{
		cpuRun(0, ours, 1), cpuRun(1, ours, 2), cpuRun(2, ours, 9),
	}}
	results := &Results{Rows: []*Result{r}}
	for _, c := range []struct {
		bound float64
		least bool
		row   string
		want  string
	}{
		{2, false, "w", "reached"}, {1.9, false, "w", "**missed**"},
		{2, true, "w", "reached"}, {2.1, true, "w", "**missed**"},
		{2, false, "another", "not measured"},
	} {
		g := goal{row: c.row, figure: plain(cpuPerMillion), bound: c.bound, least: c.least}
		if _, got := g.verdict(nil, results); got != c.want {
			t.Errorf("bound %v, least %v, row %s: %s, want %s", c.bound, c.least, c.row, got, c.want)
		}
	}
	if _, got := (goal{row: "w", figure: plain(latencyP50)}).verdict(results); got != "no figure" {
		t.Errorf("without a latency: %s", got)
	}
}

func TestOrderIsFair(t *testing.T) {
	clients := []string{"a", "b", "c"}
	first, pairs := map[string]int{}, map[string]int{}
	for round := range 2 * len(clients) {
		o := order(clients, round)
		if !slices.Equal(slices.Sorted(slices.Values(o)), clients) {
			t.Fatalf("round %d: %v", round, o)
		}
		first[o[0]]++
		for i := range o[1:] {
			pairs[o[i]+o[i+1]]++
		}
	}
	if !maps.Equal(first, map[string]int{"a": 2, "b": 2, "c": 2}) {
		t.Errorf("who was first: %v", first)
	}
	for _, pair := range []string{"ab", "bc", "ca"} {
		if back := pair[1:] + pair[:1]; pairs[pair] != pairs[back] {
			t.Errorf("%s %d times, %s %d times", pair, pairs[pair], back, pairs[back])
		}
	}
}

func TestTableLeavesOutWhatNobodyHas(t *testing.T) {
	run := func(round int, client string, cpu float64) *Run {
		r := cpuRun(round, client, cpu)
		r.Driver.PeakRSS = 30e6
		return r
	}
	r := &Result{Row: "w", Clients: []string{"troupe", "franz"}, Rounds: 1, Runs: []*Run{run(0, "troupe", 1), run(0, "franz", 4)}}
	var b strings.Builder
	r.table(&b)
	got := b.String()
	if !strings.Contains(got, "| troupe | 1.000 | 0.25 (0.25–0.25) |") || !strings.Contains(got, "| franz | 4.000 |  |") {
		t.Errorf("no ratio in\n%s", got)
	}
	for _, absent := range []string{"p99", "compressed", "idle", "× duties"} {
		if strings.Contains(got, absent) {
			t.Errorf("%q in\n%s", absent, got)
		}
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for _, line := range lines {
		if strings.Count(line, "|") != strings.Count(lines[0], "|") {
			t.Errorf("%q has other columns than %q", line, lines[0])
		}
	}
}

func TestCompressionCountsTheWarmUp(t *testing.T) {
	r := &Run{Driver: figure.Report{Settings: figure.Settings{Codec: "lz4", Records: 900, Warmup: 100, Size: 10}}, Broker: figure.Totals{Bytes: 2500}}
	if got, ok := compression(r); !ok || got != 4 {
		t.Errorf("%v %v, want 4", got, ok)
	}
	r.Driver.Codec = "none"
	if _, ok := compression(r); ok {
		t.Error("a ratio without a codec")
	}
}

func TestFill(t *testing.T) {
	const page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
	filled, err := fill(page, "x", "\nnew\n")
	if err != nil || filled != "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb\n" {
		t.Errorf("%q, %v", filled, err)
	}
	if again, err := fill(filled, "x", "\nnew\n"); err != nil || again != filled {
		t.Errorf("the second time %q, %v", again, err)
	}
	if empty, err := fill(page, "x", ""); err != nil || !strings.Contains(empty, "No figures yet") {
		t.Errorf("nothing gives %q, %v", empty, err)
	}
	for _, broken := range []string{"", "<!-- begin x -->", "<!-- end x --><!-- begin x -->"} {
		if _, err := fill(broken, "x", "new"); err == nil {
			t.Errorf("%q was filled", broken)
		}
	}
}

func TestPutKeepsTheOrderOfTheList(t *testing.T) {
	list := []row{{group: "idle", partitions: 1}, {group: "idle", partitions: 2}, {group: "idle", partitions: 3}}
	r := &Results{}
	for _, name := range []string{"idle/3p", "idle/1p", "idle/2p", "idle/1p"} {
		r.put(&Result{Row: name, Commit: name + "new"}, list)
	}
	var names []string
	for _, one := range r.Rows {
		names = append(names, one.Row)
	}
	if !slices.Equal(names, []string{"idle/1p", "idle/2p", "idle/3p"}) {
		t.Errorf("rows %v", names)
	}
}

func TestParsePerformance(t *testing.T) {
	const out = `50001 records sent, 10000.2 records/sec (0.95 MB/sec), 3.1 ms avg latency, 340.0 ms max latency.
100000 records sent, 19992.003199 records/sec (1.91 MB/sec), 1.43 ms avg latency, 341.00 ms max latency, 1 ms 50th, 3 ms 95th, 12 ms 99th, 87 ms 99.9th.
90000 steady state records sent, 19998.5 records/sec (1.91 MB/sec), 1.02 ms avg latency, 45.00 ms max latency, 2 ms 50th, 3 ms 95th, 9 ms 99th, 31 ms 99.9th.
`
	r, err := parsePerformance(out)
	if err != nil {
		t.Fatal(err)
	}
	if r.RecordsPerSecond != 19998.5 || *r.Latency != (figure.Summary{P50: 2, P99: 9, P999: 31, Max: 45}) {
		t.Errorf("%v, %+v", r.RecordsPerSecond, *r.Latency)
	}
	if _, err := parsePerformance("Exception in thread main"); err == nil {
		t.Error("an exception was taken for figures")
	}
}

func TestSplit(t *testing.T) {
	name, options := split("troupe:a=1;b=x:y")
	if name != "troupe" || !slices.Equal(options, []string{"a=1", "b=x:y"}) {
		t.Errorf("%s %q", name, options)
	}
	if name, options := split("franz"); name != "franz" || options != nil {
		t.Errorf("%s %q", name, options)
	}
}

func TestChartDrawsWhatThereIs(t *testing.T) {
	results := &Results{Rows: []*Result{
		{Row: "flat/100B/x", Clients: []string{"troupe", "franz"}, Rounds: 1, Runs: []*Run{cpuRun(0, "troupe", 1), cpuRun(0, "franz", 3)}},
		{Row: "flatter/100B/x", Clients: []string{"other"}, Rounds: 1, Runs: []*Run{cpuRun(0, "other", 1)}},
	}}
	c := chart{file: "c", groups: []string{"flat/100B"}, of: cpuPerMillion}
	rows, clients, values := c.bars(nil, results)
	if !slices.Equal(rows, []string{"flat/100B/x"}) || !slices.Equal(clients, []string{"troupe", "franz"}) || values["franz"][0] != 3 {
		t.Errorf("%v %v %v", rows, clients, values)
	}
	folder := t.TempDir()
	if drawn, err := c.draw(folder, results); err != nil || !drawn {
		t.Fatal(drawn, err)
	}
	svg, err := os.ReadFile(filepath.Join(folder, "c.svg"))
	if err != nil || !strings.Contains(string(svg), "franz") {
		t.Errorf("%v, %d bytes without a legend", err, len(svg))
	}
	if drawn, err := c.draw(folder, nil); err != nil || drawn {
		t.Error("nothing was drawn", err)
	}
}

func TestResultsComeBackAsTheyWere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	if r, err := readResults(name); r != nil || err != nil {
		t.Errorf("no file gives %+v, %v", r, err)
	}
	for _, rows := range [][]*Result{nil, {{Row: "a", Rounds: 2, Runs: []*Run{cpuRun(0, "x", 1), cpuRun(1, "x", 2)}}, {Row: "b"}}} {
		r := &Results{Against: `a "broker"`, Rows: rows}
		if err := r.write(name); err != nil {
			t.Fatal(err)
		}
		got, err := readResults(name)
		if err != nil || got.Against != r.Against || len(got.Rows) != len(rows) {
			t.Fatalf("%+v, %v", got, err)
		}
		if rows != nil && (got.Rows[1].Row != "b" || median(got.Rows[0].each("x", cpuPerMillion)) != 1.5) {
			t.Errorf("%+v", got.Rows[0])
		}
	}
}

func TestSettingsSayWhatIsInEveryRow(t *testing.T) {
	run := func(round int, configured ...string) *Run {
		return &Run{Round: round, Client: "x", Driver: figure.Report{Version: "v1", Configured: configured}}
	}
	got := configured(nil, &Results{Rows: []*Result{
		{Runs: []*Run{run(0, "acks = all", "linger = 5"), run(1)}},
		{Runs: []*Run{run(0, "acks = all", "linger = 0"), run(1)}},
	}})
	if want := "| x | v1 | acks = all | linger = 0; linger = 5 |"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
}

func TestChartsEndWhereTheTwoCanBeToldApart(t *testing.T) {
	for _, c := range []struct {
		values map[string][]float64
		edge   float64
		cut    bool
	}{
		{map[string][]float64{"troupe": {1, 2}, "franz": {3, 1}, "sarama": {11, 0}}, 11, false},
		{map[string][]float64{"troupe": {1, 2}, "franz": {3, 1}, "sarama": {13, 0}}, 12, true},
		{map[string][]float64{"sarama": {13}}, 13, false},
	} {
		if edge, cut := edgeOf(c.values); edge != c.edge || cut != c.cut {
			t.Errorf("%v: %v %v", c.values, edge, cut)
		}
	}
}

// absent is a cluster that is not there.
func absent(context.Context, row, bool) (target, error) { return nil, errors.New("no cluster") }

func TestOneFailureDoesNotEndTheRow(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	tried := 0
	b := &bench{prepare: func(ctx context.Context, r row, check bool) (target, error) {
		tried++
		return absent(ctx, r, check)
	}}
	p := plan{rounds: 3, clients: "a,b"}
	result, err := p.measure(t.Context(), b, row{group: "flat", partitions: 12})
	if err != nil {
		t.Fatal(err)
	}
	if tried != 2 || len(result.Runs) != 0 || result.Failed["a"] != "no cluster" || result.Failed["b"] != "no cluster" {
		t.Errorf("tried %d times, %+v", tried, result)
	}
	if text := tables(&Results{Rows: []*Result{result}}); !strings.Contains(text, "**a failed**: no cluster") {
		t.Errorf("not told in\n%s", text)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.measure(ended, b, row{group: "flat", partitions: 12}); err == nil {
		t.Error("goes on although it was told to end")
	}
}
