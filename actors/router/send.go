package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// unplaced stands for the partition of records whose topic, or partition, is not
// known.
const unplaced = -1

// sendRounds is how often the records of one call look for their partitions
// together; topics that change more often than that find them one by one.
const sendRounds = 3

// errMoved says that the partition was retired or its topic created again while
// the call was under way: it is looked for anew.
var errMoved = errors.New("the partition has another accumulator")

// errAppendCrashed: the record is not in the partition, which goes on.
var errAppendCrashed = fmt.Errorf("%w: the partition crashed over the record", messages.ErrInternal)

// sending is one call of SendAll.
type sending struct {
	*Router
	ctx, wait context.Context
	callback  messages.Callback
	options   Options
	reject    func(*messages.Record, error)
	number    uint64
	lists     *sendLists
}

// sendLists are the lists of one call, kept for later ones: they are larger than
// the records of many.
type sendLists struct {
	todo  []entry
	first []messages.Admission // of the first group; most calls have one
	used  int                  // of either, at the most
}

// maxKeptSend is the number of records up to which a call's lists are kept.
const maxKeptSend = 4096

var sendListsPool = sync.Pool{New: func() any { return new(sendLists) }}

func (l *sendLists) put() {
	if cap(l.todo) > maxKeptSend || cap(l.first) > maxKeptSend {
		return
	}
	// The pool must not keep the caller's memory alive.
	clear(l.todo[:min(l.used, cap(l.todo))])
	clear(l.first[:min(l.used, cap(l.first))])
	sendListsPool.Put(l)
}

// entry is one record of it that has not found its place.
type entry struct {
	topic     *Topic
	admission messages.Admission
}

// group is the records of one call that go to one partition, in order.
type group struct {
	topic      *Topic
	routes     *routes
	partition  int32
	admissions []messages.Admission
}

// SendAll admits records of one call: those of one partition stand together and
// in order in its log, as far as one batch holds them. reject is called for each
// record that was not admitted; callback, with the record's tag, for all others.
// ctx is the records' own, wait bounds the call.
func (r *Router) SendAll(ctx, wait context.Context, records []messages.Record, callback messages.Callback, o Options, reject func(*messages.Record, error)) {
	s := &sending{Router: r, ctx: ctx, wait: wait, callback: callback, options: o, reject: reject, number: r.calls.Add(1), lists: sendListsPool.Get().(*sendLists)}
	defer s.lists.put()
	var own context.Context
	if ctx.Done() != nil {
		own = ctx
	}
	todo := slices.Grow(s.lists.todo[:0], len(records))
	s.lists.todo, s.lists.used = todo, len(records)
	for i := range records {
		record := &records[i]
		t, err := r.Topic(record.Topic)
		size := 0
		if err == nil {
			size, err = r.check(record)
		}
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
		todo = append(todo, entry{t, messages.Admission{
			Record: record, Callback: callback, Context: own, Acks: o.Acks, Codec: o.Codec, Bytes: size, TimeoutMs: o.TimeoutMs,
			Urgent: o.Urgent, Prompt: o.Prompt, Wait: o.Wait, MaxBlock: o.MaxBlock,
		}})
	}
	for round := 0; round < sendRounds && len(todo) > 0; round++ {
		todo = s.round(todo)
	}
	for i := range todo {
		if err := todo[i].topic.Produce(ctx, todo[i].admission.Record, callback, o); err != nil {
			reject(todo[i].admission.Record, err)
		}
	}
}

// round finds the partitions of records and appends those of each together. It
// returns the records whose topic changed meanwhile, in order.
func (s *sending) round(todo []entry) (again []entry) {
	for _, g := range s.groups(todo) {
		var err error
		rest := g.admissions
		if g.partition == unplaced {
			var n int
			n, err = g.topic.park(s.ctx, rest, s.number)
			rest = rest[n:]
		} else {
			rest, err = s.send(g)
		}
		for i := range rest {
			if errors.Is(err, errMoved) || errors.Is(err, errKnown) {
				again = append(again, entry{g.topic, rest[i]})
			} else {
				s.reject(rest[i].Record, err)
			}
		}
	}
	return again
}

// groups chooses the partition of each record, once. All of a topic see the same
// routes: else a later record could find the partition before an earlier one.
func (s *sending) groups(todo []entry) []*group {
	type place struct {
		topic     *Topic
		partition int32
	}
	var groups []*group
	index := make(map[place]*group)
	seen := make(map[*Topic]*routes)
	for i := range todo {
		t, a := todo[i].topic, &todo[i].admission
		rt, looked := seen[t]
		if !looked {
			rt = t.routes.Load()
			seen[t] = rt
		}
		partition, err := int32(unplaced), error(nil)
		if rt != nil {
			if partition, _, err = t.choose(rt, a.Record); errors.Is(err, errBeyond) {
				a.Record.Partition = messages.AtPartition(partition)
				partition, err = unplaced, nil
			}
		}
		if err != nil {
			s.reject(a.Record, err)
			continue
		}
		g := index[place{t, partition}]
		if g == nil {
			g = &group{topic: t, routes: rt, partition: partition}
			index[place{t, partition}] = g
			if len(groups) == 0 {
				s.lists.first = slices.Grow(s.lists.first[:0], len(todo)-i)
				g.admissions = s.lists.first
			}
			groups = append(groups, g)
		}
		g.admissions = append(g.admissions, *a)
	}
	return groups
}

// send appends a group. It returns what was not appended, and why.
func (s *sending) send(g *group) ([]messages.Admission, error) {
	box := g.routes.boxes[g.partition]
	return appendTogether(box, g.admissions, s.options.Urgent, s.Budget, func(bytes int, must bool) (*memory.Chunk, error) {
		account := box.Account()
		if !must {
			return s.Budget.TryAcquire(account, bytes)
		}
		chunk, err := s.Budget.Acquire(s.wait, account, bytes)
		return chunk, g.topic.bufferError(err, account, bytes)
	})
}

// appendTogether appends records to one partition, under one lock if there are
// the chunks for it. Chunks are acquired before the lock is taken: the first that
// is needed, and then those ahead that can be had. urgent ends the linger of the
// last batch, when all are in it. It returns what was not appended, and why.
func appendTogether(box messages.Appender, list []messages.Admission, urgent bool, b *memory.Budget, acquire func(bytes int, must bool) (*memory.Chunk, error)) ([]messages.Admission, error) {
	var chunks []*memory.Chunk
	defer func() { b.Release(chunks...) }()
	for i := range list {
		list[i].Urgent = urgent && i == len(list)-1
	}
	rest := list
	for {
		n, status := box.AppendAll(rest, &chunks)
		rest = rest[n:]
		if len(rest) == 0 {
			return nil, nil
		}
		err := errMoved
		if status == messages.AppendCrashed {
			err = errAppendCrashed
		} else if status != messages.AppendClosed {
			first, ahead := chunksFor(rest)
			var chunk *memory.Chunk
			if chunk, err = acquire(max(box.NeedBytes(rest[0].Bytes), first), true); err == nil {
				// In front: those that are left were too small for this record.
				chunks = slices.Insert(chunks, 0, chunk)
				for len(chunks) <= ahead {
					if chunk, err = acquire(memory.ChunkBytes, false); err != nil {
						break
					}
					chunks = append(chunks, chunk)
				}
				continue
			}
		}
		if urgent && len(rest) < len(list) {
			box.Urge() // what is in need not wait for what is not
		}
		return rest, err
	}
}

const (
	// smallSlack is what a chunk needs beside its records: the batch's header.
	smallSlack = 128
	// maxChunksAhead is how many chunks a call takes before it appends.
	maxChunksAhead = 16
)

// chunksFor returns what the first chunk for records must hold, and how many
// full ones after it hold the rest: a record does not stand in two.
func chunksFor(list []messages.Admission) (first, ahead int) {
	used := smallSlack
	for i := range list {
		if used += list[i].Bytes; i > 0 && used > memory.ChunkBytes {
			if ahead++; ahead == maxChunksAhead {
				break
			}
			used = smallSlack + list[i].Bytes
		}
		if ahead == 0 {
			first = used
		}
	}
	return min(first, memory.ChunkBytes), ahead
}

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
	for _, box := range t.departed {
		box.Flush(w)
	}
	rt := t.routes.Load()
	t.mu.Unlock()
	if rt != nil {
		for _, box := range rt.live {
			box.Flush(w)
		}
	}
}

// urge makes every open batch ready: somebody waits for the budget.
func (r *Router) urge() {
	for _, t := range r.sorted() {
		if rt := t.routes.Load(); rt != nil {
			for _, box := range rt.live {
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
			for _, box := range rt.live {
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
		for _, box := range t.departed {
			n += box.Unanswered()
		}
		rt := t.routes.Load()
		if rt == nil {
			rt = t.pending
		}
		t.mu.Unlock()
		if rt != nil {
			for _, box := range rt.live {
				n += box.Unanswered()
			}
		}
	}
	return n
}

// Reannounce has every partition say once more whether it is ready: a broker has
// crashed and may have lost what it was told.
func (r *Router) Reannounce() {
	for _, t := range r.sorted() {
		if rt := t.routes.Load(); rt != nil {
			for _, box := range rt.live {
				box.Reannounce()
			}
		}
	}
}
