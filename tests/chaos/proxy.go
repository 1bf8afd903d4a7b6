package chaos

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	produceKey = 0
	// largestFrame is far above what anybody sends here: a larger size means that
	// the proxy has lost its place in the stream.
	largestFrame = 256 << 20
	proxyBuffer  = 64 << 10
)

// errCut ends a link on purpose.
var errCut = errors.New("cut")

// proxy stands between the clients and one broker. It reads Kafka's frames, so
// that it can strike at a chosen point of one Produce request or its answer.
type proxy struct {
	broker   int
	listener net.Listener
	target   string
	quit     chan struct{} // closed by stop
	running  sync.WaitGroup

	mu       sync.Mutex
	links    map[*link]bool
	striking kind // "" for none
	left     int  // how many more requests it takes
	hits     int  // how many it has struck
	delay    time.Duration
	gate     chan struct{} // not nil while everything is held
	reset    bool
	problem  error // of the proxy itself
}

// startProxy listens on a port of its own. A proxy keeps it for its whole life, so
// it may come from the system's range for outgoing connections.
func startProxy(broker int, target string) (*proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{broker: broker, listener: listener, target: target, quit: make(chan struct{}), links: map[*link]bool{}}
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// stop ends every link and waits until no goroutine is left.
func (p *proxy) stop() {
	close(p.quit)
	_ = p.listener.Close()
	p.mu.Lock()
	for l := range p.links {
		l.end()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// strike has the next requests, and no more than hits of them, meet a fault.
func (p *proxy) strike(k kind, hits int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.striking, p.left, p.hits = k, hits, 0
}

// struck is how many requests met the fault so far.
func (p *proxy) struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// setDelay holds each response back for d.
func (p *proxy) setDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.hits = d, 0
}

// hold keeps every byte, both ways, until release. Connections stay open and new
// ones are accepted. What a client sent before it gave its connection up arrives
// all the same, and late.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		p.gate, p.hits = make(chan struct{}), 0
	}
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
}

// setReset resets all connections, and new ones at once, until it is called with
// false. It returns how many there were.
func (p *proxy) setReset(on bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset = on
	if !on {
		return 0
	}
	for l := range p.links {
		l.reset()
	}
	return len(p.links)
}

// heal takes every fault back.
func (p *proxy) heal() {
	p.strike("", 0)
	p.setDelay(0)
	p.setReset(false)
	p.release()
}

// fault is what went wrong with the proxy itself.
func (p *proxy) fault() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// pass returns when nothing is held.
func (p *proxy) pass() {
	for held := false; ; held = true {
		p.mu.Lock()
		gate := p.gate
		if gate != nil && !held {
			p.hits++
		}
		p.mu.Unlock()
		if gate == nil {
			return
		}
		select {
		case <-gate:
		case <-p.quit:
			return
		}
	}
}

// take decides what a Produce request will meet.
func (p *proxy) take() kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return ""
	}
	p.left--
	return p.striking
}

func (p *proxy) hit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits++
}

// late waits as long as responses are delayed.
func (p *proxy) late() {
	p.mu.Lock()
	delay := p.delay
	if delay > 0 {
		p.hits++
	}
	p.mu.Unlock()
	if delay == 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.quit:
	}
}

func (p *proxy) serve(client net.Conn) {
	l := &link{proxy: p, client: client.(*net.TCPConn), fate: map[uint32]kind{}}
	broker, err := net.Dial("tcp4", p.target)
	if err != nil { // the broker is down
		l.reset()
		return
	}
	l.broker = broker.(*net.TCPConn)
	defer l.end()
	p.mu.Lock()
	refused := p.reset
	if !refused {
		p.links[l] = true
	}
	p.mu.Unlock()
	select {
	case <-p.quit: // stop may have come before the link was in the list
		return
	default:
	}
	if refused {
		l.reset()
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()

	var down sync.WaitGroup
	down.Go(func() {
		_ = l.down() // the broker has closed, or the link is cut
		l.end()
	})
	if err := l.up(); errors.Is(err, io.EOF) {
		_ = l.broker.CloseWrite() // the client left; what it sent is with the broker
	} else {
		l.end()
	}
	down.Wait()
}

// link is one connection of a client.
type link struct {
	proxy          *proxy
	client, broker *net.TCPConn

	mu   sync.Mutex
	fate map[uint32]kind // of answers to come, by correlation id
}

func (l *link) end() {
	_ = l.client.Close()
	if l.broker != nil {
		_ = l.broker.Close()
	}
}

// reset ends the client's side with RST instead of FIN.
func (l *link) reset() {
	_ = l.client.SetLinger(0)
	l.end()
}

// up carries requests: size, api key, api version, correlation id, and the rest.
func (l *link) up() error {
	in := bufio.NewReaderSize(l.client, proxyBuffer)
	for {
		head, err := in.Peek(12)
		if err != nil {
			return err
		}
		frame, err := l.frame(head)
		if err != nil {
			return err
		}
		l.proxy.pass()
		fate := kind("")
		if binary.BigEndian.Uint16(head[4:]) == produceKey {
			fate = l.proxy.take()
		}
		switch fate {
		case cutBefore:
			l.proxy.hit()
			return errCut
		case cutRequest:
			if _, err := io.CopyN(l.broker, in, frame/2); err != nil {
				return err
			}
			l.proxy.hit()
			return errCut
		case loseResponse, cutResponse:
			l.mu.Lock()
			l.fate[binary.BigEndian.Uint32(head[8:])] = fate
			l.mu.Unlock()
		}
		if _, err := io.CopyN(l.broker, in, frame); err != nil {
			return err
		}
	}
}

// down carries responses: size, correlation id, and the rest. A response that is
// lost is read to its end first: the broker has appended by then.
func (l *link) down() error {
	in := bufio.NewReaderSize(l.broker, proxyBuffer)
	for {
		head, err := in.Peek(8)
		if err != nil {
			return err
		}
		frame, err := l.frame(head)
		if err != nil {
			return err
		}
		correlation := binary.BigEndian.Uint32(head[4:])
		l.mu.Lock()
		fate := l.fate[correlation]
		delete(l.fate, correlation)
		l.mu.Unlock()
		l.proxy.late()
		l.proxy.pass()
		switch fate {
		case loseResponse:
			if _, err := io.CopyN(io.Discard, in, frame); err != nil {
				return err
			}
			l.proxy.hit()
			return errCut
		case cutResponse:
			if _, err := io.CopyN(l.client, in, frame/2); err != nil {
				return err
			}
			l.proxy.hit()
			return errCut
		}
		if _, err := io.CopyN(l.client, in, frame); err != nil {
			return err
		}
	}
}

// frame is how many bytes the frame that begins with head has, its size included.
func (l *link) frame(head []byte) (int64, error) {
	size := int64(int32(binary.BigEndian.Uint32(head)))
	if size < int64(len(head)-4) || size > largestFrame {
		err := fmt.Errorf("proxy of broker %d: a frame of %d bytes", l.proxy.broker, size)
		l.proxy.mu.Lock()
		l.proxy.problem = err
		l.proxy.mu.Unlock()
		return 0, err
	}
	return size + 4, nil
}
