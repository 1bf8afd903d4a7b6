package embedded_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// mute stands between a producer and the brokers. Those that it holds take
// connections and requests, and no answer comes through.
type mute struct {
	mu    sync.Mutex
	held  map[string]bool
	dials map[string]int
}

func newMute() *mute { return &mute{held: make(map[string]bool), dials: make(map[string]int)} }

func (m *mute) hold(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[address] = true
}

func (m *mute) holds(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[address]
}

func (m *mute) dialled(address string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials[address]
}

func (m *mute) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	m.mu.Lock()
	m.dials[address]++
	m.mu.Unlock()
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	return &muted{Conn: conn, mute: m, address: address}, nil
}

type muted struct {
	net.Conn
	mute    *mute
	address string
}

// Read keeps for itself what it reads once the broker is held.
func (c *muted) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.mute.holds(c.address) {
			return n, err
		}
	}
}

// TestASilentBootstrapAddress (it accepts and says nothing) costs the time to set
// up a connection and not that of a request, though there is no hedge.
func TestASilentBootstrapAddress(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	m := newMute()
	for range 8 { // which address comes first is a matter of luck
		p := newProducer(t, cluster, fast(troupe.WithBrokers(silent.Addr().String()), troupe.WithDialer(m.dial),
			troupe.WithConnectionTimeout(100*time.Millisecond), troupe.WithMetadataHedge(time.Hour))...)
		began := time.Now()
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > patience/3 {
			t.Errorf("the first record took %v", took)
		}
	}
	if m.dialled(silent.Addr().String()) == 0 {
		t.Error("nobody asked the silent address")
	}
}

// TestASilentBroker: the one that answered metadata until now takes the next
// request and says nothing. Another is asked after the hedge's time, and first
// from then on.
func TestASilentBroker(t *testing.T) {
	t.Parallel()
	const hedge = time.Second
	topics := map[string]int32{"t": 1, "second": 1, "third": 1}
	cluster := startCluster(t, 3, topics)
	var mu sync.Mutex
	answered := int32(-1)
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		answered = cluster.CurrentNode()
		mu.Unlock()
		return nil, nil, false
	})
	m := newMute()
	p := newProducer(t, cluster, fast(troupe.WithDialer(m.dial), troupe.WithMetadataHedge(hedge), troupe.WithMetadataMinAge(0))...)
	warm(t, p, "t", 0) // a bootstrap address is asked first, and then, for the topic, a broker
	send := func(topic string) time.Duration {
		began := time.Now()
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: topic, Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	mu.Lock()
	silent := answered
	mu.Unlock()
	for topic := range topics {
		if err := cluster.MoveTopicPartition(topic, 0, (silent+1)%3); err != nil {
			t.Fatal(err)
		}
	}
	m.hold(cluster.ListenAddrs()[silent])
	if took := send("second"); took < hedge || took > patience/3 {
		t.Errorf("the first topic that has to be looked up takes %v", took)
	}
	if took := send("third"); took >= hedge {
		t.Errorf("the next takes %v: the silent broker was asked again", took)
	}
}
