// Custom shows the two places where a user's own code takes part: a partitioner
// and a codec. The partitioner places records by their "region" header; the
// codec replaces the implementation of gzip by the standard library's. Both are
// checked on what an independent consumer reads.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/examples/internal/ledger"
	"github.com/troupe-kafka/troupe/partitioners"
)

const (
	topic   = "orders"
	records = 30_000
)

var regions = []string{"north", "east", "south", "west"}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "custom:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(int32(len(regions)), topic))
	if err != nil {
		return err
	}
	defer cluster.Close()
	codec := &standardGzip{}
	producer, err := troupe.New(troupe.WithBrokers(cluster.ListenAddrs()...),
		troupe.WithPartitioner(newByRegion),
		troupe.WithCodec(codecs.Gzip, codec),
		troupe.WithCompression(codecs.Gzip))
	if err != nil {
		return err
	}
	defer func() { _ = producer.Close(ctx) }()

	books := ledger.New(records)
	// A batch that packing does not make smaller goes out as it is; with this,
	// even a batch of one record gets smaller.
	note := bytes.Repeat([]byte("troupe "), 40)
	for i := range records {
		err := producer.Produce(ctx, troupe.Record{
			Topic: topic, Key: ledger.Value(i % 50), Value: ledger.Value(i), Tag: uint64(i),
			Headers: []troupe.Header{{Key: "region", Value: []byte(regions[i%len(regions)])}, {Key: "note", Value: note}},
		}, books.Delivered)
		if err != nil {
			return err
		}
	}
	if err := producer.Flush(ctx); err != nil {
		return err
	}

	// A choice that is no partition of the topic is an error, never a record
	// dropped in silence.
	_, err = producer.Send(ctx, troupe.Send{Topic: topic, Messages: []troupe.Message{{Value: []byte("nowhere")}}})
	if !errors.Is(err, troupe.ErrInvalidPartitioner) {
		return fmt.Errorf("a record without a region: %v, expected %v", err, troupe.ErrInvalidPartitioner)
	}

	perRegion := make(map[string]int)
	check := func(r *kgo.Record) error {
		region := string(r.Headers[0].Value)
		if regions[r.Partition] != region {
			return fmt.Errorf("partition %d holds a record of region %s", r.Partition, region)
		}
		if r.Attrs.CompressionType() != uint8(codecs.Gzip) {
			return fmt.Errorf("record at %d/%d is not gzip", r.Partition, r.Offset)
		}
		perRegion[region]++
		return nil
	}
	if err := books.ReadBack(ctx, cluster.ListenAddrs(), check, topic); err != nil {
		return err
	}
	for partition, region := range regions {
		fmt.Printf("partition %d: %5d records of region %s\n", partition, perRegion[region], region)
	}
	fmt.Printf("codec: %d batches, %d bytes packed into %d\n", codec.batches.Load(), codec.in.Load(), codec.out.Load())
	if codec.batches.Load() == 0 {
		return errors.New("the codec was never called")
	}
	fmt.Println("ok: every record is in the log once, in the partition of its region, compressed by our codec")
	return nil
}

// newByRegion is a partitioners.Factory: it is called once per producer.
func newByRegion(partitioners.Random) partitioners.Partitioner {
	index := make(map[string]int32, len(regions))
	for i, region := range regions {
		index[region] = int32(i)
	}
	// Called from whatever goroutine sends, so it only reads.
	return partitioners.Func(func(in *partitioners.Input) int32 {
		for _, h := range in.Message.Headers {
			if id, ok := index[string(h.Value)]; ok && h.Key == "region" {
				return id
			}
		}
		return partitioners.Invalid
	})
}

// standardGzip is a codecs.Codec. It must write what its id stands for, since
// brokers and consumers read it, and may be called by several goroutines.
type standardGzip struct{ batches, in, out atomic.Int64 }

// Compress implements codecs.Codec.
func (c *standardGzip) Compress(dst, src []byte) ([]byte, error) {
	buffer := bytes.NewBuffer(dst)
	w, err := gzip.NewWriterLevel(buffer, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	c.batches.Add(1)
	c.in.Add(int64(len(src)))
	c.out.Add(int64(buffer.Len() - len(dst)))
	return buffer.Bytes(), nil
}

// Decompress implements codecs.Codec.
func (c *standardGzip) Decompress(dst, src []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(src))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", codecs.ErrCorrupt, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", codecs.ErrCorrupt, err)
	}
	if len(plain) > limit {
		return nil, codecs.ErrTooLarge
	}
	return append(dst, plain...), nil
}
