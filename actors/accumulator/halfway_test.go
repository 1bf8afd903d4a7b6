package accumulator

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// Decisions that crash half-way. What of them a seed comes to is in the simulation
// (decision-crash); here are those that it seldom does.

var producer7 = messages.Identity{ProducerID: 7, Generation: 1}

// crashAt makes a rig's next decision panic at a step, the nth time that it comes to it.
func (r *rig) crashAt(step messages.BatchStep, nth int) {
	r.s.decisions = func(at string) {
		if at == step.String() {
			if nth--; nth == 0 {
				panic("half-way")
			}
		}
	}
}

// crashes reports whether a decision does.
func crashes(decide func()) (crashed bool) {
	defer func() { crashed = recover() != nil }()
	decide()
	return false
}

// flight appends and hands over batches of one record each.
func (r *rig) flight(got answersOf, names ...string) (attempts []*attempt) {
	r.t.Helper()
	for _, name := range names {
		a := admission(name, got.callback(name))
		a.Urgent = true
		if status := r.append(a); status != messages.Appended {
			r.t.Fatal(name, status)
		}
		r.effects()
		attempt, status := r.take(messages.TakeRequest{Broker: 1, Identity: producer7, Class: r.s.classOf(r.s.next())})
		if attempt == nil {
			r.t.Fatal(name, status)
		}
		attempts = append(attempts, attempt)
	}
	return attempts
}

// opened is a rig whose partition may have several batches in flight.
func opened(t *testing.T, got answersOf, change func(*config)) *rig {
	c := testConfig()
	if change != nil {
		change(&c)
	}
	r := newRig(t, c)
	r.assign(1, 1)
	first := r.flight(got, "first")[0]
	r.deliver(first, okResult(0))
	r.effects()
	first.WriteEnded()
	return r
}

// TestCrashWhileSequencesBreak: when the sequence breaks, the batches behind lose their
// numbers with the first, also where the decision crashes between two of them. One
// that kept its own would stand in the log before those that are numbered anew.
func TestCrashWhileSequencesBreak(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		t.Run(fmt.Sprint(nth), func(t *testing.T) {
			r := opened(t, make(answersOf), nil)
			flight := r.flight(make(answersOf), "a", "b", "c")
			for _, behind := range flight[1:] { // they only say that the first is missing
				r.deliver(behind, errorResult(protocol.OutOfOrderSequenceNumber, -1))
			}
			r.crashAt(messages.BatchLostNumber, nth)
			if !crashes(func() { r.deliver(flight[0], errorResult(protocol.OutOfOrderSequenceNumber, -1)) }) {
				t.Fatal("nothing crashed")
			}
			if err := r.s.mend(r.now); err != nil {
				t.Fatal(err)
			}
			r.check()
			for _, b := range r.s.pending {
				if b.hasSequence {
					t.Errorf("batch %v goes on with sequence %d", b.order, b.sequence)
				}
			}
		})
	}
}

// TestCrashWhileABatchIsCarved: what is copied out of a batch is charged to the budget,
// and nobody has it until the old batch is gone.
func TestCrashWhileABatchIsCarved(t *testing.T) {
	got := make(answersOf)
	r := opened(t, got, func(c *config) { c.resendInnocent = true })
	for _, name := range []string{"guilty", "innocent"} {
		if r.append(admission(name, got.callback(name))) != messages.Appended {
			t.Fatal(name)
		}
	}
	r.s.sealOpen(r.now)
	a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: producer7, Class: r.s.classOf(r.s.next())})
	refusal := errorResult(protocol.InvalidRecord, -1)
	refusal.RecordErrors = []messages.RecordError{{Index: 0, Message: "no"}}
	r.crashAt(messages.BatchLostNumber, 1)
	if !crashes(func() { r.deliver(a, refusal) }) {
		t.Fatal("nothing crashed")
	}
	if r.s.mend(r.now) == nil {
		t.Error("a batch that stands in no line is found in order")
	}
	r.effects()
	a.WriteEnded()
	for _, name := range []string{"guilty", "innocent"} {
		if len(got[name]) != 1 || got[name][0].Err == nil {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	if r.budget.Used() != 0 {
		t.Errorf("%d bytes are left", r.budget.Used())
	}
}

// TestSuspectPartitionIsInDoubt: until a partition is mended after a crash, what it says
// of its batches may be half of a decision. Whoever fails its records before that must
// not say that they are in no log.
func TestSuspectPartitionIsInDoubt(t *testing.T) {
	got := make(answersOf)
	r := opened(t, got, nil)
	r.enact()
	a := r.flight(got, "a")[0]
	r.crashAt(messages.BatchSucceeded, 1)
	if !crashes(func() { r.deliver(a, okResult(1)) }) {
		t.Fatal("nothing crashed")
	}
	r.s.suspect = true // as letGo leaves it
	r.s.failAll(messages.ErrFatal)
	r.effects()
	a.WriteEnded()
	if d := got["a"]; len(d) != 1 || d[0].Status != messages.PossiblyPersisted || !errors.Is(d[0].Err, messages.ErrFatal) {
		t.Errorf("%+v", d)
	}
}

// TestLastWordCrashes: records of a partition that ends get their outcomes though the
// decision crashes over any of them: there may be no later turn to mend it.
func TestLastWordCrashes(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		got := make(answersOf)
		r := opened(t, got, nil)
		_, executor := r.enact()
		r.box.RegisterHandlers(nil, idleDispatcher{})
		attempts := r.flight(got, "a", "b")
		r.append(admission("c", got.callback("c")))
		r.crashAt(messages.BatchFailed, nth)
		r.box.FailAll(messages.ErrClosed)
		executor.run()
		for _, a := range attempts {
			a.WriteEnded()
		}
		for _, name := range []string{"a", "b", "c"} {
			if d := got[name]; len(d) != 1 || !errors.Is(d[0].Err, messages.ErrClosed) && !errors.Is(d[0].Err, messages.ErrInternal) {
				t.Errorf("crash %d: %s: %+v", nth, name, d)
			}
		}
		if r.budget.Used() != 0 || r.box.Unanswered() != 0 {
			t.Errorf("crash %d: %d bytes, %d records are left", nth, r.budget.Used(), r.box.Unanswered())
		}
	}
}

// TestSuspectPartitionIsNotTaken: nothing is handed over until it is mended.
func TestSuspectPartitionIsNotTaken(t *testing.T) {
	r := opened(t, make(answersOf), nil)
	r.box.RegisterHandlers(nil, idleDispatcher{})
	a := admission("a", func(messages.Delivery) {})
	a.Urgent = true
	r.append(a)
	r.effects()
	ask := messages.TakeRequest{
		Now: r.now, Broker: 1, Identity: producer7, RoomBytes: 1000, First: true, ProduceVersion: 13,
		Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll},
	}
	r.s.suspect = true
	if b, status := r.box.Take(ask); b != nil || status != messages.TakeDone {
		t.Errorf("took %v, %v", b, status)
	}
	if err := r.s.mend(r.now); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Millisecond)
	r.s.review(r.now)
	if !r.s.fx.announce {
		t.Error("it is not announced again")
	}
	r.s.fx.announce = false // nobody hears it
	if b, _ := r.box.Take(ask); b == nil {
		t.Error("nor taken")
	}
}

// TestDamagedBatchEnds: what is wrong with a batch must not keep it from ending, nor the
// partition from going on.
func TestDamagedBatchEnds(t *testing.T) {
	got := make(answersOf)
	r := newRig(t, testConfig())
	_, executor := r.enact()
	r.append(admission("a", got.callback("a")))
	r.s.open.tail = make([]byte, 0, 1<<20) // of no chunk
	r.s.unanswered++                       // nor is the count right
	r.box.adopt()
	executor.run()
	if d := got["a"]; len(d) != 1 || !errors.Is(d[0].Err, messages.ErrInternal) {
		t.Errorf("%+v", d)
	}
	if r.s.closed != nil {
		t.Errorf("the partition is closed: %v", r.s.closed)
	}
}

// TestCrashIsJudgedOnce: somebody else's turn may mend the state before the actor that
// crashed is there again. A record that comes in between has nothing to do with it.
func TestCrashIsJudgedOnce(t *testing.T) {
	got := make(answersOf)
	r := newRig(t, testConfig())
	_, executor := r.enact()
	r.s.crashes, r.s.suspect = maxCrashes-1, true
	r.append(admission("before", got.callback("before")))
	r.box.Urge()
	r.append(admission("after", got.callback("after")))
	r.box.adopt()
	executor.run()
	if len(got["before"])+len(got["after"]) != 0 {
		t.Errorf("%+v", got)
	}
	r.box.adopt() // one too many
	executor.run()
	if len(got["before"]) != 1 || len(got["after"]) != 1 {
		t.Errorf("%+v", got)
	}
	if r.append(admission("later", got.callback("later"))) != messages.Appended {
		t.Fatal("it is closed")
	}
	r.box.adopt() // counted anew
	executor.run()
	if len(got["later"]) != 0 {
		t.Errorf("%+v", got["later"])
	}
}

// TestCodecEndsWhileSuspect: whose executor it is would not survive a crash, nor anybody
// else the lock that it kept.
func TestCodecEndsWhileSuspect(t *testing.T) {
	got := make(answersOf)
	r := opened(t, got, nil)
	_, executor := r.enact()
	r.box.RegisterHandlers(nil, idleDispatcher{})
	r.flight(got, "a", "b")
	c := admission("squeeze squeeze squeeze squeeze squeeze squeeze squeeze", got.callback("c"))
	c.Codec = codecs.Snappy
	r.append(c)
	r.s.sealOpen(r.now)
	r.box.mu.Lock()
	r.box.unlock(seams.Never) // the codec has it
	r.crashAt(messages.BatchTakenBack, 1)
	r.box.Assign(messages.AssignLeader{ID: -1, LeaderEpoch: 2})
	if !crashes(r.box.step) {
		t.Fatal("nothing crashed")
	}
	if crashes(executor.run) {
		t.Error("the codec's goroutine crashes")
	}
	if !r.box.mu.TryLock() {
		t.Fatal("the lock is lost")
	}
	r.box.mu.Unlock()
}

// TestDeadlineOfWhatWaitsToMove: a crash of the router may leave batches waiting for a
// creation of the topic of which nobody hears. Their records are answered when their
// time is over all the same, also when that crashes half-way; the others can still move.
func TestDeadlineOfWhatWaitsToMove(t *testing.T) {
	for name, crash := range map[string]bool{"": false, "crash": true} {
		got := make(answersOf)
		r := newRig(t, testConfig())
		_, executor := r.enact()
		r.assign(1, 1)
		add := func(names ...string) {
			for _, name := range names {
				if status := r.append(admission(name, got.callback(name))); status != messages.Appended {
					t.Fatal(name, status)
				}
			}
			r.s.sealOpen(r.now)
			r.effects()
		}
		add("refused")
		a, _ := r.take(toLeader)
		r.deliver(a, errorResult(protocol.NotLeaderOrFollower, -1))
		a.WriteEnded()
		r.effects()
		add("waiting")
		r.now = r.now.Add(r.s.deliveryTimeout / 2)
		add("younger")
		var turns wakes
		r.box.RegisterHandlers(nil, &turns)
		r.box.Evacuate(messages.ErrUnknownPartition)
		if turns.n == 0 {
			t.Error("nobody has a turn to look at their deadlines")
		}
		r.box.step()
		if at := r.box.timing; at != r.now.Add(r.s.deliveryTimeout/2) {
			t.Errorf("%s: the timer is set to %v from now", name, at.Sub(r.now))
		}
		r.now = r.now.Add(r.s.deliveryTimeout / 2)
		if crash {
			r.crashAt(messages.BatchFailed, 1)
			if !crashes(r.box.step) {
				t.Fatal("nothing crashed")
			}
		}
		r.box.step()
		executor.run()
		for _, late := range []string{"refused", "waiting"} {
			d := got[late]
			if len(d) != 1 || !errors.Is(d[0].Err, messages.ErrDeliveryTimeout) && !crash {
				t.Errorf("%s: %s: %+v", name, late, d)
			}
		}
		next := r.successor()
		r.box.MoveTo(next.box)
		if len(got["younger"]) != 0 || r.box.Unanswered() != 0 || next.box.Unanswered() != 1 {
			t.Errorf("%s: younger: %+v, %d and %d records have no outcome", name, got["younger"], r.box.Unanswered(), next.box.Unanswered())
		}
		r.check()
		next.check()
	}
}
