package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// Results is what -json writes, and what the report is made of.
type Results struct {
	// Against says what the clients talked to.
	Against string    `json:"against"`
	Rows    []*Result `json:"rows"`
}

// A Result is all runs of one row. Rows that were run at different times stand
// side by side in one file, so each says when, where and of what commit.
type Result struct {
	Row     string   `json:"row"`
	Work    string   `json:"work"`
	Group   string   `json:"group"`
	Clients []string `json:"clients"`
	Rounds  int      `json:"rounds"`
	Started string   `json:"started"`
	Commit  string   `json:"commit"`
	Machine Machine  `json:"machine"`
	// Failed says of clients that could not do the work why; they have no further runs.
	Failed map[string]string `json:"failed,omitempty"`
	// Runs are in the order in which they ran; every round is a run of each client.
	Runs []*Run `json:"runs"`
}

// A Run is one run of one client.
type Run struct {
	Round  int           `json:"round"`
	Client string        `json:"client"`
	Driver figure.Report `json:"driver"`
	Broker figure.Totals `json:"broker"`
	// Others is how many cores did other things meanwhile: the measure of noise.
	// With a real broker it includes that.
	Others float64 `json:"others_cores"`
	// LinePass is how long it takes to pass a cache line between two cores, just
	// before the run. Virtual machines change it.
	LinePass float64 `json:"line_pass_ns"`
}

// A Machine is what a figure depends on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

func thisMachine() Machine {
	field := func(file, name string) string {
		text, _ := os.ReadFile(file) // unknown is no error
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
		return "unknown"
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kernel, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-") // what follows is its builder's
	return Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: field("/proc/meminfo", "MemTotal"),
		Kernel: kernel, Go: runtime.Version(),
	}
}

func readResults(name string) (*Results, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Results{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// write replaces the file at once, so that one that is interrupted is not half.
func (r *Results) write(name string) error {
	// A line for each row, so that a change shows which rows were run anew.
	against, err := json.Marshal(r.Against)
	if err != nil {
		return err
	}
	b := fmt.Appendf(nil, "{\"against\":%s,\"rows\":[", against)
	for i, one := range r.Rows {
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), line...)
	}
	b = append(b, "\n]}\n"...)
	if err := os.WriteFile(name+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// put adds a row, in the order of names, or replaces the one of that name.
func (r *Results) put(one *Result, order []row) {
	place := func(name string) int { return slices.IndexFunc(order, func(o row) bool { return o.name() == name }) }
	if at := slices.IndexFunc(r.Rows, func(o *Result) bool { return o.Row == one.Row }); at >= 0 {
		r.Rows[at] = one
	} else {
		r.Rows = append(r.Rows, one)
	}
	slices.SortStableFunc(r.Rows, func(a, b *Result) int { return cmp.Compare(place(a.Row), place(b.Row)) })
}

func (r *Results) row(name string) *Result {
	if r == nil {
		return nil
	}
	for _, one := range r.Rows {
		if one.Row == name {
			return one
		}
	}
	return nil
}

// A measure is one figure of a run; ok is false where there is none.
type measure func(*Run) (value float64, ok bool)

// always is a measure that every run has.
func always(of func(*Run) float64) measure {
	return func(r *Run) (float64, bool) { return of(r), true }
}

var (
	cpuPerMillion    = always(func(r *Run) float64 { return r.Driver.CPUPerMillion })
	recordsPerSecond = streaming(func(r *Run) float64 { return r.Driver.RecordsPerSecond })
	allocsPerRecord  = inGo(func(r *Run) float64 { return r.Driver.AllocsPerRecord })
	bytesPerRecord   = inGo(func(r *Run) float64 { return r.Driver.BytesPerRecord })
	megabytes        = always(func(r *Run) float64 { return float64(r.Driver.PeakRSS) / 1e6 })
	mutexWait        = func(r *Run) (float64, bool) {
		return r.Driver.MutexWait, r.Driver.Client != "confluent" && r.Driver.Client != javaClient
	}
	othersCores = always(func(r *Run) float64 { return r.Others })
	linePassNS  = always(func(r *Run) float64 { return r.LinePass })

	latencyP50  = latency(func(s *figure.Summary) float64 { return s.P50 })
	latencyP99  = latency(func(s *figure.Summary) float64 { return s.P99 })
	latencyP999 = latency(func(s *figure.Summary) float64 { return s.P999 })
)

// streaming leaves out starts and idle partitions, which are no stream.
func streaming(of func(*Run) float64) measure {
	return func(r *Run) (float64, bool) {
		return of(r), r.Driver.Mode != figure.ModeStart && r.Driver.Mode != figure.ModeIdle
	}
}

func inGo(of func(*Run) float64) measure {
	return func(r *Run) (float64, bool) { return of(r), r.Driver.Client != javaClient }
}

func latency(of func(*figure.Summary) float64) measure {
	return func(r *Run) (float64, bool) {
		if r.Driver.Latency == nil {
			return 0, false
		}
		return of(r.Driver.Latency), true
	}
}

func lagP99(r *Run) (float64, bool) {
	if r.Driver.Lag == nil {
		return 0, false
	}
	return r.Driver.Lag.P99, true
}

// compression is how many bytes of values became one on the wire.
func compression(r *Run) (float64, bool) {
	d := &r.Driver
	if d.Codec == "none" || d.Codec == "" || r.Broker.Bytes == 0 {
		return 0, false
	}
	return float64((d.Records+d.Warmup)*d.Size) / float64(r.Broker.Bytes), true
}

func idleMegabytes(r *Run) (float64, bool) {
	if r.Driver.Idle == nil {
		return 0, false
	}
	return float64(r.Driver.Idle.RSS) / 1e6, true
}

func idleHeap(r *Run) (float64, bool) {
	if r.Driver.Idle == nil {
		return 0, false
	}
	return float64(r.Driver.Idle.Heap) / 1e6, true
}

func idleGoroutines(r *Run) (float64, bool) {
	if r.Driver.Idle == nil {
		return 0, false
	}
	return float64(r.Driver.Idle.Goroutines), true
}

// recordsPerRequest is how well requests are filled.
func recordsPerRequest(r *Run) (float64, bool) {
	if r.Broker.Requests == 0 {
		return 0, false
	}
	return float64(r.Broker.Records) / float64(r.Broker.Requests), true
}

// each returns a figure of every run of a client, or of all for "", by round.
func (r *Result) each(client string, m measure) (values []float64) {
	for _, run := range r.Runs {
		if client == "" || run.Client == client {
			if v, ok := m(run); ok {
				values = append(values, v)
			}
		}
	}
	return values
}

// ratios returns a's figure over b's of every round in which both have one.
func (r *Result) ratios(a, b string, m measure) (values []float64) {
	of := func(client string) map[int]float64 {
		byRound := map[int]float64{}
		for _, run := range r.Runs {
			if v, ok := m(run); ok && run.Client == client {
				byRound[run.Round] = v
			}
		}
		return byRound
	}
	as, bs := of(a), of(b)
	for round := range r.Rounds {
		x, hasX := as[round]
		y, hasY := bs[round]
		if hasX && hasY && y != 0 {
			values = append(values, x/y)
		}
	}
	return values
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(v), slices.Min(v), slices.Max(v))
}
