package router

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// Process is the PID that users send to. It is not an actor: it handles Produce
// on the sender's goroutine, and passes on what has to do with the life of the
// producer to the root, which lives and dies like any actor.
//
// It outlives the tree, as a tombstone: every message to the PID is answered
// with ErrClosed, every Watch with Terminated, and nobody else gets the name. It
// then holds nothing but the system it answers through. There is one for each
// producer that a system ever had, less than 1 KiB with its place in the registry:
// who makes and closes producers all the time in one system names that many actors.
type Process struct {
	system *actor.ActorSystem
	router atomic.Pointer[Router] // nil after the end

	mu       sync.Mutex
	ended    bool
	watchers []*actor.PID
}

// Process returns the process to register under the producer's name.
func (r *Router) Process() *Process { return r.process }

// SendUserMessage implements actor.Process.
func (p *Process) SendUserMessage(_ *actor.PID, message any) {
	body, sender := message, (*actor.PID)(nil)
	if envelope, ok := message.(*actor.MessageEnvelope); ok {
		body, sender = envelope.Message, envelope.Sender
	}
	r := p.router.Load()
	if r == nil {
		p.refuse(body, sender)
		return
	}
	switch m := body.(type) {
	case *messages.Produce:
		r.produceFor(m, sender)
	case *actor.PoisonPill:
		p.system.Root.Send(r.Root, &messages.BeginClose{})
	default:
		p.system.Root.Send(r.Root, message)
	}
}

// refuse answers a message that comes after the end.
func (p *Process) refuse(body any, sender *actor.PID) {
	var record messages.Record
	if m, ok := body.(*messages.Produce); ok {
		record = m.Record
		if m.ReplyTo != nil {
			sender = m.ReplyTo
		}
	}
	if sender != nil {
		p.system.Root.Send(sender, &messages.Delivered{Delivery: refusal(&record, messages.ErrClosed)})
	}
}

// refusal is the outcome of a record that was not admitted.
func refusal(r *messages.Record, err error) messages.Delivery {
	id, set := r.Partition.Get()
	if !set {
		id = -1
	}
	return messages.Delivery{
		Topic: r.Topic, Partition: id, Offset: -1, LogAppendTimeMs: -1, LogStartOffset: -1,
		Status: messages.NotPersisted, Err: err, Opaque: r.Opaque, Tag: r.Tag,
	}
}

// SendSystemMessage implements actor.Process: the end that watchers hear of is
// the end of the tree.
func (p *Process) SendSystemMessage(pid *actor.PID, message any) {
	switch m := message.(type) {
	case *actor.Stop:
		p.Stop(pid)
	case *actor.Watch:
		p.mu.Lock()
		ended := p.ended
		if !ended && !slices.ContainsFunc(p.watchers, m.Watcher.Equal) {
			p.watchers = append(p.watchers, m.Watcher)
		}
		p.mu.Unlock()
		if ended {
			p.terminated(m.Watcher, pid)
		}
	case *actor.Unwatch:
		p.mu.Lock()
		p.watchers = slices.DeleteFunc(p.watchers, m.Watcher.Equal)
		p.mu.Unlock()
	}
}

// Stop implements actor.Process: it begins Close and returns at once.
func (p *Process) Stop(*actor.PID) {
	if r := p.router.Load(); r != nil {
		p.system.Root.Send(r.Root, &messages.BeginClose{})
	}
}

// End tells those who watch that the tree is down, and leaves the tombstone. who
// is the process' own PID.
func (p *Process) End(who *actor.PID) {
	p.router.Store(nil)
	p.mu.Lock()
	watchers := p.watchers
	p.ended, p.watchers = true, nil
	p.mu.Unlock()
	for _, w := range watchers {
		p.terminated(w, who)
	}
}

func (p *Process) terminated(watcher, who *actor.PID) {
	if to, ok := p.system.ProcessRegistry.Get(watcher); ok {
		to.SendSystemMessage(watcher, &actor.Terminated{Who: who})
	}
}

// produceFor admits an actor's record. It never waits, since it runs in the
// sender's turn.
func (r *Router) produceFor(m *messages.Produce, sender *actor.PID) {
	if m.ReplyTo != nil {
		sender = m.ReplyTo
	}
	ctx := m.Context
	if ctx == nil {
		ctx = context.Background()
	}
	t, err := r.Topic(m.Record.Topic)
	if err == nil {
		err = t.produceFor(ctx, &m.Record, sender)
	}
	if err == nil || sender == nil {
		return
	}
	r.deliver(sender, refusal(&m.Record, err))
	var full *fullError
	if errors.As(err, &full) {
		// After the refusal: an actor that hears of room first would wait for it
		// for ever afterwards.
		r.tellWritable(sender, full)
	}
}

// deliver sends an actor the outcome of a record that reached no partition.
func (r *Router) deliver(to messages.Recipient, d messages.Delivery) {
	r.system.Root.Send(to, &messages.Delivered{Delivery: d})
}

// writable are the actors to be told of room, each once per account however many
// of its records were refused.
type writable struct {
	mu      sync.Mutex
	waiting map[refusedBy]bool
}

type refusedBy struct {
	address, id string
	account     *memory.Account
}

func (r *Router) tellWritable(sender *actor.PID, full *fullError) {
	key := refusedBy{sender.Address, sender.Id, full.account}
	w := &r.writable
	w.mu.Lock()
	known := w.waiting[key]
	if w.waiting == nil {
		w.waiting = make(map[refusedBy]bool)
	}
	w.waiting[key] = true
	w.mu.Unlock()
	if known {
		return
	}
	r.Budget.NotifyRoom(full.account, full.bytes, func() {
		w.mu.Lock()
		delete(w.waiting, key)
		w.mu.Unlock()
		r.system.Root.Send(sender, &messages.Writable{})
	})
}
