package accumulator

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// ears are processes that hear what a rig's lane sends to actors.
type ears struct {
	t      testing.TB
	system *actor.ActorSystem
}

func newEars(t testing.TB, r *rig) *ears {
	silent := func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }
	e := &ears{t, actor.NewActorSystem(actor.WithLoggerFactory(silent))}
	t.Cleanup(e.system.Shutdown)
	r.box.system = e.system
	return e
}

type ear func(*messages.Delivered)

func (e ear) SendUserMessage(_ *actor.PID, m any) { e(m.(*messages.Delivered)) }
func (e ear) SendSystemMessage(*actor.PID, any)   {}
func (e ear) Stop(*actor.PID)                     {}

func (e *ears) add(name string, hear func(*messages.Delivered)) *actor.PID {
	pid, fresh := e.system.ProcessRegistry.Add(ear(hear), name)
	if !fresh {
		e.t.Fatal("the name is taken")
	}
	return pid
}

// TestRepliesGoToTheirActors: whoever sent a record hears of it, once and in order,
// beside callbacks and records that nobody waits for, when some are cut out of the
// batch and when it is split. What was received before does not change.
func TestRepliesGoToTheirActors(t *testing.T) {
	const n = 200
	for name, split := range map[string]bool{"whole": false, "split": true} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 5))
			for range 30 {
				c := testConfig()
				c.batchMaxBytes = 1 << 20
				r := newRig(t, c)
				e := newEars(t, r)
				heard := make([][]messages.Delivery, 4) // two actors, a callback, nobody
				var kept []*messages.Delivered
				hear := func(i int) func(*messages.Delivered) {
					return func(m *messages.Delivered) {
						heard[i] = append(heard[i], m.Delivery)
						kept = append(kept, m)
					}
				}
				actors := []*actor.PID{e.add("a", hear(0)), e.add("b", hear(1))}
				gone := endedContext(context.Canceled)
				sent := make([][]uint64, 4)
				ended := make(map[uint64]bool)
				who, left := 3, 0
				for tag := uint64(1); tag <= n; tag++ {
					if left == 0 {
						who, left = random.IntN(4), 1+random.IntN(9)
					}
					left--
					a := admission("value", nil)
					switch who {
					case 0, 1:
						a.ReplyTo = actors[who]
					case 2:
						a.Callback = func(d messages.Delivery) { heard[2] = append(heard[2], d) }
					}
					a.Record.Tag, a.Record.Opaque = tag, tag
					if random.IntN(5) == 0 {
						a.Context, ended[tag] = gone, true
					}
					sent[who] = append(sent[who], tag)
					if status := r.append(a); status != messages.Appended {
						t.Fatal(status)
					}
				}
				sent[3] = nil
				r.s.open.urgent = true
				r.step()
				r.effects() // those whose context has ended
				r.assign(1, 1)
				take := func() *attempt {
					a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: messages.Class{Acks: messages.AcksAll}})
					if a == nil {
						t.Fatal("nothing to take")
					}
					return a
				}
				if split {
					a := take()
					r.deliver(a, errorResult(protocol.MessageTooLarge, -1))
					a.WriteEnded()
					r.effects()
					r.now = r.now.Add(time.Minute)
				}
				for offset := int64(0); len(r.s.pending) > 0; {
					a := take()
					r.deliver(a, okResult(offset))
					offset += int64(a.batch.count)
					a.WriteEnded()
					r.effects()
				}
				for i := range heard {
					persisted := int64(-1)
					var tags []uint64
					for _, d := range heard[i] {
						tags = append(tags, d.Tag)
						switch {
						case d.Opaque != d.Tag:
							t.Fatalf("the Opaque of record %d is %v", d.Tag, d.Opaque)
						case ended[d.Tag] != errors.Is(d.Err, context.Canceled), ended[d.Tag] == (d.Err == nil):
							t.Fatalf("record %d: %+v", d.Tag, d)
						case d.Err == nil && d.Offset <= persisted:
							t.Fatalf("record %d has offset %d after %d", d.Tag, d.Offset, persisted)
						case d.Err == nil:
							persisted = d.Offset
						}
					}
					slices.Sort(tags) // the ended ones came first
					if !slices.Equal(tags, sent[i]) {
						t.Fatalf("%d heard of %v, sent %v", i, tags, sent[i])
					}
				}
				for i, m := range kept {
					if slices.Contains(kept[:i], m) || (!slices.Contains(heard[0], m.Delivery) && !slices.Contains(heard[1], m.Delivery)) {
						t.Fatalf("message %d was used again: %+v", i, m)
					}
				}
			}
		})
	}
}
