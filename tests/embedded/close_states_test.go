package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// brief is the deadline of a Close that cannot drain.
const brief = 100 * time.Millisecond

// outOfTime closes a producer that cannot drain.
func outOfTime(t *testing.T, p *troupe.Producer) {
	t.Helper()
	if err := closing(t, p, brief); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
}

// TestCloseOfSeveral is about calls to Close that meet.
func TestCloseOfSeveral(t *testing.T) {
	t.Parallel()

	t.Run("close: of several calls the deadline that ends first counts", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		n := newNetwork()
		n.setDown(true)
		p := newProducer(t, cluster, fast(n.option())...)
		var got outcomes
		for range 5 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		began := time.Now()
		var wait sync.WaitGroup
		for _, d := range []time.Duration{time.Hour, brief, 2 * time.Hour} {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				defer cancel()
				if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "with 5 records") {
					t.Errorf("Close with %v: %v", d, err)
				}
				// Every one of them returns after the outcomes.
				if got.count() != 5 {
					t.Errorf("%d of 5 outcomes when Close with %v returned", got.count(), d)
				}
			})
		}
		wait.Wait()
		if took := time.Since(began); took > brief+closeSlack {
			t.Errorf("took %v", took)
		}
		closedOutcomes(t, &got, 5, troupe.NotPersisted)
		answeredOnce(t, p, &got, 5)
	})

	t.Run("close: with a context that has ended, and nothing left", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, startCluster(t, 1, map[string]int32{"t": 1}))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.Close(ctx); err != nil && (!errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "left")) {
			t.Error(err)
		}
	})

	t.Run("close: a later call returns what the first did", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithDialer(hang))
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		outOfTime(t, p)
		for range 3 {
			if err := closing(t, p, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		answeredOnce(t, p, &got, 1)
	})

	t.Run("close: inside a callback, while another call waits for that callback", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		called, outer, inner := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		var got outcomes
		admitted := 1
		must(t, p, to("t", 0, "v"), func(d troupe.Delivery) {
			got.add(d)
			close(called)
			eventually(t, "the other call", func() bool {
				err := p.TryProduce(context.Background(), to("t", 0, "v"), got.add)
				if err == nil {
					admitted++
				}
				return errors.Is(err, troupe.ErrClosed)
			})
			ctx, cancel := context.WithTimeout(context.Background(), brief)
			defer cancel()
			inner <- p.Close(ctx)
		})
		<-called
		began := time.Now()
		go func() { outer <- p.Close(context.Background()) }()
		for name, ended := range map[string]chan error{"inner": inner, "outer": outer} {
			select {
			case err := <-ended:
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
			case <-time.After(patience):
				t.Fatalf("the %s call does not end", name)
			}
		}
		if took := time.Since(began); took > brief+closeSlack {
			t.Errorf("took %v", took)
		}
		answeredOnce(t, p, &got, admitted)
	})
}

// TestCloseAmongCallbacks is about callbacks that use the producer, or hang,
// while it closes.
func TestCloseAmongCallbacks(t *testing.T) {
	t.Parallel()

	t.Run("close: callbacks that call Produce, Send and Flush are refused, and do not hold it up", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		p := newProducer(t, cluster, troupe.WithLinger(long))
		warm(t, p, "t", 0)
		var got outcomes
		for i := range 20 {
			must(t, p, to("t", int32(i%2), "v"), func(d troupe.Delivery) {
				got.add(d)
				if d.Err != nil {
					t.Error(d.Err)
				}
				if err := p.Produce(context.Background(), to("t", 0, "late"), func(troupe.Delivery) { t.Error("called back") }); !errors.Is(err, troupe.ErrClosed) {
					t.Errorf("Produce: %v", err)
				}
				if _, err := p.Send(context.Background(), troupe.Send{Topic: "t", Messages: msgs(0, "late")}); !errors.Is(err, troupe.ErrClosed) {
					t.Errorf("Send: %v", err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
				defer cancel()
				if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Flush: %v", err)
				}
			})
		}
		if err := closing(t, p, patience); err != nil {
			t.Error(err)
		}
		answeredOnce(t, p, &got, 20)
		consumeAll(t, cluster, "t", 21)
	})

	t.Run("close: callbacks of the records that it fails may use the producer, too", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.hold(t, anyRequest)
		p := newProducer(t, cluster)
		var got outcomes
		use := func(d troupe.Delivery) {
			got.add(d)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			defer cancel()
			_, send := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "late")})
			for name, err := range map[string]error{"Produce": p.Produce(ctx, to("t", 0, "late"), nil), "Send": send} {
				if !errors.Is(err, troupe.ErrClosed) {
					t.Errorf("%s: %v", name, err)
				}
			}
			_ = p.Close(ctx)
		}
		must(t, p, to("t", 0, "on the wire"), use)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		for range 3 {
			must(t, p, to("t", 0, "behind"), use)
		}
		outOfTime(t, p)
		answeredOnce(t, p, &got, 4)
	})

	t.Run("close: a callback that hangs costs a second, and those behind it get their one answer afterwards", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		gate, called := make(chan struct{}), make(chan struct{})
		var got outcomes
		must(t, p, to("t", 0, "v"), func(d troupe.Delivery) {
			close(called)
			<-gate
			got.add(d)
		})
		<-called
		for range 5 {
			must(t, p, to("t", 0, "behind"), got.add)
		}
		outOfTime(t, p)
		if got.count() != 0 {
			t.Errorf("%d callbacks overtook the one before", got.count())
		}
		close(gate)
		answeredOnce(t, p, &got, 6)
	})
}

// TestCloseAmongWaiters is about callers who wait for something else when the
// producer is closed.
func TestCloseAmongWaiters(t *testing.T) { // alone, since it counts who waits
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	w := watch(cluster)
	p := newProducer(t, cluster, smallBuffer()...)
	warm(t, p, "t", 0)
	w.hold(t, anyRequest)
	var got outcomes
	n := fill(t, p, "t", 0, &got)
	away := newProducer(t, cluster, troupe.WithDialer(hang))

	var wait sync.WaitGroup
	results := make(map[string]error)
	var mu sync.Mutex
	note := func(name string, call func(ctx context.Context) error) {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err := call(ctx)
			mu.Lock()
			results[name] = err
			mu.Unlock()
		})
	}
	value := strings.Repeat("x", 60_000)
	note("Produce that waits for room", func(ctx context.Context) error { return p.Produce(ctx, to("t", 0, value), got.add) })
	note("Send that waits for room", func(ctx context.Context) error {
		_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, value)})
		return err
	})
	note("Flush", func(ctx context.Context) error { return p.Flush(ctx) })
	note("Connect", func(ctx context.Context) error { return away.Connect(ctx) })
	note("Send that waits for its outcome", func(ctx context.Context) error {
		_, err := away.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v")})
		return err
	})
	eventually(t, "callers that wait", func() bool {
		// Two for room, one Flush, one Connect, one Send.
		return waitingFor("troupe/seams.channelSpot.Wait") >= 5
	})
	outOfTime(t, p)
	outOfTime(t, away)
	wait.Wait()
	for name, err := range results {
		if name == "Flush" {
			// Everything has its outcome: that is what it waits for.
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, troupe.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(results) != 5 {
		t.Errorf("%d of 5 calls returned", len(results))
	}
	answeredOnce(t, p, &got, n)
}

// stuckConn is a connection whose writes or whose Close hang: a peer that reads
// nothing more, or a wrapper of the user's that says goodbye first.
type stuckConn struct {
	net.Conn
	writes, closes bool
	gate           chan struct{}
	closed         chan struct{}
	once           sync.Once
}

func (c *stuckConn) Write(b []byte) (int, error) {
	if c.writes {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	if c.closes {
		<-c.gate
	}
	return c.Conn.Close()
}

// stuckCodec compresses when the test lets it.
type stuckCodec struct{ gate chan struct{} }

func (c *stuckCodec) Compress(dst, src []byte) ([]byte, error) {
	<-c.gate
	return append(dst, src...), nil
}

func (c *stuckCodec) Decompress(dst, src []byte, _ int) ([]byte, error) {
	return append(dst, src...), nil
}

// TestCloseWithCodeThatHangs is about code that is not ours.
func TestCloseWithCodeThatHangs(t *testing.T) {
	t.Parallel()
	for name, closes := range map[string]bool{"write": false, "Close": true} {
		t.Run("close: with a connection whose "+name+" hangs", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			gate := make(chan struct{})
			dial := func(ctx context.Context, kind, address string) (net.Conn, error) {
				inner, err := (&net.Dialer{}).DialContext(ctx, kind, address)
				return &stuckConn{Conn: inner, writes: !closes, closes: closes, gate: gate, closed: make(chan struct{})}, err
			}
			var log syncBuffer
			p := newProducer(t, cluster, troupe.WithDialer(dial), quietly(&log))
			t.Cleanup(func() { close(gate) }) // before newProducer's own Close
			var got outcomes
			if closes {
				warm(t, p, "t", 0)
				w := watch(cluster)
				w.hold(t, anyRequest)
				must(t, p, to("t", 0, "v"), got.add)
				eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
			} else {
				must(t, p, to("t", 0, "v"), got.add)
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), brief)
			defer cancel()
			if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			// The five seconds that a tree may take which cannot come down.
			limit := brief + closeSlack
			if closes {
				limit += 5 * time.Second
			}
			if took := time.Since(began); took > limit {
				t.Errorf("took %v", took)
			}
			answeredOnce(t, p, &got, 1)
			if said := strings.Contains(log.String(), "have not ended"); said != closes {
				t.Errorf("said that the actors have not ended: %v\n%s", said, log.String())
			}
		})
	}

	t.Run("close: with a codec that hangs", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		codec := &stuckCodec{gate: make(chan struct{})}
		p := newProducer(t, cluster, troupe.WithCompression(codecs.Snappy), troupe.WithCodec(codecs.Snappy, codec))
		t.Cleanup(func() { close(codec.gate) })
		var got outcomes
		for range 3 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		eventually(t, "the codec", func() bool { return waitingFor("(*stuckCodec).Compress") > 0 })
		outOfTime(t, p)
		closedOutcomes(t, &got, 3, troupe.NotPersisted)
	})
}

// TestCloseByOthers is about producers whose actors somebody else ends.
func TestCloseByOthers(t *testing.T) {
	t.Parallel()

	for name, stop := range map[string]func(*actor.RootContext, *actor.PID){
		"Stop": (*actor.RootContext).Stop, "Poison": (*actor.RootContext).Poison,
	} {
		t.Run("close: the caller's system ends our root by "+name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			system := newSystem(t)
			p := newProducerIn(t, system, cluster.ListenAddrs(), smallBuffer(troupe.WithName("ours"))...)
			a, pid := join(t, system, p)
			system.Root.Send(pid, p.PID()) // watch
			warm(t, p, "t", 0)
			seen := len(w.of("t", 0))
			w.hold(t, anyRequest)
			var got outcomes
			n := fill(t, p, "t", 0, &got)
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) > seen })
			waiting := make(chan error, 1)
			go func() { waiting <- p.Produce(within(t, patience), to("t", 0, strings.Repeat("x", 60_000)), got.add) }()
			eventually(t, "a caller that waits for room", func() bool { return waitingFor("memory.(*Budget).Acquire") > 0 })

			root := system.NewLocalPID("troupe/ours")
			stop(system.Root, root)
			for _, d := range got.wait(t, n) {
				if !errors.Is(d.Err, troupe.ErrClosed) {
					t.Error(d.Err)
				}
			}
			if err := <-waiting; !errors.Is(err, troupe.ErrClosed) {
				t.Errorf("the caller that waited: %v", err)
			}
			wait[*actor.Terminated](t, a, 1)
			if err := p.Produce(within(t, patience), to("t", 0, "late"), nil); !errors.Is(err, troupe.ErrClosed) {
				t.Errorf("Produce: %v", err)
			}
			if err := p.Connect(within(t, patience)); !errors.Is(err, troupe.ErrClosed) {
				t.Errorf("Connect: %v", err)
			}
			for range 2 {
				if err := closing(t, p, brief); err != nil {
					t.Errorf("Close afterwards: %v", err)
				}
			}
			answeredOnce(t, p, &got, n)
		})
	}

	t.Run("close: while the PID is being closed by a message: the shorter of the two", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		system := newSystem(t)
		p := newProducerIn(t, system, cluster.ListenAddrs(), troupe.WithDialer(hang))
		var got outcomes
		for range 3 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		system.Root.Stop(p.PID()) // would wait for delivery.timeout.ms
		eventually(t, "refusal", func() bool {
			return errors.Is(p.TryProduce(context.Background(), to("t", 0, "v"), nil), troupe.ErrClosed)
		})
		outOfTime(t, p)
		closedOutcomes(t, &got, 3, troupe.NotPersisted)
	})

	t.Run("close: after the caller has shut the system down", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		for name, p := range map[string]*troupe.Producer{
			"the caller's": newProducerIn(t, actor.NewActorSystem(actor.WithLoggerFactory(silentLog)), cluster.ListenAddrs()),
			"our own":      newProducer(t, cluster),
		} {
			var got outcomes
			for i := range 10 {
				must(t, p, to("t", 0, fmt.Sprint(i)), got.add)
			}
			p.System().Shutdown()
			if err := closing(t, p, patience); err != nil {
				t.Errorf("%s system: %v", name, err)
			}
			answeredOnce(t, p, &got, 10)
		}
		consumeAll(t, cluster, "t", 20)
	})
}

// TestCloseWhileHeldUp is about brokers that answer, but let nobody produce.
func TestCloseWhileHeldUp(t *testing.T) {
	t.Parallel()

	t.Run("close: in a quota's pause", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			r := answer(pr.ProduceRequest, 0, 0)
			r.ThrottleMillis = int32(time.Hour / time.Millisecond)
			return r, nil, true
		})
		p := newProducer(t, cluster)
		warm(t, p, "t", 0)
		var got outcomes
		for range 3 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		outOfTime(t, p)
		closedOutcomes(t, &got, 3, troupe.NotPersisted)
		answeredOnce(t, p, &got, 3)
	})

	t.Run("close: without a leader", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		cluster.ControlKey(int16(kmsg.Metadata), clusterOnlyOf(cluster, "t", 2, func(p int32) int32 { return p - 1 }))
		p := newProducer(t, cluster, fast()...)
		warm(t, p, "t", 1)
		var got outcomes
		for range 3 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		outOfTime(t, p)
		closedOutcomes(t, &got, 3, troupe.NotPersisted)
		answeredOnce(t, p, &got, 3)
	})

	t.Run("close: with records for partitions and topics that nobody has heard of yet", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		warm(t, p, "t", 0)
		gate := make(chan struct{})
		t.Cleanup(func() { close(gate) })
		cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.SleepControl(func() { <-gate })
			return nil, nil, false
		})
		var got outcomes
		for range 3 {
			must(t, p, to("t", 9, "v"), got.add)
			must(t, p, to("missing", 0, "v"), got.add)
		}
		outOfTime(t, p)
		closedOutcomes(t, &got, 6, troupe.NotPersisted)
		answeredOnce(t, p, &got, 6)
	})
}
