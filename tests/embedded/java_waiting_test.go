package embedded_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// turns counts what the actors are given to do.
type turns struct{ n atomic.Int64 }

func (c *turns) Received(string, any) { c.n.Add(1) }

// TestJavaWaiting is row 03 again: who waits for something sleeps until it comes
// or until it is too late, whatever it is.
func TestJavaWaiting(t *testing.T) {
	t.Parallel()
	// The waits are longer than any test, so that nothing falls due meanwhile.
	patient := troupe.WithRetry(troupe.RetryPolicy{InitialRetryTime: 10 * time.Minute, MaxRetryTime: time.Hour, Multiplier: 2, Retries: troupe.UnlimitedRetries})
	type scene struct {
		t *testing.T
		p *troupe.Producer
		w *wire
		n *network
	}
	background := context.Background()
	admit := func(s *scene, r troupe.Record) {
		if err := s.p.Produce(background, r, nil); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		options []troupe.Option
		arrange func(*scene)
	}{
		"nothing": {nil, func(s *scene) { warm(s.t, s.p, "t", 0) }},
		"linger": {[]troupe.Option{troupe.WithLinger(long)}, func(s *scene) {
			warm(s.t, s.p, "t", 0)
			admit(s, to("t", 0, "v"))
		}},
		"an answer": {nil, func(s *scene) {
			s.w.hold(s.t, anyRequest)
			admit(s, to("t", 0, "v"))
			eventually(s.t, "the request", func() bool { return len(s.w.of("t", 0)) == 1 })
			for range 10 {
				admit(s, to("t", 0, "behind"))
			}
		}},
		"the next attempt": {nil, func(s *scene) {
			warm(s.t, s.p, "t", 0)
			s.w.answerNext(-1, "t", 0, corruptMessage)
			admit(s, to("t", 0, "v"))
			eventually(s.t, "an attempt", func() bool { return len(s.w.of("t", 0)) == 2 })
		}},
		"a connection": {nil, func(s *scene) {
			warm(s.t, s.p, "t", 0)
			s.n.setDown(true)
			admit(s, to("t", 0, "v"))
			before := s.n.dialed()
			eventually(s.t, "an attempt", func() bool { return s.n.dialed() > before })
		}},
		"a topic": {nil, func(s *scene) {
			warm(s.t, s.p, "t", 0)
			admit(s, to("missing", 0, "v"))
		}},
		"room": {[]troupe.Option{troupe.WithBufferBytes(mib), troupe.WithRecordMaxBytes(mib / 4), troupe.WithMaxBlock(0)}, func(s *scene) {
			warm(s.t, s.p, "t", 0)
			release := s.w.hold(s.t, anyRequest)
			var got outcomes
			fill(s.t, s.p, "t", 0, &got)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = s.p.Produce(background, to("t", 0, strings.Repeat("x", 200_000)), nil)
			}()
			s.t.Cleanup(func() { // before Close, which it would outlive
				release()
				<-ended
			})
		}},
	} {
		t.Run("java 03: waiting for "+name+" costs no turns", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			counted := &turns{}
			s := &scene{t: t, w: watch(cluster), n: newNetwork()}
			s.p = newProducer(t, cluster, append([]troupe.Option{patient, s.n.option(), troupe.WithSeams(troupe.Seams{Tracer: counted}), quietly(&syncBuffer{})}, c.options...)...)
			c.arrange(s)
			time.Sleep(300 * time.Millisecond) // what follows from the last event
			before := counted.n.Load()
			if before == 0 {
				t.Fatal("nothing is counted")
			}
			time.Sleep(500 * time.Millisecond)
			if n := counted.n.Load() - before; n > 20 {
				t.Errorf("%d messages in half a second of waiting", n)
			}
		})
	}
}

// TestJavaWakeups is about callers who wait while the producer fails for good.
func TestJavaWakeups(t *testing.T) {
	t.Parallel()

	t.Run("java 28: a fatal error wakes all who wait", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		gate := make(chan struct{})
		cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			cluster.SleepControl(func() { <-gate })
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ErrorCode = int16(protocol.ClusterAuthorizationFailed)
			return response, nil, true
		})
		p := newProducer(t, cluster, smallBuffer(quietly(&syncBuffer{}))...)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		eventually(t, "the topic", func() bool {
			return p.TryProduce(within(t, patience), to("t", 0, strings.Repeat("x", 200_000)), got.add) == nil
		})
		n := 2 + fill(t, p, "t", 0, &got)
		eventually(t, "admission", func() bool { return p.Unanswered() == n })
		results := map[string]chan error{"Send": make(chan error, 1), "Produce": make(chan error, 1), "Flush": make(chan error, 1)}
		ctx := within(t, patience)
		go func() {
			_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, strings.Repeat("x", 200_000))})
			results["Send"] <- err
		}()
		go func() {
			results["Produce"] <- p.Produce(ctx, to("t", 0, strings.Repeat("x", 200_000)), func(troupe.Delivery) { t.Error("called back") })
		}()
		go func() { results["Flush"] <- p.Flush(ctx) }()
		time.Sleep(50 * time.Millisecond) // they wait by now, and if not they are refused
		close(gate)
		for name, result := range results {
			err := <-result
			if name == "Flush" && err != nil || name != "Flush" && !errors.Is(err, troupe.ErrFatal) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, d := range got.wait(t, n) {
			if !errors.Is(d.Err, troupe.ErrFatal) || d.Status != troupe.NotPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
		}
		answeredOnce(t, p, &got, n)
	})

	t.Run("java 29: append from an expiry callback works", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w := watch(cluster)
		w.hold(t, onNode(0))
		p := newProducer(t, cluster, fast(troupe.WithRequestTimeout(100*time.Millisecond), troupe.WithDeliveryTimeout(300*time.Millisecond), troupe.WithLinger(0))...)
		warm(t, p, "t", 1)
		var expired, again outcomes
		for range 3 {
			must(t, p, to("t", 0, "expires"), func(d troupe.Delivery) {
				expired.add(d)
				if err := p.Produce(context.Background(), to("t", 1, "again"), again.add); err != nil {
					t.Error(err)
				}
			})
		}
		for _, d := range expired.wait(t, 3) {
			if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) {
				t.Error(d.Err)
			}
		}
		for _, d := range again.wait(t, 3) {
			if d.Err != nil || d.Partition != 1 {
				t.Errorf("%+v", d)
			}
		}
	})

	t.Run("java 50: max.block bounds the wait for room of records without a topic", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, smallBuffer(troupe.WithMaxBlock(100*time.Millisecond), troupe.WithMaxTopicWait(time.Hour))...)
		value := strings.Repeat("v", 1000)
		for n := 0; ; n++ {
			err := p.TryProduce(context.Background(), to("missing", 0, value), nil)
			if errors.Is(err, troupe.ErrBufferFull) {
				break
			}
			if err != nil || n > 10_000 {
				t.Fatal(n, err)
			}
		}
		began := time.Now()
		err := p.Produce(context.Background(), to("missing", 0, value), nil)
		if !errors.Is(err, troupe.ErrBufferFull) || !strings.Contains(err.Error(), "max.block.ms") {
			t.Error(err)
		}
		if took := time.Since(began); took < 90*time.Millisecond || took > 5*time.Second {
			t.Errorf("it waited %v", took)
		}
	})
}
