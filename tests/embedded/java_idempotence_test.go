package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// padded is a value that fills a batch of 100 bytes by itself.
func padded(name string) string { return name + strings.Repeat(".", 70-len(name)) }

// oneEach makes each record a batch of its own, sent at once.
func oneEach(more ...troupe.Option) []troupe.Option {
	return fast(append([]troupe.Option{troupe.WithLinger(0), troupe.WithBatchMaxBytes(100)}, more...)...)
}

// wave produces n records, each a batch, and returns their values.
func wave(t testing.TB, p *troupe.Producer, partition int32, name string, n int, callback troupe.Callback) []string {
	t.Helper()
	var list []string
	for i := range n {
		list = append(list, padded(fmt.Sprintf("%s-%03d", name, i)))
		r := to("t", partition, list[i])
		r.Tag = uint64(i)
		must(t, p, r, callback)
	}
	return list
}

// persistedAll fails unless all outcomes are successes.
func persistedAll(t testing.TB, list []troupe.Delivery) {
	t.Helper()
	for _, d := range list {
		if d.Err != nil {
			t.Fatalf("record %d: %v", d.Tag, d.Err)
		}
	}
}

// refuseOnce answers the first request with a record of the name with a code; of
// those behind it the cluster makes what it will.
func (w *wire) refuseOnce(partition int32, name string, code int16, edit func(*kmsg.ProduceResponseTopicPartition)) (done func() bool) {
	var did atomic.Bool
	w.add(func(p *produced) (kmsg.Response, error, bool) {
		has := slices.ContainsFunc(p.batches, func(s sent) bool {
			return s.partition == partition && slices.ContainsFunc(s.values, func(v string) bool { return strings.HasPrefix(v, name) })
		})
		if !has || !did.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		r := answer(p.ProduceRequest, code, -1)
		if edit != nil {
			edit(&r.Topics[0].Partitions[0])
		}
		return r, nil, true
	})
	return did.Load
}

// epochsOf are the epochs under which a value went out, in order of the attempts.
func epochsOf(sends []sent, value string) []int16 {
	var list []int16
	for _, s := range sends {
		if slices.Contains(s.values, value) {
			list = append(list, s.batch.ProducerEpoch)
		}
	}
	return list
}

// TestJavaRetriesInOrder is rows 14 and 17 of Java's checklist with batches in
// flight behind the one that fails: the cluster itself refuses them.
func TestJavaRetriesInOrder(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		code protocol.ErrorCode
	}{{"NOT_LEADER", protocol.NotLeaderOrFollower}, {"LEADER_NOT_AVAILABLE", protocol.LeaderNotAvailable}, {"CORRUPT_MESSAGE", protocol.CorruptMessage}} {
		t.Run("java 14: the first of five in flight fails with "+c.name+": all are sent again in order", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, oneEach()...)
			warm(t, p, "t", 0)
			release := w.hold(t, anyRequest)
			w.refuseOnce(0, "m-001", int16(c.code), nil)
			var got outcomes
			want := wave(t, p, 0, "m", 40, got.add)
			eventually(t, "a request", func() bool { return len(w.of("t", 0)) > 1 })
			time.Sleep(20 * time.Millisecond) // the others are written behind it
			release()
			list := got.wait(t, len(want))
			persistedAll(t, list)
			for i, d := range list {
				if d.Tag != uint64(i) || d.Offset != int64(i+1) {
					t.Fatalf("outcome %d is record %d at offset %d", i, d.Tag, d.Offset)
				}
			}
			expect(t, values(consumeAll(t, cluster, "t", len(want)+1))[1:], want)
			sends := w.of("t", 0)
			assertSequences(t, sends)
			if sends[len(sends)-1].batch.ProducerEpoch != 0 {
				t.Error("a retriable error cost an epoch")
			}
			if again := len(sends) - len(want) - 1; again < 2 {
				t.Errorf("%d batches were sent again: nothing was in flight behind the first", again)
			}
		})
	}

	t.Run("java 17: the first of five in flight fails for good: the others follow under the next epoch, once, in order", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, oneEach()...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		w.refuseOnce(0, "m-001", int16(protocol.PolicyViolation), nil)
		var got outcomes
		want := wave(t, p, 0, "m", 20, got.add)
		eventually(t, "a request", func() bool { return len(w.of("t", 0)) > 1 })
		time.Sleep(20 * time.Millisecond)
		release()
		for _, d := range got.wait(t, len(want)) {
			if (d.Err != nil) != (d.Tag == 1) {
				t.Errorf("record %d: %v", d.Tag, d.Err)
			}
			if d.Tag == 1 && (!errors.Is(d.Err, protocol.PolicyViolation) || d.Status != troupe.NotPersisted) {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
		}
		expect(t, values(consumeAll(t, cluster, "t", len(want)))[1:], slices.Delete(slices.Clone(want), 1, 2))
		assertSequences(t, w.of("t", 0))
		if e := epochsOf(w.of("t", 0), want[2]); e[len(e)-1] != 1 {
			t.Errorf("the next went out under the epochs %v", e)
		}
	})
}

// late is a network on which a node's answers are delivered only when told.
type late struct {
	node string // its address
	gate chan struct{}
	once sync.Once
	held atomic.Int64
}

type lateConn struct {
	*tapped
	late *late
}

func (l *late) open() { l.once.Do(func() { close(l.gate) }) }

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.tapped.Read(b)
	if c.produces.Load() {
		c.late.held.Add(1)
		<-c.late.gate
	}
	return n, err
}

// TestJavaAnswersOutOfOrder is row 15: the answers of the old leader come after
// those of the new one.
func TestJavaAnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		appended, during bool
	}{
		{"that appended come after the new one's", true, false}, {"that refuses come after the new one's", false, false},
		{"that appended come before the new one's", true, true}, {"that refuses come before the new one's", false, true},
	} {
		t.Run("java 15: the answers of an old leader "+c.name+": matched right, once, in order", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 2, map[string]int32{"t": 1})
			place(t, cluster, "t", 1, 1)
			w := watch(cluster)
			old := &late{node: cluster.ListenAddrs()[0], gate: make(chan struct{})}
			t.Cleanup(old.open)
			n := newNetwork()
			dial := func(ctx context.Context, kind, address string) (net.Conn, error) {
				conn, err := n.dial(ctx, kind, address)
				if err == nil && address == old.node {
					return &lateConn{conn.(*tapped), old}, nil
				}
				return conn, err
			}
			p := newProducer(t, cluster, oneEach(troupe.WithDialer(dial), troupe.WithMetadataMaxAge(20*time.Millisecond))...)
			if !c.appended {
				w.add(func(pr *produced) (kmsg.Response, error, bool) {
					return answer(pr.ProduceRequest, notLeader, -1), nil, pr.node == 0
				})
			}
			var got outcomes
			want := wave(t, p, 0, "m", 10, got.add)
			eventually(t, "an answer of the old leader", func() bool { return old.held.Load() > 0 })
			release := func() {}
			if c.during {
				release = w.hold(t, onNode(1))
			}
			if err := cluster.MoveTopicPartition("t", 0, 1); err != nil {
				t.Fatal(err)
			}
			if c.during {
				// The new leader has the first and thinks about it.
				eventually(t, "a request to the new leader", func() bool { return slices.Contains(nodes(w.of("t", 0)), 1) })
				old.open()
				time.Sleep(30 * time.Millisecond)
				if n := got.count(); n > 0 {
					t.Errorf("%d outcomes while the new leader thinks", n)
				}
				release()
			}
			persistedAll(t, got.wait(t, len(want)))
			old.open()
			more := wave(t, p, 0, "n", 10, got.add)
			list := got.wait(t, 20)
			persistedAll(t, list)
			for i, d := range list {
				if d.Offset != int64(i) || d.Tag != uint64(i%10) {
					t.Errorf("outcome %d is record %d at offset %d", i, d.Tag, d.Offset)
				}
			}
			want = append(want, more...)
			expect(t, values(consumeAll(t, cluster, "t", 20)), want)
			assertSequences(t, w.of("t", 0))
			var atNew []string
			for _, s := range w.of("t", 0) {
				if s.node == 1 {
					atNew = append(atNew, s.values...)
				}
			}
			expect(t, atNew, want)
			if got.count() != 20 {
				t.Errorf("%d outcomes", got.count())
			}
		})
	}
}

// TestJavaLateAnswers is row 19: what the broker says of a batch that expired.
func TestJavaLateAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		code protocol.ErrorCode
	}{{"a success", 0}, {"a retriable error", protocol.NotLeaderOrFollower}, {"MESSAGE_TOO_LARGE", protocol.MessageTooLarge}, {"OUT_OF_ORDER", protocol.OutOfOrderSequenceNumber}, {"an error for good", protocol.InvalidRecord}} {
		t.Run("java 19: "+c.name+" for an expired batch of several records completes nothing twice, and is not sent again", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, fast(troupe.WithLinger(long), troupe.WithDeliveryTimeout(long+time.Minute), troupe.WithRequestTimeout(20*time.Second))...)
			warm(t, p, "t", 0)
			release := w.hold(t, anyRequest)
			if c.code != 0 {
				w.refuseOnce(0, "late", int16(c.code), nil)
			}
			ctx, cancel := contextWithCancel(t)
			var got outcomes
			for i := range 4 {
				mustContext(ctx, t, p, to("t", 0, fmt.Sprintf("late-%d", i)), got.add)
			}
			flushed := make(chan error, 1)
			go func() { flushed <- p.Flush(within(t, patience)) }()
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
			cancel()
			for _, d := range got.wait(t, 4) {
				if d.Status != troupe.PossiblyPersisted || d.Attempts != 1 {
					t.Errorf("%v after %d attempts: %v", d.Status, d.Attempts, d.Err)
				}
			}
			release()
			if err := <-flushed; err != nil {
				t.Error(err)
			}
			warm(t, p, "t", 0)
			warm(t, p, "t", 0)
			want, epoch := []string{"warm", "warm", "warm"}, int16(1)
			if c.code == 0 {
				// It is in the log, and its numbers are used.
				want, epoch = []string{"warm", "late-0", "late-1", "late-2", "late-3", "warm", "warm"}, 0
			}
			expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
			sends := w.of("t", 0)
			assertSequences(t, sends)
			if n := len(epochsOf(sends, "late-0")); n != 1 || sends[len(sends)-1].batch.ProducerEpoch != epoch {
				t.Errorf("%d attempts of the expired batch, the last batch under epoch %d", n, sends[len(sends)-1].batch.ProducerEpoch)
			}
			if got.count() != 4 {
				t.Errorf("%d outcomes of 4 records", got.count())
			}
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		})
	}
}

// TestJavaUnresolved is row 20: a batch that was sent and expires leaves its fate
// open, for the batches behind it.
func TestJavaUnresolved(t *testing.T) {
	t.Parallel()

	for _, lost := range []bool{false, true} {
		name := "those behind it follow under a new epoch"
		if lost {
			name = "those that are lost with it are in doubt, too, and later ones follow under a new epoch"
		}
		t.Run("java 20: a batch that expired never arrived: "+name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, oneEach(n.option())...)
			warm(t, p, "t", 0)
			release := w.hold(t, anyRequest)
			w.refuseOnce(0, "gone", notLeader, nil) // what is held is not carried out
			ctx, cancel := contextWithCancel(t)
			var gone, behind outcomes
			mustContext(ctx, t, p, to("t", 0, padded("gone")), gone.add)
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
			want := wave(t, p, 0, "m", 10, behind.add)
			time.Sleep(20 * time.Millisecond) // some are written behind it
			cancel()
			if d := gone.wait(t, 1)[0]; d.Status != troupe.PossiblyPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
			if lost {
				n.setDown(true)
				n.setDown(false)
			}
			release()
			kept := make([]string, 0, len(want))
			for _, d := range behind.wait(t, len(want)) {
				switch {
				case d.Err == nil:
					kept = append(kept, want[d.Tag])
				case !lost || d.Tag > 4 || d.Status != troupe.PossiblyPersisted || !errors.Is(d.Err, protocol.OutOfOrderSequenceNumber):
					// Five in flight at the most: the first and four behind it.
					t.Errorf("record %d: %v", d.Tag, d.Err)
				}
			}
			expect(t, values(consumeAll(t, cluster, "t", len(kept)+1))[1:], kept)
			sends := w.of("t", 0)
			assertSequences(t, sends)
			// Requests of the lost connection may be read after all others.
			if e := epochsOf(sends, want[len(want)-1]); e[len(e)-1] < 1 {
				t.Errorf("the last went out under the epochs %v", e)
			}
		})
	}
}
