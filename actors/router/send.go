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
	ctx      context.Context
	callback messages.Callback
	options  Options
	reject   func(*messages.Record, error)
	number   uint64
	lists    *sendLists
}

// sendLists are the lists of one call, kept for later ones: they are larger than
// the records of many.
type sendLists struct {
	todo    pile
	groupOf []int32              // by record of todo; noGroup: rejected
	grouped []messages.Admission // todo by group, if there are several
	used    int                  // of each, at the most
}

// maxKeptSend is the number of records up to which a call's lists are kept.
const maxKeptSend = 4096

// noGroup is the group of a record that was rejected.
const noGroup = -1

var sendListsPool = sync.Pool{New: func() any { return new(sendLists) }}

func (l *sendLists) put() {
	if cap(l.todo.topics) > maxKeptSend || cap(l.todo.admissions) > maxKeptSend || cap(l.grouped) > maxKeptSend {
		return
	}
	// The pool must not keep the caller's memory alive.
	clear(l.todo.topics[:min(l.used, cap(l.todo.topics))])
	clear(l.todo.admissions[:min(l.used, cap(l.todo.admissions))])
	clear(l.grouped[:min(l.used, cap(l.grouped))])
	sendListsPool.Put(l)
}

// pile is records that have not found their places, with their topics.
type pile struct {
	topics     []*Topic
	admissions []messages.Admission
}

func (p *pile) add(t *Topic, a *messages.Admission) {
	p.topics = append(p.topics, t)
	p.admissions = append(p.admissions, *a)
}

// group is the records of one call that go to one partition, in order.
type group struct {
	place
	routes     *routes
	count      int
	admissions []messages.Admission
}

type place struct {
	topic     *Topic
	partition int32
}

// SendAll admits records of one call: those of one partition stand together and
// in order in its log, as far as one batch holds them. reject is called for each
// record that was not admitted; callback, with the record's tag, for all others, or
// many, unless it is nil, for those side by side that end alike.
// All the waits for room of one call take no longer than o.MaxBlock together.
func (r *Router) SendAll(ctx context.Context, records []messages.Record, callback messages.Callback, many messages.RangeCallback, o Options, reject func(*messages.Record, error)) {
	refused := r.Refused()
	if err := ctx.Err(); refused == nil && err != nil {
		refused = messages.CauseOf(ctx, err)
	}
	if refused != nil {
		for i := range records {
			reject(&records[i], refused)
		}
		return
	}
	o.Since = r.Settings.Clock.Now()
	s := &sending{Router: r, ctx: ctx, callback: callback, options: o, reject: reject, number: r.calls.Add(1), lists: sendListsPool.Get().(*sendLists)}
	defer s.lists.put()
	var own context.Context
	if ctx.Done() != nil {
		own = ctx
	}
	todo := &s.lists.todo
	todo.topics, todo.admissions = slices.Grow(todo.topics[:0], len(records)), slices.Grow(todo.admissions[:0], len(records))
	s.lists.used = len(records)
	a := messages.Admission{
		Callback: callback, Range: many, Context: own, Acks: o.Acks, Codec: o.Codec, TimeoutMs: o.TimeoutMs,
		Urgent: o.Urgent, Prompt: o.Prompt, Wait: o.Wait, MaxBlock: o.MaxBlock, Since: o.Since,
	}
	var t *Topic
	for i := range records {
		record := &records[i]
		var err error
		if t == nil || t.name != record.Topic {
			t, err = r.Topic(record.Topic)
		}
		if err == nil {
			a.Record = record
			a.Bytes, err = t.check(record)
		}
		if err != nil {
			reject(record, err)
			continue
		}
		todo.add(t, &a)
	}
	left := *todo
	for round := 0; round < sendRounds && len(left.topics) > 0; round++ {
		left = s.round(left)
	}
	for i, t := range left.topics {
		record := left.admissions[i].Record
		if err := t.Produce(ctx, record, callback, o); err != nil {
			reject(record, err)
		}
	}
}

// round finds the partitions of records and appends those of each together. It
// returns the records whose topic changed meanwhile, those of each partition in
// order.
func (s *sending) round(todo pile) (again pile) {
	for _, g := range s.groups(todo) {
		var err error
		rest := g.admissions
		if g.partition == unplaced {
			var n int
			n, err = g.topic.park(s.ctx, rest, s.number)
			rest = rest[n:]
		} else {
			rest, err = s.send(&g)
		}
		for i := range rest {
			switch {
			case errors.Is(err, errMoved):
				// Its partition is chosen once, as it was for records of this call that
				// have moved with theirs: in another it could come behind or before them.
				rest[i].Record.Partition = messages.AtPartition(g.partition)
				again.add(g.topic, &rest[i])
			case errors.Is(err, errKnown):
				again.add(g.topic, &rest[i])
			default:
				s.reject(rest[i].Record, err)
			}
		}
	}
	return again
}

// groups chooses the partition of each record, once, and puts together what goes
// to the same. A call to one partition, which most are, is one group as it stands.
func (s *sending) groups(todo pile) []group {
	groups := s.choose(todo)
	if len(groups) == 1 && groups[0].count == len(todo.topics) {
		groups[0].admissions = todo.admissions
		return groups
	}
	at := 0
	grouped := slices.Grow(s.lists.grouped[:0], len(todo.topics))[:len(todo.topics)]
	s.lists.grouped = grouped
	for i := range groups {
		g := &groups[i]
		g.admissions = grouped[at : at : at+g.count]
		at += g.count
	}
	for i, n := range s.lists.groupOf {
		if n != noGroup {
			groups[n].admissions = append(groups[n].admissions, todo.admissions[i])
		}
	}
	return groups
}

// choose finds the groups of records, without filling them. All records of a topic
// see the same routes: else a later one could find the partition before an earlier.
func (s *sending) choose(todo pile) (groups []group) {
	groupOf := slices.Grow(s.lists.groupOf[:0], len(todo.topics))
	index := make(map[place]int32)
	seen := make(map[*Topic]*routes)
	var rt *routes
	for i, t := range todo.topics {
		if i == 0 || t != todo.topics[i-1] {
			looked := false
			if rt, looked = seen[t]; !looked {
				rt = t.routes.Load()
				seen[t] = rt
			}
		}
		record := todo.admissions[i].Record
		partition, err := int32(unplaced), error(nil)
		if rt != nil {
			if partition, _, err = t.choose(rt, record); errors.Is(err, errBeyond) {
				record.Partition = messages.AtPartition(partition)
				partition, err = unplaced, nil
			}
		}
		if err != nil {
			s.reject(record, err)
			groupOf = append(groupOf, noGroup)
			continue
		}
		p, n := place{t, partition}, int32(noGroup)
		if i > 0 {
			n = groupOf[i-1] // most often the same
		}
		if n == noGroup || groups[n].place != p {
			known := false
			if n, known = index[p]; !known {
				n = int32(len(groups))
				index[p] = n
				groups = append(groups, group{place: p, routes: rt})
			}
		}
		groups[n].count++
		groupOf = append(groupOf, n)
	}
	s.lists.groupOf = groupOf
	return groups
}

// send appends a group. It returns what was not appended, and why.
func (s *sending) send(g *group) ([]messages.Admission, error) {
	box := g.routes.boxes[g.partition]
	return appendTogether(box, g.admissions, s.options.Urgent, s.Budget, func(bytes int, must bool) (*memory.Chunk, error) {
		if !must {
			return s.Budget.TryAcquire(box.Account(), bytes)
		}
		return g.topic.room(s.ctx, box.Account(), bytes, &g.admissions[0])
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
	if rt := t.knownLocked(); rt != nil {
		// Under the lock: no batch moves to another partition meanwhile.
		for _, box := range rt.live {
			box.Flush(w)
		}
	}
	t.mu.Unlock()
}

// urge makes every open batch ready: somebody waits for the budget.
func (r *Router) urge() {
	for _, t := range r.sorted() {
		if rt := t.known(); rt != nil {
			for _, box := range rt.live {
				box.Urge()
			}
		}
	}
}

// FailAll answers every record that is left with cause.
func (r *Router) FailAll(cause error) {
	for _, t := range r.sorted() {
		t.refuseParked(t.because(cause))
		t.failDeparted(cause)
		if rt := t.known(); rt != nil {
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
		rt := t.knownLocked()
		t.mu.Unlock()
		if rt != nil {
			for _, box := range rt.live {
				n += box.Unanswered()
			}
		}
	}
	return n
}

// Count has every partition tell the producer's counters what it has counted.
func (r *Router) Count() {
	for _, t := range r.sorted() {
		t.mu.Lock()
		boxes := slices.Clone(t.departed)
		if rt := t.knownLocked(); rt != nil {
			boxes = append(boxes, rt.live...)
		}
		t.mu.Unlock()
		for _, box := range boxes {
			box.Count()
		}
	}
}

// Reannounce has every partition say once more whether it is ready: a broker has
// crashed and may have lost what it was told.
func (r *Router) Reannounce() {
	for _, t := range r.sorted() {
		if rt := t.known(); rt != nil {
			for _, box := range rt.live {
				box.Reannounce()
			}
		}
	}
}
