package embedded_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestJavaRecordErrors is row 26 of Java's checklist and librdkafka's 0011
// (KIP-467): the broker says which records it refuses a batch for.
func TestJavaRecordErrors(t *testing.T) {
	t.Parallel()
	// Records 1 and 3 of five are to blame.
	blame := func(r *kmsg.ProduceResponseTopicPartition) {
		for _, i := range []int32{1, 3} {
			e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			e.RelativeOffset = i
			text := fmt.Sprintf("the broker does not like record %d", i)
			e.ErrorMessage = &text
			r.ErrorRecords = append(r.ErrorRecords, e)
		}
		all := "one or more records have been rejected"
		r.ErrorMessage = &all
	}
	for _, codec := range []codecs.ID{codecs.None, codecs.Zstd} {
		for _, resend := range []bool{false, true} {
			name := "the other three fail with ErrRefusedWithBatch"
			if resend {
				name = "the other three are sent again, in order"
			}
			t.Run(fmt.Sprintf("java 26: two of five records of a batch (%v) get the broker's words, %s", codec, name), func(t *testing.T) {
				t.Parallel()
				cluster := startCluster(t, 1, map[string]int32{"t": 1})
				w := watch(cluster)
				p := newProducer(t, cluster, fast(troupe.WithLinger(long), troupe.WithResendInnocent(resend), troupe.WithCompression(codec))...)
				warm(t, p, "t", 0)
				refused := false
				w.add(func(pr *produced) (kmsg.Response, error, bool) {
					if refused || pr.batches[0].batch.NumRecords != 5 {
						return nil, nil, false
					}
					refused = true
					r := answer(pr.ProduceRequest, int16(protocol.InvalidRecord), -1)
					blame(&r.Topics[0].Partitions[0])
					return r, nil, true
				})
				var got outcomes
				for i := range 5 {
					r := to("t", 0, fmt.Sprintf("m-%d %s", i, strings.Repeat("text ", 50)))
					r.Tag, r.Headers = uint64(i), []troupe.Header{{Key: "i", Value: []byte(fmt.Sprint(i))}}
					must(t, p, r, got.add)
				}
				if err := p.Flush(within(t, patience)); err != nil {
					t.Fatal(err)
				}
				for _, d := range got.wait(t, 5) {
					guilty := d.Tag == 1 || d.Tag == 3
					switch {
					case guilty:
						word := fmt.Sprintf("the broker does not like record %d", d.Tag)
						if !errors.Is(d.Err, protocol.InvalidRecord) || errors.Is(d.Err, troupe.ErrRefusedWithBatch) || !strings.Contains(d.Err.Error(), word) || d.Status != troupe.NotPersisted {
							t.Errorf("record %d: %v, %v", d.Tag, d.Status, d.Err)
						}
					case resend:
						if d.Err != nil || d.Offset != int64(1+d.Tag/2) || d.Attempts != 2 {
							t.Errorf("record %d: offset %d, attempt %d, %v", d.Tag, d.Offset, d.Attempts, d.Err)
						}
					default:
						if !errors.Is(d.Err, troupe.ErrRefusedWithBatch) || strings.Contains(d.Err.Error(), "does not like") || d.Status != troupe.NotPersisted {
							t.Errorf("record %d: %v, %v", d.Tag, d.Status, d.Err)
						}
					}
				}
				warm(t, p, "t", 0)
				want := []string{"warm", "warm"}
				if resend {
					want = []string{"warm", "m-0", "m-2", "m-4", "warm"}
				}
				for i, r := range consumeAll(t, cluster, "t", len(want)) {
					value, _, _ := strings.Cut(string(r.Value), " ")
					if value != want[i] {
						t.Errorf("offset %d holds %s, expected %s", i, value, want[i])
					}
					if len(r.Headers) == 1 && "m-"+string(r.Headers[0].Value) != value {
						t.Errorf("%s has the header of %s", value, r.Headers[0].Value)
					}
				}
				if got.count() != 5 {
					t.Errorf("%d outcomes of 5 records", got.count())
				}
				eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
			})
		}
	}
}

// TestSplitEveryCodec is MESSAGE_TOO_LARGE for every codec: what the cluster
// refuses is sent in smaller batches, with everything it holds, and a Flush that
// began before waits for the last piece. Half of the text does not compress, which
// makes the first batches too large whatever the codec.
func TestSplitEveryCodec(t *testing.T) {
	t.Parallel()
	random := newText()
	for id := codecs.None; id <= codecs.Zstd; id++ {
		t.Run("java 09: "+id.String()+": split in order, with headers, offsets, callbacks and Flush", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, nil)
			if err := cluster.CreateTopic("t", 1, map[string]string{"max.message.bytes": "3000"}); err != nil {
				t.Fatal(err)
			}
			w := watch(cluster)
			p := newProducer(t, cluster, fast(troupe.WithLinger(long), troupe.WithCompression(id), troupe.WithBatchMaxBytes(40_000))...)
			const n = 200
			var got outcomes
			var want []string
			for i := range n {
				want = append(want, fmt.Sprintf("%03d %s%s", i, random(100+i), strings.Repeat("as before ", 20)))
				r := to("t", 0, want[i])
				r.Tag, r.Opaque, r.Key = uint64(i), i, []byte(fmt.Sprint("key ", i))
				r.Headers = []troupe.Header{{Key: "i", Value: []byte(fmt.Sprint(i))}, {Key: "null"}}
				r.Timestamp = time.UnixMilli(int64(1_700_000_000_000 + i*7))
				must(t, p, r, got.add)
			}
			if err := p.Flush(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			if got.count() != n {
				t.Fatalf("Flush ended after %d of %d callbacks", got.count(), n)
			}
			for i, d := range got.wait(t, n) {
				if d.Err != nil || d.Tag != uint64(i) || d.Opaque != i || d.Offset != int64(i) {
					t.Fatalf("outcome %d: %+v", i, d)
				}
			}
			for i, r := range consumeAll(t, cluster, "t", n) {
				if string(r.Value) != want[i] || string(r.Key) != fmt.Sprint("key ", i) || len(r.Headers) != 2 || string(r.Headers[0].Value) != fmt.Sprint(i) ||
					r.Headers[1].Value != nil || r.Timestamp.UnixMilli() != int64(1_700_000_000_000+i*7) {
					t.Fatalf("offset %d holds %s with %v of %v", i, r.Value[:3], r.Headers, r.Timestamp)
				}
			}
			next, too := int32(0), 0
			for _, s := range w.of("t", 0) {
				if s.batch.ProducerEpoch != 0 || s.batch.Attributes&7 != int16(id) {
					t.Errorf("a batch has epoch %d and codec %d", s.batch.ProducerEpoch, s.batch.Attributes&7)
				}
				if s.bytes > 3000 {
					too++
				} else if s.batch.FirstSequence == next {
					next += s.batch.NumRecords
				}
			}
			if too == 0 || next != n {
				t.Errorf("%d batches were too large; the numbers of those that were not end at %d", too, next)
			}
			if attempts := len(w.of("t", 0)); attempts > 150 {
				t.Errorf("%d attempts", attempts)
			}
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		})

		t.Run("java 09: "+id.String()+": a record that is too large by itself ends the splitting, and only it fails", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, nil)
			if err := cluster.CreateTopic("t", 1, map[string]string{"max.message.bytes": "3000"}); err != nil {
				t.Fatal(err)
			}
			w := watch(cluster)
			p := newProducer(t, cluster, fast(troupe.WithLinger(long), troupe.WithCompression(id))...)
			var got outcomes
			var want []string
			for i := range 20 {
				value := fmt.Sprintf("%02d %s", i, random(100))
				if i == 7 {
					value = random(9000)
				} else {
					want = append(want, value)
				}
				r := to("t", 0, value)
				r.Tag = uint64(i)
				must(t, p, r, got.add)
			}
			if err := p.Flush(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			for _, d := range got.wait(t, 20) {
				if tooLarge := errors.Is(d.Err, protocol.MessageTooLarge) && d.Status == troupe.NotPersisted; tooLarge != (d.Tag == 7) || (d.Err != nil) != (d.Tag == 7) {
					t.Errorf("record %d: %v, %v", d.Tag, d.Status, d.Err)
				}
			}
			expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
			if n := len(w.of("t", 0)); n > 60 {
				t.Errorf("%d attempts", n)
			}
		})
	}

	t.Run("java 09: a cluster that refuses everything as too large: it ends, and every record is answered", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(-1, "t", 0, int16(protocol.MessageTooLarge))
		p := newProducer(t, cluster, fast(troupe.WithLinger(long))...)
		var got outcomes
		for i := range 64 {
			must(t, p, to("t", 0, fmt.Sprint(i)), got.add)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for _, d := range got.wait(t, 64) {
			if !errors.Is(d.Err, protocol.MessageTooLarge) || d.Status != troupe.NotPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
		}
		if n := len(w.of("t", 0)); n > 200 {
			t.Errorf("%d attempts for 64 records", n)
		}
	})
}

// newText returns a source of text that no codec makes much smaller, the same in
// every run.
func newText() func(n int) string {
	return func(n int) string {
		random := rand.New(rand.NewPCG(uint64(n), 4))
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(33 + random.IntN(94))
		}
		return string(b)
	}
}
