package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// TestCapLeavesRoomForOthers: an account's cap holds up its own callers only.
func TestCapLeavesRoomForOthers(t *testing.T) {
	b := NewBudget(16*ChunkBytes, seams.NewParking())
	one, two := b.NewAccount("one", 0.75), b.NewAccount("two", 0.75)
	for range 12 {
		acquire(t, b, one, ChunkBytes)
	}
	if _, err := b.TryAcquire(one, ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("above three quarters: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Acquire(ctx, one, ChunkBytes); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a waiter with a deadline: %v", err)
	}
	waits := ask(t, b, context.Background(), one, ChunkBytes)
	for range 4 {
		acquire(t, b, two, ChunkBytes) // though somebody of one waits
	}
	waits.mustWait(t)
	if b.Used() != b.Total() || !b.Pressed() {
		t.Errorf("%d bytes of %d are used, pressed %v", b.Used(), b.Total(), b.Pressed())
	}
	if _, err := b.Acquire(context.Background(), one, 13*ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("what can never fit: %v", err)
	}
	b.Close(errors.New("the end"))
	<-waits.done
}

// TestFirstComeFirstServed holds within an account: a small request waits behind
// a large one, and equal ones keep the order of arrival.
func TestFirstComeFirstServed(t *testing.T) {
	b := NewBudget(8*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 0.5)
	fill := func() (held []*Chunk) {
		for range 4 {
			held = append(held, acquire(t, b, a, ChunkBytes))
		}
		return held
	}
	held := fill()
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

	held = fill()
	var callers []*caller
	for range held {
		callers = append(callers, ask(t, b, context.Background(), a, ChunkBytes))
	}
	for i, c := range held {
		b.Release(c)
		callers[i].wait(t)
		for _, later := range callers[i+1:] {
			later.mustWait(t)
		}
	}
}

// TestWholeBudgetIsNotOvertaken: whoever waits for the budget as a whole is
// served before all who came later, of whatever account.
func TestWholeBudgetIsNotOvertaken(t *testing.T) {
	b := NewBudget(4*ChunkBytes, seams.NewParking())
	one, two, three := b.NewAccount("one", 0.75), b.NewAccount("two", 0.75), b.NewAccount("three", 0.75)
	first := acquire(t, b, one, 2*ChunkBytes)
	second := acquire(t, b, two, ChunkBytes)
	whole := ask(t, b, context.Background(), three, 3*ChunkBytes)
	if _, err := b.TryAcquire(two, 1); !errors.Is(err, ErrFull) {
		t.Error("a newcomer overtakes at once")
	}
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

// TestLineOfAnAccountHoldsUpNobodyElse: one who would fit, but stands behind
// another of a capped account, does not wait for the budget as a whole.
func TestLineOfAnAccountHoldsUpNobodyElse(t *testing.T) {
	b := NewBudget(8*ChunkBytes, seams.NewParking())
	one, two := b.NewAccount("one", 0.5), b.NewAccount("two", 0.5)
	held := acquire(t, b, one, 3*ChunkBytes)
	large := ask(t, b, context.Background(), one, 2*ChunkBytes)
	small := ask(t, b, context.Background(), one, ChunkBytes)
	if _, err := b.TryAcquire(two, ChunkBytes); err != nil {
		t.Errorf("another account: %v", err)
	}
	ask(t, b, context.Background(), two, 2*ChunkBytes).wait(t)
	b.Release(held)
	large.wait(t)
	small.wait(t)
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
