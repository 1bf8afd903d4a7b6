package chaos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is a broker that answers each request with a response of the same size,
// and writes down what it read.
type echo struct {
	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	requests int // whole ones
	bytes    int
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: listener}
	e.running.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			e.running.Go(func() { e.serve(connection) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		e.running.Wait()
	})
	return e
}

func (e *echo) serve(connection net.Conn) {
	defer func() { _ = connection.Close() }()
	for {
		frame, err := e.read(connection)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.requests++
		e.mu.Unlock()
		copy(frame[4:], frame[8:12]) // the correlation id
		if _, err := connection.Write(frame); err != nil {
			return
		}
	}
}

func (e *echo) read(from io.Reader) ([]byte, error) {
	size := make([]byte, 4)
	n, err := io.ReadFull(from, size)
	frame := size
	if err == nil {
		frame = append(frame, make([]byte, binary.BigEndian.Uint32(size))...)
		var more int
		more, err = io.ReadFull(from, frame[4:])
		n += more
	}
	e.mu.Lock()
	e.bytes += n
	e.mu.Unlock()
	return frame, err
}

func (e *echo) seen() (requests, bytes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests, e.bytes
}

const testFrame = 100 // bytes of a request, its size included

// request is a frame of testFrame bytes.
func request(key uint16, correlation uint32) []byte {
	frame := make([]byte, testFrame)
	binary.BigEndian.PutUint32(frame, testFrame-4)
	binary.BigEndian.PutUint16(frame[4:], key)
	binary.BigEndian.PutUint32(frame[8:], correlation)
	return frame
}

// call sends one request and returns the bytes of its answer that came.
func call(connection net.Conn, key uint16, correlation uint32) ([]byte, error) {
	if _, err := connection.Write(request(key, correlation)); err != nil {
		return nil, err
	}
	answer := make([]byte, testFrame)
	n, err := io.ReadFull(connection, answer)
	return answer[:n], err
}

func dialProxy(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	connection, err := tryProxy(t, p)
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

// tryProxy is for a proxy that resets: its RST may come before connect has told
// that the connection stands.
func tryProxy(t *testing.T, p *proxy) (net.Conn, error) {
	t.Helper()
	connection, err := net.Dial("tcp4", p.address())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection, connection.SetDeadline(time.Now().Add(20 * time.Second))
}

func newTestProxy(t *testing.T) (*proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := startProxy(1, e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if err := p.fault(); err != nil {
			t.Error(err)
		}
	})
	return p, e
}

// TestProxyStrikesOneRequest shows, for each fault of a frame, what the broker
// and the client see of it, and that other requests are left alone.
func TestProxyStrikesOneRequest(t *testing.T) {
	for _, c := range []struct {
		kind              kind
		requests, bytes   int // that the broker gets of the struck one
		answered          int // bytes that the client gets
		connectionsBefore int
	}{
		{kind: loseResponse, requests: 1, bytes: testFrame},
		{kind: cutResponse, requests: 1, bytes: testFrame, answered: testFrame / 2},
		{kind: cutRequest, bytes: testFrame / 2},
		{kind: cutBefore},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			p, e := newTestProxy(t)
			connection := dialProxy(t, p)
			if answer, err := call(connection, produceKey, 1); err != nil || binary.BigEndian.Uint32(answer[4:]) != 1 {
				t.Fatalf("before the fault: %v, %v", answer, err)
			}
			p.strike(c.kind, 1)
			if _, err := call(connection, 3, 2); err != nil {
				t.Fatalf("a request of another kind: %v", err)
			}
			answer, err := call(connection, produceKey, 3)
			if err == nil || len(answer) != c.answered {
				t.Errorf("the client got %d bytes, %v; want %d and an error", len(answer), err, c.answered)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection was not cut")
			}
			until(t, func() bool {
				requests, bytes := e.seen()
				return requests == 2+c.requests && bytes == 2*testFrame+c.bytes && p.struck() == 1
			})
			if answer, err := call(dialProxy(t, p), produceKey, 4); err != nil || len(answer) != testFrame {
				t.Errorf("after the fault: %d bytes, %v", len(answer), err)
			}
		})
	}
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that within ten seconds")
		}
	}
}

func TestProxyDelaysResponses(t *testing.T) {
	p, _ := newTestProxy(t)
	connection := dialProxy(t, p)
	const delay = 100 * time.Millisecond
	p.setDelay(delay)
	began := time.Now()
	if _, err := call(connection, produceKey, 1); err != nil || time.Since(began) < delay {
		t.Errorf("%v after %v, want an answer after %v", err, time.Since(began), delay)
	}
	if p.struck() != 1 {
		t.Errorf("%d delayed, want 1", p.struck())
	}
	p.heal()
	if _, err := call(connection, produceKey, 2); err != nil {
		t.Error(err)
	}
}

// TestProxyHoldsAndLetsGo has a request arrive after its client has given up.
func TestProxyHoldsAndLetsGo(t *testing.T) {
	p, e := newTestProxy(t)
	patient, hasty := dialProxy(t, p), dialProxy(t, p)
	for i, connection := range []net.Conn{patient, hasty} {
		if _, err := call(connection, produceKey, uint32(i)); err != nil {
			t.Fatal(err)
		}
	}
	p.hold()
	for _, connection := range []net.Conn{patient, hasty} {
		if _, err := connection.Write(request(produceKey, 9)); err != nil {
			t.Fatal(err)
		}
	}
	_ = hasty.Close()
	time.Sleep(50 * time.Millisecond)
	if requests, _ := e.seen(); requests != 2 {
		t.Fatalf("%d requests passed, want the 2 before", requests)
	}
	if p.struck() != 2 {
		t.Errorf("%d requests held, want 2", p.struck())
	}
	p.release()
	answer := make([]byte, testFrame)
	if _, err := io.ReadFull(patient, answer); err != nil || !bytes.Equal(answer[4:8], []byte{0, 0, 0, 9}) {
		t.Errorf("the patient client got %v, %v", answer, err)
	}
	until(t, func() bool { requests, _ := e.seen(); return requests == 4 })
}

func TestProxyResets(t *testing.T) {
	p, _ := newTestProxy(t)
	connection := dialProxy(t, p)
	if _, err := call(connection, produceKey, 1); err != nil {
		t.Fatal(err)
	}
	if cut := p.setReset(true); cut != 1 {
		t.Errorf("%d connections reset, want 1", cut)
	}
	if _, err := connection.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	connection, err := tryProxy(t, p)
	if err == nil {
		_, err = call(connection, produceKey, 2)
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a new connection: %v, want a reset", err)
	}
	p.setReset(false)
	if _, err := call(dialProxy(t, p), produceKey, 3); err != nil {
		t.Error(err)
	}
}

// TestProxySeesThatItIsLost gives it something that is no frame.
func TestProxySeesThatItIsLost(t *testing.T) {
	e := newEcho(t)
	p, err := startProxy(1, e.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	connection := dialProxy(t, p)
	if _, err := connection.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return p.fault() != nil })
}
