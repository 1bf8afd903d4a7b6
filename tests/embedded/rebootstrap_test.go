package embedded_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
)

// resolver stands for a name service: names lead where the test says at the
// moment of each dial.
type resolver struct {
	mu    sync.Mutex
	names map[string]string
	asked map[string]int
}

func (r *resolver) point(name, address string) {
	r.mu.Lock()
	r.names[name] = address
	r.mu.Unlock()
}

func (r *resolver) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	r.mu.Lock()
	r.asked[address]++
	if to, ok := r.names[address]; ok {
		address = to
	}
	r.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, kind, address)
}

// TestRebootstrap (KIP-899, DESIGN 4.15): when every broker that the producer
// knows is gone, it begins again at its bootstrap names, which are resolved anew.
// What waits is delivered to the cluster that it finds there.
func TestRebootstrap(t *testing.T) {
	t.Parallel()
	const name = "bootstrap.test:9092"
	topics := map[string]int32{"t": 1}
	first, second := startCluster(t, 1, topics), startCluster(t, 1, topics)
	r := &resolver{names: map[string]string{name: first.ListenAddrs()[0]}, asked: make(map[string]int)}
	p := newProducer(t, first, fast(troupe.WithBrokers(name), troupe.WithDialer(r.dial))...)
	ctx := within(t, patience)
	if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "before")}); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	before := r.asked[name]
	r.mu.Unlock()
	first.Close()
	var got outcomes
	must(t, p, to("t", 0, "meanwhile"), got.add)
	time.Sleep(200 * time.Millisecond)
	if got.count() > 0 {
		t.Fatalf("an outcome without a cluster: %+v", got.wait(t, 1))
	}
	r.point(name, second.ListenAddrs()[0])
	if d := got.wait(t, 1)[0]; d.Err != nil {
		t.Fatal(d.Err)
	}
	if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "after")}); err != nil {
		t.Fatal(err)
	}
	expect(t, values(consumeAll(t, second, "t", 2)), []string{"meanwhile", "after"})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[name] == before {
		t.Error("the bootstrap name was not resolved again")
	}
}

// TestBrokerMoves (DESIGN 4.15): a broker that comes back under another address is
// dialled there.
func TestBrokerMoves(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 2, map[string]int32{"t": 1})
	p := newProducer(t, cluster, fast(troupe.WithMetadataMaxAge(50*time.Millisecond), troupe.WithMetadataMinAge(10*time.Millisecond))...)
	ctx := within(t, patience)
	if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "before")}); err != nil {
		t.Fatal(err)
	}
	leader := cluster.LeaderFor("t", 0)
	old := cluster.ListenAddrs()
	if err := cluster.RemoveNode(leader); err != nil {
		t.Fatal(err)
	}
	_, port, err := cluster.AddNode(leader, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range old {
		if _, p := splitAddress(address); int(p) == port {
			t.Fatalf("the node came back at %s: nothing to see", address)
		}
	}
	if err := cluster.MoveTopicPartition("t", 0, leader); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "after")}); err != nil {
		t.Fatal(err)
	}
	expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"before", "after"})
}
