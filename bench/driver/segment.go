//go:build peers

package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

const (
	// segmentWindow bounds what is under way: an asynchronous Writer has no bound
	// of its own and would take all records of a run into memory.
	segmentWindow = 100_000
	// segmentGulp is how many messages are given to it in one call when running
	// flat out: its documentation advises to pass several.
	segmentGulp = 100
	// segmentBatch is BatchSize; a batch takes 152 bytes for each message at once.
	segmentBatch = 1_000
	// segmentLinger stands for a linger of 0, which a Writer takes as a second.
	segmentLinger = 100 * time.Microsecond
)

// segment is segmentio/kafka-go's Writer. It knows no idempotence: a record may
// stand twice after a retry, so its guarantee is weaker than the others'.
type segment struct {
	writer     *kafka.Writer
	topic      string
	stamped    bool
	tally      *tally
	configured []string

	mu    sync.Mutex
	room  sync.Cond
	sent  int64
	under int64 // under way
}

func newSegment(_ context.Context, s Settings, t *tally) (client, error) {
	size := segmentBatch
	for name, value := range s.Options {
		n, err := strconv.Atoi(value)
		if name != "BatchSize" || err != nil {
			return nil, fmt.Errorf("option %s=%s: BatchSize=number is the only one", name, value)
		}
		size = n
	}
	g := &segment{topic: s.Topic, stamped: s.Rate > 0, tally: t}
	g.room.L = &g.mu
	linger := max(s.Linger, segmentLinger)
	acks := kafka.RequireAll
	if s.Acks == "1" {
		acks = kafka.RequireOne
	}
	g.writer = &kafka.Writer{
		Addr:         kafka.TCP(s.Address),
		BatchSize:    size,
		BatchBytes:   1_000_000,
		BatchTimeout: linger,
		RequiredAcks: acks,
		Async:        s.Mode != figure.ModeCall,
		Completion:   g.completed,
		Compression: map[string]kafka.Compression{
			"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
		}[s.Codec],
	}
	balancer := "RoundRobin (its default)"
	switch {
	case s.Mode == figure.ModeIdle:
		balancer = "by hand"
		g.writer.Balancer = kafka.BalancerFunc(func(m kafka.Message, _ ...int) int {
			partition, _ := m.WriterData.(int32)
			return int(partition)
		})
	case s.Keyed:
		balancer = "Murmur2Balancer"
		g.writer.Balancer = kafka.Murmur2Balancer{}
	}
	g.configured = []string{
		"idempotence = none: kafka-go has none, its guarantee is weaker",
		"RequiredAcks = " + acks.String(),
		"Async = " + strconv.FormatBool(g.writer.Async),
		fmt.Sprintf("BatchSize = %d", size),
		fmt.Sprintf("BatchBytes = %d", g.writer.BatchBytes),
		fmt.Sprintf("BatchTimeout = %v", linger),
		"Balancer = " + balancer,
		"Compression = " + s.Codec,
		fmt.Sprintf("records under way, kept by the driver = %d", segmentWindow),
	}
	return g, nil
}

// completed is called with the messages of one batch, from several goroutines.
func (g *segment) completed(messages []kafka.Message, err error) {
	for i := range messages {
		m := &messages[i]
		at, _ := m.WriterData.(time.Duration)
		partition := m.Partition
		if _, byHand := m.WriterData.(int32); byHand {
			partition = 0
		}
		g.tally.done(int32(partition), at, err)
	}
	g.mu.Lock()
	g.under -= int64(len(messages))
	g.room.Broadcast()
	g.mu.Unlock()
}

// admit waits until n more may be under way.
func (g *segment) admit(n int) {
	g.mu.Lock()
	for g.under+int64(n) > segmentWindow {
		g.room.Wait()
	}
	g.under += int64(n)
	g.sent += int64(n)
	g.mu.Unlock()
}

func (g *segment) fill(w *worker, n int) []kafka.Message {
	messages, _ := w.scratch.([]kafka.Message)
	messages = messages[:0]
	for range n {
		messages = append(messages, kafka.Message{Topic: g.topic, Key: w.keys.next(), Value: w.values.next()})
	}
	w.scratch = messages // a Writer copies the list
	return messages
}

func (g *segment) produce(ctx context.Context, w *worker, n int, at time.Duration) error {
	for n > 0 {
		now := min(n, segmentGulp)
		n -= now
		g.admit(now)
		messages := g.fill(w, now)
		if g.stamped {
			for i := range messages {
				messages[i].WriterData = at
			}
		}
		if err := g.writer.WriteMessages(ctx, messages...); err != nil {
			return err
		}
	}
	return nil
}

func (g *segment) call(ctx context.Context, w *worker, n int) error {
	g.admit(n)
	return g.writer.WriteMessages(ctx, g.fill(w, n)...)
}

func (g *segment) place(ctx context.Context, topic string, partition int32, value []byte) error {
	g.admit(1)
	return g.writer.WriteMessages(ctx, kafka.Message{Topic: topic, Value: value, WriterData: partition})
}

func (g *segment) flush(ctx context.Context) error {
	g.mu.Lock()
	sent := g.sent
	g.mu.Unlock()
	return g.tally.await(ctx, sent)
}

func (g *segment) close(context.Context) error { return g.writer.Close() }
func (g *segment) settings() []string          { return g.configured }
