//go:build troupe

package main

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// ours is Troupe with a topic handle and one callback for all records.
type ours struct {
	producer   *troupe.Producer
	name       string
	topic      *troupe.Topic
	tally      *tally
	callback   func(troupe.Delivery)
	goroutines int
	configured []string
}

func newTroupe(_ context.Context, s Settings, t *tally) (client, error) {
	return troupeFrom(s, t, troupe.New)
}

// shared is the actor system of troupe-shared; making it is no part of a start.
var shared = sync.OnceValue(func() *actor.ActorSystem {
	silent := func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }
	return actor.NewActorSystem(actor.WithLoggerFactory(silent))
})

func newTroupeShared(_ context.Context, s Settings, t *tally) (client, error) {
	return troupeFrom(s, t, func(o ...troupe.Option) (*troupe.Producer, error) { return troupe.NewIn(shared(), o...) })
}

// troupeProperties is all that is not left at its default.
func troupeProperties(s Settings) map[string]string {
	p := map[string]string{
		"bootstrap.servers": s.Address,
		"linger.ms":         milliseconds(s.Linger),
		"compression.type":  s.Codec,
		"acks":              s.Acks,
	}
	if s.Acks != "all" {
		p["enable.idempotence"] = "false"
	}
	if s.TLS != "" {
		p["security.protocol"], p["ssl.truststore.type"], p["ssl.truststore.location"] = "SSL", "PEM", s.TLS
	}
	maps.Copy(p, s.Options)
	return p
}

func troupeFrom(s Settings, t *tally, start func(...troupe.Option) (*troupe.Producer, error)) (*ours, error) {
	properties := troupeProperties(s)
	options, err := troupe.Properties(properties)
	if err != nil {
		return nil, err
	}
	p, err := start(options...)
	if err != nil {
		return nil, err
	}
	topic, err := p.Topic(s.Topic)
	if err != nil {
		return nil, err
	}
	o := &ours{producer: p, name: s.Topic, topic: topic, tally: t, goroutines: s.Goroutines, configured: pairs(properties)}
	o.callback = func(d troupe.Delivery) { t.done(d.Partition, time.Duration(d.Tag), d.Err) }
	if s.Mode == figure.ModeIdle {
		o.callback = func(d troupe.Delivery) { t.done(0, 0, d.Err) }
	}
	return o, nil
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

// call sends by Send, which does not wait for the linger. The list of messages
// may be used again as soon as Send returns.
func (o *ours) call(ctx context.Context, w *worker, n int) error {
	messages, _ := w.scratch.([]troupe.Message)
	messages = messages[:0]
	for range n {
		messages = append(messages, troupe.Message{Key: w.keys.next(), Value: w.values.next()})
	}
	w.scratch = messages
	results, err := o.producer.Send(ctx, troupe.Send{Topic: o.name, Messages: messages})
	if err != nil {
		return err
	}
	for i := range results {
		for range results[i].Messages {
			o.tally.done(results[i].Partition, 0, nil)
		}
	}
	return nil
}

func (o *ours) place(ctx context.Context, topic string, partition int32, value []byte) error {
	r := troupe.Record{Topic: topic, Value: value, Partition: troupe.AtPartition(partition)}
	return o.producer.Produce(ctx, r, o.callback)
}

func (o *ours) flush(ctx context.Context) error { return o.producer.Flush(ctx) }
func (o *ours) close(ctx context.Context) error { return o.producer.Close(ctx) }
func (o *ours) settings() []string              { return o.configured }
