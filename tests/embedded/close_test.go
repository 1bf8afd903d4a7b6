package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// closeSlack is what Close may take beyond its deadline: the second for a
// callback that does not return, and the slowness of the machine.
const closeSlack = 4 * time.Second

// closing closes with a deadline and checks that the call ends in time.
func closing(t *testing.T, p *troupe.Producer, deadline time.Duration) error {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Close(ctx) }()
	select {
	case err := <-ended:
		if took := time.Since(began); took > deadline+closeSlack {
			t.Errorf("Close with %v took %v", deadline, took)
		}
		return err
	case <-time.After(deadline + patience):
		t.Fatal("Close does not end")
		return nil
	}
}

// closedOutcomes checks that n records were answered once each, those that
// failed with ErrClosed.
func closedOutcomes(t *testing.T, got *outcomes, n int, status troupe.Status) {
	t.Helper()
	for _, d := range got.wait(t, n) {
		if !errors.Is(d.Err, troupe.ErrClosed) || d.Status != status {
			t.Errorf("%v: %v, expected %v", d.Status, d.Err, status)
		}
	}
	if got.count() != n {
		t.Errorf("%d outcomes of %d records", got.count(), n)
	}
}

// answeredOnce checks that a closed producer has called back n times, that
// nothing waits for an answer any more, and that no second one comes later.
func answeredOnce(t *testing.T, p *troupe.Producer, got *outcomes, n int) {
	t.Helper()
	got.wait(t, n)
	eventually(t, "the end of everything", func() bool { return p.Unanswered() == 0 && p.BufferedBytes() == 0 })
	time.Sleep(50 * time.Millisecond)
	if got.count() != n {
		t.Errorf("%d outcomes of %d records", got.count(), n)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()

	t.Run("close: drains what is admitted", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 3})
		p := newProducer(t, cluster, troupe.WithLinger(long))
		var got outcomes
		for i := range 500 {
			must(t, p, to("t", int32(i%3), fmt.Sprint(i)), got.add)
		}
		if err := closing(t, p, patience); err != nil {
			t.Fatal(err)
		}
		if got.count() != 500 {
			t.Errorf("%d of 500 outcomes when Close returned", got.count())
		}
		consumeAll(t, cluster, "t", 500)
	})

	t.Run("close: drains records whose topic becomes known only then", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		gate := make(chan struct{})
		cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.SleepControl(func() { <-gate })
			return nil, nil, false
		})
		p := newProducer(t, cluster)
		var got outcomes
		for i := range 10 {
			must(t, p, to("t", int32(i%2), fmt.Sprint(i)), got.add)
		}
		closed := make(chan error, 1)
		go func() { closed <- p.Close(within(t, patience)) }()
		admitted := 9
		eventually(t, "refusal", func() bool {
			admitted++
			return errors.Is(p.Produce(within(t, patience), to("t", 0, "v"), got.add), troupe.ErrClosed)
		})
		close(gate)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		for _, d := range got.wait(t, admitted) {
			if d.Err != nil {
				t.Error(d.Err)
			}
		}
		consumeAll(t, cluster, "t", admitted)
	})

	t.Run("java 52: close is idempotent, also concurrently, and all calls get the same answer", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		must(t, p, to("t", 0, "v"), nil)
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				if err := closing(t, p, patience); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if err := closing(t, p, time.Nanosecond); err != nil {
			t.Error(err)
		}
	})

	t.Run("java 52: everything after close is refused", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		handle, err := p.Topic("t")
		if err != nil {
			t.Fatal(err)
		}
		warm(t, p, "t", 0)
		if err := closing(t, p, patience); err != nil {
			t.Fatal(err)
		}
		ctx := within(t, patience)
		never := func(troupe.Delivery) { t.Error("called back") }
		_, send := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v")})
		_, other := p.Topic("other")
		for name, err := range map[string]error{
			"Produce": p.Produce(ctx, to("t", 0, "v"), never), "TryProduce": p.TryProduce(ctx, to("t", 0, "v"), never),
			"unknown topic": p.Produce(ctx, to("u", 0, "v"), never),
			"handle":        handle.Produce(ctx, to("", 0, "v"), never), "handle Try": handle.TryProduce(ctx, to("", 0, "v"), never),
			"Send": send, "Topic": other, "Connect": p.Connect(ctx),
		} {
			if !errors.Is(err, troupe.ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := p.Flush(ctx); err != nil {
			t.Errorf("Flush of nothing: %v", err)
		}
	})

	t.Run("close: without ever having been used", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		if err := closing(t, newProducer(t, cluster), patience); err != nil {
			t.Error(err)
		}
	})

	t.Run("close: with the cluster down from the beginning", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		n := newNetwork()
		n.setDown(true)
		p := newProducer(t, cluster, fast(n.option())...)
		var got outcomes
		for range 10 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		closedOutcomes(t, &got, 10, troupe.NotPersisted)
	})

	t.Run("close: with the cluster gone in the middle", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		n := newNetwork()
		p := newProducer(t, cluster, fast(n.option())...)
		warm(t, p, "t", 0)
		n.setDown(true)
		var got outcomes
		for range 10 {
			must(t, p, to("t", 0, "v"), got.add)
		}
		if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		for _, d := range got.wait(t, 10) {
			if !errors.Is(d.Err, troupe.ErrClosed) {
				t.Error(d.Err)
			}
		}
		answeredOnce(t, p, &got, 10)
	})

	t.Run("close: with a dial that hangs", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithDialer(hang))
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		closedOutcomes(t, &got, 1, troupe.NotPersisted)
	})

	t.Run("close: with a request on the wire", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.hold(t, anyRequest)
		p := newProducer(t, cluster)
		var got, behind outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		must(t, p, to("t", 0, "behind"), behind.add)
		if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		closedOutcomes(t, &got, 1, troupe.PossiblyPersisted)
		closedOutcomes(t, &behind, 1, troupe.NotPersisted)
		if used := p.BufferedBytes(); used != 0 {
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
		}
	})

	t.Run("close: in the middle of retries", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(-1, "t", 0, notLeader)
		p := newProducer(t, cluster)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "attempts", func() bool { return len(w.of("t", 0)) >= 2 })
		if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		for _, d := range got.wait(t, 1) {
			if !errors.Is(d.Err, troupe.ErrClosed) {
				t.Error(d.Err)
			}
		}
		answeredOnce(t, p, &got, 1)
	})

	for name, key := range map[string]kmsg.Key{"a metadata refresh": kmsg.Metadata, "a request for the producer id": kmsg.InitProducerID, "a handshake": kmsg.ApiVersions} {
		t.Run("close: in the middle of "+name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			gate := make(chan struct{})
			t.Cleanup(func() { close(gate) })
			reached := counter(cluster, key)
			cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.SleepControl(func() { <-gate })
				return nil, nil, false
			})
			p := newProducer(t, cluster)
			var got outcomes
			must(t, p, to("t", 0, "v"), got.add)
			eventually(t, "the request", func() bool { return reached() > 0 })
			if err := closing(t, p, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			closedOutcomes(t, &got, 1, troupe.NotPersisted)
		})
	}

	t.Run("close: while others produce: each record has its answer", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 4})
		p := newProducer(t, cluster)
		warm(t, p, "t", 0)
		var got outcomes
		var mu sync.Mutex
		admitted := 0
		var wait sync.WaitGroup
		for g := range 4 {
			wait.Go(func() {
				for {
					err := p.Produce(within(t, patience), to("t", int32(g), "v"), got.add)
					if errors.Is(err, troupe.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					admitted++
					mu.Unlock()
				}
			})
		}
		eventually(t, "some records", func() bool { return got.count() > 100 })
		if err := closing(t, p, patience); err != nil {
			t.Error(err)
		}
		wait.Wait()
		mu.Lock()
		n := admitted
		mu.Unlock()
		persisted := 0
		for _, d := range got.wait(t, n) {
			if d.Err == nil {
				persisted++
			}
		}
		if got.count() != n {
			t.Errorf("%d outcomes of %d records", got.count(), n)
		}
		consumeAll(t, cluster, "t", persisted+1)
	})

	t.Run("close: a hundred producers, one after the other", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		for i := range 100 {
			p := newProducer(t, cluster)
			if i%10 == 0 {
				warm(t, p, "t", 0)
			}
			if err := closing(t, p, patience); err != nil {
				t.Fatal(err)
			}
		}
	})
}
