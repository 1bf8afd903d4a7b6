package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

func TestJavaSequences(t *testing.T) {
	t.Parallel()

	t.Run("java 24: the sequence rises by the record count, per partition, through any failure", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 3})
		place(t, cluster, "t", 3, 2)
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, fast(n.option(), troupe.WithLinger(0), troupe.WithBatchMaxBytes(300))...)
		var got outcomes
		for i := range 300 {
			switch i {
			case 50:
				w.answerNext(2, "t", 0, notLeader)
			case 100:
				n.lose(2)
			case 150:
				cluster.ShufflePartitionLeaders()
			}
			must(t, p, to("t", int32(i%3), fmt.Sprintf("value %03d", i)), got.add)
		}
		for _, d := range got.wait(t, 300) {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		for part := range int32(3) {
			assertSequences(t, w.of("t", part))
		}
		for part, list := range perPartition(consumeAll(t, cluster, "t", 300)) {
			if !slices.IsSorted(list) {
				t.Errorf("partition %d is out of order: %v", part, list)
			}
		}
	})

	t.Run("java 16: DUPLICATE_SEQUENCE is a success without offset", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.answerNext(1, "t", 0, int16(protocol.DuplicateSequenceNumber))
		p := newProducer(t, cluster)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")})
		if err != nil || r[0].BaseOffset != -1 || r[0].Messages[0].Status != troupe.Persisted {
			t.Errorf("%+v %v", r, err)
		}
	})

	t.Run("java 21: OUT_OF_ORDER on the next batch starts a new epoch and sends it again", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast()...)
		ctx := within(t, patience)
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "a")}); err != nil {
			t.Fatal(err)
		}
		w.answerNext(1, "t", 0, int16(protocol.OutOfOrderSequenceNumber))
		for _, v := range []string{"b", "c"} {
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, values(consumeAll(t, cluster, "t", 3)), []string{"a", "b", "c"})
		sends := w.of("t", 0)
		if last := sends[len(sends)-1].batch; last.ProducerEpoch == 0 || last.FirstSequence != 1 {
			t.Errorf("the last batch has epoch %d, sequence %d", last.ProducerEpoch, last.FirstSequence)
		}
		assertSequences(t, sends)
	})

	t.Run("java 17: a batch that fails for good does not take those behind it along", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		release := w.hold(t, anyRequest)
		w.answerNext(1, "t", 0, int16(protocol.InvalidRecord))
		var got outcomes
		value := strings.Repeat("v", 60)
		for i := range 20 {
			must(t, p, to("t", 0, fmt.Sprintf("%02d%s", i, value)), got.add)
		}
		eventually(t, "requests", func() bool { return len(w.of("t", 0)) > 1 })
		release()
		list := got.wait(t, 20)
		failed := 0
		for _, d := range list {
			if d.Err != nil {
				failed++
				if !errors.Is(d.Err, protocol.InvalidRecord) || d.Status != troupe.NotPersisted {
					t.Error(d.Err)
				}
			}
		}
		if failed != 1 {
			t.Errorf("%d records failed with one batch of one record", failed)
		}
		got2 := values(consumeAll(t, cluster, "t", 20))
		if !slices.IsSorted(got2[1:]) {
			t.Errorf("out of order: %v", got2)
		}
		// The gap it leaves is closed by a new epoch, in which the others follow each
		// other without one.
		assertSequences(t, w.of("t", 0))
		sends := w.of("t", 0)
		if last := sends[len(sends)-1].batch; last.ProducerEpoch != 1 {
			t.Errorf("the last batch went under epoch %d", last.ProducerEpoch)
		}
	})

	t.Run("java 20: what expires says whether it was sent, and what was not is not in the log", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithRequestTimeout(200*time.Millisecond), troupe.WithDeliveryTimeout(600*time.Millisecond))...)
		release := w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("t", 0, "sent"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		for range 3 {
			must(t, p, to("t", 0, "unsent"), got.add)
		}
		for i, d := range got.wait(t, 4) {
			want := troupe.NotPersisted
			if d.Attempts > 0 {
				want = troupe.PossiblyPersisted
			}
			if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != want {
				t.Errorf("outcome %d: %v, %v", i, d.Status, d.Err)
			}
		}
		release()
		eventually(t, "the partition to work", func() bool {
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "later")})
			return err == nil
		})
		log := values(consumeAll(t, cluster, "t", int(cluster.PartitionInfo("t", 0).HighWatermark)))
		for _, v := range log {
			if v == "unsent" {
				t.Errorf("a record that is said to be not persisted stands in the log: %v", log)
			}
		}
	})
}

func TestJavaLeaders(t *testing.T) {
	t.Parallel()

	t.Run("java 25: a leader hint is used, without waiting for metadata", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 1})
		place(t, cluster, "t", 1, 1)
		p := newProducer(t, cluster, fast()...)
		ctx := within(t, patience)
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "a")}); err != nil {
			t.Fatal(err)
		}
		// From now on metadata stays as it was.
		cluster.ControlKey(int16(kmsg.Metadata), clusterOnlyOf(cluster, "t", 1, func(int32) int32 { return 0 }))
		if err := cluster.MoveTopicPartition("t", 0, 2); err != nil {
			t.Fatal(err)
		}
		w := watch(cluster)
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "b")}); err != nil {
			t.Fatal(err)
		}
		if got := nodes(w.of("t", 0)); !slices.Equal(got, []int32{0, 2}) {
			t.Errorf("sent to %v", got)
		}
	})

	t.Run("java 25: a stale leader hint is ignored", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 1})
		place(t, cluster, "t", 1, 1)
		w := watch(cluster)
		n := 0
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if n++; n > 3 {
				return nil, nil, false
			}
			r := answer(pr.ProduceRequest, notLeader, -1)
			hint := &r.Topics[0].Partitions[0].CurrentLeader
			hint.LeaderID, hint.LeaderEpoch = 2, 0 // older than what metadata says
			return r, nil, true
		})
		p := newProducer(t, cluster, fast()...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
		for _, s := range w.of("t", 0) {
			if s.node != 0 {
				t.Errorf("sent to node %d", s.node)
			}
		}
	})

	t.Run("java 25: without hints a refresh finds the leader", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 1})
		place(t, cluster, "t", 1, 1)
		w := watch(cluster)
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if pr.node == 1 {
				return nil, nil, false
			}
			_ = cluster.MoveTopicPartition("t", 0, 1)
			return answer(pr.ProduceRequest, notLeader, -1), nil, true
		})
		p := newProducer(t, cluster, fast()...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("java 14: a moving leader keeps order and loses nothing, five in flight", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 2})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(500))...)
		var got outcomes
		const n = 3000
		stop := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					cluster.ShufflePartitionLeaders()
				}
			}
		})
		for i := range n {
			must(t, p, to("t", int32(i%2), fmt.Sprintf("value %05d", i)), got.add)
			if i%300 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		list := got.wait(t, n)
		close(stop)
		wait.Wait()
		for _, d := range list {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		for part, list := range perPartition(consumeAll(t, cluster, "t", n)) {
			if !slices.IsSorted(list) {
				t.Errorf("partition %d is out of order", part)
			}
			assertSequences(t, w.of("t", part))
		}
	})

	t.Run("java 28: a partition without leader waits for one", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		var mu sync.Mutex
		leader := int32(-1)
		cluster.ControlKey(int16(kmsg.Metadata), clusterOnlyOf(cluster, "t", 2, func(p int32) int32 {
			mu.Lock()
			defer mu.Unlock()
			if p == 1 {
				return leader
			}
			return 0
		}))
		p := newProducer(t, cluster, fast()...)
		var got outcomes
		must(t, p, to("t", 1, "waits"), got.add)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "does not")}); err != nil {
			t.Fatal(err)
		}
		if got.count() != 0 {
			t.Error("a partition without leader has an outcome")
		}
		mu.Lock()
		leader = 0
		mu.Unlock()
		if d := got.wait(t, 1)[0]; d.Err != nil {
			t.Error(d.Err)
		}
	})
}

func TestJavaErrors(t *testing.T) {
	t.Parallel()

	for name, code := range map[string]protocol.ErrorCode{"CLUSTER_AUTHORIZATION_FAILED": protocol.ClusterAuthorizationFailed, "UNSUPPORTED_VERSION": protocol.UnsupportedVersion} {
		t.Run("java 27: "+name+" for the producer id is fatal: all fail, close works", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 2})
			cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
				response.ErrorCode = int16(code)
				return response, nil, true
			})
			p := newProducer(t, cluster, fast()...)
			var got outcomes
			admitted := 0
			for i := range 10 {
				if p.Produce(within(t, patience), to("t", int32(i%2), "v"), got.add) == nil {
					admitted++
				}
			}
			for _, d := range got.wait(t, admitted) {
				if !errors.Is(d.Err, troupe.ErrFatal) || !errors.Is(d.Err, code) || d.Status != troupe.NotPersisted {
					t.Error(d.Status, d.Err)
				}
				if !strings.Contains(d.Err.Error(), "turn idempotence off") {
					t.Errorf("no remedy is named: %v", d.Err)
				}
			}
			eventually(t, "refusal", func() bool { return errors.Is(p.Produce(within(t, patience), to("t", 0, "v"), nil), troupe.ErrFatal) })
			if err := p.Close(within(t, patience)); err != nil {
				t.Error(err)
			}
			if used := p.BufferedBytes(); used != 0 {
				t.Errorf("%d bytes leak", used)
			}
		})
	}

	t.Run("java 27: topic authorisation fails that topic only, and at once", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"open": 1, "secret": 1})
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "secret", Err: kerr.TopicAuthorizationFailed, Count: -1})
		p := newProducer(t, cluster, fast()...)
		r, err := p.SendBatch(within(t, patience), troupe.SendBatch{TopicMessages: []troupe.TopicMessages{{Topic: "secret", Messages: msgs(0, "v")}, {Topic: "open", Messages: msgs(0, "v")}}})
		var send *troupe.SendError
		if !errors.As(err, &send) || len(send.Failed) != 1 || send.Failed[0].Topic != "secret" || !errors.Is(err, protocol.TopicAuthorizationFailed) || send.Failed[0].Status != troupe.NotPersisted {
			t.Fatalf("%+v %v", r, err)
		}
		if err := p.Produce(within(t, patience), to("secret", 0, "v"), nil); !errors.Is(err, protocol.TopicAuthorizationFailed) {
			t.Error(err)
		}
	})

	t.Run("java 27: topic authorisation in an answer fails that batch only", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{1}, Err: kerr.TopicAuthorizationFailed})
		p := newProducer(t, cluster, fast()...)
		ctx := within(t, patience)
		_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: slices.Concat(msgs(0, "a"), msgs(1, "b"))})
		var send *troupe.SendError
		if !errors.As(err, &send) || len(send.Failed) != 1 || send.Failed[0].Partition != 1 {
			t.Fatal(err)
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(1, "c")}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("java 51: the callback sees topic, partition and error of an early failure", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast(troupe.WithMaxTopicWait(100*time.Millisecond))...)
		var got outcomes
		r := to("never", 3, "v")
		r.Tag, r.Opaque = 7, "mine"
		must(t, p, r, got.add)
		d := got.wait(t, 1)[0]
		if d.Topic != "never" || d.Partition != 3 || d.Offset != -1 || d.Tag != 7 || d.Opaque != "mine" || d.Err == nil || d.Status != troupe.NotPersisted {
			t.Errorf("%+v", d)
		}
	})
}

func TestJavaAcksAndThrottle(t *testing.T) {
	t.Parallel()

	t.Run("java 31: acks=0 completes on write", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		w.hold(t, anyRequest) // the broker never gets to it
		p := newProducer(t, cluster)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v"), Acks: troupe.AcksNone}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("java 31: acks -1, 1 and 0 go into the request, on connections of their own where they must", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster)
		ctx := within(t, patience)
		var want []int16
		for range 3 {
			for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksNone, troupe.AcksLeader, troupe.AcksDefault} {
				if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, acks.String()), Acks: acks}); err != nil {
					t.Fatal(err)
				}
				want = append(want, acks.Wire())
			}
		}
		eventually(t, "all requests", func() bool { return len(w.of("t", 0)) == len(want) })
		counts := make(map[int16]int)
		for _, s := range w.of("t", 0) {
			counts[s.acks]++
			if numbered := s.batch.ProducerID >= 0; numbered != (s.acks == -1) {
				t.Errorf("acks %d: producer id %d", s.acks, s.batch.ProducerID)
			}
		}
		if counts[-1] != 6 || counts[0] != 3 || counts[1] != 3 {
			t.Error(counts)
		}
	})

	t.Run("java 31: acks=0 in doubt is possibly persisted, and never sent twice", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		n := newNetwork()
		p := newProducer(t, cluster, fast(n.option(), troupe.WithAcks(troupe.AcksNone), troupe.WithLinger(0))...)
		var got outcomes
		for i := range 300 {
			must(t, p, to("t", 0, fmt.Sprint(i)), got.add)
			if i%100 == 50 {
				n.setDown(true)
				n.setDown(false)
			}
		}
		for _, d := range got.wait(t, 300) {
			if d.Err != nil && d.Status == troupe.Persisted {
				t.Error(d.Err)
			}
		}
		eventually(t, "a quiet log", func() bool {
			high := cluster.PartitionInfo("t", 0).HighWatermark
			time.Sleep(50 * time.Millisecond)
			return high == cluster.PartitionInfo("t", 0).HighWatermark
		})
		seen := make(map[string]bool)
		for _, v := range values(consumeAll(t, cluster, "t", int(cluster.PartitionInfo("t", 0).HighWatermark))) {
			if seen[v] {
				t.Errorf("%s stands twice", v)
			}
			seen[v] = true
		}
	})

	t.Run("java 30: a quota's pause is honoured", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		const pause = 400 * time.Millisecond
		var answered time.Time
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if !answered.IsZero() {
				return nil, nil, false
			}
			answered = time.Now()
			r := answer(pr.ProduceRequest, 0, 0)
			r.ThrottleMillis = int32(pause / time.Millisecond)
			return r, nil, true
		})
		p := newProducer(t, cluster, troupe.WithIdempotence(false))
		ctx := within(t, patience)
		for _, v := range []string{"a", "b"} {
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
				t.Fatal(err)
			}
		}
		sends := w.of("t", 0)
		if gap := sends[1].at.Sub(sends[0].at); gap < pause-5*time.Millisecond {
			t.Errorf("the next request came after %v, in a pause of %v", gap, pause)
		}
	})
}
