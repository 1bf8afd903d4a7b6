// Package figure is what the driver and compare say to each other: what to send,
// and what it cost.
package figure

import (
	"slices"
	"time"
)

// Settings say what to send and how.
type Settings struct {
	Client     string `json:"client"`
	Address    string `json:"-"`
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Records    int    `json:"records"`
	Warmup     int    `json:"warmup"`
	Size       int    `json:"size"`
	Goroutines int    `json:"goroutines"`
	Keyed      bool   `json:"keyed"`
	Codec      string `json:"codec"`
	Acks       string `json:"acks"` // all or 1
	// TLS is a file of certificates to trust; empty: no encryption.
	TLS    string        `json:"tls,omitempty"`
	Linger time.Duration `json:"linger_ns"`
	Rate   float64       `json:"rate,omitempty"`
	Mode   string        `json:"mode"` // one of the Mode… constants
	// Call is the number of records in one call of ModeCall.
	Call int `json:"call,omitempty"`
	// Options are the client's own, as it names them; not every client has any.
	Options map[string]string `json:"options,omitempty"`
}

// What a driver does with its client.
const (
	// ModeStream hands records over one by one, flat out or at a rate; a callback
	// tells of each.
	ModeStream = "stream"
	// ModeCall sends Call records in one call and waits for their outcomes.
	ModeCall = "call"
	// ModeIdle sends one record to each partition and looks at what stays in
	// memory.
	ModeIdle = "idle"
	// ModeStart makes clients anew, and waits for the first acknowledgement of each.
	ModeStart = "start"
)

// A Report is what one run cost. Everything but PeakRSS is of the measured part
// alone, from the first record to the callback of the last.
type Report struct {
	Settings
	Version          string   `json:"version"`    // of the client
	Configured       []string `json:"configured"` // what the client was told, as name = value
	Seconds          float64  `json:"wall_s"`
	CPUSeconds       float64  `json:"cpu_s"`
	CPUPerMillion    float64  `json:"cpu_s_per_million"`
	RecordsPerSecond float64  `json:"records_per_s"`
	AllocsPerRecord  float64  `json:"allocs_per_record"`
	BytesPerRecord   float64  `json:"alloc_bytes_per_record"`
	GCs              uint32   `json:"gcs"`
	PeakRSS          int64    `json:"peak_rss_bytes"`
	// MutexWait is how long goroutines waited for Go's mutexes, per record, as
	// the runtime samples it. Locks of C code are not in it.
	MutexWait float64 `json:"mutex_wait_ns_per_record"`
	// Latency is of records in an open loop, of calls in ModeCall, of starts in
	// ModeStart.
	Latency *Summary `json:"latency_ms,omitempty"`
	// Lag is how late the generator itself was; it is part of Latency.
	Lag *Summary `json:"generator_lag_ms,omitempty"`
	// First is how long the first start of the process took.
	First float64 `json:"first_start_ms,omitempty"`
	Idle  *Idle   `json:"idle,omitempty"`
}

// Idle is what partitions cost that got one record each and then nothing, above
// the same client before.
type Idle struct {
	RSS        int64 `json:"rss_bytes"`
	Heap       int64 `json:"heap_bytes"` // Go's heap and stacks in use
	Goroutines int   `json:"goroutines"`
}

// A Summary describes a set of durations in milliseconds.
type Summary struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Summarize sorts d, which must not be empty. The quantiles are exact: the
// least duration that at least that part of all do not exceed.
func Summarize(d []time.Duration) *Summary {
	slices.Sort(d)
	at := func(perMille int) float64 {
		rank := (len(d)*perMille + 999) / 1000 // rounded up
		return float64(d[max(rank, 1)-1]) / float64(time.Millisecond)
	}
	return &Summary{P50: at(500), P99: at(990), P999: at(999), Max: at(1000)}
}

// Totals is what a cluster took during a run.
type Totals struct {
	Connections int64   `json:"connections,omitempty"`
	Requests    int64   `json:"requests,omitempty"`
	Batches     int64   `json:"batches,omitempty"`
	Records     int64   `json:"records"`
	Bytes       int64   `json:"bytes,omitempty"` // of batches, as they came
	CPUSeconds  float64 `json:"cpu_s,omitempty"`
}
