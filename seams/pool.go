package seams

import (
	"sync"
	"time"
)

const (
	// poolPatience is between two looks at what the goroutines of a pool are doing. A
	// work that is met twice is late.
	poolPatience = time.Millisecond
	// poolWait is how many looks a work stands in line before the pool has too few
	// goroutines, though none of their works is late: each waits for a little.
	poolWait = 4
)

// Pool is an Executor for many short works of which any may block, as callbacks
// do: first come first served, on so many goroutines at once, where one for each
// would cost more than most works take. Those behind a work that is late get other
// goroutines, twice as many as were late, and those that stand in line for too long get
// as many more as there are: however many block, and for however long or short, the
// rest waits for some milliseconds.
type Pool struct {
	executor Executor
	clock    Clock
	most     int
	work     func()

	mu       sync.Mutex
	waiting  works
	workers  []*poolWorker
	spare    []*poolWorker // most of them at the most
	prompt   int           // workers, and those that are about to begin, that are not late
	timer    Timer
	watching bool // the timer is set, or has fired

	given, taken uint64           // works, since ever
	stood        [poolWait]uint64 // given at the last looks, the latest first
}

// poolWorker is a goroutine of a pool.
type poolWorker struct {
	place int // in workers
	looks int // at the work that it has now
	late  bool
}

// NewPool returns a pool of most goroutines at once, of one at least, on executor.
func NewPool(executor Executor, clock Clock, most int) *Pool {
	p := &Pool{executor: executor, clock: clock, most: max(most, 1)}
	p.work = p.begin
	p.timer = clock.NewTimer(p.look)
	return p
}

// Run implements Executor. It never waits, and what stands in line is bounded by
// what callers give it: a partition has one work at a time.
func (p *Pool) Run(fn func()) {
	p.mu.Lock()
	p.waiting.push(fn)
	p.given++
	start := p.prompt < p.most
	switch {
	case start:
		p.prompt++
	case !p.watching:
		p.watch()
	}
	p.mu.Unlock()
	if start {
		p.executor.Run(p.work)
	}
}

// watch has the workers looked at, in a while.
func (p *Pool) watch() {
	if !p.watching {
		p.stood = [poolWait]uint64{} // nobody has looked for a while
	}
	p.watching = true
	p.timer.Reset(p.clock.Now().Add(poolPatience))
}

// look finds who is late, and has others do what waits behind them.
func (p *Pool) look() {
	p.mu.Lock()
	late := 0
	for _, w := range p.workers {
		if w.looks++; w.looks == 2 {
			w.late = true
			late++
		}
	}
	p.prompt -= late
	more := max(p.most-p.prompt, 2*late)
	if p.taken < p.stood[poolWait-1] { // what was in line then still is
		more = max(more, len(p.workers))
		p.stood = [poolWait]uint64{} // those get their time first
	}
	copy(p.stood[1:], p.stood[:])
	p.stood[0] = p.given
	start := min(p.waiting.len(), more)
	p.prompt += start
	if p.waiting.len() > 0 {
		p.watch()
	} else {
		p.watching = false
	}
	p.mu.Unlock()
	for range start {
		p.executor.Run(p.work)
	}
}

// begin is a goroutine of the pool.
func (p *Pool) begin() {
	w := p.join()
	defer p.end(w)
	for {
		p.mu.Lock()
		if w.late {
			w.late = false
			p.prompt++
		}
		if p.waiting.len() == 0 {
			p.mu.Unlock()
			return
		}
		w.looks = 0
		fn := p.waiting.pop()
		p.taken++
		p.mu.Unlock()
		fn()
	}
}

func (p *Pool) join() *poolWorker {
	p.mu.Lock()
	defer p.mu.Unlock()
	var w *poolWorker
	if last := len(p.spare) - 1; last >= 0 {
		w, p.spare = p.spare[last], p.spare[:last]
	} else {
		w = &poolWorker{}
	}
	*w = poolWorker{place: len(p.workers)}
	p.workers = append(p.workers, w)
	return w
}

// end is also reached in the middle of a work that ends its goroutine
// (runtime.Goexit): then somebody else has to go on.
func (p *Pool) end(w *poolWorker) {
	p.mu.Lock()
	last := len(p.workers) - 1
	p.workers[w.place] = p.workers[last]
	p.workers[w.place].place = w.place
	p.workers[last] = nil
	p.workers = p.workers[:last]
	if !w.late {
		p.prompt--
	}
	if len(p.spare) < p.most {
		p.spare = append(p.spare, w)
	}
	start := p.waiting.len() > 0 && p.prompt < p.most
	if start {
		p.prompt++
	}
	p.mu.Unlock()
	if start {
		p.executor.Run(p.work)
	}
}
