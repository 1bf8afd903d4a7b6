package broker

import (
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// TestRequestsBeyondTwoGather: what becomes ready while two requests are in flight
// waits for an answer, or for a millisecond, and then goes out together.
func TestRequestsBeyondTwoGather(t *testing.T) {
	send := func(t *testing.T, s *State, now seams.Instant) *request {
		t.Helper()
		r := new(request)
		if ok, _ := s.assemble(acksAll, r, now); !ok {
			t.Fatal("nothing to send")
		}
		s.sendProduce(acksAll, r, now)
		return r
	}
	full := func() (*State, *request) {
		s := newLedger(13)
		s.maxInFlight = 4
		var first *request
		for i := range int32(gatherFrom) {
			s.partitionReady(newTaker("a", i, newBatch(100)), acksAll)
			if !s.canSend(acksAll, start) {
				t.Fatalf("no room for request %d", i)
			}
			if r := send(t, s, start); i == 0 {
				first = r
			}
		}
		if at := s.nextDeadline(start); at <= start.Add(gatherTime) {
			t.Errorf("it looks again in %v, with nothing ready", at.Sub(start))
		}
		for i := range int32(3) {
			s.partitionReady(newTaker("b", i, newBatch(100)), acksAll)
		}
		return s, first
	}
	t.Run("until an answer", func(t *testing.T) {
		s, first := full()
		if s.canSend(acksAll, start.Add(gatherTime-1)) {
			t.Error("it does not gather")
		}
		s.remove(&s.lanes[messages.LaneProduce], first)
		if !s.canSend(acksAll, start) {
			t.Error("an answer makes no room")
		}
	})
	t.Run("or for a while", func(t *testing.T) {
		s, _ := full()
		later := start.Add(gatherTime)
		if at := s.nextDeadline(start); at != later {
			t.Errorf("it looks again in %v", at.Sub(start))
		}
		if !s.canSend(acksAll, later) {
			t.Fatal("a broker that is far gets two requests at most")
		}
		if r := send(t, s, later); len(r.batches) != 3 {
			t.Errorf("%d batches went together", len(r.batches))
		}
		if s.canSend(acksAll, later) {
			t.Error("the next one does not gather")
		}
	})
	t.Run("not beyond the limit", func(t *testing.T) {
		s, _ := full()
		s.maxInFlight = gatherFrom
		if at := s.nextDeadline(start); at <= start.Add(gatherTime) {
			t.Errorf("it looks again in %v, for what it may not send", at.Sub(start))
		}
	})
}

// TestOneAcksDoesNotKeepTheOtherBack: partitions that always have something for one
// acks value do not take every request that the lane may send.
func TestOneAcksDoesNotKeepTheOtherBack(t *testing.T) {
	leader := messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksLeader}
	for name, between := range map[string]func(s *State, now *seams.Instant){
		"a broker that is near": func(s *State, now *seams.Instant) {
			lane := &s.lanes[messages.LaneProduce]
			s.remove(lane, lane.inFlight[0])
			*now = now.Add(10 * time.Microsecond)
		},
		"a broker that is far": func(s *State, now *seams.Instant) {
			lane := &s.lanes[messages.LaneProduce]
			if *now = now.Add(gatherTime); len(lane.inFlight) > 2 {
				s.remove(lane, lane.inFlight[0])
			}
		},
		"a broker that has all it may": func(s *State, now *seams.Instant) {
			lane := &s.lanes[messages.LaneProduce]
			if *now = now.Add(gatherTime); len(lane.inFlight) == s.maxInFlight {
				s.remove(lane, lane.inFlight[0])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, now, partition := newLedger(13), start, int32(0)
			s.maxInFlight = 4
			pump := func() (sent []messages.Acks) {
				for _, class := range s.inTurn() {
					for s.canSend(class, now) {
						r := new(request)
						if ok, _ := s.assemble(class, r, now); !ok {
							break
						}
						s.sendProduce(class, r, now)
						sent = append(sent, class.Acks)
					}
				}
				return sent
			}
			for turn := range 50 {
				partition++
				s.partitionReady(newTaker("all", partition, newBatch(100)), acksAll)
				if turn == 20 {
					taker := newTaker("leader", 0, newBatch(100))
					taker.class = leader
					s.partitionReady(taker, leader)
				}
				for _, acks := range pump() {
					if acks == messages.AcksLeader {
						if turn > 24 {
							t.Errorf("it waited for %d turns", turn-20)
						}
						return
					}
				}
				between(s, &now)
			}
			t.Error("it was never sent")
		})
	}
}

// TestDoubtKeepsThePaceOfRetries: a limit that is short does not have the leaders
// looked up ten times a second for as long as a broker is away.
func TestDoubtKeepsThePaceOfRetries(t *testing.T) {
	s := newLedger(13)
	s.slowRequest, s.maxRetryTime = 100*time.Millisecond, time.Second
	s.partitionReady(newTaker("a", 0, newBatch(100)), acksAll)
	sent(t, s)
	now := start
	for i, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		at := s.nextDeadline(now)
		if at != now.Add(want*time.Millisecond) || s.inDoubt(at-1) || !s.inDoubt(at) {
			t.Errorf("doubt %d comes after %v", i, at.Sub(now))
		}
		now = at
	}
}
