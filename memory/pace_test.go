package memory

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/troupe-kafka/troupe/seams"
)

// TestPace: a leader that keeps up is waited for; one that answers nothing is
// not.
func TestPace(t *testing.T) {
	b := NewBudget(mega, seams.NewParking())
	b.PaceBytes = 2 * ChunkBytes
	var told atomic.Int32
	b.OnPaced = func() { told.Add(1) }
	a, other := b.NewAccount("a", 0.75), b.NewAccount("other", 0.75)
	one, two := acquire(t, b, a, ChunkBytes), acquire(t, b, a, ChunkBytes)
	if b.AcquireNow(a, ChunkBytes) != nil {
		t.Error("a third chunk is had at once")
	}
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
	if again, err := b.TryAcquire(b.NewAccount("third", 0.75), 1); err != nil {
		t.Errorf("the pace of one leader refuses another's caller: %v", err)
	} else {
		b.Release(again)
	}
	if b.Relax() {
		t.Error("somebody waits for a leader that answers nothing")
	}
	four := c.wait(t)
	again, err := b.TryAcquire(a, ChunkBytes)
	if err != nil {
		t.Fatalf("the pace refuses somebody: %v", err)
	}
	b.Release(two, three, four, again)
	if a.used != 0 || b.Paced() {
		t.Errorf("%d bytes are left", a.used)
	}
}
