package seams

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// settled waits until the pool has nothing to do and no goroutine left.
func settled(t *testing.T, p *Pool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		idle := len(p.workers) == 0 && p.prompt == 0 && p.waiting.len() == 0
		workers, prompt, waiting := len(p.workers), p.prompt, p.waiting.len()
		p.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d prompt, %d works wait", workers, prompt, waiting)
		}
	}
}

// TestPoolKeepsTheOrder: first come first served, by as many goroutines as it may
// have, which go on as long as there is something to do.
func TestPoolKeepsTheOrder(t *testing.T) {
	e := &handExecutor{}
	p := NewPool(e, NewClock(), 2)
	var ran []int
	const works = 200 // the line grows
	for i := range works {
		p.Run(func() {
			if ran = append(ran, i); i == 0 {
				p.Run(func() { ran = append(ran, works) })
			}
		})
	}
	if len(e.todo) != 2 {
		t.Errorf("%d goroutines, want 2", len(e.todo))
	}
	for len(e.todo) > 0 {
		e.next()
	}
	if len(ran) != works+1 || !slices.IsSorted(ran) {
		t.Errorf("ran %v", ran)
	}
	settled(t, p)
}

// TestPoolRelievesWhoIsLate: works that wait for one that stands behind them in line,
// all of them, end all the same, and what they have needed is given up.
func TestPoolRelievesWhoIsLate(t *testing.T) {
	p := NewPool(NewExecutor(), NewClock(), 2)
	for range 2 {
		const works = 500
		last := make(chan struct{})
		var ended sync.WaitGroup
		ended.Add(works)
		for i := range works {
			p.Run(func() {
				defer ended.Done()
				if i == works-1 {
					close(last)
					return
				}
				<-last
			})
		}
		ended.Wait()
		settled(t, p)
	}
}

// TestPoolRelievesWhoWaits: works that block for less than it takes to be late, on
// something that serves any number at once, have as many goroutines as they can use
// before long. The bound is far above what it takes, and far below what a few would.
func TestPoolRelievesWhoWaits(t *testing.T) {
	const works, each = 4000, 500 * time.Microsecond
	p := NewPool(NewExecutor(), NewClock(), 2)
	if n := together(p, works, func() { time.Sleep(each) }); n < 16 {
		t.Errorf("%d at a time at the most", n)
	}
	settled(t, p)
}

// TestPoolIsBounded: no more goroutines than it may have while nobody is late. A work
// that is late though it does not block may raise them, so the clock stands still.
func TestPoolIsBounded(t *testing.T) {
	const most, works = 3, 2000
	p := NewPool(NewExecutor(), stillClock{NewClock()}, most)
	if n := together(p, works, runtime.Gosched); n > most {
		t.Errorf("%d at a time, want %d at the most", n, most)
	}
	settled(t, p)
}

// together runs works and returns how many of them ran at a time at the most.
func together(e Executor, works int, work func()) int {
	var at, peak atomic.Int32
	var ended sync.WaitGroup
	ended.Add(works)
	for range works {
		e.Run(func() {
			defer ended.Done()
			n := at.Add(1)
			for m := peak.Load(); n > m && !peak.CompareAndSwap(m, n); m = peak.Load() {
			}
			work()
			at.Add(-1)
		})
	}
	ended.Wait()
	return int(peak.Load())
}

// stillClock has timers that never fire.
type stillClock struct{ Clock }

func (stillClock) NewTimer(func()) Timer { return stillTimer{} }

type stillTimer struct{}

func (stillTimer) Reset(Instant) {}
func (stillTimer) Stop()         {}

// TestPoolLosesAGoroutine: a work may end the goroutine that it runs on, in time or
// late, alone or with others behind it.
func TestPoolLosesAGoroutine(t *testing.T) {
	for _, late := range []time.Duration{0, 5 * poolPatience} {
		p := NewPool(NewExecutor(), NewClock(), 1)
		var ended sync.WaitGroup
		for i := range 10 {
			ended.Add(1)
			p.Run(func() {
				defer ended.Done()
				if i%3 == 0 {
					time.Sleep(late)
					runtime.Goexit()
				}
			})
		}
		ended.Wait()
		settled(t, p)
	}
}
