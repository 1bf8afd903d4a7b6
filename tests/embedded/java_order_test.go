package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// gauge counts how many requests stand open on each connection at once.
type gauge struct {
	mu        sync.Mutex
	now, most int // on the connection that was used last
}

// peak returns the most requests that were open at once since the last call.
func (g *gauge) peak() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.most
	g.most = g.now
	return n
}

func (g *gauge) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	return &gauged{Conn: conn, gauge: g}, err
}

type gauged struct {
	net.Conn
	gauge     *gauge
	open      int
	out, back framing
}

// framing counts the frames in a stream of bytes.
type framing struct {
	head []byte
	left int
}

func (f *framing) ended(b []byte) (frames int) {
	for len(b) > 0 {
		if f.left == 0 {
			n := min(4-len(f.head), len(b))
			f.head = append(f.head, b[:n]...)
			b = b[n:]
			if len(f.head) == 4 {
				f.left = int(binary.BigEndian.Uint32(f.head))
				f.head = f.head[:0]
			}
			continue
		}
		n := min(f.left, len(b))
		f.left -= n
		b = b[n:]
		if f.left == 0 {
			frames++
		}
	}
	return frames
}

func (c *gauged) count(f *framing, b []byte, sign int) {
	c.gauge.mu.Lock()
	defer c.gauge.mu.Unlock()
	c.open += sign * f.ended(b)
	c.gauge.now = c.open
	c.gauge.most = max(c.gauge.most, c.open)
}

func (c *gauged) Write(b []byte) (int, error) {
	c.count(&c.out, b, 1) // before the answer can come
	return c.Conn.Write(b)
}

func (c *gauged) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count(&c.back, b[:n], -1)
	return n, err
}

// TestJavaOrder is rows 14 and 15: what is sent again keeps its place, and answers
// find the attempt that they belong to.
func TestJavaOrder(t *testing.T) {
	t.Parallel()

	t.Run("java 14: what follows a failed batch is sent again in order, one at a time, and then five together as before", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, g := watch(cluster), &gauge{}
		p := newProducer(t, cluster, fast(troupe.WithDialer(g.dial), troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
		warm(t, p, "t", 0)
		value := strings.Repeat("v", 90) // a batch of its own
		var got outcomes
		n := 0
		produce := func(more int) {
			for range more {
				r := to("t", 0, fmt.Sprintf("%02d%s", n, value))
				r.Tag = uint64(n)
				must(t, p, r, got.add)
				n++
			}
		}
		release := w.hold(t, anyRequest)
		w.answerNext(1, "t", 0, corruptMessage)
		produce(5)
		eventually(t, "five in flight", func() bool { return g.peak() == 5 })
		produce(5) // new ones wait
		release()
		got.wait(t, 10)
		sends := w.of("t", 0)[1:]
		var first []int32
		for _, s := range sends {
			first = append(first, s.batch.FirstSequence)
		}
		// The broker refused 2 to 5 because of 1, and then took 1 to 5 and the rest.
		if !slices.Equal(first[:5], []int32{1, 2, 3, 4, 5}) || !slices.IsSorted(first[5:]) || first[5] != 1 || len(first) != 15 {
			t.Errorf("sequences %v", first)
		}
		for i, d := range got.wait(t, 10) {
			if d.Err != nil || d.Tag != uint64(i) || d.Offset != int64(i+1) {
				t.Errorf("outcome %d: record %d at %d, %v", i, d.Tag, d.Offset, d.Err)
			}
		}
		assertSequences(t, w.of("t", 0))
		// Afterwards the window is open again.
		again := w.hold(t, anyRequest)
		g.peak()
		produce(8)
		eventually(t, "five in flight", func() bool { return g.peak() == 5 })
		again()
		got.wait(t, n)
		expectOrder(t, values(consumeAll(t, cluster, "t", n+1))[1:])
	})

	t.Run("java 14: while a batch is tried again nothing is in flight beside it", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, g := watch(cluster), &gauge{}
		p := newProducer(t, cluster, fast(troupe.WithDialer(g.dial), troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
		warm(t, p, "t", 0)
		value := strings.Repeat("v", 90)
		var got outcomes
		// The first batch fails three times and is then held; ten more wait behind it.
		w.answerNext(3, "t", 0, corruptMessage)
		attempts := 0
		release := w.hold(t, func(*produced) bool {
			attempts++
			return attempts == 1 // those that were answered are not seen here
		})
		must(t, p, to("t", 0, "00"+value), got.add)
		// The second attempt shows that the producer knows of the first one's failure.
		eventually(t, "the second attempt", func() bool { return len(w.of("t", 0)) >= 3 })
		for i := range 10 {
			must(t, p, to("t", 0, fmt.Sprintf("%02d%s", i+1, value)), got.add)
		}
		eventually(t, "the last attempt", func() bool { return len(w.of("t", 0)) == 5 })
		g.peak()
		time.Sleep(50 * time.Millisecond)
		if n := g.peak(); n > 1 {
			t.Errorf("%d requests at once while a batch was tried again", n)
		}
		release()
		got.wait(t, 11)
		sends := w.of("t", 0)[1:]
		for i, s := range sends[:4] {
			if s.batch.FirstSequence != 1 {
				t.Errorf("attempt %d is for sequence %d", i, s.batch.FirstSequence)
			}
		}
		assertSequences(t, w.of("t", 0))
		expectOrder(t, values(consumeAll(t, cluster, "t", 12))[1:])
	})

	for name, late := range map[string]func(r *kmsg.ProduceRequest) kmsg.Response{
		"a success":        func(r *kmsg.ProduceRequest) kmsg.Response { return answer(r, 0, 999) },
		"NOT_LEADER":       func(r *kmsg.ProduceRequest) kmsg.Response { return answer(r, notLeader, -1) },
		"an invalid batch": func(r *kmsg.ProduceRequest) kmsg.Response { return answer(r, int16(protocol.InvalidRecord), -1) },
	} {
		t.Run("java 15: the old leader's answer, "+name+", comes after the new leader's, and means nothing", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 2, map[string]int32{"t": 1})
			place(t, cluster, "t", 1, 2)
			w := watch(cluster)
			p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
			warm(t, p, "t", 0)
			release := w.hold(t, onNode(0))
			w.add(func(pr *produced) (kmsg.Response, error, bool) {
				if pr.node != 0 {
					return nil, nil, false
				}
				return late(pr.ProduceRequest), nil, true
			})
			value := strings.Repeat("v", 90)
			var got outcomes
			for i := range 5 {
				must(t, p, to("t", 0, fmt.Sprintf("%02d%s", i, value)), got.add)
			}
			eventually(t, "the first of five requests", func() bool { return len(w.of("t", 0)) == 2 })
			if err := cluster.MoveTopicPartition("t", 0, 1); err != nil {
				t.Fatal(err)
			}
			// Metadata is asked for when something says so, here by an unknown topic.
			_ = p.TryProduce(within(t, patience), to("other", 0, "v"), nil)
			for i, d := range got.wait(t, 5) {
				if d.Err != nil || d.Offset != int64(i+1) {
					t.Errorf("record %d: offset %d, %v", i, d.Offset, d.Err)
				}
			}
			release()
			for i := range 3 {
				r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, fmt.Sprintf("%02d", i+5))})
				if err != nil || r[0].BaseOffset != int64(i+6) {
					t.Errorf("afterwards: %+v %v", r, err)
				}
			}
			if got.count() != 5 {
				t.Errorf("%d outcomes of 5", got.count())
			}
			expectOrder(t, values(consumeAll(t, cluster, "t", 9))[1:])
		})
	}
}

// expectOrder checks that values that begin with a number of two digits stand in
// order, once each.
func expectOrder(t *testing.T, list []string) {
	t.Helper()
	for i, v := range list {
		if !strings.HasPrefix(v, fmt.Sprintf("%02d", i)) {
			t.Fatalf("place %d holds %.4s…", i, v)
		}
	}
}

// TestJavaDuplicates is row 16.
func TestJavaDuplicates(t *testing.T) {
	t.Parallel()

	t.Run("java 16: after DUPLICATE_SEQUENCE the numbering goes on", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, fast(n.option())...)
		warm(t, p, "t", 0)
		// The first attempt is appended and its answer lost, the second is refused as
		// a duplicate.
		attempts := 0
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if attempts++; attempts != 2 {
				return nil, nil, false
			}
			return answer(pr.ProduceRequest, int16(protocol.DuplicateSequenceNumber), -1), nil, true
		})
		n.lose(1)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "a", "b")})
		if err != nil || r[0].BaseOffset != -1 || r[0].Messages[1].Status != troupe.Persisted {
			t.Fatalf("%+v %v", r, err)
		}
		for i, v := range []string{"c", "d"} {
			r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v)})
			if err != nil || r[0].BaseOffset != int64(3+i) {
				t.Fatalf("%+v %v", r, err)
			}
		}
		sends := w.of("t", 0)
		for i, want := range []int32{0, 1, 1, 3, 4} {
			if b := sends[i].batch; b.FirstSequence != want || b.ProducerEpoch != 0 {
				t.Errorf("attempt %d: sequence %d of epoch %d", i, b.FirstSequence, b.ProducerEpoch)
			}
		}
		expect(t, values(consumeAll(t, cluster, "t", 5)), []string{"warm", "a", "b", "c", "d"})
	})
}

// TestJavaAborted is row 13.
func TestJavaAborted(t *testing.T) {
	t.Parallel()

	t.Run("java 13: records of a batch that is given up never reach the log, and nothing is appended afterwards", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithMaxInFlight(1), troupe.WithLinger(0))
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		var sentOut, open outcomes
		must(t, p, to("t", 0, "sent"), sentOut.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
		for i := range 20 {
			must(t, p, to("t", 0, fmt.Sprint("open ", i)), open.add)
		}
		outOfTime(t, p)
		closedOutcomes(t, &open, 20, troupe.NotPersisted)
		if err := p.Produce(within(t, patience), to("t", 0, "late"), nil); !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
		release()
		warm(t, newProducer(t, cluster), "t", 0) // whatever was on its way has arrived before
		log := values(consumeAll(t, cluster, "t", int(cluster.PartitionInfo("t", 0).HighWatermark)))
		for _, v := range log {
			if v != "warm" && v != "sent" {
				t.Errorf("the log holds %v", log)
			}
		}
	})
}
