package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// realCluster is one broker of Apache Kafka, for all runs; each has a topic of its
// own, which is deleted after it.
type realCluster struct {
	cluster *kafkacluster.Cluster
	client  *kgo.Client
	runs    atomic.Int64
}

// memoryFolder is a file system in memory on any Linux.
const memoryFolder = "/dev/shm"

func startReal(ctx context.Context) (*realCluster, error) {
	if err := kafkacluster.Available(); err != nil {
		return nil, err
	}
	c, err := kafkacluster.Launch(kafkacluster.Config{
		Dir: memoryFolder, Benchmark: true,
		Properties: map[string]string{
			// What a run wrote is to be gone before the next has filled the memory.
			"log.segment.delete.delay.ms": "100",
			"log.segment.bytes":           "268435456",
			"message.max.bytes":           "16777216", // for the tune rows' requests
			"socket.request.max.bytes":    "104857600",
		},
	})
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Seeds()...))
	if err != nil {
		c.Close()
		return nil, err
	}
	return &realCluster{cluster: c, client: client}, nil
}

func (c *realCluster) close() {
	c.client.Close()
	c.cluster.Close()
}

type realTarget struct {
	*realCluster
	name string
	ctx  context.Context
	gone bool
}

func (c *realCluster) prepare(ctx context.Context, r row, _ bool) (target, error) {
	name := fmt.Sprintf("bench-%d-%d", os.Getpid(), c.runs.Add(1))
	c.cluster.CreateTopic(name, r.partitions, 1, nil)
	return &realTarget{realCluster: c, name: name, ctx: ctx}, nil
}

func (t *realTarget) address() string { return t.cluster.Seeds()[0] }
func (t *realTarget) topic() string   { return t.name }

// totals counts what is in the log. The broker's processor time is not taken: the
// figure is the client's.
func (t *realTarget) totals() (totals figure.Totals, err error) {
	defer t.end()
	ends, err := kadm.NewClient(t.client).ListEndOffsets(t.ctx, t.name)
	if err != nil {
		return totals, err
	}
	if err := ends.Error(); err != nil {
		return totals, err
	}
	ends.Each(func(o kadm.ListedOffset) { totals.Records += o.Offset })
	return totals, nil
}

func (t *realTarget) end() {
	if t.gone {
		return
	}
	t.gone = true
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, _ = kadm.NewClient(t.client).DeleteTopic(ctx, t.name) // the folder goes in the end
}
