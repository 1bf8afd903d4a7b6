package seams

import (
	"context"
	"math"
	"sync"
	"time"
)

// Instant is a monotonic time in nanoseconds since the clock's own start. It
// never goes back and has no relation to the calendar.
type Instant int64

// Never is later than every instant a clock will reach.
const Never Instant = math.MaxInt64

// Add returns the instant d later; it saturates at Never.
func (i Instant) Add(d time.Duration) Instant {
	if d > 0 && i > Never-Instant(d) {
		return Never
	}
	return i + Instant(d)
}

// Sub returns the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// Timer calls its function once each time that its deadline passes.
type Timer interface {
	// Reset sets the next deadline and forgets the one before.
	Reset(at Instant)
	// Stop forgets the deadline. A call under way is not waited for.
	Stop()
}

// Clock tells the time and wakes at deadlines.
type Clock interface {
	// Now returns the monotonic time.
	Now() Instant
	// Read returns the monotonic time and the wall clock in milliseconds since
	// the Unix epoch, taken at one moment.
	Read() (now Instant, unixMilli int64)
	// NewTimer returns a stopped timer. fire runs in a turn of its own and must
	// not block.
	NewTimer(fire func()) Timer
	// WithTimeout is context.WithTimeout on this clock.
	WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc)
}

// NewClock returns the machine's clock.
func NewClock() Clock { return &systemClock{start: time.Now()} }

type systemClock struct{ start time.Time }

func (c *systemClock) Now() Instant { return Instant(time.Since(c.start)) }

func (c *systemClock) Read() (Instant, int64) {
	t := time.Now()
	return Instant(t.Sub(c.start)), t.UnixMilli()
}

func (c *systemClock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, d)
}

func (c *systemClock) NewTimer(fire func()) Timer {
	return &systemTimer{clock: c, fire: fire}
}

// systemTimer makes the runtime timer on its first use, so that an idle
// partition costs none.
type systemTimer struct {
	clock *systemClock
	fire  func()
	mu    sync.Mutex
	timer *time.Timer
}

func (t *systemTimer) Reset(at Instant) {
	d := at.Sub(t.clock.Now())
	t.mu.Lock()
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.fire)
	} else {
		t.timer.Reset(d)
	}
	t.mu.Unlock()
}

func (t *systemTimer) Stop() {
	t.mu.Lock()
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
}
