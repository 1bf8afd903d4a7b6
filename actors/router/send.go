package router

import (
	"context"
	"errors"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// group is the records of one call that go to one partition, in order.
type group struct {
	topic      *Topic
	routes     *routes
	partition  int32
	admissions []messages.Admission
	bytes      int
}

// SendAll admits records of one call: those of one partition stand together and
// in order in its log, as far as one batch holds them. reject is called for each
// record that was not admitted; callback, with the record's tag, for all others.
// ctx is the records' own, wait bounds the call.
func (r *Router) SendAll(ctx, wait context.Context, records []messages.Record, callback messages.Callback, o Options, reject func(*messages.Record, error)) {
	type place struct {
		topic     *Topic
		partition int32
	}
	index := make(map[place]int)
	var groups []*group
	var recordCtx context.Context
	if ctx.Done() != nil {
		recordCtx = ctx
	}
	for i := range records {
		record := &records[i]
		t, err := r.Topic(record.Topic)
		if err != nil {
			reject(record, err)
			continue
		}
		size, err := r.check(record)
		if refused := r.Refused(); refused != nil {
			err = refused
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			reject(record, err)
			continue
		}
		rt := t.routes.Load()
		partition, err := int32(0), errBeyond
		if rt != nil {
			partition, _, err = t.choose(rt, record)
		}
		if err != nil {
			// An unknown topic or partition, or the partitioner's error: the way of
			// single records handles each.
			if err := t.Produce(ctx, record, callback, o); err != nil {
				reject(record, err)
			}
			continue
		}
		at, ok := index[place{t, partition}]
		if !ok {
			at = len(groups)
			index[place{t, partition}] = at
			groups = append(groups, &group{topic: t, routes: rt, partition: partition})
		}
		g := groups[at]
		g.bytes += size
		g.admissions = append(g.admissions, messages.Admission{
			Record: record, Callback: callback, Context: recordCtx, Acks: o.Acks, Codec: o.Codec, Bytes: size,
			Urgent: o.Urgent, TimeoutMs: o.TimeoutMs,
		})
	}
	for _, g := range groups {
		rest, err := g.send(wait, r)
		for i := range rest {
			cause := err
			if errors.Is(err, errMoved) {
				cause = g.topic.Produce(ctx, rest[i].Record, callback, o)
			}
			if cause != nil {
				reject(rest[i].Record, cause)
			}
		}
	}
}

// errMoved says that the partition was retired or its topic created again while
// the call was under way: the way of single records finds it anew.
var errMoved = errors.New("the partition has another accumulator")

// send appends a group, acquiring its chunks before the partition's lock is
// taken. It returns what was not appended, and why.
func (g *group) send(wait context.Context, r *Router) ([]messages.Admission, error) {
	box := g.routes.boxes[g.partition]
	var chunks []*memory.Chunk
	defer func() { r.Budget.Release(chunks...) }()
	rest := g.admissions
	left := g.bytes
	for {
		n, status := box.AppendAll(rest, &chunks)
		for i := range rest[:n] {
			left -= rest[i].Bytes
		}
		rest = rest[n:]
		if len(rest) == 0 {
			return nil, nil
		}
		if status == messages.AppendClosed {
			return rest, errMoved
		}
		need := max(box.NeedBytes(rest[0].Bytes), min(left+smallSlack, memory.ChunkBytes))
		chunk, err := r.Budget.Acquire(wait, box.Account(), need)
		if err != nil {
			return rest, g.topic.bufferError(err)
		}
		chunks = append(chunks, chunk)
		for left > memory.ChunkBytes*len(chunks) && len(chunks) < maxChunksAhead {
			more, err := r.Budget.TryAcquire(box.Account(), memory.ChunkBytes)
			if err != nil {
				break
			}
			chunks = append(chunks, more)
		}
	}
}

const (
	smallSlack     = 128
	maxChunksAhead = 16
)

// Flush makes everything admitted so far ready and waits for its outcomes and
// their callbacks, or for the context.
func (r *Router) Flush(ctx context.Context) error {
	spot := r.Settings.Parking.NewSpot()
	w := messages.NewFlushWaiter(spot)
	for _, t := range r.sorted() {
		t.flush(w)
	}
	w.Done()
	return spot.Wait(ctx)
}

func (t *Topic) flush(w *messages.FlushWaiter) {
	t.mu.Lock()
	if len(t.parked) > 0 {
		w.Add(1)
		t.flushes = append(t.flushes, w)
	}
	if t.leaving > 0 {
		w.Add(1)
		t.late = append(t.late, w)
	}
	rt := t.routes.Load()
	t.mu.Unlock()
	if rt != nil {
		for _, box := range rt.boxes {
			box.Flush(w)
		}
	}
}

// urge makes every open batch ready: somebody waits for the budget.
func (r *Router) urge() {
	for _, t := range r.sorted() {
		if rt := t.routes.Load(); rt != nil {
			for _, box := range rt.boxes {
				box.Urge()
			}
		}
	}
}

// FailAll answers every record that is left with cause.
func (r *Router) FailAll(cause error) {
	for _, t := range r.sorted() {
		t.refuseParked(cause)
		if rt := t.routes.Load(); rt != nil {
			for _, box := range rt.boxes {
				box.FailAll(cause)
			}
		}
	}
}

// Unanswered returns the number of records without an outcome, callbacks
// included.
func (r *Router) Unanswered() int {
	n := 0
	for _, t := range r.sorted() {
		t.mu.Lock()
		n += len(t.parked) + t.leaving
		rt := t.routes.Load()
		if rt == nil {
			rt = t.pending
		}
		t.mu.Unlock()
		if rt != nil {
			for _, box := range rt.boxes {
				n += box.Unanswered()
			}
		}
	}
	return n
}
