package messages

import (
	"sync/atomic"

	"github.com/troupe-kafka/troupe/seams"
)

// FlushWaiter counts the batches that a Flush, Send or Close waits for.
type FlushWaiter struct {
	left atomic.Int64
	spot seams.Spot
}

// NewFlushWaiter returns a waiter that wakes spot. It starts with one hold, to
// be dropped by Done when everything is registered.
func NewFlushWaiter(spot seams.Spot) *FlushWaiter {
	w := &FlushWaiter{spot: spot}
	w.left.Store(1)
	return w
}

// Add registers n more.
func (w *FlushWaiter) Add(n int) { w.left.Add(int64(n)) }

// Done drops one hold; the last wakes the waiter.
func (w *FlushWaiter) Done() { w.DoneWith(1) }

// DoneWith drops n holds; the last wakes the waiter.
func (w *FlushWaiter) DoneWith(n int) {
	if w.left.Add(int64(-n)) == 0 {
		w.spot.Wake()
	}
}
