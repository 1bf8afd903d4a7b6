package accumulator

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// What DESIGN.md calls non-obvious and no other test of this package guards.

// rigClock is the rig's time as a clock. Its one timer wants the box's lock to be
// held whenever it is set.
type rigClock struct {
	*rig
	sets, loose int
	at          seams.Instant
}

func (c *rigClock) Now() seams.Instant           { return c.now }
func (c *rigClock) Read() (seams.Instant, int64) { return c.now, baseUnixMs }
func (c *rigClock) NewTimer(func()) seams.Timer  { return c }
func (c *rigClock) Stop()                        {}
func (c *rigClock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, d)
}

func (c *rigClock) Reset(at seams.Instant) {
	if c.box.mu.TryLock() {
		c.box.mu.Unlock()
		c.loose++
	}
	c.sets++
	c.at = at
}

// later keeps what it is given until the test runs it.
type later struct{ todo []func() }

func (l *later) Run(fn func()) { l.todo = append(l.todo, fn) }

func (l *later) run() {
	todo := l.todo
	l.todo = nil
	for _, fn := range todo {
		fn()
	}
}

// enact gives the rig's box what it needs to do its effects itself. Nobody is
// there to take a turn or a message.
func (r *rig) enact() (*rigClock, *later) {
	clock, executor := &rigClock{rig: r}, &later{}
	r.box.RegisterHandlers(nil, idleDispatcher{})
	r.box.settings.Clock, r.box.settings.Executor, r.box.settings.CodecCrew, r.box.settings.Callbacks, r.box.timer = clock, executor, executor, executor, clock
	r.box.lane.run = r.box.lane.drain
	return clock, executor
}

// TestTimerIsSetUnderTheLock: of two who set it, one after the other, the second
// would else be overtaken by the first, and its deadline be lost.
func TestTimerIsSetUnderTheLock(t *testing.T) {
	r := newRig(t, testConfig())
	clock, _ := r.enact()
	for _, wait := range []time.Duration{time.Second, time.Minute, time.Millisecond} {
		r.box.mu.Lock()
		r.box.unlock(r.now.Add(wait))
	}
	if clock.loose > 0 {
		t.Errorf("%d of %d times without the lock", clock.loose, clock.sets)
	}
	if clock.sets != 2 || clock.at != r.now.Add(time.Millisecond) || r.box.timing != clock.at {
		t.Errorf("set %d times, to fire at %v; the box thinks %v", clock.sets, clock.at, r.box.timing)
	}
}

// TestNewIncarnationDerivesAgain: the last one crashed with an answer in hand and
// the timer not set, and nobody will say either again.
func TestNewIncarnationDerivesAgain(t *testing.T) {
	r, a, got := inFlight(t)
	clock, executor := r.enact()
	answer := okResult(4)
	answer.Now, answer.Broker = r.now, 1
	r.s.results = append(r.s.results, result{a, answer})
	a.WriteEnded()
	r.box.adopt()
	executor.run()
	if d := got["a"]; len(d) != 1 || d[0].Status != messages.Persisted {
		t.Errorf("a: %+v", d)
	}
	end := r.now.Add(testConfig().linger)
	if l := r.box.lingers; l.timing != end || len(l.line) != 1 || l.line[0] != (linger{r.box, end}) {
		t.Errorf("the lingers are looked at at %v, the batch behind lingers until %v", l.timing, end)
	}
	if due := r.now.Add(testConfig().deliveryTimeout); clock.at > due {
		t.Errorf("the timer fires at %v, the batch behind is due at %v", clock.at, due)
	}
}

// TestNewIncarnationReviews: a batch whose linger is over goes on though the turn
// that was to see to it crashed.
func TestNewIncarnationReviews(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	r.assign(1, 1)
	record := admission("a", nil)
	record.Codec = codecs.Gzip
	r.append(record)
	r.now = r.now.Add(testConfig().linger)
	r.box.adopt()
	if len(executor.todo) != 1 || !r.s.pending[0].compressing {
		t.Errorf("%d jobs, %d batches are sealed", len(executor.todo), len(r.s.pending))
	}
}

// TestAnnouncementIsThePresentLeaders: the last leader asks because of an
// announcement from before. The new one was told once, and is not told again.
func TestAnnouncementIsThePresentLeaders(t *testing.T) {
	r, got := newRig(t, testConfig()), make(answersOf)
	r.assign(1, 1)
	a := admission("a", got.callback("a"))
	a.Urgent = true
	r.append(a)
	class := r.s.classOf(r.s.next())
	identity := messages.Identity{ProducerID: 7, Generation: 1}
	if !r.effects().announce {
		t.Fatal("the first leader is not told")
	}
	r.assign(2, 2)
	if !r.effects().announce {
		t.Fatal("the new leader is not told")
	}
	if b, status := r.take(messages.TakeRequest{Broker: 1, Identity: identity, Class: class}); b != nil || status != messages.TakeDone {
		t.Fatalf("the last leader got %v, %v", b, status)
	}
	r.append(admission("b", got.callback("b")))
	r.step()
	if r.effects().announce {
		t.Error("the new leader is told twice")
	}
	if b, _ := r.take(messages.TakeRequest{Broker: 2, Identity: identity, Class: class}); b == nil {
		t.Error("the new leader got nothing")
	}
}

// flush begins a flush and returns how to ask whether it has ended.
func (r *rig) flush() (ended func() bool) {
	spot := seams.NewParking().NewSpot()
	w := messages.NewFlushWaiter(spot)
	r.box.Flush(w)
	w.Done()
	return func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		return spot.Wait(ctx) == nil
	}
}

// TestFlushWaitsForTheCompletionLane: an outcome that is known is not a callback
// that has returned.
func TestFlushWaitsForTheCompletionLane(t *testing.T) {
	r, got := newRig(t, testConfig()), make(answersOf)
	_, executor := r.enact()
	r.assign(1, 1)
	record := admission("a", got.callback("a"))
	record.Urgent = true
	r.append(record)
	r.effects()
	a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
	r.deliver(a, okResult(4))
	a.WriteEnded()
	r.box.mu.Lock()
	r.box.unlock(seams.Never) // the answer goes into the lane
	ended := r.flush()
	if ended() {
		t.Fatal("the flush ended before the callback")
	}
	executor.run()
	if !ended() || len(got["a"]) != 1 {
		t.Fatalf("the flush did not end after %+v", got)
	}
}

// TestMemoryComesBackBeforeCallbacks: a callback that hangs keeps what is known
// about its batch, and not the batch.
func TestMemoryComesBackBeforeCallbacks(t *testing.T) {
	r, a, got := inFlight(t)
	_, executor := r.enact()
	chunks := r.budget.Used()
	r.deliver(a, okResult(4))
	a.WriteEnded()
	r.box.mu.Lock()
	r.box.unlock(seams.Never)
	ledger := a.batch.charged
	if used := r.budget.Used(); len(got) != 0 || used > chunks-memory.LeastChunkBytes || ledger >= memory.LeastChunkBytes {
		t.Errorf("before the callback %d of %d bytes are used, %d of them for bookkeeping", used, chunks, ledger)
	}
	executor.run()
	if len(got["a"]) != 1 {
		t.Errorf("a: %+v", got["a"])
	}
}

// TestFlushLeavesExpiredBatches: the bytes of a batch in flight may travel on for
// long after its last record was answered, and a flush waits for callbacks.
func TestFlushLeavesExpiredBatches(t *testing.T) {
	r, got := newRig(t, testConfig()), make(answersOf)
	_, executor := r.enact()
	r.assign(1, 1)
	record := admission("a", got.callback("a"))
	record.Urgent = true
	r.append(record)
	r.effects()
	r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
	before := r.flush()
	r.now = r.now.Add(testConfig().deliveryTimeout + time.Second)
	r.box.mu.Lock()
	r.s.step(r.now)
	r.box.unlock(seams.Never)
	after := r.flush()
	if before() || after() {
		t.Error("a flush ended before the callback")
	}
	executor.run()
	if len(got["a"]) != 1 || len(r.s.inFlight) != 1 {
		t.Fatalf("outcomes %+v, %d batches in flight", got, len(r.s.inFlight))
	}
	if !before() {
		t.Error("a flush waits for a batch that expired since")
	}
	if !after() {
		t.Error("a flush waits for a batch that had expired")
	}
}

// TestNothingIsKeptOfSettledBatches: ten thousand idle partitions would each keep
// their last batch.
func TestNothingIsKeptOfSettledBatches(t *testing.T) {
	r, a, _ := inFlight(t)
	r.deliver(a, okResult(4))
	r.effects()
	a.WriteEnded()
	for _, line := range [][]*batch{r.s.inFlight, r.s.pending} {
		for _, b := range line[:cap(line)] {
			if b == a.batch {
				t.Error("the settled batch is still in reach")
			}
		}
	}
}
