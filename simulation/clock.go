package simulation

import (
	"context"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// epochMs is the wall clock at the start of every run.
const epochMs = 1_700_000_000_000

// clock is the virtual clock. Time passes when nothing is runnable, and a little
// with every turn.
type clock struct {
	scheduler *scheduler
	now       seams.Instant
	// jumped is by how many milliseconds somebody has set the wall clock ahead.
	jumped  int64
	created uint64
	// heap has the timers that are set, the earliest first; none is in it twice.
	// Each entry has four below it.
	heap []deadline
	// spent are timers that nobody knows any more, made is where new ones come from.
	spent []*timer
	made  *pages[timer]
}

// deadline is an entry of the heap, with what entries are compared by.
type deadline struct {
	at     seams.Instant
	number uint64
	timer  *timer
}

func (d *deadline) before(o *deadline) bool {
	return d.at < o.at || d.at == o.at && d.number < o.number
}

// timer fires by its deadline, and among equals by its number.
type timer struct {
	clock  *clock
	fire   func()
	number uint64
	cause  uint64 // the event that set the deadline
	place  int    // in the heap, from 1; 0: it is not set
	once   bool   // of after: nobody can set it again
}

// Now implements seams.Clock.
func (c *clock) Now() seams.Instant { return c.now }

// Read implements seams.Clock.
func (c *clock) Read() (seams.Instant, int64) {
	return c.now, epochMs + c.jumped + int64(c.now)/int64(time.Millisecond)
}

// NewTimer implements seams.Clock.
func (c *clock) NewTimer(fire func()) seams.Timer { return c.newTimer(fire) }

func (c *clock) newTimer(fire func()) *timer {
	t := &c.made.take(1)[:1][0]
	c.init(t, fire)
	return t
}

// init makes a timer of a part of something else.
func (c *clock) init(t *timer, fire func()) {
	c.created++
	*t = timer{clock: c, fire: fire, number: c.created}
}

// after runs fn in a turn of its own, d from now.
func (c *clock) after(d time.Duration, fn func()) {
	var t *timer
	if n := len(c.spent); n > 0 {
		t = c.spent[n-1]
		c.spent = c.spent[:n-1]
	} else {
		t = &timer{}
	}
	c.init(t, fn)
	t.once = true
	t.Reset(c.now.Add(d))
}

// Reset implements seams.Timer.
func (t *timer) Reset(at seams.Instant) {
	c := t.clock
	t.cause = c.scheduler.cause
	i := t.place - 1
	if i < 0 {
		i = len(c.heap)
		c.heap = append(c.heap, deadline{})
	} else if at > c.heap[i].at {
		c.down(i, deadline{at, t.number, t})
		return
	}
	c.up(i, deadline{at, t.number, t})
}

// Stop implements seams.Timer.
func (t *timer) Stop() {
	if t.place > 0 {
		t.clock.remove(t.place - 1)
	}
}

// up puts an entry at place i, or above it.
func (c *clock) up(i int, d deadline) {
	for i > 0 {
		parent := (i - 1) / 4
		if !d.before(&c.heap[parent]) {
			break
		}
		c.heap[i] = c.heap[parent]
		c.heap[i].timer.place = i + 1
		i = parent
	}
	c.heap[i] = d
	d.timer.place = i + 1
}

// down puts an entry at place i, or below it.
func (c *clock) down(i int, d deadline) {
	for {
		child := 4*i + 1
		if child >= len(c.heap) {
			break
		}
		for other := child + 1; other < min(4*i+5, len(c.heap)); other++ {
			if c.heap[other].before(&c.heap[child]) {
				child = other
			}
		}
		if !c.heap[child].before(&d) {
			break
		}
		c.heap[i] = c.heap[child]
		c.heap[i].timer.place = i + 1
		i = child
	}
	c.heap[i] = d
	d.timer.place = i + 1
}

func (c *clock) remove(i int) {
	c.heap[i].timer.place = 0
	last := len(c.heap) - 1
	d := c.heap[last]
	c.heap[last] = deadline{}
	c.heap = c.heap[:last]
	switch {
	case i == last:
	case i > 0 && d.before(&c.heap[(i-1)/4]):
		c.up(i, d)
	default:
		c.down(i, d)
	}
}

// advance moves to the next deadline and makes what is due runnable. When there
// is none before the limit it moves there and reports false.
func (c *clock) advance(limit int64) bool {
	if len(c.heap) == 0 || c.heap[0].at == seams.Never || int64(c.heap[0].at) > limit {
		c.now = max(c.now, seams.Instant(limit))
		return false
	}
	c.now = max(c.now, c.heap[0].at)
	c.due()
	return true
}

// pass lets some nanoseconds go by.
func (c *clock) pass(ns int64) {
	c.now += seams.Instant(ns)
	c.due()
}

func (c *clock) due() {
	for len(c.heap) > 0 && c.heap[0].at <= c.now {
		t := c.heap[0].timer
		c.remove(0)
		c.scheduler.runnable = append(c.scheduler.runnable, turn{t.fire, t.cause})
		if t.once {
			c.spent = append(c.spent, t)
		}
	}
}

// WithTimeout implements seams.Clock. The parent must be one of ours or one that
// never ends: the context package would watch any other from a goroutine.
func (c *clock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx := &virtualContext{Context: parent, at: c.now.Add(d), done: make(chan struct{})}
	switch p := parent.(type) {
	case *virtualContext:
		if p.err != nil {
			ctx.end(p.err)
		} else {
			p.whenEnded = append(p.whenEnded, func() { ctx.end(p.err) })
		}
	default:
		if parent.Done() != nil {
			panic("simulation: a context that ends outside of virtual time")
		}
	}
	t := c.newTimer(func() {
		if ctx.cancelled {
			ctx.end(context.Canceled)
		} else {
			ctx.end(context.DeadlineExceeded)
		}
	})
	t.Reset(ctx.at)
	return ctx, func() {
		t.Stop()
		ctx.end(context.Canceled)
	}
}

// virtualContext is a context whose deadline is in virtual time.
type virtualContext struct {
	context.Context
	at seams.Instant
	// cancelled says that it has no deadline, and that somebody cancels it then.
	cancelled bool
	fails     func() bool // panics when it is asked; nil: never
	done      chan struct{}
	err       error
	whenEnded []func()
}

// Deadline implements context.Context.
func (v *virtualContext) Deadline() (time.Time, bool) {
	if v.cancelled {
		return time.Time{}, false
	}
	return time.UnixMilli(epochMs).Add(time.Duration(v.at)), true
}

// Done implements context.Context.
func (v *virtualContext) Done() <-chan struct{} { return v.done }

// Err implements context.Context.
func (v *virtualContext) Err() error {
	if v.fails != nil && v.fails() {
		panic(misbehaved{})
	}
	return v.err
}

func (v *virtualContext) end(err error) {
	if v.err != nil {
		return
	}
	v.err = err
	close(v.done)
	for _, fn := range v.whenEnded {
		fn()
	}
	v.whenEnded = nil
}
