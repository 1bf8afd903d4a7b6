package router

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// parkedPart is the part of the budget that records of unknown topics may hold.
const parkedPart = 0.1

var errBeyond = errors.New("partition beyond the known ones")

func isFull(err error) bool { return errors.Is(err, memory.ErrFull) }

// parking holds the records of a topic whose partitions are not known, or that
// name a partition beyond the known ones. While it holds any, later records of
// the topic queue up behind them: order survives the discovery of a topic.
type parking struct {
	mu      sync.Mutex
	parked  []parked
	chunks  []*memory.Chunk
	flushes []*messages.FlushWaiter
	pending *routes // known, but not drained into yet
	tries   int     // refreshes that did not show it
	// leaving is how many records are parked no more and have not been answered
	// yet; a Flush that comes now waits for their callbacks, too.
	leaving int
	late    []*messages.FlushWaiter
}

// parked is a copy of a record, in a chunk of the parking's own.
type parked struct {
	record   messages.Record
	callback messages.Callback
	ctx      context.Context
	options  Options
	bytes    int
	at       seams.Instant
}

// parkRecord copies the record and queues it. The caller may have to wait for
// room like everybody else.
func (t *Topic) parkRecord(ctx context.Context, a *messages.Admission) error {
	r := t.router
	need := len(a.Record.Key) + len(a.Record.Value)
	for _, h := range a.Record.Headers {
		need += len(h.Key) + len(h.Value) + headerOverhead
	}
	need += parkedOverhead
	var chunk *memory.Chunk
	defer func() {
		if chunk != nil {
			r.Budget.Release(chunk)
		}
	}()
	for {
		t.mu.Lock()
		if rt := t.routes.Load(); rt != nil {
			// Known since the caller looked. What is still parked then names
			// partitions beyond the known ones.
			if id, set := a.Record.Partition.Get(); !set || int(id) < len(rt.boxes) {
				t.mu.Unlock()
				return t.admit(ctx, a)
			}
		}
		if err := r.Refused(); err != nil {
			t.mu.Unlock()
			return err
		}
		if p := t.err.Load(); p != nil {
			// Under the lock: whoever stores it answers what is parked by then.
			t.mu.Unlock()
			return &messages.DeliveryError{Topic: t.name, Partition: -1, Broker: -1, Cause: *p}
		}
		if chunk != nil {
			t.chunks = append(t.chunks, chunk)
			chunk = nil
		}
		if n := len(t.chunks); n > 0 && cap(t.chunks[n-1].Bytes)-len(t.chunks[n-1].Bytes) >= need {
			first := len(t.parked) == 0
			t.add(t.chunks[n-1], a, need, r.Settings.Clock.Now())
			t.mu.Unlock()
			if first {
				r.tellActor(&parkedFirst{t})
			}
			return nil
		}
		t.mu.Unlock()
		var err error
		if chunk, err = t.room(ctx, r.park, need, a); err != nil {
			return err
		}
	}
}

// What a parked record costs besides its bytes.
const (
	parkedOverhead = 256
	headerOverhead = 48
)

func (p *parking) add(chunk *memory.Chunk, a *messages.Admission, need int, now seams.Instant) {
	copyOf := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		start := len(chunk.Bytes)
		chunk.Bytes = append(chunk.Bytes, b...)
		return chunk.Bytes[start:len(chunk.Bytes):len(chunk.Bytes)]
	}
	start := len(chunk.Bytes)
	record := *a.Record
	record.Key, record.Value = copyOf(record.Key), copyOf(record.Value)
	if len(record.Headers) > 0 {
		headers := make([]messages.Header, len(record.Headers))
		for i, h := range record.Headers {
			headers[i] = messages.Header{Key: h.Key, Value: copyOf(h.Value)}
		}
		record.Headers = headers
	}
	// The rest of need stands for the entry and its headers.
	chunk.Bytes = chunk.Bytes[:min(cap(chunk.Bytes), start+need)]
	if len(p.parked) == 0 {
		p.tries = 0
	}
	p.parked = append(p.parked, parked{
		record: record, callback: a.Callback, ctx: a.Context, bytes: a.Bytes, at: now,
		options: Options{Acks: a.Acks, Codec: a.Codec, Urgent: a.Urgent, TimeoutMs: a.TimeoutMs},
	})
}

// refusedRecord is a parked record that will not reach a partition.
type refusedRecord struct {
	parked
	cause error
}

// answerOne answers a parked record that will not reach a partition: it is not
// persisted.
func (t *Topic) answerOne(f refusedRecord) {
	if f.callback == nil {
		return
	}
	defer func() {
		if reason := recover(); reason != nil {
			t.router.Settings.Log.Error().Str("topic", t.name).Interface("panic", reason).Msg("a delivery callback panicked")
		}
	}()
	id, set := f.record.Partition.Get()
	if !set {
		id = -1
	}
	f.callback(messages.Delivery{
		Topic: t.name, Partition: id, Offset: -1, LogAppendTimeMs: -1, LogStartOffset: -1, Status: messages.NotPersisted,
		Err: &messages.DeliveryError{Topic: t.name, Partition: id, Broker: -1, Cause: f.cause}, Opaque: f.record.Opaque, Tag: f.record.Tag,
	})
}

// refuseParked answers every parked record with cause.
func (t *Topic) refuseParked(cause error) {
	t.mu.Lock()
	refused := make([]refusedRecord, 0, len(t.parked))
	for _, p := range t.parked {
		refused = append(refused, refusedRecord{p, cause})
	}
	chunks, flushes := t.endLocked(t.pending)
	t.leaving += len(refused)
	t.mu.Unlock()
	t.finishParked(refused, chunks, flushes)
}

// known is the routes that callers use, or those that parked records are still
// being drained into: both have partitions that hold records.
func (t *Topic) known() *routes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rt := t.routes.Load(); rt != nil {
		return rt
	}
	return t.pending
}

// forget makes the topic unknown again.
func (t *Topic) forget() {
	t.mu.Lock()
	t.routes.Store(nil)
	t.pending = nil
	t.mu.Unlock()
}

// endLocked empties the parking and opens the topic to the caller's path, with
// rt as its routes unless that is nil. What waited for parked records waits for
// the batches that some of them may have reached.
func (t *Topic) endLocked(rt *routes) ([]*memory.Chunk, []*messages.FlushWaiter) {
	chunks, flushes := t.chunks, t.flushes
	t.parked, t.chunks, t.flushes, t.pending = nil, nil, nil, nil
	if rt != nil {
		t.routes.Store(rt)
		for _, w := range flushes {
			for _, box := range rt.boxes {
				box.Flush(w)
			}
		}
	}
	return chunks, flushes
}

// finishParked gives refused records, which the caller has counted as leaving,
// their outcome, the memory back, and lets flushes go on: outside every lock and
// actor, since callbacks run.
func (t *Topic) finishParked(refused []refusedRecord, chunks []*memory.Chunk, flushes []*messages.FlushWaiter) {
	if len(refused)+len(chunks)+len(flushes) == 0 {
		return
	}
	t.router.Settings.Executor.Run(func() {
		for _, f := range refused {
			t.answerOne(f)
		}
		t.router.Budget.Release(chunks...)
		t.mu.Lock()
		if t.leaving -= len(refused); t.leaving == 0 {
			flushes, t.late = append(flushes, t.late...), nil
		}
		t.mu.Unlock()
		for _, w := range flushes {
			w.Done()
		}
	})
}

// drain moves parked records into their partitions, in order, and then opens the
// topic to the caller's path. It reports false when the budget has no room: the
// rest stays parked, and so does whatever comes behind it.
func (t *Topic) drain(rt *routes) bool {
	t.mu.Lock()
	var refused []refusedRecord
	kept := t.parked[:0]
	full := false
	for i, p := range t.parked {
		cause := t.placeParked(rt, &p)
		if full = isFull(cause); full {
			kept = append(kept, t.parked[i:]...)
			break
		}
		switch {
		case cause == nil:
		case !errors.Is(cause, errBeyond):
			refused = append(refused, refusedRecord{p, cause})
		case t.tries == 0:
			// One refresh first. Those behind it go to partitions that exist, and
			// need not wait.
			kept = append(kept, p)
		default:
			id, _ := p.record.Partition.Get()
			refused = append(refused, refusedRecord{p, fmt.Errorf("%w: topic %s has partitions 0 to %d, the record names %d", messages.ErrUnknownPartition, t.name, len(rt.boxes)-1, id)})
		}
	}
	if len(kept) > 0 {
		clear(t.parked[len(kept):])
		t.parked, t.pending = kept, rt
		if !full {
			t.routes.Store(rt)
		}
		t.leaving += len(refused)
		t.mu.Unlock()
		t.finishParked(refused, nil, nil)
		return false
	}
	chunks, flushes := t.endLocked(rt)
	t.leaving += len(refused)
	t.mu.Unlock()
	t.finishParked(refused, chunks, flushes)
	return true
}

// placeParked appends one parked record.
func (t *Topic) placeParked(rt *routes, p *parked) error {
	if p.ctx != nil && p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	partition, _, err := t.choose(rt, &p.record)
	if err != nil {
		return err
	}
	a := &messages.Admission{
		Record: &p.record, Callback: p.callback, Context: p.ctx, Acks: p.options.Acks, Codec: p.options.Codec,
		Bytes: p.bytes, Urgent: p.options.Urgent, TimeoutMs: p.options.TimeoutMs,
	}
	defer func() {
		if a.Chunk != nil {
			t.router.Budget.Release(a.Chunk)
		}
	}()
	box := rt.boxes[partition]
	for {
		switch box.Append(a) {
		case messages.Appended:
			return nil
		case messages.AppendClosed:
			return messages.ErrClosed
		}
		if a.Chunk, err = t.router.Budget.TryAcquireAdmitted(box.Account(), box.NeedBytes(a.Bytes)); err != nil {
			return err
		}
	}
}

// expireParked answers the records whose time is over.
func (t *Topic) expireParked(now seams.Instant, wait seams.Instant, why error) {
	t.mu.Lock()
	var refused []refusedRecord
	kept := t.parked[:0]
	for _, p := range t.parked {
		switch {
		case p.ctx != nil && p.ctx.Err() != nil:
			refused = append(refused, refusedRecord{p, context.Cause(p.ctx)})
		case p.at <= wait:
			refused = append(refused, refusedRecord{p, why})
		default:
			kept = append(kept, p)
		}
	}
	clear(t.parked[len(kept):])
	t.parked = kept
	var chunks []*memory.Chunk
	var flushes []*messages.FlushWaiter
	if len(kept) == 0 {
		chunks, flushes = t.endLocked(t.pending)
	}
	t.leaving += len(refused)
	t.mu.Unlock()
	t.finishParked(refused, chunks, flushes)
}
