package seams

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// ear hears of a connection.
type ear struct {
	mu     sync.Mutex
	frames [][]byte
	order  []string
	opened chan struct{}
	closed chan error
}

func newEar() *ear { return &ear{opened: make(chan struct{}), closed: make(chan error, 1)} }

func (e *ear) Opened() { close(e.opened) }
func (e *ear) Received(frame []byte) {
	e.mu.Lock()
	e.frames = append(e.frames, slices.Clone(frame))
	e.mu.Unlock()
}
func (e *ear) Closed(reason error) {
	e.note("closed")
	e.closed <- reason
}
func (e *ear) note(what string) {
	e.mu.Lock()
	e.order = append(e.order, what)
	e.mu.Unlock()
}
func (e *ear) received() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.frames)
}

func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatalf("not within 5 s: %s", what)
		panic("unreachable")
	}
}

// receipt is how a write ended.
type receipt struct {
	err     error
	started bool
}

type pen struct {
	ear  *ear
	done chan receipt
}

func newPen(e *ear) *pen { return &pen{e, make(chan receipt, 2)} }

func (p *pen) Written(err error, started bool) {
	p.ear.note("written")
	p.done <- receipt{err, started}
}

// call opens a connection to a listener of the test and returns both ends.
func call(t *testing.T, config NetConfig) (Connection, *ear, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if config.DialTimeout == 0 {
		config.DialTimeout = 5 * time.Second
	}
	if config.MaxFrameBytes == 0 {
		config.MaxFrameBytes = 8 << 20
	}
	e := newEar()
	c := NewNetTransport(config).Dial(l.Addr().String(), e)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the opening", e.opened)
	t.Cleanup(func() {
		c.Close(errors.New("test is over"))
		_ = far.Close()
	})
	return c, e, far
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// TestFramesInPieces: frames arrive whole, whatever pieces they travel in, small
// and larger than the read buffer.
func TestFramesInPieces(t *testing.T) {
	_, e, far := call(t, NetConfig{})
	random := rand.New(rand.NewPCG(1, 1))
	var want [][]byte
	var wire []byte
	for _, n := range []int{4, 5, 100, readBufferBytes - 1, readBufferBytes, readBufferBytes + 1, 3 << 20, 5 << 20, 4, 70_000} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		want = append(want, body)
		wire = append(wire, frame(body)...)
	}
	for len(wire) > 0 {
		n := min(len(wire), 1+random.IntN(1<<(1+random.IntN(18))))
		if _, err := far.Write(wire[:n]); err != nil {
			t.Fatal(err)
		}
		wire = wire[n:]
	}
	for deadline := time.Now().Add(10 * time.Second); len(e.received()) < len(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if got := e.received(); !slices.EqualFunc(got, want, func(a, b []byte) bool { return slices.Equal(a, b) }) {
		t.Errorf("%d frames of %d, or other ones", len(got), len(want))
	}
}

func TestImpossibleFramesEndTheConnection(t *testing.T) {
	for _, size := range []uint32{8<<20 + 1, 1 << 31, 0xffffffff, 3, 0, 0x48545450} { // the last is "HTTP"
		_, e, far := call(t, NetConfig{})
		if _, err := far.Write(binary.BigEndian.AppendUint32(nil, size)); err != nil {
			t.Fatal(err)
		}
		if reason := await(t, "the end", e.closed); !errors.Is(reason, ErrFrameTooLarge) {
			t.Errorf("size %d: %v", size, reason)
		}
	}
}

func TestPeerCloses(t *testing.T) {
	_, e, far := call(t, NetConfig{})
	_, _ = far.Write([]byte{0, 0, 0, 9, 1, 2}) // half a frame
	_ = far.Close()
	if reason := await(t, "the end", e.closed); !errors.Is(reason, io.EOF) && !errors.Is(reason, io.ErrUnexpectedEOF) {
		t.Errorf("reason %v", reason)
	}
	if len(e.received()) != 0 {
		t.Error("half a frame was taken for a whole")
	}
}

func TestWritesKeepOrder(t *testing.T) {
	c, e, far := call(t, NetConfig{WriteTimeout: 5 * time.Second})
	var pens []*pen
	for i := range 200 {
		p := newPen(e)
		pens = append(pens, p)
		c.Write([][]byte{{byte(i)}, {}, {1, 2, 3}}, p)
	}
	got := make([]byte, 200*4)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if !slices.Equal(got[4*i:4*i+4], []byte{byte(i), 1, 2, 3}) {
			t.Fatalf("frame %d is %v", i, got[4*i:4*i+4])
		}
		if r := await(t, "the end of a write", pens[i].done); r.err != nil || !r.started {
			t.Errorf("%+v", r)
		}
	}
}

// TestCloseReason: the first reason wins, every write ends before Closed, and a
// later write has not started.
func TestCloseReason(t *testing.T) {
	c, e, far := call(t, NetConfig{})
	big := make([]byte, 64<<20) // more than the sockets' buffers hold
	stuck, queued := newPen(e), newPen(e)
	c.Write([][]byte{big}, stuck)
	c.Write([][]byte{{1}}, queued)
	if _, err := io.ReadFull(far, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	c.Close(mine)
	c.Close(errors.New("another"))
	if reason := await(t, "the end", e.closed); !errors.Is(reason, mine) {
		t.Errorf("reason %v", reason)
	}
	if r := await(t, "the end of the write", stuck.done); r.err == nil || !r.started {
		t.Errorf("under way: %+v", r)
	}
	if r := await(t, "the end of the queued write", queued.done); r.err == nil || r.started {
		t.Errorf("queued: %+v", r)
	}
	if e.order[len(e.order)-1] != "closed" || len(e.order) != 3 {
		t.Errorf("events %v", e.order)
	}
	late := newPen(e)
	c.Write([][]byte{{1}}, late)
	if r := await(t, "the end of a late write", late.done); !errors.Is(r.err, mine) || r.started {
		t.Errorf("late: %+v", r)
	}
}

func TestWriteTimeout(t *testing.T) {
	c, e, _ := call(t, NetConfig{WriteTimeout: 50 * time.Millisecond})
	p := newPen(e)
	c.Write([][]byte{make([]byte, 64<<20)}, p)
	var timeout net.Error
	if r := await(t, "the end of the write", p.done); !errors.As(r.err, &timeout) || !timeout.Timeout() || !r.started {
		t.Errorf("%+v", r)
	}
	_ = await(t, "the end", e.closed)
}

func TestDialFails(t *testing.T) {
	refused := errors.New("refused")
	e := newEar()
	entered := make(chan struct{})
	c := NewNetTransport(NetConfig{DialTimeout: time.Minute, MaxFrameBytes: 100, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(entered)
		<-ctx.Done()
		return nil, refused
	}}).Dial("nowhere:1", e)
	<-entered
	p := newPen(e)
	c.Write([][]byte{{1}}, p) // before it is open
	mine := errors.New("mine")
	c.Close(mine) // ends the dial as well
	if reason := await(t, "the end", e.closed); !errors.Is(reason, mine) {
		t.Errorf("reason %v", reason)
	}
	if r := await(t, "the end of the write", p.done); r.err == nil || r.started {
		t.Errorf("%+v", r)
	}

	e = newEar()
	NewNetTransport(NetConfig{DialTimeout: time.Millisecond, MaxFrameBytes: 100, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}).Dial("nowhere:1", e)
	if reason := await(t, "the end", e.closed); !errors.Is(reason, context.DeadlineExceeded) {
		t.Errorf("reason %v", reason)
	}
}

// TestClosedWhileDialling: a connection that comes up too late is closed.
func TestClosedWhileDialling(t *testing.T) {
	near, far := net.Pipe()
	e := newEar()
	entered, goOn := make(chan struct{}), make(chan struct{})
	c := NewNetTransport(NetConfig{DialTimeout: time.Minute, MaxFrameBytes: 100, Dial: func(context.Context, string, string) (net.Conn, error) {
		close(entered)
		<-goOn
		return near, nil
	}}).Dial("nowhere:1", e)
	<-entered
	c.Close(ErrClosedLocally)
	close(goOn)
	if reason := await(t, "the end", e.closed); !errors.Is(reason, ErrClosedLocally) {
		t.Errorf("reason %v", reason)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the socket is open: %v", err)
	}
}

// TestOtherConnections: what is not bare TCP (TLS, a user's proxy) gets each
// frame in one write.
func TestOtherConnections(t *testing.T) {
	near, far := net.Pipe()
	e := newEar()
	c := NewNetTransport(NetConfig{DialTimeout: time.Minute, MaxFrameBytes: 100, Dial: func(context.Context, string, string) (net.Conn, error) {
		return near, nil
	}}).Dial("nowhere:1", e)
	await(t, "the opening", e.opened)
	p := newPen(e)
	c.Write([][]byte{{1, 2}, {3}, {4}}, p)
	got := make([]byte, 10)
	if n, err := far.Read(got); err != nil || !slices.Equal(got[:n], []byte{1, 2, 3, 4}) {
		t.Errorf("%v, %v", got[:n], err)
	}
	await(t, "the end of the write", p.done)
	_ = far.Close()
	_ = await(t, "the end", e.closed)
}

func TestSpots(t *testing.T) {
	p := NewParking()
	early := p.NewSpot()
	early.Wake()
	if err := early.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	late := p.NewSpot()
	go late.Wake()
	if err := late.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	mine := errors.New("mine")
	cancel(mine)
	left := p.NewSpot()
	if err := left.Wait(ctx); !errors.Is(err, mine) {
		t.Error(err)
	}
	left.Wake() // it never blocks, though nobody waits any more
}
