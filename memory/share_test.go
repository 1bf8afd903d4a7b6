package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// newShares returns a budget of 100 chunks, of which ten are common, eleven with
// first small chunks, and shares that may hold five.
func newShares(names ...string) (*Budget, *Account, []*Account) {
	b := NewBudget(100*ChunkBytes, seams.NewParking())
	common := b.NewCommonAccount("common", 0.1, 0.11)
	var shares []*Account
	for _, name := range names {
		shares = append(shares, b.NewShare(common, name, 0.5))
	}
	return b, common, shares
}

// TestShareLeavesRoomForTheOthers: one share does not take all that is common.
func TestShareLeavesRoomForTheOthers(t *testing.T) {
	b, common, s := newShares("greedy", "other", "third")
	for range 5 {
		acquire(t, b, s[0], ChunkBytes)
	}
	if _, err := b.TryAcquire(s[0], 1); !errors.Is(err, ErrFull) {
		t.Errorf("above its share: %v", err)
	}
	greedy := ask(t, b, context.Background(), s[0], ChunkBytes)
	held := acquire(t, b, s[1], 4*ChunkBytes)
	acquire(t, b, s[2], ChunkBytes)
	if common.used != 10*ChunkBytes || b.Used() != 10*ChunkBytes {
		t.Errorf("the common account holds %d bytes, the budget %d", common.used, b.Used())
	}
	if _, err := b.TryAcquire(s[2], 1); !errors.Is(err, ErrFull) {
		t.Errorf("above the common part: %v", err)
	}
	if _, err := b.TryAcquire(b.NewAccount("leader", 0.75), ChunkBytes); err != nil {
		t.Errorf("a leader's caller: %v", err)
	}
	b.Release(held)
	greedy.mustWait(t) // the room is the others'
	b.Rouse(s[0])
	<-greedy.done
	if !errors.Is(greedy.err, ErrRoused) {
		t.Error(greedy.err)
	}
}

// TestEmptyShareIsNotKeptOut: a share that holds nothing may take one chunk of
// any size, and a small one though the common account is used up, up to a bound.
func TestEmptyShareIsNotKeptOut(t *testing.T) {
	b, common, s := newShares("full", "large", "new", "empty")
	acquire(t, b, s[1], 6*ChunkBytes) // more than its share
	if _, err := b.TryAcquire(s[1], 1); !errors.Is(err, ErrFull) {
		t.Errorf("a second chunk above its share: %v", err)
	}
	acquire(t, b, s[0], 4*ChunkBytes)
	if _, err := b.TryAcquire(s[2], ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("a large chunk above the common part: %v", err)
	}
	waits := ask(t, b, context.Background(), s[2], ChunkBytes)
	for range ChunkBytes / SmallChunkBytes {
		acquire(t, b, b.NewShare(common, "one of many", 0.5), SmallChunkBytes) // though somebody waits for the common part
	}
	if common.used != 11*ChunkBytes {
		t.Errorf("%d bytes are held in common", common.used)
	}
	if _, err := b.TryAcquire(s[3], 1); !errors.Is(err, ErrFull) {
		t.Errorf("a first chunk above the bound: %v", err)
	}
	waits.mustWait(t)
	b.Close(errors.New("the end"))
	<-waits.done
}

// TestCommonLineIsNotOvertaken: what comes free in common goes to the one who
// asked first, though a later one would fit already.
func TestCommonLineIsNotOvertaken(t *testing.T) {
	b, _, s := newShares("holds", "first", "second")
	held := []*Chunk{acquire(t, b, s[0], 2*ChunkBytes), acquire(t, b, s[0], 3*ChunkBytes)}
	acquire(t, b, s[1], ChunkBytes)
	acquire(t, b, s[2], 4*ChunkBytes)
	first := ask(t, b, context.Background(), s[1], 4*ChunkBytes)
	second := ask(t, b, context.Background(), s[2], ChunkBytes)
	b.Release(held[0])
	first.mustWait(t)
	second.mustWait(t)
	if _, err := b.TryAcquire(b.NewAccount("leader", 0.75), ChunkBytes); err != nil {
		t.Errorf("a leader's caller: %v", err)
	}
	b.Release(held[1])
	first.wait(t)
	second.wait(t)
}

// TestWhatCanNeverFit waits for Rouse alone, and is in the way of its own share
// only.
func TestWhatCanNeverFit(t *testing.T) {
	b, _, s := newShares("huge", "other")
	if _, err := b.Acquire(context.Background(), s[0], 11*ChunkBytes); !errors.Is(err, ErrFull) {
		t.Errorf("without anybody who could rouse it: %v", err)
	}
	turn := s[0].Turn()
	huge := make(chan error, 1)
	go func() {
		_, err := b.AcquireInTurn(context.Background(), s[0], 11*ChunkBytes, turn)
		huge <- err
	}()
	for inLine(b) != 1 {
		time.Sleep(100 * time.Microsecond)
	}
	for range 5 {
		acquire(t, b, s[1], ChunkBytes)
	}
	if _, err := b.TryAcquire(s[0], 1); !errors.Is(err, ErrFull) {
		t.Error("somebody of the same share overtakes")
	}
	b.Rouse(s[0])
	if err := <-huge; !errors.Is(err, ErrRoused) {
		t.Error(err)
	}
	acquire(t, b, s[0], 1)
}

// TestRouse: those who wait are sent away, those who looked before and come
// after are, too; whoever asked for room is told.
func TestRouse(t *testing.T) {
	b, _, s := newShares("full", "other")
	acquire(t, b, s[0], 5*ChunkBytes)
	acquire(t, b, s[1], 5*ChunkBytes)
	turn := s[0].Turn()
	one, two := ask(t, b, context.Background(), s[0], 1), ask(t, b, context.Background(), s[0], 1)
	other := ask(t, b, context.Background(), s[1], 1)
	told := 0
	b.NotifyRoom(s[0], 1, func() { told++ })
	b.Rouse(s[0])
	for _, c := range []*caller{one, two} {
		<-c.done
		if !errors.Is(c.err, ErrRoused) || c.chunk != nil {
			t.Error(c.chunk, c.err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	other.mustWait(t)
	if _, err := b.AcquireInTurn(context.Background(), s[0], 1, turn); !errors.Is(err, ErrRoused) {
		t.Errorf("who looked before: %v", err)
	}
	if inLine(b) != 1 {
		t.Errorf("%d wait", inLine(b))
	}
	b.Close(errors.New("the end"))
	<-other.done
	if _, err := b.AcquireInTurn(context.Background(), s[0], 1, s[0].Turn()); errors.Is(err, ErrRoused) || err == nil {
		t.Errorf("after the end: %v", err)
	}
}
