package main

import (
	"context"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// franz is franz-go as its authors' own benchmark uses it: one Record made per
// record, one promise for all. It may buffer 100,000 records, and it chooses
// partitions with its default, UniformBytes: sticky for 64 KiB, adaptive, and
// murmur2 of keys.
type franz struct {
	client  *kgo.Client
	topic   string
	tally   *tally
	stamped bool       // the loop is open: records carry their time
	pool    *sync.Pool // nil: a new Record per record

	promise func(*kgo.Record, error)
}

// A stamped record carries the time it should have been sent. Its Record comes
// first, so that the promise finds the one by the other's address, without a
// second allocation.
type stamped struct {
	kgo.Record
	at time.Duration
}

func newFranz(_ context.Context, s Settings, t *tally) (client, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	c, err := kgo.NewClient(
		kgo.SeedBrokers(s.Address),
		kgo.RequiredAcks(kgo.AllISRAcks()), // idempotent by default
		kgo.MaxBufferedRecords(100_000),
		kgo.ProducerLinger(s.Linger),
		kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.ProducerBatchCompression(codecs[s.Codec]),
	)
	if err != nil {
		return nil, err
	}
	f := &franz{client: c, topic: s.Topic, tally: t}
	f.promise = func(r *kgo.Record, err error) { t.done(r.Partition, 0, err) }
	if s.Rate > 0 {
		f.stamped = true
		f.promise = func(r *kgo.Record, err error) {
			t.done(r.Partition, (*stamped)(unsafe.Pointer(r)).at, err)
		}
	}
	return f, nil
}

// newFranzPool takes Records from a pool, as franz-go's benchmark does with its
// flag -pool.
func newFranzPool(ctx context.Context, s Settings, t *tally) (client, error) {
	c, err := newFranz(ctx, s, t)
	if err != nil {
		return nil, err
	}
	f := c.(*franz)
	f.pool = &sync.Pool{New: func() any { return new(stamped) }}
	told := f.promise
	f.promise = func(r *kgo.Record, err error) {
		told(r, err)
		f.pool.Put((*stamped)(unsafe.Pointer(r)))
	}
	return f, nil
}

func (f *franz) produce(ctx context.Context, w *worker, n int, at time.Duration) error {
	switch {
	case f.pool != nil:
		for range n {
			r := f.pool.Get().(*stamped)
			*r = stamped{Record: kgo.Record{Topic: f.topic, Key: w.keys.next(), Value: w.values.next()}, at: at}
			f.client.Produce(ctx, &r.Record, f.promise)
		}
	case f.stamped:
		for range n {
			r := &stamped{Record: kgo.Record{Topic: f.topic, Key: w.keys.next(), Value: w.values.next()}, at: at}
			f.client.Produce(ctx, &r.Record, f.promise)
		}
	default:
		for range n {
			f.client.Produce(ctx, &kgo.Record{Topic: f.topic, Key: w.keys.next(), Value: w.values.next()}, f.promise)
		}
	}
	return nil // failures come to the promise
}

func (f *franz) flush(ctx context.Context) error { return f.client.Flush(ctx) }

func (f *franz) close(context.Context) error {
	f.client.Close()
	return nil
}
