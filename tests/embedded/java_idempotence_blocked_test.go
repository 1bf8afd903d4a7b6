package embedded_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestBlockedPartition is java-kips.md 8.1: in Java a partition that waits for a
// retry, for its fate or for an id stops all partitions of its broker.
func TestBlockedPartition(t *testing.T) {
	t.Parallel()
	const others = 7
	// goOn sends to all other partitions, again and again, and waits for it.
	goOn := func(t *testing.T, p *troupe.Producer, name string) {
		t.Helper()
		for range 5 {
			var list []troupe.Message
			for partition := range int32(others) {
				list = append(list, msgs(1+partition, name)...)
			}
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: list}); err != nil {
				t.Fatal(err)
			}
		}
	}

	t.Run("blocked: a partition that is refused again and again stops no other of its broker", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1 + others})
		p := newProducer(t, cluster, oneEach()...)
		warm(t, p, "t", 0)
		fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{0}, Err: kerr.NotEnoughReplicas, Count: -1})
		var got outcomes
		want := wave(t, p, 0, "m", 10, got.add)
		goOn(t, p, "while partition 0 is refused")
		if got.count() > 0 {
			t.Fatal("partition 0 is not refused")
		}
		fault.Remove()
		persistedAll(t, got.wait(t, len(want)))
		expect(t, perPartition(consumeAll(t, cluster, "t", 1+len(want)+5*others))[0][1:], want)
	})

	t.Run("blocked: a partition that waits for a producer id stops no other that has numbers", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1 + others})
		w := watch(cluster)
		ids := identities{give: []messages.Identity{{ProducerID: 900, Epoch: math.MaxInt16}}}
		ids.attach(cluster)
		p := newProducer(t, cluster, oneEach()...)
		warm(t, p, "t", 0)
		goOn(t, p, "before")
		gate := make(chan struct{})
		ids.mu.Lock()
		ids.hold = gate
		ids.mu.Unlock()
		w.refuseOnce(0, "m-000", int16(protocol.OutOfOrderSequenceNumber), nil)
		var got outcomes
		want := wave(t, p, 0, "m", 10, got.add)
		eventually(t, "the request for an id", func() bool { return ids.count() == 2 })
		goOn(t, p, "while partition 0 waits")
		if got.count() > 0 {
			t.Fatal("partition 0 does not wait")
		}
		close(gate)
		persistedAll(t, got.wait(t, len(want)))
		expect(t, perPartition(consumeAll(t, cluster, "t", 1+len(want)+10*others))[0][1:], want)
		for partition := range int32(1 + others) {
			assertSequencesOf(t, w.of("t", partition))
		}
	})

	t.Run("blocked: a partition that was slow has a connection of its own, and hangs there alone", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1 + others})
		w := watch(cluster)
		p := newProducer(t, cluster, oneEach(troupe.WithSlowRequest(100*time.Millisecond))...)
		goOn(t, p, "before")
		once := w.hold(t, func(pr *produced) bool { return pr.has("t", 0) })
		var got outcomes
		must(t, p, to("t", 0, "slow"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		time.Sleep(200 * time.Millisecond)
		once()
		got.wait(t, 1)
		release := w.hold(t, func(pr *produced) bool { return pr.has("t", 0) })
		must(t, p, to("t", 0, "hangs"), got.add)
		eventually(t, "the request that hangs", func() bool { return len(w.of("t", 0)) == 2 })
		goOn(t, p, "while partition 0 hangs")
		if got.count() != 1 {
			t.Fatal("partition 0 does not hang")
		}
		release()
		persistedAll(t, got.wait(t, 2))
		if mixed := slices.ContainsFunc(w.all(), func(s sent) bool {
			return s.partition != 0 && s.request == w.of("t", 0)[1].request
		}); mixed {
			t.Error("the slow partition's request carries others")
		}
	})
}

// assertSequencesOf is assertSequences for a partition that changed its producer
// id: the numbers of each id by themselves.
func assertSequencesOf(t *testing.T, sends []sent) {
	t.Helper()
	byID := make(map[int64][]sent)
	for _, s := range sends {
		byID[s.batch.ProducerID] = append(byID[s.batch.ProducerID], s)
	}
	for _, list := range byID {
		assertSequences(t, list)
	}
}
