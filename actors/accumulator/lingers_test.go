package accumulator

import (
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// handClock is moved by hand; it has one timer.
type handClock struct {
	rigClock
	now  seams.Instant
	fire func()
	at   seams.Instant
}

func (c *handClock) Now() seams.Instant               { return c.now }
func (c *handClock) Reset(at seams.Instant)           { c.at = at }
func (c *handClock) NewTimer(fire func()) seams.Timer { c.fire = fire; return c }
func (c *handClock) Read() (seams.Instant, int64)     { return c.now, baseUnixMs }
func (c *handClock) goOn() (fired seams.Instant) {
	c.now, c.at = c.at, seams.Never
	c.fire()
	return c.now
}
func lingering(t *testing.T, boxes int) (*handClock, *Lingers, []*rig, chan *messages.PartitionsReady) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	told := make(chan *messages.PartitionsReady, boxes)
	broker := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(*messages.PartitionsReady); ok {
			told <- m
		}
	}))
	t.Cleanup(func() {
		_ = system.Root.StopFuture(broker).Wait()
		system.Shutdown()
	})
	clock := &handClock{at: seams.Never}
	l := NewLingers(&messages.Settings{Clock: clock, Linger: testConfig().linger}, system)
	rigs := make([]*rig, boxes)
	for i := range rigs {
		rigs[i] = newRig(t, testConfig())
		rigs[i].enact()
		rigs[i].box.lingers = l
		rigs[i].assign(1, 1)
		rigs[i].s.leader.Broker = broker
	}
	return clock, l, rigs, told
}

// begin opens a batch and lets the box do what follows.
func (r *rig) begin(now seams.Instant) {
	r.now = now
	r.append(admission("v", nil))
	r.box.mu.Lock()
	r.box.unlock(seams.Never)
}

// TestLingersEndTogether: batches that began within a moment become ready in one
// turn, and their broker hears of all of them at once.
func TestLingersEndTogether(t *testing.T) {
	clock, l, rigs, told := lingering(t, 4)
	start, moment := seams.Instant(time.Second), time.Microsecond
	for i, at := range []seams.Instant{start.Add(moment), start, start.Add(2 * moment), start.Add(time.Millisecond)} {
		rigs[i].begin(at)
	}
	linger := testConfig().linger
	if at := clock.goOn(); at != start.Add(linger+moment) && at != start.Add(linger) {
		t.Fatalf("the first turn is at %v", at)
	}
	if m := <-told; len(m.Partitions) != 1 || m.Partitions[0].Taker != messages.Taker(rigs[1].box) {
		t.Errorf("first: %+v", m.Partitions)
	}
	if at := clock.goOn(); at != start.Add(linger+linger/lingerGrain) {
		t.Errorf("the second turn is at %v", at)
	}
	if m := <-told; len(m.Partitions) != 2 || m.Partitions[0].Taker != messages.Taker(rigs[0].box) || m.Partitions[1].Taker != messages.Taker(rigs[2].box) {
		t.Errorf("second: %+v", m.Partitions)
	}
	if at := clock.goOn(); at != start.Add(linger+time.Millisecond) {
		t.Errorf("the third turn is at %v", at)
	}
	if m := <-told; len(m.Partitions) != 1 {
		t.Errorf("third: %+v", m.Partitions)
	}
	if clock.at != seams.Never || len(l.line) != 0 {
		t.Errorf("the timer is set to %v, %d stand in line", clock.at, len(l.line))
	}
}

// TestLingerOfTheNextBatch: the box stands in line once; if its batch went early,
// the turn that comes finds the next one, which has its full linger.
func TestLingerOfTheNextBatch(t *testing.T) {
	clock, l, rigs, told := lingering(t, 1)
	r, start, linger := rigs[0], seams.Instant(time.Second), testConfig().linger
	r.begin(start)
	r.s.sealOpen(start)
	r.begin(start.Add(time.Millisecond))
	if len(l.line) != 1 {
		t.Errorf("the box stands in line %d times", len(l.line))
	}
	r.s.pending, r.s.backlogBytes = nil, 0 // taken
	if clock.goOn(); len(told) != 0 || clock.at != start.Add(linger+time.Millisecond) {
		t.Errorf("after the first batch's linger the timer is set to %v", clock.at)
	}
	clock.goOn()
	if m := <-told; len(m.Partitions) != 1 {
		t.Errorf("%+v", m.Partitions)
	}
}

// TestLingerThatCrashes concerns its own partition only.
func TestLingerThatCrashes(t *testing.T) {
	clock, _, rigs, told := lingering(t, 2)
	for i := range rigs {
		rigs[i].begin(seams.Instant(time.Second))
	}
	rigs[0].s.pending = []*batch{nil}
	clock.goOn()
	if m := <-told; len(m.Partitions) != 1 || m.Partitions[0].Taker != messages.Taker(rigs[1].box) {
		t.Errorf("%+v", m.Partitions)
	}
	if !rigs[0].s.suspect {
		t.Error("nobody looks after the one that crashed")
	}
	if !rigs[0].box.mu.TryLock() {
		t.Error("the crash took the lock with it")
	}
}

// TestChunksGrowWithTheBatch: a batch begins with what the last one took, and
// doubles from there.
func TestChunksGrowWithTheBatch(t *testing.T) {
	c := testConfig()
	c.batchMaxBytes = 1_000_000
	r := newRig(t, c)
	var sizes []int
	for len(sizes) < 9 {
		if r.append(admission("0123456789012345678901234567890123456789", nil)) != messages.Appended {
			t.Fatal("not appended")
		}
		sizes = sizes[:0]
		for _, c := range r.s.open.chunks {
			sizes = append(sizes, cap(c.Bytes)>>10)
		}
	}
	want := []int{1, 1, 2, 4, 8, 16, 32, 64, 64}
	for i := range want {
		if sizes[i] != want[i] {
			t.Fatalf("chunks of %d KiB, expected %d", sizes, want)
		}
	}
	r.s.sealOpen(r.now)
	if n := r.s.needBytes(100, false); n != 64<<10 {
		t.Errorf("after a large batch the next begins with %d bytes", n)
	}
	r.append(admission("small", nil))
	r.s.sealOpen(r.now)
	if n := r.s.needBytes(100, false); n > 1<<10 {
		t.Errorf("after a small batch the next begins with %d bytes", n)
	}
	r.check()
}

// TestLingerTurnsDoNotOverlap: the timer may fire again while a turn is under way,
// if the one before was late and a batch with an earlier end came in meanwhile.
func TestLingerTurnsDoNotOverlap(t *testing.T) {
	clock := &handClock{at: seams.Never}
	var l *Lingers
	second, told := make(chan struct{}), 0
	l = newLingers(&messages.Settings{Clock: clock, Linger: testConfig().linger}, func(_ messages.AssignLeader, m *messages.PartitionsReady) {
		if told += len(m.Partitions); told > 1 {
			return
		}
		go func() {
			defer close(second)
			clock.fire()
		}()
		select {
		case <-second:
			t.Error("a turn has begun and ended within another")
		case <-time.After(20 * time.Millisecond):
		}
	})
	for range 2 {
		r := newRig(t, testConfig())
		r.enact()
		r.box.lingers = l
		r.assign(1, 1)
		r.begin(seams.Instant(time.Second))
		clock.goOn()
		<-second // the clock is moved by one at a time
	}
	if told != 2 {
		t.Errorf("%d partitions were announced", told)
	}
}
