package embedded_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// disturbance makes the call-th send of a test fail once in some way.
type disturbance struct {
	name    string
	arrange func(cluster *kfake.Cluster, w *wire, n *network)
}

var disturbances = []disturbance{
	{"no error", func(*kfake.Cluster, *wire, *network) {}},
	{"a retriable error", func(_ *kfake.Cluster, w *wire, _ *network) { w.answerNext(1, "t", 0, notLeader) }},
	{"a retriable error after the write", func(c *kfake.Cluster, _ *wire, _ *network) {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Err: kerr.RequestTimedOut})
	}},
	{"a lost answer after the write", func(_ *kfake.Cluster, _ *wire, n *network) { n.lose(1) }},
	{"two lost answers after the write", func(_ *kfake.Cluster, _ *wire, n *network) { n.lose(2) }},
}

// TestKafkaJSIdempotentProduceMessages is the checklist of
// idempotentProduceMessages.spec.js. KafkaJS compares sets of buffers, which are
// always distinct; these compare contents.
func TestKafkaJSIdempotentProduceMessages(t *testing.T) {
	t.Parallel()
	want := []string{"m0", "m1", "m2", "m3"}
	for _, d := range disturbances {
		for call := range 2 {
			t.Run(fmt.Sprintf("kafkajs: idempotent sequential: %s on call %d: once, in order", d.name, call+1), func(t *testing.T) {
				t.Parallel()
				cluster := startCluster(t, 1, map[string]int32{"t": 1})
				w, n := watch(cluster), newNetwork()
				p := newProducer(t, cluster, fast(n.option())...)
				for i, v := range want {
					if i == call {
						d.arrange(cluster, w, n)
					}
					r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v)})
					if err != nil {
						t.Fatal(err)
					}
					if r[0].BaseOffset != int64(i) {
						t.Errorf("%s is said to be at offset %d", v, r[0].BaseOffset)
					}
				}
				expect(t, values(consumeAll(t, cluster, "t", 4)), want)
			})
			t.Run(fmt.Sprintf("kafkajs: idempotent concurrent: %s, %d sent before: once", d.name, call), func(t *testing.T) {
				t.Parallel()
				cluster := startCluster(t, 1, map[string]int32{"t": 1})
				w, n := watch(cluster), newNetwork()
				p := newProducer(t, cluster, fast(n.option())...)
				send := func(v string) {
					if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
						t.Error(err)
					}
				}
				for _, v := range want[:call] {
					send(v)
				}
				d.arrange(cluster, w, n)
				var wait sync.WaitGroup
				for _, v := range want[call:] {
					wait.Go(func() { send(v) })
				}
				wait.Wait()
				expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 4))), want)
			})
		}
	}
}

// TestIdempotencePipelined loses answers while batches are in flight behind the
// lost one: all of them have to be recognised, in order.
func TestIdempotencePipelined(t *testing.T) {
	t.Parallel()
	for _, d := range disturbances {
		t.Run("kafkajs fault 4.6: no sequence is rolled back: "+d.name+" among many in flight", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, fast(n.option(), troupe.WithLinger(0), troupe.WithBatchMaxBytes(200))...)
			var got outcomes
			var want []string
			for i := range 400 {
				if i == 100 {
					d.arrange(cluster, w, n)
				}
				want = append(want, fmt.Sprintf("message-%03d", i))
				r := to("t", 0, want[i])
				r.Tag = uint64(i)
				must(t, p, r, got.add)
			}
			for _, o := range got.wait(t, len(want)) {
				if o.Err != nil || o.Offset != int64(o.Tag) {
					t.Fatalf("record %d: offset %d, %v", o.Tag, o.Offset, o.Err)
				}
			}
			expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
			assertSequences(t, w.of("t", 0))
		})
	}
}

// assertSequences checks that a sequence number never names another record: a
// batch that is sent again is the same, and what is new follows the last new one.
func assertSequences(t *testing.T, sends []sent) {
	t.Helper()
	type key struct {
		epoch    int16
		sequence int32
	}
	known := make(map[key][]string)
	next := make(map[int16]int32)
	for _, s := range sends {
		k := key{s.batch.ProducerEpoch, s.batch.FirstSequence}
		if before, again := known[k]; again {
			if !slices.Equal(before, s.values) {
				t.Fatalf("sequence %d of epoch %d named %v and names %v", k.sequence, k.epoch, before, s.values)
			}
			continue
		}
		if k.sequence != next[k.epoch] {
			t.Fatalf("epoch %d goes on at sequence %d, expected %d", k.epoch, k.sequence, next[k.epoch])
		}
		known[k] = s.values
		next[k.epoch] += s.batch.NumRecords
	}
}
