package accumulator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
)

var (
	randomSeed  = flag.Uint64("seed", 0, "replay one seed of TestRandomSteps")
	randomSeeds = flag.Int("seeds", 150, "how many seeds TestRandomSteps tries")
	randomSteps = flag.Int("steps", 1500, "how many steps each seed takes")
)

// TestRandomSteps drives a partition through random appends, takes, answers,
// losses, elections and time, against a model of its log, and looks at the
// invariant after each step and at the promises at the end.
func TestRandomSteps(t *testing.T) {
	first, n := uint64(1), *randomSeeds
	if *randomSeed != 0 {
		first, n = *randomSeed, 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		w := newWalk(t, seed)
		w.walk(*randomSteps)
		w.drain()
		w.judge()
		if t.Failed() {
			t.Fatalf("replay: go test ./actors/accumulator -run TestRandomSteps -seed %d -steps %d", seed, *randomSteps)
		}
	}
}

// walk is one seed: a partition, its cluster, and what lies between them.
type walk struct {
	*rig
	random *rand.Rand
	model  model

	connections map[int32][]*flight
	zombies     map[int32][]*flight // received before a connection ended, not handled yet
	queued      map[int32]messages.Class
	waiting     map[int32]bool // for an identity
	offered     map[int32]messages.Identity
	identity    messages.Identity
	compress    []*batch
	unended     []*flight
	cancels     []context.CancelCauseFunc

	records   []walkRecord // by tag − 1
	handed    uint64       // the last tag handed over for the first time
	sequences map[walkNumber]uint64
	next      map[messages.Identity]int32
	history   []string
}

type walkRecord struct {
	answers  int
	delivery messages.Delivery
	acks     messages.Acks
}

type walkNumber struct {
	identity messages.Identity
	sequence int32
}

const walkBrokers = 3

func newWalk(t *testing.T, seed uint64) *walk {
	random := rand.New(rand.NewPCG(seed, 99))
	c := testConfig()
	c.random = random
	c.batchMaxBytes = 60 + random.IntN(300)
	c.deliveryTimeout = time.Duration(1+random.IntN(4)) * time.Second
	c.idempotent = random.IntN(5) > 0
	c.resendInnocent = random.IntN(2) == 0
	if random.IntN(3) == 0 {
		c.retry.Retries = 3 + random.IntN(5)
	}
	return &walk{
		rig: newRig(t, c), random: random, model: model{leader: 1, epoch: 1},
		connections: make(map[int32][]*flight), zombies: make(map[int32][]*flight), queued: make(map[int32]messages.Class),
		waiting: make(map[int32]bool), offered: make(map[int32]messages.Identity), identity: messages.Identity{ProducerID: 500_000, Generation: 1},
		sequences: make(map[walkNumber]uint64), next: make(map[messages.Identity]int32),
	}
}

func (w *walk) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

func (w *walk) fail(format string, args ...any) {
	w.t.Helper()
	from := max(0, len(w.history)-60)
	for _, h := range w.history[from:] {
		w.t.Log(h)
	}
	w.t.Errorf(format, args...)
}

func (w *walk) walk(steps int) {
	for i := 0; i < steps && !w.t.Failed(); i++ {
		w.step1()
		w.after()
	}
}

func (w *walk) step1() {
	broker := int32(1 + w.random.IntN(walkBrokers))
	switch w.random.IntN(24) {
	case 0, 1, 2, 3, 4:
		w.admit()
	case 5, 6, 7, 8:
		w.takeFrom(w.s.leader.ID)
	case 9:
		w.takeFrom(broker)
	case 10, 11, 12:
		w.arrive(broker)
	case 13, 14, 15:
		w.answer(broker)
	case 16:
		w.model.commit()
	case 17:
		w.advance(time.Duration(w.random.IntN(int(60 * time.Millisecond))))
	case 18:
		if w.random.IntN(6) == 0 {
			w.cut(broker)
		}
	case 19:
		if w.random.IntN(8) == 0 {
			w.note("elect %d", broker)
			w.model.elect(broker, w.random.IntN(2) == 0)
		}
	case 20:
		w.refresh()
	case 21:
		w.offered[broker] = w.identity
		delete(w.waiting, broker)
	case 22:
		w.zombie(broker)
	case 23:
		w.rare()
	}
}

func (w *walk) rare() {
	switch w.random.IntN(12) {
	case 0:
		w.advance(time.Duration(w.random.IntN(int(2 * w.s.deliveryTimeout))))
	case 1:
		w.note("a long time")
		w.advance(2 * time.Hour)
	case 2, 3, 4:
		if n := len(w.cancels); n > 0 {
			w.cancels[w.random.IntN(n)](errors.New("cancelled"))
		}
	case 5, 6, 7:
		w.step()
	case 8:
		// One record always fits.
		w.model.maxBytes = (100 + w.random.IntN(250)) * w.random.IntN(2)
		w.note("max.message.bytes is %d", w.model.maxBytes)
	default:
		if o := w.s.open; o != nil && o.count > 0 {
			o.urgent = true
			w.s.review(w.now)
		}
	}
}

func (w *walk) admit() {
	acks := messages.AcksAll
	if w.random.IntN(12) == 0 {
		acks = messages.AcksLeader
	}
	codec := codecs.None
	if w.random.IntN(10) == 0 {
		codec = codecs.Gzip
	}
	var ctx context.Context
	if !w.model.calm && w.random.IntN(10) == 0 {
		c, cancel := context.WithCancelCause(context.Background())
		ctx, w.cancels = c, append(w.cancels, cancel)
	}
	for range 1 + w.random.IntN(3) {
		w.records = append(w.records, walkRecord{acks: acks})
		tag := uint64(len(w.records))
		status := w.append(&messages.Admission{
			Record:   &messages.Record{Value: []byte(strconv.FormatUint(tag, 10)), Tag: tag},
			Callback: w.called, Context: ctx, Acks: acks, Codec: codec, Urgent: w.random.IntN(4) == 0,
		})
		if status != messages.Appended {
			w.fail("record %d is refused", tag)
		}
	}
}

func (w *walk) called(d messages.Delivery) {
	r := &w.records[d.Tag-1]
	r.answers++
	r.delivery = d
	w.note("%d is %v (%v)", d.Tag, d.Status, d.Err)
}

func (w *walk) takeFrom(broker int32) {
	class, ok := w.queued[broker]
	if !ok || w.waiting[broker] {
		return
	}
	identity, known := w.offered[broker]
	if !known {
		identity = messages.NoIdentity
	}
	a, status := w.take(messages.TakeRequest{Broker: broker, Identity: identity, Class: class})
	switch status {
	case messages.TakeReclass:
		w.queued[broker] = w.s.classOf(w.s.next())
	case messages.TakeNeedsIdentity:
		w.waiting[broker] = true
	case messages.TakeDone:
		delete(w.queued, broker)
	}
	if a == nil {
		return
	}
	f := &flight{attempt: a, wire: readWire(w.t, a, w.box.settings.Codecs)}
	for _, v := range f.wire.values {
		tag, _ := strconv.ParseUint(v, 10, 64)
		f.tags = append(f.tags, tag)
	}
	w.note("broker %d takes %v as %v/%d, attempt %d", broker, f.tags, f.wire.identity, f.wire.sequence, a.number)
	w.lookAtNumbers(f)
	w.connections[broker] = append(w.connections[broker], f)
	w.unended = append(w.unended, f)
}

// lookAtNumbers holds the promises about what is handed over.
func (w *walk) lookAtNumbers(f *flight) {
	for _, b := range w.s.inFlight {
		if b.current.broker != f.attempt.broker || b.numbered != f.attempt.batch.numbered || b.current.lane != f.attempt.lane {
			w.fail("records %v go to broker %d while batch %v is in flight elsewhere", f.tags, f.attempt.broker, b.order)
		}
	}
	if f.attempt.batch.attempts == 1 {
		if f.tags[0] <= w.handed {
			w.fail("records %v come after %d", f.tags, w.handed)
		}
		w.handed = f.tags[len(f.tags)-1]
	}
	if f.wire.sequence < 0 {
		return
	}
	known := 0
	for i, tag := range f.tags {
		n := walkNumber{f.wire.identity, f.wire.sequence + int32(i)}
		before, ok := w.sequences[n]
		if ok && before != tag {
			w.fail("sequence %v names record %d and %d", n, before, tag)
		}
		if ok {
			known++
		}
		w.sequences[n] = tag
	}
	if known == 0 {
		if next := w.next[f.wire.identity]; f.wire.sequence != next {
			w.fail("identity %v goes on at %d, expected %d", f.wire.identity, f.wire.sequence, next)
		}
		w.next[f.wire.identity] = f.wire.sequence + int32(len(f.tags))
	} else if known != len(f.tags) {
		w.fail("batch %v overlaps another", f.tags)
	}
}

func (w *walk) arrive(broker int32) {
	for _, f := range w.connections[broker] {
		if !f.arrived {
			w.model.arrive(broker, f, w.random)
			w.note("%v arrives at %d: %+v", f.tags, broker, f.result)
			return
		}
	}
}

func (w *walk) zombie(broker int32) {
	if z := w.zombies[broker]; len(z) > 0 {
		w.zombies[broker] = z[1:]
		w.model.arrive(broker, z[0], w.random)
		w.note("%v arrives late at %d", z[0].tags, broker)
	}
}

func (w *walk) answer(broker int32) {
	c := w.connections[broker]
	if len(c) == 0 || c[0].result == nil {
		return
	}
	w.connections[broker] = c[1:]
	w.end(c[0])
	r := *c[0].result
	r.Now, r.Broker = w.now, broker
	w.note("%v is answered %d at %d", c[0].tags, r.Code, r.BaseOffset)
	w.s.results = append(w.s.results, result{c[0].attempt, r})
	if w.random.IntN(3) > 0 {
		w.step()
	}
}

// cut ends a connection. Of the requests that were not handled, a first part has
// reached the broker all the same, and a last part was never written.
func (w *walk) cut(broker int32) {
	c := w.connections[broker]
	w.connections[broker] = nil
	w.note("connection to %d is cut", broker)
	received := true
	unsent := len(c)
	if len(c) > 0 {
		unsent = len(c) - w.random.IntN(2)*w.random.IntN(len(c))
	}
	for i, f := range c {
		sent := f.arrived || i < unsent
		if !f.arrived {
			received = received && sent && w.random.IntN(2) == 0
			if received {
				w.zombies[broker] = append(w.zombies[broker], f)
			}
		}
		w.end(f)
		r := lostResult(sent)
		r.Now, r.Broker = w.now, broker
		w.s.results = append(w.s.results, result{f.attempt, r})
	}
	w.step()
}

// end ends a write, now or later.
func (w *walk) end(f *flight) {
	if w.random.IntN(4) > 0 && !f.ended {
		f.ended = true
		f.attempt.WriteEnded()
	}
}

func (w *walk) refresh() {
	if w.random.IntN(10) == 0 {
		w.assign(-1, w.model.epoch)
		return
	}
	w.assign(w.model.leader, w.model.epoch)
}

func (w *walk) advance(d time.Duration) {
	end := w.now.Add(d)
	for range 1000 {
		at := min(w.s.nextDeadline(w.now), w.s.lingering(w.now))
		if at > end {
			break
		}
		w.now = max(w.now, at)
		w.step()
		w.after()
	}
	w.now = end
}

// after does what the last step asked for, and looks at the invariant.
func (w *walk) after() {
	fx := w.effects()
	if fx.announce {
		if _, ok := w.queued[w.s.leader.ID]; !ok {
			w.queued[w.s.leader.ID] = fx.class
		}
	}
	if fx.bump && w.identity == fx.bumpFrom {
		w.identity.Epoch++
		if w.random.IntN(4) == 0 {
			// Used up: another broker's block of ids may lie below.
			w.identity.ProducerID, w.identity.Epoch = int64(w.random.IntN(1_000_000)), 0
		}
		w.identity.Generation++
	}
	w.compress = append(w.compress, fx.compress...)
	if len(w.compress) > 0 && w.random.IntN(3) == 0 {
		p := w.compress[0]
		w.compress = w.compress[1:]
		w.pack(p)
		w.after()
		return
	}
	if err := w.s.invariant(); err != nil {
		w.fail("%v", err)
	}
}

// drain lets everything end without further faults. Records that come now have to
// arrive: whatever happened before, the partition goes on.
func (w *walk) drain() {
	w.model.calm = true
	w.s.deliveryTimeout = time.Hour
	fresh := len(w.records)
	w.admit()
	defer func() {
		for i := fresh; i < len(w.records); i++ {
			if d := w.records[i].delivery; d.Status != messages.Persisted && !w.t.Failed() {
				w.fail("record %d did not arrive in calm: %v", i+1, d.Err)
			}
		}
	}()
	for round := 0; round < 5000 && !w.t.Failed(); round++ {
		if w.s.unanswered == 0 && len(w.s.inFlight) == 0 && len(w.s.pending) == 0 {
			break
		}
		for len(w.compress) > 0 {
			w.after()
		}
		w.assign(w.model.leader, w.model.epoch)
		w.after()
		for b := int32(1); b <= walkBrokers; b++ {
			w.offered[b] = w.identity
			delete(w.waiting, b)
			w.takeFrom(b)
			w.after()
			w.arrive(b)
			w.model.commit()
			w.answer(b)
			w.step()
			w.after()
		}
		w.advance(10 * time.Millisecond)
	}
	if w.s.unanswered > 0 {
		w.fail("%d records have no outcome: pending %d, in flight %d, queued %v, announced %v",
			w.s.unanswered, len(w.s.pending), len(w.s.inFlight), w.queued, w.s.announced)
	}
	for b := int32(1); b <= walkBrokers; b++ {
		for len(w.zombies[b]) > 0 {
			w.zombie(b)
		}
	}
	for _, f := range w.unended {
		if !f.ended {
			f.ended = true
			f.attempt.WriteEnded()
		}
	}
	if o := w.s.open; o != nil {
		w.s.failAll(messages.ErrClosed)
		w.after()
	}
	for len(w.compress) > 0 {
		w.after() // the codec still reads what is answered already
	}
}

// judge holds the promises about outcomes.
func (w *walk) judge() {
	if w.t.Failed() {
		return
	}
	if used := w.budget.Used(); used != 0 {
		w.fail("%d bytes of the budget are not given back", used)
	}
	copies := make(map[uint64]int)
	last, newest := uint64(0), int64(0)
	for _, b := range w.model.log {
		for _, tag := range b.tags {
			copies[tag]++
			if b.sequence < 0 {
				continue
			}
			if w.records[tag-1].delivery.Status != messages.Persisted && b.identity.ProducerID != newest {
				// A request in doubt that arrives under an id that is used up: only
				// an epoch of the same id would have fenced it.
				continue
			}
			newest = b.identity.ProducerID
			if tag <= last {
				w.fail("record %d stands behind %d in the log", tag, last)
			}
			last = tag
		}
	}
	for i := range w.records {
		tag, r := uint64(i+1), &w.records[i]
		if r.answers != 1 {
			w.fail("record %d has %d outcomes", tag, r.answers)
		}
		if r.delivery.Status == messages.NotPersisted && copies[tag] > 0 {
			w.fail("record %d is in the log, and was called not persisted: %v", tag, r.delivery.Err)
		}
		if !w.s.idempotent || r.acks != messages.AcksAll {
			continue
		}
		if copies[tag] > 1 {
			w.fail("record %d is %d times in the log", tag, copies[tag])
		}
		if r.delivery.Status == messages.Persisted && copies[tag] == 0 {
			w.fail("record %d was acknowledged, and is not in the log", tag)
		}
	}
}
