package embedded_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// spread counts a topic's records per partition.
func spread(w *wire, topic string, partitions int32) []int {
	counts := make([]int, partitions)
	for _, s := range w.all() {
		if s.topic == topic {
			counts[s.partition] += int(s.batch.NumRecords)
		}
	}
	return counts
}

// TestPartitioners checks through the whole producer what the partitioners'
// checklist says; the vectors themselves are tested where they are implemented.
func TestPartitioners(t *testing.T) {
	t.Parallel()

	t.Run("java 11: same key, same partition as Java's murmur2", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"n3": 3, "n4": 4, "n12": 12})
		p := newProducer(t, cluster)
		for key, want := range map[string][3]int32{"key1": {2, 0, 8}, "key2": {2, 3, 11}, "foobar": {0, 2, 6}, "1": {0, 3, 3}, "": {0, 1, 9}} {
			for i, topic := range []string{"n3", "n4", "n12"} {
				r, err := p.Send(within(t, patience), troupe.Send{Topic: topic, Messages: []troupe.Message{{Key: []byte(key), Value: []byte("v")}}})
				if err != nil {
					t.Fatal(err)
				}
				if r[0].Partition != want[i] {
					t.Errorf("key %q of %s went to %d, expected %d", key, topic, r[0].Partition, want[i])
				}
				if mine := (partitioners.Murmur2([]byte(key)) & 0x7fffffff) % []int32{3, 4, 12}[i]; r[0].Partition != mine {
					t.Errorf("key %q of %s went to %d, its hash says %d", key, topic, r[0].Partition, mine)
				}
			}
		}
	})

	t.Run("kafkajs: same key same partition", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 12})
		for name, f := range map[string]partitioners.Factory{
			"Default": partitioners.Default, "Legacy": partitioners.Legacy, "JavaCompatible": partitioners.JavaCompatible,
			"ConsistentCRC32": partitioners.ConsistentCRC32, "FNV1a": partitioners.FNV1a,
		} {
			p := newProducer(t, cluster, troupe.WithPartitioner(f), troupe.WithStickyBytes(1))
			used := make(map[int32]bool)
			for i := range 8 {
				at := int32(-1)
				for range 5 {
					r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: []troupe.Message{{Key: fmt.Append(nil, "key-", i), Value: []byte("v")}}})
					if err != nil {
						t.Fatal(err)
					}
					if at >= 0 && r[0].Partition != at {
						t.Errorf("%s: key-%d went to %d, and to %d before", name, i, r[0].Partition, at)
					}
					at = r[0].Partition
				}
				used[at] = true
			}
			if len(used) < 2 {
				t.Errorf("%s: all keys went to %v", name, used)
			}
		}
	})

	t.Run("kafkajs: round-robin 30 over 3 is 10 each, per topic", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 3, "u": 3})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithPartitioner(partitioners.RoundRobin))
		ctx := within(t, patience)
		for range 15 {
			for _, topic := range []string{"t", "t", "u"} {
				if _, err := p.Send(ctx, troupe.Send{Topic: topic, Messages: []troupe.Message{{Key: []byte("k"), Value: []byte("v")}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := spread(w, "t", 3); !slices.Equal(got, []int{10, 10, 10}) {
			t.Error(got)
		}
		if got := spread(w, "u", 3); !slices.Equal(got, []int{5, 5, 5}) {
			t.Error(got)
		}
	})

	t.Run("kafkajs: round-robin with an unavailable partition: an exact half for each of the others", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 3})
		w := watch(cluster)
		cluster.ControlKey(int16(kmsg.Metadata), clusterOnlyOf(cluster, "t", 3, func(p int32) int32 {
			if p == 1 {
				return -1
			}
			return 0
		}))
		p := newProducer(t, cluster, fast(troupe.WithPartitioner(partitioners.RoundRobin))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: make([]troupe.Message, 100)}); err != nil {
			t.Fatal(err)
		}
		if got := spread(w, "t", 3); !slices.Equal(got, []int{50, 0, 50}) {
			t.Error(got)
		}
	})

	t.Run("kafkajs: explicit 0 returned over key", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 12})
		for _, f := range []partitioners.Factory{partitioners.Default, partitioners.Legacy, partitioners.RoundRobin, partitioners.Sticky, partitioners.ConsistentCRC32, partitioners.FNV1a, partitioners.Manual} {
			p := newProducer(t, cluster, troupe.WithPartitioner(f))
			r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: []troupe.Message{{Key: []byte("key1"), Value: []byte("v"), Partition: troupe.AtPartition(0)}}})
			if err != nil || r[0].Partition != 0 {
				t.Error(r, err)
			}
		}
	})

	t.Run("java 11: a negative explicit partition is refused", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		if err := p.Produce(within(t, patience), to("t", -1, "v"), nil); !errors.Is(err, troupe.ErrInvalidRecord) {
			t.Error(err)
		}
	})
}

// TestSticky covers records without a key.
func TestSticky(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("v", 100)

	t.Run("java 10: unkeyed records stay on one partition until enough bytes went there", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 12})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithSeams(troupe.Seams{StickyShards: 1}), troupe.WithLinger(50*time.Millisecond))
		var got outcomes
		for range 200 {
			must(t, p, troupe.Record{Topic: "t", Value: []byte(value)}, got.add)
		}
		got.wait(t, 200)
		used := 0
		for _, n := range spread(w, "t", 12) {
			if n > 0 {
				used++
			}
		}
		if used != 1 {
			t.Errorf("20 kB went to %d partitions", used)
		}
	})

	t.Run("java 10: the choice moves at the edge of a batch, and uses every partition in time", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 4})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithStickyBytes(8<<10), troupe.WithBatchMaxBytes(4<<10))
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		// Goroutines that came once must not keep their partitions to themselves.
		for range 2 {
			done := make(chan error)
			go func() { done <- p.Produce(within(t, patience), troupe.Record{Topic: "t", Value: []byte(value)}, nil) }()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		var got outcomes
		const n = 20_000
		for range n {
			must(t, p, troupe.Record{Topic: "t", Value: []byte(value)}, got.add)
		}
		got.wait(t, n)
		counts := spread(w, "t", 4)
		for part, c := range counts {
			if c < n/4/4 {
				t.Errorf("partition %d got %d of %d records: %v", part, c, n, counts)
			}
		}
		single := 0
		for _, s := range w.all() {
			if s.batch.NumRecords < 5 {
				single++
			}
		}
		if single > len(w.all())/2 {
			t.Errorf("%d of %d batches hold less than 5 records: moving in the middle of batches", single, len(w.all()))
		}
	})

	t.Run("java 10: no partition gets more than twice what it should before the next", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 4})
		// What went to a partition is counted in buffers of 64 KiB. Batches end when
		// they are full, and for nothing else.
		const sticky, batch = 128 << 10, 64 << 10
		value := strings.Repeat("v", 1000)
		p := newProducer(t, cluster, troupe.WithSeams(troupe.Seams{StickyShards: 1}), troupe.WithStickyBytes(sticky), troupe.WithBatchMaxBytes(batch), troupe.WithLinger(long))
		warm(t, p, "t", 0)
		var got outcomes
		const n = 5000
		for i := range n {
			must(t, p, troupe.Record{Topic: "t", Value: []byte(value), Tag: uint64(i)}, got.add)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		at := make([]int32, n)
		for _, d := range got.wait(t, n) {
			at[d.Tag] = d.Partition
		}
		moves, once, run := 0, 0, 0
		for i := range at {
			run += len(value)
			if i+1 < n && at[i+1] == at[i] {
				continue
			}
			if i+1 < n {
				moves++
				// The draw may give the same partition again, a few times.
				if run < sticky/2 || run > 5*2*sticky {
					t.Errorf("%d bytes in a row went to partition %d", run, at[i])
				}
				if run <= 2*sticky {
					once++
				}
			}
			run = 0
		}
		if moves < 8 || once < moves/2 {
			t.Errorf("%d moves, %d of them within twice %d bytes", moves, once, sticky)
		}
	})

	t.Run("java 10: the choice prefers short queues: 5, 1 and 3 of 9 for queues of 0, 3 and 1", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 3})
		for part, node := range []int32{0, 1, 1} {
			if err := cluster.MoveTopicPartition("t", int32(part), node); err != nil {
				t.Fatal(err)
			}
		}
		w := watch(cluster)
		const rounds, n = 6, 400 // so few records that no queue grows by a step
		large := strings.Repeat("x", 8<<10)
		var share [3]float64
		for seed := range uint64(rounds) {
			// Every record without a key fills a batch, so that each is a chance to move.
			p := newProducer(t, cluster, troupe.WithSeams(troupe.Seams{StickyShards: 1, Randomness: seams.SeededRandomness(seed)}), troupe.WithStickyBytes(1),
				troupe.WithBatchMaxBytes(100), troupe.WithLinger(0), troupe.WithMaxInFlight(1), troupe.WithPaceBytes(0))
			for part := range int32(3) {
				warm(t, p, "t", part)
			}
			release := w.hold(t, onNode(1))
			// Queues that stand still, in the steps of 64 KiB in which they are compared.
			for part, n := range []int{0, 28, 11} {
				for range n {
					must(t, p, to("t", int32(part), large), nil)
				}
			}
			var got outcomes
			for range n {
				must(t, p, troupe.Record{Topic: "t", Value: []byte(value)}, got.add)
			}
			release()
			for _, d := range got.wait(t, n) {
				if d.Err != nil {
					t.Fatal(d.Err)
				}
				share[d.Partition] += 9.0 / n / rounds
			}
		}
		t.Logf("shares of 9: %.2f", share)
		for part, want := range []float64{5, 1, 3} {
			if math.Abs(share[part]-want) > 0.8 {
				t.Errorf("partition %d got %.2f of 9, expected about %.0f", part, share[part], want)
			}
		}
	})

	t.Run("java 10: unavailable partitions are skipped", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 4})
		w := watch(cluster)
		cluster.ControlKey(int16(kmsg.Metadata), clusterOnlyOf(cluster, "t", 4, func(p int32) int32 {
			if p%2 == 0 {
				return -1
			}
			return 0
		}))
		p := newProducer(t, cluster, fast(troupe.WithStickyBytes(1), troupe.WithBatchMaxBytes(500))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(1, "warm")}); err != nil {
			t.Fatal(err)
		}
		var got outcomes
		for range 1000 {
			must(t, p, troupe.Record{Topic: "t", Value: []byte(value)}, got.add)
		}
		got.wait(t, 1000)
		if c := spread(w, "t", 4); c[0]+c[2] != 0 || c[1] == 0 || c[3] == 0 {
			t.Error(c)
		}
	})

	t.Run("java 10: records of several goroutines all arrive, whoever moves", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 7})
		p := newProducer(t, cluster, troupe.WithStickyBytes(4<<10), troupe.WithBatchMaxBytes(2<<10))
		var got outcomes
		done := make(chan error, 8)
		for g := range 8 {
			go func() {
				for i := range 1000 {
					if err := p.Produce(within(t, patience), troupe.Record{Topic: "t", Value: []byte(fmt.Sprintf("%d/%d", g, i))}, got.add); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		got.wait(t, 8000)
		seen := make(map[string]bool)
		for _, v := range values(consumeAll(t, cluster, "t", 8000)) {
			if seen[v] {
				t.Fatalf("%s stands twice", v)
			}
			seen[v] = true
		}
	})
}
