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
	heap    []deadline
}

// deadline is an entry of the heap. One whose version is not its timer's was
// reset or stopped since and means nothing.
type deadline struct {
	at      seams.Instant
	timer   *timer
	version uint64
}

func (d deadline) before(o deadline) bool {
	if d.at != o.at {
		return d.at < o.at
	}
	return d.timer.number < o.timer.number
}

type timer struct {
	clock   *clock
	fire    func()
	number  uint64
	version uint64
	cause   uint64 // the event that set the deadline
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
	c.created++
	return &timer{clock: c, fire: fire, number: c.created}
}

// after runs fn in a turn of its own, d from now.
func (c *clock) after(d time.Duration, fn func()) {
	c.newTimer(fn).Reset(c.now.Add(d))
}

// Reset implements seams.Timer.
func (t *timer) Reset(at seams.Instant) {
	t.version++
	t.cause = t.clock.scheduler.cause
	t.clock.push(deadline{at, t, t.version})
}

// Stop implements seams.Timer.
func (t *timer) Stop() { t.version++ }

func (c *clock) push(d deadline) {
	c.heap = append(c.heap, d)
	for i := len(c.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.heap[i].before(c.heap[parent]) {
			break
		}
		c.heap[i], c.heap[parent] = c.heap[parent], c.heap[i]
		i = parent
	}
}

func (c *clock) pop() deadline {
	top := c.heap[0]
	last := len(c.heap) - 1
	c.heap[0] = c.heap[last]
	c.heap[last] = deadline{}
	c.heap = c.heap[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && c.heap[child+1].before(c.heap[child]) {
			child++
		}
		if !c.heap[child].before(c.heap[i]) {
			break
		}
		c.heap[i], c.heap[child] = c.heap[child], c.heap[i]
		i = child
	}
	return top
}

// next is the earliest deadline that means anything.
func (c *clock) next() (seams.Instant, bool) {
	for len(c.heap) > 0 {
		d := c.heap[0]
		if d.version == d.timer.version {
			return d.at, d.at != seams.Never
		}
		c.pop()
	}
	return 0, false
}

// advance moves to the next deadline and makes what is due runnable. When there
// is none before the limit it moves there and reports false.
func (c *clock) advance(limit int64) bool {
	at, ok := c.next()
	if !ok || int64(at) > limit {
		c.now = max(c.now, seams.Instant(limit))
		return false
	}
	c.now = max(c.now, at)
	c.due()
	return true
}

// pass lets some nanoseconds go by.
func (c *clock) pass(ns int64) {
	c.now += seams.Instant(ns)
	c.due()
}

func (c *clock) due() {
	for {
		at, ok := c.next()
		if !ok || at > c.now {
			return
		}
		d := c.pop()
		d.timer.version++
		c.scheduler.runnable = append(c.scheduler.runnable, turn{d.timer.fire, d.timer.cause})
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
	t := c.newTimer(func() { ctx.end(context.DeadlineExceeded) })
	t.Reset(ctx.at)
	return ctx, func() {
		t.Stop()
		ctx.end(context.Canceled)
	}
}

// virtualContext is a context whose deadline is in virtual time.
type virtualContext struct {
	context.Context
	at        seams.Instant
	done      chan struct{}
	err       error
	whenEnded []func()
}

// Deadline implements context.Context.
func (v *virtualContext) Deadline() (time.Time, bool) {
	return time.UnixMilli(epochMs).Add(time.Duration(v.at)), true
}

// Done implements context.Context.
func (v *virtualContext) Done() <-chan struct{} { return v.done }

// Err implements context.Context.
func (v *virtualContext) Err() error { return v.err }

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
