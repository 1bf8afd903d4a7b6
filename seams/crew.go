package seams

import "sync"

// Crew is an Executor that runs a bounded number of works at a time on another
// one, first come first served: codecs, which need a processor each as long as
// they run, and memory for what they make.
type Crew struct {
	executor Executor
	most     int

	mu      sync.Mutex
	running int
	waiting []func()
}

// NewCrew returns a crew of most workers on executor.
func NewCrew(executor Executor, most int) *Crew { return &Crew{executor: executor, most: most} }

// Run implements Executor. It never waits: what finds no worker free stands in
// line.
func (c *Crew) Run(fn func()) {
	c.mu.Lock()
	if c.running == c.most {
		c.waiting = append(c.waiting, fn)
		c.mu.Unlock()
		return
	}
	c.running++
	c.mu.Unlock()
	c.executor.Run(func() { c.work(fn) })
}

// work runs fn and then has the next in line run, in a turn of its own.
func (c *Crew) work(fn func()) {
	defer func() {
		c.mu.Lock()
		var next func()
		if len(c.waiting) > 0 {
			next = c.waiting[0]
			c.waiting[0] = nil
			c.waiting = c.waiting[1:]
		} else {
			c.waiting = nil
			c.running--
		}
		c.mu.Unlock()
		if next != nil {
			c.executor.Run(func() { c.work(next) })
		}
	}()
	fn()
}
