package router

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// process is the PID that users send to. It is not an actor: it handles Produce
// on the sender's goroutine, and passes on everything that has to do with the
// life of the producer to the root, which lives and dies like any actor.
type process struct{ router *Router }

// Process returns the process to register under the producer's name.
func (r *Router) Process() actor.Process { return &r.process }

// SendUserMessage implements actor.Process.
func (p *process) SendUserMessage(_ *actor.PID, message any) {
	r := p.router
	body, sender := message, (*actor.PID)(nil)
	if envelope, ok := message.(*actor.MessageEnvelope); ok {
		body, sender = envelope.Message, envelope.Sender
	}
	switch m := body.(type) {
	case *messages.Produce:
		r.produceFor(m, sender)
	case *actor.PoisonPill:
		r.system.Root.Send(r.Root, &messages.BeginClose{})
	default:
		r.system.Root.Send(r.Root, message)
	}
}

// SendSystemMessage implements actor.Process: who watches the producer watches
// its root, whose end is the end of the tree.
func (p *process) SendSystemMessage(_ *actor.PID, message any) {
	switch m := message.(type) {
	case *actor.Stop:
		p.Stop(nil)
	case *actor.Watch, *actor.Unwatch:
		p.router.system.Root.Send(p.router.Root, &messages.WatchProducer{Message: m})
	}
}

// Stop implements actor.Process: it begins Close and returns at once.
func (p *process) Stop(*actor.PID) {
	p.router.system.Root.Send(p.router.Root, &messages.BeginClose{})
}

// produceFor admits an actor's record. It never waits, since it runs in the
// sender's turn.
func (r *Router) produceFor(m *messages.Produce, sender *actor.PID) {
	if m.ReplyTo != nil {
		sender = m.ReplyTo
	}
	reply := func(d messages.Delivery) {
		if sender != nil {
			r.system.Root.Send(sender, &messages.Delivered{Delivery: d})
		}
	}
	ctx := m.Context
	if ctx == nil {
		ctx = context.Background()
	}
	t, err := r.Topic(m.Record.Topic)
	if err == nil {
		err = t.Produce(ctx, &m.Record, reply, Options{Acks: r.Settings.Acks, Codec: r.Settings.Compression})
	}
	if err == nil {
		return
	}
	id, set := m.Record.Partition.Get()
	if !set {
		id = -1
	}
	reply(messages.Delivery{
		Topic: m.Record.Topic, Partition: id, Offset: -1, LogAppendTimeMs: -1, LogStartOffset: -1,
		Status: messages.NotPersisted, Err: err, Opaque: m.Record.Opaque, Tag: m.Record.Tag,
	})
	if sender != nil && isBufferFull(err) {
		// After the refusal: an actor that hears of room first would wait for it
		// for ever afterwards.
		r.Budget.NotifyRoom(func() { r.system.Root.Send(sender, &messages.Writable{}) })
	}
}
