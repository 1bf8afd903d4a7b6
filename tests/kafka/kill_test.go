package kafka_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// TestKillOneOfThree kills a broker with SIGKILL while 200,000 keyed records are
// produced: every acknowledged record is read back once, at the offset it was
// answered with, and each partition holds its records in the order of admission.
func TestKillOneOfThree(t *testing.T) {
	cluster := kafkacluster.Shared(t, kafkacluster.Config{Brokers: 3})
	const topic, partitions, total = "kill", 12, 200_000
	cluster.CreateTopic(topic, partitions, 3, map[string]string{"min.insync.replicas": "2"})
	p := newProducer(t, cluster)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	type place struct {
		partition int32
		offset    int64
	}
	var mu sync.Mutex
	acked := make(map[uint64]place, total)
	failed := 0
	callback := func(d troupe.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		if d.Err != nil {
			failed++
			t.Errorf("record %d: %v", d.Tag, d.Err)
			return
		}
		if _, twice := acked[d.Tag]; twice {
			t.Errorf("record %d answered twice", d.Tag)
		}
		acked[d.Tag] = place{d.Partition, d.Offset}
	}
	victim := cluster.LeaderOf(topic, 0)
	started := time.Now()
	for i := range total {
		if i == total/4 {
			cluster.Kill(victim)
			t.Logf("killed broker %d after %d records", victim, i)
		}
		if i%100 == 0 && i > total/4 {
			time.Sleep(2 * time.Millisecond) // about 40,000 records/s: the outage lasts longer than the burst otherwise
		}
		err := p.Produce(ctx, troupe.Record{Topic: topic, Key: fmt.Append(nil, "key-", i%1000), Value: strconv.AppendInt(nil, int64(i), 10), Tag: uint64(i)}, callback)
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("flush: %v; %d unanswered", err, p.Unanswered())
	}
	t.Logf("%d acknowledged, %d failed in %v", len(acked), failed, time.Since(started))
	if len(acked) != total {
		t.Errorf("%d of %d acknowledged", len(acked), total)
	}
	seen := make(map[uint64]int, total)
	last := make(map[int32]int64)
	for _, r := range cluster.ConsumeAll(topic, time.Minute) {
		n, err := strconv.ParseUint(string(r.Value), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seen[n]++
		if before, ok := last[r.Partition]; ok && before >= int64(n) {
			t.Errorf("partition %d: record %d stands after %d", r.Partition, n, before)
		}
		last[r.Partition] = int64(n)
		if a, ok := acked[n]; ok && (a.partition != r.Partition || (a.offset >= 0 && a.offset != r.Offset)) {
			t.Errorf("record %d stands at %d/%d, was answered %d/%d", n, r.Partition, r.Offset, a.partition, a.offset)
		}
	}
	for n := range acked {
		if seen[n] != 1 {
			t.Errorf("record %d was acknowledged and is read %d times", n, seen[n])
		}
	}
}
