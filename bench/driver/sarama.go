//go:build peers

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// saramaBatch is when sarama sends although its linger is not over. The other
// clients have it as the size of a batch.
const saramaBatch = 1_000_000

// saramaAsync is IBM/sarama's AsyncProducer with one goroutine that reads the
// successes and one that reads the errors, as its documentation wants. It is
// idempotent only with one request in flight.
type saramaAsync struct {
	producer   sarama.AsyncProducer
	topic      string
	stamped    bool
	tally      *tally
	sent       atomic.Int64
	drained    chan struct{}
	configured []string
}

// saramaSync is its SyncProducer, which waits for each message.
type saramaSync struct {
	*saramaAsync // without a producer: for its settings
	producer     sarama.SyncProducer
}

func newSarama(_ context.Context, s Settings, t *tally) (client, error) {
	if len(s.Options) > 0 {
		return nil, errors.New("takes no options")
	}
	c := sarama.NewConfig()
	c.Version = sarama.V3_9_0_0
	c.ClientID = "bench"
	c.Producer.Return.Successes = true
	partitioner := "NewMurmur2Partitioner"
	c.Producer.Partitioner = sarama.NewMurmur2Partitioner
	if s.Mode == figure.ModeIdle {
		partitioner = "NewManualPartitioner"
		c.Producer.Partitioner = sarama.NewManualPartitioner
	}
	c.Producer.MaxMessageBytes = 2 << 20 // a batch may be larger than Flush.Bytes
	c.Producer.Compression = map[string]sarama.CompressionCodec{
		"none":   sarama.CompressionNone,
		"gzip":   sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy,
		"lz4":    sarama.CompressionLZ4,
		"zstd":   sarama.CompressionZSTD,
	}[s.Codec]
	if s.Acks == "all" {
		c.Producer.RequiredAcks = sarama.WaitForAll
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1 // sarama insists on it
	} else {
		c.Producer.RequiredAcks = sarama.WaitForLocal
	}
	if s.Linger > 0 {
		c.Producer.Flush.Frequency = s.Linger
		c.Producer.Flush.Bytes = saramaBatch
	}
	sarama.Logger = log.New(io.Discard, "", 0)
	a := &saramaAsync{topic: s.Topic, stamped: s.Rate > 0, tally: t, drained: make(chan struct{}), configured: []string{
		"Version = " + c.Version.String(),
		fmt.Sprintf("Producer.RequiredAcks = %d", c.Producer.RequiredAcks),
		fmt.Sprintf("Producer.Idempotent = %v", c.Producer.Idempotent),
		fmt.Sprintf("Net.MaxOpenRequests = %d", c.Net.MaxOpenRequests),
		fmt.Sprintf("Producer.Flush.Frequency = %v", c.Producer.Flush.Frequency),
		fmt.Sprintf("Producer.Flush.Bytes = %d", c.Producer.Flush.Bytes),
		fmt.Sprintf("Producer.MaxMessageBytes = %d", c.Producer.MaxMessageBytes),
		"Producer.Compression = " + s.Codec,
		"Producer.Partitioner = " + partitioner,
		fmt.Sprintf("ChannelBufferSize = %d", c.ChannelBufferSize),
	}}
	if s.Mode == figure.ModeCall {
		p, err := sarama.NewSyncProducer([]string{s.Address}, c)
		return &saramaSync{a, p}, err
	}
	p, err := sarama.NewAsyncProducer([]string{s.Address}, c)
	if err != nil {
		return nil, err
	}
	a.producer = p
	go a.drain(s.Mode == figure.ModeIdle)
	return a, nil
}

// drain tells the tally until the producer is closed.
func (a *saramaAsync) drain(onePartition bool) {
	defer close(a.drained)
	failures := make(chan struct{})
	go func() {
		defer close(failures)
		for e := range a.producer.Errors() {
			a.tally.done(0, 0, e.Err)
		}
	}()
	for m := range a.producer.Successes() {
		at, _ := m.Metadata.(time.Duration)
		partition := m.Partition
		if onePartition {
			partition = 0
		}
		a.tally.done(partition, at, nil)
	}
	<-failures
}

func (a *saramaAsync) message(w *worker) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: a.topic, Value: sarama.ByteEncoder(w.values.next())}
	if key := w.keys.next(); key != nil {
		m.Key = sarama.ByteEncoder(key)
	}
	return m
}

func (a *saramaAsync) produce(_ context.Context, w *worker, n int, at time.Duration) error {
	a.sent.Add(int64(n))
	input := a.producer.Input()
	for range n {
		m := a.message(w)
		if a.stamped {
			m.Metadata = at
		}
		input <- m
	}
	return nil
}

func (a *saramaAsync) place(_ context.Context, topic string, partition int32, value []byte) error {
	a.sent.Add(1)
	a.producer.Input() <- &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.ByteEncoder(value)}
	return nil
}

// flush waits, since there is no way to hurry it.
func (a *saramaAsync) flush(ctx context.Context) error { return a.tally.await(ctx, a.sent.Load()) }

func (a *saramaAsync) close(context.Context) error {
	a.producer.AsyncClose()
	<-a.drained
	return nil
}

func (a *saramaAsync) settings() []string { return a.configured }

func (s *saramaSync) call(_ context.Context, w *worker, n int) error {
	if n == 1 {
		partition, _, err := s.producer.SendMessage(s.message(w))
		s.tally.done(partition, 0, err)
		return err
	}
	messages := make([]*sarama.ProducerMessage, n)
	for i := range messages {
		messages[i] = s.message(w)
	}
	err := s.producer.SendMessages(messages)
	for _, m := range messages {
		s.tally.done(m.Partition, 0, err)
	}
	return err
}

func (s *saramaSync) produce(context.Context, *worker, int, time.Duration) error {
	return errors.New("only calls")
}
func (s *saramaSync) flush(context.Context) error { return nil }
func (s *saramaSync) close(context.Context) error { return s.producer.Close() }
