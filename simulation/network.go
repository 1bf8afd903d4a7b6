package simulation

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
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

// network implements seams.Transport in memory.
type network struct {
	scheduler *scheduler
	faults    *injector
	nature    *rand.Rand
	kafka     kafka
	trace     *trace
	dialled   int64
	hanging   int // dials that nobody answers
	open      []*socket
	// wrong takes note of what no client may do to a transport.
	wrong func(class Class, format string, args ...any)
}

// latency is the time of one way through the network.
func (n *network) latency() time.Duration {
	return between(n.nature, 50*time.Microsecond, 900*time.Microsecond)
}

// socket is one connection, both of its ends.
type socket struct {
	network *network
	number  int64
	broker  int32 // 0: the address is nobody's
	events  seams.ConnectionEvents
	opened  bool
	hangs   bool          // nobody answers the dial
	slow    time.Duration // added to each way

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
	late     seams.Instant // nothing is served before
	gone     bool          // the server has closed its end
}

type outgoing struct {
	frame [][]byte
	sum   uint32
	write seams.Write
}

// pipe delivers things in order, each at its time and in a turn of its own.
type pipe struct {
	clock *clock
	timer *timer
	queue []delivery
	last  seams.Instant
}

type delivery struct {
	at    seams.Instant
	fn    func()
	cause uint64
}

func (p *pipe) put(delay time.Duration, fn func()) {
	p.last = max(p.last, p.clock.now.Add(delay))
	p.queue = append(p.queue, delivery{p.last, fn, p.clock.scheduler.cause})
	if len(p.queue) == 1 {
		p.arm()
	}
}

func (p *pipe) arm() {
	if p.timer == nil {
		p.timer = p.clock.newTimer(p.next)
	}
	p.timer.Reset(p.queue[0].at)
}

// next is one turn: the first thing in line, and only it.
func (p *pipe) next() {
	d := p.queue[0]
	p.clock.scheduler.cause = d.cause
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
func (n *network) Dial(address string, events seams.ConnectionEvents) seams.Connection {
	n.dialled++
	c := &socket{network: n, number: n.dialled, events: events, broker: n.kafka.brokerAt(address)}
	c.inbound.clock, c.requests.clock = n.scheduler.clock, n.scheduler.clock
	at := place{broker: c.broker}
	switch {
	case c.broker == 0 || !n.kafka.up(c.broker) || n.faults.happens(DialRefused, at) != nil:
		c.note("dial-refused")
		c.inbound.put(c.oneWay(), func() { c.end(errRefused) })
	case n.faults.happens(DialHangs, at) != nil:
		c.note("dial-hangs")
		n.hanging++
		c.hangs = true
		c.inbound.put(dialTimeout, func() { c.end(errDialTime) })
	default:
		if f := n.faults.happens(SlowLink, at); f != nil {
			c.slow = time.Duration(f.For)
		}
		c.note("dial")
		c.inbound.put(2*c.oneWay(), func() {
			if c.closed {
				return
			}
			if !n.kafka.up(c.broker) {
				c.end(errRefused)
				return
			}
			c.opened = true
			n.open = append(n.open, c)
			c.note("opened")
			c.events.Opened()
			c.flush()
		})
	}
	return c
}

// answers reports whether no connection waits for a dial or an answer that may
// never come.
func (n *network) answers() bool {
	if n.hanging > 0 {
		return false
	}
	for _, c := range n.open {
		if c.serving {
			return false
		}
	}
	return true
}

func (c *socket) oneWay() time.Duration {
	if c.network.faults.healed() {
		c.slow = 0
	}
	return c.network.latency() + c.slow
}

func (c *socket) note(event string, numbers ...int64) {
	t := c.network.trace
	t.begin("network", event)
	t.number(c.number)
	t.number(int64(c.broker))
	for _, n := range numbers {
		t.number(n)
	}
	t.end()
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
	f := c.network.faults.happens(SlowWrite, place{broker: c.broker})
	if f == nil {
		c.network.scheduler.Schedule(c.writeOne)
		return
	}
	c.network.scheduler.clock.after(time.Duration(f.For), c.writeOne)
}

// writeOne is the writer's turn: one frame goes out.
func (c *socket) writeOne() {
	if c.closed || len(c.outbox) == 0 {
		return // whoever closed the socket has answered the writes
	}
	o := c.outbox[0]
	c.outbox = c.outbox[1:]
	if sumOf(o.frame) != o.sum {
		c.network.wrong(Protocol, "connection %d: a frame changed while it was written", c.number)
	}
	if f := c.network.faults.happens(WriteFails, place{broker: c.broker}); f != nil {
		started := f.chance(0, 2)
		arrives := started && f.chance(1, 2)
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
	c.requests.put(c.oneWay(), func() { c.received(frame) })
}

// Close implements seams.Connection: the client goes away.
func (c *socket) Close(reason error) {
	if c.closed {
		return
	}
	c.note("client-closes")
	if c.network.nature.IntN(2) == 0 {
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
	if c.hangs {
		c.network.hanging--
	}
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
	// The server learns of it a moment later, and may serve what it has: at once,
	// or long after the client has sent it again on another connection.
	if len(c.requests.queue)+len(c.waiting) > 0 {
		if f := c.network.faults.happens(LateArrival, place{broker: c.broker}); f != nil {
			c.late = c.network.scheduler.clock.now.Add(time.Duration(f.For))
		}
	}
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
	c.inbound.put(c.oneWay(), func() { c.end(errReset) })
	if c.gone {
		c.waiting = nil
	}
}

// cutAll cuts every connection to a broker.
func (n *network) cutAll(broker int32, pick uint32) {
	for _, c := range append([]*socket(nil), n.open...) {
		if c.broker == broker {
			pick = pick*1664525 + 1013904223
			c.cut(pick>>16&1 == 0)
		}
	}
}

// answer sends a frame to the client.
func (c *socket) answer(frame []byte) {
	if c.gone {
		return
	}
	c.inbound.put(c.oneWay(), func() {
		if c.closed {
			return
		}
		c.note("answer", int64(len(frame)))
		// The runtime must not keep the slice: it is overwritten after the call.
		c.events.Received(frame)
		for i := range frame {
			frame[i] = 0xdb
		}
	})
}

// received is a frame's arrival at the broker, which serves one at a time.
func (c *socket) received(frame []byte) {
	if c.gone || !c.network.kafka.up(c.broker) {
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
	delay := between(c.network.nature, 0, 500*time.Microsecond)
	if f := c.network.faults.happens(SlowAnswer, place{broker: c.broker}); f != nil {
		delay = time.Duration(f.For)
	}
	c.network.scheduler.clock.after(max(delay, c.late.Sub(c.network.scheduler.clock.now)), func() { c.serve(frame) })
}

// serve hands a request to the broker, and the next when it has its answer.
func (c *socket) serve(frame []byte) {
	n := c.network
	if c.gone || !n.kafka.up(c.broker) {
		return
	}
	if len(frame) < 12 || int(binary.BigEndian.Uint32(frame)) != len(frame)-4 {
		n.wrong(Protocol, "connection %d: a frame of %d bytes announces another size", c.number, len(frame))
		return
	}
	body := frame[4:]
	key, version := int16(binary.BigEndian.Uint16(body)), int16(binary.BigEndian.Uint16(body[2:]))
	correlation := binary.BigEndian.Uint32(body[4:])
	body = body[8:]
	client := max(int(int16(binary.BigEndian.Uint16(body))), 0)
	body = body[2+client:]
	message := kmsg.RequestForKey(key)
	if message == nil {
		n.wrong(Protocol, "connection %d: there is no request with key %d", c.number, key)
		return
	}
	message.SetVersion(version)
	if message.IsFlexible() {
		body = body[1:]
	}
	done := func(answer []byte) {
		if answer != nil {
			c.answer(answer)
		}
		c.serving = false
		c.serveNext()
	}
	if key == int16(kmsg.ApiVersions) && version > 0 && n.kafka.ancient(c.broker) {
		done(unsupported(correlation))
		return
	}
	if err := message.ReadFrom(body); err != nil {
		n.wrong(Protocol, "connection %d: request %s v%d: %v", c.number, kmsg.NameForKey(key), version, err)
		return
	}
	c.note("serve", int64(key), int64(version))
	n.kafka.serve(&request{broker: c.broker, version: version, message: message, cut: c.cut, respond: func(wait time.Duration, r kmsg.Response) {
		var out []byte
		if r != nil {
			r.SetVersion(version)
			out = binary.BigEndian.AppendUint32(make([]byte, 0, 256), correlation)
			if r.IsFlexible() && key != int16(kmsg.ApiVersions) {
				out = append(out, 0)
			}
			out = r.AppendTo(out)
		}
		if wait <= 0 {
			done(out)
			return
		}
		n.scheduler.clock.after(wait, func() { done(out) })
	}})
}

// unsupported is how a broker of before KIP-511 answers an ApiVersions request
// that is newer than itself.
func unsupported(correlation uint32) []byte {
	r := kmsg.NewPtrApiVersionsResponse()
	r.ErrorCode = int16(protocol.UnsupportedVersion)
	return r.AppendTo(binary.BigEndian.AppendUint32(nil, correlation))
}

// joined is a frame in one piece, as it arrives: the brokers keep slices of it.
func joined(frame [][]byte) []byte {
	n := 0
	for _, s := range frame {
		n += len(s)
	}
	all := make([]byte, 0, n)
	for _, s := range frame {
		all = append(all, s...)
	}
	return all
}
