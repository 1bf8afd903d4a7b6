package embedded_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
)

// long is a linger that no test waits for.
const long = time.Hour

func TestJavaBatching(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("v", 100)

	t.Run("java 01: a batch goes at once when full", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithLinger(long), troupe.WithBatchMaxBytes(1000))
		var got outcomes
		for range 30 {
			must(t, p, to("t", 0, value), got.add)
		}
		got.wait(t, 20)
		for _, s := range w.of("t", 0) {
			if s.bytes > 1000+61 {
				t.Errorf("a batch has %d bytes", s.bytes)
			}
		}
		if n := p.Unanswered(); n == 0 || n > 10 {
			t.Errorf("%d records linger, expected those of the last batch", n)
		}
	})

	t.Run("java 01: else exactly at linger, which Send does not wait for", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		const linger = 400 * time.Millisecond
		p := newProducer(t, cluster, troupe.WithLinger(linger))
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		var got outcomes
		start := time.Now()
		must(t, p, to("t", 0, "lingers"), got.add)
		got.wait(t, 1)
		if d := time.Since(start); d < linger-10*time.Millisecond || d > linger+time.Second {
			t.Errorf("answered after %v with a linger of %v", d, linger)
		}
		slow := newProducer(t, cluster, troupe.WithLinger(long))
		if _, err := slow.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(1, "does not linger")}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("java 01: several partitions of one node share a request", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 4, "u": 2})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithMaxInFlight(1), troupe.WithLinger(0))
		for part := range int32(4) {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(part, "warm")}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "u", Messages: msgs(1, "warm")}); err != nil {
			t.Fatal(err)
		}
		release := w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("u", 0, "holds the slot"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("u", 0)) == 1 })
		for part := range int32(4) {
			must(t, p, to("t", part, "waits"), got.add)
		}
		must(t, p, to("u", 1, "waits"), got.add)
		release()
		got.wait(t, 6)
		shared := w.of("t", 0)[1].request
		for part := range int32(4) {
			if r := w.of("t", part)[1].request; r != shared {
				t.Errorf("partition %d went in request %d, partition 0 in %d", part, r, shared)
			}
		}
		if r := w.of("u", 1)[1].request; r != shared {
			t.Errorf("the other topic went in request %d, not in %d", r, shared)
		}
	})

	t.Run("java 02: a record above batch.size is sent alone, and the next opens a new batch", func(t *testing.T) {
		t.Parallel()
		for _, codec := range []codecs.ID{codecs.None, codecs.LZ4} {
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, troupe.WithBatchMaxBytes(1000), troupe.WithLinger(long), troupe.WithCompression(codec))
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
				t.Fatal(err)
			}
			large := strings.Repeat("large", 40_000)
			want := []string{"warm", "before", large, "after", large, large, "end"}
			var got outcomes
			for _, v := range want[1:] {
				must(t, p, to("t", 0, v), got.add)
			}
			if err := p.Flush(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
			for _, s := range w.of("t", 0) {
				if s.batch.NumRecords != 1 {
					t.Errorf("a batch of %d records", s.batch.NumRecords)
				}
			}
		}
	})

	t.Run("java 03: waiting is never a busy loop", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		w.answerNext(-1, "t", 0, notLeader)
		refreshes := metadataOf(cluster, "t")
		p := newProducer(t, cluster, n.option())
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "two attempts", func() bool { return len(w.of("t", 0)) >= 2 })
		n.setDown(true)
		before := n.dialed()
		time.Sleep(time.Second)
		if d := n.dialed() - before; d > 60 {
			t.Errorf("%d attempts to connect in a second", d)
		}
		n.setDown(false)
		attempts, asked := len(w.of("t", 0)), refreshes()
		time.Sleep(time.Second)
		if a, m := len(w.of("t", 0))-attempts, refreshes()-asked; a > 25 || m > 25 {
			t.Errorf("%d attempts and %d refreshes in a second", a, m)
		}
	})

	t.Run("java 04: the backoff doubles up to its cap", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(5, "t", 0, corruptMessage)
		p := newProducer(t, cluster, troupe.WithRetry(troupe.RetryPolicy{
			InitialRetryTime: 50 * time.Millisecond, MaxRetryTime: 200 * time.Millisecond, Factor: 0, Multiplier: 2, Retries: troupe.UnlimitedRetries,
		}))
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
		sends := w.of("t", 0)
		for i, least := range []time.Duration{50, 100, 200, 200, 200} {
			if gap := sends[i+1].at.Sub(sends[i].at); gap < least*time.Millisecond-5*time.Millisecond {
				t.Errorf("attempt %d came %v after the one before, expected %v", i+2, gap, least*time.Millisecond)
			}
		}
		// Without the cap the last wait would take 800 ms.
		if gap := sends[5].at.Sub(sends[4].at); gap > 600*time.Millisecond {
			t.Errorf("the last attempt came %v after the one before, the cap is 200ms", gap)
		}
	})

	t.Run("java 04: the backoff is skipped when the leader changed", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 1})
		place(t, cluster, "t", 1, 1)
		w := watch(cluster)
		w.answerNext(1, "t", 0, notLeader)
		refreshes := metadataOf(cluster, "t")
		p := newProducer(t, cluster, troupe.WithMetadataMinAge(10*time.Millisecond), troupe.WithMetadataMaxAge(time.Second), troupe.WithRetry(troupe.RetryPolicy{
			InitialRetryTime: 10 * time.Minute, MaxRetryTime: time.Hour, Multiplier: 2, Retries: troupe.UnlimitedRetries,
		}))
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "the first attempt", func() bool { return len(w.of("t", 0)) == 1 })
		// The answer has a refresh follow. Before that the news of the move could be
		// quicker than the answer, which would be none then.
		before := refreshes()
		eventually(t, "the answer to be heard", func() bool { return refreshes() > before })
		if err := cluster.MoveTopicPartition("t", 0, 1); err != nil {
			t.Fatal(err)
		}
		if d := got.wait(t, 1)[0]; d.Err != nil || d.Attempts != 2 || !errors.Is(d.LastBrokerError, protocol.NotLeaderOrFollower) {
			t.Errorf("%+v", d)
		}
	})

	t.Run("java 08: no partition starves behind one with a backlog", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 3})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithMaxInFlight(1), troupe.WithBatchMaxBytes(1000), troupe.WithRequestMaxBytes(1500), troupe.WithLinger(0))
		for part := range int32(3) {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(part, "warm")}); err != nil {
				t.Fatal(err)
			}
		}
		release := w.hold(t, anyRequest)
		var got outcomes
		for range 200 {
			must(t, p, to("t", 0, value), got.add)
		}
		for part := int32(1); part < 3; part++ {
			must(t, p, to("t", part, "alone"), got.add)
		}
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
		release()
		got.wait(t, 202)
		for part := int32(1); part < 3; part++ {
			ahead := 0
			alone := w.of("t", part)[1]
			for _, s := range w.of("t", 0)[1:] {
				if s.request < alone.request {
					ahead++
				}
			}
			if ahead > 3 {
				t.Errorf("partition %d waited for %d batches of partition 0", part, ahead)
			}
		}
	})

	t.Run("java 01: a request takes what fits it, and the rest goes in the next", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 8, "hold": 1})
		w := watch(cluster)
		const most = 2500
		p := newProducer(t, cluster, troupe.WithMaxInFlight(1), troupe.WithBatchMaxBytes(1000), troupe.WithRequestMaxBytes(most), troupe.WithLinger(0))
		for part := range int32(8) {
			warm(t, p, "t", part)
		}
		warm(t, p, "hold", 0)
		release := w.hold(t, anyRequest)
		must(t, p, to("hold", 0, "v"), nil)
		eventually(t, "the request", func() bool { return len(w.of("hold", 0)) == 2 })
		var got outcomes
		for part := range int32(8) {
			must(t, p, to("t", part, strings.Repeat("v", 800)), got.add)
		}
		must(t, p, to("t", 0, strings.Repeat("w", 3000)), got.add) // larger than a request may be: alone
		release()
		got.wait(t, 9)
		bytes, batches := make(map[int]int), make(map[int]int)
		last := 0
		for _, s := range w.all() {
			bytes[s.request] += s.bytes
			batches[s.request]++
			last = max(last, s.request)
		}
		shared := 0
		for request, n := range bytes {
			if n > most && batches[request] > 1 {
				t.Errorf("request %d has %d bytes in %d batches", request, n, batches[request])
			}
			if batches[request] > 1 {
				shared++
			}
		}
		if shared < 3 {
			t.Errorf("%d of %d requests carry more than one batch", shared, last)
		}
	})

	t.Run("java 08: a node without partitions is harmless", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w := watch(cluster)
		p := newProducer(t, cluster)
		for part := range int32(2) {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(part, "v")}); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range w.all() {
			if s.node == 2 {
				t.Error("something was sent to a node without partitions")
			}
		}
	})
}

func TestJavaRecordFormat(t *testing.T) {
	t.Parallel()

	t.Run("java 12: sizes, deltas, nulls, headers and the true maximum of the timestamps", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithLinger(long))
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		base := time.UnixMilli(1_700_000_000_000)
		stamps := []time.Duration{0, 5 * time.Second, -3 * time.Second, time.Second} // 9 < 10 < 100 as numbers, not as text
		for i, d := range stamps {
			r := to("t", 0, fmt.Sprint(i))
			r.Timestamp = base.Add(d)
			switch i {
			case 1:
				r.Key, r.Value = []byte{}, nil
				r.Headers = []troupe.Header{{Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "null", Value: []byte("again")}}
			case 2:
				r.Key, r.Value = nil, []byte{}
			}
			must(t, p, r, nil)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		b := w.of("t", 0)[1].batch
		if b.FirstTimestamp != base.UnixMilli() || b.MaxTimestamp != base.Add(5*time.Second).UnixMilli() {
			t.Errorf("first timestamp %d, maximum %d", b.FirstTimestamp, b.MaxTimestamp)
		}
		if b.NumRecords != 4 || b.LastOffsetDelta != 3 || b.Magic != 2 || b.FirstOffset != 0 || b.FirstSequence != 1 {
			t.Errorf("%+v", b)
		}
		for i, r := range records(&b) {
			if r.OffsetDelta != int32(i) || r.TimestampDelta64 != stamps[i].Milliseconds() || r.Attributes != 0 {
				t.Errorf("record %d: offset delta %d, timestamp delta %d", i, r.OffsetDelta, r.TimestampDelta64)
			}
		}
		got := consumeAll(t, cluster, "t", 5)[1:]
		for i, r := range got {
			if !r.Timestamp.Equal(base.Add(stamps[i])) {
				t.Errorf("record %d has timestamp %v", i, r.Timestamp)
			}
		}
		if got[1].Key == nil || got[1].Value != nil || got[2].Key != nil || got[2].Value == nil {
			t.Error("null and empty are confused")
		}
		if h := got[1].Headers; len(h) != 3 || h[0].Value != nil || h[1].Value == nil || string(h[2].Value) != "again" || h[2].Key != "null" {
			t.Errorf("headers %+v", h)
		}
	})

	t.Run("java 12: a record without timestamp has the time of its call, also after a retry", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithRetry(troupe.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: 100 * time.Millisecond, Multiplier: 1, Retries: -1}))
		warm(t, p, "t", 0)
		w.answerNext(3, "t", 0, corruptMessage)
		var got outcomes
		before := time.Now().UnixMilli()
		must(t, p, to("t", 0, "v"), got.add)
		after := time.Now().UnixMilli()
		d := got.wait(t, 1)[0]
		sends := w.of("t", 0)[1:]
		if len(sends) != 4 {
			t.Errorf("%d attempts", len(sends))
		}
		for _, s := range sends {
			if s.batch.FirstTimestamp != sends[0].batch.FirstTimestamp {
				t.Error("a retry was stamped anew")
			}
		}
		// One reading of the clock serves a millisecond, or as long as a busy machine
		// lets the timer that ends it wait.
		if at := d.Timestamp.UnixMilli(); at < before-100 || at > after || at != sends[0].batch.FirstTimestamp {
			t.Errorf("the delivery says %d, the log %d, the call came from %d to %d", at, sends[0].batch.FirstTimestamp, before, after)
		}
	})

	t.Run("java 12: LogAppendTime is reported as the record's timestamp", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		at := time.UnixMilli(1_800_000_000_000)
		w := watch(cluster)
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			r := answer(pr.ProduceRequest, 0, 7)
			r.Topics[0].Partitions[0].LogAppendTime = at.UnixMilli()
			r.Topics[0].Partitions[0].LogStartOffset = 3
			return r, nil, true
		})
		p := newProducer(t, cluster)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		if d := got.wait(t, 1)[0]; !d.Timestamp.Equal(at) || d.LogAppendTimeMs != at.UnixMilli() || d.Offset != 7 || d.LogStartOffset != 3 {
			t.Errorf("%+v", d)
		}
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")})
		if err != nil || !r[0].LogAppendTime.Equal(at) || r[0].LogStartOffset != 3 {
			t.Errorf("%+v %v", r, err)
		}
	})

	t.Run("java 02: a record above max.request.size is refused before it is admitted", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithRecordMaxBytes(10_000))
		ctx := within(t, patience)
		for range 2 { // parked the first time, not the second
			if err := p.Produce(ctx, to("t", 0, strings.Repeat("v", 10_001)), func(troupe.Delivery) { t.Error("called back") }); !errors.Is(err, troupe.ErrRecordTooLarge) {
				t.Error(err)
			}
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, strings.Repeat("v", 9_000))}); err != nil {
				t.Fatal(err)
			}
		}
		// One message that is too large does not keep the others back.
		r, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "a", strings.Repeat("v", 20_000), "b")})
		var send *troupe.SendError
		if !errors.As(err, &send) || len(send.Failed) != 1 || send.Failed[0].Index != 1 || !errors.Is(err, troupe.ErrRecordTooLarge) || len(r) != 1 {
			t.Errorf("%+v %v", r, err)
		}
	})

	t.Run("java 12: a timestamp before 1970 is refused", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		r := to("t", 0, "v")
		r.Timestamp = time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)
		if err := p.Produce(within(t, patience), r, nil); !errors.Is(err, troupe.ErrInvalidRecord) {
			t.Error(err)
		}
	})
}

// TestJavaSplit is about MESSAGE_TOO_LARGE.
func TestJavaSplit(t *testing.T) {
	t.Parallel()

	t.Run("java 09: a single record that the broker refuses as too large fails", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		limit := map[string]string{"max.message.bytes": "2000"}
		if err := cluster.CreateTopic("t", 1, limit); err != nil {
			t.Fatal(err)
		}
		p := newProducer(t, cluster, fast()...)
		ctx := within(t, patience)
		_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, strings.Repeat("v", 3000))})
		var send *troupe.SendError
		if !errors.As(err, &send) || !errors.Is(err, protocol.MessageTooLarge) || send.Failed[0].Status != troupe.NotPersisted {
			t.Fatal(err)
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "small")}); err != nil {
			t.Fatal(err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 1)), []string{"small"})
	})

	t.Run("java 09: a batch that the broker refuses as too large is split, in order and with everything it holds", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		if err := cluster.CreateTopic("t", 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
			t.Fatal(err)
		}
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(long))...)
		var got outcomes
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprintf("%03d%s", i, strings.Repeat("v", 100)))
			r := to("t", 0, want[i])
			r.Tag, r.Headers = uint64(i), []troupe.Header{{Key: "h", Value: []byte(fmt.Sprint(i))}}
			must(t, p, r, got.add)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for i, d := range got.wait(t, 100) {
			if d.Err != nil || d.Tag != uint64(i) || d.Offset != int64(i) {
				t.Fatalf("outcome %d: %+v", i, d)
			}
		}
		for i, r := range consumeAll(t, cluster, "t", 100) {
			if string(r.Value) != want[i] || string(r.Headers[0].Value) != fmt.Sprint(i) {
				t.Fatalf("offset %d holds %s", i, r.Value)
			}
		}
		if n := len(w.of("t", 0)); n > 60 {
			t.Errorf("%d attempts", n)
		}
	})
}
