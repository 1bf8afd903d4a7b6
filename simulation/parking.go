package simulation

import (
	"context"
	"iter"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// coroutine is a caller that may wait in the middle of a turn. It runs on a
// stack of its own, but never at the same time as anything else. When its
// function has returned, it is used again for the next: stacks are not free.
type coroutine struct {
	scheduler *scheduler
	fn        func()
	next      func() (struct{}, bool)
	stop      func()
	yield     func(struct{}) bool
	busy      bool
	waits     int // at spots, ever
}

// abandoned is what a parked coroutine panics with when its world ends.
type abandoned struct{}

// coroutines are those of one scheduler.
type coroutines struct {
	all  []*coroutine
	idle []*coroutine
}

// spawn makes fn runnable as a coroutine.
func (s *scheduler) spawn(fn func()) {
	s.Schedule(func() {
		c := s.coroutine()
		c.fn = fn
		c.busy = true
		c.run()
	})
}

func (s *scheduler) coroutine() *coroutine {
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return c
	}
	c := &coroutine{scheduler: s}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		makeRoom(0)
		for {
			if !c.call() {
				return
			}
			c.busy = false
			s.idle = append(s.idle, c)
			if !yield(struct{}{}) {
				return
			}
		}
	})
	s.all = append(s.all, c)
	return c
}

// stackRoom is what most callers need.
const stackRoom = 10 << 10

// makeRoom has the stack grow once, while there is next to nothing on it, and not
// again and again in the middle of a call, where each frame has to be moved.
//
//go:noinline
func makeRoom(i int) byte {
	var room [stackRoom]byte
	return room[i]
}

// call runs the function. It reports false when the world ended under it.
func (c *coroutine) call() (ended bool) {
	defer func() {
		if reason := recover(); reason != nil {
			if _, ok := reason.(abandoned); !ok {
				panic(reason)
			}
			ended = false
		}
	}()
	c.fn()
	c.fn = nil
	return true
}

// endAll ends every coroutine and returns how many were still waiting.
func (s *scheduler) endAll() int {
	waiting := 0
	for len(s.all) > 0 { // one that ends may start another
		all := s.all
		s.all, s.idle = nil, nil
		for _, c := range all {
			if c.busy {
				waiting++
			}
			c.stop()
		}
	}
	return waiting
}

// run lets the coroutine go on until it parks or ends.
func (c *coroutine) run() {
	before := c.scheduler.current
	c.scheduler.current = c
	c.next()
	c.scheduler.current = before
}

// park gives the turn up. Whoever wakes the coroutine schedules c.run.
func (c *coroutine) park() {
	if !c.yield(struct{}{}) {
		panic(abandoned{})
	}
}

// here is the running coroutine.
func (s *scheduler) here() *coroutine {
	if s.current == nil {
		panic("simulation: a turn that is not a coroutine tried to wait")
	}
	return s.current
}

// sleep parks the running coroutine for d.
func (s *scheduler) sleep(d time.Duration) {
	c := s.here()
	s.clock.after(d, c.run)
	c.park()
}

// parking implements seams.Parking with coroutines.
type parking struct{ scheduler *scheduler }

// NewSpot implements seams.Parking.
func (p parking) NewSpot() seams.Spot { return &spot{scheduler: p.scheduler} }

type spot struct {
	scheduler *scheduler
	woken     bool
	waiter    *coroutine
}

// Wake implements seams.Spot.
func (s *spot) Wake() {
	if s.woken {
		panic("simulation: a spot was woken twice")
	}
	s.woken = true
	s.release()
}

func (s *spot) release() {
	if c := s.waiter; c != nil {
		s.waiter = nil
		s.scheduler.Schedule(c.run)
	}
}

// Wait implements seams.Spot.
func (s *spot) Wait(ctx context.Context) error {
	if s.woken {
		return nil
	}
	if v, ok := ctx.(*virtualContext); ok {
		if v.err != nil {
			return context.Cause(v)
		}
		v.whenEnded = append(v.whenEnded, s.release)
	} else if ctx.Done() != nil {
		panic("simulation: a wait that ends outside of virtual time")
	}
	s.waiter = s.scheduler.here()
	s.waiter.waits++
	s.waiter.park()
	if s.woken {
		return nil
	}
	return context.Cause(ctx)
}
