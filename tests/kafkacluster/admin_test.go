package kafkacluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// TestMovesReplicasAndLeaders takes a partition from its leader, gives it back,
// has the first replica elected, and adds a partition.
func TestMovesReplicasAndLeaders(t *testing.T) {
	kafka := kafkacluster.Shared(t, kafkacluster.Config{Brokers: 3})
	const topic = "moving"
	kafka.CreateTopic(topic, 2, 3, map[string]string{"min.insync.replicas": "2"})
	values := numbered("moved", 100)
	produce(t, kafka.Seeds(), topic, 2, values)
	partition := func(number int) kafkacluster.Partition {
		t.Helper()
		found, err := kafka.Partitions(topic)
		if err != nil || number >= len(found) || found[number].Number != number {
			t.Fatalf("partitions %+v, %v", found, err)
		}
		return found[number]
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	before := partition(0)
	others := slices.DeleteFunc([]int{1, 2, 3}, func(id int) bool { return id == before.Leader })
	check(kafka.Reassign(topic, map[int][]int{0: others}))
	without := partition(0)
	if !slices.Equal(without.Replicas, others) || without.Leader == before.Leader || without.Epoch <= before.Epoch {
		t.Errorf("%+v, then %+v: want replicas %v under a new leader", before, without, others)
	}
	check(kafka.Reassign(topic, map[int][]int{0: {before.Leader, others[0], others[1]}}))
	check(kafka.ElectPreferred(topic))
	for end := time.Now().Add(20 * time.Second); partition(0).Leader != before.Leader; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, want the leader %d back", partition(0), before.Leader)
		}
	}
	check(kafka.ElectPreferred(topic)) // nothing to do

	check(kafka.AddPartitions(topic, 3))
	if added := partition(2); added.Leader < 1 || len(added.Replicas) != 3 {
		t.Errorf("added %+v", added)
	}
	var read []string
	check(kafka.EachRecord(topic, 20*time.Second, func(r *kgo.Record) { read = append(read, string(r.Value)) }))
	slices.Sort(read)
	if !slices.Equal(read, values) {
		t.Errorf("read %d records, want %d", len(read), len(values))
	}

	if _, err := kafka.Partitions("no-such-topic"); err == nil {
		t.Error("a topic that does not exist has partitions")
	}
	if err := kafka.Reassign("no-such-topic", map[int][]int{0: {1, 2, 3}}); err == nil {
		t.Error("a topic that does not exist was reassigned")
	}
}
