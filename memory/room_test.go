package memory

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/troupe-kafka/troupe/seams"
)

// TestNotifyRoomWaitsForTheLine: room that somebody stands in line for is none.
func TestNotifyRoomWaitsForTheLine(t *testing.T) {
	b := NewBudget(2*ChunkBytes, seams.NewParking())
	a := b.NewAccount("a", 1)
	var told atomic.Int32
	tell := func() { told.Add(1) }
	b.NotifyRoom(a, ChunkBytes, tell) // there is room
	if told.Load() != 1 {
		t.Error("not told of an empty budget")
	}
	one, two := acquire(t, b, a, ChunkBytes), acquire(t, b, a, ChunkBytes)
	c := ask(t, b, context.Background(), a, 2*ChunkBytes)
	b.NotifyRoom(a, ChunkBytes, tell)
	b.NotifyRoom(a, 10*ChunkBytes, tell) // can never fit: as much as can
	b.Release(one)
	b.Release(two)
	chunk := c.wait(t)
	if told.Load() != 1 {
		t.Error("told while there is no room, or somebody waits for it")
	}
	b.Release(chunk)
	if told.Load() != 3 {
		t.Errorf("told %d times, with room for all", told.Load())
	}
	b.Release(acquire(t, b, a, ChunkBytes))
	if told.Load() != 3 {
		t.Error("told twice")
	}
}

// TestNotifyRoomIsPerAccount: who waits for one account hears of its room though
// others wait for theirs, and nothing of the others' room.
func TestNotifyRoomIsPerAccount(t *testing.T) {
	b := NewBudget(8*ChunkBytes, seams.NewParking())
	dead, busy := b.NewAccount("dead", 0.25), b.NewAccount("busy", 0.25)
	acquire(t, b, dead, 2*ChunkBytes)
	held := acquire(t, b, busy, 2*ChunkBytes)
	ctx, cancel := context.WithCancel(context.Background())
	waits := ask(t, b, ctx, dead, ChunkBytes)
	var ofDead, ofBusy int
	b.NotifyRoom(dead, 1, func() { ofDead++ })
	b.NotifyRoom(busy, 1, func() { ofBusy++ })
	b.Release(held)
	if ofDead != 0 || ofBusy != 1 {
		t.Errorf("told %d times of the dead leader's room and %d times of the busy one's", ofDead, ofBusy)
	}
	cancel()
	<-waits.done
}
