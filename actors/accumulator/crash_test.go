package accumulator

import (
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// answersOf collects the outcomes of records, by value.
type answersOf map[string][]messages.Delivery

func (a answersOf) callback(name string) messages.Callback {
	return func(d messages.Delivery) { a[name] = append(a[name], d) }
}

// inFlight is a rig with one batch of one record in flight and one record behind.
func inFlight(t *testing.T) (*rig, *attempt, answersOf) {
	r, got := newRig(t, testConfig()), make(answersOf)
	r.assign(1, 1)
	for _, name := range []string{"a", "b"} {
		a := admission(name, got.callback(name))
		a.Urgent = name == "a"
		if r.append(a) != messages.Appended {
			t.Fatal(name)
		}
		if name == "b" {
			break
		}
		r.effects()
		if _, status := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())}); status != messages.TakeDone {
			t.Fatal(status)
		}
	}
	return r, r.s.inFlight[0].current, got
}

// TestCrashBetweenTwoLines: the batch that a decision was moving when it crashed
// stands in no line. Its records are answered all the same, once.
func TestCrashBetweenTwoLines(t *testing.T) {
	r, a, got := inFlight(t)
	a.batch.current = nil
	r.s.inFlight = nil // and the crash came before anything else
	if err := r.s.mend(r.now); err == nil {
		t.Fatal("nothing is found wrong")
	}
	r.effects()
	a.WriteEnded()
	for name, status := range map[string]messages.Status{"a": messages.PossiblyPersisted, "b": messages.NotPersisted} {
		if d := got[name]; len(d) != 1 || d[0].Status != status || !errors.Is(d[0].Err, messages.ErrInternal) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	r.check()
	// The partition goes on, under another epoch.
	r.append(admission("c", got.callback("c")))
	r.now = r.now.Add(time.Second)
	if _, status := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}}); status != messages.TakeNeedsIdentity {
		t.Errorf("status %v under the old epoch", status)
	}
	if used := r.s.open.chunks; len(used) == 0 {
		t.Error("the new record has no buffer")
	}
}

// TestCrashOverAnAnswer: an answer that crashes the accumulator was taken out of
// the line of answers, and no other will come. It counts as lost.
func TestCrashOverAnAnswer(t *testing.T) {
	r, a, got := inFlight(t)
	r.s.settling = a // step crashed in settle
	if err := r.s.mend(r.now); err != nil {
		t.Fatal(err)
	}
	r.step()
	r.effects()
	a.WriteEnded()
	again, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
	if again == nil || again.batch != a.batch || again.numbers != a.numbers {
		t.Fatalf("attempt %+v after %+v", again, a)
	}
	r.deliver(again, okResult(4))
	r.effects()
	if d := got["a"]; len(d) != 1 || d[0].Status != messages.Persisted || d[0].Offset != 4 {
		t.Errorf("a: %+v", d)
	}
}

// TestCrashesAgainAndAgain: records of a partition that only crashes are not
// kept waiting for ever.
func TestCrashesAgainAndAgain(t *testing.T) {
	r, a, got := inFlight(t)
	for range maxCrashes {
		if err := r.s.crashed(r.now); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.s.crashed(r.now); !errors.Is(err, errCrashesAgain) {
		t.Fatal(err)
	}
	r.effects()
	a.WriteEnded()
	if len(got["a"]) != 1 || len(got["b"]) != 1 {
		t.Error(got)
	}
}

// idleDispatcher never gives a turn.
type idleDispatcher struct{}

func (idleDispatcher) Schedule(func()) {}
func (idleDispatcher) Throughput() int { return 1 }

// TestTakeThatCrashes: the broker that asks has the batches of other partitions in
// its hands, so a crash in a box must not be its crash.
func TestTakeThatCrashes(t *testing.T) {
	r, got := newRig(t, testConfig()), make(answersOf)
	r.box.RegisterHandlers(nil, idleDispatcher{})
	r.assign(1, 1)
	a := admission("a", got.callback("a"))
	a.Urgent = true
	r.append(a)
	r.effects()
	ask := messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, RoomBytes: 1000, First: true, ProduceVersion: 13,
		Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}}
	take := func() messages.Batch {
		ask.Now = r.now
		b, status := r.box.Take(ask)
		if b == nil && status != messages.TakeDone {
			t.Fatalf("status %v", status)
		}
		return b
	}

	// In the decision: the state is looked over before it goes on.
	side := r.s.open.side
	r.s.open.side = nil
	if b := take(); b != nil || !r.s.suspect {
		t.Fatalf("batch %v, suspect %v", b, r.s.suspect)
	}
	r.s.open.side = side
	if err := r.s.mend(r.now); err != nil {
		t.Fatal(err)
	}

	// In the sealing: the attempt has ended, and no byte of it left.
	chunk := r.s.open.chunks[0]
	bytes := chunk.Bytes
	r.s.open.trimTail()
	sealed := chunk.Bytes
	chunk.Bytes = bytes[:0:0]
	r.s.open.tail = nil
	if b := take(); b != nil {
		t.Fatal("a batch without a header is handed over")
	}
	chunk.Bytes = sealed
	r.step()
	r.check()
	r.effects()
	r.now = r.now.Add(time.Second)
	b := take()
	if b == nil {
		t.Fatal("the partition does not go on")
	}
	b.WriteEnded()
	r.deliver(b.(*attempt), okResult(4))
	r.effects()
	if d := got["a"]; len(d) != 1 || d[0].Status != messages.Persisted || d[0].Offset != 4 {
		t.Errorf("a: %+v", d)
	}
	if used := r.budget.Used(); used != 0 {
		t.Errorf("%d bytes of the budget are not given back", used)
	}
}

// TestCrashInTheTurnThatTakesTheLeader: who leads is said once and is no message, so
// whatever becomes of the turn that should take it in, the next incarnation does.
func TestCrashInTheTurnThatTakesTheLeader(t *testing.T) {
	l := messages.AssignLeader{ID: 1, LeaderEpoch: 1, Broker: someBroker}
	for name, turn := range map[string]func(*rig){
		"instead of it": func(*rig) {},
		"before": func(r *rig) {
			r.s.pending = []*batch{nil}
			r.box.step()
		},
		"in the middle": func(r *rig) {
			r.s.inFlight = []*batch{nil}
			r.box.step()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig())
			r.enact()
			r.box.RegisterHandlers(nil, idleDispatcher{})
			r.box.Assign(l)
			func() {
				defer func() {
					if crashed := recover() != nil; crashed != (name != "instead of it") {
						t.Fatalf("crashed: %v", crashed)
					}
				}()
				turn(r)
			}()
			r.s.pending, r.s.inFlight = nil, nil
			r.box.adopt()
			if r.s.leader != l || r.box.assigned != nil {
				t.Errorf("the leader is %+v, %+v is not taken in", r.s.leader, r.box.assigned)
			}
			r.check()
		})
	}
}
