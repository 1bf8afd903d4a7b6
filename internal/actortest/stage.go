// Package actortest is what the tests of several packages share: one actor on a stage
// of its own, and the patience that its system's goroutines need to end. Nothing but
// tests imports it (tests/architecture).
package actortest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Stage is the actor in an actor system of which the test is clock, dispatcher
// and everybody else: nothing happens but in a call of the test.
type Stage struct {
	T *testing.T
	// PID is the actor's, Log what its gate has written.
	PID *actor.PID
	Log []messages.LogLine

	now    seams.Instant
	timers []*stageTimer
	turns  []func()
	system *actor.ActorSystem
	heard  []any // by the root
}

type stageTimer struct {
	at   seams.Instant
	fire func()
}

func (t *stageTimer) Reset(at seams.Instant) { t.at = at }
func (t *stageTimer) Stop()                  { t.at = seams.Never }

// Now implements seams.Clock.
func (s *Stage) Now() seams.Instant { return s.now }

// Read implements seams.Clock.
func (s *Stage) Read() (seams.Instant, int64) { return s.now, int64(s.now) / 1e6 }

// Schedule implements actor.Dispatcher.
func (s *Stage) Schedule(fn func()) { s.turns = append(s.turns, fn) }

// Throughput implements actor.Dispatcher.
func (s *Stage) Throughput() int { return 1 }

// NewTimer implements seams.Clock.
func (s *Stage) NewTimer(fire func()) seams.Timer {
	t := &stageTimer{seams.Never, fire}
	s.timers = append(s.timers, t)
	return t
}

// WithTimeout implements seams.Clock; it never ends by itself.
func (s *Stage) WithTimeout(parent context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
	return context.WithCancel(parent)
}

// New starts the actor. The retry policy has no jitter.
func New(t *testing.T, props func(*messages.Settings, *actor.PID) *actor.Props) *Stage {
	s := &Stage{T: t, now: seams.Instant(time.Hour)}
	s.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	settings := &messages.Settings{
		Name: "test", Seeds: []string{"one:9092", "two:9092"}, RequestTimeout: 30 * time.Second, RequestTimeoutSlack: 10 * time.Second,
		MetadataMaxAge: 5 * time.Minute, MetadataMinAge: 50 * time.Millisecond, MetadataHedge: 2 * time.Second, AllowAutoTopicCreate: true,
		Retry: messages.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: time.Second, Multiplier: 2, Retries: messages.UnlimitedRetries},
		Clock: s, Dispatcher: s, Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1),
		Gate: messages.NewLogGate(s, func(l messages.LogLine) { s.Log = append(s.Log, l) }),
	}
	root := s.system.Root.Spawn(settings.Props("root", func() actor.Actor {
		return actor.ReceiveFunc(func(c actor.Context) {
			if _, lifecycle := c.Message().(actor.SystemMessage); !lifecycle {
				s.heard = append(s.heard, c.Message())
			}
		})
	}))
	s.PID = s.system.Root.Spawn(props(settings, root))
	s.run()
	s.heard = nil
	t.Cleanup(func() {
		s.system.Root.Stop(s.PID)
		s.system.Root.Stop(root)
		s.run()
		s.system.Shutdown()
		settings.Gate.Close()
		if s.SetTimers() > 0 {
			t.Error("a timer is left behind")
		}
	})
	return s
}

// run gives turns until nobody has anything to do.
func (s *Stage) run() {
	for len(s.turns) > 0 {
		turn := s.turns[0]
		s.turns = s.turns[1:]
		turn()
	}
}

// Tell sends messages to the actor, all of them before its first turn.
func (s *Stage) Tell(list ...any) {
	for _, m := range list {
		s.system.Root.Send(s.PID, m)
	}
	s.run()
}

// Restart has the actor restarted, as its supervisor does after a bug.
func (s *Stage) Restart() {
	s.T.Helper()
	process, ok := s.system.ProcessRegistry.Get(s.PID)
	if !ok {
		s.T.Fatal("the actor is gone")
	}
	process.SendSystemMessage(s.PID, &actor.Restart{})
	s.run()
}

// Advance lets time pass; timers fire when they are due, in order.
func (s *Stage) Advance(d time.Duration) {
	end := s.now.Add(d)
	for {
		var next *stageTimer
		for _, t := range s.timers {
			if t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		if next == nil {
			break
		}
		s.now, next.at = max(s.now, next.at), seams.Never
		next.fire()
		s.run()
	}
	s.now = end
}

// Hear takes the next message to the root, which must be a T.
func Hear[T any](s *Stage) T {
	s.T.Helper()
	if len(s.heard) == 0 {
		s.T.Fatal("the root hears nothing")
	}
	m, ok := s.heard[0].(T)
	if !ok {
		s.T.Fatalf("the root hears %T %+v", s.heard[0], s.heard[0])
	}
	s.heard = s.heard[1:]
	return m
}

// Silent fails if the root has heard anything that was not taken.
func (s *Stage) Silent() {
	s.T.Helper()
	if len(s.heard) > 0 {
		s.T.Fatalf("the root hears %T %+v", s.heard[0], s.heard[0])
	}
}

// SetTimers is how many timers are set.
func (s *Stage) SetTimers() (set int) {
	for _, t := range s.timers {
		if t.at != seams.Never {
			set++
		}
	}
	return set
}

// After fails unless the root hears something after exactly d.
func (s *Stage) After(d time.Duration) {
	s.T.Helper()
	s.Silent()
	s.Advance(d - 1)
	s.Silent()
	s.Advance(1)
	if len(s.heard) == 0 {
		s.T.Fatalf("the root hears nothing after %v", d)
	}
}
