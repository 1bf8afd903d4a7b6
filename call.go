package troupe

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// maxIdleCalls bounds the calls that are kept for later ones.
const maxIdleCalls = 64

// call is one Send of one message while it waits. It is reused with its timer and
// its callback, which cost more than the rest of the way.
type call struct {
	callback Callback
	timer    seams.Timer
	spot     seams.Spot
	ended    atomic.Bool // by the outcome or by the timer, whichever comes first
	late     bool
	delivery Delivery
}

// calls are the ones that are idle: a list and not a pool, so that a simulation
// finds the same one in every run.
type calls struct {
	mu   sync.Mutex
	idle []*call
}

func (l *calls) take(clock seams.Clock, parking seams.Parking) *call {
	l.mu.Lock()
	var c *call
	if n := len(l.idle); n > 0 {
		c, l.idle = l.idle[n-1], l.idle[:n-1]
	}
	l.mu.Unlock()
	if c == nil {
		c = &call{}
		c.callback = func(d Delivery) {
			if c.ended.CompareAndSwap(false, true) {
				c.delivery = d
				c.spot.Wake()
			}
		}
		c.timer = clock.NewTimer(func() {
			if c.ended.CompareAndSwap(false, true) {
				c.late = true
				c.spot.Wake()
			}
		})
	}
	c.spot = parking.NewSpot()
	return c
}

// put takes a call back whose outcome has come, and that nobody will touch again.
func (l *calls) put(c *call) {
	c.spot, c.delivery = nil, Delivery{}
	c.ended.Store(false)
	l.mu.Lock()
	if len(l.idle) < maxIdleCalls {
		l.idle = append(l.idle, c)
	}
	l.mu.Unlock()
}

// wait waits for the outcome. Without a deadline of its own it takes the longest
// that an outcome can take, so that a Send inside a callback ends.
func (p *Producer) wait(ctx context.Context, c *call) (Delivery, error) {
	var deadline seams.Instant
	_, has := ctx.Deadline()
	if !has {
		deadline = p.config.Clock.Now().Add(p.longest())
		c.timer.Reset(deadline)
	}
	err := c.spot.Wait(ctx)
	if !has {
		c.timer.Stop()
	}
	if err == nil && c.late {
		err = p.noOutcome()
	}
	if err != nil {
		return Delivery{}, err // the outcome may still come
	}
	d := c.delivery
	if has || p.config.Clock.Now() < deadline {
		p.calls.put(c) // else the timer may be about to fire
	}
	return d, nil
}

// noOutcome is what a call without a deadline ends with when its own time is over.
func (p *Producer) noOutcome() error {
	return fmt.Errorf("%w: no outcome after %v", messages.ErrDeliveryTimeout, p.longest())
}
