package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/troupe-kafka/troupe"
)

var errRefused = errors.New("connection refused by the test")

// network stands between a producer and a cluster. It can refuse connections,
// cut them, and swallow the answers to Produce requests that were carried out.
type network struct {
	mu     sync.Mutex
	down   bool
	dials  int
	open   map[*tapped]bool
	losing int
}

func newNetwork() *network { return &network{open: make(map[*tapped]bool)} }

func (n *network) option() troupe.Option { return troupe.WithDialer(n.dial) }

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials++
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, errRefused
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	c := &tapped{Conn: conn, network: n}
	n.mu.Lock()
	n.open[c] = true
	n.mu.Unlock()
	return c, nil
}

// setDown refuses new connections; with it, those there are end.
func (n *network) setDown(down bool) {
	n.mu.Lock()
	n.down = down
	open := n.open
	if down {
		n.open = make(map[*tapped]bool)
	}
	n.mu.Unlock()
	if down {
		for c := range open {
			_ = c.Conn.Close()
		}
	}
}

func (n *network) dialed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// lose swallows the next answers to Produce requests and ends the connections
// they come on.
func (n *network) lose(answers int) {
	n.mu.Lock()
	n.losing = answers
	n.mu.Unlock()
}

func (n *network) takeLoss() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.losing == 0 {
		return false
	}
	n.losing--
	return true
}

// tapped is a connection that knows whether a Produce request was written to it.
type tapped struct {
	net.Conn
	network  *network
	head     []byte // begin of the frame being written: size and api key
	left     int    // bytes of it to come
	produces atomic.Bool
}

func (c *tapped) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if c.left > 0 {
			n := min(c.left, len(rest))
			c.left -= n
			rest = rest[n:]
			continue
		}
		n := min(6-len(c.head), len(rest))
		c.head = append(c.head, rest[:n]...)
		rest = rest[n:]
		if len(c.head) == 6 {
			c.left = int(binary.BigEndian.Uint32(c.head)) - 2
			if binary.BigEndian.Uint16(c.head[4:]) == 0 {
				c.produces.Store(true)
			}
			c.head = c.head[:0]
		}
	}
	return c.Conn.Write(b)
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.produces.Load() && c.network.takeLoss() {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// hang is a dial that ends only with its context.
func hang(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
