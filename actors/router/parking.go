package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

var (
	errBeyond = errors.New("partition beyond the known ones")
	// errKnown sends a caller who came to park a record the direct way.
	errKnown = errors.New("the partition is known by now")
)

// parking holds the records of a topic whose partitions are not known, or that
// name a partition beyond the known ones. While it holds any, later records of
// the topic queue up behind them: order survives the discovery of a topic.
type parking struct {
	share *memory.Account // what its chunks are charged to

	mu      sync.Mutex
	parked  []parked
	chunks  []*memory.Chunk
	flushes []*messages.FlushWaiter
	// pending is known, and not drained into yet: what callers use is older, or
	// there is nothing that they can use. Partitions of it may hold records.
	pending *routes
	// leaving is how many records are parked no more and have not been answered
	// yet; a Flush that comes now waits for their callbacks, too.
	leaving int
	late    []*messages.FlushWaiter
	// departed are partitions that callers reach no more while some of their
	// callbacks have yet to run: a Flush that comes now waits for those, too. Only
	// the keeper's turns change it.
	departed []messages.Appender
	// refreshes counts answers that described the topic: a record that names an
	// unknown partition waits for one.
	refreshes uint64
	// asked says that the keeper has been told that somebody wants the topic, and
	// has not answered since.
	asked bool
}

// parked is a copy of a record, in a chunk of the parking's own.
type parked struct {
	record   messages.Record
	callback messages.Callback
	replyTo  messages.Recipient
	ctx      context.Context
	options  Options
	bytes    int
	at       seams.Instant // when it came: its delivery timeout and its wait for the topic began
	seen     uint64        // refreshes when it came
	call     uint64        // records of one Send have the same number, which is not 0
}

// What a parked record costs besides its bytes.
const (
	parkedOverhead = 256
	headerOverhead = 48
)

// parkedBytes is the room that a record takes while it is parked.
func parkedBytes(r *messages.Record) int {
	n := len(r.Key) + len(r.Value) + parkedOverhead
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + headerOverhead
	}
	return n
}

// park copies records and queues them, side by side as far as there is room. It
// returns how many it took, and why not all: errKnown if the rest can go the
// direct way. Callers may have to wait for room like everybody else, but not for
// longer than their topic is unknown.
func (t *Topic) park(ctx context.Context, list []messages.Admission, call uint64) (int, error) {
	r := t.router
	var spare []*memory.Chunk
	defer func() { r.Budget.Release(spare...) }()
	var since uint64 // refreshes at the first look
	total, looked, partly := 0, false, false
	for {
		t.mu.Lock()
		if !looked {
			since, looked = t.refreshes, true
		}
		turn, first := t.share.Turn(), len(t.parked) == 0
		took := 0
		err := t.parkable(&list[0], since)
		if err == nil && (partly || t.holdsAll(list, spare)) {
			now := r.Settings.Clock.Now()
			for err == nil && took < len(list) && t.add(&spare, &list[took], now, call) {
				if took++; took < len(list) {
					err = t.parkable(&list[took], since)
				}
			}
		}
		if took > 0 && first {
			t.asked = true
		}
		t.mu.Unlock()
		if took > 0 {
			if partly = false; first {
				r.tellActor(&topicWanted{t})
			}
		}
		total, list = total+took, list[took:]
		if err != nil || len(list) == 0 {
			return total, err
		}
		var chunk *memory.Chunk
		chunk, partly, err = t.parkingRoom(ctx, list, turn, len(spare) > 0 && !partly)
		if err != nil {
			return total, err
		}
		if chunk != nil {
			spare = append(spare, chunk)
		}
	}
}

// parkable says why a record must not be parked now. The caller holds the lock.
func (t *Topic) parkable(a *messages.Admission, since uint64) error {
	if rt := t.routes.Load(); rt != nil {
		// Known since the caller looked. What is still parked then names
		// partitions beyond the known ones.
		id, set := a.Record.Partition.Get()
		if !set || rt.has(id) {
			return errKnown
		}
		if t.refreshes != since && (t.pending == nil || !t.pending.has(id)) {
			return t.beyond(rt, id)
		}
	}
	if err := t.router.Refused(); err != nil {
		return err
	}
	if p := t.err.Load(); p != nil {
		// Under the lock: whoever stores it answers what is parked by then.
		return &messages.DeliveryError{Topic: t.name, Partition: -1, Broker: -1, Cause: *p}
	}
	return nil
}

func (t *Topic) beyond(rt *routes, id int32) error {
	return fmt.Errorf("%w: topic %s has partitions 0 to %d, the record names %d", messages.ErrUnknownPartition, t.name, len(rt.boxes)-1, id)
}

// holdsAll reports whether the last chunk and the spare ones have room for all
// records.
func (p *parking) holdsAll(list []messages.Admission, spare []*memory.Chunk) bool {
	room := 0
	if n := len(p.chunks); n > 0 {
		room = cap(p.chunks[n-1].Bytes) - len(p.chunks[n-1].Bytes)
	}
	for i := range list {
		need := parkedBytes(list[i].Record)
		for room < need {
			if len(spare) == 0 {
				return false
			}
			room, spare = cap(spare[0].Bytes), spare[1:]
		}
		room -= need
	}
	return true
}

// parkingRoom takes a chunk for the first records of list. It reports true when
// the caller should park what it can before it waits, and returns nothing when
// the topic has changed and the caller must look again.
func (t *Topic) parkingRoom(ctx context.Context, list []messages.Admission, turn uint64, mayPark bool) (*memory.Chunk, bool, error) {
	b := t.router.Budget
	need, all := max(parkedBytes(list[0].Record), memory.SmallChunkBytes), 0
	for i := range list {
		if all += parkedBytes(list[i].Record); all >= memory.ChunkBytes {
			break
		}
	}
	for _, n := range []int{max(need, min(all, memory.ChunkBytes)), need} {
		if chunk := b.AcquireNow(t.share, n); chunk != nil {
			return chunk, false, nil
		}
	}
	if mayPark {
		return nil, true, nil
	}
	// It may have been forgotten while idle. Asked before the wait: only an answer
	// ends it.
	if t.ask() {
		t.router.tellActor(&topicWanted{t})
	}
	if !list[0].Wait {
		chunk, err := b.TryAcquire(t.share, need)
		return chunk, chunk != nil, t.bufferError(err, t.share, need)
	}
	chunk, err := t.waitForRoom(ctx, t.share, need, &list[0], func(bound context.Context) (*memory.Chunk, error) {
		return b.AcquireInTurn(bound, t.share, need, turn)
	})
	if errors.Is(err, memory.ErrRoused) {
		return nil, false, nil
	}
	return chunk, chunk != nil, err
}

// ask reports whether nobody has asked since the last answer, and notes that
// somebody does now.
func (t *Topic) ask() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := t.asked
	t.asked = true
	return !asked
}

// add copies a record into the last chunk, or into a spare one. It reports false
// when neither has room.
func (p *parking) add(spare *[]*memory.Chunk, a *messages.Admission, now seams.Instant, call uint64) bool {
	need := parkedBytes(a.Record)
	for n := len(p.chunks); n == 0 || cap(p.chunks[n-1].Bytes)-len(p.chunks[n-1].Bytes) < need; n = len(p.chunks) {
		if len(*spare) == 0 {
			return false
		}
		p.chunks, *spare = append(p.chunks, (*spare)[0]), (*spare)[1:]
	}
	chunk := p.chunks[len(p.chunks)-1]
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
	p.parked = append(p.parked, parked{
		record: record, callback: a.Callback, replyTo: a.ReplyTo, ctx: a.Context, bytes: a.Bytes, at: now, seen: p.refreshes, call: call,
		options: Options{Acks: a.Acks, Codec: a.Codec, Urgent: a.Urgent, TimeoutMs: a.TimeoutMs},
	})
	return true
}

// refusedRecord is a parked record that will not reach a partition.
type refusedRecord struct {
	parked
	cause error
}

// answerOne answers a parked record that will not reach a partition: it is not
// persisted.
func (t *Topic) answerOne(f refusedRecord) {
	t.router.Settings.Counters.Shard(len(t.name)).Outcome(messages.NotPersisted, 1)
	if f.callback == nil && f.replyTo == nil {
		return
	}
	defer func() {
		if reason := recover(); reason != nil {
			t.router.Settings.LogPanic(reason).Str("topic", t.name).Msg("a delivery callback panicked")
		}
	}()
	d := refusal(&f.record, nil)
	d.Topic = t.name
	d.Err = &messages.DeliveryError{Topic: t.name, Partition: d.Partition, Broker: -1, Cause: f.cause}
	if f.replyTo != nil {
		t.router.deliver(f.replyTo, d)
		return
	}
	f.callback(d)
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
	t.rouse()
	t.finishParked(refused, chunks, flushes)
}

// known is the newest routes: those that parked records are still being drained
// into, or else those that callers use. It has every partition that lives.
func (t *Topic) known() *routes {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.knownLocked()
}

func (t *Topic) knownLocked() *routes {
	if t.pending != nil {
		return t.pending
	}
	return t.routes.Load()
}

// refreshed takes note of an answer about the topic, by which some partitions have
// left.
func (t *Topic) refreshed(left ...messages.Appender) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refreshes++
	t.asked = false
	for _, box := range left {
		t.departLocked(box)
	}
}

// departLocked keeps partitions, which are about to leave the routes, in sight
// until all their records have been called back for. Those that left in earlier
// turns have been closed since, so what has nothing left will have nothing more.
func (t *Topic) departLocked(boxes ...messages.Appender) {
	t.departed = slices.DeleteFunc(t.departed, func(box messages.Appender) bool { return box.Unanswered() == 0 })
	t.departed = append(t.departed, boxes...)
}

// failDeparted is for those that a crash kept from moving on.
func (t *Topic) failDeparted(cause error) {
	t.mu.Lock()
	boxes := slices.Clone(t.departed)
	t.mu.Unlock()
	for _, box := range boxes {
		box.FailAll(cause)
	}
}

// depart is departLocked for those who do not hold the lock.
func (t *Topic) depart(boxes ...messages.Appender) (left int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.departLocked(boxes...)
	return len(t.departed)
}

// forget makes the topic unknown again, and its partitions reachable for nobody.
func (t *Topic) forget(old *routes) {
	t.mu.Lock()
	t.departLocked(old.live...)
	t.routes.Store(nil)
	t.pending, t.asked = nil, false
	t.mu.Unlock()
	t.rouse()
}

// rouse makes callers who wait for parking room look at the topic again.
func (t *Topic) rouse() { t.router.Budget.Rouse(t.share) }

// endLocked empties the parking and opens the topic to the caller's path, with
// rt as its routes unless that is nil. What waited for parked records waits for
// the batches that some of them may have reached.
func (t *Topic) endLocked(rt *routes) ([]*memory.Chunk, []*messages.FlushWaiter) {
	chunks, flushes := t.chunks, t.flushes
	t.parked, t.chunks, t.flushes, t.pending = nil, nil, nil, nil
	if rt != nil {
		t.routes.Store(rt)
		for _, w := range flushes {
			for _, box := range rt.live {
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
	next := 0
	var work func()
	work = func() {
		ended := false
		defer func() {
			if !ended { // a callback has ended its goroutine, as a test's FailNow does
				t.router.Settings.Executor.Run(work)
			}
		}()
		for next < len(refused) {
			next++
			t.answerOne(refused[next-1])
		}
		ended = true
		t.router.Budget.Release(chunks...)
		t.mu.Lock()
		if t.leaving -= len(refused); t.leaving == 0 {
			flushes, t.late = append(flushes, t.late...), nil
		} else {
			// Others that left before are still being answered.
			t.late = append(t.late, flushes...)
			flushes = nil
		}
		t.mu.Unlock()
		for _, w := range flushes {
			w.Done()
		}
	}
	t.router.Settings.Executor.Run(work)
}

// expireParked answers the records whose time is over: those that have waited for
// the topic since an instant before wait, and those that were admitted longer ago
// than the delivery timeout.
func (t *Topic) expireParked(now seams.Instant, wait seams.Instant, why func(*Topic) error) {
	timeout := t.router.Settings.DeliveryTimeout
	t.mu.Lock()
	var refused []refusedRecord
	var late, old error
	n := 0 // stay
	for i := range t.parked {
		p := &t.parked[i]
		ended := messages.EndOf(p.ctx)
		switch {
		case ended != nil:
			refused = append(refused, refusedRecord{*p, ended})
		case p.at <= wait:
			if late == nil {
				late = why(t)
			}
			refused = append(refused, refusedRecord{*p, late})
		case timeout > 0 && p.at <= now.Add(-timeout):
			if old == nil {
				old = t.because(fmt.Errorf("%w after %v, while its topic was not known", messages.ErrDeliveryTimeout, timeout))
			}
			refused = append(refused, refusedRecord{*p, old})
		default:
			if n < i { // until one is refused, all stand where they are to stand
				t.parked[n] = *p
			}
			n++
		}
	}
	clear(t.parked[n:])
	t.parked = t.parked[:n]
	var chunks []*memory.Chunk
	var flushes []*messages.FlushWaiter
	opens := n == 0 && t.pending != nil
	if n == 0 {
		chunks, flushes = t.endLocked(t.pending)
	}
	t.leaving += len(refused)
	t.mu.Unlock()
	if opens {
		t.rouse()
	}
	t.finishParked(refused, chunks, flushes)
}
