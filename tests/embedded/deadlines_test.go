package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
)

// TestContexts is about records that share a batch with one whose context ends.
func TestContexts(t *testing.T) {
	t.Parallel()

	t.Run("context: its end fails its own record, not its neighbours in a batch on the wire", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithLinger(long))
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		ctx, cancel := contextWithCancel(t)
		var a, b outcomes
		must(t, p, to("t", 0, "b1"), b.add)
		mustContext(ctx, t, p, to("t", 0, "a"), a.add)
		must(t, p, to("t", 0, "b2"), b.add)
		flushed := make(chan error, 1)
		go func() { flushed <- p.Flush(within(t, patience)) }()
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
		cancel()
		d := a.wait(t, 1)[0]
		if !errors.Is(d.Err, context.Canceled) || d.Status != troupe.PossiblyPersisted || d.Offset != -1 {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
		if b.count() != 0 {
			t.Error("a neighbour was answered with it")
		}
		release()
		for i, d := range b.wait(t, 2) {
			if d.Err != nil || d.Offset != int64(1+2*i) {
				t.Errorf("neighbour %d: offset %d, %v", i, d.Offset, d.Err)
			}
		}
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 4)), []string{"warm", "b1", "a", "b2"})
		if a.count() != 1 {
			t.Error("answered twice")
		}
	})

	t.Run("context: before the hand-over its record leaves the batch", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithLinger(long))
		warm(t, p, "t", 0)
		reason := errors.New("not needed any more")
		ctx, cancel := context.WithCancelCause(context.Background())
		var a, b outcomes
		for i := range 20 {
			r := to("t", 0, fmt.Sprint(i))
			r.Tag, r.Headers, r.Timestamp = uint64(i), []troupe.Header{{Key: "i", Value: []byte(fmt.Sprint(i))}}, time.UnixMilli(int64(1_700_000_000_000+i*1000))
			if i%3 == 0 {
				mustContext(ctx, t, p, r, a.add)
			} else {
				must(t, p, r, b.add)
			}
		}
		cancel(reason)
		for _, d := range a.wait(t, 7) {
			if !errors.Is(d.Err, reason) || d.Status != troupe.NotPersisted || d.Tag%3 != 0 {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
		}
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		for i, r := range consumeAll(t, cluster, "t", 14)[1:] {
			want := i/2*3 + 1 + i%2
			if string(r.Value) != fmt.Sprint(want) || string(r.Headers[0].Value) != fmt.Sprint(want) || r.Timestamp.UnixMilli() != int64(1_700_000_000_000+want*1000) {
				t.Errorf("offset %d holds %s (%s) of %v", r.Offset, r.Value, r.Headers[0].Value, r.Timestamp)
			}
		}
		for i, d := range b.wait(t, 13) {
			if d.Err != nil || d.Offset != int64(i+1) || int(d.Tag) != i/2*3+1+i%2 {
				t.Errorf("record %d: offset %d, %v", d.Tag, d.Offset, d.Err)
			}
		}
		sends := w.of("t", 0)
		if last := sends[len(sends)-1].batch; last.NumRecords != 13 || last.LastOffsetDelta != 12 || last.FirstSequence != 1 {
			t.Errorf("the batch has %d records, sequence %d", last.NumRecords, last.FirstSequence)
		}
	})

	t.Run("context: one that has ended is refused on admission", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		ctx, cancel := contextWithCancel(t)
		cancel()
		if err := p.Produce(ctx, to("t", 0, "v"), func(troupe.Delivery) { t.Error("called back") }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v")}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})

	t.Run("context: a Send that ends leaves with what it knows", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w := watch(cluster)
		p := newProducer(t, cluster)
		warm(t, p, "t", 0)
		warm(t, p, "t", 1)
		w.hold(t, onNode(1))
		ctx, cancel := contextWithCancel(t)
		go func() {
			for len(w.of("t", 1)) < 2 || cluster.PartitionInfo("t", 0).HighWatermark < 2 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond) // the answer of partition 0 comes first
			cancel()
		}()
		r, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: append(msgs(0, "ok"), msgs(1, "held")...)})
		var send *troupe.SendError
		if !errors.As(err, &send) || !errors.Is(err, context.Canceled) || len(send.Failed) != 1 || send.Failed[0].Index != 1 || send.Failed[0].Status != troupe.PossiblyPersisted {
			t.Fatalf("%+v %v", r, err)
		}
		if len(r) == 0 || r[0].Partition != 0 || r[0].Err != nil || r[0].BaseOffset != 1 {
			t.Errorf("%+v", r)
		}
	})

	t.Run("context: of a parked record", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast()...)
		ctx, cancel := contextWithCancel(t)
		var a, b outcomes
		mustContext(ctx, t, p, to("later", 0, "a"), a.add)
		must(t, p, to("later", 0, "b"), b.add)
		cancel()
		if d := a.wait(t, 1)[0]; !errors.Is(d.Err, context.Canceled) || d.Status != troupe.NotPersisted {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
		if err := cluster.CreateTopic("later", 1, nil); err != nil {
			t.Fatal(err)
		}
		if d := b.wait(t, 1)[0]; d.Err != nil {
			t.Error(d.Err)
		}
		expect(t, values(consumeAll(t, cluster, "later", 1)), []string{"b"})
	})
}

// TestDeliveryTimeout is java 19: each record expires once, and the error says
// whether it may be in the log.
func TestDeliveryTimeout(t *testing.T) {
	t.Parallel()
	short := func(more ...troupe.Option) []troupe.Option {
		return fast(append([]troupe.Option{troupe.WithRequestTimeout(100 * time.Millisecond), troupe.WithDeliveryTimeout(500 * time.Millisecond), troupe.WithLinger(0)}, more...)...)
	}

	t.Run("java 19: never sent is not persisted, sent without answer is possibly persisted", func(t *testing.T) {
		t.Parallel()
		for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksLeader} {
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			release := w.hold(t, anyRequest)
			p := newProducer(t, cluster, short(troupe.WithAcks(acks))...)
			var sentOut, never outcomes
			must(t, p, to("t", 0, "sent"), sentOut.add)
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
			must(t, p, to("t", 0, "never"), never.add)
			if d := sentOut.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted || d.Attempts != 1 {
				t.Errorf("sent: %v after %d attempts, %v", d.Status, d.Attempts, d.Err)
			}
			if d := never.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.NotPersisted || d.Attempts != 0 {
				t.Errorf("never sent: %v after %d attempts, %v", d.Status, d.Attempts, d.Err)
			}
			// A late success completes nothing twice.
			release()
			eventually(t, "the late append", func() bool { return cluster.PartitionInfo("t", 0).HighWatermark >= 1 })
			warm(t, p, "t", 0)
			if sentOut.count() != 1 || never.count() != 1 {
				t.Errorf("%d and %d outcomes", sentOut.count(), never.count())
			}
		}
	})

	t.Run("java 19: an expired batch is not retried", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(-1, "t", 0, notLeader)
		p := newProducer(t, cluster, short()...)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		d := got.wait(t, 1)[0]
		if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.NotPersisted || d.Attempts < 2 || d.LastBrokerError == nil {
			t.Errorf("%v after %d attempts: %v", d.Status, d.Attempts, d.Err)
		}
		attempts := len(w.of("t", 0))
		time.Sleep(300 * time.Millisecond)
		if n := len(w.of("t", 0)); n != attempts {
			t.Errorf("%d attempts after the outcome", n-attempts)
		}
	})

	t.Run("java 19: without any broker", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		n := newNetwork()
		p := newProducer(t, cluster, short(n.option())...)
		warm(t, p, "t", 0)
		n.setDown(true)
		var got outcomes
		for i := range 20 {
			must(t, p, to("t", 0, fmt.Sprint(i)), got.add)
		}
		for _, d := range got.wait(t, 20) {
			if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) {
				t.Error(d.Err)
			}
		}
		n.setDown(false)
		warm(t, p, "t", 0)
		if got.count() != 20 {
			t.Errorf("%d outcomes of 20", got.count())
		}
	})

	t.Run("java 18: with one batch in flight the partition waits for the answer, also of an expired one", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		release := w.hold(t, anyRequest)
		p := newProducer(t, cluster, short(troupe.WithMaxInFlight(1), troupe.WithIdempotence(false))...)
		var got outcomes
		must(t, p, to("t", 0, "first"), got.add)
		got.wait(t, 1)
		must(t, p, to("t", 0, "second"), got.add)
		got.wait(t, 2)
		if n := len(w.of("t", 0)); n != 1 {
			t.Errorf("%d requests while the first was open", n)
		}
		release()
		warm(t, p, "t", 0)
		expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"first", "warm"})
	})

	t.Run("delivery: a connection that ends with a batch in flight: it is sent again, once in the log", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, fast(n.option())...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
		n.setDown(true)
		release()
		n.setDown(false)
		d := got.wait(t, 1)[0]
		if d.Err != nil || d.Offset != 1 || d.Attempts < 2 || !errors.Is(d.LastBrokerError, troupe.ErrConnectionLost) {
			t.Errorf("%+v", d)
		}
		expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"warm", "v"})
	})
}
