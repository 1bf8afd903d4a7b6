//go:build peers && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// confluent is confluent-kafka-go: librdkafka by cgo, with one goroutine that
// reads the delivery reports from Events. Its C threads count in the CPU time,
// its C heap only in the resident memory, and its C locks not at all.
type confluent struct {
	producer   *kafka.Producer
	topic      string
	stamped    bool
	onePart    bool
	tally      *tally
	sent       atomic.Int64
	drained    chan struct{}
	configured []string
}

func newConfluent(_ context.Context, s Settings, t *tally) (client, error) {
	properties := map[string]string{
		"bootstrap.servers":         s.Address,
		"acks":                      s.Acks,
		"enable.idempotence":        fmt.Sprint(s.Acks == "all"),
		"linger.ms":                 milliseconds(s.Linger),
		"compression.codec":         s.Codec,
		"partitioner":               "murmur2_random",
		"go.delivery.report.fields": "none",
	}
	maps.Copy(properties, s.Options)
	m := kafka.ConfigMap{}
	for name, value := range properties {
		if err := m.Set(name + "=" + value); err != nil {
			return nil, err
		}
	}
	p, err := kafka.NewProducer(&m)
	if err != nil {
		return nil, err
	}
	_, library := kafka.LibraryVersion()
	c := &confluent{
		producer: p, topic: s.Topic, stamped: s.Rate > 0, onePart: s.Mode == figure.ModeIdle, tally: t,
		drained: make(chan struct{}), configured: append(pairs(properties), "librdkafka = "+library),
	}
	go c.drain()
	return c, nil
}

func (c *confluent) drain() {
	defer close(c.drained)
	for e := range c.producer.Events() {
		switch e := e.(type) {
		case *kafka.Message:
			c.told(e)
		case kafka.Error:
			if e.IsFatal() {
				c.tally.fail(0, e)
			}
		}
	}
}

func (c *confluent) told(m *kafka.Message) {
	at, _ := m.Opaque.(time.Duration)
	partition := m.TopicPartition.Partition
	if c.onePart && m.TopicPartition.Error == nil {
		partition = 0
	}
	c.tally.done(partition, at, m.TopicPartition.Error)
}

// give hands one message over; when the queue is full it waits a little, as the
// documentation says.
func (c *confluent) give(m *kafka.Message, reports chan kafka.Event) error {
	for {
		err := c.producer.Produce(m, reports)
		var full kafka.Error
		if !errors.As(err, &full) || full.Code() != kafka.ErrQueueFull {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *confluent) message(w *worker) *kafka.Message {
	return &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &c.topic, Partition: kafka.PartitionAny},
		Key:            w.keys.next(), Value: w.values.next(),
	}
}

func (c *confluent) produce(_ context.Context, w *worker, n int, at time.Duration) error {
	c.sent.Add(int64(n))
	for range n {
		m := c.message(w)
		if c.stamped {
			m.Opaque = at
		}
		if err := c.give(m, nil); err != nil {
			return err
		}
	}
	return nil
}

// call waits for the reports on a channel of the worker's own.
func (c *confluent) call(_ context.Context, w *worker, n int) error {
	reports, _ := w.scratch.(chan kafka.Event)
	if cap(reports) < n {
		reports = make(chan kafka.Event, n)
		w.scratch = reports
	}
	for range n {
		if err := c.give(c.message(w), reports); err != nil {
			return err
		}
	}
	c.sent.Add(int64(n))
	for range n {
		c.told((<-reports).(*kafka.Message))
	}
	return nil
}

func (c *confluent) place(_ context.Context, topic string, partition int32, value []byte) error {
	c.sent.Add(1)
	return c.give(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition}, Value: value}, nil)
}

// flush asks for everything to go out at once, and then waits for the goroutine
// that reads the reports.
func (c *confluent) flush(ctx context.Context) error {
	const patience = 100 // ms
	for c.producer.Flush(patience) > 0 && ctx.Err() == nil {
	}
	return c.tally.await(ctx, c.sent.Load())
}

func (c *confluent) close(context.Context) error {
	c.producer.Close()
	<-c.drained
	return nil
}

func (c *confluent) settings() []string { return c.configured }
