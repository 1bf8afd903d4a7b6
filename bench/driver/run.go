package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

func run(ctx context.Context, s Settings, profile string) (*Report, error) {
	if err := validate(s); err != nil {
		return nil, err
	}
	switch s.Mode {
	case figure.ModeIdle:
		return runIdle(ctx, s)
	case figure.ModeStart:
		return runStarts(ctx, s)
	}
	if s.Client == "floor" || s.Client == "duties" {
		s.Goroutines = 1
	}
	if s.Rate > 0 {
		// A thread that sleeps in a system call keeps its processor from goroutines until
		// the runtime takes notice, which may be 10 ms: each generator gets one to keep.
		// With as many as cores, eight generators alone were up to 35 ms late.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + s.Goroutines)
	}
	t := newTally(s.Partitions)
	c, err := clients[s.Client].create(ctx, s, t)
	if err != nil {
		return nil, err
	}
	if _, able := c.(caller); s.Mode == figure.ModeCall && !able {
		return nil, errors.New("cannot send and wait")
	}
	workers := newWorkers(s)

	if s.Warmup > 0 {
		warm := s
		warm.Records, warm.Rate = s.Warmup, 0
		if err := load(ctx, c, t, workers, warm); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	t.reset()
	if s.Rate > 0 {
		t.latencies = make([]time.Duration, s.Records)
	}
	if n := s.Records/len(workers) + 1; s.Mode == figure.ModeCall || s.Rate > 0 {
		for _, w := range workers {
			w.times = make([]time.Duration, n/s.Call+1)
			// Written to, so that the memory is there before the clock runs.
			clear(w.times)
			w.times = w.times[:0]
		}
	}
	runtime.GC()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // a profile that is cut short cannot be read anyway
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
	}
	m := startMeter()
	err = load(ctx, c, t, workers, s)
	r := m.report(s, s.Records)
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
	var times []time.Duration
	for _, w := range workers {
		times = append(times, w.times...)
	}
	switch {
	case s.Rate > 0:
		r.Latency, r.Lag = figure.Summarize(t.latencies), figure.Summarize(times)
	case s.Mode == figure.ModeCall:
		r.Latency = figure.Summarize(times)
	}
	return r, describe(r, c)
}

// describe adds what the client is, and the peak of memory.
func describe(r *Report, c client) (err error) {
	r.Configured = c.settings()
	r.Version = versionOf(clients[r.Client].module)
	r.PeakRSS, err = procstat.PeakRSS()
	return err
}

// versionOf returns the version of a module that the driver was built with.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == module {
				return d.Version
			}
		}
	}
	return ""
}

// A meter holds the counters at the start of the measured part.
type meter struct {
	memory runtime.MemStats
	mutex  time.Duration
	cpu    time.Duration
	wall   time.Time
}

func startMeter() *meter {
	m := &meter{mutex: mutexWait()}
	runtime.ReadMemStats(&m.memory)
	m.cpu, m.wall = procstat.CPU(), time.Now()
	return m
}

// report says what n records cost since the start.
func (m *meter) report(s Settings, n int) *Report {
	wall, cpu := time.Since(m.wall), procstat.CPU()-m.cpu
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	each := float64(n)
	return &Report{
		Settings:         s,
		Seconds:          wall.Seconds(),
		CPUSeconds:       cpu.Seconds(),
		CPUPerMillion:    cpu.Seconds() / each * 1e6,
		RecordsPerSecond: each / wall.Seconds(),
		AllocsPerRecord:  float64(after.Mallocs-m.memory.Mallocs) / each,
		BytesPerRecord:   float64(after.TotalAlloc-m.memory.TotalAlloc) / each,
		GCs:              after.NumGC - m.memory.NumGC,
		MutexWait:        float64(mutexWait()-m.mutex) / each,
	}
}

// mutexWait is how long all goroutines have waited for mutexes so far. The
// runtime measures one of eight waits and scales.
func mutexWait() time.Duration {
	sample := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(sample)
	return time.Duration(sample[0].Value.Float64() * float64(time.Second))
}

// load sends s.Records from all workers and waits for their callbacks.
func load(ctx context.Context, c client, t *tally, workers []*worker, s Settings) error {
	errs := make([]error, len(workers))
	var running sync.WaitGroup
	// Records get a context that never ends: looking at one is not what is measured.
	forever := context.Background()
	t.start = time.Now()
	for i, w := range workers {
		share := s.Records / len(workers)
		if i < s.Records%len(workers) {
			share++
		}
		running.Go(func() {
			switch {
			case s.Mode == figure.ModeCall:
				errs[i] = w.calls(forever, c.(caller), share, s.Call)
			case s.Rate > 0:
				errs[i] = w.paced(forever, c, t.start, share, i, len(workers), s.Rate)
			default:
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
	return t.check(s.Records)
}

// calls sends n records, so many in each call, and notes how long each call took.
func (w *worker) calls(ctx context.Context, c caller, n, each int) error {
	for n > 0 {
		now := min(n, each)
		n -= now
		start := time.Now()
		if err := c.call(ctx, w, now); err != nil {
			return err
		}
		w.times = append(w.times, time.Since(start))
	}
	return nil
}
