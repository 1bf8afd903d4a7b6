package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A tally counts outcomes, in the callbacks of the client.
type tally struct {
	partitions []counter
	failed     atomic.Int64
	first      atomic.Pointer[error] // the first failure
	before     int64                 // acknowledged before the last reset

	start     time.Time       // of the current load
	latencies []time.Duration // open loop only
	measured  atomic.Int64    // how many of them are there
}

// A counter has two cache lines of its own: callbacks of several partitions may
// run at once.
type counter struct {
	atomic.Int64
	_ [120]byte
}

func newTally(partitions int) *tally { return &tally{partitions: make([]counter, partitions)} }

// done counts one outcome; err is nil when the record was acknowledged.
func (t *tally) done(partition int32, at time.Duration, err error) {
	if err != nil || uint(partition) >= uint(len(t.partitions)) {
		t.fail(partition, err)
		return
	}
	t.partitions[partition].Add(1)
	if t.latencies == nil {
		return
	}
	if i := t.measured.Add(1) - 1; int(i) < len(t.latencies) {
		t.latencies[i] = time.Since(t.start) - at
	}
}

func (t *tally) fail(partition int32, err error) {
	if err == nil {
		err = fmt.Errorf("acknowledged by partition %d of %d", partition, len(t.partitions))
	}
	t.first.CompareAndSwap(nil, &err)
	t.failed.Add(1)
}

func (t *tally) acknowledged() (n int64) {
	for i := range t.partitions {
		n += t.partitions[i].Load()
	}
	return n
}

// await returns when n records are told, those before a reset included. For
// clients that cannot flush.
func (t *tally) await(ctx context.Context, n int64) error {
	told := func() int64 { return t.before + t.acknowledged() + t.failed.Load() }
	for told() < n {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d records told of %d: %w", told(), n, err)
		}
		sleep(50 * time.Microsecond)
	}
	return t.failure()
}

// reset starts counting anew. No record may be under way.
func (t *tally) reset() {
	t.before += t.acknowledged()
	for i := range t.partitions {
		t.partitions[i].Store(0)
	}
	t.measured.Store(0)
}

func (t *tally) failure() error {
	if first := t.first.Load(); first != nil {
		return fmt.Errorf("%d records failed, the first with: %w", t.failed.Load(), *first)
	}
	return nil
}

// check returns an error unless exactly n records were acknowledged and none
// failed.
func (t *tally) check(n int) error {
	if err := t.failure(); err != nil {
		return err
	}
	if got := t.acknowledged(); got != int64(n) {
		return fmt.Errorf("%d records acknowledged of %d", got, n)
	}
	return nil
}
