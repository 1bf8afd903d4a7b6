package model

import (
	"slices"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

var pair = TopicConfig{MinInSync: 2}

// TestAcksAllWaitsForReplicas: an append is answered when the follower's next
// fetch says that it has it, not before.
func TestAcksAllWaitsForReplicas(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 2))
	b.advance(0)
	if b.Replicate(orders, 2, 10) != 1 {
		t.Fatal("nothing to fetch")
	}
	b.advance(0)
	if len(b.got) != 0 {
		t.Fatal("answered by the fetch that copied it")
	}
	b.Replicate(orders, 2, 0)
	b.advance(0)
	b.answered(h, protocol.None, 0)
}

// TestTimeout: the answer has the offset, the batch stays and is committed later,
// and the retry is recognised.
func TestTimeout(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	if due, waits := b.Deadline(); !waits || due != time.Second {
		t.Fatalf("due %v, %v", due, waits)
	}
	b.advance(time.Second - 1)
	if len(b.got) != 0 {
		t.Fatal("too early")
	}
	b.advance(1)
	b.answered(h, protocol.RequestTimedOut, 0)
	again := b.wait(1, batch(7, 0, 0, 1))
	b.Settle()
	b.advance(0)
	b.answered(again, protocol.None, 0)
	if len(b.Committed(orders)) != 1 {
		t.Errorf("committed: %v", b.Committed(orders))
	}
}

// TestTooFewReplicas: before the append it is refused; when the replicas in sync
// become too few between the commit and the answer, the answer says so.
func TestTooFewReplicas(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.Replicate(orders, 2, 10)
	b.Replicate(orders, 2, 0)
	b.Crash(2, LoseNothing)
	b.Fence(2)
	b.LearnAll(1)
	b.advance(0)
	b.answered(h, protocol.NotEnoughReplicasAfterAppend, 0)
	p := b.send(1, -1, batch(7, 0, 1, 1), protocol.NotEnoughReplicas, -1)
	if p.LogStartOffset != 0 {
		t.Errorf("%+v", p)
	}
	// Below the minimum the high watermark stays, so acks 1 is not committed.
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 1)
	if _, hw, end, _ := b.Offsets(orders, 1); hw != 1 || end != 2 {
		t.Errorf("high watermark %d, end %d", hw, end)
	}
	b.Restart(2)
	b.Settle()
	if _, hw, _, _ := b.Offsets(orders, 2); hw != 2 || !slices.Equal(b.InSync(orders), []int32{1, 2}) {
		t.Errorf("high watermark %d, in sync %v", hw, b.InSync(orders))
	}
}

// TestLeaderMovesUnderARequest: NOT_LEADER_OR_FOLLOWER with an offset is a "maybe".
// The batch is in the old leader's log only and goes when it follows.
func TestLeaderMovesUnderARequest(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.Settle()
	h := b.wait(1, batch(7, 0, 1, 1))
	b.must(b.Elect(orders, 2, false))
	b.LearnAll(2)
	b.advance(0)
	b.send(1, 1, batch(7, 0, 2, 1), protocol.None, 2) // broker 1 does not know yet, and acknowledges what will be lost
	b.send(2, 1, batch(7, 0, 1, 1), protocol.None, 1)
	if b.Replicate(orders, 2, 9) != 0 || b.Replicate(orders, 1, 9) != 0 {
		t.Fatal("two leaders replicate from each other")
	}
	b.LearnAll(1)
	b.advance(0)
	p := b.answered(h, protocol.NotLeaderOrFollower, 1)
	if p.Leader != 2 || p.LeaderEpoch != 1 {
		t.Errorf("hint %+v", p)
	}
	b.log(1, "7/0/0", "7/0/1", "7/0/2")
	b.Replicate(orders, 1, 9)
	b.log(1, "7/0/0", "7/0/1")
	if e := b.Log(orders, 1)[1]; e.LeaderEpoch != 1 {
		t.Errorf("the second record is of epoch %d", e.LeaderEpoch)
	}
	// The old leader's memory was cut back with its log.
	b.Settle()
	b.must(b.Elect(orders, 1, false))
	b.Settle()
	b.send(1, 1, batch(7, 0, 2, 1), protocol.None, 2)
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 1)
}

// TestCommittedAndYetNotLeader: the answer of a committed batch can say that the
// leader moved.
func TestCommittedAndYetNotLeader(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.Replicate(orders, 2, 9)
	b.Replicate(orders, 2, 0)
	b.must(b.Elect(orders, 2, false))
	b.Settle()
	b.advance(0)
	b.answered(h, protocol.NotLeaderOrFollower, 0)
	b.send(2, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.log(2, "7/0/0")
}

// TestUncleanElection loses what was acknowledged, by all replicas in sync.
func TestUncleanElection(t *testing.T) {
	b := newBench(t, Config{ReplicaLagMax: time.Second}, TopicConfig{}, 1, 2)
	b.advance(2 * time.Second)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.advance(2 * time.Second)
	if !b.ShrinkISR(orders) || !slices.Equal(b.InSync(orders), []int32{1}) {
		t.Fatalf("in sync: %v", b.InSync(orders))
	}
	b.send(1, -1, batch(7, 0, 1, 1), protocol.None, 1)
	b.Crash(1, LoseNothing)
	b.Fence(1)
	if leader, _ := b.Leader(orders); leader != -1 {
		t.Fatalf("%d leads", leader)
	}
	if code := b.Elect(orders, 2, false); code != protocol.EligibleLeadersNotAvailable {
		t.Fatal(code)
	}
	if code := b.Elect(orders, 2, true); code != protocol.None {
		t.Fatal(code)
	}
	b.Settle()
	b.send(2, -1, batch(9, 0, 0, 1), protocol.None, 0)
	b.Restart(1)
	b.Settle()
	b.log(1, "9/0/0")
	b.send(2, 1, batch(7, 0, 2, 1), protocol.None, 1) // nobody knows producer 7 any more
	b.check()
}

// TestDivergence walks back over several epochs, in which two replicas have
// written different things at the same offsets.
func TestDivergence(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2)
	b.send(1, 1, batch(1, 0, 0, 1), protocol.None, 0)
	b.Settle()
	for range 2 {
		// Broker 1 writes alone, is lost, and broker 2 leads without it; then, by an
		// unclean election, the other way round.
		b.send(1, 1, batch(2, 0, 0, 1), protocol.None, 1)
		b.Crash(1, LoseNothing)
		b.Fence(1)
		b.Settle()
		b.send(2, 1, batch(3, 0, 0, 1), protocol.None, 1)
		b.send(2, 1, batch(3, 0, 1, 1), protocol.None, 2)
		b.Crash(2, LoseNothing)
		b.Fence(2)
		b.Restart(1)
		b.must(b.Elect(orders, 1, true))
		b.Settle()
		b.log(1, "1/0/0", "2/0/0")
		b.Restart(2)
		b.Settle()
		b.log(2, "1/0/0", "2/0/0")
		b.check()
		b.truncateForTest(1)
	}
}

// TestEpochOfAnEmptyLog: a broker that led and got nothing forgets that epoch when
// it follows a leader whose log is of an older one. With both in its log it would
// find fault with every follower, and cut it back for ever.
func TestEpochOfAnEmptyLog(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2)
	b.send(1, 1, batch(1, 0, 0, 1), protocol.None, 0)
	b.Isolate(1, true)
	b.Fence(1)
	b.Settle()
	if !b.Leads(orders, 2) {
		t.Fatal("2 does not lead")
	}
	b.Isolate(1, false)
	b.Unfence(1)
	b.must(b.Elect(orders, 1, true))
	b.LearnAll(1)
	b.LearnAll(2)
	if b.Replicate(orders, 2, 10) != 1 {
		t.Fatal("nothing to fetch")
	}
	b.check()
	b.must(b.Elect(orders, 2, true)) // before its next fetch
	b.Settle()
	b.log(1, "1/0/0")
	b.log(2, "1/0/0")
	b.check()
}

// truncateForTest cuts both logs back, so that a round can begin again.
func (b *bench) truncateForTest(to int64) {
	for _, id := range []int32{1, 2} {
		b.broker(id).replica(orders).truncate(to, b.millis())
	}
	b.check()
}

// TestLossOfPower: what was not flushed is gone, and a replica alone in sync takes
// acknowledged records with it.
func TestLossOfPower(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	b.send(1, -1, batch(7, 0, 0, 1), protocol.None, 0)
	b.Flush(orders, 1)
	b.send(1, -1, batch(7, 0, 1, 1), protocol.None, 1)
	b.Crash(1, LoseNothing)
	b.Restart(1)
	b.log(1, "7/0/0", "7/0/1")
	b.Crash(1, LoseUnflushed)
	b.Restart(1)
	b.log(1, "7/0/0")
	b.send(1, -1, batch(7, 0, 0, 1), protocol.None, 0)
	b.send(1, -1, batch(7, 0, 1, 1), protocol.None, 1)
	b.check()
}

// TestSnapshots: a truncation goes back to the newest snapshot below it, with one
// batch of each producer, and on from there with the log.
func TestSnapshots(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	for i := range int32(6) {
		b.send(1, 1, batch(7, 0, i, 1), protocol.None, int64(i))
		if i == 2 {
			b.Roll(orders, 1)
		}
	}
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 1)
	r := b.broker(1).replica(orders)
	if len(r.segments) != 2 || len(r.snapshots) != 1 || r.snapshots[0].offset != 3 {
		t.Fatalf("segments %v, snapshots %+v", r.segments, r.snapshots)
	}
	r.truncate(5, 0)
	b.check()
	for _, c := range []struct {
		sequence int32
		code     protocol.ErrorCode
		offset   int64
	}{{1, protocol.OutOfOrderSequenceNumber, -1}, {2, protocol.None, 2}, {3, protocol.None, 3}, {4, protocol.None, 4}, {5, protocol.None, 5}} {
		b.send(1, 1, batch(7, 0, c.sequence, 1), c.code, c.offset)
	}
	// Below the snapshot, everything is read again from the log.
	r.truncate(2, 0)
	b.check()
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 1)
	b.send(1, 1, batch(7, 0, 3, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(7, 0, 2, 1), protocol.None, 2)
}

// TestStraySnapshots: of those that do not stand at a segment only the newest
// survives a start, so a truncation below it reads the whole log again.
func TestStraySnapshots(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	for i := range int32(4) {
		if i == 2 {
			b.Stop(1)
			b.Restart(1)
		}
		b.send(1, 1, batch(7, 0, i, 1), protocol.None, int64(i))
	}
	b.Stop(1)
	b.Restart(1)
	b.send(1, 1, batch(7, 0, 2, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.broker(1).replica(orders).truncate(3, 0)
	b.check()
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 2, 1), protocol.None, 2)
}

// TestRetention: what is deleted from the log stays known, until a restart.
func TestRetention(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	b.send(1, 1, batch(7, 0, 0, 3), protocol.None, 0)
	b.Roll(orders, 1)
	b.send(1, 1, batch(8, 0, 0, 1), protocol.None, 3)
	if !b.DeleteRecords(orders, 3) {
		t.Fatal("nobody deletes records")
	}
	b.DeleteSegments(orders, 1)
	b.check()
	b.log(1, "8/0/0")
	if p := b.send(1, 1, batch(7, 0, 0, 3), protocol.None, 0); p.LogStartOffset != 3 {
		t.Errorf("%+v", p)
	}
	b.Save(1)
	b.Crash(1, LoseNothing)
	b.Restart(1)
	b.send(1, 1, batch(8, 0, 0, 1), protocol.None, 3)
	b.send(1, 1, batch(7, 0, 0, 3), protocol.None, 4) // the snapshot went with the start of the log
	b.check()
}

// TestFollowerStartsAtLogStart: a replica that has nothing of what the leader
// still has starts over there.
func TestFollowerStartsAtLogStart(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.Settle()
	b.Crash(2, LoseNothing)
	b.Fence(2)
	b.Settle()
	for i := int32(1); i < 4; i++ {
		b.send(1, -1, batch(7, 0, i, 1), protocol.None, int64(i))
	}
	b.DeleteRecords(orders, 2)
	b.Roll(orders, 1)
	b.DeleteRecords(orders, 4)
	b.send(1, -1, batch(7, 0, 4, 1), protocol.None, 4)
	b.DeleteSegments(orders, 1)
	b.Restart(2)
	b.Settle()
	b.check()
	b.log(2, "7/0/4")
	if start, hw, end, _ := b.Offsets(orders, 2); start != 4 || hw != 5 || end != 5 {
		t.Errorf("start %d, high watermark %d, end %d", start, hw, end)
	}
	b.check()
}

// TestReassignment moves a partition to brokers that have nothing of it.
func TestReassignment(t *testing.T) {
	b := newBench(t, Config{Brokers: 4}, pair, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 2), protocol.None, 0)
	b.Settle()
	if code := b.Reassign(orders, []int32{3, 4}); code != protocol.None {
		t.Fatal(code)
	}
	b.LearnAll(1)
	h := b.wait(1, batch(7, 0, 2, 1))
	b.Settle()
	b.advance(0)
	if a := b.got[h]; a == nil || a.Partitions[0].BaseOffset != 2 {
		t.Fatalf("answered %+v", a)
	}
	if leader, epoch := b.Leader(orders); leader != 3 || epoch == 0 {
		t.Errorf("%d leads under epoch %d", leader, epoch)
	}
	b.log(4, "7/0/0", "7/0/1", "7/0/2")
	if _, _, _, has := b.Offsets(orders, 1); has {
		t.Error("broker 1 keeps a replica")
	}
	b.send(1, 1, batch(7, 0, 3, 1), protocol.NotLeaderOrFollower, -1)
	b.send(3, 1, batch(7, 0, 0, 2), protocol.None, 0)
	b.check()
}

// TestReassignmentBeginsAnEpoch, even if the leader stays.
func TestReassignmentBeginsAnEpoch(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2)
	b.must(b.Reassign(orders, []int32{1}))
	if leader, epoch := b.Leader(orders); leader != 1 || epoch != 1 || !slices.Equal(b.InSync(orders), []int32{1}) {
		t.Errorf("%d leads under epoch %d, in sync %v", leader, epoch, b.InSync(orders))
	}
	b.must(b.Reassign(orders, []int32{1, 3}))
	b.Settle()
	if _, epoch := b.Leader(orders); epoch != 1 || !slices.Equal(b.InSync(orders), []int32{1, 3}) {
		t.Errorf("epoch %d, in sync %v", epoch, b.InSync(orders))
	}
}

// TestSteadyFollowerStaysInSync: one that is always a little behind, but has with
// each fetch what there was at the fetch before, is not taken out.
func TestSteadyFollowerStaysInSync(t *testing.T) {
	b := newBench(t, Config{ReplicaLagMax: time.Second}, TopicConfig{}, 1, 2)
	for i := range int32(8) {
		b.send(1, 1, batch(7, 0, i, 1), protocol.None, int64(i))
		b.Replicate(orders, 2, 1)
		b.advance(400 * time.Millisecond)
		if b.ShrinkISR(orders) {
			t.Fatalf("taken out after %d fetches", i+1)
		}
	}
	b.advance(2 * time.Second)
	if !b.ShrinkISR(orders) {
		t.Error("not taken out after it had stopped")
	}
}

// TestDeletionUnderARequest: the answer keeps its offset.
func TestDeletionUnderARequest(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.must(b.DeleteTopic("orders"))
	b.must(b.CreateAssigned("orders", [][]int32{{1, 2}}, pair))
	b.LearnAll(1)
	b.advance(0)
	b.answered(h, protocol.UnknownTopicOrPartition, 0)
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 0)
	b.log(1, "7/0/1")
}

// TestCrashDropsRequests: nobody answers them.
func TestCrashDropsRequests(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.Crash(1, LoseNothing)
	b.advance(0)
	if a, told := b.got[h]; !told || a != nil {
		t.Errorf("told %v: %v", told, a)
	}
	if o := b.Produce(b.at, 1, b.request(1, batch(7, 0, 0, 1))); !o.Cut {
		t.Errorf("a broker that is down answers %+v", o)
	}
	// The controller notices: the leader has what its follower has not.
	b.Fence(1)
	b.Settle()
	b.send(2, 1, batch(9, 0, 0, 1), protocol.None, 0)
	b.Restart(1)
	b.Settle()
	b.log(1, "9/0/0")
}

// TestStartActsOnThePresentOnly: terms that a broker slept through leave no trace
// in its log, its own ones included.
func TestStartActsOnThePresentOnly(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.Settle()
	b.Crash(1, LoseNothing)
	b.must(b.Elect(orders, 2, false))
	b.must(b.Elect(orders, 1, false)) // the controller does not know yet
	b.Restart(1)
	if last := b.broker(1).replica(orders).lastEpoch(); last != 0 {
		t.Errorf("the log of broker 1 has an epoch %d", last)
	}
	if leader, epoch := b.Leader(orders); leader != 2 || epoch != 3 {
		t.Errorf("%d leads under epoch %d", leader, epoch)
	}
}

// TestStopAnswersRequests: a clean stop hands over first.
func TestStopAnswersRequests(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.Stop(1)
	b.advance(0)
	b.answered(h, protocol.NotLeaderOrFollower, 0)
	if leader, _ := b.Leader(orders); leader != 2 {
		t.Errorf("%d leads", leader)
	}
}

// TestIsolatedLeader goes on alone: it cannot commit, cannot change who is in
// sync, and what it acknowledges without its follower is lost.
func TestIsolatedLeader(t *testing.T) {
	b := newBench(t, Config{ReplicaLagMax: time.Second}, TopicConfig{}, 1, 2)
	b.Isolate(1, true)
	b.Fence(1)
	b.Settle()
	b.advance(5 * time.Second)
	h := b.wait(1, batch(7, 0, 0, 1))
	b.send(1, 1, batch(7, 0, 1, 1), protocol.None, 1)
	if b.ShrinkISR(orders) {
		t.Error("an isolated leader changed who is in sync")
	}
	b.send(2, -1, batch(8, 0, 0, 1), protocol.None, 0)
	b.advance(time.Second)
	b.answered(h, protocol.RequestTimedOut, 0)
	b.Isolate(1, false)
	b.Unfence(1)
	b.Settle()
	b.log(1, "8/0/0")
	if !slices.Equal(b.InSync(orders), []int32{1, 2}) {
		t.Errorf("in sync: %v", b.InSync(orders))
	}
	b.check()
}

// TestEpochsMustAgree: a follower that knows of the leader's next term does not
// fetch from it before the leader does.
func TestEpochsMustAgree(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2, 3)
	b.must(b.Elect(orders, 2, false))
	b.must(b.Elect(orders, 1, false))
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.LearnAll(3)
	if n := b.Replicate(orders, 3, 9); n != 0 {
		t.Fatalf("%d batches of epoch 0 were fetched by a follower of epoch 2", n)
	}
	b.Learn(1, 1)
	if n := b.Replicate(orders, 3, 9); n != 0 {
		t.Fatalf("%d batches were fetched from a broker that believes it follows", n)
	}
	b.Learn(1, 1)
	b.Replicate(orders, 3, 9)
	b.log(3, "7/0/0")
}

// TestAnswerBeforeLog: a leader acts on the answer to an AlterPartition, and does
// not go back when it reads of it in the controller's log.
func TestAnswerBeforeLog(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2, 3)
	for _, id := range []int32{2, 3} {
		b.Fence(id)
	}
	b.Settle()
	for _, id := range []int32{2, 3} {
		b.Unfence(id)
	}
	b.LearnAll(1)
	b.LearnAll(2)
	b.LearnAll(3)
	b.Replicate(orders, 2, 0)
	b.Replicate(orders, 3, 0)
	inSync := func() []int32 { return b.Metadata(1, []string{"orders"}, false).Topics[0].Partitions[0].InSync }
	if got := inSync(); !slices.Equal(got, []int32{1, 2, 3}) || b.Behind(1) != 2 {
		t.Fatalf("in sync %v, behind %d", got, b.Behind(1))
	}
	b.Learn(1, 1)
	if got := inSync(); !slices.Equal(got, []int32{1, 2, 3}) {
		t.Errorf("back to %v", got)
	}
}

// TestCheckpoint: the high watermark goes back to what was saved, and the next
// leader's rises again as its followers fetch.
func TestCheckpoint(t *testing.T) {
	b := newBench(t, Config{}, pair, 1, 2)
	commit := func(sequence int32) {
		h := b.wait(1, batch(7, 0, sequence, 1))
		b.Settle()
		b.advance(0)
		b.answered(h, protocol.None, int64(sequence))
	}
	commit(0)
	b.Save(2)
	commit(1)
	b.Isolate(2, true)
	b.Crash(2, LoseNothing)
	if _, hw, end, _ := b.Offsets(orders, 2); hw != 1 || end != 2 {
		t.Errorf("high watermark %d, end %d", hw, end)
	}
	b.Isolate(2, false)
	b.Restart(2)
	b.Settle()
	if _, hw, _, _ := b.Offsets(orders, 2); hw != 2 {
		t.Errorf("high watermark %d after fetching", hw)
	}
}

// TestStartInsideABatch: a replica that has to begin where DeleteRecords has cut a
// batch in two copies the batch whole.
func TestStartInsideABatch(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1, 2, 3)
	b.Fence(3)
	b.Isolate(3, true)
	b.Settle()
	b.send(1, 1, batch(7, 0, 0, 4), protocol.None, 0)
	b.Settle()
	if !b.DeleteRecords(orders, 2) {
		t.Fatal("not deleted")
	}
	b.Isolate(3, false)
	b.Unfence(3)
	b.Settle()
	b.log(3, "7/0/2", "7/0/3")
	if got := b.InSync(orders); len(got) != 3 {
		t.Errorf("in sync %v", got)
	}
	b.check()
}
