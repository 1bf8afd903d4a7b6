//go:build !race

package accumulator

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// TestAllocationsOfAppend is the caller's part, chunks from the pool included.
func TestAllocationsOfAppend(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	r := benchRig(t, false)
	for name, a := range map[string]*messages.Admission{
		"no callback": benchAdmission(nil),
		"tag":         benchAdmission(func(messages.Delivery) {}),
		"context":     benchAdmission(func(messages.Delivery) {}),
	} {
		if name == "tag" {
			a.Record.Tag = 7
		}
		if name == "context" {
			a.Context = ctx
		}
		// Over many records, since the slices beside a batch grow now and then.
		if n := testing.AllocsPerRun(20_000, func() { r.post(a) }); n != 0 {
			t.Errorf("%s: %v allocations per record", name, n)
		}
	}
}

// batchAllocations is what the life of a batch may allocate: the batch, its
// slices for the write, and the lists of its chunks.
const batchAllocations = 20

func TestAllocationsOfABatch(t *testing.T) {
	r, a := benchRig(t, true), benchAdmission(func(messages.Delivery) {})
	if n := testing.AllocsPerRun(100, func() {
		r.fill(a)
		r.settleOne(r.takeOne())
	}); n > batchAllocations {
		t.Errorf("%v allocations for a batch of %d records, want at most %d", n, benchRecords, batchAllocations)
	} else {
		t.Logf("%v allocations for a batch", n)
	}
}

func TestAllocationsOfCallbacks(t *testing.T) {
	var called int
	for name, make := range laneAnswers(&called) {
		r := benchRig(t, false)
		a := make(r)
		called = 0
		if n := testing.AllocsPerRun(100, func() { r.box.lane.answer(a) }); n != 0 {
			t.Errorf("%s: %v allocations for %d callbacks", name, n, benchRecords)
		}
		if name != "no callback" && called != 101*benchRecords { // one run to warm up
			t.Errorf("%s: called %d times", name, called)
		}
	}
}

// TestAllocationsOfReplies: the Delivered of a batch, several at a time, and nothing
// besides.
func TestAllocationsOfReplies(t *testing.T) {
	r := benchRig(t, false)
	ears := newEars(t, r)
	received := 0
	to := ears.add("actor", func(*messages.Delivered) { received++ })
	a := answered(r, []callbackRun{{}}, perRecord[uint64]{})
	a.side.replies = []replyRun{{0, to}}
	most := float64((benchRecords + slabRecords - 1) / slabRecords)
	if n := testing.AllocsPerRun(100, func() { r.box.lane.answer(a) }); n > most {
		t.Errorf("%v allocations for %d replies, want at most %v", n, benchRecords, most)
	}
	if received != 101*benchRecords {
		t.Errorf("received %d", received)
	}
}
