package model

import (
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// TestHistoriesTellWhatWasLost: what consumers could read and an unclean election
// takes is told apart from what nobody but a leader had.
func TestHistoriesTellWhatWasLost(t *testing.T) {
	b := newBench(t, Config{ReplicaLagMax: time.Second}, TopicConfig{MinInSync: 1}, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 2), protocol.None, 0)
	b.Settle()
	b.send(1, 1, batch(7, 0, 2, 3), protocol.None, 2)
	b.at = 3 * time.Second
	b.Advance(b.at)
	if !b.ShrinkISR(orders) {
		t.Fatal("the follower that does not fetch stays in sync")
	}
	b.send(1, 1, batch(7, 0, 5, 1), protocol.None, 5) // committed: the leader is alone
	b.Isolate(1, true)
	if code := b.Elect(orders, 2, true); code != protocol.None {
		t.Fatal(code)
	}
	b.LearnAll(2)
	b.send(1, 1, batch(7, 0, 6, 1), protocol.None, 6) // a zombie alone; still it believes
	b.Isolate(1, false)
	b.Settle()
	h := b.Histories()[0]
	if len(h.Kept) != 2 || h.High != 2 {
		t.Errorf("kept %d records, high watermark %d", len(h.Kept), h.High)
	}
	committed := 0
	for _, e := range h.Cut {
		if e.Committed {
			committed++
		}
	}
	if len(h.Cut) != 5 || committed < 4 {
		t.Errorf("%d records were cut off, %d of them committed: %+v", len(h.Cut), committed, h.Cut)
	}
}

// TestTruncationTakesWholeBatches: a log is never cut in the middle of a batch,
// though it may end there (segment.truncateTo).
func TestTruncationTakesWholeBatches(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{MinInSync: 1}, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 2), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 2, 10), protocol.None, 2)
	r := b.broker(1).replica(orders)
	r.truncate(5, b.millis())
	if len(r.batches) != 1 || r.end != 5 {
		t.Fatalf("%d batches are left, and the log ends at %d", len(r.batches), r.end)
	}
	if err := b.Invariant(); err != nil {
		t.Fatal(err)
	}
}

// TestHistoriesKeepWhatWasDeleted from the beginning, and of deleted topics all.
func TestHistoriesKeepWhatWasDeleted(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{MinInSync: 1}, 1, 2)
	for i := range int32(4) {
		b.send(1, 1, batch(7, 0, i, 1), protocol.None, int64(i))
	}
	b.Settle()
	b.Roll(orders, 1)
	b.send(1, 1, batch(7, 0, 4, 1), protocol.None, 4)
	b.Settle()
	if !b.DeleteRecords(orders, 4) {
		t.Fatal("records cannot be deleted")
	}
	b.DeleteSegments(orders, 1)
	if n := len(b.broker(1).replica(orders).batches); n != 1 {
		t.Fatalf("the leader has %d batches", n)
	}
	b.Settle()
	for _, deleted := range []bool{false, true} {
		if deleted {
			if code := b.DeleteTopic("orders"); code != protocol.None {
				t.Fatal(code)
			}
			b.Settle()
		}
		h := b.Histories()[0]
		if len(h.Kept) != 5 || len(h.Cut) != 0 || h.High != 5 {
			t.Fatalf("deleted %v: kept %d, cut %d, high watermark %d", deleted, len(h.Kept), len(h.Cut), h.High)
		}
		for i, e := range h.Kept {
			if e.Offset != int64(i) || e.Start != 0 {
				t.Errorf("record %d has offset %d and start %d", i, e.Offset, e.Start)
			}
		}
	}
}
