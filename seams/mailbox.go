package seams

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// Woken is the user message that a mailbox delivers once for any number of
// Signal calls since the last time.
type Woken struct{}

// Tracer sees each message as it is handed to its actor. The path is the
// actor's name, stable between runs.
type Tracer interface {
	Received(path string, message any)
}

// PostTracer is a Tracer that also sees each message as it is sent, so that it
// can tell what caused what.
type PostTracer interface {
	Tracer
	Posted(path string, message any)
}

// Mailbox is the mailbox of every actor of the troupe: unbounded (what it holds
// was admitted by somebody's budget), system messages first, one reschedule per
// turn of the dispatcher's throughput. Unlike protoactor's own it can be
// signalled without a message, which is how a partition wakes its accumulator.
type Mailbox struct {
	path       string
	tracer     Tracer
	posted     PostTracer // nil unless the tracer wants to see what is sent
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	throughput int
	turn       func()

	mu        sync.Mutex
	system    queue
	user      queue
	signalled bool
	suspended bool
	scheduled bool

	first [4]any // of system: each actor has one or two at once, sooner or later
}

// NewMailbox returns a mailbox for the actor at path; tracer may be nil.
func NewMailbox(path string, tracer Tracer) *Mailbox {
	m := &Mailbox{path: path, tracer: tracer}
	m.system.in, m.system.out = m.first[:0:2], m.first[2:2]
	m.posted, _ = tracer.(PostTracer)
	m.turn = m.run
	return m
}

// RegisterHandlers implements actor.Mailbox.
func (m *Mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	m.invoker, m.dispatcher, m.throughput = invoker, dispatcher, dispatcher.Throughput()
	schedule := m.shouldScheduleLocked()
	m.mu.Unlock()
	if schedule {
		dispatcher.Schedule(m.turn)
	}
}

// Start implements actor.Mailbox.
func (m *Mailbox) Start() {}

// UserMessageCount implements actor.Mailbox.
func (m *Mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// PostUserMessage implements actor.Mailbox.
func (m *Mailbox) PostUserMessage(message any) {
	if m.posted != nil {
		m.posted.Posted(m.path, message)
	}
	m.mu.Lock()
	m.user.push(message)
	schedule := m.shouldScheduleLocked()
	m.mu.Unlock()
	if schedule {
		m.dispatcher.Schedule(m.turn)
	}
}

// PostSystemMessage implements actor.Mailbox.
func (m *Mailbox) PostSystemMessage(message any) {
	if m.posted != nil {
		m.posted.Posted(m.path, message)
	}
	m.mu.Lock()
	m.system.push(message)
	schedule := m.shouldScheduleLocked()
	m.mu.Unlock()
	if schedule {
		m.dispatcher.Schedule(m.turn)
	}
}

// Signal makes the actor receive one Woken, however often it is called before
// the actor's next turn.
func (m *Mailbox) Signal() {
	if m.posted != nil {
		m.posted.Posted(m.path, woken)
	}
	m.mu.Lock()
	m.signalled = true
	schedule := m.shouldScheduleLocked()
	m.mu.Unlock()
	if schedule {
		m.dispatcher.Schedule(m.turn)
	}
}

func (m *Mailbox) runnableLocked() bool {
	return m.system.len() > 0 || (!m.suspended && (m.signalled || m.user.len() > 0))
}

func (m *Mailbox) shouldScheduleLocked() bool {
	if m.scheduled || m.dispatcher == nil || !m.runnableLocked() {
		return false
	}
	m.scheduled = true
	return true
}

var woken any = &Woken{}

func (m *Mailbox) run() {
	for range max(m.throughput, 1) {
		m.mu.Lock()
		if !m.runnableLocked() {
			m.scheduled = false
			m.mu.Unlock()
			return
		}
		// A message may be nil: anybody can send that.
		var message any
		system := false
		switch {
		case m.system.len() > 0:
			message, system = m.system.pop(), true
		case m.signalled:
			m.signalled = false
			message = woken
		default:
			message = m.user.pop()
		}
		switch message.(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		default:
			m.mu.Unlock()
			m.invoke(message, system)
			continue
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	again := m.runnableLocked()
	m.scheduled = again
	m.mu.Unlock()
	if again {
		m.dispatcher.Schedule(m.turn)
	}
}

func (m *Mailbox) invoke(message any, system bool) {
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(panicOf(reason), message)
		}
	}()
	if m.tracer != nil {
		m.tracer.Received(m.path, message)
	}
	if system {
		m.invoker.InvokeSystemMessage(message)
		return
	}
	m.invoker.InvokeUserMessage(message)
}

// queue is a FIFO of two slices that swap, so that a steady flow allocates
// nothing.
type queue struct {
	in, out []any
	next    int
}

func (q *queue) len() int { return len(q.in) + len(q.out) - q.next }

func (q *queue) push(message any) {
	if q.in == nil && q.out == nil {
		// Most actors have a few at once, sooner or later.
		both := make([]any, 8)
		q.in, q.out = both[:0:4], both[4:4]
	}
	q.in = append(q.in, message)
}

func (q *queue) pop() any {
	if q.next == len(q.out) {
		q.in, q.out, q.next = q.out[:0], q.in, 0
	}
	message := q.out[q.next]
	q.out[q.next] = nil
	q.next++
	return message
}
