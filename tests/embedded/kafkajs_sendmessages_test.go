package embedded_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// metadataOf counts Metadata requests that ask for a topic.
func metadataOf(cluster *kfake.Cluster, topic string) func() int {
	var mu sync.Mutex
	n := 0
	cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		for _, t := range r.(*kmsg.MetadataRequest).Topics {
			if t.Topic != nil && *t.Topic == topic {
				mu.Lock()
				n++
				mu.Unlock()
			}
		}
		return nil, nil, false
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestKafkaJSSendMessages is the checklist of producer/sendMessages.spec.js.
func TestKafkaJSSendMessages(t *testing.T) {
	t.Parallel()

	t.Run("kafkajs: only retry failed brokers", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 3, map[string]int32{"t": 3})
		place(t, cluster, "t", 3, 3)
		p := newProducer(t, cluster, fast()...)
		for part := range int32(3) {
			warm(t, p, "t", part) // the first messages of a topic are placed one by one
		}
		w := watch(cluster)
		w.answerNext(1, "t", 0, corruptMessage)
		w.answerNext(2, "t", 2, corruptMessage)
		all := slices.Concat(msgs(0, "a0", "a1"), msgs(1, "b0"), msgs(2, "c0", "c1"))
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: all})
		if err != nil {
			t.Fatal(err)
		}
		for part, want := range []int{2, 1, 3} {
			if n := len(w.of("t", int32(part))); n != want {
				t.Errorf("partition %d was sent %d times, expected %d", part, n, want)
			}
			if r[part].Partition != int32(part) || r[part].BaseOffset != 1 {
				t.Errorf("result %d: %+v", part, r[part])
			}
		}
		expect(t, sortedCopy(values(consumeAll(t, cluster, "t", 8)))[:5], []string{"a0", "a1", "b0", "c0", "c1"})
	})

	for name, code := range map[string]int16{"UNKNOWN_TOPIC_OR_PARTITION": unknownTopicOrPart, "LEADER_NOT_AVAILABLE": leaderNotAvailable, "NOT_LEADER_FOR_PARTITION": notLeader} {
		t.Run("kafkajs: refresh stale metadata on "+name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 2, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, fast()...)
			ctx := within(t, patience)
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "before")}); err != nil {
				t.Fatal(err)
			}
			refreshes := metadataOf(cluster, "t")
			w.answerNext(1, "t", 0, code)
			if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "after")}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a refresh", func() bool { return refreshes() >= 1 })
			expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"before", "after"})
		})
	}

	t.Run("kafkajs: does not re-produce to brokers no longer leaders after refresh", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 4, map[string]int32{"t": 3})
		place(t, cluster, "t", 3, 3)
		w := watch(cluster)
		var once sync.Once
		w.add(func(pr *produced) (response kmsg.Response, _ error, handled bool) {
			if !pr.has("t", 1) {
				return nil, nil, false
			}
			once.Do(func() {
				if err := cluster.MoveTopicPartition("t", 1, 3); err != nil {
					t.Error(err)
				}
				response, handled = answer(pr.ProduceRequest, notLeader, -1), true
			})
			return response, nil, handled
		})
		// The wait is so long that only the new leader can end it.
		p := newProducer(t, cluster, troupe.WithMetadataMinAge(0), troupe.WithRetry(troupe.RetryPolicy{
			InitialRetryTime: patience / 2, MaxRetryTime: patience, Multiplier: 2, Retries: troupe.UnlimitedRetries,
		}))
		all := slices.Concat(msgs(0, "a"), msgs(1, "b"), msgs(2, "c"))
		r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: all})
		if err != nil || len(r) != 3 {
			t.Fatal(r, err)
		}
		sends := w.of("t", 1)
		if len(sends) != 2 || sends[0].node != 1 || sends[1].node != 3 {
			t.Errorf("partition 1 was sent to %v", nodes(sends))
		}
		if len(w.of("t", 0)) != 1 || len(w.of("t", 2)) != 1 {
			t.Error("a partition that was acknowledged was sent again")
		}
		consumeAll(t, cluster, "t", 3)
	})

	t.Run("kafkajs: refreshes metadata if partition metadata is empty", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		emptied := 0
		cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			request := r.(*kmsg.MetadataRequest)
			if len(request.Topics) == 0 || emptied == 2 {
				return nil, nil, false
			}
			emptied++
			response := clusterOnly(cluster, request)
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = kmsg.StringPtr("t")
			response.Topics = append(response.Topics, topic)
			return response, nil, true
		})
		p := newProducer(t, cluster, fast()...)
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(1, "v")}); err != nil {
			t.Fatal(err)
		}
		if emptied != 2 {
			t.Errorf("%d empty answers", emptied)
		}
	})

	t.Run("kafkajs: sequence is firstSequence, and goes up by messages.length per partition", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2, "u": 1})
		w := watch(cluster)
		p := newProducer(t, cluster)
		ctx := within(t, patience)
		warm(t, p, "t", 0)
		warm(t, p, "t", 1)
		warm(t, p, "u", 0)
		for _, n := range []int{3, 1, 4} {
			batch := troupe.SendBatch{TopicMessages: []troupe.TopicMessages{
				{Topic: "t", Messages: slices.Concat(msgs(0, make([]string, n)...), msgs(1, make([]string, n+1)...))},
				{Topic: "u", Messages: msgs(0, make([]string, n+2)...)},
			}}
			if _, err := p.SendBatch(ctx, batch); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			topic     string
			partition int32
			first     []int32
		}{{"t", 0, []int32{0, 1, 4, 5}}, {"t", 1, []int32{0, 1, 5, 7}}, {"u", 0, []int32{0, 1, 6, 9}}} {
			var first []int32
			for _, s := range w.of(c.topic, c.partition) {
				first = append(first, s.batch.FirstSequence)
			}
			if !slices.Equal(first, c.first) {
				t.Errorf("%s/%d: first sequences %v, expected %v", c.topic, c.partition, first, c.first)
			}
		}
	})

	t.Run("kafkajs: idempotent: producerId and epoch sent, transactionalId undefined", func(t *testing.T) {
		t.Parallel()
		for _, idempotent := range []bool{true, false} {
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			transactional := make(chan bool, 1)
			w.add(func(pr *produced) (kmsg.Response, error, bool) {
				transactional <- pr.TransactionID != nil
				return nil, nil, false
			})
			p := newProducer(t, cluster, troupe.WithIdempotence(idempotent))
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v")}); err != nil {
				t.Fatal(err)
			}
			b := w.of("t", 0)[0].batch
			if numbered := b.ProducerID >= 0 && b.ProducerEpoch == 0 && b.FirstSequence == 0; numbered != idempotent {
				t.Errorf("idempotent=%v: producer %d, epoch %d, sequence %d", idempotent, b.ProducerID, b.ProducerEpoch, b.FirstSequence)
			}
			if !idempotent && (b.ProducerID != -1 || b.ProducerEpoch != -1 || b.FirstSequence != -1) {
				t.Errorf("unnumbered: producer %d, epoch %d, sequence %d", b.ProducerID, b.ProducerEpoch, b.FirstSequence)
			}
			if <-transactional {
				t.Error("a transactional id was sent")
			}
		}
	})

	t.Run("kafkajs: groupMessagesPerPartition: groups, order kept", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 3})
		w := watch(cluster)
		p := newProducer(t, cluster)
		ctx := within(t, patience)
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "warm")}); err != nil {
			t.Fatal(err)
		}
		var all []troupe.Message
		want := make([][]string, 3)
		for i := range 300 {
			part := i * 7 % 3
			all = append(all, msgs(int32(part), fmt.Sprint(i))...)
			want[part] = append(want[part], fmt.Sprint(i))
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: all}); err != nil {
			t.Fatal(err)
		}
		for part := range int32(3) {
			sends := w.of("t", part)
			last := sends[len(sends)-1]
			if !slices.Equal(last.values, want[part]) {
				t.Errorf("partition %d: one send, but the batch holds %d of %d messages", part, len(last.values), len(want[part]))
			}
		}
	})

	t.Run("kafkajs: groupMessagesPerPartition: nothing is lost when there is no metadata", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, nil)
		p := newProducer(t, cluster, fast(troupe.WithAllowAutoTopicCreation(false))...)
		done := make(chan error, 1)
		go func() {
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "later", Messages: msgs(0, "a", "b", "c")})
			done <- err
		}()
		eventually(t, "parked messages", func() bool { return p.Unanswered() == 3 })
		if err := cluster.CreateTopic("later", 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expect(t, values(consumeAll(t, cluster, "later", 3)), []string{"a", "b", "c"})
	})
}

func nodes(list []sent) []int32 {
	var n []int32
	for _, s := range list {
		n = append(n, s.node)
	}
	return n
}

// clusterOnly is a Metadata answer with the cluster's brokers and no topic. Node
// ids follow the order of the listeners as long as no node was added.
func clusterOnly(cluster *kfake.Cluster, r *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	response := r.ResponseKind().(*kmsg.MetadataResponse)
	for i, address := range cluster.ListenAddrs() {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID = int32(i)
		b.Host, b.Port = splitAddress(address)
		response.Brokers = append(response.Brokers, b)
	}
	return response
}

// clusterOnlyOf answers Metadata for one topic with leaders of the test's own,
// and the leader epochs of the moment in which it is called.
func clusterOnlyOf(cluster *kfake.Cluster, topic string, partitions int32, leader func(int32) int32) func(kmsg.Request) (kmsg.Response, error, bool) {
	epochs := make([]int32, partitions)
	for _, info := range cluster.PartitionInfos(topic) {
		epochs[info.Partition] = info.Epoch
	}
	return func(r kmsg.Request) (kmsg.Response, error, bool) {
		request := r.(*kmsg.MetadataRequest)
		if len(request.Topics) != 1 || request.Topics[0].Topic == nil || *request.Topics[0].Topic != topic {
			return nil, nil, false
		}
		cluster.KeepControl()
		response := clusterOnly(cluster, request)
		mt := kmsg.NewMetadataResponseTopic()
		mt.Topic = kmsg.StringPtr(topic)
		if info := cluster.TopicInfo(topic); info != nil {
			mt.TopicID = info.TopicID
		}
		for p := range partitions {
			mp := kmsg.NewMetadataResponseTopicPartition()
			mp.Partition, mp.Leader = p, leader(p)
			if mp.Leader < 0 {
				mp.ErrorCode = leaderNotAvailable
			}
			mp.LeaderEpoch = epochs[p]
			mt.Partitions = append(mt.Partitions, mp)
		}
		response.Topics = append(response.Topics, mt)
		return response, nil, true
	}
}
