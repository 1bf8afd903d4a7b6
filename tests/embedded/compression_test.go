package embedded_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// TestKafkaJSCompression is the checklist of compression.spec.js, which in
// KafkaJS says that three codecs are missing. Here all are built in.
func TestKafkaJSCompression(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"none": 1, "gzip": 1, "snappy": 1, "lz4": 1, "zstd": 1})
	w := watch(cluster)
	text := strings.Repeat("all the world's a stage ", 40)

	for id := codecs.None; id <= codecs.Zstd; id++ {
		t.Run("kafkajs: "+id.String()+" is configured, and its type stands in the batch", func(t *testing.T) {
			p := newProducer(t, cluster, troupe.WithCompression(id), troupe.WithBatchMaxBytes(64<<10), troupe.WithLinger(0))
			var want []string
			var got outcomes
			for i := range 300 {
				want = append(want, fmt.Sprintf("%d %s", i, text))
				must(t, p, to(id.String(), 0, want[i]), got.add)
			}
			for i, d := range got.wait(t, len(want)) {
				if d.Err != nil || d.Offset != int64(i) {
					t.Fatal(d.Offset, d.Err)
				}
			}
			expect(t, values(consumeAll(t, cluster, id.String(), len(want))), want)
			for _, s := range w.of(id.String(), 0) {
				if s.batch.Attributes&7 != int16(id) {
					t.Errorf("a batch has codec %d", s.batch.Attributes&7)
				}
				if id != codecs.None && s.batch.NumRecords > 10 && s.bytes > int(s.batch.NumRecords)*len(text)/2 {
					t.Errorf("%d records take %d bytes", s.batch.NumRecords, s.bytes)
				}
			}
		})
	}
}

func TestCompressionOfOneSend(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	w := watch(cluster)
	p := newProducer(t, cluster, troupe.WithCompression(codecs.LZ4))
	text := strings.Repeat("same again ", 100)
	for _, c := range []struct {
		compression troupe.Compression
		codec       codecs.ID
	}{
		{troupe.CompressionDefault, codecs.LZ4}, {troupe.CompressionNone, codecs.None}, {troupe.CompressionGzip, codecs.Gzip},
		{troupe.CompressionSnappy, codecs.Snappy}, {troupe.CompressionLZ4, codecs.LZ4}, {troupe.CompressionZstd, codecs.Zstd},
	} {
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, text), Compression: c.compression}); err != nil {
			t.Fatal(err)
		}
		sends := w.of("t", 0)
		if id := codecs.ID(sends[len(sends)-1].batch.Attributes & 7); id != c.codec {
			t.Errorf("compression %d went out as %v, expected %v", c.compression, id, c.codec)
		}
	}
	consumeAll(t, cluster, "t", 6)
}

// counting is a user's codec: it speaks the format of its id, as it must.
type counting struct {
	codecs.Codec
	calls atomic.Int64
	fail  atomic.Value // string
}

func (c *counting) Compress(dst, src []byte) ([]byte, error) {
	c.calls.Add(1)
	switch c.fail.Load() {
	case "error":
		return dst, errors.New("codec is out of order")
	case "panic":
		panic("codec is out of order")
	case "grow":
		return append(append(dst, src...), src...), nil
	}
	return c.Codec.Compress(dst, src)
}

func TestUserCodec(t *testing.T) {
	t.Parallel()
	inner, err := codecs.New(codecs.Gzip, codecs.DefaultLevel)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("mine ", 200)
	t.Run("kafkajs: 0.2: a codec object replaces the implementation of its type", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		mine := &counting{Codec: inner}
		p := newProducer(t, cluster, troupe.WithCodec(codecs.Gzip, mine), troupe.WithCompression(codecs.Gzip))
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, text)}); err != nil {
			t.Fatal(err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 1)), []string{text})
		if mine.calls.Load() != 1 || w.of("t", 0)[0].batch.Attributes&7 != int16(codecs.Gzip) {
			t.Errorf("%d calls, attributes %d", mine.calls.Load(), w.of("t", 0)[0].batch.Attributes)
		}
	})
	for _, failure := range []string{"error", "panic", "grow"} {
		t.Run("a codec that fails costs no record: "+failure, func(t *testing.T) {
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			mine := &counting{Codec: inner}
			mine.fail.Store(failure)
			p := newProducer(t, cluster, troupe.WithCodec(codecs.Gzip, mine), troupe.WithCompression(codecs.Gzip))
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, text, text)}); err != nil {
				t.Fatal(err)
			}
			if id := w.of("t", 0)[0].batch.Attributes & 7; id != 0 {
				t.Errorf("the batch says codec %d", id)
			}
			expect(t, values(consumeAll(t, cluster, "t", 2)), []string{text, text})
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		})
	}
}

// TestZstdNeedsProduce7 asks an old broker, which would store what it cannot
// read (kafkajs.md 0.12).
func TestZstdNeedsProduce7(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1}, kfake.MaxVersions(kversion.V2_0_0()))
	p := newProducer(t, cluster, fast()...)
	ctx := within(t, patience)
	_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v"), Compression: troupe.CompressionZstd})
	if err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Fatal(err)
	}
	for _, c := range []troupe.Compression{troupe.CompressionLZ4, troupe.CompressionNone} {
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, strings.Repeat("v", 1000)), Compression: c}); err != nil {
			t.Fatal(err)
		}
	}
	if high := cluster.PartitionInfo("t", 0).HighWatermark; high != 2 {
		t.Errorf("%d records in the log", high)
	}
}

// TestCompressedRecordsLeave lets records of a compressed batch expire before it
// is handed over: it has to be compressed again without them.
func TestCompressedRecordsLeave(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	w := watch(cluster)
	release := w.hold(t, anyRequest)
	p := newProducer(t, cluster, troupe.WithCompression(codecs.Zstd), troupe.WithLinger(20*time.Millisecond))
	var got outcomes
	must(t, p, to("t", 0, "first"), got.add)
	eventually(t, "the first request", func() bool { return len(w.of("t", 0)) == 1 })
	ctx, cancel := contextWithCancel(t)
	text := strings.Repeat("text ", 100)
	for i := range 10 {
		r := to("t", 0, fmt.Sprint(i, text))
		if i%2 == 0 {
			mustContext(ctx, t, p, r, got.add)
		} else {
			must(t, p, r, got.add)
		}
	}
	// All ten are sealed and compressed by now, or will be: both ways the five
	// leave.
	time.Sleep(50 * time.Millisecond)
	cancel()
	for _, d := range got.wait(t, 5) {
		if d.Err == nil || d.Status != troupe.NotPersisted {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
	}
	release()
	got.wait(t, 11)
	want := []string{"first"}
	for i := 1; i < 10; i += 2 {
		want = append(want, fmt.Sprint(i, text))
	}
	expect(t, values(consumeAll(t, cluster, "t", 6)), want)
}
