package accumulator

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// accumulator is one incarnation of a partition's actor. It holds nothing but
// the way to its box.
type accumulator struct{ box *Box }

// NewLingers returns the line of lingers for the accumulators of one producer.
func NewLingers(settings *messages.Settings, system *actor.ActorSystem) *Lingers {
	return newLingers(settings, func(leader messages.AssignLeader, news *messages.PartitionsReady) {
		system.Root.Send(leader.Broker, news)
	})
}

// Spawn starts the accumulator of a topic-partition below parent and returns its
// box. Requests for metadata and epochs go to root.
func Spawn(parent actor.SpawnerContext, settings *messages.Settings, budget *memory.Budget, lingers *Lingers, root *actor.PID, spec messages.AccumulatorSpec) (*Box, error) {
	name := fmt.Sprintf("topic/%s/%d", spec.Topic, spec.Partition)
	if spec.Incarnation > 1 {
		name = fmt.Sprintf("%s.%d", name, spec.Incarnation)
	}
	path := settings.Name + "/" + name
	b := &Box{
		Mailbox: seams.NewMailbox(path, settings.Tracer), settings: settings, budget: budget, lingers: lingers,
		system: parent.ActorSystem(), root: root, topicID: spec.TopicID, timing: seams.Never,
		state: *newState(config{
			topic: spec.Topic, partition: spec.Partition, batchMaxBytes: settings.BatchMaxBytes, linger: settings.Linger,
			deliveryTimeout: settings.DeliveryTimeout, idempotent: settings.Idempotent,
			maxInFlight: settings.MaxInFlight, unnumberedInFlight: settings.UnnumberedInFlight,
			slowRequest: settings.SlowRequest, retry: settings.Retry, random: settings.Randomness.For(path),
			resendInnocent: settings.ResendInnocent, codecs: settings.Codecs, troubles: settings.Troubles,
		}),
	}
	b.state.grow = func(c *memory.Chunk, n int) { budget.Grow(b.account.Load(), c, n) }
	b.state.charge = func(bytes []byte) *memory.Chunk { return budget.Adopt(b.account.Load(), bytes) }
	if l, ok := settings.Sequences.Recall(spec.Topic, spec.TopicID, spec.Partition); ok {
		b.state.recall(l)
	} else if spec.After.Known() {
		b.state.recall(messages.LastSequence{Identity: spec.After, Gap: true})
	}
	b.lane.box, b.lane.run = b, b.lane.drain
	b.watcher, _ = settings.Tracer.(messages.PartitionWatcher)
	b.state.decisions = settings.DecisionsOf(path)
	b.timer = settings.Clock.NewTimer(b.Signal)
	props := actor.PropsFromProducer(func() actor.Actor { return &accumulator{box: b} }, actor.WithMailbox(func() actor.Mailbox { return b }), actor.WithDispatcher(settings.Dispatcher))
	pid, err := parent.SpawnNamed(props, name)
	if err != nil {
		return nil, fmt.Errorf("accumulator %s: %w", name, err)
	}
	b.pid = pid
	return b, nil
}

// Receive implements actor.Actor.
func (a *accumulator) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Started:
		a.box.adopt()
	case *seams.Woken:
		a.box.step()
	case *actor.Stopping:
		// The net below every other way to answer: whoever stops us, records that
		// are left get their outcome, and later ones are refused.
		a.box.timer.Stop()
		a.box.FailAll(messages.ErrClosed)
		a.box.keepSequence()
		a.box.Count()
	}
}
