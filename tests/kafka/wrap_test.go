package kafka_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// TestSequenceWrapOnKafka is museum 7 (franz-go #216) on Kafka itself: it takes the
// numbers on both sides of 2^31, also within one batch, under one epoch. A test
// cannot send 2^31 records, so the ledger says that this was done; a broker takes
// any number from a producer that it does not know.
func TestSequenceWrapOnKafka(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			const topic = "wrap"
			cluster.CreateTopic(topic, 1, 1, nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Seeds()...))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			details, err := kadm.NewClient(client).ListTopics(ctx, topic)
			if err != nil {
				t.Fatal(err)
			}
			p := newProducer(t, cluster)
			const start = math.MaxInt32 - 24
			ledger := reflect.ValueOf(p).Elem().FieldByName("config").Elem().FieldByName("Sequences") // has no public door
			(*(*messages.Sequences)(unsafe.Pointer(ledger.UnsafeAddr()))).Keep(topic, [16]byte(details[topic].ID), 0, messages.LastSequence{
				Identity: messages.Identity{ProducerID: 1 << 40, Generation: 1}, Next: start,
			})
			const n, perSend = 100, 10
			for i := 0; i < n; i += perSend {
				var list []troupe.Message
				for j := range perSend {
					list = append(list, troupe.Message{Value: fmt.Append(nil, i+j)})
				}
				r, err := p.Send(ctx, troupe.Send{Topic: topic, Messages: list})
				if err != nil {
					t.Fatal(err)
				}
				if r[0].BaseOffset != int64(i) {
					t.Errorf("records from %d on stand at %d", i, r[0].BaseOffset)
				}
			}
			for i, r := range cluster.ConsumeAll(topic, 20*time.Second) {
				if string(r.Value) != fmt.Sprint(i) {
					t.Fatalf("offset %d holds %s", i, r.Value)
				}
			}
			next, across := int64(start), false
			for _, b := range cluster.DumpLogSegments(topic, 0) {
				if b.ProducerID != 1<<40 || b.ProducerEpoch != 0 || int64(b.BaseSequence) != next {
					t.Errorf("batch at %d: %+v, expected sequence %d", b.BaseOffset, b, next)
				}
				across = across || next+int64(b.Count) > math.MaxInt32+1
				next = (next + int64(b.Count)) & math.MaxInt32
			}
			if next != n-25 || !across {
				t.Errorf("the next number is %d; a batch across the wrap: %v", next, across)
			}
		})
	}
}
