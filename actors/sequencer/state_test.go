package sequencer

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

const start = seams.Instant(time.Hour)

func newSequencer() *State {
	return newState(config{
		timeout: 40 * time.Second, hedge: 2 * time.Second, random: rand.New(rand.NewPCG(1, 1)),
		retry: messages.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: time.Second, Multiplier: 2, Retries: -1},
	})
}

func granted(id int64, epoch int16) *kmsg.InitProducerIDResponse {
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ProducerID, r.ProducerEpoch = id, epoch
	return r
}

func refused(code protocol.ErrorCode) *kmsg.InitProducerIDResponse {
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ErrorCode = int16(code)
	return r
}

func TestOneRequest(t *testing.T) {
	s := newSequencer()
	if s.step(start) != nil || s.nextDeadline() != seams.Never {
		t.Fatal("an id is asked for before anybody needs one")
	}
	for range 3 {
		if s.need(start) {
			t.Fatal("an identity from nowhere")
		}
	}
	r := s.step(start)
	if r == nil || r.Broker != messages.AnyBroker {
		t.Fatalf("%+v", r)
	}
	k := r.Request.(*kmsg.InitProducerIDRequest)
	if k.TransactionalID != nil || k.ProducerID != -1 || k.ProducerEpoch != -1 {
		t.Errorf("%+v", k)
	}
	if s.need(start); s.step(start.Add(time.Second)) != nil {
		t.Error("two requests in flight")
	}
	if s.answered(&messages.ControlResponse{Ticket: r.Ticket + 1, Response: granted(1, 0)}, start) {
		t.Error("an answer to another request is taken in")
	}
	if !s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: granted(42, 3)}, start) || s.identity != (messages.Identity{ProducerID: 42, Epoch: 3, Generation: 1}) {
		t.Errorf("%+v", s.identity)
	}
	if s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: granted(1, 0)}, start) || s.identity.ProducerID != 42 {
		t.Error("answered twice")
	}
	if !s.need(start) || s.step(start.Add(time.Hour)) != nil || s.nextDeadline() != seams.Never {
		t.Error("a known identity is asked for again")
	}
}

func TestBumpIsLocal(t *testing.T) {
	s := newSequencer()
	if s.bump(messages.NoIdentity, start) || s.identity != messages.NoIdentity {
		t.Fatalf("bumped from none to %+v", s.identity)
	}
	s = newSequencer()
	s.become(42, 3)
	old := s.identity
	if !s.bump(old, start) || s.identity != (messages.Identity{ProducerID: 42, Epoch: 4, Generation: 2}) || s.step(start) != nil {
		t.Errorf("%+v", s.identity)
	}
	// Somebody else was first.
	if !s.bump(old, start) || s.identity.Epoch != 4 {
		t.Errorf("bumped twice for one: %+v", s.identity)
	}
	if !s.bump(messages.Identity{ProducerID: 41, Epoch: 4}, start) || s.identity.Epoch != 4 {
		t.Errorf("bumped for another id: %+v", s.identity)
	}
}

// TestEpochsUsedUp: the id that follows is a lower one, as from another broker's
// block, and is the newer identity all the same.
func TestEpochsUsedUp(t *testing.T) {
	s := newSequencer()
	s.become(42, math.MaxInt16)
	old := s.identity
	if s.bump(old, start) {
		t.Error("published an identity that is used up")
	}
	if s.bump(old, start) {
		t.Error("published nothing")
	}
	r := s.step(start)
	want := messages.Identity{ProducerID: 41, Generation: 2}
	if r == nil || !s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: granted(41, 0)}, start) || s.identity != want {
		t.Errorf("%+v", s.identity)
	}
	if !s.identity.Newer(old) || old.Newer(s.identity) {
		t.Errorf("%+v and %+v are in the wrong order", old, s.identity)
	}
	if !s.bump(old, start) || s.identity != want {
		t.Errorf("a late bump of the old id moved the new one: %+v", s.identity)
	}
}

func TestRetriesBackOff(t *testing.T) {
	s := newSequencer()
	s.need(start)
	now := start
	for i, want := range []time.Duration{0, 100, 200, 400, 800, 1000, 1000} {
		if got := s.nextDeadline().Sub(now); got != want*time.Millisecond {
			t.Fatalf("try %d after %v", i, got)
		}
		now = s.nextDeadline()
		r := s.step(now)
		if r == nil {
			t.Fatalf("try %d is not made", i)
		}
		m := &messages.ControlResponse{Ticket: r.Ticket, Err: messages.ErrConnectionLost}
		switch i % 3 {
		case 1:
			m.Err, m.Response = nil, refused(protocol.CoordinatorLoadInProgress)
		case 2:
			m.Err, m.Response = nil, kmsg.NewPtrMetadataResponse()
		}
		if s.answered(m, now) || s.fatal != nil {
			t.Fatalf("try %d: fatal %v", i, s.fatal)
		}
	}
	now = s.nextDeadline()
	r := s.step(now)
	s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: granted(1, 0)}, now)
	if s.failures != 0 {
		t.Error("a success does not end the waits")
	}
}

// TestSilence: another broker is asked as well, and the first answer counts; the
// id of the other is not used. Each request fails when its time is over.
func TestSilence(t *testing.T) {
	s := newSequencer()
	s.need(start)
	first := s.step(start)
	hedged := start.Add(2 * time.Second)
	if s.nextDeadline() != hedged || s.step(hedged-1) != nil {
		t.Fatal("the second request is too early")
	}
	second := s.step(hedged)
	if second == nil || second.Ticket == first.Ticket || second.Broker != messages.AnyBroker {
		t.Fatalf("%+v", second)
	}
	late := start.Add(40 * time.Second)
	if s.nextDeadline() != late || s.step(late-1) != nil || s.step(late) != nil {
		t.Fatal("the deadline is not kept")
	}
	third := s.step(s.nextDeadline())
	if third == nil || s.nextDeadline() != hedged.Add(40*time.Second) {
		t.Fatalf("%+v, then nothing for %v", third, s.nextDeadline().Sub(late))
	}
	if s.answered(&messages.ControlResponse{Ticket: first.Ticket, Response: granted(1, 0)}, late) {
		t.Error("an answer to what has failed is taken in")
	}
	if !s.answered(&messages.ControlResponse{Ticket: second.Ticket, Response: granted(2, 0)}, late) || s.identity.ProducerID != 2 {
		t.Errorf("%+v", s.identity)
	}
	if s.answered(&messages.ControlResponse{Ticket: third.Ticket, Response: granted(3, 0)}, late) || s.identity.ProducerID != 2 || s.nextDeadline() != seams.Never {
		t.Errorf("the later answer is taken in: %+v", s.identity)
	}
}

// TestOneOfTwoFails: the other goes on alone, and the policy's wait is kept before
// a third is asked.
func TestOneOfTwoFails(t *testing.T) {
	s := newSequencer()
	s.need(start)
	first := s.step(start)
	now := start.Add(2 * time.Second)
	second := s.step(now)
	s.answered(&messages.ControlResponse{Ticket: second.Ticket, Err: messages.ErrConnectionLost}, now)
	if at := s.nextDeadline(); at != now.Add(100*time.Millisecond) {
		t.Errorf("asked again after %v", at.Sub(now))
	}
	now = s.nextDeadline()
	third := s.step(now)
	s.answered(&messages.ControlResponse{Ticket: first.Ticket, Response: refused(protocol.CoordinatorLoadInProgress)}, now)
	if at := s.nextDeadline(); third == nil || at != now.Add(2*time.Second) {
		t.Errorf("%+v, and the next after %v", third, at.Sub(now))
	}
	if !s.answered(&messages.ControlResponse{Ticket: third.Ticket, Response: granted(3, 0)}, now) {
		t.Error("the answer is not taken in")
	}
}

func TestFatal(t *testing.T) {
	for _, code := range []protocol.ErrorCode{protocol.ClusterAuthorizationFailed, protocol.UnsupportedVersion} {
		s := newSequencer()
		s.need(start)
		r := s.step(start)
		if s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: refused(code)}, start) || !errors.Is(s.fatal, code) {
			t.Errorf("%v: fatal %v", code, s.fatal)
		}
		s.need(start)
		if s.step(start.Add(time.Hour)) != nil || s.nextDeadline() != seams.Never {
			t.Errorf("%v: asked again", code)
		}
	}
}

// TestNeverTwice: whatever order needs, bumps and answers come in, an identity
// that was published once is not published again after another, and each is
// newer than those before, though the ids that the cluster gives go down.
func TestNeverTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		s := newSequencer()
		now := start
		seen := make(map[messages.Identity]bool)
		last, id := messages.NoIdentity, int64(1000)
		published := func(is bool) {
			if is && s.identity != last {
				wire := messages.Identity{ProducerID: s.identity.ProducerID, Epoch: s.identity.Epoch}
				if seen[wire] || !s.identity.Known() || !s.identity.Newer(last) {
					t.Fatalf("%+v is published after %+v, or again", s.identity, last)
				}
				seen[wire], last = true, s.identity
			}
		}
		var r *messages.ControlRequest
		for range 60 {
			switch random.IntN(5) {
			case 0:
				published(s.need(now))
			case 1, 2:
				after := last
				if back := min(int(last.Epoch), random.IntN(3)); random.IntN(3) == 0 && back > 0 && last.Known() {
					after.Epoch, after.Generation = last.Epoch-int16(back), last.Generation-int64(back)
				}
				if last.Known() {
					published(s.bump(after, now))
				}
				if random.IntN(10) == 0 && s.identity.Known() && s.identity.Epoch < math.MaxInt16-9 {
					s.become(s.identity.ProducerID, math.MaxInt16-1)
					published(true)
				}
			case 3:
				now = now.Add(time.Duration(random.IntN(int(time.Minute))))
				if next := s.step(now); next != nil {
					r = next
				}
			case 4:
				if r != nil {
					id--
					published(s.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: granted(id, 0)}, now))
				}
			}
		}
	}
}

func TestLedger(t *testing.T) {
	l := NewLedger()
	if _, ok := l.Recall("t", [16]byte{1}, 0); ok {
		t.Error("something from nothing")
	}
	kept := messages.LastSequence{Identity: messages.Identity{ProducerID: 7, Epoch: 1}, Next: 99, Gap: true}
	l.Keep("t", [16]byte{1}, 0, kept)
	if got, ok := l.Recall("t", [16]byte{1}, 0); !ok || got != kept {
		t.Errorf("%+v", got)
	}
	for _, other := range []struct {
		topic     string
		id        [16]byte
		partition int32
	}{{"u", [16]byte{1}, 0}, {"t", [16]byte{2}, 0}, {"t", [16]byte{1}, 1}} {
		if _, ok := l.Recall(other.topic, other.id, other.partition); ok {
			t.Errorf("%+v is taken for another", other)
		}
	}
}

// TestLedgerKnowsCreationsApart: a broker that is behind may speak of the creation
// before, and be believed. It goes on where it stopped, and not at 0 again.
func TestLedgerKnowsCreationsApart(t *testing.T) {
	identity := messages.Identity{ProducerID: 7, Generation: 1}
	older, newer := messages.LastSequence{Identity: identity, Next: 11}, messages.LastSequence{Identity: identity, Gap: true}
	l := NewLedger()
	l.Keep("t", [16]byte{1}, 0, older)
	l.Keep("t", [16]byte{2}, 0, newer)
	if got, ok := l.Recall("t", [16]byte{1}, 0); !ok || got != older {
		t.Errorf("the older: %+v, %v", got, ok)
	}
	if got, ok := l.Recall("t", [16]byte{2}, 0); !ok || got != newer {
		t.Errorf("the newer: %+v, %v", got, ok)
	}
	for id := range byte(10) {
		l.Keep("t", [16]byte{3 + id}, 0, newer)
	}
	if n := len(l.last[place{"t", 0}]); n != mostCreations {
		t.Errorf("%d creations are kept", n)
	}
}

// TestLedgerFollowsTheTopicsID: brokers that know topic ids may come or go while a
// topic is idle. Numbering anew from 0 under the same identity would make the
// broker take new records for repetitions.
func TestLedgerFollowsTheTopicsID(t *testing.T) {
	kept := messages.LastSequence{Identity: messages.Identity{ProducerID: 7, Generation: 1}, Next: 99}
	l := NewLedger()
	l.Keep("t", [16]byte{}, 0, kept)
	if got, ok := l.Recall("t", [16]byte{1}, 0); !ok || got != kept {
		t.Errorf("with an id: %+v, %v", got, ok)
	}
	l = NewLedger()
	l.Keep("t", [16]byte{1}, 0, kept)
	if got, ok := l.Recall("t", [16]byte{}, 0); !ok || got != kept {
		t.Errorf("without an id: %+v, %v", got, ok)
	}
	if _, ok := l.Recall("t", [16]byte{2}, 0); ok {
		t.Error("a topic that was created again goes on with the old one's numbers")
	}
	// Ids come and go: what was kept last counts, whatever id it was kept under.
	newer := kept
	newer.Next = 120
	l.Keep("t", [16]byte{}, 0, newer)
	if got, ok := l.Recall("t", [16]byte{1}, 0); !ok || got != newer {
		t.Errorf("with the id again: %+v, %v", got, ok)
	}
}
