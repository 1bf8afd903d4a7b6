package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// TestWire is the wire proof: every codec with headers, null and empty keys,
// tombstones and explicit timestamps, on both Kafka lines, read back by
// franz-go's consumer and by Kafka's own tool.
func TestWire(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			for id := codecs.None; id <= codecs.Zstd; id++ {
				t.Run(id.String(), func(t *testing.T) { wireProof(t, cluster, version, id) })
			}
		})
	}
}

func wireProof(t *testing.T, cluster *kafkacluster.Cluster, version kafkacluster.Version, codec codecs.ID) {
	topic := fmt.Sprintf("wire-%s", codec)
	cluster.CreateTopic(topic, 1, 1, nil)
	p := newProducer(t, cluster, troupe.WithCompression(codec))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	at := time.UnixMilli(1_700_000_000_123)
	text := bytes.Repeat([]byte("the same words again and again, "), 64)
	messages := []troupe.Message{
		{Key: []byte("k"), Value: text, Headers: []troupe.Header{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "null"}}},
		{Key: nil, Value: text},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("tombstone"), Value: nil},
		{Value: text, Timestamp: at},
		{Value: text, Timestamp: at.Add(-time.Hour)},
	}
	for i := range 200 {
		messages = append(messages, troupe.Message{Key: fmt.Append(nil, i), Value: text})
	}
	results, err := p.Send(ctx, troupe.Send{Topic: topic, Messages: messages})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 || results[0].BaseOffset != 0 || len(results[0].Messages) != len(messages) {
		t.Fatalf("results: %+v", results)
	}
	got := cluster.ConsumeAll(topic, 20*time.Second)
	if len(got) != len(messages) {
		t.Fatalf("read %d records, sent %d", len(got), len(messages))
	}
	for i, r := range got {
		compare(t, i, &messages[i], r)
	}
	sequence := int32(0)
	batches := cluster.DumpLogSegments(topic, 0)
	if len(batches) == 0 {
		t.Fatal("Kafka's tool found no batch")
	}
	for _, b := range batches {
		if !b.Valid || b.Codec != codec.String() || b.ProducerID < 0 || b.ProducerEpoch != 0 || b.BaseSequence != sequence {
			t.Errorf("batch at %d: %+v, expected base sequence %d", b.BaseOffset, b, sequence)
		}
		sequence += int32(b.Count)
	}
	if int(sequence) != len(messages) {
		t.Errorf("batches hold %d records, sent %d", sequence, len(messages))
	}
}

func compare(t *testing.T, i int, sent *troupe.Message, got *kgo.Record) {
	t.Helper()
	if !bytes.Equal(sent.Key, got.Key) || (sent.Key == nil) != (got.Key == nil) {
		t.Errorf("record %d: key %q (nil %v), sent %q (nil %v)", i, got.Key, got.Key == nil, sent.Key, sent.Key == nil)
	}
	if !bytes.Equal(sent.Value, got.Value) || (sent.Value == nil) != (got.Value == nil) {
		t.Errorf("record %d: value of %d bytes, sent %d", i, len(got.Value), len(sent.Value))
	}
	if len(sent.Headers) != len(got.Headers) {
		t.Errorf("record %d: %d headers, sent %d", i, len(got.Headers), len(sent.Headers))
		return
	}
	for j, h := range sent.Headers {
		if g := got.Headers[j]; g.Key != h.Key || !bytes.Equal(g.Value, h.Value) || (g.Value == nil) != (h.Value == nil) {
			t.Errorf("record %d: header %d is %v, sent %v", i, j, g, h)
		}
	}
	if !sent.Timestamp.IsZero() && !sent.Timestamp.Equal(got.Timestamp) {
		t.Errorf("record %d: timestamp %v, sent %v", i, got.Timestamp, sent.Timestamp)
	}
	if got.Offset != int64(i) {
		t.Errorf("record %d stands at offset %d", i, got.Offset)
	}
}

// TestAcks sends with each acks value and reads back.
func TestAcks(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksLeader, troupe.AcksNone} {
				topic := "acks-" + acks.String()
				cluster.CreateTopic(topic, 2, 1, nil)
				p := newProducer(t, cluster)
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				// First with all replicas: a record that is sent without acknowledgement to
				// a partition that is not ready yet is lost, and nobody says so.
				for _, a := range []troupe.Acks{troupe.AcksAll, acks} {
					results, err := p.Send(ctx, troupe.Send{Topic: topic, Acks: a, Messages: []troupe.Message{
						{Value: []byte("a"), Partition: troupe.AtPartition(0)}, {Value: []byte("b"), Partition: troupe.AtPartition(1)},
					}})
					if err != nil || len(results) != 2 {
						t.Fatalf("acks %s: %v, %+v", a, err, results)
					}
				}
				cancel()
				deadline := time.Now().Add(10 * time.Second)
				for len(cluster.ConsumeAll(topic, 10*time.Second)) < 4 && time.Now().Before(deadline) {
					time.Sleep(50 * time.Millisecond) // acks 0 returns before the broker has read it
				}
				if n := len(cluster.ConsumeAll(topic, 10*time.Second)); n != 4 {
					t.Errorf("acks %s: read %d records", acks, n)
				}
			}
		})
	}
}
