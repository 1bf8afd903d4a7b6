package sequencer

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

// stage is the actor in an actor system of which the test is clock, dispatcher
// and everybody else: nothing happens but in a call of the test.
type stage struct {
	t      *testing.T
	now    seams.Instant
	timers []*stageTimer
	turns  []func()
	system *actor.ActorSystem
	pid    *actor.PID
	heard  []any // by the root
	log    []messages.LogLine
}

type stageTimer struct {
	at   seams.Instant
	fire func()
}

func (t *stageTimer) Reset(at seams.Instant) { t.at = at }
func (t *stageTimer) Stop()                  { t.at = seams.Never }

func (s *stage) Now() seams.Instant           { return s.now }
func (s *stage) Read() (seams.Instant, int64) { return s.now, int64(s.now) / 1e6 }
func (s *stage) Schedule(fn func())           { s.turns = append(s.turns, fn) }
func (s *stage) Throughput() int              { return 1 }

func (s *stage) NewTimer(fire func()) seams.Timer {
	t := &stageTimer{seams.Never, fire}
	s.timers = append(s.timers, t)
	return t
}

func (s *stage) WithTimeout(parent context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
	return context.WithCancel(parent)
}

// newStage starts the actor. The retry policy has no jitter.
func newStage(t *testing.T, props func(*messages.Settings, *actor.PID) *actor.Props) *stage {
	s := &stage{t: t, now: seams.Instant(time.Hour)}
	s.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	settings := &messages.Settings{
		Name: "test", Seeds: []string{"one:9092", "two:9092"}, RequestTimeout: 30 * time.Second, RequestTimeoutSlack: 10 * time.Second,
		MetadataMaxAge: 5 * time.Minute, MetadataMinAge: 50 * time.Millisecond, MetadataHedge: 2 * time.Second, AllowAutoTopicCreate: true,
		Retry: messages.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: time.Second, Multiplier: 2, Retries: messages.UnlimitedRetries},
		Clock: s, Dispatcher: s, Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1),
		Gate: messages.NewLogGate(s, func(l messages.LogLine) { s.log = append(s.log, l) }),
	}
	root := s.system.Root.Spawn(settings.Props("root", func() actor.Actor {
		return actor.ReceiveFunc(func(c actor.Context) {
			if _, lifecycle := c.Message().(actor.SystemMessage); !lifecycle {
				s.heard = append(s.heard, c.Message())
			}
		})
	}))
	s.pid = s.system.Root.Spawn(props(settings, root))
	s.run()
	s.heard = nil
	t.Cleanup(func() {
		s.system.Root.Stop(s.pid)
		s.system.Root.Stop(root)
		s.run()
		s.system.Shutdown()
		settings.Gate.Close()
		for _, timer := range s.timers {
			if timer.at != seams.Never {
				t.Error("a timer is left behind")
			}
		}
	})
	return s
}

// run gives turns until nobody has anything to do.
func (s *stage) run() {
	for len(s.turns) > 0 {
		turn := s.turns[0]
		s.turns = s.turns[1:]
		turn()
	}
}

// tell sends messages to the actor, all of them before its first turn.
func (s *stage) tell(list ...any) {
	for _, m := range list {
		s.system.Root.Send(s.pid, m)
	}
	s.run()
}

// restart has the actor restarted, as its supervisor does after a bug.
func (s *stage) restart() {
	s.t.Helper()
	process, ok := s.system.ProcessRegistry.Get(s.pid)
	if !ok {
		s.t.Fatal("the actor is gone")
	}
	process.SendSystemMessage(s.pid, &actor.Restart{})
	s.run()
}

// advance lets time pass; timers fire when they are due, in order.
func (s *stage) advance(d time.Duration) {
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

// hear takes the next message to the root, which must be a T.
func hear[T any](s *stage) T {
	s.t.Helper()
	if len(s.heard) == 0 {
		s.t.Fatal("the root hears nothing")
	}
	m, ok := s.heard[0].(T)
	if !ok {
		s.t.Fatalf("the root hears %T %+v", s.heard[0], s.heard[0])
	}
	s.heard = s.heard[1:]
	return m
}

func (s *stage) silent() {
	s.t.Helper()
	if len(s.heard) > 0 {
		s.t.Fatalf("the root hears %T %+v", s.heard[0], s.heard[0])
	}
}

// after fails unless the root hears something after exactly d.
func (s *stage) after(d time.Duration) {
	s.t.Helper()
	s.silent()
	s.advance(d - 1)
	s.silent()
	s.advance(1)
	if len(s.heard) == 0 {
		s.t.Fatalf("the root hears nothing after %v", d)
	}
}
