//go:build troupe

package main

import (
	"context"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// ours is Troupe with a topic handle and one callback for all records.
type ours struct {
	producer *troupe.Producer
	topic    *troupe.Topic
	callback func(troupe.Delivery)
}

func newTroupe(_ context.Context, s Settings, t *tally) (client, error) {
	p, err := troupe.New(
		troupe.WithBrokers(s.Address),
		troupe.WithLinger(s.Linger),
		troupe.WithCompression(map[string]codecs.ID{
			"none":   codecs.None,
			"gzip":   codecs.Gzip,
			"snappy": codecs.Snappy,
			"lz4":    codecs.LZ4,
			"zstd":   codecs.Zstd,
		}[s.Codec]),
	)
	if err != nil {
		return nil, err
	}
	topic, err := p.Topic(s.Topic)
	if err != nil {
		return nil, err
	}
	return &ours{
		producer: p,
		topic:    topic,
		callback: func(d troupe.Delivery) { t.done(d.Partition, time.Duration(d.Tag), d.Err) },
	}, nil
}

func (o *ours) produce(ctx context.Context, w *worker, n int, at time.Duration) error {
	for range n {
		err := o.topic.Produce(ctx, troupe.Record{Key: w.keys.next(), Value: w.values.next(), Tag: uint64(at)}, o.callback)
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *ours) flush(ctx context.Context) error { return o.producer.Flush(ctx) }
func (o *ours) close(ctx context.Context) error { return o.producer.Close(ctx) }
