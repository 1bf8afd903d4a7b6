//go:build !race

package broker

import (
	"fmt"
	"testing"
)

// exchangeAllocations is what a request and its answer may cost.
const exchangeAllocations = 0

// TestAllocationsOfAnExchange: a request and its answer reuse what the last ones
// left, however many partitions travel in them.
func TestAllocationsOfAnExchange(t *testing.T) {
	for _, n := range benchWidths {
		t.Run(fmt.Sprintf("partitions=%d", n), func(t *testing.T) {
			l := newBenchLedger(n)
			exchange := func() { l.receive(t, l.send(t).correlation) }
			for range 5 {
				exchange()
			}
			if got := testing.AllocsPerRun(200, exchange); got > exchangeAllocations {
				t.Errorf("%v allocations, want at most %d", got, exchangeAllocations)
			}
			if last := l.partitions[n-1]; last.settled != 206 || last.written != 206 { // 5, one to warm up, 200
				t.Errorf("settled %d times, written %d times", last.settled, last.written)
			}
		})
	}
}
