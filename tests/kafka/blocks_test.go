package kafka_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// TestBlocks sends batches of every size of block that lz4 and snappy write, and
// batches of several blocks, to Kafka itself: the broker decompresses each to
// check it, and where the topic names another codec takes all records out and
// compresses them anew. They are read by franz-go's consumer, by Java's through
// ConsoleConsumer, and on disk by DumpLogSegments.
func TestBlocks(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			cluster := kafkacluster.Shared(t, kafkacluster.Config{Version: version})
			for id := codecs.Gzip; id <= codecs.Zstd; id++ {
				t.Run(id.String(), func(t *testing.T) { blocksProof(t, cluster, id, id) })
			}
			for _, id := range []codecs.ID{codecs.LZ4, codecs.Snappy} {
				t.Run(id.String()+" made zstd", func(t *testing.T) { blocksProof(t, cluster, id, codecs.Zstd) })
			}
		})
	}
}

// blockBatches are the sizes of the batches in bytes, about: with lz4 one block of
// 64 KB, of 256 KB and of 1 MB, and then three and five of 1 MB.
var blockBatches = []int{5 << 10, 40 << 10, 200 << 10, 900 << 10, 2500 << 10, 4500 << 10}

func blocksProof(t *testing.T, cluster *kafkacluster.Cluster, codec, stored codecs.ID) {
	topic := fmt.Sprintf("blocks-%s-%s", codec, stored)
	properties := map[string]string{"max.message.bytes": "16777216"}
	if stored != codec {
		properties["compression.type"] = stored.String()
	}
	cluster.CreateTopic(topic, 1, 1, properties)
	p := newProducer(t, cluster, troupe.WithCompression(codec), troupe.WithLinger(time.Minute), troupe.WithBatchMaxBytes(8<<20))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	random := rand.New(rand.NewPCG(9, uint64(codec)))
	var got gathered
	var want []string
	var counts []int
	for _, size := range blockBatches {
		before := len(want)
		for sent := 0; sent < size; {
			value := line(random, 2000)
			// In the last batch the middle is such that lz4 stores whole blocks of it.
			if size == blockBatches[len(blockBatches)-1] && sent > 900<<10 && sent < 3500<<10 {
				value = base64.RawStdEncoding.EncodeToString(noise(random, 1500))
			}
			if err := p.Produce(ctx, troupe.Record{Topic: topic, Value: []byte(value), Tag: uint64(len(want))}, got.add); err != nil {
				t.Fatal(err)
			}
			want = append(want, value)
			sent += len(value)
		}
		counts = append(counts, len(want)-before)
		if err := p.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.list) != len(want) {
		t.Fatalf("%d outcomes of %d", len(got.list), len(want))
	}
	for i, d := range got.list {
		if d.Err != nil || d.Tag != uint64(i) || d.Offset != int64(i) {
			t.Fatalf("record %d: offset %d, %v", d.Tag, d.Offset, d.Err)
		}
	}
	var read []string
	for _, r := range cluster.ConsumeAll(topic, 30*time.Second) {
		read = append(read, string(r.Value))
	}
	same(t, "franz-go", read, want)
	same(t, "Java", cluster.ConsoleConsume(topic, 0, len(want), 30*time.Second), want)
	batches := cluster.DumpLogSegments(topic, 0)
	if len(batches) != len(counts) {
		t.Fatalf("%d batches on disk, sent %d: %+v", len(batches), len(counts), batches)
	}
	for i, b := range batches {
		if !b.Valid || b.Codec != stored.String() || b.Count != counts[i] {
			t.Errorf("batch %d: %+v, sent %d records", i, b, counts[i])
		}
	}
}

// line is text without a line end that codecs make smaller.
func line(random *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "user-%d opens /products/%d after %d ms; ", random.IntN(5000), random.IntN(900), random.IntN(100_000))
	}
	return b.String()
}

func same(t *testing.T, reader string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s read %d records, sent %d", reader, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: record at offset %d is another", reader, i)
		}
	}
}
