package accumulator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// silentTimer is set and never fires.
type silentTimer struct{}

func (silentTimer) Reset(seams.Instant) {}
func (silentTimer) Stop()               {}

// benchRig is a partition with a clock that runs. Without a leader it announces
// nothing, so that there need be no actor system.
func benchRig(t testing.TB, led bool) *rig {
	c := testConfig()
	c.batchMaxBytes = 1_000_000
	r := newRig(t, c)
	clock := seams.NewClock()
	r.box.settings.Clock, r.box.settings.Stamps = clock, seams.NewStamps(clock)
	r.box.timer = silentTimer{}
	if led {
		r.assign(1, 0)
	}
	return r
}

const (
	benchValue   = 100
	benchRecords = 1000 // of a batch
)

func benchAdmission(callback messages.Callback) *messages.Admission {
	a := admission(string(make([]byte, benchValue)), callback)
	a.Bytes = protocol.RecordUpperBound(0, benchValue, nil)
	return a
}

// post is Box.Append with the chunks it asks for.
func (r *rig) post(a *messages.Admission) {
	for {
		switch status := r.box.Append(a); status {
		case messages.Appended:
			return
		case messages.NeedsBatch, messages.NeedsChunk:
			chunk, err := r.budget.TryAcquire(r.box.Account(), r.box.NeedBytes(a.Bytes))
			if err != nil {
				r.t.Fatal(err)
			}
			a.Chunk = chunk
		default:
			r.t.Fatalf("status %d", status)
		}
	}
}

// fill makes one batch that is ready.
func (r *rig) fill(a *messages.Admission) {
	for i := range benchRecords {
		a.Urgent = i == benchRecords-1
		r.append(a)
	}
	r.effects()
}

// empty throws everything away, so that its chunks are there to be used again.
func (r *rig) empty() {
	r.s.failAll(errRetired)
	r.effects()
	r.s.reopen()
}

func (r *rig) takeOne() *attempt {
	a, _ := r.take(messages.TakeRequest{
		Broker: 1, Identity: messages.Identity{ProducerID: 1}, Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll},
	})
	if a == nil || a.batch.count != benchRecords {
		r.t.Fatalf("took %+v", a)
	}
	return a
}

// settleOne answers an attempt and calls back.
func (r *rig) settleOne(a *attempt) {
	a.WriteEnded()
	r.deliver(a, okResult(0))
	r.effects()
}

func BenchmarkAppend(b *testing.B) {
	background := context.Background()
	ended, cancel := context.WithTimeout(background, time.Hour)
	defer cancel()
	for name, c := range map[string]struct {
		callback messages.Callback
		ctx      context.Context
		tag      uint64
	}{
		"no callback":     {},
		"shared callback": {callback: func(messages.Delivery) {}},
		"tag":             {callback: func(messages.Delivery) {}, tag: 7},
		"context":         {callback: func(messages.Delivery) {}, ctx: ended},
	} {
		b.Run(name, func(b *testing.B) {
			const most = 100_000 // records until everything begins anew
			a := benchAdmission(c.callback)
			a.Context, a.Record.Tag = c.ctx, c.tag
			r, n := benchRig(b, false), 0
			b.SetBytes(benchValue)
			b.ReportAllocs()
			for b.Loop() {
				if n == most {
					b.StopTimer()
					r.empty()
					n = 0
					b.StartTimer()
				}
				r.post(a)
				n++
			}
		})
	}
}

// BenchmarkTake seals a batch, numbers it, and writes its header and checksum.
func BenchmarkTake(b *testing.B) {
	overBatches(b, func(r *rig, _ *attempt) *attempt { return r.takeOne() }, nil)
}

// BenchmarkSettle settles a batch that a broker acknowledged.
func BenchmarkSettle(b *testing.B) {
	overBatches(b,
		func(r *rig, a *attempt) *attempt {
			r.deliver(a, okResult(0))
			return nil
		},
		(*rig).takeOne)
}

// overBatches times one step of the life of many batches, one after the other:
// timing them one by one would cost more than the step.
func overBatches(b *testing.B, step func(*rig, *attempt) *attempt, before func(*rig) *attempt) {
	rigs := make([]*rig, 64)
	attempts := make([]*attempt, len(rigs))
	a := benchAdmission(func(messages.Delivery) {})
	for i := range rigs {
		rigs[i] = benchRig(b, true)
	}
	prepare := func() {
		for i, r := range rigs {
			if r.effects(); attempts[i] != nil {
				r.settleOne(attempts[i])
			}
			r.fill(a)
			if before != nil {
				attempts[i] = before(r)
				attempts[i].WriteEnded()
			}
		}
	}
	prepare()
	b.SetBytes(benchRecords * benchValue)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(rigs) {
			b.StopTimer()
			prepare()
			i = 0
			b.StartTimer()
		}
		attempts[i] = step(rigs[i], attempts[i])
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
}

// answered is a settled batch of benchRecords records, for the lane.
func answered(r *rig, callbacks []callbackRun, tags perRecord[uint64]) *answer {
	d := &side{callbacks: callbacks, stamps: []stampRun{{first: 0, unixMs: baseUnixMs}}, tags: tags}
	return &answer{
		batch: &batch{count: benchRecords, settled: true}, side: d,
		delivery: messages.Delivery{Topic: "t", Partition: 3, Offset: 5, LogAppendTimeMs: -1, Status: messages.Persisted, Attempts: 1},
	}
}

func laneAnswers(called *int) map[string]func(*rig) *answer {
	count := func(messages.Delivery) { *called++ }
	return map[string]func(*rig) *answer{
		"no callback":     func(r *rig) *answer { return answered(r, []callbackRun{{}}, perRecord[uint64]{}) },
		"shared callback": func(r *rig) *answer { return answered(r, []callbackRun{{callback: count}}, perRecord[uint64]{}) },
		"tags": func(r *rig) *answer {
			return answered(r, []callbackRun{{callback: count}}, perRecord[uint64]{values: make([]uint64, benchRecords)})
		},
		"a callback per record": func(r *rig) *answer {
			var runs []callbackRun
			for i := range int32(benchRecords) {
				runs = append(runs, callbackRun{first: i, callback: count})
			}
			return answered(r, runs, perRecord[uint64]{})
		},
	}
}

func BenchmarkCallbacks(b *testing.B) {
	var called int
	for name, make := range laneAnswers(&called) {
		b.Run(name, func(b *testing.B) {
			r := benchRig(b, false)
			a := make(r)
			b.ReportAllocs()
			for b.Loop() {
				r.box.lane.answer(a)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
		})
	}
}

// BenchmarkPartition is the whole life of a batch but for the network, the actor's
// mailbox and the router: ns/record is what a partition costs.
func BenchmarkPartition(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("callback=%v", shared), func(b *testing.B) {
			var callback messages.Callback
			if shared {
				callback = func(messages.Delivery) {}
			}
			r, a := benchRig(b, true), benchAdmission(callback)
			b.SetBytes(benchRecords * benchValue)
			b.ReportAllocs()
			for b.Loop() {
				r.fill(a)
				r.settleOne(r.takeOne())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
		})
	}
}
