package embedded_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
)

// TestRecreatedTopicGetsTheRecordsThatNeverLeft deletes and creates a topic
// while records linger in open batches: none was handed to a broker, so all of
// them go to the new topic, to the partition chosen for them, in order, and a
// Flush that began before waits for them.
func TestRecreatedTopicGetsTheRecordsThatNeverLeft(t *testing.T) {
	cluster := startCluster(t, 1, map[string]int32{"phoenix": 3})
	p := newProducer(t, cluster, troupe.WithLinger(20*time.Second), troupe.WithMetadataMaxAge(50*time.Millisecond), troupe.WithMetadataMinAge(10*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := p.Send(ctx, troupe.Send{Topic: "phoenix", Messages: []troupe.Message{{Value: []byte("old"), Partition: troupe.AtPartition(1)}}}); err != nil {
		t.Fatal(err)
	}
	var acked, failed atomic.Int32
	const n = 300
	for i := range n {
		err := p.Produce(ctx, troupe.Record{Topic: "phoenix", Value: fmt.Append(nil, i), Partition: troupe.AtPartition(int32(i % 3)), Tag: uint64(i)}, func(d troupe.Delivery) {
			if d.Err != nil {
				failed.Add(1)
				t.Errorf("record %d: %v", d.Tag, d.Err)
				return
			}
			acked.Add(1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.DeleteTopics(ctx, "phoenix"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopics(ctx, 3, 1, nil, "phoenix"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // a few metadata ages
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("flush: %v; %d unanswered", err, p.Unanswered())
	}
	if acked.Load() != n || failed.Load() != 0 {
		t.Fatalf("%d acknowledged, %d failed", acked.Load(), failed.Load())
	}
	last := map[int32]int{0: -1, 1: -1, 2: -1}
	for _, r := range consumeAll(t, cluster, "phoenix", n) {
		var v int
		_, _ = fmt.Sscan(string(r.Value), &v)
		if int32(v%3) != r.Partition || v <= last[r.Partition] {
			t.Errorf("record %d stands in partition %d after %d", v, r.Partition, last[r.Partition])
		}
		last[r.Partition] = v
	}
}
