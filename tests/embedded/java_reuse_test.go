package embedded_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// tap is a TCP proxy between a producer and one broker that can stop reading
// from the producer in the middle of a large request, whose write then stays open
// in the kernel. Small requests still pass.
type tap struct {
	mu   sync.Mutex
	shut chan struct{} // nil: open
	done sync.WaitGroup
}

// stop lets nothing more through until start.
func (p *tap) stop() {
	p.mu.Lock()
	p.shut = make(chan struct{})
	p.mu.Unlock()
}

func (p *tap) start() {
	p.mu.Lock()
	if p.shut != nil {
		close(p.shut)
		p.shut = nil
	}
	p.mu.Unlock()
}

// passing is how much of a connection's traffic passes a tap that is shut.
const passing = 64 << 10

// wait returns what is left of credit after n more bytes, and waits when that is
// nothing.
func (p *tap) wait(credit, n int) int {
	p.mu.Lock()
	shut := p.shut
	p.mu.Unlock()
	if shut == nil {
		return passing
	}
	if credit -= n; credit <= 0 {
		<-shut
	}
	return credit
}

// dial connects through the proxy, with buffers so small that a write of some
// size has to wait for the reader.
func (p *tap) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	upstream, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, upstream.Close())
	}
	defer func() { _ = listener.Close() }()
	client, err := (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, upstream.Close())
	}
	_ = client.(*net.TCPConn).SetWriteBuffer(8 << 10)
	server, err := listener.Accept()
	if err != nil {
		return nil, errors.Join(err, client.Close(), upstream.Close())
	}
	_ = server.(*net.TCPConn).SetReadBuffer(64 << 10)
	p.done.Go(func() {
		defer func() { _ = upstream.Close() }()
		credit := passing
		for buf := make([]byte, 16<<10); ; {
			n, err := server.Read(buf)
			if n > 0 {
				credit = p.wait(credit, n)
				_, _ = upstream.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	p.done.Go(func() {
		defer func() { _ = server.Close() }()
		_, _ = io.Copy(server, upstream)
	})
	return client, nil
}

// TestJavaReuse is row 07's other half: no buffer is used again while a write may
// still read from it. The checksum of a batch does not cover its topic, so a
// broker would take another topic's records for these (KAFKA-19012).
func TestJavaReuse(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		options []troupe.Option
		leave   func(*testing.T, *kfake.Cluster) // makes the batch settle without its write
		check   func(troupe.Delivery) bool
	}{
		"expired": {
			[]troupe.Option{troupe.WithRequestTimeout(2 * time.Second), troupe.WithDeliveryTimeout(4 * time.Second)},
			func(*testing.T, *kfake.Cluster) {},
			func(d troupe.Delivery) bool {
				return errors.Is(d.Err, troupe.ErrDeliveryTimeout) && d.Status == troupe.PossiblyPersisted && d.Attempts == 1
			},
		},
		"acknowledged by another leader": {
			[]troupe.Option{troupe.WithMetadataMaxAge(50 * time.Millisecond)},
			func(t *testing.T, cluster *kfake.Cluster) {
				if err := cluster.MoveTopicPartition("t", 0, 1); err != nil {
					t.Error(err)
				}
			},
			func(d troupe.Delivery) bool { return d.Err == nil && d.Attempts == 2 },
		},
	} {
		t.Run("java 07: a batch that is "+name+" keeps its buffers while its first write is open", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 2, map[string]int32{"t": 2})
			place(t, cluster, "t", 2, 2)
			w, slow := watch(cluster), &tap{}
			held := cluster.ListenAddrs()[0]
			dial := func(ctx context.Context, kind, address string) (net.Conn, error) {
				if address == held {
					return slow.dial(ctx, kind, address)
				}
				return (&net.Dialer{}).DialContext(ctx, kind, address)
			}
			p := newProducer(t, cluster, fast(append(test.options, troupe.WithDialer(dial), troupe.WithLinger(time.Second))...)...)
			t.Cleanup(func() {
				_ = closing(t, p, time.Second)
				slow.start()
				slow.done.Wait()
			})
			warm(t, p, "t", 0)
			warm(t, p, "t", 1)
			slow.stop()
			var got outcomes
			const n, size = 16, 60_000 // of a size whose buffers are pooled
			for i := range n {
				must(t, p, to("t", 0, strings.Repeat(string(rune('a'+i)), size)), got.add)
			}
			flushed := make(chan error, 1)
			go func() { flushed <- p.Flush(within(t, patience)) }() // one batch of them all
			time.Sleep(200 * time.Millisecond)                      // the write has begun
			test.leave(t, cluster)
			for _, d := range got.wait(t, n) {
				if !test.check(d) {
					t.Fatalf("%v after %d attempts: %v", d.Status, d.Attempts, d.Err)
				}
			}
			if err := <-flushed; err != nil {
				t.Error(err)
			}
			if used := p.BufferedBytes(); used < n*size {
				t.Errorf("%d bytes are charged while %d may still be read", used, n*size)
			}
			// Whatever is free is written over, several times.
			for range 2 {
				var other outcomes
				for range 200 {
					must(t, p, to("t", 1, strings.Repeat("#", size)), other.add)
				}
				if err := p.Flush(within(t, patience)); err != nil {
					t.Error(err)
				}
			}
			slow.start()
			eventually(t, "the first request", func() bool { return slices.Contains(nodes(w.of("t", 0)[1:]), 0) })
			for _, s := range w.of("t", 0)[1:] {
				if s.node != 0 {
					continue
				}
				if len(s.values) != n {
					t.Fatalf("%d records arrived", len(s.values))
				}
				for i, v := range s.values {
					if v != strings.Repeat(string(rune('a'+i)), size) {
						t.Errorf("record %d arrived as %.20s…", i, v)
					}
				}
			}
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
			if got.count() != n {
				t.Errorf("%d outcomes of %d", got.count(), n)
			}
		})
	}

	t.Run("java 32: an answer that comes after its topic was created again answers nothing twice", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithMaxInFlight(1), troupe.WithMetadataMaxAge(50*time.Millisecond))...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("t", 0, "old"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
		must(t, p, to("t", 0, "never sent"), got.add)
		if err := cluster.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := cluster.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first outcome", func() bool { return got.count() >= 1 })
		if d := got.wait(t, 1)[0]; d.Err == nil || d.Status != troupe.PossiblyPersisted || d.Attempts != 1 {
			t.Errorf("%v after %d attempts: %v", d.Status, d.Attempts, d.Err)
		}
		release()
		for i, d := range got.wait(t, 2) {
			if i == 1 && (d.Err != nil || d.Offset != 0) {
				t.Errorf("the record that was never sent: offset %d, %v", d.Offset, d.Err)
			}
		}
		warm(t, p, "t", 0)
		expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"never sent", "warm"})
		if got.count() != 2 {
			t.Errorf("%d outcomes of 2", got.count())
		}
	})
}

// TestKafkaJSIdentity is what eosManager.spec.js and the rows of index.spec.js say
// of an idempotent producer's beginning.
func TestKafkaJSIdentity(t *testing.T) {
	t.Parallel()

	t.Run("kafkajs: eosManager: the id and epoch of the answer are used, and sequences begin at 0", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		var mu sync.Mutex
		var asked []kmsg.InitProducerIDRequest
		cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			mu.Lock()
			asked = append(asked, *r.(*kmsg.InitProducerIDRequest))
			mu.Unlock()
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ProducerID, response.ProducerEpoch = 1000, 1
			return response, nil, true
		})
		w := watch(cluster)
		w.add(func(pr *produced) (kmsg.Response, error, bool) { return answer(pr.ProduceRequest, 0, 0), nil, true })
		p := newProducer(t, cluster)
		for range 2 {
			warm(t, p, "t", 0)
		}
		for i, s := range w.of("t", 0) {
			if s.batch.ProducerID != 1000 || s.batch.ProducerEpoch != 1 || s.batch.FirstSequence != int32(i) {
				t.Errorf("batch %d: producer %d, epoch %d, sequence %d", i, s.batch.ProducerID, s.batch.ProducerEpoch, s.batch.FirstSequence)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 1 || asked[0].TransactionalID != nil || asked[0].ProducerID != -1 || asked[0].ProducerEpoch != -1 {
			t.Errorf("asked %+v", asked)
		}
	})

	t.Run("kafkajs: 0.1: an idempotent producer does not end after five retries", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(7, "t", 0, corruptMessage)
		p := newProducer(t, cluster, troupe.WithIdempotence(true)) // its own policy: 100 ms to 1 s
		warm(t, p, "t", 0)
		if n := len(w.of("t", 0)); n != 8 {
			t.Errorf("%d attempts", n)
		}
	})
}
