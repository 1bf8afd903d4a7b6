package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

const (
	franzBuffered = 100_000
	franzBatch    = 1_000_000
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

	promise    func(*kgo.Record, error)
	configured []string
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
	if len(s.Options) > 0 {
		return nil, errors.New("takes no options")
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(s.Address),
		kgo.MaxBufferedRecords(franzBuffered),
		kgo.ProducerLinger(s.Linger),
		kgo.ProducerBatchMaxBytes(franzBatch),
		kgo.ProducerBatchCompression(codecs[s.Codec]),
	}
	configured := []string{
		fmt.Sprintf("MaxBufferedRecords = %d", franzBuffered),
		fmt.Sprintf("ProducerLinger = %v", s.Linger),
		fmt.Sprintf("ProducerBatchMaxBytes = %d", franzBatch),
		"ProducerBatchCompression = " + s.Codec,
	}
	if s.TLS != "" {
		trusted, err := os.ReadFile(s.TLS)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(trusted)
		options = append(options, kgo.DialTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
		configured = append(configured, "DialTLSConfig")
	}
	if s.Acks == "1" {
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		configured = append(configured, "RequiredAcks = LeaderAck", "DisableIdempotentWrite", "MaxProduceRequestsInflightPerBroker = 1 (its default then)")
	} else {
		options = append(options, kgo.RequiredAcks(kgo.AllISRAcks())) // idempotent by default
		configured = append(configured, "RequiredAcks = AllISRAcks", "idempotent (its default)")
	}
	if s.Mode == figure.ModeIdle {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		configured = append(configured, "RecordPartitioner = ManualPartitioner")
	} else {
		configured = append(configured, "RecordPartitioner = UniformBytesPartitioner (its default)")
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	f := &franz{client: c, topic: s.Topic, tally: t, configured: configured}
	f.promise = func(r *kgo.Record, err error) { t.done(r.Partition, 0, err) }
	if s.Mode == figure.ModeIdle {
		f.promise = func(_ *kgo.Record, err error) { t.done(0, 0, err) }
	}
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

func (f *franz) call(ctx context.Context, w *worker, n int) error {
	// The list may be used again after the call. The Records could be, too, but a
	// caller who has them at hand is rare.
	records, _ := w.scratch.([]*kgo.Record)
	records = records[:0]
	for range n {
		records = append(records, &kgo.Record{Topic: f.topic, Key: w.keys.next(), Value: w.values.next()})
	}
	w.scratch = records
	results := f.client.ProduceSync(ctx, records...)
	for i := range results {
		f.tally.done(results[i].Record.Partition, 0, results[i].Err)
	}
	return results.FirstErr()
}

func (f *franz) place(ctx context.Context, topic string, partition int32, value []byte) error {
	f.client.Produce(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: value}, f.promise)
	return nil
}

func (f *franz) settings() []string { return f.configured }

func (f *franz) flush(ctx context.Context) error { return f.client.Flush(ctx) }

func (f *franz) close(context.Context) error {
	f.client.Close()
	return nil
}
