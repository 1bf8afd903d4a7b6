package seams

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// readBufferBytes holds many produce answers, so that a burst of them is one
// system call.
const readBufferBytes = 32 << 10

// DialFunc opens a network connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NetConfig sets up a network transport.
type NetConfig struct {
	// Dial opens connections; nil means a net.Dialer, which resolves the name
	// anew each time and tries every address.
	Dial DialFunc
	// TLS encrypts every connection; nil means that none is. Without a ServerName it is
	// the host that was dialled.
	TLS *tls.Config
	// DialTimeout bounds one attempt to connect, over all addresses and with the
	// handshake of TLS.
	DialTimeout time.Duration
	// WriteTimeout bounds one write of a frame: a peer that stopped reading.
	WriteTimeout time.Duration
	// MaxFrameBytes bounds one received frame.
	MaxFrameBytes int
}

// NewNetTransport returns the transport over TCP, or over TLS on top of it.
func NewNetTransport(config NetConfig) Transport {
	if config.Dial == nil {
		config.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if config.TLS != nil {
		config.TLS = withSessions(config.TLS)
	}
	return &netTransport{config}
}

// IsNameError reports whether a connection failed because its name could not be
// resolved: a wrong address, rather than a peer that is away.
func IsNameError(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

type netTransport struct{ config NetConfig }

func (t *netTransport) Dial(address string, events ConnectionEvents) Connection {
	ctx, cancel := context.WithTimeout(context.Background(), t.config.DialTimeout)
	c := &netConnection{config: t.config, events: events, cancelDial: cancel}
	c.wake = sync.NewCond(&c.mu)
	go c.open(ctx, address)
	return c
}

type queuedWrite struct {
	frame [][]byte
	write Write
}

// netConnection has two goroutines while open: this one reads, the other
// writes. Whoever fails first closes the socket, and the reader reports the end
// after the writer is gone, so that Closed comes after every Written.
type netConnection struct {
	config     NetConfig
	events     ConnectionEvents
	cancelDial context.CancelFunc

	mu     sync.Mutex
	wake   *sync.Cond
	conn   net.Conn
	queue  []queuedWrite
	closed bool
	reason error
}

func (c *netConnection) open(ctx context.Context, address string) {
	conn, err := c.config.Dial(ctx, "tcp", address)
	if err == nil && c.config.TLS != nil {
		conn, err = secure(ctx, conn, address, c.config.TLS)
	}
	c.cancelDial()
	if err == nil {
		c.mu.Lock()
		if c.closed {
			err = c.reason
		} else {
			c.conn = conn
		}
		c.mu.Unlock()
		if err != nil {
			hangUp(conn)
		}
	}
	if err != nil {
		c.Close(err)
		c.failQueue()
		c.events.Closed(c.closeReason())
		return
	}
	writerDone := make(chan struct{})
	go func() {
		c.writeLoop(conn)
		close(writerDone)
	}()
	c.events.Opened()
	c.Close(c.readLoop(conn))
	<-writerDone
	c.events.Closed(c.closeReason())
}

func (c *netConnection) closeReason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Close implements Connection; the first reason wins.
func (c *netConnection) Close(reason error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.reason = true, reason
	conn := c.conn
	c.mu.Unlock()
	c.cancelDial()
	if conn != nil {
		hangUp(conn)
	}
	c.wake.Broadcast()
}

// Write implements Connection.
func (c *netConnection) Write(frame [][]byte, write Write) {
	c.mu.Lock()
	if c.closed {
		reason := c.reason
		c.mu.Unlock()
		write.Written(reason, false)
		return
	}
	c.queue = append(c.queue, queuedWrite{frame, write})
	c.mu.Unlock()
	c.wake.Signal()
}

func (c *netConnection) failQueue() {
	c.mu.Lock()
	queue, reason := c.queue, c.reason
	c.queue = nil
	c.mu.Unlock()
	for _, q := range queue {
		q.write.Written(reason, false)
	}
}

func (c *netConnection) writeLoop(conn net.Conn) {
	defer c.failQueue()
	var spare []queuedWrite
	_, vectored := conn.(*net.TCPConn)
	join := joiner{conn: conn}
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.wake.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		queue := c.queue
		c.queue = spare[:0]
		c.mu.Unlock()
		for i, q := range queue {
			if c.config.WriteTimeout > 0 {
				_ = conn.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout))
			}
			var n int64
			var err error
			if vectored {
				buffers := net.Buffers(q.frame)
				n, err = buffers.WriteTo(conn)
			} else {
				// Anything but bare TCP turns net.Buffers into one write per slice.
				n, err = join.write(q.frame)
			}
			queue[i] = queuedWrite{}
			if err != nil {
				c.Close(fmt.Errorf("write: %w", err))
				q.write.Written(err, n > 0)
				for _, rest := range queue[i+1:] {
					rest.write.Written(err, false)
				}
				return
			}
			q.write.Written(nil, true)
		}
		spare = queue
	}
}

func (c *netConnection) readLoop(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, readBufferBytes)
	var size [4]byte
	var big []byte
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		n := int(int32(binary.BigEndian.Uint32(size[:])))
		if c.config.TLS == nil && size[0] == tlsAlert && size[1] == tlsMajor {
			return errSpeaksTLS
		}
		if n < 4 || n > c.config.MaxFrameBytes {
			return fmt.Errorf("%w: peer announced %d bytes, limit %d", ErrFrameTooLarge, n, c.config.MaxFrameBytes)
		}
		if n <= readBufferBytes {
			frame, err := r.Peek(n)
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			c.events.Received(frame)
			_, _ = r.Discard(n)
			continue
		}
		// Grow as bytes arrive: a peer that announces much need not send it.
		big = big[:0]
		for len(big) < n {
			step := min(n-len(big), 1<<20)
			old := len(big)
			big = append(big, make([]byte, step)...)
			if _, err := io.ReadFull(r, big[old:]); err != nil {
				return fmt.Errorf("read: %w", err)
			}
		}
		c.events.Received(big)
		if cap(big) > 4<<20 {
			big = nil
		}
	}
}
