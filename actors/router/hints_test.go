package router

import (
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
)

// hinted is a keeper of one topic with one partition, led by broker 1 at epoch 3.
func hinted(t *testing.T) (k *keeper, box *fakeBox, refresh func(leader, epoch int32)) {
	box = &fakeBox{}
	topic := newTopic(t, box)
	k = &keeper{
		Router: topic.router, accounts: leaderAccounts{}, spawned: map[string]int{}, parkedIn: map[*Topic]bool{},
		hinted:  map[string]map[int32]messages.AssignLeader{},
		brokers: map[int32]*actor.PID{1: actor.NewPID("nonhost", "one"), 2: actor.NewPID("nonhost", "two"), 3: actor.NewPID("nonhost", "three")},
	}
	refresh = func(leader, epoch int32) {
		k.update(nil, &messages.TopicInfo{Name: "t", ID: [16]byte{1}, Partitions: []messages.PartitionInfo{
			{Partition: partitioners.Partition{Leader: leader}, LeaderEpoch: epoch},
		}}, 1)
	}
	refresh(1, 3)
	expectLeader(t, box, 1, 3)
	return k, box, refresh
}

func expectLeader(t *testing.T, box *fakeBox, id, epoch int32) {
	t.Helper()
	if box.leader == nil || box.leader.ID != id || box.leader.LeaderEpoch != epoch || box.leader.Broker == nil {
		t.Fatalf("the partition was given leader %+v, expected %d at epoch %d", box.leader, id, epoch)
	}
}

// TestHintsHoldAgainstOlderMetadata, for as long as older metadata may be about.
func TestHintsHoldAgainstOlderMetadata(t *testing.T) {
	k, box, refresh := hinted(t)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 4})
	expectLeader(t, box, 2, 4)
	refresh(1, 3)
	expectLeader(t, box, 2, 4)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 3, LeaderEpoch: 4}) // no newer than the one before
	expectLeader(t, box, 2, 4)
	refresh(2, 4) // confirmed
	expectLeader(t, box, 2, 4)
	if len(k.hinted["t"]) != 0 || len(k.doubts["t"]) != 0 {
		t.Errorf("a confirmed hint is remembered: %v %v", k.hinted, k.doubts)
	}
	refresh(3, 5)
	expectLeader(t, box, 3, 5)
}

// TestHintsEndUnconfirmed: what metadata contradicts again and again is not so.
func TestHintsEndUnconfirmed(t *testing.T) {
	k, box, refresh := hinted(t)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 40})
	for range hintDoubts - 1 {
		refresh(1, 3)
		expectLeader(t, box, 2, 40)
	}
	refresh(1, 3)
	expectLeader(t, box, 1, 3)
	if len(k.hinted["t"]) != 0 || len(k.doubts["t"]) != 0 {
		t.Errorf("a hint that was given up is remembered: %v %v", k.hinted, k.doubts)
	}
	// A newer hint is heard out anew.
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 41})
	refresh(1, 3)
	refresh(1, 3)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 3, LeaderEpoch: 42})
	for range hintDoubts - 1 {
		refresh(1, 3)
		expectLeader(t, box, 3, 42)
	}
	refresh(1, 3)
	expectLeader(t, box, 1, 3)
}

// TestHintsEndWithTheirBroker: a leader that has left the cluster leads nothing,
// and a partition must not wait for it.
func TestHintsEndWithTheirBroker(t *testing.T) {
	k, box, refresh := hinted(t)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 4})
	delete(k.brokers, 2)
	refresh(1, 3)
	expectLeader(t, box, 1, 3)
	k.hint(&messages.LeaderHinted{Topic: "t", LeaderID: 9, LeaderEpoch: 5}) // nobody knows it
	expectLeader(t, box, 1, 3)
}
