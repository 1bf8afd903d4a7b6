package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestPartitionsGrow: new partitions get accumulators, the old ones stay, and
// later records use all.
func TestPartitionsGrow(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("t")
	w.found(topicOf("t", 0, 1))
	first := w.boxes["t/0"]
	w.found(topicOf("t", 0, 1, 2, 3))
	w.found(topicOf("t", 0, 1, 2, 3), topicOf("nobody asked for it", 0))
	rt := topic.routes.Load()
	if len(rt.live) != 4 || len(w.boxes) != 4 || rt.boxes[0] != messages.Appender(first) || first.closed {
		t.Errorf("%d partitions, %d accumulators", len(rt.live), len(w.boxes))
	}
	var o outcomes
	used := make(map[int32]bool)
	for i := range 64 {
		r := record("t", "v")
		r.Key = fmt.Append(nil, "key ", i)
		w.must(r, &o)
	}
	for _, b := range w.boxes {
		used[b.spec.Partition] = len(b.got) > 0
	}
	if len(used) != 4 || !used[2] || !used[3] {
		t.Errorf("the partitions in use are %v", used)
	}
}

// TestLeaders: who leads a partition follows metadata and newer hints, and its
// memory counts for its leader.
func TestLeaders(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	describe := func(leader, epoch int32) {
		w.found(messages.TopicInfo{Name: "t", ID: [16]byte{1}, Partitions: []messages.PartitionInfo{partOf(0, leader, epoch)}})
	}
	hint := func(partition, leader, epoch int32) {
		system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "t", Partition: partition, LeaderID: leader, LeaderEpoch: epoch})
	}
	describe(0, 1)
	box := w.boxes["t/0"]
	accounts := map[int32]any{0: box.Account()}
	for _, c := range []struct {
		name   string
		do     func()
		leader int32
		epoch  int32
		told   bool
	}{
		{"a newer hint", func() { hint(0, 1, 5) }, 1, 5, true},
		{"the same hint again", func() { hint(0, 1, 5) }, 1, 5, false},
		{"an older hint", func() { hint(0, 2, 4) }, 1, 5, false},
		{"metadata that is older than the hint", func() { describe(0, 4) }, 1, 5, true},
		{"metadata as new as the hint", func() { describe(2, 5) }, 2, 5, true},
		{"newer metadata", func() { describe(0, 7) }, 0, 7, true},
		{"a hint, and metadata of a broker without epochs", func() { hint(0, 1, 9); describe(2, -1) }, 2, -1, true},
		{"metadata with epochs again", func() { describe(0, 7) }, 0, 7, true},
		{"a hint that is older than metadata", func() { hint(0, 1, 6) }, 0, 7, false},
		{"a hint as new as metadata", func() { hint(0, 1, 7) }, 0, 7, false},
		{"a hint to a broker that nobody knows", func() { hint(0, 9, 8) }, 0, 7, false},
		{"a hint for a partition that nobody knows", func() { hint(7, 1, 8) }, 0, 7, false},
		{"a hint for an impossible partition", func() { hint(-1, 1, 8) }, 0, 7, false},
		{"no leader", func() { describe(-1, 8) }, -1, 8, true},
		{"a leader that nobody knows", func() { describe(9, 9) }, -1, 9, true},
	} {
		before := len(box.leaders)
		c.do()
		l := box.last()
		if l.ID != c.leader || l.LeaderEpoch != c.epoch || (len(box.leaders) > before) != c.told {
			t.Errorf("%s: told %d times of %d at epoch %d", c.name, len(box.leaders)-before, l.ID, l.LeaderEpoch)
		}
		if want := w.brokers[c.leader]; l.Broker != want {
			t.Errorf("%s: the broker is %v", c.name, l.Broker)
		}
		if a := accounts[c.leader]; a != nil && a != any(box.Account()) {
			t.Errorf("%s: another account for the same leader", c.name)
		}
		for leader, a := range accounts {
			if leader != c.leader && a == any(box.Account()) {
				t.Errorf("%s: leaders %d and %d share an account", c.name, leader, c.leader)
			}
		}
		accounts[c.leader] = box.Account()
	}
	system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "nobody knows", LeaderID: 1})
}

// TestHintsAreOutlived: metadata that stays older than a hint is believed in the
// end, since the cluster may have been restored.
func TestHintsAreOutlived(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 40})
	for i := range 6 {
		w.found(topicOf("t", 0))
		if l, want := w.boxes["t/0"].last(), int32(2); i < hintOutlivedBy-1 && l.ID != want {
			t.Errorf("after %d answers: %+v", i+1, l)
		}
	}
	if l := w.boxes["t/0"].last(); l.ID != 0 || l.LeaderEpoch != 1 {
		t.Errorf("in the end: %+v", l)
	}
}

// TestHintsEndWithTheirBroker: a leader that has left the cluster leads nothing,
// whatever a broker once said.
func TestHintsEndWithTheirBroker(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 40})
	if l := w.boxes["t/0"].last(); l.ID != 2 {
		t.Fatalf("the hint was not taken: %+v", l)
	}
	delete(w.brokers, 2)
	w.found(topicOf("t", 0))
	if l := w.boxes["t/0"].last(); l.ID != 0 || l.LeaderEpoch != 1 {
		t.Errorf("led by %+v", l)
	}
}

// TestHintsEndWithTheirTopic: a leader hint of a deleted topic says nothing about
// the topic that is created under its name, whose epochs begin anew.
func TestHintsEndWithTheirTopic(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "t", LeaderID: 2, LeaderEpoch: 40})
	if l := w.boxes["t/0"].last(); l.ID != 2 {
		t.Fatalf("the hint was not taken: %+v", l)
	}
	info := topicOf("t", 0)
	info.ID = [16]byte{2}
	w.found(info)
	if l := w.boxes["t/0.2"].last(); l.ID != 0 || l.LeaderEpoch != 1 {
		t.Errorf("the new topic's partition was given leader %+v", l)
	}
}

// TestTopicIsGone: its records fail with what is known, and later ones find an
// unknown topic.
func TestTopicIsGone(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0, 1))
	var o outcomes
	gone := messages.TopicInfo{Name: "t", Err: messages.ErrUnknownTopic, Gone: true}
	w.found(gone)
	for _, name := range []string{"t/0", "t/1"} {
		if b := w.boxes[name]; !errors.Is(b.failed, messages.ErrUnknownPartition) || !b.poisoned() {
			t.Errorf("%s: failed with %v, poisoned %v", name, b.failed, b.poisoned())
		}
	}
	w.must(record("t", "v"), &o)
	w.found(gone) // nobody is left to fail twice
	w.found(topicOf("t", 0))
	if got := w.boxes["t/0.2"].values(); got != "v" || len(o.all()) != 0 {
		t.Errorf("the new accumulator got %q, %d outcomes", got, len(o.all()))
	}
}

// TestTopicIsCreatedAgain: what never left moves to the new topic, in front of
// what is parked, under a newer epoch than the old accumulators had.
func TestTopicIsCreatedAgain(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0, 1, 2))
	var o outcomes
	for part, values := range [][]string{{"a", "b"}, {"c"}, {"nowhere to go"}} {
		b := w.boxes[fmt.Sprint("t/", part)]
		b.identity = messages.Identity{ProducerID: 5, Epoch: int16(3 - part)}
		b.leaving = values
	}
	w.must(at("t", 7, "beyond"), &o)
	info := topicOf("t", 0, 1)
	info.ID = [16]byte{2}
	w.found(info)
	a, c := w.boxes["t/0.2"], w.boxes["t/1.2"]
	if a.values() != "a b" || c.values() != "c" {
		t.Errorf("the new partitions got %q and %q", a.values(), c.values())
	}
	if want := (messages.Identity{ProducerID: 5, Epoch: 3}); a.spec.After != want || c.spec.After != want || a.spec.TopicID != info.ID {
		t.Errorf("the new accumulators follow on %+v and %+v", a.spec.After, c.spec.After)
	}
	for i := range 3 {
		b := w.boxes[fmt.Sprint("t/", i)]
		if gone := i == 2; !b.poisoned() || gone != errors.Is(b.failed, messages.ErrUnknownPartition) || gone != (len(b.leaving) > 0) {
			t.Errorf("the old accumulator %d: poisoned %v, failed with %v, keeps %v", i, b.poisoned(), b.failed, b.leaving)
		}
	}
	if d := o.only(t); !errors.Is(d.Err, messages.ErrUnknownPartition) || d.Partition != 7 {
		t.Errorf("%+v", d)
	}
	if w.Budget.Used() != 0 {
		t.Errorf("%d bytes are charged", w.Budget.Used())
	}
}

// TestTopicIsGoneAfterACrashInMidMove: what waits to move to the topic that was
// created again fails with it, though nobody could make routes to it.
func TestTopicIsGoneAfterACrashInMidMove(t *testing.T) {
	for name, end := range map[string]messages.TopicInfo{
		"deleted": {Name: "t", Err: messages.ErrUnknownTopic, Gone: true},
		"refused": {Name: "t", Err: messages.ErrInvalidRecord, Permanent: true},
	} {
		t.Run(name, func(t *testing.T) { topicEndsInMidMove(t, end) })
	}
}

func topicEndsInMidMove(t *testing.T, end messages.TopicInfo) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0, 1))
	w.boxes["t/1"].crashing = true
	again := topicOf("t", 0, 1)
	again.ID = [16]byte{2}
	w.found(again)
	if b := w.boxes["t/0"]; !b.closed || b.failed != nil {
		t.Fatalf("the move did not begin: closed %v, failed with %v", b.closed, b.failed)
	}
	w.found(end)
	for _, name := range []string{"t/0", "t/1"} {
		if b := w.boxes[name]; !errors.Is(b.failed, messages.ErrUnknownPartition) || !b.poisoned() {
			t.Errorf("%s: failed with %v, poisoned %v", name, b.failed, b.poisoned())
		}
	}
}

// TestPartitionMissingFromTwoRefreshes by different brokers fails its records;
// until then it keeps its leader, and one that comes back is a new one.
func TestPartitionMissingFromTwoRefreshes(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.foundBy(0, topicOf("t", 0, 1, 2))
	lost := w.boxes["t/1"]
	told := len(lost.leaders)
	w.foundBy(1, topicOf("t", 0, 2))
	w.foundBy(1, topicOf("t", 0, 2))
	rt := w.topic("t").routes.Load()
	if lost.failed != nil || len(lost.leaders) != told || len(rt.available) != 3 || rt.infos[1].Leader != 1 || rt.epochs[1] != 1 {
		t.Errorf("after one broker's word: failed with %v, told %d times, routes %+v", lost.failed, len(lost.leaders)-told, rt)
	}
	w.foundBy(2, topicOf("t", 0, 2))
	if !errors.Is(lost.failed, messages.ErrUnknownPartition) || !lost.poisoned() {
		t.Errorf("after two brokers' word: failed with %v, poisoned %v", lost.failed, lost.poisoned())
	}
	var o outcomes
	w.must(at("t", 1, "v"), &o)
	w.must(at("t", 2, "others"), &o)
	w.foundBy(0, topicOf("t", 0, 2))
	if d := o.only(t); !errors.Is(d.Err, messages.ErrUnknownPartition) {
		t.Errorf("%+v", d)
	}
	w.foundBy(0, topicOf("t", 0, 1, 2))
	w.must(at("t", 1, "w"), &o)
	if got := w.boxes["t/1.2"].values(); got != "w" || w.boxes["t/2"].values() != "others" {
		t.Errorf("the new accumulator got %q", got)
	}
}

// TestImpossibleAnswer: no table is made for it. A known topic stays as it is,
// records of another fail until an answer can be believed, and the log has a
// line, not one for each refresh.
func TestImpossibleAnswer(t *testing.T) {
	w := newWorld(t)
	w.topic("known")
	w.found(topicOf("known", 0, 99))
	var o outcomes
	w.must(record("new", "v"), &o)
	for range 3 {
		w.found(topicOf("known", 0, 100), topicOf("new", 1_000_000))
	}
	if d := o.only(t); !errors.Is(d.Err, messages.ErrTooManyPartitions) || d.Status != messages.NotPersisted {
		t.Errorf("%+v", d)
	}
	if len(w.boxes) != 2 {
		t.Errorf("%d accumulators", len(w.boxes))
	}
	if err := w.produce(record("new", "v"), &o); !errors.Is(err, messages.ErrTooManyPartitions) {
		t.Error(err)
	}
	w.must(at("known", 99, "v"), &o)
	if got := w.boxes["known/99"].values(); got != "v" {
		t.Errorf("the known topic's partition got %q", got)
	}
	if n := strings.Count(w.log.String(), "not believed"); n != 2 {
		t.Errorf("%d lines in the log: %s", n, w.log)
	}
	w.found(topicOf("new", 0))
	w.must(record("new", "w"), &o)
	if got := w.boxes["new/0"].values(); got != "w" {
		t.Errorf("the partition got %q", got)
	}
}

// TestUnusedNumbers: a number without a partition has no accumulator, is no
// sticky choice, and a record that names or hashes to it fails.
func TestUnusedNumbers(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	info := topicOf("t", 1, 3)
	info.Partitions[0].Leader, info.Partitions[1].Leader = -1, -1
	w.found(info)
	if len(w.boxes) != 2 {
		t.Fatalf("%d accumulators for two partitions", len(w.boxes))
	}
	var o outcomes
	for range 20 {
		w.must(record("t", "v"), &o)
		w.topic("t").sticky.shards[0].partition.Store(0) // choose again
	}
	keyed := record("t", "k")
	for i := 0; (partitioners.Murmur2(keyed.Key)&0x7fffffff)%4 != 2; i++ {
		keyed.Key = fmt.Append(nil, i)
	}
	var failed outcomes
	w.must(keyed, &failed)
	w.must(at("t", 0, "named"), &failed)
	w.found(info)
	for _, d := range failed.all() {
		if !errors.Is(d.Err, messages.ErrUnknownPartition) {
			t.Errorf("%+v", d)
		}
	}
	if n := len(failed.all()); n != 2 || len(w.boxes["t/1"].got)+len(w.boxes["t/3"].got) != 20 || len(o.all()) != 0 {
		t.Errorf("%d failed, %d and %d records", n, len(w.boxes["t/1"].got), len(w.boxes["t/3"].got))
	}
	w.FailAll(messages.ErrClosed) // walks the partitions there are
}

// TestTransientErrorsChangeNothing: a topic that is known stays known.
func TestTransientErrorsChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	before := w.topic("t").routes.Load()
	w.found(messages.TopicInfo{Name: "t", Err: protocol.LeaderNotAvailable}, messages.TopicInfo{Name: "u", Err: protocol.LeaderNotAvailable})
	w.found(messages.TopicInfo{Name: "t", ID: [16]byte{1}})
	if w.topic("t").routes.Load() != before {
		t.Error("the routes have changed")
	}
}

// TestIdleTopicsRetire whole or not at all, and come back with other
// accumulators.
func TestIdleTopicsRetire(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.MaxTopicWait = time.Hour })
	for _, topic := range []string{"idle", "busy", "parked"} {
		w.topic(topic)
	}
	w.found(topicOf("idle", 0, 1), topicOf("busy", 0, 1), topicOf("parked", 0))
	w.boxes["busy/1"].busy = true
	var o outcomes
	w.must(at("parked", 5, "v"), &o)
	w.root.clear()
	w.clock.Advance(2 * time.Minute)
	forgotten := got[*messages.ForgetTopic](w.root)
	if len(forgotten) != 1 || forgotten[0].Name != "idle" {
		t.Fatalf("forgotten: %v", forgotten)
	}
	if !w.boxes["idle/0"].poisoned() || !w.boxes["idle/1"].poisoned() || w.boxes["busy/0"].poisoned() || w.boxes["parked/0"].poisoned() {
		t.Error("the wrong accumulators end")
	}
	if w.boxes["busy/0"].closed {
		t.Error("one partition of a busy topic stays closed")
	}
	w.must(at("idle", 0, "back"), &o)
	w.found(topicOf("idle", 0, 1))
	if got := w.boxes["idle/0.2"].values(); got != "back" {
		t.Errorf("the new accumulator got %q", got)
	}
	// And again after the next idle time.
	w.clock.Advance(2 * time.Minute)
	if !w.boxes["idle/0.2"].poisoned() {
		t.Error("a topic that came back does not retire")
	}
}

// TestNobodyLooksForIdleTopics where there are none: not before the first, and not
// after the last.
func TestNobodyLooksForIdleTopics(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	looks := func() int {
		_, set := w.clock.Timers()
		return set
	}
	for range 2 {
		if n := looks(); n != 0 {
			t.Errorf("%d timers are set without a topic", n)
		}
		w.found(topicOf("t", 0))
		if n := looks(); n != 1 {
			t.Errorf("%d timers are set with a topic", n)
		}
		w.clock.Advance(2 * time.Minute)
	}
}

// TestRestartKeepsTheTable: a crash costs the actor nothing that it knew.
func TestRestartKeepsTheTable(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	var o outcomes
	w.must(at("t", 3, "parked"), &o)
	timers, _ := w.clock.Timers()
	system.Root.Send(w.keeper, &messages.RoutesChanged{}) // without a view: a bug
	w.found(topicOf("t", 0, 1, 2, 3))
	made, _ := w.clock.Timers()
	if got := w.boxes["t/3"].values(); got != "parked" || len(w.boxes) != 4 || made != timers {
		t.Errorf("the partition got %q, %d accumulators, %d timers of %d", got, len(w.boxes), made, timers)
	}
}

// TestPressureMakesBatchesReady, now and then: not at every wait.
func TestPressureMakesBatchesReady(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0))
	box := w.boxes["t/0"]
	var o outcomes
	value := strings.Repeat("x", 60_000)
	for w.produce(at("t", 0, value), &o) == nil {
	}
	if n := box.urged.Load(); n != 0 {
		t.Errorf("urged %d times though nobody waits", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := w.waiting(ctx, at("t", 0, value), &o, 0)
	eventually(t, "batches to be made ready", func() bool { return box.urged.Load() > 0 })
	two := w.waiting(ctx, at("t", 0, value), &o, 0)
	if n := box.urged.Load(); n != 1 {
		t.Errorf("urged %d times by two waiters", n)
	}
	w.clock.Advance(parkedSweep)
	w.clock.Advance(parkedSweep)
	if n := box.urged.Load(); n != 3 {
		t.Errorf("urged %d times after two sweeps", n)
	}
	cancel()
	for _, ended := range []<-chan error{one, two} {
		if err := result(t, ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	urged := box.urged.Load()
	w.clock.Advance(parkedSweep)
	w.clock.Advance(parkedSweep)
	if box.urged.Load() != urged {
		t.Error("urged though nobody waits any more")
	}
}

// TestPaceIsGivenUp when the leader answers nothing.
func TestPaceIsGivenUp(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.PaceBytes = 100_000 })
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0))
	var o outcomes
	value := strings.Repeat("x", 60_000)
	w.must(at("t", 0, value), &o)
	ended := make(chan error, 1)
	go func() {
		ended <- w.topic("t").Produce(context.Background(), at("t", 0, value), o.add, Options{Wait: true})
	}()
	eventually(t, "the caller to wait", w.Budget.Paced)
	eventually(t, "the batch to be made ready", func() bool { return w.boxes["t/0"].urged.Load() == 1 })
	for range 3 {
		w.clock.Advance(relaxEvery)
	}
	if err := result(t, ended); err != nil {
		t.Error(err)
	}
}

// TestStopEndsEverything: what is parked gets its outcome, and nothing starts.
func TestStopEndsEverything(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	var o outcomes
	w.must(record("parked", "v"), &o)
	_ = system.Root.StopFuture(w.keeper).Wait()
	if d := o.only(t); !errors.Is(d.Err, messages.ErrClosed) {
		t.Errorf("%+v", d)
	}
	if b := w.boxes["t/0"]; !errors.Is(b.failed, messages.ErrClosed) {
		t.Errorf("the partition failed with %v", b.failed)
	}
	if err := w.produce(record("t", "v"), &o); !errors.Is(err, messages.ErrClosed) {
		t.Error(err)
	}
	if _, set := w.clock.Timers(); set > 0 {
		t.Errorf("%d timers are left", set)
	}
}
