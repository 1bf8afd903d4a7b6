package memory

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

func mustTake(t *testing.T, b *Budget, a *Account) *Chunk {
	t.Helper()
	c, err := b.TryAcquire(a, ChunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOneLeaderLeavesRoomForTheOthers fills one account to its cap.
func TestOneLeaderLeavesRoomForTheOthers(t *testing.T) {
	b := NewBudget(8*ChunkBytes, seams.NewParking())
	dead, healthy := b.NewAccount("dead", 0.75), b.NewAccount("healthy", 0.75)
	for range 6 {
		mustTake(t, b, dead)
	}
	if _, err := b.TryAcquire(dead, ChunkBytes); !errors.Is(err, ErrFull) {
		t.Fatalf("a seventh chunk for the dead leader: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Acquire(ctx, dead, ChunkBytes); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a waiter of the dead leader: %v", err)
	}
	mustTake(t, b, healthy)
	mustTake(t, b, healthy)
	if b.Used() != 8*ChunkBytes {
		t.Errorf("%d bytes are charged", b.Used())
	}
}

// TestWaitersAreServedInOrderOfArrival releases one chunk at a time.
func TestWaitersAreServedInOrderOfArrival(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	var held []*Chunk
	for range 4 {
		held = append(held, mustTake(t, b, a))
	}
	order := make(chan int, 4)
	for i := range 4 {
		go func() {
			if _, err := b.Acquire(context.Background(), a, ChunkBytes); err == nil {
				order <- i
			}
		}()
		for b.waiting.Load() != int32(i+1) {
			time.Sleep(time.Millisecond) // until it stands in line
		}
	}
	for i, c := range held {
		b.Release(c)
		if got := <-order; got != i {
			t.Fatalf("waiter %d was served as number %d", got, i)
		}
	}
}

// TestCloseEndsEveryWait and refuses what comes later.
func TestCloseEndsEveryWait(t *testing.T) {
	b := NewBudget(ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	c := mustTake(t, b, a)
	reason := errors.New("closed")
	ended := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := b.Acquire(context.Background(), a, ChunkBytes)
			ended <- err
		}()
	}
	for b.waiting.Load() != 3 {
		time.Sleep(time.Millisecond)
	}
	b.Close(reason)
	for range 3 {
		if err := <-ended; !errors.Is(err, reason) {
			t.Error(err)
		}
	}
	if _, err := b.TryAcquire(a, 1); !errors.Is(err, reason) {
		t.Error(err)
	}
	b.Release(c)
	if b.Used() != 0 {
		t.Errorf("%d bytes are still charged", b.Used())
	}
}

// TestPaceWaitsForAnswersAndNoLonger: below the cap a caller waits while credits
// come, and goes on when they stop.
func TestPaceWaitsForAnswersAndNoLonger(t *testing.T) {
	b := NewBudget(16*ChunkBytes, seams.NewParking())
	b.PaceBytes = 2 * ChunkBytes
	told := make(chan struct{}, 1)
	b.OnPaced = func() { told <- struct{}{} }
	a := b.NewAccount("a", 1)
	first := mustTake(t, b, a)
	mustTake(t, b, a)
	if b.AcquireNow(a, ChunkBytes) != nil {
		t.Fatal("a third chunk was had at once")
	}
	got := make(chan *Chunk, 2)
	acquire := func() {
		c, _ := b.Acquire(context.Background(), a, ChunkBytes)
		got <- c
	}
	go acquire()
	<-told
	b.Release(first)
	<-got // the answer let it go on
	go acquire()
	<-told
	b.Relax() // sees the credit that came before
	b.Relax() // and none since
	if c := <-got; c == nil {
		t.Error("nobody goes on though no answer comes")
	}
	if _, err := b.TryAcquire(a, ChunkBytes); err != nil {
		t.Errorf("the pace refused somebody: %v", err)
	}
}

// TestNotifyRoom calls at once when nothing is charged, else after a credit.
func TestNotifyRoom(t *testing.T) {
	b := NewBudget(ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	calls := 0
	b.NotifyRoom(func() { calls++ })
	if calls != 1 {
		t.Fatalf("%d calls with an empty budget", calls)
	}
	c := mustTake(t, b, a)
	b.NotifyRoom(func() { calls++ })
	if calls != 1 {
		t.Fatal("called while the budget was full")
	}
	b.Release(c)
	b.Release(mustTake(t, b, a))
	if calls != 2 {
		t.Errorf("%d calls after the credit", calls)
	}
}

// TestNothingLeaksUnderLoad has callers of several accounts acquire, give up and
// release at random; afterwards nothing is charged and nobody waits.
func TestNothingLeaksUnderLoad(t *testing.T) {
	b := NewBudget(16*ChunkBytes, seams.NewParking())
	b.PaceBytes = 6 * ChunkBytes
	accounts := []*Account{b.NewAccount("a", 0.75), b.NewAccount("b", 0.75), b.NewAccount("c", 0.1)}
	stop := make(chan struct{})
	var relaxer sync.WaitGroup
	relaxer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				b.Relax()
			}
		}
	})
	var callers sync.WaitGroup
	for i := range 12 {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 400 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(2000))*time.Microsecond)
				c, err := b.Acquire(ctx, accounts[random.IntN(3)], 1+random.IntN(ChunkBytes))
				if err == nil {
					if random.IntN(2) == 0 {
						time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
					}
					b.Release(c)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	close(stop)
	relaxer.Wait()
	if b.Used() != 0 || b.waiting.Load() != 0 || b.paced.Load() != 0 || len(b.line) != 0 {
		t.Errorf("used %d, waiting %d, paced %d, line %d", b.Used(), b.waiting.Load(), b.paced.Load(), len(b.line))
	}
	for _, a := range accounts {
		if a.used != 0 {
			t.Errorf("account %s holds %d", a.name, a.used)
		}
	}
}
