package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// promptly is far above what an acknowledgement takes, and far below topic.wait.ms.
const promptly = 5 * time.Second

// TestMistypedTopicsDelayNobody has callers of topics that do not exist wait for
// room, and uses topics for the first time meanwhile. It counts waiting
// goroutines, so nothing runs beside it.
func TestMistypedTopicsDelayNobody(t *testing.T) {
	for _, mistyped := range []int{1, 8} { // one's share is full, or all that is for unknown topics
		t.Run(fmt.Sprint(mistyped, " of them flat out"), func(t *testing.T) {
			topics := make(map[string]int32)
			for i := range 10 {
				topics[fmt.Sprint("good-", i)] = 1
			}
			cluster := startCluster(t, 1, topics)
			p := newProducer(t, cluster, smallBuffer()...)
			ctx, cancel := contextWithCancel(t)
			var callers sync.WaitGroup
			for i := range 2 * mistyped {
				callers.Go(func() {
					for ctx.Err() == nil {
						_ = p.Produce(ctx, to(fmt.Sprint("mistyped-", i%mistyped), 0, strings.Repeat("x", 500)), nil)
					}
				})
			}
			eventually(t, "all callers of mistyped topics to wait", func() bool { return waitingFor("seams.channelSpot.Wait") >= 2*mistyped })
			start := time.Now()
			for i, value := range []string{"small", strings.Repeat("l", 30_000), strings.Repeat("h", 200_000)} {
				if _, err := p.Send(within(t, promptly), troupe.Send{Topic: fmt.Sprint("good-", i), Messages: msgs(0, value)}); err != nil {
					t.Errorf("%d bytes for a new topic, after %v: %v", len(value), time.Since(start), err)
				}
			}
			var got outcomes
			for i := 3; i < 6; i++ {
				if err := p.TryProduce(within(t, promptly), to(fmt.Sprint("good-", i), 0, "tried"), got.add); err != nil {
					t.Error(err)
				}
				if err := p.Produce(within(t, promptly), to(fmt.Sprint("good-", i), 0, "produced"), got.add); err != nil {
					t.Error(err)
				}
			}
			if err := p.Flush(within(t, 100*time.Millisecond)); err == nil {
				t.Error("the records of the mistyped topics have an outcome")
			}
			for _, d := range got.wait(t, 6) {
				if d.Err != nil {
					t.Error(d.Err)
				}
			}
			if d := time.Since(start); d > promptly {
				t.Errorf("the good topics took %v", d)
			}
			cancel()
			callers.Wait()
		})
	}
}

// TestSendToANewTopic: the records of one Send for one partition are one batch
// also when the topic was not known before.
func TestSendToANewTopic(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"new": 2, "two": 1, "known": 1})
	w := watch(cluster)
	p := newProducer(t, cluster, troupe.WithLinger(0))
	warm(t, p, "known", 0) // with producer id and connection a broker takes at once
	var list []troupe.Message
	var want [2][]string
	for i := range 400 {
		value := fmt.Sprintf("%03d %s", i, strings.Repeat("v", 500))
		list = append(list, msgs(int32(i%2), value)...)
		want[i%2] = append(want[i%2], value)
	}
	if _, err := p.SendBatch(within(t, patience), troupe.SendBatch{TopicMessages: []troupe.TopicMessages{
		{Topic: "new", Messages: list}, {Topic: "two", Messages: msgs(0, "a", "b", "c")},
	}}); err != nil {
		t.Fatal(err)
	}
	for part := range int32(2) {
		if sent := w.of("new", part); len(sent) != 1 || !slices.Equal(sent[0].values, want[part]) {
			t.Errorf("partition %d was sent %d batches, the first of %d records", part, len(sent), len(sent[0].values))
		}
	}
	if sent := w.of("two", 0); len(sent) != 1 || len(sent[0].values) != 3 {
		t.Errorf("the other topic was sent %d batches", len(sent))
	}
}

// TestSendOfSmallAndLarge: a record that is larger than a chunk follows others of
// the same Send.
func TestSendOfSmallAndLarge(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	p := newProducer(t, cluster)
	warm(t, p, "t", 0)
	list := []string{"small", strings.Repeat("l", 100_000), "small", strings.Repeat("L", 300_000), "small"}
	if _, err := p.Send(within(t, promptly), troupe.Send{Topic: "t", Messages: msgs(0, list...)}); err != nil {
		t.Fatal(err)
	}
	expect(t, values(consumeAll(t, cluster, "t", 6))[1:], list)
	eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
}

// TestImpossiblePartitionNumber: a broken answer that names a partition far
// beyond all others costs the records of that topic, and no memory.
func TestImpossiblePartitionNumber(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"good": 1})
	host, port := splitAddress(cluster.ListenAddrs()[0])
	cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		broken := false
		for _, topic := range r.(*kmsg.MetadataRequest).Topics {
			broken = broken || *topic.Topic == "broken"
		}
		if !broken {
			return nil, nil, false
		}
		response := r.ResponseKind().(*kmsg.MetadataResponse)
		node := kmsg.NewMetadataResponseBroker()
		node.NodeID, node.Host, node.Port = 0, host, port
		response.Brokers = append(response.Brokers, node)
		for _, topic := range r.(*kmsg.MetadataRequest).Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic = topic.Topic
			rt.TopicID = cluster.TopicInfo("good").TopicID
			part := kmsg.NewMetadataResponseTopicPartition()
			part.Leader, part.LeaderEpoch = 0, 0
			if *topic.Topic == "broken" {
				part.Partition = 1<<31 - 1
			}
			rt.Partitions = append(rt.Partitions, part)
			response.Topics = append(response.Topics, rt)
		}
		return response, nil, true
	})
	var log syncBuffer
	p := newProducer(t, cluster, fast(quietly(&log))...)
	if _, err := p.Send(within(t, promptly), troupe.Send{Topic: "broken", Messages: msgs(0, "v")}); !errors.Is(err, troupe.ErrTooManyPartitions) {
		t.Fatal(err)
	}
	warm(t, p, "good", 0)
	if n := strings.Count(log.String(), "not believed"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}
