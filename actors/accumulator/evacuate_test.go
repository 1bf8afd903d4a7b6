package accumulator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// successor is the partition of the topic's next creation, with the same budget.
func (r *rig) successor() *rig {
	next := newRig(r.t, testConfig())
	next.now, next.budget, next.box.budget = r.now, r.budget, r.budget
	next.box.account.Store(r.box.Account())
	next.s.grow = func(c *memory.Chunk, n int) { r.budget.Grow(r.box.Account(), c, n) }
	next.s.recall(messages.LastSequence{Identity: r.s.identity, Gap: true})
	next.enact()
	return next
}

// TestMoveTo: batches that are certainly in no log go to the next partition as they
// are, in order, with their callbacks and those who wait for a flush: one that was
// refused, one that is compressed, one that a codec has, and the open one. The move
// itself takes no memory.
func TestMoveTo(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	var got []string
	add := func(name string) *batch {
		a := admission(strings.Repeat(name+" ", 20), func(d messages.Delivery) {
			if d.Err != nil || d.Offset != int64(len(got)) {
				t.Errorf("%s: offset %d, %v", name, d.Offset, d.Err)
			}
			got = append(got, name)
		})
		a.Codec = codecs.Snappy
		if status := r.append(a); status != messages.Appended {
			t.Fatal(status)
		}
		return r.s.open
	}
	seal := func() {
		r.s.sealOpen(r.now)
		r.effects()
	}
	r.assign(1, 1)
	refused := add("refused")
	seal()
	r.pack(refused)
	a, _ := r.take(toLeader)
	r.deliver(a, errorResult(protocol.NotLeaderOrFollower, -1))
	a.WriteEnded()
	compressed := add("compressed")
	seal()
	r.pack(compressed)
	late := add("late")
	seal()
	add("open")
	r.effects()
	r.check()
	spot := seams.NewParking().NewSpot()
	w := messages.NewFlushWaiter(spot)
	used := r.budget.Used()
	if identity := r.box.Evacuate(messages.ErrUnknownPartition); identity != someIdentity {
		t.Errorf("numbered under %v", identity)
	}
	executor.run()
	r.box.Flush(w) // it comes in the middle of the move
	w.Done()
	if n := r.box.Unanswered(); n != 4 {
		t.Errorf("%d records have no outcome", n)
	}
	next := r.successor()
	r.box.MoveTo(next.box)
	next.check()
	if n, bytes := next.box.Unanswered(), r.budget.Used(); n != 4 || r.box.Unanswered() != 0 || bytes > used+2*batchOverhead || bytes == used { // that of the open one
		t.Errorf("%d records have moved, %d bytes are charged, %d before", n, bytes, used)
	}
	r.box.compress(late) // the codec has it still
	for _, p := range next.s.pending {
		if p.compressing {
			next.pack(p)
		}
	}
	next.assign(1, 1)
	newer := toLeader
	newer.Identity = messages.Identity{ProducerID: 7, Epoch: 1, Generation: 2}
	registry, err := codecs.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"refused", "compressed", "late", "open"} {
		a, status := next.take(newer)
		if a == nil {
			t.Fatalf("%s: %v", name, status)
		}
		if sent := readWire(t, a, registry); sent.identity != (messages.Identity{ProducerID: 7, Epoch: 1}) || int(sent.sequence) != i || !strings.HasPrefix(sent.values[0], name+" ") {
			t.Errorf("%s is sent as %+v", name, sent)
		}
		next.deliver(a, okResult(int64(i)))
		a.WriteEnded()
		next.effects()
		next.check()
	}
	if want := []string{"refused", "compressed", "late", "open"}; !slices.Equal(got, want) {
		t.Errorf("answered %v", got)
	}
	soon, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := spot.Wait(soon); err != nil {
		t.Error("the flush still waits")
	}
	if n := r.budget.Used(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// TestNowhereToMove: what was kept for a partition that does not exist any more fails
// with all the rest.
func TestNowhereToMove(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	var outcome messages.Delivery
	r.append(admission("kept", func(d messages.Delivery) { outcome = d }))
	r.box.Evacuate(messages.ErrUnknownPartition)
	executor.run()
	if outcome.Err != nil || r.box.Unanswered() != 1 {
		t.Fatalf("%+v", outcome)
	}
	r.box.FailAll(messages.ErrUnknownPartition)
	executor.run()
	if outcome.Err == nil || outcome.Status != messages.NotPersisted || r.box.Unanswered() != 0 || r.budget.Used() != 0 {
		t.Errorf("%+v, %d bytes are left", outcome, r.budget.Used())
	}
	r.check()
}

// wakes counts how often an actor without turns was to have one.
type wakes struct{ n int }

func (w *wakes) Schedule(func()) { w.n++ }
func (w *wakes) Throughput() int { return 1 }

// TestDeadlineOnTheWay: a record's time is over while its batch is on the way to another
// partition. The actor there has a turn for it, since no timer is set.
func TestDeadlineOnTheWay(t *testing.T) {
	for _, codec := range []codecs.ID{codecs.None, codecs.Snappy} {
		r := newRig(t, testConfig())
		r.enact()
		a := admission(strings.Repeat("squeeze", 30), func(messages.Delivery) {})
		a.Codec = codec
		r.append(a)
		r.s.sealOpen(r.now)
		r.effects() // a codec has it
		r.now = r.now.Add(r.s.deliveryTimeout + time.Second)
		next := r.successor()
		var turns wakes
		next.box.RegisterHandlers(nil, &turns)
		r.box.Evacuate(messages.ErrUnknownPartition)
		r.box.MoveTo(next.box)
		if turns.n == 0 {
			t.Errorf("codec %v: nobody looks at the deadline", codec)
		}
	}
}

// TestDeadlineInACodec: the time of a record is over, or its context ends, while its
// batch is with a codec or in line for it, which may take long. It is answered at once;
// the others of the batch are sent without it.
func TestDeadlineInACodec(t *testing.T) {
	for name, alone := range map[string]bool{"alone": true, "beside another": false} {
		r := newRig(t, testConfig())
		_, executor := r.enact()
		r.assign(1, 1)
		r.s.announced = true // nobody is there to hear it
		var late, other messages.Delivery
		a := admission(strings.Repeat("squeeze", 30), func(d messages.Delivery) { late = d })
		ctx, cancel := context.WithCancel(context.Background())
		a.Codec, a.Context = codecs.Snappy, ctx
		r.append(a)
		if !alone {
			b := admission(strings.Repeat("squeeze", 30), func(d messages.Delivery) { other = d })
			b.Codec = codecs.Snappy
			r.append(b)
		}
		r.s.sealOpen(r.now)
		cancel()
		r.box.mu.Lock()
		r.s.sweep(r.now)
		r.box.unlock(seams.Never) // the codec gets it, and the callbacks their turn
		executor.run()
		if !errors.Is(late.Err, context.Canceled) || late.Status != messages.NotPersisted {
			t.Errorf("%s: %+v", name, late)
		}
		if !alone {
			var attempt *attempt
			for range 2 { // the first has what was packed unpacked, cut, and packed again
				attempt, _ = r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}})
				r.s.announced = true
				r.box.mu.Lock()
				r.box.unlock(seams.Never)
				executor.run()
			}
			if attempt == nil || attempt.batch.count != 1 {
				t.Fatalf("%s: took %+v", name, attempt)
			}
			r.deliver(attempt, okResult(7))
			attempt.WriteEnded()
			r.box.mu.Lock()
			r.box.unlock(seams.Never)
			executor.run()
			if other.Err != nil || other.Offset != 7 {
				t.Errorf("%s: the other: %+v", name, other)
			}
		}
		if r.budget.Used() != 0 || r.s.unanswered != 0 {
			t.Errorf("%s: %d bytes and %d records are left", name, r.budget.Used(), r.s.unanswered)
		}
		r.check()
	}
}

// TestCallbackBehindAMove: a record that ended ahead of its batch has its callback in
// the old partition. Who waits for the batch waits for that, too, and the old
// partition stays in sight until then.
func TestCallbackBehindAMove(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	called := false
	gone := admission("gone", func(messages.Delivery) { called = true })
	gone.Context = endedContext(context.Canceled)
	r.append(gone)
	r.append(admission("stays", func(messages.Delivery) {}))
	spot := seams.NewParking().NewSpot()
	w := messages.NewFlushWaiter(spot)
	r.box.Flush(w)
	w.Done()
	r.box.mu.Lock()
	r.s.sweep(r.now)
	r.box.unlock(seams.Never)
	r.box.Evacuate(messages.ErrUnknownPartition)
	next := r.successor()
	r.box.MoveTo(next.box)
	if r.box.Unanswered() == 0 || called {
		t.Errorf("the old partition has %d records, the callback has run: %v", r.box.Unanswered(), called)
	}
	next.box.FailAll(messages.ErrClosed)
	next.box.settings.Executor.(*later).run()
	soon, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if spot.Wait(soon) == nil {
		t.Error("the flush did not wait for the callback")
	}
	executor.run()
	if r.box.Unanswered() != 0 || !called {
		t.Errorf("then the old partition has %d records, the callback has run: %v", r.box.Unanswered(), called)
	}
}
