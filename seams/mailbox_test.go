package seams

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowDispatcher runs turns when the test says so.
type slowDispatcher struct {
	turns      []func()
	throughput int
}

func (d *slowDispatcher) Schedule(fn func()) { d.turns = append(d.turns, fn) }
func (d *slowDispatcher) Throughput() int    { return d.throughput }

// run runs one turn; it reports whether there was one.
func (d *slowDispatcher) run() bool {
	if len(d.turns) == 0 {
		return false
	}
	turn := d.turns[0]
	d.turns = d.turns[1:]
	turn()
	return true
}

// recorder is an invoker that writes down what it is given.
type recorder struct {
	got    []any
	failed []any
	before func(any)
}

func (r *recorder) note(m any) {
	if r.before != nil {
		r.before(m)
	}
	r.got = append(r.got, m)
}

func (r *recorder) InvokeSystemMessage(m any)   { r.note(m) }
func (r *recorder) InvokeUserMessage(m any)     { r.note(m) }
func (r *recorder) EscalateFailure(_, last any) { r.failed = append(r.failed, last) }

type traced struct{ got []string }

func (t *traced) Received(path string, m any) { t.got = append(t.got, fmt.Sprint(path, ":", m)) }

func newTestMailbox(throughput int) (*Mailbox, *slowDispatcher, *recorder) {
	m, d, r := NewMailbox("p", nil), &slowDispatcher{throughput: throughput}, &recorder{}
	m.RegisterHandlers(r, d)
	m.Start()
	return m, d, r
}

func TestMailboxOrder(t *testing.T) {
	m, d, r := newTestMailbox(100)
	tracer := &traced{}
	m.tracer = tracer
	m.PostUserMessage("one")
	m.PostUserMessage("two")
	m.Signal()
	m.Signal()
	m.PostSystemMessage("system")
	if len(d.turns) != 1 || m.UserMessageCount() != 2 {
		t.Fatalf("%d turns are scheduled, %d messages wait", len(d.turns), m.UserMessageCount())
	}
	d.run()
	if want := []any{"system", woken, "one", "two"}; !slices.Equal(r.got, want) {
		t.Errorf("received %v", r.got)
	}
	if len(tracer.got) != 4 || tracer.got[0] != "p:system" {
		t.Errorf("traced %v", tracer.got)
	}
	if d.run() {
		t.Error("a turn for nothing")
	}
	m.Signal()
	if d.run(); len(r.got) != 5 {
		t.Error("a later signal is lost")
	}
}

func TestMailboxBeforeItHasAnActor(t *testing.T) {
	m, d, r := NewMailbox("p", nil), &slowDispatcher{throughput: 10}, &recorder{}
	m.PostUserMessage("early")
	m.Signal()
	m.RegisterHandlers(r, d)
	d.run()
	if !slices.Equal(r.got, []any{woken, "early"}) {
		t.Errorf("received %v", r.got)
	}
}

func TestMailboxSuspends(t *testing.T) {
	m, d, r := newTestMailbox(100)
	m.PostSystemMessage(&actor.SuspendMailbox{})
	m.PostUserMessage("user")
	m.Signal()
	m.PostSystemMessage("system")
	d.run()
	if !slices.Equal(r.got, []any{"system"}) {
		t.Errorf("received %v while suspended", r.got)
	}
	m.PostUserMessage("more")
	m.Signal()
	if len(d.turns) != 0 {
		t.Error("a turn is scheduled while suspended")
	}
	m.PostSystemMessage(&actor.ResumeMailbox{})
	d.run()
	if !slices.Equal(r.got, []any{"system", woken, "user", "more"}) {
		t.Errorf("received %v", r.got)
	}
}

// TestMailboxSurvivesAPanic: the failure is escalated, and what else is there is
// kept and received.
func TestMailboxSurvivesAPanic(t *testing.T) {
	m, d, r := newTestMailbox(100)
	r.before = func(m any) {
		if m == "bad" {
			panic("a bug")
		}
	}
	for _, v := range []any{"one", "bad", "two"} {
		m.PostUserMessage(v)
	}
	d.run()
	if !slices.Equal(r.got, []any{"one", "two"}) || !slices.Equal(r.failed, []any{"bad"}) {
		t.Errorf("received %v, failed with %v", r.got, r.failed)
	}
}

// TestMailboxDeliversNil: a nil message is a message, and not the end of the
// queue; what is behind it is not left lying.
func TestMailboxDeliversNil(t *testing.T) {
	m, d, r := newTestMailbox(100)
	for _, v := range []any{"one", nil, "two"} {
		m.PostUserMessage(v)
	}
	m.PostSystemMessage(nil)
	m.PostSystemMessage("system")
	d.run()
	if !slices.Equal(r.got, []any{nil, "system", "one", nil, "two"}) || m.UserMessageCount() != 0 {
		t.Errorf("received %v, %d wait", r.got, m.UserMessageCount())
	}
	if m.Signal(); len(d.turns) != 1 {
		t.Error("the mailbox is not scheduled again")
	}
}

// TestActorsSurviveNil with protoactor around the mailbox.
func TestActorsSurviveNil(t *testing.T) {
	q := NewRunQueue()
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	got := make(chan any, 10)
	pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if s, ok := c.Message().(string); ok {
			got <- s
		}
	}, actor.WithMailbox(func() actor.Mailbox { return NewMailbox("p", nil) }), actor.WithDispatcher(q)))
	system.Root.Send(pid, nil)
	system.Root.Send(pid, "behind it")
	select {
	case <-got:
	case <-time.After(10 * time.Second):
		t.Error("the message behind a nil one is not received")
	}
	_ = system.Root.StopFuture(pid).Wait()
	system.Shutdown()
	q.Close()
	q.Wait()
}

func TestMailboxThroughput(t *testing.T) {
	m, d, r := newTestMailbox(2)
	for i := range 5 {
		m.PostUserMessage(i)
	}
	for turn, want := range []int{2, 4, 5} {
		if len(d.turns) != 1 {
			t.Fatalf("%d turns are scheduled", len(d.turns))
		}
		if d.run(); len(r.got) != want {
			t.Fatalf("after turn %d: received %v", turn+1, r.got)
		}
	}
	if len(d.turns) != 0 {
		t.Error("a turn for nothing")
	}
}

// TestMailboxManyPosters: nothing is lost, and each poster's messages keep their
// order.
func TestMailboxManyPosters(t *testing.T) {
	q := NewRunQueue()
	defer func() { q.Close(); q.Wait() }()
	type letter struct{ from, n int }
	const posters, each = 8, 3000
	var next [posters]int
	var left atomic.Int64
	left.Store(posters * each)
	done := make(chan struct{})
	r := &recorder{before: func(m any) {
		if l, ok := m.(letter); ok {
			if next[l.from] != l.n {
				t.Errorf("message %d of %d instead of %d", l.n, l.from, next[l.from])
			}
			next[l.from]++
			if left.Add(-1) == 0 {
				close(done)
			}
		}
	}}
	m := NewMailbox("p", nil)
	m.RegisterHandlers(r, q)
	var running sync.WaitGroup
	for p := range posters {
		running.Go(func() {
			for i := range each {
				m.PostUserMessage(letter{p, i})
				if i%7 == 0 {
					m.Signal()
				}
			}
		})
	}
	running.Wait()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%d messages are lost", left.Load())
	}
}

func TestQueueGrowsAndShrinks(t *testing.T) {
	var q queue
	next := 0
	n := 0
	for round := range 200 {
		for range round % 17 {
			q.push(n)
			n++
		}
		for q.len() > round%5 {
			if got := q.pop(); got != next {
				t.Fatalf("%v instead of %d", got, next)
			}
			next++
		}
	}
}

func TestRunQueue(t *testing.T) {
	q := NewRunQueue()
	if q.Throughput() < 1 {
		t.Error("no throughput")
	}
	const n = 5000
	var ran atomic.Int64
	done := make(chan struct{})
	for range n {
		q.Schedule(func() {
			q.Schedule(func() { // from a worker
				if ran.Add(1) == n {
					close(done)
				}
			})
		})
	}
	<-done
	q.Close()
	q.Wait()
	late := make(chan struct{})
	q.Schedule(func() { close(late) })
	<-late // who stops late must still be able to
}

func TestRunQueueFinishesWhatIsQueued(t *testing.T) {
	q := NewRunQueue()
	var ran atomic.Int64
	for range 1000 {
		q.Schedule(func() { ran.Add(1) })
	}
	q.Close()
	q.Wait()
	if ran.Load() != 1000 {
		t.Errorf("%d of 1000 ran", ran.Load())
	}
}

func TestRandomnessDependsOnSeedAndPath(t *testing.T) {
	draw := func(s SeededRandomness, path string) uint64 { return s.For(path).Uint64() }
	if first, again := draw(1, "a"), draw(1, "a"); first != again {
		t.Error("the same seed and path draw differently")
	}
	if draw(1, "a") == draw(2, "a") || draw(1, "a") == draw(1, "b") {
		t.Error("other seeds or paths draw the same")
	}
	if NewRandomness().For("a").Uint64() == NewRandomness().For("a").Uint64() {
		t.Error("two producers draw the same")
	}
}

func TestInstants(t *testing.T) {
	if Never.Add(time.Hour) != Never || Instant(Never-5).Add(time.Hour) != Never {
		t.Error("beyond Never")
	}
	if i := Instant(100); i.Add(50) != 150 || i.Add(-50) != 50 || i.Sub(40) != 60 {
		t.Error("instants do not add up")
	}
	if Never.Add(-1) == Never {
		t.Error("a time before Never")
	}
}

func TestClockAndTimers(t *testing.T) {
	c := NewClock()
	before := c.Now()
	now, wall := c.Read()
	if now < before || wall < time.Now().UnixMilli()-1000 {
		t.Errorf("%d after %d, wall %d", now, before, wall)
	}
	var fired atomic.Int32
	timer := c.NewTimer(func() { fired.Add(1) })
	timer.Stop() // before it was ever set
	timer.Reset(c.Now().Add(time.Hour))
	timer.Reset(c.Now().Add(time.Millisecond))
	for deadline := time.Now().Add(5 * time.Second); fired.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	timer.Reset(c.Now().Add(5 * time.Millisecond))
	timer.Stop()
	time.Sleep(10 * time.Millisecond)
	if fired.Load() != 1 {
		t.Errorf("fired %d times", fired.Load())
	}
	timer.Reset(c.Now() - 1) // in the past: at once
	for deadline := time.Now().Add(5 * time.Second); fired.Load() == 1 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if fired.Load() != 2 {
		t.Error("a deadline in the past does not fire")
	}
}

// TestStampsAreFresh: after a fast stream and a pause nobody is given the time
// before the pause.
func TestStampsAreFresh(t *testing.T) {
	c := NewClock()
	s := NewStamps(c)
	for range 100_000 {
		if now, _ := s.Read(); c.Now().Sub(now) > time.Second {
			t.Fatal("a stamp is a second old")
		}
	}
	time.Sleep(30 * time.Millisecond)
	now, wall := s.Read()
	if age := c.Now().Sub(now); age > 20*time.Millisecond || time.Now().UnixMilli()-wall > 20 {
		t.Errorf("after a pause the stamp is %v old", age)
	}
}

// postTraced also writes down what is sent.
type postTraced struct {
	traced
	sent []string
}

func (t *postTraced) Posted(path string, m any) { t.sent = append(t.sent, fmt.Sprint(path, ":", m)) }

// TestMailboxTellsWhatIsSent to a tracer that asks, before it is received.
func TestMailboxTellsWhatIsSent(t *testing.T) {
	tracer := &postTraced{}
	m, d, r := NewMailbox("p", tracer), &slowDispatcher{throughput: 10}, &recorder{}
	m.RegisterHandlers(r, d)
	m.PostUserMessage("user")
	m.PostSystemMessage("system")
	m.Signal()
	if want := []string{"p:user", "p:system", "p:" + fmt.Sprint(woken)}; !slices.Equal(tracer.sent, want) || len(tracer.got) != 0 {
		t.Errorf("sent %v, received %v", tracer.sent, tracer.got)
	}
	if d.run(); len(tracer.got) != 3 {
		t.Errorf("received %v", tracer.got)
	}
}
