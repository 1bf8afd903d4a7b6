package seams

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestCrewIsBounded: never more than so many at a time, and all of them in the end.
func TestCrewIsBounded(t *testing.T) {
	const most, works = 3, 200
	c := NewCrew(NewExecutor(), most)
	var at, peak, done atomic.Int32
	var all sync.WaitGroup
	all.Add(works)
	for range works {
		c.Run(func() {
			defer all.Done()
			n := at.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
			done.Add(1)
			at.Add(-1)
		})
	}
	all.Wait()
	if peak.Load() > most || done.Load() != works {
		t.Errorf("%d at a time, %d done", peak.Load(), done.Load())
	}
}

// handExecutor runs what it is given when the test says so.
type handExecutor struct{ todo []func() }

func (e *handExecutor) Run(fn func()) { e.todo = append(e.todo, fn) }

func (e *handExecutor) next() {
	fn := e.todo[0]
	e.todo = e.todo[1:]
	fn()
}

// TestCrewKeepsTheOrder: first come first served, each in a turn of its own, also
// behind one that panics.
func TestCrewKeepsTheOrder(t *testing.T) {
	e := &handExecutor{}
	c := NewCrew(e, 1)
	var ran []int
	for i := range 4 {
		c.Run(func() {
			ran = append(ran, i)
			if i == 1 {
				panic("a codec's bug")
			}
		})
	}
	for len(e.todo) > 0 {
		if len(e.todo) != 1 {
			t.Fatalf("%d turns at a time", len(e.todo))
		}
		func() {
			defer func() { _ = recover() }()
			e.next()
		}()
	}
	if !slices.Equal(ran, []int{0, 1, 2, 3}) || c.running != 0 {
		t.Errorf("ran %v, %d workers are busy", ran, c.running)
	}
}
