package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestKafkaJSFaults are the faults that were found in KafkaJS, each as a
// regression test.
func TestKafkaJSFaults(t *testing.T) {
	t.Parallel()

	t.Run("kafkajs fault 3.3: no loss when a leader moves to a broker that has answered", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w := watch(cluster)
		var once sync.Once
		w.add(func(pr *produced) (response kmsg.Response, _ error, handled bool) {
			if pr.node != 0 {
				return nil, nil, false
			}
			once.Do(func() {
				// The other broker has answered its part before the leader moves there.
				w.cluster.SleepControl(func() {
					for cluster.PartitionInfo("t", 1).HighWatermark == 0 {
						time.Sleep(time.Millisecond)
					}
				})
				if err := cluster.MoveTopicPartition("t", 0, 1); err != nil {
					t.Error(err)
				}
				response, handled = answer(pr.ProduceRequest, notLeader, -1), true
			})
			return response, nil, handled
		})
		p := newProducer(t, cluster, fast()...)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: slices.Concat(msgs(0, "a", "b"), msgs(1, "c"))})
		if err != nil || len(r) != 2 {
			t.Fatal(r, err)
		}
		expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 3))), []string{"a", "b", "c"})
	})

	t.Run("kafkajs fault 3.3: a partition is chosen once per message, not once per attempt", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 4})
		place(t, cluster, "t", 4, 2)
		w := watch(cluster)
		var calls atomic.Int64
		counting := func(random partitioners.Random) partitioners.Partitioner {
			inner := partitioners.RoundRobin(random)
			return partitioners.Func(func(in *partitioners.Input) int32 {
				calls.Add(1)
				return inner.Partition(in)
			})
		}
		p := newProducer(t, cluster, fast(troupe.WithPartitioner(counting))...)
		ctx := within(t, patience)
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: make([]troupe.Message, 4)}); err != nil {
			t.Fatal(err)
		}
		calls.Store(0)
		w.answerNext(2, "t", 0, notLeader)
		w.answerNext(1, "t", 1, leaderNotAvailable)
		var all []troupe.Message
		var want []string
		for i := range 12 {
			want = append(want, fmt.Sprintf("%02d", i))
			all = append(all, troupe.Message{Value: []byte(want[i])})
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: all}); err != nil {
			t.Fatal(err)
		}
		if n := calls.Load(); n != 12 {
			t.Errorf("the partitioner was asked %d times for 12 messages", n)
		}
		expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 16)))[4:], want)
	})

	t.Run("kafkajs fault 1.2: a topic that comes twice is merged", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1, "u": 1})
		p := newProducer(t, cluster)
		r, err := p.SendBatch(within(t, patience), troupe.SendBatch{TopicMessages: []troupe.TopicMessages{
			{Topic: "t", Messages: msgs(0, "1", "2")}, {Topic: "u", Messages: msgs(0, "x")}, {Topic: "t", Messages: msgs(0, "3")},
		}})
		if err != nil || len(r) != 2 || len(r[0].Messages) != 3 || r[0].Messages[2].Index != 2 {
			t.Fatal(r, err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 3)), []string{"1", "2", "3"})
	})

	t.Run("kafkajs fault 1.2: an unknown partition is an error, not a drop", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		p := newProducer(t, cluster, fast()...)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: slices.Concat(msgs(0, "ok"), msgs(99, "lost"))})
		var send *troupe.SendError
		if !errors.As(err, &send) || !errors.Is(err, troupe.ErrUnknownPartition) || len(send.Failed) != 1 || send.Failed[0].Index != 1 || send.Failed[0].Partition != 99 || send.Failed[0].Status != troupe.NotPersisted {
			t.Fatalf("%+v, %v", r, err)
		}
		if !strings.Contains(err.Error(), "partitions 0 to 1") {
			t.Errorf("the error does not say which partitions there are: %v", err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 1)), []string{"ok"})
	})

	for name, bad := range map[string]func() int32{
		"99": func() int32 { return 99 }, "Invalid": func() int32 { return partitioners.Invalid }, "−7": func() int32 { return -7 },
		"a panic": func() int32 { panic("partitioner") },
	} {
		t.Run("kafkajs fault 1.2: a partitioner that answers "+name+" is an error, not a drop", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 2})
			factory := func(partitioners.Random) partitioners.Partitioner {
				return partitioners.Func(func(in *partitioners.Input) int32 {
					if string(in.Message.Value) == "bad" {
						return bad()
					}
					return 0
				})
			}
			p := newProducer(t, cluster, troupe.WithPartitioner(factory))
			ctx := within(t, patience)
			for range 2 { // the first time the topic is still unknown
				r, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: []troupe.Message{{Value: []byte("good")}, {Value: []byte("bad")}}})
				var send *troupe.SendError
				if !errors.As(err, &send) || !errors.Is(err, troupe.ErrInvalidPartitioner) || len(send.Failed) != 1 || send.Failed[0].Index != 1 {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			if err := p.Produce(ctx, troupe.Record{Topic: "t", Value: []byte("bad")}, nil); !errors.Is(err, troupe.ErrInvalidPartitioner) {
				t.Error(err)
			}
			expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"good", "good"})
		})
	}

	t.Run("kafkajs fault 3.2: an acknowledged partition is never sent again", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 3})
		w := watch(cluster)
		// Partition 1 fails five times, in the same requests as its neighbours.
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: 5})
		p := newProducer(t, cluster, fast(troupe.WithIdempotence(false))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: slices.Concat(msgs(0, "a"), msgs(1, "b"), msgs(2, "c"))}); err != nil {
			t.Fatal(err)
		}
		if a, b, c := len(w.of("t", 0)), len(w.of("t", 1)), len(w.of("t", 2)); a != 1 || b != 6 || c != 1 {
			t.Errorf("sent %d, %d and %d times", a, b, c)
		}
		expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 3))), []string{"a", "b", "c"})
	})

	t.Run("kafkajs fault 3.2: retries do not multiply", func(t *testing.T) {
		t.Parallel()
		for _, idempotent := range []bool{true, false} {
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			w.answerNext(-1, "t", 0, corruptMessage)
			p := newProducer(t, cluster, troupe.WithIdempotence(idempotent), troupe.WithRetry(troupe.RetryPolicy{
				InitialRetryTime: time.Millisecond, MaxRetryTime: 2 * time.Millisecond, Multiplier: 1, Retries: 2,
			}))
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")})
			if !errors.Is(err, troupe.ErrRetriesExhausted) || !errors.Is(err, protocol.CorruptMessage) {
				t.Error(err)
			}
			var send *troupe.SendError
			if !errors.As(err, &send) || send.Failed[0].Status != troupe.NotPersisted {
				t.Errorf("%+v", send)
			}
			if n := len(w.of("t", 0)); n != 3 {
				t.Errorf("2 retries made %d attempts", n)
			}
		}
	})

	for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksLeader} {
		t.Run("kafkajs fault 3.3: concurrent sends keep their order through a retry, acks "+acks.String(), func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			release := w.hold(t, anyRequest)
			w.answerNext(1, "t", 0, notLeader)
			p := newProducer(t, cluster, fast()...)
			var wait sync.WaitGroup
			want := []string{"m1", "m2", "m3", "m4"}
			for i, v := range want {
				wait.Go(func() {
					if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v), Acks: acks}); err != nil {
						t.Error(err)
					}
				})
				eventually(t, "admission", func() bool { return p.Unanswered() == i+1 })
			}
			eventually(t, "the first request", func() bool { return len(w.of("t", 0)) == 1 })
			release()
			wait.Wait()
			expect(t, values(consumeAll(t, cluster, "t", 4)), want)
		})
	}

	t.Run("kafkajs fault 1.3: a partial failure returns the successes and names each failure", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 3, "u": 1})
		place(t, cluster, "t", 3, 2)
		p := newProducer(t, cluster, fast()...)
		for part := range int32(3) {
			warm(t, p, "t", part) // from now on, the messages of one partition travel together
		}
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{1}, Err: kerr.InvalidRecord})
		r, err := p.SendBatch(within(t, patience), troupe.SendBatch{TopicMessages: []troupe.TopicMessages{
			{Topic: "t", Messages: slices.Concat(msgs(0, "a"), msgs(1, "b"), msgs(2, "c"), msgs(1, "d"))}, {Topic: "u", Messages: msgs(0, "e")},
		}})
		var send *troupe.SendError
		if !errors.As(err, &send) || send.Total != 5 || len(send.Failed) != 2 {
			t.Fatal(err)
		}
		for i, index := range []int{1, 3} {
			f := send.Failed[i]
			if f.Topic != "t" || f.Index != index || f.Partition != 1 || f.Status != troupe.NotPersisted || !errors.Is(f, protocol.InvalidRecord) {
				t.Errorf("failure %d: %+v", i, f)
			}
		}
		var one *troupe.MessageError
		var delivery *troupe.DeliveryError
		if !errors.As(err, &one) || !errors.As(err, &delivery) || delivery.Partition != 1 || delivery.Attempts != 1 {
			t.Errorf("%v does not lead to its causes", err)
		}
		if !strings.Contains(err.Error(), "2 of 5 messages failed") {
			t.Error(err)
		}
		if len(r) != 4 || r[0].Err != nil || r[1].Err == nil || r[1].BaseOffset != -1 || r[2].Err != nil || r[3].Topic != "u" || r[3].Err != nil {
			t.Errorf("%+v", r)
		}
		expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 5)))[:2], []string{"a", "c"})
	})

	t.Run("kafkajs fault 6: null and empty keys differ, and an empty key is a key", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 12})
		p := newProducer(t, cluster)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: []troupe.Message{{Key: []byte{}, Value: []byte("empty")}}})
		if err != nil || r[0].Partition != 9 { // Java's murmur2 of no bytes, modulo 12
			t.Fatal(r, err)
		}
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(9, "null")}); err != nil {
			t.Fatal(err)
		}
		got := consumeAll(t, cluster, "t", 2)
		if got[0].Key == nil || len(got[0].Key) != 0 || got[1].Key != nil {
			t.Errorf("the empty key came back as %v, the null one as %v", got[0].Key, got[1].Key)
		}
	})

	t.Run("kafkajs fault 0.5: timeout is the broker's, and goes into the request", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithRequestTimeout(7*time.Second))
		ctx := within(t, patience)
		for _, timeout := range []time.Duration{0, 12345 * time.Millisecond} {
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v"), Timeout: timeout}); err != nil {
				t.Fatal(err)
			}
		}
		if sends := w.of("t", 0); sends[0].timeoutMs != 7000 || sends[1].timeoutMs != 12345 {
			t.Errorf("timeouts %d and %d", sends[0].timeoutMs, sends[1].timeoutMs)
		}
	})

	t.Run("kafkajs fault 3.4: a bad topic does not poison the others", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"good": 1})
		p := newProducer(t, cluster, fast(troupe.WithMaxTopicWait(500*time.Millisecond))...)
		var got outcomes
		must(t, p, to("bad", 0, "v"), got.add)
		for i := range 20 {
			topic := "good"
			if i == 10 {
				if err := cluster.CreateTopic("new", 1, nil); err != nil {
					t.Fatal(err)
				}
			}
			if i >= 10 {
				topic = "new"
			}
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: topic, Messages: msgs(0, "v")}); err != nil {
				t.Fatal(err)
			}
		}
		if d := got.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrUnknownTopic) || !strings.Contains(d.Err.Error(), `"bad"`) {
			t.Error(d.Err)
		}
	})

	t.Run("kafkajs fault 3.6: every acks=0 send completes, once and in order", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithMaxInFlight(1), troupe.WithAcks(troupe.AcksNone), troupe.WithBatchMaxBytes(100), troupe.WithLinger(0))
		var got outcomes
		var want []string
		for i := range 200 {
			want = append(want, fmt.Sprint(i))
			must(t, p, to("t", 0, want[i]), got.add)
		}
		got.wait(t, 200)
		expect(t, values(consumeAll(t, cluster, "t", 200)), want)
		if n := got.count(); n != 200 {
			t.Errorf("%d outcomes of 200 records", n)
		}
	})
}
