// Package proxy stands between a producer and the brokers of kfake, and takes
// the network away.
package proxy

import (
	"io"
	"net"
	"sync"
)

// Proxy is in front of every broker of a cluster that was made with
// kfake.ListenFn(p.Listen). The zero value lets everything through.
type Proxy struct {
	mu   sync.Mutex
	open map[net.Conn]bool // the clients' connections
	down bool
}

// Listen opens a broker's own listener and the proxy's in front of it, which is
// the address that the broker tells to clients.
func (p *Proxy) Listen(network, address string) (net.Listener, error) {
	front, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	back, err := net.Listen(network, "127.0.0.1:0")
	if err != nil {
		_ = front.Close()
		return nil, err
	}
	go func() {
		for {
			client, err := front.Accept()
			if err != nil {
				return
			}
			go p.serve(client, back.Addr())
		}
	}()
	return behind{back, front}, nil
}

// Cut ends every connection and returns how many there were.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range p.open {
		_ = client.Close()
	}
	return len(p.open)
}

// SetDown cuts every connection and resets new ones at once, until it is called
// with false.
func (p *Proxy) SetDown(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Cut()
	}
}

func (p *Proxy) serve(client net.Conn, back net.Addr) {
	defer func() { _ = client.Close() }()
	if !p.add(client) {
		if tcp, ok := client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return
	}
	defer p.remove(client)
	broker, err := net.Dial(back.Network(), back.String())
	if err != nil {
		return
	}
	defer func() { _ = broker.Close() }()
	go func() {
		_, _ = io.Copy(broker, client)
		_ = broker.Close()
	}()
	_, _ = io.Copy(client, broker)
}

func (p *Proxy) add(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return false
	}
	if p.open == nil {
		p.open = make(map[net.Conn]bool)
	}
	p.open[client] = true
	return true
}

func (p *Proxy) remove(client net.Conn) {
	p.mu.Lock()
	delete(p.open, client)
	p.mu.Unlock()
}

// behind is a broker's listener under the proxy's address.
type behind struct {
	net.Listener
	front net.Listener
}

// Addr implements net.Listener.
func (b behind) Addr() net.Addr { return b.front.Addr() }

// Close implements net.Listener.
func (b behind) Close() error {
	_ = b.front.Close()
	return b.Listener.Close()
}
