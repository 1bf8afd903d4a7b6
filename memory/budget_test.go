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
	for n, charge := range map[int]int{
		1: LeastChunkBytes, LeastChunkBytes: LeastChunkBytes, LeastChunkBytes + 1: 2 * LeastChunkBytes, 5000: 8 << 10,
		ChunkBytes/2 + 1: ChunkBytes, ChunkBytes: ChunkBytes, ChunkBytes + 1: ChunkBytes + 1,
	} {
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

// TestAChargeWithoutABuffer counts like a chunk: it fills its account, and whoever
// waits is served when it comes back.
func TestAChargeWithoutABuffer(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 0.5)
	var ledger Chunk
	b.Grow(a, &ledger, 2*ChunkBytes)
	if _, err := b.TryAcquire(a, 1); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	c := ask(t, b, context.Background(), a, 1)
	b.Release(&ledger)
	b.Release(c.wait(t))
	if b.Used() != 0 || a.used != 0 {
		t.Errorf("%d bytes are left", b.Used())
	}
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

// TestRandomCallers runs everything against everything.
func TestRandomCallers(t *testing.T) {
	b := NewBudget(20*ChunkBytes, seams.NewParking())
	b.PaceBytes = 6 * ChunkBytes
	common := b.NewCommonAccount("common", 0.3, 0.5)
	accounts := []*Account{
		b.NewAccount("0", 0.75), b.NewAccount("1", 0.75), b.NewAccount("2", 0.1),
		b.NewShare(common, "3", 0.4), b.NewShare(common, "4", 0.4), b.NewShare(common, "5", 0.4),
	}
	stop := make(chan struct{})
	var relax sync.WaitGroup
	relax.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				b.Relax()
				b.Rouse(accounts[5])
			}
		}
	})
	var running sync.WaitGroup
	var untold atomic.Int32
	for n := range 12 {
		running.Go(func() {
			callAtRandom(t, b, accounts, rand.New(rand.NewPCG(uint64(n), 5)), &untold)
		})
	}
	running.Wait()
	close(stop)
	relax.Wait()
	if b.Used() != 0 || inLine(b) != 0 || b.Pressed() || b.Paced() || untold.Load() != 0 {
		t.Errorf("%d bytes are left, %d wait, %d were not told of room", b.Used(), inLine(b), untold.Load())
	}
	for _, a := range append(accounts, common) {
		if a.used != 0 {
			t.Errorf("account %s holds %d bytes", a.name, a.used)
		}
	}
}

func callAtRandom(t *testing.T, b *Budget, accounts []*Account, random *rand.Rand, untold *atomic.Int32) {
	var held []*Chunk
	for range 1500 {
		a := accounts[random.IntN(len(accounts))]
		size := 1 + random.IntN(2*ChunkBytes)
		if random.IntN(2) == 0 {
			size = 1 + random.IntN(SmallChunkBytes)
		}
		var c *Chunk
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(int(2*time.Millisecond))))
		switch random.IntN(7) {
		case 0:
			c, _ = b.TryAcquire(a, size)
		case 1:
			c = b.AcquireNow(a, size)
		case 2:
			c, _ = b.TryAcquireAdmitted(a, size)
		case 3:
			untold.Add(1)
			b.NotifyRoom(a, size, func() { untold.Add(-1) })
		case 4:
			c, _ = b.AcquireInTurn(ctx, a, size, a.Turn())
		default:
			c, _ = b.Acquire(ctx, a, size)
		}
		cancel()
		if c != nil {
			held = append(held, c)
		}
		if used := b.Used(); used > b.Total() {
			t.Errorf("%d bytes of %d are used", used, b.Total())
		}
		if len(held) > 3 || (len(held) > 0 && random.IntN(2) == 0) {
			if random.IntN(4) == 0 {
				time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
			}
			i := random.IntN(len(held))
			b.Release(held[i])
			held = append(held[:i], held[i+1:]...)
		}
	}
	b.Release(held...)
}

// TestPoolsMakeRoom: chunks of a size that is no longer asked for do not keep out
// those that are.
func TestPoolsMakeRoom(t *testing.T) {
	b := NewBudget(4*maxFreeBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	take := func(n, bytes int) (held []*Chunk) {
		for range n {
			held = append(held, acquire(t, b, a, bytes))
		}
		return held
	}
	inUse := take(1, ChunkBytes)
	b.Release(take(maxFreeBytes/ChunkBytes, ChunkBytes)...)
	if b.freeSum != maxFreeBytes {
		t.Fatalf("%d bytes are kept", b.freeSum)
	}
	small := take(100, LeastChunkBytes)
	b.Release(small...)
	if n := len(b.free[0]); n != 100 || b.freeSum > maxFreeBytes {
		t.Errorf("%d small chunks and %d bytes are kept", n, b.freeSum)
	}
	sum := 0
	for class, chunks := range b.free {
		for _, c := range chunks {
			if c.charge != LeastChunkBytes<<class || cap(c.Bytes) != c.charge {
				t.Fatalf("class %d holds %d bytes", class, c.charge)
			}
			sum += c.charge
		}
	}
	if sum != b.freeSum {
		t.Errorf("%d bytes are kept, counted %d", sum, b.freeSum)
	}
	// When nothing is in use any more, most of what is in small chunks goes.
	b.Release(take(3000, LeastChunkBytes)...)
	large := len(b.free[chunkClasses-1])
	b.Release(inUse...)
	if n := len(b.free[0]); n != restingFreeBytes/LeastChunkBytes || len(b.free[chunkClasses-1]) < large {
		t.Errorf("at rest %d small chunks and %d large of %d are kept", n, len(b.free[chunkClasses-1]), large)
	}
	if most := restingFreeBytes + len(b.free[chunkClasses-1])*ChunkBytes; b.freeSum != most || b.Used() != 0 {
		t.Errorf("at rest %d bytes are kept, expected %d", b.freeSum, most)
	}
}

// TestAClosedBudgetLeavesItsChunks: what the next budget takes over is empty, and
// charged to it alone.
func TestAClosedBudgetLeavesItsChunks(t *testing.T) {
	for range 3 {
		b := NewBudget(mega, seams.NewParking())
		a := b.NewAccount("a", 1)
		var held []*Chunk
		for _, n := range []int{1, LeastChunkBytes, ChunkBytes, ChunkBytes} {
			c, err := b.TryAcquire(a, n)
			if err != nil || len(c.Bytes) != 0 || cap(c.Bytes) < n {
				t.Fatalf("%d bytes: %v, %v", n, c, err)
			}
			c.Bytes = append(c.Bytes, "used"...)
			held = append(held, c)
		}
		if want := 2*LeastChunkBytes + 2*ChunkBytes; b.Used() != want || a.used != want {
			t.Fatalf("%d and %d bytes are charged, want %d", b.Used(), a.used, want)
		}
		b.Release(held[0], held[2]) // one before the end, one after it
		b.Close(ErrFull)
		b.Release(held[1], held[3])
		if b.Used() != 0 || a.used != 0 {
			t.Fatalf("%d and %d bytes are left", b.Used(), a.used)
		}
	}
}
