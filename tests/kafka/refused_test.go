package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// gathered collects outcomes by tag, in the order in which they came.
type gathered struct {
	mu   sync.Mutex
	list []troupe.Delivery
}

func (g *gathered) add(d troupe.Delivery) {
	g.mu.Lock()
	g.list = append(g.list, d)
	g.mu.Unlock()
}

// noise is text that no codec makes much smaller.
func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// TestSplit: batches above the topic's max.message.bytes arrive all the same, in
// order, each record once and under a number of its own; a record that is too
// large by itself fails alone.
func TestSplit(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			for id := codecs.None; id <= codecs.Zstd; id++ {
				t.Run(id.String(), func(t *testing.T) { splitProof(t, cluster, id) })
			}
		})
	}
}

func splitProof(t *testing.T, cluster *kafkacluster.Cluster, codec codecs.ID) {
	const records, tooLarge = 400, 250
	topic := "split-" + codec.String()
	cluster.CreateTopic(topic, 1, 1, map[string]string{"max.message.bytes": "5000"})
	p := newProducer(t, cluster, troupe.WithCompression(codec), troupe.WithLinger(time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	random := rand.New(rand.NewPCG(1, uint64(codec)))
	var got gathered
	var want [][]byte
	for i := range records {
		size := 300
		if i == tooLarge {
			size = 8000
		}
		value := noise(random, size)
		if i != tooLarge {
			want = append(want, value)
		}
		r := troupe.Record{Topic: topic, Value: value, Tag: uint64(i), Headers: []troupe.Header{{Key: "i", Value: fmt.Append(nil, i)}}}
		if err := p.Produce(ctx, r, got.add); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if len(got.list) != records {
		t.Fatalf("%d outcomes of %d", len(got.list), records)
	}
	for _, d := range got.list {
		switch i := int64(d.Tag); {
		case i == tooLarge:
			if !errors.Is(d.Err, protocol.MessageTooLarge) || d.Status != troupe.NotPersisted {
				t.Errorf("record %d: %v", i, d.Err)
			}
		case i < tooLarge && d.Offset != i, i > tooLarge && d.Offset != i-1, d.Err != nil:
			t.Fatalf("record %d: offset %d, %v", i, d.Offset, d.Err)
		}
	}
	read := cluster.ConsumeAll(topic, 20*time.Second)
	if len(read) != len(want) {
		t.Fatalf("read %d records, expected %d", len(read), len(want))
	}
	for i, r := range read {
		if string(r.Value) != string(want[i]) || len(r.Headers) != 1 {
			t.Fatalf("record at offset %d is another", i)
		}
	}
	for _, b := range cluster.DumpLogSegments(topic, 0) {
		if !b.Valid || b.ProducerID < 0 {
			t.Errorf("batch at %d: %+v", b.BaseOffset, b)
		}
	}
}

// TestRecordErrors: a compacted topic takes no record without a key. The broker
// names the record, which gets its word; the others fail because of it, or go out
// again when the producer was told so.
func TestRecordErrors(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			for _, resend := range []bool{false, true} {
				t.Run(fmt.Sprintf("resend %v", resend), func(t *testing.T) { recordErrors(t, cluster, resend) })
			}
		})
	}
}

func recordErrors(t *testing.T, cluster *kafkacluster.Cluster, resend bool) {
	topic := fmt.Sprintf("compacted-%v", resend)
	cluster.CreateTopic(topic, 1, 1, map[string]string{"cleanup.policy": "compact"})
	p := newProducer(t, cluster, troupe.WithLinger(time.Minute), troupe.WithResendInnocent(resend))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var got gathered
	produce := func(from, to int, keyless ...int) {
		for i := from; i < to; i++ {
			r := troupe.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Append(nil, i), Tag: uint64(i)}
			for _, k := range keyless {
				if k == i {
					r.Key = nil
				}
			}
			if err := p.Produce(ctx, r, got.add); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	produce(0, 10)
	produce(10, 20, 13, 17)
	produce(20, 30)
	if len(got.list) != 30 {
		t.Fatalf("%d outcomes of 30", len(got.list))
	}
	var want []string
	for i := range 30 {
		if i < 10 || i >= 20 || (resend && i != 13 && i != 17) {
			want = append(want, fmt.Sprint(i))
		}
	}
	for _, d := range got.list {
		blamed := d.Tag == 13 || d.Tag == 17
		refused := d.Tag >= 10 && d.Tag < 20 && !resend
		switch {
		case blamed:
			if !errors.Is(d.Err, protocol.InvalidRecord) || errors.Is(d.Err, troupe.ErrRefusedWithBatch) || d.Status != troupe.NotPersisted {
				t.Errorf("record %d: %v", d.Tag, d.Err)
			}
		case refused:
			if !errors.Is(d.Err, troupe.ErrRefusedWithBatch) || !errors.Is(d.Err, protocol.InvalidRecord) || d.Status != troupe.NotPersisted {
				t.Errorf("record %d: %v", d.Tag, d.Err)
			}
		case d.Err != nil:
			t.Errorf("record %d: %v", d.Tag, d.Err)
		}
	}
	var read []string
	for _, r := range cluster.ConsumeAll(topic, 20*time.Second) {
		read = append(read, string(r.Value))
	}
	if fmt.Sprint(read) != fmt.Sprint(want) {
		t.Errorf("read %v\nwant %v", read, want)
	}
}
