package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
)

func TestCallbacks(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 4, "order": 2, "opaque": 2, "reuse": 2, "chain": 1, "panics": 2, "sleeps": 3, "inside": 2})

	t.Run("callback: Opaque and Tag come back with their record", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		var got outcomes
		for i := range 100 {
			r := to("opaque", int32(i%2), fmt.Sprint(i))
			switch i % 3 {
			case 0:
				r.Tag = uint64(i)
			case 1:
				r.Opaque = i
			}
			must(t, p, r, got.add)
		}
		log := make(map[placedAt]string)
		list := got.wait(t, 100)
		for _, r := range consumeAll(t, cluster, "opaque", 100) {
			log[placedAt{r.Partition, r.Offset}] = string(r.Value)
		}
		seen := 0
		for _, d := range list {
			value := log[placedAt{d.Partition, d.Offset}]
			switch {
			case d.Tag != 0 && (value != fmt.Sprint(d.Tag) || d.Opaque != nil):
				t.Errorf("tag %d came with %s", d.Tag, value)
			case d.Opaque != nil && (value != fmt.Sprint(d.Opaque) || d.Tag != 0):
				t.Errorf("opaque %v came with %s", d.Opaque, value)
			}
			if d.Tag != 0 || d.Opaque != nil {
				seen++
			}
		}
		if seen != 66 {
			t.Errorf("%d of 66 came back", seen)
		}
	})

	t.Run("callback: nil is allowed, beside others that are not", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		var got outcomes
		for i := range 30 {
			cb := troupe.Callback(got.add)
			if i%3 == 0 {
				cb = nil
			}
			r := to("t", 0, "v")
			r.Tag = uint64(i)
			must(t, p, r, cb)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if got.count() != 20 || p.Unanswered() != 0 {
			t.Errorf("%d of 20 called back, %d unanswered", got.count(), p.Unanswered())
		}
		for _, d := range got.wait(t, 20) {
			if d.Tag%3 == 0 {
				t.Errorf("record %d has no callback but an outcome", d.Tag)
			}
		}
	})

	t.Run("callback: the caller may reuse key, value and headers at once", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		key, value, header := make([]byte, 8), make([]byte, 8), make([]byte, 8)
		headers := []troupe.Header{{Key: "h", Value: header}}
		for i := range 1000 { // the first ones are parked, the others not
			text := fmt.Sprintf("%08d", i)
			copy(key, text)
			copy(value, text)
			copy(header, text)
			headers[0].Key = text
			must(t, p, troupe.Record{Topic: "reuse", Key: key, Value: value, Headers: headers}, nil)
			clear(key)
			clear(value)
			clear(header)
			headers[0] = troupe.Header{Key: "wrong", Value: header}
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for _, r := range consumeAll(t, cluster, "reuse", 1000) {
			if v := string(r.Value); v != string(r.Key) || v != string(r.Headers[0].Value) || v != r.Headers[0].Key {
				t.Fatalf("value %s, key %s, header %+v", v, r.Key, r.Headers)
			}
		}
	})

	t.Run("java 29: callbacks of one partition run in order, one at a time", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster, troupe.WithBatchMaxBytes(300), troupe.WithLinger(0))
		var running [2]atomic.Int32
		var mu sync.Mutex
		offsets := make(map[int32][]int64)
		for i := range 1000 {
			must(t, p, to("order", int32(i%2), "v"), func(d troupe.Delivery) {
				if running[d.Partition].Add(1) != 1 {
					t.Error("two callbacks of one partition at once")
				}
				mu.Lock()
				offsets[d.Partition] = append(offsets[d.Partition], d.Offset)
				mu.Unlock()
				running[d.Partition].Add(-1)
			})
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for part, list := range offsets {
			if len(list) != 500 || !slices.IsSorted(list) {
				t.Errorf("partition %d: %d callbacks, in order: %v", part, len(list), slices.IsSorted(list))
			}
		}
	})

	t.Run("java 29: append from a callback works, and no lock is held", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		done := make(chan struct{})
		var next func(i int) troupe.Callback
		next = func(i int) troupe.Callback {
			return func(d troupe.Delivery) {
				_, _ = p.Unanswered(), p.BufferedBytes()
				if d.Err != nil || i == 50 {
					close(done)
					return
				}
				if err := p.Produce(context.Background(), to("chain", 0, fmt.Sprint(i+1)), next(i+1)); err != nil {
					t.Error(err)
					close(done)
				}
			}
		}
		must(t, p, to("chain", 0, "0"), next(0))
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the chain of callbacks broke")
		}
		consumeAll(t, cluster, "chain", 51)
	})

	t.Run("java 29: a callback's panic costs nobody else their answer", func(t *testing.T) {
		t.Parallel()
		var log syncBuffer
		p := newProducer(t, cluster, quietly(&log))
		var got outcomes
		for i := range 100 {
			cb := troupe.Callback(got.add)
			if i%5 == 0 {
				cb = func(troupe.Delivery) { panic("a bug of the user's") }
			}
			must(t, p, to("panics", int32(i%2), "v"), cb)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if got.count() != 80 || p.Unanswered() != 0 {
			t.Errorf("%d of 80 called back, %d unanswered", got.count(), p.Unanswered())
		}
		if !strings.Contains(log.String(), "a delivery callback panicked") {
			t.Error("the panic is not reported")
		}
	})

	t.Run("callback: one that sleeps delays no other partition", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		asleep, wake := make(chan struct{}), make(chan struct{})
		must(t, p, to("sleeps", 0, "v"), func(troupe.Delivery) {
			close(asleep)
			<-wake
		})
		<-asleep
		for range 20 {
			for part := int32(1); part < 3; part++ {
				warm(t, p, "sleeps", part)
			}
		}
		// Its own partition goes on to the log, only the answers wait.
		var own outcomes
		before := cluster.PartitionInfo("sleeps", 0).HighWatermark
		must(t, p, to("sleeps", 0, "v"), own.add)
		eventually(t, "the append", func() bool { return cluster.PartitionInfo("sleeps", 0).HighWatermark == before+1 })
		if own.count() != 0 {
			t.Error("a callback overtook the one before")
		}
		close(wake)
		own.wait(t, 1)
	})

	t.Run("java 52: Flush and Send inside a callback end with their context", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		ended := make(chan [2]error, 1)
		must(t, p, to("inside", 0, "v"), func(troupe.Delivery) {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			flush := p.Flush(ctx)
			ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, send := p.Send(ctx, troupe.Send{Topic: "inside", Messages: msgs(0, "own partition")})
			ended <- [2]error{flush, send}
		})
		for _, err := range <-ended {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		warm(t, p, "inside", 1)
	})

	t.Run("java 52: and without a context of their own they set one", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster, troupe.WithLinger(0), troupe.WithRequestTimeout(100*time.Millisecond), troupe.WithDeliveryTimeout(200*time.Millisecond))
		ended := make(chan error, 3)
		must(t, p, to("inside", 0, "v"), func(troupe.Delivery) {
			ended <- p.Flush(context.Background())
			_, err := p.Send(context.Background(), troupe.Send{Topic: "inside", Messages: msgs(0, "own partition")})
			ended <- err
			ended <- p.Close(context.Background())
		})
		for range 3 {
			select {
			case err := <-ended:
				if err == nil {
					t.Error("nil")
				}
			case <-time.After(patience):
				t.Fatal("a call inside a callback does not end")
			}
		}
	})

	t.Run("java 52: Close inside a callback ends", func(t *testing.T) {
		t.Parallel()
		p := newProducer(t, cluster)
		ended := make(chan error, 1)
		must(t, p, to("inside", 1, "v"), func(troupe.Delivery) {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			ended <- p.Close(ctx)
		})
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := p.Produce(within(t, patience), to("inside", 1, "v"), nil); !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
	})
}

type placedAt struct {
	partition int32
	offset    int64
}
