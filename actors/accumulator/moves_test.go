package accumulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// after starts the accumulator that follows the stage's on a topic created again.
func (s *stage) after(incarnation int, identity messages.Identity) *Box {
	box, err := Spawn(s.system.Root, s.box.settings, s.budget, s.box.lingers, s.root, messages.AccumulatorSpec{Topic: "t", Partition: 3, Incarnation: incarnation, After: identity})
	if err != nil {
		s.t.Fatal(err)
	}
	box.SetAccount(s.box.Account())
	s.t.Cleanup(func() { _ = s.system.Root.StopFuture(box.PID()).Wait() })
	return box
}

// TestMovesUnderLoad has the topic created again and again while callers append, codecs
// pack, a broker refuses, loses and takes, and somebody flushes. Every record has one
// outcome, a flush ends, and all memory comes back.
func TestMovesUnderLoad(t *testing.T) {
	s := newStage(t)
	const callers, each, moves = 4, 1500, 15
	var current atomic.Pointer[Box]
	current.Store(s.box)
	var generation, offset atomic.Int64
	random := rand.New(rand.NewPCG(1, 2))
	var writes sync.WaitGroup
	broker := s.broker(func(m *messages.PartitionReady) {
		for {
			request := s.request(1, m.Class)
			request.Identity.Generation = 1 + generation.Load()
			b, status := m.Taker.Take(request)
			if b != nil {
				r := okResult(offset.Add(1))
				switch random.IntN(8) {
				case 0, 1:
					r = errorResult(protocol.NotLeaderOrFollower, -1)
				case 2:
					r = lostResult(true)
				}
				writes.Go(func() {
					r.Now = s.box.settings.Clock.Now()
					b.Settle(r)
					b.WriteEnded()
				})
			}
			if status != messages.TakeMore {
				return
			}
		}
	})
	s.box.Assign(messages.AssignLeader{Broker: broker, ID: 1, LeaderEpoch: 1})
	var answered [callers * each]atomic.Int32
	var running sync.WaitGroup
	for c := range callers {
		running.Go(func() {
			for i := range each {
				n := c*each + i
				a := admission(fmt.Sprint(n, strings.Repeat(" squeeze", 10)), func(messages.Delivery) { answered[n].Add(1) })
				if n/100%2 == 0 {
					a.Codec = codecs.Snappy
				}
				a.Bytes = protocol.RecordUpperBound(0, len(a.Record.Value), nil)
				for box := current.Load(); ; box = current.Load() {
					status := box.Append(a)
					if status == messages.Appended {
						break
					}
					if a.Chunk != nil {
						s.budget.Release(a.Chunk)
						a.Chunk = nil
					}
					if status == messages.AppendClosed {
						time.Sleep(10 * time.Microsecond)
						continue
					}
					var err error
					if a.Chunk, err = s.budget.Acquire(context.Background(), box.Account(), box.NeedBytes(a.Bytes)); err != nil {
						t.Error(err)
						return
					}
				}
				if a.Chunk != nil {
					s.budget.Release(a.Chunk)
				}
			}
		})
	}
	moved := 0
	for n := range moves {
		time.Sleep(time.Millisecond)
		old := current.Load()
		identity := old.Evacuate(messages.ErrUnknownPartition)
		spot := seams.NewParking().NewSpot()
		w := messages.NewFlushWaiter(spot)
		old.Flush(w) // in the middle of the move
		moved += len(old.leaving)
		next := s.after(n+2, identity)
		generation.Add(1)
		old.MoveTo(next)
		next.Assign(messages.AssignLeader{Broker: broker, ID: 1, LeaderEpoch: int32(n + 2)})
		current.Store(next)
		w.Done()
		soon, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := spot.Wait(soon); err != nil {
			t.Errorf("a flush: %v", err)
		}
		cancel()
	}
	running.Wait()
	if moved == 0 {
		t.Error("no batch has moved")
	}
	eventually(t, "every record has an outcome", func() bool { return current.Load().Unanswered() == 0 })
	writes.Wait()
	for i := range answered {
		if n := answered[i].Load(); n != 1 {
			t.Fatalf("record %d has %d outcomes", i, n)
		}
	}
	current.Load().FailAll(messages.ErrClosed)
	eventually(t, "the budget has everything back", func() bool { return s.budget.Used() == 0 })
}
