package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// Reconnect is the strategy of a broker for its connections: the retry policy as
// supervision. It counts failures per child itself, on the seams' clock;
// protoactor's own backoff strategy is linear and its statistics use real time.
// It remembers children as long as they exist.
type Reconnect struct {
	settings *messages.Settings
	random   *rand.Rand

	mu       sync.Mutex
	failures map[string]int
}

// NewReconnect returns the strategy for the broker at path.
func NewReconnect(settings *messages.Settings, path string) *Reconnect {
	return &Reconnect{settings: settings, random: settings.Randomness.For(path + "/supervision"), failures: make(map[string]int)}
}

// HandleFailure implements actor.SupervisorStrategy. It runs in the turn of the
// supervising broker.
func (s *Reconnect) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	var failure *messages.ConnectionFailure
	err, _ := reason.(error)
	expected := errors.As(err, &failure)
	if !expected {
		s.settings.LogPanic(reason).Str("actor", child.Id).Msg("a connection actor panicked: this is a bug")
	}
	s.mu.Lock()
	s.forgetOthers(parent.Children())
	if expected && failure.WasUp {
		delete(s.failures, child.Id)
	}
	s.failures[child.Id]++
	n := s.failures[child.Id]
	allowed := s.settings.Retry.Allows(n)
	delay := s.settings.Retry.Delay(n, s.random)
	if errors.Is(err, messages.ErrAuthentication) || errors.Is(err, messages.ErrCredentials) {
		delay = max(delay, s.settings.Retry.MaxRetryTime) // a few wrong passwords lock some accounts
	}
	if !allowed {
		delete(s.failures, child.Id)
	}
	s.mu.Unlock()
	if !allowed {
		s.gaveUp(failure, reason, n)
		publish(system, child, reason, actor.StopDirective)
		parent.StopChildren(child)
		return
	}
	publish(system, child, reason, actor.RestartDirective)
	timer := s.settings.Clock.NewTimer(func() { parent.RestartChildren(child) })
	timer.Reset(s.settings.Clock.Now().Add(delay))
}

// forgetOthers drops the counts of children that have ended: nobody tells a
// strategy when one is stopped, and every connection has a name of its own.
func (s *Reconnect) forgetOthers(children []*actor.PID) {
	maps.DeleteFunc(s.failures, func(name string, _ int) bool {
		return !slices.ContainsFunc(children, func(c *actor.PID) bool { return c.Id == name })
	})
}

// gaveUp logs that a connection is stopped for good.
func (s *Reconnect) gaveUp(failure *messages.ConnectionFailure, reason any, failures int) {
	o := messages.Occurrence{Kind: messages.LogGaveUp, Broker: messages.AnyBroker, Err: fmt.Errorf("%d failures: %v", failures, reason)}
	if failure != nil {
		o.Broker, o.Address = failure.Broker, failure.Address
		o.Err = fmt.Errorf("%d failures: %w", failures, failure.Reason)
	}
	s.settings.Gate.Happened(o)
}

// restartBugs is the strategy for everything that fails only when there is a
// bug: say so, and go on at once. Actors whose state outlives them and that have
// children of their own are resumed: a restart would end the children.
type restartBugs struct {
	settings *messages.Settings
	// resumes says which children are resumed; they receive Crashed.
	resumes func(child *actor.PID) bool
	// then hears of every failure.
	then func(system *actor.ActorSystem, child *actor.PID)
}

// HandleFailure implements actor.SupervisorStrategy.
func (s restartBugs) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	s.settings.LogPanic(reason).Str("actor", child.Id).Type("message", message).Msg("an actor panicked: this is a bug; it is restarted and its records are kept")
	_, again := message.(*messages.Crashed)
	switch {
	case again:
		// It crashes over what should help it: records get their outcome in its end.
		publish(system, child, reason, actor.StopDirective)
		parent.StopChildren(child)
	case s.resumes != nil && s.resumes(child):
		publish(system, child, reason, actor.ResumeDirective)
		parent.ResumeChildren(child)
		system.Root.Send(child, &messages.Crashed{Reason: reason, Message: message})
	default:
		publish(system, child, reason, actor.RestartDirective)
		parent.RestartChildren(child)
	}
	if s.then != nil {
		s.then(system, child)
	}
}

// rootGuardian is the strategy for the roots of all troupes of a system: each is
// resumed, and says itself what happened. The system keeps one process for it.
type rootGuardian struct{ _ byte }

var guardian = &rootGuardian{}

// HandleFailure implements actor.SupervisorStrategy.
func (*rootGuardian) HandleFailure(system *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	if _, again := message.(*messages.Crashed); again {
		publish(system, child, reason, actor.StopDirective)
		parent.StopChildren(child)
		return
	}
	publish(system, child, reason, actor.ResumeDirective)
	parent.ResumeChildren(child)
	system.Root.Send(child, &messages.Crashed{Reason: reason, Message: message})
}

// publish tells subscribers of the system's event stream, as protoactor's own
// strategies do.
func publish(system *actor.ActorSystem, child *actor.PID, reason any, directive actor.Directive) {
	system.EventStream.Publish(&actor.SupervisorEvent{Child: child, Reason: reason, Directive: directive})
}

var (
	_ actor.SupervisorStrategy = (*Reconnect)(nil)
	_ actor.SupervisorStrategy = restartBugs{}
	_ actor.SupervisorStrategy = (*rootGuardian)(nil)
)
