package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

func TestJavaFlush(t *testing.T) {
	t.Parallel()

	t.Run("java 05: flush makes all ready and returns when everything before it is done", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 5, "u": 3})
		for _, codec := range []codecs.ID{codecs.None, codecs.Snappy} {
			p := newProducer(t, cluster, troupe.WithLinger(long), troupe.WithCompression(codec))
			for round := range 3 {
				var done atomic.Int64
				for i := range 500 {
					topic := []string{"t", "u"}[i%2]
					must(t, p, troupe.Record{Topic: topic, Value: []byte(fmt.Sprint(i)), Key: []byte(fmt.Sprint(i))}, func(d troupe.Delivery) {
						if d.Err != nil {
							t.Error(d.Err)
						}
						done.Add(1)
					})
				}
				if err := p.Flush(within(t, patience)); err != nil {
					t.Fatal(err)
				}
				if n := done.Load(); n != 500 || p.Unanswered() != 0 {
					t.Fatalf("round %d: flush returned with %d of 500 called back, %d unanswered", round, n, p.Unanswered())
				}
			}
		}
	})

	t.Run("java 05: concurrent sends are not waited for", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithLinger(long))
		for part := range int32(2) {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(part, "warm")}); err != nil {
				t.Fatal(err)
			}
		}
		release := w.hold(t, anyRequest)
		var before, after outcomes
		must(t, p, to("t", 0, "before"), before.add)
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(within(t, patience)) }()
		eventually(t, "the flushed request", func() bool { return len(w.of("t", 0)) == 2 })
		must(t, p, to("t", 1, "after"), after.add)
		release()
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
		if before.count() != 1 || after.count() != 0 || p.Unanswered() != 1 {
			t.Errorf("%d before, %d after, %d unanswered", before.count(), after.count(), p.Unanswered())
		}
	})

	t.Run("java 05: flush waits for the callbacks, not only for the answers", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		enter, leave := make(chan struct{}), make(chan struct{})
		var left atomic.Bool
		must(t, p, to("t", 0, "v"), func(troupe.Delivery) {
			close(enter)
			<-leave
			left.Store(true)
		})
		<-enter
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(within(t, patience)) }()
		select {
		case err := <-flushed:
			t.Errorf("flush returned %v inside the callback", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(leave)
		if err := <-flushed; err != nil || !left.Load() {
			t.Error(err, left.Load())
		}
	})

	t.Run("java 05: flush through retries and lost connections", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, fast(n.option(), troupe.WithLinger(long), troupe.WithBatchMaxBytes(500))...)
		w.answerNext(2, "t", 0, notLeader)
		n.lose(2)
		var got outcomes
		for i := range 50 {
			must(t, p, to("t", 0, fmt.Sprintf("a value of some length %d", i)), got.add)
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		if got.count() != 50 {
			t.Errorf("%d of 50 called back", got.count())
		}
		consumeAll(t, cluster, "t", 50)
	})

	t.Run("java 05: flush covers parked records", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast(troupe.WithLinger(long))...)
		var got outcomes
		for i := range 10 {
			must(t, p, to("later", 0, fmt.Sprint(i)), got.add)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(within(t, patience)) }()
		eventually(t, "the flush to wait", func() bool { return waitingFor("router.(*Router).Flush") >= 1 || len(flushed) == 1 })
		if err := cluster.CreateTopic("later", 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-flushed; err != nil || got.count() != 10 {
			t.Fatalf("%v, %d of 10 called back", err, got.count())
		}
		consumeAll(t, cluster, "later", 10)
	})

	t.Run("java 05: flush of parked records that fail", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast(troupe.WithMaxTopicWait(200*time.Millisecond))...)
		var got outcomes
		must(t, p, to("never", 0, "v"), got.add)
		if err := p.Flush(within(t, patience)); err != nil || got.count() != 1 {
			t.Fatalf("%v, %d of 1 called back", err, got.count())
		}
	})

	t.Run("java 05: flush ends with its context, and says why", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.hold(t, anyRequest)
		p := newProducer(t, cluster)
		must(t, p, to("t", 0, "v"), nil)
		reason := errors.New("had enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(50*time.Millisecond, func() { cancel(reason) })
		if err := p.Flush(ctx); !errors.Is(err, reason) {
			t.Error(err)
		}
	})

	t.Run("java 05: flush and Close do not wait for the bytes of records that have expired", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithRequestTimeout(100*time.Millisecond), troupe.WithDeliveryTimeout(500*time.Millisecond))...)
		w.hold(t, anyRequest) // its connection is given up after ten seconds
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		began := time.Now()
		for i := range 2 { // before the records expire, and after
			if err := p.Flush(within(t, patience)); err != nil || got.count() != 1 {
				t.Errorf("flush %d: %v, %d of 1 called back", i, err, got.count())
			}
		}
		if err := p.Close(within(t, patience)); err != nil {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if d := got.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
		answeredOnce(t, p, &got, 1)
	})

	t.Run("java 05: flush of nothing", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		if err := p.Flush(within(t, patience)); err != nil {
			t.Error(err)
		}
	})

	t.Run("java 05: many flushes at once, while others produce", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 4})
		p := newProducer(t, cluster)
		var wait sync.WaitGroup
		var done atomic.Int64
		for range 4 {
			wait.Go(func() {
				for i := range 200 {
					must(t, p, troupe.Record{Topic: "t", Value: []byte("v"), Partition: troupe.AtPartition(int32(i % 4))}, func(troupe.Delivery) { done.Add(1) })
					if i%20 == 0 {
						if err := p.Flush(within(t, patience)); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wait.Wait()
		if err := p.Flush(within(t, patience)); err != nil || done.Load() != 800 {
			t.Errorf("%v, %d of 800", err, done.Load())
		}
	})
}
