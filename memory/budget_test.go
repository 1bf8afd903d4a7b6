package memory

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/seams"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mega = 1 << 20

// caller is a goroutine that asks for one chunk.
type caller struct {
	chunk *Chunk
	err   error
	done  chan struct{}
}

// ask starts a caller and returns when it waits or is served.
func ask(t *testing.T, b *Budget, ctx context.Context, a *Account, n int) *caller {
	t.Helper()
	c := &caller{done: make(chan struct{})}
	before := inLine(b)
	go func() {
		c.chunk, c.err = b.Acquire(ctx, a, n)
		close(c.done)
	}()
	for deadline := time.Now().Add(5 * time.Second); inLine(b) == before && !c.served(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("the caller neither waits nor is served")
		}
	}
	return c
}

func inLine(b *Budget) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.line)
}

func (c *caller) served() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *caller) wait(t *testing.T) *Chunk {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		t.Fatal("not served within 5 s")
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.chunk
}

func (c *caller) mustWait(t *testing.T) {
	t.Helper()
	time.Sleep(time.Millisecond)
	if c.served() {
		t.Fatal("served out of turn")
	}
}

func acquire(t *testing.T, b *Budget, a *Account, n int) *Chunk {
	t.Helper()
	c, err := b.TryAcquire(a, n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChunksAndCharges(t *testing.T) {
	b := NewBudget(mega, seams.NewParking())
	a := b.NewAccount("a", 1)
	for n, charge := range map[int]int{1: SmallChunkBytes, SmallChunkBytes: SmallChunkBytes, SmallChunkBytes + 1: ChunkBytes, ChunkBytes: ChunkBytes, ChunkBytes + 1: ChunkBytes + 1} {
		c := acquire(t, b, a, n)
		if b.Used() != charge || cap(c.Bytes) < n || len(c.Bytes) != 0 {
			t.Errorf("%d bytes: charged %d, chunk of %d", n, b.Used(), cap(c.Bytes))
		}
		c.Bytes = append(c.Bytes, "dirt"...)
		b.Release(c)
		if b.Used() != 0 {
			t.Errorf("%d bytes are left", b.Used())
		}
		if again := acquire(t, b, a, n); len(again.Bytes) != 0 {
			t.Error("a used chunk comes back full")
		} else {
			b.Release(again)
		}
	}
	b.Release()
	adopted := b.Adopt(a, make([]byte, 10, 2*mega))
	if b.Used() != 2*mega {
		t.Errorf("adopted %d bytes", b.Used())
	}
	b.Release(adopted)
	if b.Used() != 0 || a.used != 0 || b.Total() != mega {
		t.Errorf("%d and %d bytes are left", b.Used(), a.used)
	}
}

func TestCapLeavesRoomForOthers(t *testing.T) {
	b := NewBudget(16*ChunkBytes, seams.NewParking())
	one, two := b.NewAccount("one", 0.75), b.NewAccount("two", 0.75)
	for range 12 {
		acquire(t, b, one, ChunkBytes)
	}
	if _, err := b.TryAcquire(one, ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("above three quarters: %v", err)
	}
	waits := ask(t, b, context.Background(), one, ChunkBytes)
	for range 4 {
		acquire(t, b, two, ChunkBytes) // though somebody of one waits
	}
	waits.mustWait(t)
	if !b.Pressed() {
		t.Error("nobody is pressed")
	}
	if _, err := b.Acquire(context.Background(), one, 13*ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("what can never fit: %v", err)
	}
	b.Close(errors.New("the end"))
	<-waits.done
}

func TestFirstComeFirstServed(t *testing.T) {
	b := NewBudget(8*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 0.5)
	var held []*Chunk
	for range 4 {
		held = append(held, acquire(t, b, a, ChunkBytes))
	}
	large := ask(t, b, context.Background(), a, 2*ChunkBytes)
	small := ask(t, b, context.Background(), a, 1)
	b.Release(held[0])
	large.mustWait(t)
	small.mustWait(t) // it would fit, and came later
	if b.AcquireNow(a, 1) != nil {
		t.Error("AcquireNow overtakes the line")
	}
	if _, err := b.TryAcquire(a, 1); !errors.Is(err, ErrFull) {
		t.Error("TryAcquire overtakes the line")
	}
	b.Release(held[1])
	b.Release(large.wait(t))
	b.Release(small.wait(t))
	b.Release(held[2], held[3])
	if b.Used() != 0 || b.Pressed() {
		t.Errorf("%d bytes are left", b.Used())
	}
}

// TestWholeBudgetIsNotOvertaken: whoever waits for the budget as a whole is
// served before all who came later, of whatever account.
func TestWholeBudgetIsNotOvertaken(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	one, two, three := b.NewAccount("one", 0.75), b.NewAccount("two", 0.75), b.NewAccount("three", 0.75)
	first := acquire(t, b, one, 3*ChunkBytes)
	second := acquire(t, b, two, ChunkBytes)
	whole := ask(t, b, context.Background(), three, 3*ChunkBytes)
	later := ask(t, b, context.Background(), two, ChunkBytes)
	b.Release(second)
	whole.mustWait(t)
	later.mustWait(t)
	if _, err := b.TryAcquire(b.NewAccount("four", 1), ChunkBytes); !errors.Is(err, ErrFull) {
		t.Error("a newcomer overtakes")
	}
	b.Release(first)
	whole.wait(t)
	later.wait(t)
}

func TestEndOfAContext(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	held := acquire(t, b, a, 4*ChunkBytes)
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := ask(t, b, ctx, a, 2*ChunkBytes)
	next := ask(t, b, context.Background(), a, 1)
	mine := errors.New("mine")
	cancel(mine)
	<-gone.done
	if !errors.Is(gone.err, mine) || gone.chunk != nil {
		t.Errorf("%v, %v", gone.chunk, gone.err)
	}
	b.Release(held)
	b.Release(next.wait(t))
	if b.Used() != 0 || inLine(b) != 0 || b.Pressed() {
		t.Errorf("%d bytes are left, %d wait", b.Used(), inLine(b))
	}
}

// TestLeavingMakesWay: whoever gives up may have been in the way of others.
func TestLeavingMakesWay(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	acquire(t, b, a, 3*ChunkBytes)
	ctx, cancel := context.WithCancel(context.Background())
	large := ask(t, b, ctx, a, 2*ChunkBytes)
	small := ask(t, b, context.Background(), a, ChunkBytes)
	small.mustWait(t)
	cancel()
	<-large.done
	small.wait(t)
}

// TestGrantRacesWithTheEnd: a chunk is either the caller's or the budget's.
func TestGrantRacesWithTheEnd(t *testing.T) {
	b := NewBudget(ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	for range 2000 {
		held := acquire(t, b, a, ChunkBytes)
		ctx, cancel := context.WithCancel(context.Background())
		c := ask(t, b, ctx, a, ChunkBytes)
		var both sync.WaitGroup
		both.Go(cancel)
		both.Go(func() { b.Release(held) })
		both.Wait()
		<-c.done
		if (c.chunk == nil) == (c.err == nil) {
			t.Fatalf("%v, %v", c.chunk, c.err)
		}
		if c.chunk != nil {
			b.Release(c.chunk)
		}
		if b.Used() != 0 {
			t.Fatalf("%d bytes are left", b.Used())
		}
	}
}

func TestClosedBudget(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	held := acquire(t, b, a, 4*ChunkBytes)
	var callers []*caller
	for range 3 {
		callers = append(callers, ask(t, b, context.Background(), a, 1))
	}
	reason := errors.New("closing time")
	b.Close(reason)
	b.Close(errors.New("another"))
	for _, c := range callers {
		<-c.done
		if !errors.Is(c.err, reason) {
			t.Error(c.err)
		}
	}
	if _, err := b.TryAcquire(a, 1); !errors.Is(err, reason) {
		t.Error(err)
	}
	if _, err := b.Acquire(context.Background(), a, 1); !errors.Is(err, reason) {
		t.Error(err)
	}
	if err := b.Reserve(a, 1); !errors.Is(err, reason) {
		t.Error(err)
	}
	if b.AcquireNow(a, 1) != nil {
		t.Error("a chunk from a closed budget")
	}
	b.Release(held)
	moves, err := b.TryAcquireAdmitted(a, 1) // was admitted before
	if err != nil {
		t.Fatal(err)
	}
	b.Release(moves)
	if b.Used() != 0 || b.Pressed() {
		t.Errorf("%d bytes are left", b.Used())
	}
}

func TestReserve(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 0.5)
	if err := b.Reserve(a, 2*ChunkBytes); err != nil {
		t.Fatal(err)
	}
	if err := b.Reserve(a, 1); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	c := ask(t, b, context.Background(), a, 1)
	b.Unreserve(a, 2*ChunkBytes)
	b.Release(c.wait(t))
	if b.Used() != 0 {
		t.Errorf("%d bytes are left", b.Used())
	}
}

func TestNotifyRoomWaitsForTheLine(t *testing.T) {
	b := NewBudget(2*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	var told atomic.Int32
	tell := func() { told.Add(1) }
	b.NotifyRoom(tell) // nothing is charged: there would be no credit
	if told.Load() != 1 {
		t.Error("not told of an empty budget")
	}
	one, two := acquire(t, b, a, ChunkBytes), acquire(t, b, a, ChunkBytes)
	c := ask(t, b, context.Background(), a, 2*ChunkBytes)
	b.NotifyRoom(tell)
	b.Release(one)
	if told.Load() != 1 {
		t.Error("told while somebody waits")
	}
	b.Release(two)
	if chunk := c.wait(t); told.Load() != 2 {
		t.Error("not told when nobody waits any more")
	} else {
		b.Release(chunk)
	}
	if told.Load() != 2 {
		t.Error("told twice")
	}
}

func TestPressureIsToldOnce(t *testing.T) {
	b := NewBudget(ChunkBytes, seams.NewParking())
	var told atomic.Int32
	b.OnPressure = func() { told.Add(1) }
	a := b.NewAccount("a", 1)
	held := acquire(t, b, a, 1)
	b.Release(held)
	held = acquire(t, b, a, ChunkBytes)
	first, second := ask(t, b, context.Background(), a, 1), ask(t, b, context.Background(), a, 1)
	if told.Load() != 1 {
		t.Errorf("told %d times", told.Load())
	}
	b.Release(held)
	b.Release(first.wait(t), second.wait(t))
}

// TestPace: a leader that keeps up is waited for; one that answers nothing is
// not.
func TestPace(t *testing.T) {
	b := NewBudget(mega, seams.NewParking())
	b.PaceBytes = 2 * ChunkBytes
	var told atomic.Int32
	b.OnPaced = func() { told.Add(1) }
	a, other := b.NewAccount("a", 0.75), b.NewAccount("other", 0.75)
	one, two := acquire(t, b, a, ChunkBytes), acquire(t, b, a, ChunkBytes)
	c := ask(t, b, context.Background(), a, ChunkBytes)
	c.mustWait(t)
	if b.Pressed() || !b.Paced() || told.Load() != 1 {
		t.Errorf("pressed %v, paced %v, told %d times", b.Pressed(), b.Paced(), told.Load())
	}
	if b.AcquireNow(other, 1) == nil {
		t.Error("another leader's callers have to wait")
	}
	b.Release(one)
	three := c.wait(t)
	c = ask(t, b, context.Background(), a, ChunkBytes)
	if b.Relax() != true {
		t.Error("relaxed a leader that has just answered")
	}
	c.mustWait(t)
	if b.Relax() {
		t.Error("somebody waits for a leader that answers nothing")
	}
	b.Release(two, three, c.wait(t))
	if a.used != 0 || b.Paced() {
		t.Errorf("%d bytes are left", a.used)
	}
}

// TestRandomCallers runs everything against everything.
func TestRandomCallers(t *testing.T) {
	b := NewBudget(20*ChunkBytes, seams.NewParking())
	b.PaceBytes = 6 * ChunkBytes
	accounts := []*Account{b.NewAccount("0", 0.75), b.NewAccount("1", 0.75), b.NewAccount("2", 0.75)}
	stop := make(chan struct{})
	var relax sync.WaitGroup
	relax.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				b.Relax()
			}
		}
	})
	var running sync.WaitGroup
	for n := range 8 {
		random := rand.New(rand.NewPCG(uint64(n), 5))
		running.Go(func() {
			var held []*Chunk
			for range 1500 {
				a := accounts[random.IntN(len(accounts))]
				size := 1 + random.IntN(2*ChunkBytes)
				var c *Chunk
				switch random.IntN(6) {
				case 0:
					c, _ = b.TryAcquire(a, size)
				case 1:
					c = b.AcquireNow(a, size)
				case 2:
					if b.Reserve(a, size) == nil {
						b.Unreserve(a, size)
					}
				case 3:
					b.NotifyRoom(func() {})
				default:
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(int(2*time.Millisecond))))
					c, _ = b.Acquire(ctx, a, size)
					cancel()
				}
				if c != nil {
					held = append(held, c)
				}
				if used := b.Used(); used > b.Total() {
					t.Errorf("%d bytes of %d are used", used, b.Total())
				}
				if len(held) > 3 || (len(held) > 0 && random.IntN(2) == 0) {
					i := random.IntN(len(held))
					b.Release(held[i])
					held = append(held[:i], held[i+1:]...)
				}
			}
			b.Release(held...)
		})
	}
	running.Wait()
	close(stop)
	relax.Wait()
	if b.Used() != 0 || inLine(b) != 0 || b.Pressed() || b.Paced() {
		t.Errorf("%d bytes are left, %d wait", b.Used(), inLine(b))
	}
	for i, a := range accounts {
		if a.used != 0 {
			t.Errorf("account %d holds %d bytes", i, a.used)
		}
	}
}
