package sim

import (
	"context"
	"iter"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// coroutine is a caller that may wait in the middle of a turn. It runs on a
// stack of its own, but never at the same time as anything else.
type coroutine struct {
	scheduler *Scheduler
	next      func() (struct{}, bool)
	yield     func(struct{}) bool
}

// spawn makes fn runnable as a coroutine.
func (s *Scheduler) spawn(fn func()) {
	c := &coroutine{scheduler: s}
	s.Schedule(func() {
		c.next, _ = iter.Pull(func(yield func(struct{}) bool) {
			c.yield = yield
			fn()
		})
		c.run()
	})
}

// run lets the coroutine go on until it parks or ends.
func (c *coroutine) run() {
	before := c.scheduler.current
	c.scheduler.current = c
	c.next()
	c.scheduler.current = before
}

// park gives the turn up. Whoever wakes the coroutine schedules c.run.
func (c *coroutine) park() { c.yield(struct{}{}) }

// here is the running coroutine.
func (s *Scheduler) here() *coroutine {
	if s.current == nil {
		panic("sim: a turn that is not a coroutine tried to wait")
	}
	return s.current
}

// sleep parks the running coroutine for d.
func (s *Scheduler) sleep(d time.Duration) {
	c := s.here()
	s.clock.after(d, c.run)
	c.park()
}

// parking implements seams.Parking with coroutines.
type parking struct{ scheduler *Scheduler }

// NewSpot implements seams.Parking.
func (p parking) NewSpot() seams.Spot { return &spot{scheduler: p.scheduler} }

type spot struct {
	scheduler *Scheduler
	woken     bool
	waiter    *coroutine
}

// Wake implements seams.Spot.
func (s *spot) Wake() {
	if s.woken {
		panic("sim: a spot was woken twice")
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
		panic("sim: a wait that ends outside of virtual time")
	}
	s.waiter = s.scheduler.here()
	s.waiter.park()
	if s.woken {
		return nil
	}
	return context.Cause(ctx)
}
