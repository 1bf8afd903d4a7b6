package sim

import (
	"context"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// epochMs is the wall clock at the start of every run.
const epochMs = 1_700_000_000_000

// Clock is the virtual clock. Time passes when nothing is runnable, and a little
// with every turn.
type Clock struct {
	scheduler *Scheduler
	now       seams.Instant
	created   uint64
	heap      []deadline
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
	clock   *Clock
	fire    func()
	number  uint64
	version uint64
}

// Now implements seams.Clock.
func (c *Clock) Now() seams.Instant { return c.now }

// Read implements seams.Clock.
func (c *Clock) Read() (seams.Instant, int64) {
	return c.now, epochMs + int64(c.now)/int64(time.Millisecond)
}

// NewTimer implements seams.Clock.
func (c *Clock) NewTimer(fire func()) seams.Timer { return c.newTimer(fire) }

func (c *Clock) newTimer(fire func()) *timer {
	c.created++
	return &timer{clock: c, fire: fire, number: c.created}
}

// after runs fn in a turn of its own, d from now.
func (c *Clock) after(d time.Duration, fn func()) {
	c.newTimer(fn).Reset(c.now.Add(d))
}

// Reset implements seams.Timer.
func (t *timer) Reset(at seams.Instant) {
	t.version++
	t.clock.push(deadline{at, t, t.version})
}

// Stop implements seams.Timer.
func (t *timer) Stop() { t.version++ }

func (c *Clock) push(d deadline) {
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

func (c *Clock) pop() deadline {
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
func (c *Clock) next() (seams.Instant, bool) {
	for len(c.heap) > 0 {
		d := c.heap[0]
		if d.version == d.timer.version {
			return d.at, d.at != seams.Never
		}
		c.pop()
	}
	return 0, false
}

// advance moves to the next deadline and makes what is due runnable. It reports
// false when there is none.
func (c *Clock) advance() bool {
	at, ok := c.next()
	if !ok {
		return false
	}
	c.now = max(c.now, at)
	c.due()
	return true
}

// pass lets some nanoseconds go by.
func (c *Clock) pass(ns int64) {
	c.now += seams.Instant(ns)
	c.due()
}

func (c *Clock) due() {
	for {
		at, ok := c.next()
		if !ok || at > c.now {
			return
		}
		d := c.pop()
		d.timer.version++
		c.scheduler.Schedule(d.timer.fire)
	}
}

// WithTimeout implements seams.Clock. The parent must be one of ours or one that
// never ends: the context package would watch any other from a goroutine.
func (c *Clock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
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
			panic("sim: a context that ends outside of virtual time")
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
