package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

const mib = 1 << 20

// smallBuffer is the smallest buffer there is, without the pace that makes
// callers wait earlier.
func smallBuffer(more ...troupe.Option) []troupe.Option {
	return fast(append([]troupe.Option{troupe.WithBufferBytes(mib), troupe.WithRecordMaxBytes(mib / 4), troupe.WithLinger(0)}, more...)...)
}

// fill admits records for a partition until there is no room for another.
func fill(t *testing.T, p *troupe.Producer, topic string, partition int32, got *outcomes) int {
	t.Helper()
	value := strings.Repeat("x", 60_000)
	for n := 0; ; n++ {
		err := p.TryProduce(context.Background(), to(topic, partition, value), got.add)
		if errors.Is(err, troupe.ErrBufferFull) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 100 {
			t.Fatalf("%d records of 60 kB fit a buffer of 1 MiB", n)
		}
	}
}

// warm makes a topic's partition known, and its connection.
func warm(t *testing.T, p *troupe.Producer, topic string, partition int32) {
	t.Helper()
	if _, err := p.Send(within(t, patience), troupe.Send{Topic: topic, Messages: msgs(partition, "warm")}); err != nil {
		t.Fatal(err)
	}
}

// TestJavaBudget counts waiting goroutines, so nothing runs beside it.
func TestJavaBudget(t *testing.T) {

	t.Run("java 06: memory is bounded: TryProduce gets ErrBufferFull, and all comes back", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer()...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		var got outcomes
		n := fill(t, p, "t", 0, &got)
		if used := p.BufferedBytes(); used > mib {
			t.Errorf("%d bytes in use of %d", used, mib)
		}
		release()
		got.wait(t, n)
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		consumeAll(t, cluster, "t", n+1)
	})

	t.Run("java 06: waiters are served first come first served, and leave with their context", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer(troupe.WithMaxInFlight(1), troupe.WithBatchMaxBytes(60_000))...)
		warm(t, p, "t", 0)
		// Every request has one batch and needs one ticket to be answered.
		tickets := make(chan struct{}, 1000)
		w.add(func(*produced) (kmsg.Response, error, bool) {
			cluster.SleepControl(func() { <-tickets })
			return nil, nil, false
		})
		var got outcomes
		filled := fill(t, p, "t", 0, &got)
		large := strings.Repeat("y", 70_000) // more than one batch of the filling
		cancelled, cancel := contextWithCancel(t)
		results := make(chan int, 5)
		for i := range 5 {
			ctx := within(t, patience)
			if i == 1 {
				ctx = cancelled
			}
			go func() {
				err := p.Produce(ctx, to("t", 0, fmt.Sprint(i, large)), got.add)
				if i == 1 != errors.Is(err, context.Canceled) || i != 1 && err != nil {
					t.Errorf("waiter %d: %v", i, err)
				}
				results <- i
			}()
			// The next one comes when this one stands in line.
			eventually(t, "a waiter", func() bool { return waitingFor("memory.(*Budget).Acquire") >= i+1 })
		}
		if err := p.TryProduce(within(t, patience), to("t", 0, strings.Repeat("z", 60_000)), nil); !errors.Is(err, troupe.ErrBufferFull) {
			t.Error(err)
		}
		cancel()
		order := []int{<-results}
		for answered := 0; len(order) < 5; {
			tickets <- struct{}{}
			answered++
			eventually(t, "an answer", func() bool { return got.count() >= answered })
			select {
			case i := <-results:
				order = append(order, i)
			case <-time.After(100 * time.Millisecond):
			}
		}
		if !slices.Equal(order, []int{1, 0, 2, 3, 4}) {
			t.Errorf("the cancelled one and the others left in the order %v", order)
		}
		close(tickets)
		got.wait(t, filled+4)
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		consumeAll(t, cluster, "t", filled+5)
	})

	t.Run("java 06: max.block bounds the wait of a call without deadline", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer(troupe.WithMaxBlock(50*time.Millisecond))...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		var got outcomes
		n := fill(t, p, "t", 0, &got)
		err := p.Produce(context.Background(), to("t", 0, strings.Repeat("x", 200_000)), nil)
		if !errors.Is(err, troupe.ErrBufferFull) || !strings.Contains(err.Error(), "max.block.ms") {
			t.Error(err)
		}
		// A deadline of the caller's own is the caller's to report.
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := p.Produce(ctx, to("t", 0, strings.Repeat("x", 200_000)), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		release()
		got.wait(t, n)
		// Nothing that the calls had gathered before they gave up is lost.
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
	})

	t.Run("java 06: close wakes the waiters", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer()...)
		warm(t, p, "t", 0)
		w.hold(t, anyRequest)
		var got outcomes
		n := fill(t, p, "t", 0, &got)
		waiting := make(chan error, 3)
		for range 3 {
			go func() {
				waiting <- p.Produce(within(t, patience), to("t", 0, strings.Repeat("x", 200_000)), func(troupe.Delivery) { t.Error("called back") })
			}()
		}
		eventually(t, "the waiters", func() bool { return waitingFor("memory.(*Budget).Acquire") >= 3 })
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		for range 3 {
			if err := <-waiting; !errors.Is(err, troupe.ErrClosed) {
				t.Error(err)
			}
		}
		for _, d := range got.wait(t, n) {
			if !errors.Is(d.Err, troupe.ErrClosed) {
				t.Error(d.Err)
			}
		}
	})

	t.Run("java 07: each buffer comes back exactly once, whatever became of its batch", func(t *testing.T) {
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, fast(n.option(), troupe.WithDeliveryTimeout(700*time.Millisecond), troupe.WithRequestTimeout(300*time.Millisecond), troupe.WithLinger(0))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		release := w.hold(t, onNode(0))
		var got outcomes
		value := strings.Repeat("v", 1000)
		for i := range 400 {
			ctx, cancel := context.WithCancel(context.Background())
			if i%3 == 0 {
				time.AfterFunc(time.Duration(i)*time.Millisecond, cancel)
			} else {
				t.Cleanup(cancel)
			}
			if err := p.Produce(ctx, to("t", int32(i%2), value), got.add); err != nil {
				cancel()
				got.add(troupe.Delivery{Err: err})
			}
			if i == 200 {
				n.lose(1)
			}
		}
		got.wait(t, 400) // those of node 0 have run out of time
		release()
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 && p.Unanswered() == 0 })
		if got.count() != 400 {
			t.Errorf("%d outcomes of 400 records", got.count())
		}
		// And there is nothing below zero: the buffer works as before.
		for i := range 20 {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(int32(i%2), value)}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
	})

	t.Run("java 06: one dead broker of three leaves room for the others", func(t *testing.T) {
		cluster := startCluster(t, 3, map[string]int32{"t": 3})
		place(t, cluster, "t", 3, 3)
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer()...)
		for part := range int32(3) {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(part, "warm")}); err != nil {
				t.Fatal(err)
			}
		}
		w.hold(t, onNode(0))
		var dead, alive outcomes
		fill(t, p, "t", 0, &dead)
		blocked := make(chan error, 1)
		ctx, cancel := contextWithCancel(t)
		go func() {
			blocked <- p.Produce(ctx, to("t", 0, strings.Repeat("x", 70_000)), nil)
		}()
		eventually(t, "a waiter", func() bool { return waitingFor("memory.(*Budget).Acquire") >= 1 })
		for i := range 200 {
			must(t, p, to("t", int32(1+i%2), strings.Repeat("x", 10_000)), alive.add)
		}
		for _, d := range alive.wait(t, 200) {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		if dead.count() != 0 {
			t.Errorf("%d records of the dead broker have an outcome", dead.count())
		}
		cancel()
		if err := <-blocked; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
