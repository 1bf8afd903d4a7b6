package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

// fewTopic has one partition, which -mode idle uses before all others: what a
// client costs that has sent something is not what idle partitions cost.
const fewTopic = "few"

// settling is how long -mode idle waits before it looks at the memory: buffers
// that are given back later than that count.
const settling = time.Second

// runIdle sends one record to each partition and looks at what stays in memory.
func runIdle(ctx context.Context, s Settings) (*Report, error) {
	s.Records = s.Partitions
	t := newTally(1)
	c, err := clients[s.Client].create(ctx, s, t)
	if err != nil {
		return nil, err
	}
	p, able := c.(placer)
	if !able {
		return nil, errors.New("cannot choose partitions by hand")
	}
	value := newWorkers(s)[0].values.next()
	const before = 100
	for range before {
		if err := p.place(ctx, fewTopic, 0, value); err != nil {
			return nil, err
		}
	}
	if err := c.flush(ctx); err != nil {
		return nil, err
	}
	none, err := restingMemory()
	if err != nil {
		return nil, err
	}
	m := startMeter()
	for partition := range s.Partitions {
		if err := p.place(ctx, s.Topic, int32(partition), value); err != nil {
			return nil, fmt.Errorf("partition %d: %w", partition, err)
		}
	}
	if err := c.flush(ctx); err != nil {
		return nil, err
	}
	r := m.report(s, s.Records)
	if err := t.check(before + s.Records); err != nil {
		return nil, err
	}
	all, err := restingMemory()
	if err != nil {
		return nil, err
	}
	r.Idle = &figure.Idle{RSS: all.RSS - none.RSS, Heap: all.Heap - none.Heap, Goroutines: all.Goroutines - none.Goroutines}
	r.Warmup = before
	if err := c.close(ctx); err != nil {
		return nil, fmt.Errorf("close: %w", err)
	}
	return r, describe(r, c)
}

// restingMemory is what the process holds when nothing has happened for a while
// and the garbage is gone.
func restingMemory() (i figure.Idle, err error) {
	time.Sleep(settling)
	debug.FreeOSMemory() // collects, too
	debug.FreeOSMemory() // what finalizers and pools let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	i.Heap = int64(m.HeapInuse + m.StackInuse)
	i.Goroutines = runtime.NumGoroutine()
	i.RSS, err = procstat.RSS()
	return i, err
}

// runStarts makes a client, waits until its first record is acknowledged, closes
// it, and does so s.Records times.
func runStarts(ctx context.Context, s Settings) (*Report, error) {
	t := newTally(s.Partitions)
	w := newWorkers(s)[0]
	s.Warmup = 0
	var last client
	var times []time.Duration
	m := startMeter()
	for n := range s.Records {
		start := time.Now()
		c, err := clients[s.Client].create(ctx, s, t)
		if err != nil {
			return nil, err
		}
		if err := c.produce(ctx, w, 1, 0); err != nil {
			return nil, err
		}
		if err := t.await(ctx, int64(n)+1); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
		if err := c.close(ctx); err != nil {
			return nil, fmt.Errorf("close: %w", err)
		}
		last = c
	}
	r := m.report(s, s.Records)
	if err := t.check(s.Records); err != nil {
		return nil, err
	}
	r.First = float64(times[0]) / float64(time.Millisecond)
	r.Latency = figure.Summarize(times)
	return r, describe(r, last)
}
