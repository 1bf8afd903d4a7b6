package embedded_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
)

func TestProduceReadsBackOnceAndInOrder(t *testing.T) {
	cluster := startCluster(t, 3, map[string]int32{"orders": 6})
	p := newProducer(t, cluster)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const n = 50_000
	var acked atomic.Int64
	for i := range n {
		err := p.Produce(ctx, troupe.Record{Topic: "orders", Key: []byte(fmt.Sprint(i % 97)), Value: []byte(fmt.Sprint(i))}, func(d troupe.Delivery) {
			if d.Err != nil {
				t.Errorf("record %d: %v", i, d.Err)
			}
			acked.Add(1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("flush: %v, unanswered %d", err, p.Unanswered())
	}
	if acked.Load() != n {
		t.Fatalf("%d of %d acknowledged", acked.Load(), n)
	}
	records := consumeAll(t, cluster, "orders", n)
	last := make(map[string]int)
	for _, r := range records {
		var v int
		_, _ = fmt.Sscan(string(r.Value), &v)
		if before, ok := last[string(r.Key)]; ok && before >= v {
			t.Fatalf("key %s: %d stands after %d", r.Key, v, before)
		}
		last[string(r.Key)] = v
	}
}
