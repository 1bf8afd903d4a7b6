// Package embedded_test runs the whole producer against kfake, a Kafka cluster
// in the process that was written by others, and reads back with franz-go's
// consumer.
package embedded_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
)

// startCluster starts kfake with topics and their numbers of partitions.
func startCluster(t testing.TB, brokers int, topics map[string]int32, more ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(brokers)}
	for topic, partitions := range topics {
		opts = append(opts, kfake.SeedTopics(partitions, topic))
	}
	cluster, err := kfake.NewCluster(append(opts, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func newProducer(t testing.TB, cluster *kfake.Cluster, options ...troupe.Option) *troupe.Producer {
	t.Helper()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	p, err := troupe.New(append([]troupe.Option{troupe.WithBrokers(cluster.ListenAddrs()...), troupe.WithLogger(log)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}

// consumeAll reads n records of a topic, in order within each partition.
func consumeAll(t testing.TB, cluster *kfake.Cluster, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %d of %d: %v", len(records), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { records = append(records, r) })
	}
	short, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	client.PollFetches(short).EachRecord(func(r *kgo.Record) { records = append(records, r) })
	if len(records) != n {
		t.Fatalf("read %d records, expected %d", len(records), n)
	}
	return records
}
