package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// timerClock notes for how long timers are set, and fires them on demand.
type timerClock struct {
	seams.Clock
	delays []time.Duration
	fires  []func()
}

type notedTimer struct {
	clock *timerClock
	fire  func()
}

func (c *timerClock) Now() seams.Instant { return 1000 }
func (c *timerClock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, d)
}
func (c *timerClock) NewTimer(fire func()) seams.Timer { return &notedTimer{c, fire} }
func (t *notedTimer) Reset(at seams.Instant) {
	t.clock.delays = append(t.clock.delays, at.Sub(1000))
	t.clock.fires = append(t.clock.fires, t.fire)
}
func (t *notedTimer) Stop() {}

// guard notes what the strategy decides.
type guard struct {
	actor.Supervisor
	restarted, stopped []string
	children           []*actor.PID
}

func (g *guard) Children() []*actor.PID { return g.children }

func (g *guard) RestartChildren(pids ...*actor.PID) { g.restarted = append(g.restarted, pids[0].Id) }
func (g *guard) StopChildren(pids ...*actor.PID)    { g.stopped = append(g.stopped, pids[0].Id) }

// court is a strategy with everything around it.
type court struct {
	*Reconnect
	clock  *timerClock
	guard  *guard
	system *actor.ActorSystem
	events []actor.Directive
}

func newCourt(t *testing.T, retries int) *court {
	c := &court{clock: &timerClock{}, guard: &guard{}, system: actor.NewActorSystem(actor.WithLoggerFactory(
		func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))}
	t.Cleanup(c.system.Shutdown)
	c.system.EventStream.Subscribe(func(m any) {
		if e, ok := m.(*actor.SupervisorEvent); ok {
			c.events = append(c.events, e.Directive)
		}
	})
	c.Reconnect = NewReconnect(&messages.Settings{
		Clock: c.clock, Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1), Gate: messages.NewLogGate(c.clock, func(messages.LogLine) {}),
		Retry: messages.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: time.Second, Multiplier: 2, Retries: retries},
	}, "broker/1")
	return c
}

func (c *court) fail(child string, reason any) {
	if !slices.ContainsFunc(c.guard.children, func(p *actor.PID) bool { return p.Id == child }) {
		c.guard.children = append(c.guard.children, actor.NewPID("here", child))
	}
	c.HandleFailure(c.system, c.guard, actor.NewPID("here", child), nil, reason, nil)
}

func refusedBy(wasUp bool) *messages.ConnectionFailure {
	return &messages.ConnectionFailure{Address: "a:1", Reason: errors.New("refused"), WasUp: wasUp}
}

func (c *court) expect(t *testing.T, want ...time.Duration) {
	t.Helper()
	for i, w := range want {
		if i >= len(c.clock.delays) || c.clock.delays[i] != w*time.Millisecond {
			t.Fatalf("delays %v, expected %d ms", c.clock.delays, want)
		}
	}
	if len(c.clock.delays) != len(want) {
		t.Fatalf("delays %v, expected %d", c.clock.delays, len(want))
	}
}

func TestDelaysGrowPerChild(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	for range 6 {
		c.fail("one", refusedBy(false))
	}
	c.fail("two", refusedBy(false))
	c.expect(t, 100, 200, 400, 800, 1000, 1000, 100)
	if len(c.guard.restarted) != 0 {
		t.Fatal("restarted without a wait")
	}
	c.clock.fires[6]()
	if len(c.guard.restarted) != 1 || c.guard.restarted[0] != "two" || len(c.guard.stopped) != 0 {
		t.Errorf("restarted %v, stopped %v", c.guard.restarted, c.guard.stopped)
	}
	if len(c.events) != 7 || c.events[0] != actor.RestartDirective {
		t.Errorf("published %v", c.events)
	}
}

// TestDelaysBeginAnew once a connection has been up.
func TestDelaysBeginAnew(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	for _, up := range []bool{false, false, false, true, false, true} {
		c.fail("one", refusedBy(up))
	}
	c.expect(t, 100, 200, 400, 100, 200, 100)
}

func TestRetriesUsedUp(t *testing.T) {
	c := newCourt(t, 2)
	for range 3 {
		c.fail("one", refusedBy(false))
	}
	c.expect(t, 100, 200)
	if len(c.guard.stopped) != 1 || c.events[2] != actor.StopDirective {
		t.Errorf("stopped %v, published %v", c.guard.stopped, c.events)
	}
	if len(c.failures) != 0 {
		t.Errorf("%v is remembered of a stopped child", c.failures)
	}
}

// TestStoppedChildrenAreForgotten: a broker stops connections that nobody needs,
// and each next one has a name of its own.
func TestStoppedChildrenAreForgotten(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	for i := range 1000 {
		c.guard.children = nil
		c.fail("keeps", refusedBy(false))
		c.fail(fmt.Sprintf("produce-%d", i), refusedBy(false))
		if len(c.failures) > 2 {
			t.Fatalf("after %d connections, %d are remembered", i, len(c.failures))
		}
	}
	if c.failures["keeps"] != 1000 {
		t.Errorf("%d failures of the one that is still there", c.failures["keeps"])
	}
}

// TestNoRetries stops at the first failure.
func TestNoRetries(t *testing.T) {
	c := newCourt(t, 0)
	c.fail("one", refusedBy(true))
	c.expect(t)
	if len(c.guard.stopped) != 1 {
		t.Errorf("stopped %v", c.guard.stopped)
	}
}

// TestBugsBackOffToo: a connection that panics is restarted like one that fails.
func TestBugsBackOffToo(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	for _, reason := range []any{"a bug", errors.New("another"), nil} {
		c.fail("one", reason)
	}
	c.expect(t, 100, 200, 400)
}

func TestOtherActorsRestartAtOnce(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	restartBugs{settings: c.settings}.HandleFailure(c.system, c.guard, actor.NewPID("here", "router"), nil, "a bug", "message")
	if len(c.guard.restarted) != 1 || len(c.events) != 1 {
		t.Errorf("restarted %v, published %v", c.guard.restarted, c.events)
	}
}

// TestRefusedCredentialsAreNotRepeatedFast: a few wrong passwords lock some accounts.
func TestRefusedCredentialsAreNotRepeatedFast(t *testing.T) {
	c := newCourt(t, messages.UnlimitedRetries)
	for range 3 {
		c.fail("one", &messages.ConnectionFailure{Address: "a:1", Reason: fmt.Errorf("%w: wrong password", messages.ErrAuthentication)})
	}
	c.fail("one", refusedBy(false))
	c.expect(t, 1000, 1000, 1000, 800)
}
