package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/protocol"
)

// grow adds partitions to a topic, as an administrator does.
func grow(t *testing.T, cluster *kfake.Cluster, topic string, to int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	responses, err := kadm.NewClient(client).UpdatePartitions(within(t, patience), to, topic)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnknownTopics(t *testing.T) {
	t.Parallel()

	t.Run("topic: parked, then created automatically", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil, kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(3))
		p := newProducer(t, cluster, fast()...)
		var got outcomes
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprintf("%02d", i))
			must(t, p, troupe.Record{Topic: "auto", Key: []byte("k"), Value: []byte(want[i])}, got.add)
		}
		for _, d := range got.wait(t, 100) {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		expect(t, values(consumeAll(t, cluster, "auto", 100)), want)
	})

	t.Run("topic: not created when the producer does not allow it", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil, kfake.AllowAutoTopicCreation())
		p := newProducer(t, cluster, fast(troupe.WithAllowAutoTopicCreation(false), troupe.WithMaxTopicWait(200*time.Millisecond))...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "auto", Messages: msgs(0, "v")}); !errors.Is(err, troupe.ErrUnknownTopic) {
			t.Error(err)
		}
		if cluster.TopicInfo("auto") != nil {
			t.Error("the topic was created")
		}
	})

	t.Run("topic: parked, then created by somebody: order is kept across the discovery", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, nil)
		p := newProducer(t, cluster, fast()...)
		var got outcomes
		created := false
		for i := range 3000 {
			must(t, p, troupe.Record{Topic: "later", Key: []byte(fmt.Sprint(i % 7)), Value: []byte(fmt.Sprintf("%05d", i))}, got.add)
			if i == 500 {
				if err := cluster.CreateTopic("later", 4, nil); err != nil {
					t.Fatal(err)
				}
				created = true
			}
			if created && i%100 == 0 {
				time.Sleep(time.Millisecond) // let the discovery fall among the calls
			}
		}
		got.wait(t, 3000)
		byKey := make(map[string][]string)
		for _, r := range consumeAll(t, cluster, "later", 3000) {
			byKey[string(r.Key)] = append(byKey[string(r.Key)], string(r.Value))
		}
		for key, list := range byKey {
			if !slices.IsSorted(list) {
				t.Errorf("key %s is out of order", key)
			}
		}
	})

	t.Run("java 50: the wait for a topic ends, and the error carries topic and root cause", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast(troupe.WithMaxTopicWait(300*time.Millisecond))...)
		_, err := p.Send(within(t, patience), troupe.Send{Topic: "missing", Messages: msgs(0, "v")})
		if !errors.Is(err, troupe.ErrUnknownTopic) || !errors.Is(err, protocol.UnknownTopicOrPartition) || !strings.Contains(err.Error(), `"missing"`) {
			t.Error(err)
		}
	})

	t.Run("java 50: without any broker the error says that there was no connection", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		n := newNetwork()
		n.setDown(true)
		p := newProducer(t, cluster, fast(n.option(), troupe.WithMaxTopicWait(300*time.Millisecond))...)
		_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")})
		if !errors.Is(err, troupe.ErrUnknownTopic) || !errors.Is(err, errRefused) {
			t.Error(err)
		}
	})

	t.Run("java 50: close ends the wait", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster)
		sent := make(chan error, 1)
		go func() {
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "missing", Messages: msgs(0, "v")})
			sent <- err
		}()
		eventually(t, "a parked record", func() bool { return p.Unanswered() == 1 })
		_ = p.Close(within(t, 100*time.Millisecond))
		if err := <-sent; !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
	})

	t.Run("topic: an invalid name is refused by the cluster at once", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "internal", Err: kerr.InvalidTopicException, Count: -1})
		p := newProducer(t, cluster)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "internal", Messages: msgs(0, "v")}); !errors.Is(err, protocol.InvalidTopicException) {
			t.Error(err)
		}
	})

	t.Run("topic: parked records hold a tenth of the buffer at most", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"known": 1})
		p := newProducer(t, cluster, smallBuffer()...)
		warm(t, p, "known", 0)
		eventually(t, "an empty buffer", func() bool { return p.BufferedBytes() == 0 })
		value := strings.Repeat("v", 1000)
		n := 0
		for ; ; n++ {
			if err := p.TryProduce(within(t, patience), to("missing", 0, value), nil); errors.Is(err, troupe.ErrBufferFull) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if used := p.BufferedBytes(); n == 0 || used > mib/10 {
			t.Errorf("%d parked records use %d bytes", n, used)
		}
		warm(t, p, "known", 0)
	})
}

func TestPartitionGrowth(t *testing.T) {
	t.Parallel()

	t.Run("partition: growth while producing", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		p := newProducer(t, cluster, fast(troupe.WithMetadataMaxAge(50*time.Millisecond), troupe.WithPartitioner(partitioners.RoundRobin))...)
		var used [6]atomic.Int64
		count := 0
		produce := func() {
			must(t, p, troupe.Record{Topic: "t", Value: []byte(fmt.Sprint(count))}, func(d troupe.Delivery) {
				if d.Err != nil {
					t.Error(d.Err)
					return
				}
				used[d.Partition].Add(1)
			})
			count++
		}
		for range 100 {
			produce()
		}
		grow(t, cluster, "t", 6)
		eventually(t, "all six partitions in use", func() bool {
			produce()
			for i := range used {
				if used[i].Load() == 0 {
					return false
				}
			}
			return true
		})
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		consumeAll(t, cluster, "t", count)
	})

	t.Run("java 11: a partition beyond the known ones forces one refresh, and then fails", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		p := newProducer(t, cluster, fast()...)
		warm(t, p, "t", 0)
		refreshes := metadataOf(cluster, "t")
		grow(t, cluster, "t", 4)
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(3, "new")})
		if err != nil || r[0].Partition != 3 {
			t.Fatal(r, err)
		}
		if n := refreshes(); n < 1 || n > 3 {
			t.Errorf("%d refreshes for a partition that was there", n)
		}
		before := refreshes()
		_, err = p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(9, "beyond")})
		if !errors.Is(err, troupe.ErrUnknownPartition) || !strings.Contains(err.Error(), "0 to 3") {
			t.Error(err)
		}
		if n := refreshes() - before; n < 1 || n > 3 {
			t.Errorf("%d refreshes for a partition that is not there", n)
		}
		// Nobody waits behind it.
		warm(t, p, "t", 1)
	})
}

func TestDeletedTopics(t *testing.T) {
	t.Parallel()

	t.Run("topic: deleted: its records fail, the others' do not", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"gone": 1, "stays": 1})
		p := newProducer(t, cluster, fast(troupe.WithAllowAutoTopicCreation(false), troupe.WithMaxTopicWait(300*time.Millisecond))...)
		warm(t, p, "gone", 0)
		warm(t, p, "stays", 0)
		if err := cluster.DeleteTopic("gone"); err != nil {
			t.Fatal(err)
		}
		_, err := p.Send(within(t, patience), troupe.Send{Topic: "gone", Messages: msgs(0, "v")})
		if !errors.Is(err, troupe.ErrUnknownPartition) && !errors.Is(err, troupe.ErrUnknownTopic) {
			t.Error(err)
		}
		if !strings.Contains(fmt.Sprint(err), "gone") {
			t.Errorf("the error does not name the topic: %v", err)
		}
		warm(t, p, "stays", 0)
		// Later on it is an unknown topic like any other.
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "gone", Messages: msgs(0, "v")}); !errors.Is(err, troupe.ErrUnknownTopic) {
			t.Error(err)
		}
	})

	t.Run("java 32: a topic that was deleted and created again", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, fast()...)
		for range 3 {
			warm(t, p, "t", 0)
		}
		if err := cluster.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := cluster.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		// What was on its way to the old topic may fail, what comes then may not.
		failures := 0
		eventually(t, "the new topic", func() bool {
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "new")})
			if err != nil {
				failures++
			}
			return err == nil
		})
		if failures > 3 {
			t.Errorf("%d sends failed", failures)
		}
		warm(t, p, "t", 0)
		expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"new", "warm"})
		for i, s := range w.of("t", 0) {
			if s.topic == "" {
				t.Errorf("attempt %d names no topic", i)
			}
		}
	})

	t.Run("java 32: UNKNOWN_TOPIC_ID is retried after a refresh", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		refreshes := metadataOf(cluster, "t")
		p := newProducer(t, cluster, fast()...)
		warm(t, p, "t", 0)
		before := refreshes()
		w.answerNext(2, "t", 0, int16(protocol.UnknownTopicID))
		warm(t, p, "t", 0)
		eventually(t, "a refresh", func() bool { return refreshes() > before })
		if n := len(w.of("t", 0)); n != 4 {
			t.Errorf("%d attempts", n)
		}
	})

	t.Run("java 28: an idle topic is forgotten and comes back, and its numbering goes on", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1, "other": 1})
		w := watch(cluster)
		var asked atomic.Int64
		cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
			asked.Store(int64(len(r.(*kmsg.MetadataRequest).Topics)))
			return nil, nil, false
		})
		p := newProducer(t, cluster, fast(troupe.WithMetadataIdle(time.Second), troupe.WithMetadataMaxAge(50*time.Millisecond))...)
		ctx := within(t, patience)
		for _, v := range []string{"a", "b"} {
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the topic to be forgotten", func() bool { return asked.Load() == 0 })
		for _, v := range []string{"c", "d"} {
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, values(consumeAll(t, cluster, "t", 4)), []string{"a", "b", "c", "d"})
		assertSequences(t, w.of("t", 0))
	})

	t.Run("java 28: many topics, each known when it is needed", func(t *testing.T) {
		t.Parallel()
		topics := make(map[string]int32)
		for i := range 50 {
			topics[fmt.Sprintf("topic-%d", i)] = 2
		}
		cluster := startCluster(t, 3, topics)
		refreshes := counter(cluster, kmsg.Metadata)
		p := newProducer(t, cluster)
		batch := troupe.SendBatch{}
		for topic := range topics {
			batch.TopicMessages = append(batch.TopicMessages, troupe.TopicMessages{Topic: topic, Messages: slices.Concat(msgs(0, "v"), msgs(1, "v"))})
		}
		r, err := p.SendBatch(within(t, patience), batch)
		if err != nil || len(r) != 100 {
			t.Fatal(len(r), err)
		}
		if n := refreshes(); n > 20 {
			t.Errorf("%d refreshes for 50 topics that were asked for together", n)
		}
	})
}

// TestBrokersComeAndGo is about the nodes of a cluster.
func TestBrokersComeAndGo(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 3, map[string]int32{"t": 6})
	p := newProducer(t, cluster, fast(troupe.WithMetadataMaxAge(200*time.Millisecond))...)
	var got outcomes
	const n = 1500
	for i := range n {
		switch i {
		case 500:
			if _, _, err := cluster.AddNode(-1, 0); err != nil {
				t.Fatal(err)
			}
		case 1000:
			if err := cluster.RemoveNode(0); err != nil {
				t.Fatal(err)
			}
		}
		must(t, p, to("t", int32(i%6), fmt.Sprintf("%05d", i)), got.add)
		if i%100 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, d := range got.wait(t, n) {
		if d.Err != nil {
			t.Fatal(d.Err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var list []*kgo.Record
	for len(list) < n && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { list = append(list, r) })
	}
	if len(list) != n {
		t.Fatalf("%d records of %d", len(list), n)
	}
	for part, values := range perPartition(list) {
		if !slices.IsSorted(values) {
			t.Errorf("partition %d is out of order", part)
		}
	}
}
