package actortest

import (
	"context"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// Clock stands still until somebody advances it. It may be used by several
// goroutines.
type Clock struct {
	// LateFires has a timer that is set for a time that is over fire at once, in a
	// goroutine of its own, as a real one does; else it fires with the next Advance.
	LateFires bool

	mu     sync.Mutex
	now    seams.Instant
	timers []*clockTimer
}

type clockTimer struct {
	clock *Clock
	fire  func()
	at    seams.Instant
}

// NewClock returns a clock that shows an hour.
func NewClock() *Clock { return &Clock{now: seams.Instant(time.Hour)} }

// Now implements seams.Clock.
func (c *Clock) Now() seams.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Read implements seams.Clock.
func (c *Clock) Read() (seams.Instant, int64) {
	now := c.Now()
	return now, int64(now) / 1e6
}

// NewTimer implements seams.Clock.
func (c *Clock) NewTimer(fire func()) seams.Timer {
	t := &clockTimer{c, fire, seams.Never}
	c.mu.Lock()
	c.timers = append(c.timers, t)
	c.mu.Unlock()
	return t
}

// WithTimeout implements seams.Clock, with real time: tests wait no longer.
func (c *Clock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, d)
}

// Advance lets time pass, and fires what is due by then.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for _, t := range c.timers {
		if t.at <= c.now {
			t.at = seams.Never
			due = append(due, t.fire)
		}
	}
	c.mu.Unlock()
	for _, fire := range due {
		fire()
	}
}

// Timers is how many timers were made, and how many of them are set.
func (c *Clock) Timers() (made, set int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.timers {
		if t.at != seams.Never {
			set++
		}
	}
	return len(c.timers), set
}

// Reset implements seams.Timer.
func (t *clockTimer) Reset(at seams.Instant) {
	c := t.clock
	c.mu.Lock()
	due := c.LateFires && at <= c.now
	if t.at = at; due {
		t.at = seams.Never
	}
	c.mu.Unlock()
	if due {
		go t.fire()
	}
}

// Stop implements seams.Timer.
func (t *clockTimer) Stop() { t.Reset(seams.Never) }
