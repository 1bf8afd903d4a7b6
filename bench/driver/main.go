// Command driver puts a load on a cluster with one client and prints what it
// cost as one JSON line.
//
//	driver -client franz -addr 127.0.0.1:9092 -records 2000000 -size 100
//
// Without -rate it produces as fast as it is let (flat out). With -rate it is an
// open loop: each record has a time at which it should be sent, which does not
// move when the client is slow, and its latency counts from that time to its
// callback.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

// Settings say what to send and how.
type Settings struct {
	Client     string        `json:"client"`
	Address    string        `json:"-"`
	Topic      string        `json:"topic"`
	Partitions int           `json:"partitions"`
	Records    int           `json:"records"`
	Warmup     int           `json:"warmup"`
	Size       int           `json:"size"`
	Goroutines int           `json:"goroutines"`
	Keyed      bool          `json:"keyed"`
	Codec      string        `json:"codec"`
	Linger     time.Duration `json:"linger_ns"`
	Rate       float64       `json:"rate,omitempty"`
}

// A Report is what one run cost. Everything but PeakRSS is of the measured part
// alone, from the first record to the callback of the last.
type Report struct {
	Settings
	Seconds          float64  `json:"wall_s"`
	CPUSeconds       float64  `json:"cpu_s"`
	CPUPerMillion    float64  `json:"cpu_s_per_million"`
	RecordsPerSecond float64  `json:"records_per_s"`
	AllocsPerRecord  float64  `json:"allocs_per_record"`
	BytesPerRecord   float64  `json:"alloc_bytes_per_record"`
	GCs              uint32   `json:"gcs"`
	PeakRSS          int64    `json:"peak_rss_bytes"`
	Latency          *Summary `json:"latency_ms,omitempty"`
	// Lag is how late the generator itself was; it is part of Latency.
	Lag *Summary `json:"generator_lag_ms,omitempty"`
}

// A client is a producer under test.
type client interface {
	// produce sends w's next n records. Each is told to the tally once. at is
	// when they should have been sent, which the tally is told, too; 0 when
	// running flat out.
	produce(ctx context.Context, w *worker, n int, at time.Duration) error
	// flush returns when all records are told.
	flush(ctx context.Context) error
	close(ctx context.Context) error
}

var clients = map[string]func(context.Context, Settings, *tally) (client, error){
	"floor":      newFloor,
	"franz":      newFranz,
	"franz-pool": newFranzPool,
	"troupe":     newTroupe,
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("driver: ")
	var s Settings
	flag.StringVar(&s.Client, "client", "troupe", "troupe, franz, franz-pool (its records from a sync.Pool) or floor (the least that sends the same bytes)")
	flag.StringVar(&s.Address, "addr", "127.0.0.1:9092", "address of a broker")
	flag.StringVar(&s.Topic, "topic", "bench", "topic")
	flag.IntVar(&s.Partitions, "partitions", 12, "partitions that the topic has")
	flag.IntVar(&s.Records, "records", 1_000_000, "records in the measured part")
	flag.IntVar(&s.Warmup, "warmup", 100_000, "records before the measured part")
	flag.IntVar(&s.Size, "size", 100, "bytes of a value")
	flag.IntVar(&s.Goroutines, "goroutines", 1, "producing goroutines; floor always uses one")
	flag.BoolVar(&s.Keyed, "keyed", false, "give records keys: 4096 different ones of 16 bytes")
	flag.StringVar(&s.Codec, "codec", "none", "none, gzip, snappy, lz4 or zstd; values are text unless it is none")
	flag.DurationVar(&s.Linger, "linger", 5*time.Millisecond, "linger")
	flag.Float64Var(&s.Rate, "rate", 0, "records per second of all goroutines together, open loop; 0 is flat out")
	timeout := flag.Duration("timeout", 2*time.Minute, "give up after this time")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the measured part to this file")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	// A client that ignores its context must not hang the benchmark.
	time.AfterFunc(*timeout+10*time.Second, func() { log.Fatal("timed out") })
	r, err := run(ctx, s, *profile)
	if err != nil {
		log.Fatalf("%s: %v", s.Client, err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func (s Settings) validate() error {
	if clients[s.Client] == nil {
		return fmt.Errorf("-client %q is unknown", s.Client)
	}
	if !slices.Contains(strings.Fields("none gzip snappy lz4 zstd"), s.Codec) {
		return fmt.Errorf("-codec %q is unknown", s.Codec)
	}
	if s.Size < 0 || s.Size > 1<<20 {
		return errors.New("-size must be within 0 and 1 MiB")
	}
	if s.Records < 1 || s.Warmup < 0 || s.Goroutines < 1 || s.Partitions < 1 || s.Rate < 0 {
		return errors.New("-records, -goroutines and -partitions must be positive, -warmup and -rate not negative")
	}
	return nil
}

func run(ctx context.Context, s Settings, profile string) (*Report, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.Client == "floor" {
		s.Goroutines = 1
	}
	t := newTally(s.Partitions)
	c, err := clients[s.Client](ctx, s, t)
	if err != nil {
		return nil, err
	}
	workers := newWorkers(s)

	if s.Warmup > 0 {
		if err := load(ctx, c, t, workers, s.Warmup, 0); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	if s.Rate > 0 {
		t.latencies = make([]time.Duration, s.Records)
		for _, w := range workers {
			w.lags = make([]time.Duration, 0, s.Records/len(workers)+1)
		}
	}
	t.reset()
	runtime.GC()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
	}

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, wall := procstat.CPU(), time.Now()
	err = load(ctx, c, t, workers, s.Records, s.Rate)
	seconds, cpuSeconds := time.Since(wall).Seconds(), (procstat.CPU() - cpu).Seconds()
	runtime.ReadMemStats(&after)

	pprof.StopCPUProfile()
	if err != nil {
		return nil, err
	}
	if err := c.close(ctx); err != nil {
		return nil, fmt.Errorf("close: %w", err)
	}
	if err := t.check(s.Records); err != nil { // again: nothing may come twice
		return nil, err
	}
	rss, err := procstat.PeakRSS()
	if err != nil {
		return nil, err
	}
	n := float64(s.Records)
	r := &Report{
		Settings:         s,
		Seconds:          seconds,
		CPUSeconds:       cpuSeconds,
		CPUPerMillion:    cpuSeconds / n * 1e6,
		RecordsPerSecond: n / seconds,
		AllocsPerRecord:  float64(after.Mallocs-before.Mallocs) / n,
		BytesPerRecord:   float64(after.TotalAlloc-before.TotalAlloc) / n,
		GCs:              after.NumGC - before.NumGC,
		PeakRSS:          rss,
	}
	if s.Rate > 0 {
		var lags []time.Duration
		for _, w := range workers {
			lags = append(lags, w.lags...)
		}
		r.Latency, r.Lag = summarize(t.latencies), summarize(lags)
	}
	return r, nil
}

// load sends n records from all workers and waits for their callbacks.
func load(ctx context.Context, c client, t *tally, workers []*worker, n int, rate float64) error {
	errs := make([]error, len(workers))
	var running sync.WaitGroup
	// Records get a context that never ends: looking at one is not what is measured.
	forever := context.Background()
	t.start = time.Now()
	for i, w := range workers {
		share := n / len(workers)
		if i < n%len(workers) {
			share++
		}
		running.Go(func() {
			if rate > 0 {
				errs[i] = w.paced(forever, c, t.start, share, i, len(workers), rate)
			} else {
				errs[i] = c.produce(forever, w, share, 0)
			}
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, t.failure())
	}
	if err := c.flush(ctx); err != nil {
		return errors.Join(fmt.Errorf("flush: %w", err), t.failure())
	}
	return t.check(n)
}
