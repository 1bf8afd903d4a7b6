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
	atOnce    time.Duration // ClusterSettings.ServeAtOnce
	dialled   int64
	hanging   int // dials that nobody answers
	open      []*socket
	// wrong takes note of what no client may do to a transport.
	wrong  func(class Class, format string, args ...any)
	estate *estate
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
	outbox  fifo[outgoing]
	write   func() // writeOne
	closed  bool
	reason  error
	inbound pipe
	last    bool // Closed was given

	// The server's end: requests are served one at a time, in order.
	requests pipe
	serving  bool
	waiting  fifo[[]byte]
	late     seams.Instant // nothing is served before
	gone     bool          // the server has closed its end
	serve    func()        // serveOne
	goAway   func()        // goes
	login    login
	// request is the one that is being served, frame what it came in.
	request request
	frame   []byte
}

type outgoing struct {
	frame [][]byte
	sum   uint32
	write seams.Write
}

// fifo is a line whose memory is used again.
type fifo[T any] struct {
	items []T
	next  int
}

func (f *fifo[T]) len() int  { return len(f.items) - f.next }
func (f *fifo[T]) first() *T { return &f.items[f.next] }
func (f *fifo[T]) push(v T)  { f.items = append(f.items, v) }
func (f *fifo[T]) all() []T  { return f.items[f.next:] }
func (f *fifo[T]) forgetAll() {
	clear(f.items)
	f.items, f.next = f.items[:0], 0
}

func (f *fifo[T]) pop() T {
	v := f.items[f.next]
	var none T
	f.items[f.next] = none
	if f.next++; f.next == len(f.items) {
		f.items, f.next = f.items[:0], 0
	}
	return v
}

// pipe delivers things to one end of a socket in order, each at its time and in a
// turn of its own.
type pipe struct {
	socket *socket
	timer  timer
	turn   func() // next
	queue  fifo[delivery]
	last   seams.Instant
}

// delivery is one thing, and what it does when it is there.
type delivery struct {
	at    seams.Instant
	do    func(*socket, delivery)
	cause uint64
	frame []byte
	err   error
	write seams.Write
}

func (p *pipe) put(delay time.Duration, d delivery) {
	clock := p.socket.network.scheduler.clock
	p.last = max(p.last, clock.now.Add(delay))
	d.at, d.cause = p.last, clock.scheduler.cause
	p.queue.push(d)
	if p.queue.len() == 1 {
		p.arm()
	}
}

func (p *pipe) arm() {
	if p.timer.clock == nil {
		p.socket.network.scheduler.clock.init(&p.timer, p.turn)
	}
	p.timer.Reset(p.queue.first().at)
}

// next is one turn: the first thing in line, and only it.
func (p *pipe) next() {
	d := *p.queue.first()
	p.socket.network.scheduler.cause = d.cause
	d.do(p.socket, d)
	p.queue.pop()
	if p.queue.len() > 0 {
		p.arm()
	}
}

// forget drops what is still on its way. The turn under way stays.
func (p *pipe) forget() {
	for i := range p.queue.all() {
		p.queue.all()[i].do = lost
	}
}

func lost(*socket, delivery) {}

// socket is the nth socket of a world, as if it were new.
func (e *estate) socket(n int) *socket {
	if n > len(e.sockets) {
		c := &socket{}
		c.write, c.serve, c.goAway, c.inbound.turn, c.requests.turn = c.writeOne, c.serveOne, c.goes, c.inbound.next, c.requests.next
		e.sockets = append(e.sockets, c)
	}
	c := e.sockets[n-1]
	*c = socket{
		write: c.write, serve: c.serve, goAway: c.goAway, outbox: c.outbox, waiting: c.waiting,
		inbound:  pipe{socket: c, turn: c.inbound.turn, queue: c.inbound.queue},
		requests: pipe{socket: c, turn: c.requests.turn, queue: c.requests.queue},
	}
	c.outbox.forgetAll()
	c.waiting.forgetAll()
	c.inbound.queue.forgetAll()
	c.requests.queue.forgetAll()
	return c
}

// Dial implements seams.Transport.
func (n *network) Dial(address string, events seams.ConnectionEvents) seams.Connection {
	n.dialled++
	c := n.estate.socket(int(n.dialled))
	c.network, c.number, c.events, c.broker = n, n.dialled, events, n.kafka.brokerAt(address)
	at := place{broker: c.broker}
	switch {
	case c.broker == 0 || !n.kafka.up(c.broker) || n.faults.happens(DialRefused, at) != nil:
		c.note("dial-refused")
		c.inbound.put(c.oneWay(), delivery{do: ended, err: errRefused})
	case n.faults.happens(DialHangs, at) != nil:
		c.note("dial-hangs")
		n.hanging++
		c.hangs = true
		c.inbound.put(dialTimeout, delivery{do: ended, err: errDialTime})
	default:
		if f := n.faults.happens(SlowLink, at); f != nil {
			c.slow = time.Duration(f.For)
		}
		c.note("dial")
		c.inbound.put(2*c.oneWay(), delivery{do: established})
	}
	return c
}

func established(c *socket, _ delivery) {
	n := c.network
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
}

func ended(c *socket, d delivery) { c.end(d.err) }

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
	c.outbox.push(outgoing{frame, sumOf(frame), write})
	if c.opened && c.outbox.len() == 1 {
		c.flush()
	}
}

// flush puts the writer's next turn in line.
func (c *socket) flush() {
	if c.outbox.len() == 0 {
		return
	}
	f := c.network.faults.happens(SlowWrite, place{broker: c.broker})
	if f == nil {
		c.network.scheduler.Schedule(c.write)
		return
	}
	c.network.scheduler.clock.after(time.Duration(f.For), c.write)
}

// writeOne is the writer's turn: one frame goes out.
func (c *socket) writeOne() {
	if c.closed || c.outbox.len() == 0 {
		return // whoever closed the socket has answered the writes
	}
	o := c.outbox.pop()
	sum := sumOf(o.frame)
	if sum != o.sum {
		c.network.wrong(Protocol, "connection %d: a frame changed while it was written", c.number)
	}
	if f := c.network.faults.happens(WriteFails, place{broker: c.broker}); f != nil {
		started := f.chance(0, 2)
		arrives := started && f.chance(1, 2)
		c.note("write-fails")
		if arrives {
			// All bytes left, and the error is about something later.
			c.arrive(c.network.joined(o.frame))
		}
		c.stop(errBrokePipe)
		o.write.Written(errBrokePipe, started)
		return
	}
	frame := c.network.joined(o.frame)
	c.note("write", int64(len(frame)), int64(sum))
	c.arrive(frame)
	o.write.Written(nil, true)
	c.flush()
}

func (c *socket) arrive(frame []byte) {
	c.requests.put(c.oneWay(), delivery{do: received, frame: frame})
}

// Close implements seams.Connection: the client goes away.
func (c *socket) Close(reason error) {
	if c.closed {
		return
	}
	c.note("client-closes")
	if c.login.replaced(c.network.scheduler.clock.now) {
		c.network.faults.counts.Reached[pointSessionEnded]++
	}
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
	for _, o := range c.outbox.all() {
		c.inbound.put(0, delivery{do: unwritten, err: reason, write: o.write})
	}
	c.outbox.forgetAll()
	c.inbound.put(0, delivery{do: lastEvent, err: reason})
	// The server learns of it a moment later, and may serve what it has: at once,
	// or long after the client has sent it again on another connection.
	if c.requests.queue.len()+c.waiting.len() > 0 {
		if f := c.network.faults.happens(LateArrival, place{broker: c.broker}); f != nil {
			c.late = c.network.scheduler.clock.now.Add(time.Duration(f.For))
		}
	}
	c.network.scheduler.clock.after(lastWord, c.goAway)
}

// goes is the end of what the server still served.
func (c *socket) goes() { c.gone = true }

func unwritten(_ *socket, d delivery) { d.write.Written(d.err, false) }

func lastEvent(c *socket, d delivery) {
	c.last = true
	c.note("closed")
	c.events.Closed(d.err)
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
	c.inbound.put(c.oneWay(), delivery{do: ended, err: errReset})
	if c.gone {
		c.waiting.forgetAll()
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
	twice := c.network.faults.happens(AnswerTwice, place{broker: c.broker}) != nil
	c.inbound.put(c.oneWay(), delivery{do: answered, frame: frame})
	if twice {
		c.inbound.put(c.oneWay(), delivery{do: answered, frame: append(c.network.estate.spare.take(), frame...)})
	}
}

func answered(c *socket, d delivery) {
	if c.closed {
		return
	}
	c.note("answer", int64(len(d.frame)))
	// The runtime must not keep the slice: it is overwritten after the call.
	c.events.Received(d.frame)
	fill(d.frame, overwritten)
	c.network.estate.spare.give(d.frame)
}

// received is a frame's arrival at the broker, which serves one at a time.
func received(c *socket, d delivery) {
	if c.gone || !c.network.kafka.up(c.broker) {
		return
	}
	c.waiting.push(d.frame)
	c.serveNext()
}

func (c *socket) serveNext() {
	if c.serving || c.gone || c.waiting.len() == 0 {
		return
	}
	c.serving = true
	c.frame = c.waiting.pop()
	delay := between(c.network.nature, 0, 500*time.Microsecond)
	if f := c.network.faults.happens(SlowAnswer, place{broker: c.broker}); f != nil {
		delay = time.Duration(f.For)
	}
	delay = max(delay, c.late.Sub(c.network.scheduler.clock.now))
	if delay < c.network.atOnce {
		c.serveOne() // in the turn in which it arrived, or the one before it was answered
		return
	}
	c.network.scheduler.clock.after(delay, c.serve)
}

// serveOne hands a request to the broker.
func (c *socket) serveOne() {
	n, frame := c.network, c.frame
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
	message := n.estate.requestFor(key)
	if message == nil {
		n.wrong(Protocol, "connection %d: there is no request with key %d", c.number, key)
		return
	}
	message.SetVersion(version)
	if message.IsFlexible() {
		body = body[1:]
	}
	if key == int16(kmsg.ApiVersions) && version > 0 && n.kafka.ancient(c.broker) {
		c.served(unsupported(correlation))
		return
	}
	// Its strings are parts of the frame, which stays as it is until the world ends.
	if err := message.(kmsg.UnsafeReadFrom).UnsafeReadFrom(body); err != nil {
		n.wrong(Protocol, "connection %d: request %s v%d: %v", c.number, kmsg.NameForKey(key), version, err)
		return
	}
	c.note("serve", int64(key), int64(version))
	c.request = request{socket: c, broker: c.broker, key: key, version: version, correlation: correlation, message: message}
	n.kafka.serve(&c.request)
}

// cut ends the request's connection; serveRest says whether what the broker has
// of it is still served, without answers.
func (q *request) cut(serveRest bool) { q.socket.cut(serveRest) }

// respond sends the answer after a wait, in which the connection serves nothing
// else. A nil response sends none. It is called once, or never if nothing will
// come.
func (q *request) respond(wait time.Duration, r kmsg.Response) {
	c := q.socket
	var out []byte
	if r != nil {
		r.SetVersion(q.version)
		out = binary.BigEndian.AppendUint32(c.network.estate.spare.take(), q.correlation)
		if r.IsFlexible() && q.key != int16(kmsg.ApiVersions) {
			out = append(out, 0)
		}
		out = r.AppendTo(out)
	}
	if wait <= 0 {
		c.served(out)
		return
	}
	c.network.scheduler.clock.after(wait, func() { c.served(out) })
}

// served sends the answer to a request, if there is one, and goes on to the next.
func (c *socket) served(answer []byte) {
	if answer != nil {
		c.answer(answer)
	}
	c.serving = false
	c.serveNext()
}

// unsupported is how a broker of before KIP-511 answers an ApiVersions request
// that is newer than itself.
func unsupported(correlation uint32) []byte {
	r := kmsg.NewPtrApiVersionsResponse()
	r.ErrorCode = int16(protocol.UnsupportedVersion)
	return r.AppendTo(binary.BigEndian.AppendUint32(nil, correlation))
}

// joined is a frame in one piece, as it arrives: the brokers keep slices of it.
func (n *network) joined(frame [][]byte) []byte {
	size := 0
	for _, s := range frame {
		size += len(s)
	}
	all := n.estate.bytes.take(size)
	for _, s := range frame {
		all = append(all, s...)
	}
	return all
}
