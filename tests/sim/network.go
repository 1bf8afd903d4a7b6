package sim

import (
	"errors"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// dialTimeout is when a connection that does not come up is given up, as the
// network transport does.
const dialTimeout = 10 * time.Second

// lastWord is the virtual time for which a server still serves what a client
// had sent before it went away.
const lastWord = 20 * time.Second

var (
	errRefused   = errors.New("connection refused")
	errDialTime  = errors.New("dial: i/o timeout")
	errBrokePipe = errors.New("broken pipe")
	errReset     = errors.New("connection reset by peer")
)

// Network implements seams.Transport in memory.
type Network struct {
	scheduler *Scheduler
	faults    *faults
	cluster   *Cluster
	trace     *Trace
	dialled   int64
	open      []*socket
	// wrong collects what no client may do to a transport.
	wrong func(format string, args ...any)
}

// socket is one connection, both of its ends.
type socket struct {
	network *Network
	number  int64
	broker  *modelBroker
	events  seams.ConnectionEvents
	opened  bool

	// The client's end: writes wait for their turn, events come in order.
	outbox  []outgoing
	closed  bool
	reason  error
	inbound pipe
	last    bool // Closed was given

	// The server's end: requests are served one at a time, in order.
	requests pipe
	serving  bool
	waiting  [][]byte
	gone     bool // the server has closed its end
}

type outgoing struct {
	frame [][]byte
	sum   uint32
	write seams.Write
}

// pipe delivers things in order, each at its time and in a turn of its own.
type pipe struct {
	clock *Clock
	queue []delivery
	last  seams.Instant
}

type delivery struct {
	at seams.Instant
	fn func()
}

func (p *pipe) put(delay time.Duration, fn func()) {
	p.last = max(p.last, p.clock.now.Add(delay))
	p.queue = append(p.queue, delivery{p.last, fn})
	if len(p.queue) == 1 {
		p.arm()
	}
}

func (p *pipe) arm() {
	p.clock.newTimer(p.next).Reset(p.queue[0].at)
}

// next is one turn: the first thing in line, and only it.
func (p *pipe) next() {
	d := p.queue[0]
	defer func() {
		p.queue = p.queue[1:]
		if len(p.queue) > 0 {
			p.arm()
		}
	}()
	d.fn()
}

// forget drops what is still on its way. The turn under way stays.
func (p *pipe) forget() {
	for i := range p.queue {
		p.queue[i].fn = func() {}
	}
}

// Dial implements seams.Transport.
func (n *Network) Dial(address string, events seams.ConnectionEvents) seams.Connection {
	n.dialled++
	c := &socket{network: n, number: n.dialled, events: events, broker: n.cluster.at(address)}
	c.inbound.clock, c.requests.clock = n.scheduler.clock, n.scheduler.clock
	f := n.faults
	switch {
	case c.broker == nil || !c.broker.up || f.happens(DialRefused):
		c.note("dial-refused")
		c.inbound.put(f.latency(), func() { c.end(errRefused) })
	case f.happens(DialHangs):
		c.note("dial-hangs")
		c.inbound.put(dialTimeout, func() { c.end(errDialTime) })
	default:
		c.note("dial")
		c.inbound.put(2*f.latency(), func() {
			if c.closed {
				return
			}
			if !c.broker.up {
				c.end(errRefused)
				return
			}
			c.opened = true
			n.open = append(n.open, c)
			c.events.Opened()
			c.flush()
		})
	}
	return c
}

func (c *socket) note(event string, numbers ...int64) {
	id := int64(-1)
	if c.broker != nil {
		id = int64(c.broker.id)
	}
	c.network.trace.note("network", event, append([]int64{c.number, id}, numbers...)...)
}

// Write implements seams.Connection.
func (c *socket) Write(frame [][]byte, write seams.Write) {
	if c.closed {
		write.Written(c.reason, false)
		return
	}
	c.outbox = append(c.outbox, outgoing{frame, sumOf(frame), write})
	if c.opened && len(c.outbox) == 1 {
		c.flush()
	}
}

// flush puts the writer's next turn in line.
func (c *socket) flush() {
	if len(c.outbox) == 0 {
		return
	}
	delay := time.Duration(0)
	if c.network.faults.happens(SlowWrite) {
		delay = c.network.faults.between(time.Millisecond, 300*time.Millisecond)
	}
	if delay == 0 {
		c.network.scheduler.Schedule(c.writeOne)
		return
	}
	c.network.scheduler.clock.after(delay, c.writeOne)
}

// writeOne is the writer's turn: one frame goes out.
func (c *socket) writeOne() {
	if c.closed || len(c.outbox) == 0 {
		return // whoever closed the socket has answered the writes
	}
	o := c.outbox[0]
	c.outbox = c.outbox[1:]
	if sumOf(o.frame) != o.sum {
		c.network.wrong("connection %d: a frame changed while it was written", c.number)
	}
	f := c.network.faults
	if f.happens(WriteFails) {
		started := f.random.IntN(2) == 0
		arrives := started && f.random.IntN(2) == 0
		c.note("write-fails")
		if arrives {
			// All bytes left, and the error is about something later.
			c.arrive(joined(o.frame))
		}
		c.stop(errBrokePipe)
		o.write.Written(errBrokePipe, started)
		return
	}
	frame := joined(o.frame)
	c.note("write", int64(len(frame)), int64(checksum(frame)))
	c.arrive(frame)
	o.write.Written(nil, true)
	c.flush()
}

func (c *socket) arrive(frame []byte) {
	c.requests.put(c.network.faults.latency(), func() { c.received(frame) })
}

// Close implements seams.Connection: the client goes away.
func (c *socket) Close(reason error) {
	if c.closed {
		return
	}
	c.note("client-closes")
	if c.network.faults.random.IntN(2) == 0 {
		c.inbound.forget() // answers on their way are not read any more
	}
	c.stop(reason)
}

// end is the end of the connection as the client sees it happen to it.
func (c *socket) end(reason error) {
	if !c.closed {
		c.stop(reason)
	}
}

// stop fails the writes in line and lets the client hear of the end, last.
func (c *socket) stop(reason error) {
	c.closed, c.reason = true, reason
	c.leave()
	outbox := c.outbox
	c.outbox = nil
	for _, o := range outbox {
		c.inbound.put(0, func() { o.write.Written(reason, false) })
	}
	c.inbound.put(0, func() {
		c.last = true
		c.note("closed")
		c.events.Closed(reason)
	})
	// The server learns of it a moment later, and may serve what it has.
	c.network.scheduler.clock.after(lastWord, func() { c.gone = true })
}

func (c *socket) leave() {
	open := c.network.open
	for i, o := range open {
		if o == c {
			c.network.open = append(open[:i:i], open[i+1:]...)
			return
		}
	}
}

// cut ends the connection from the server's side. What was sent before it still
// arrives. What the server had not served is lost, or served without an answer.
func (c *socket) cut(serveRest bool) {
	if c.gone {
		return
	}
	c.note("cut")
	c.gone = !serveRest
	c.leave()
	c.inbound.put(c.network.faults.latency(), func() { c.end(errReset) })
	if c.gone {
		c.waiting = nil
	}
}

// cutAll cuts every connection to a broker.
func (n *Network) cutAll(b *modelBroker) {
	for _, c := range append([]*socket(nil), n.open...) {
		if c.broker == b {
			c.cut(n.faults.random.IntN(2) == 0)
		}
	}
}

// answer sends a frame to the client.
func (c *socket) answer(frame []byte) {
	if c.gone {
		return
	}
	c.inbound.put(c.network.faults.latency(), func() {
		if c.closed {
			return
		}
		// The runtime must not keep the slice: it is overwritten after the call.
		c.events.Received(frame)
		for i := range frame {
			frame[i] = 0xdb
		}
	})
}

// received is a frame's arrival at the broker, which serves one at a time.
func (c *socket) received(frame []byte) {
	if c.gone || !c.broker.up {
		return
	}
	c.waiting = append(c.waiting, frame)
	c.serveNext()
}

func (c *socket) serveNext() {
	if c.serving || c.gone || len(c.waiting) == 0 {
		return
	}
	c.serving = true
	frame := c.waiting[0]
	c.waiting = c.waiting[1:]
	f := c.network.faults
	delay := f.between(0, 500*time.Microsecond)
	if f.happens(SlowAnswer) {
		delay = f.between(10*time.Millisecond, 3*time.Second)
	}
	c.network.scheduler.clock.after(delay, func() {
		if c.gone || !c.broker.up {
			return
		}
		c.serve(frame, func(wait time.Duration, answer []byte) {
			// The next request is served when this one has its answer.
			done := func() {
				if answer != nil {
					c.answer(answer)
				}
				c.serving = false
				c.serveNext()
			}
			if wait == 0 {
				done()
				return
			}
			c.network.scheduler.clock.after(wait, done)
		})
	})
}

func joined(frame [][]byte) []byte {
	var all []byte
	for _, s := range frame {
		all = append(all, s...)
	}
	return all
}

func sumOf(frame [][]byte) uint32 {
	h := uint32(2166136261)
	for _, s := range frame {
		for _, c := range s {
			h = (h ^ uint32(c)) * 16777619
		}
	}
	return h
}
