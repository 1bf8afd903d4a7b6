package router

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// fakeBox is a partition that takes every record, until it is closed.
type fakeBox struct {
	messages.Appender
	account  *memory.Account
	closed   bool
	onClosed func() // called when a record comes to the closed partition
	got      []string
	flushed  int
	leader   *messages.AssignLeader
}

func (b *fakeBox) Append(a *messages.Admission) messages.AppendStatus {
	if b.closed {
		if b.onClosed != nil {
			b.onClosed()
		}
		return messages.AppendClosed
	}
	b.got = append(b.got, string(a.Record.Value))
	return messages.Appended
}

func (b *fakeBox) AppendAll(records []messages.Admission, _ *[]*memory.Chunk) (int, messages.AppendStatus) {
	for i := range records {
		if status := b.Append(&records[i]); status != messages.Appended {
			return i, status
		}
	}
	return len(records), messages.Appended
}

func (b *fakeBox) Account() *memory.Account     { return b.account }
func (b *fakeBox) SetAccount(a *memory.Account) { b.account = a }
func (b *fakeBox) NeedBytes(n int) int          { return n }
func (b *fakeBox) BacklogBytes() int            { return 0 }
func (b *fakeBox) TopicID() [16]byte            { return [16]byte{1} }
func (b *fakeBox) Topic() string                { return "t" }
func (b *fakeBox) Partition() int32             { return 0 }
func (b *fakeBox) Class() messages.Class        { return messages.Class{} }
func (b *fakeBox) PID() *actor.PID              { return root }
func (b *fakeBox) Flush(*messages.FlushWaiter)  { b.flushed++ }

func (b *fakeBox) Take(messages.TakeRequest) (messages.Batch, messages.TakeStatus) {
	return nil, messages.TakeDone
}

func (b *fakeBox) Evacuate(error) (messages.Stranded, messages.Identity) {
	return messages.Stranded{}, messages.NoIdentity
}

func (b *fakeBox) Tell(m any) {
	if l, ok := m.(*messages.AssignLeader); ok {
		b.leader = l
	}
}

// inline runs what the executor is given at once.
type inline struct{}

func (inline) Run(fn func()) { fn() }

// nobody takes what the router tells the root and the accumulators.
type nobody struct{}

func (nobody) SendUserMessage(*actor.PID, any)   {}
func (nobody) SendSystemMessage(*actor.PID, any) {}
func (nobody) Stop(*actor.PID)                   {}

var (
	system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	root   = func() *actor.PID { pid, _ := system.ProcessRegistry.Add(nobody{}, "nobody"); return pid }()
)

// newTopic returns a topic of one partition.
func newTopic(t *testing.T, box messages.Appender) *Topic {
	t.Helper()
	s := &messages.Settings{
		Name: "troupe/" + t.Name(), RecordMaxBytes: 1 << 20, Clock: seams.NewClock(), Executor: inline{}, Parking: seams.NewParking(),
		Randomness: seams.SeededRandomness(1), StickyShards: 1, Log: zerolog.Nop(),
		MaxTopicPartitions: 100, LeaderPercent: 75, ParkedPercent: 10, ParkedTopicPercent: 25,
	}
	r := New(Config{
		Settings: s, Budget: memory.NewBudget(1<<20, s.Parking), HashedByMurmur2: true, Partitioner: partitioners.Default(nil),
		Root: root,
	}, system)
	topic, err := r.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	topic.routes.Store(oneRoute(box))
	return topic
}

func oneRoute(box messages.Appender) *routes {
	return &routes{boxes: []messages.Appender{box}, live: []messages.Appender{box}, infos: []partitioners.Partition{{Leader: 1}}, available: []int32{0}}
}

// TestSendSurvivesARetirement: a topic whose accumulators end while a Send is
// under way is found anew; the producer is not closed, so nothing is refused.
func TestSendSurvivesARetirement(t *testing.T) {
	next := &fakeBox{}
	old := &fakeBox{closed: true}
	topic := newTopic(t, old)
	old.onClosed = func() { topic.routes.Store(oneRoute(next)) }
	records := []messages.Record{{Topic: "t", Value: []byte("a")}, {Topic: "t", Value: []byte("b")}}
	topic.router.SendAll(context.Background(), context.Background(), records, nil, Options{Wait: true}, func(_ *messages.Record, err error) {
		t.Errorf("refused: %v", err)
	})
	if len(next.got) != 2 || next.got[0] != "a" || next.got[1] != "b" {
		t.Errorf("the new partition got %q", next.got)
	}
}

// TestFlushFollowsRecordsThatWereDrained: some parked records have moved on into
// their partition when the rest is refused; a Flush that waits for them must go
// on to wait there.
func TestFlushFollowsRecordsThatWereDrained(t *testing.T) {
	for name, end := range map[string]func(*Topic){
		"refused": func(topic *Topic) { topic.refuseParked(errors.New("no")) },
		"expired": func(topic *Topic) { topic.expireParked(10, 10, errors.New("late")) },
	} {
		t.Run(name, func(t *testing.T) {
			box := &fakeBox{}
			topic := newTopic(t, box)
			topic.pending = topic.routes.Swap(nil)
			topic.parked = []parked{{record: messages.Record{Topic: "t", Value: []byte("left")}, at: 1}}
			topic.flushes = []*messages.FlushWaiter{messages.NewFlushWaiter(topic.router.Settings.Parking.NewSpot())}
			end(topic)
			if topic.routes.Load() == nil || box.flushed != 1 {
				t.Errorf("routes known %v, partition flushed %d times", topic.routes.Load() != nil, box.flushed)
			}
		})
	}
}

// TestHintsEndWithTheirTopic: a leader hint of a deleted topic says nothing about
// the topic that is created under its name, whose epochs begin anew.
func TestHintsEndWithTheirTopic(t *testing.T) {
	box := &fakeBox{}
	topic := newTopic(t, box)
	k := newKeeper(topic.router)
	k.hinted["t"] = map[int32]messages.AssignLeader{0: {ID: 2, LeaderEpoch: 40}}
	k.brokers = map[int32]*actor.PID{1: actor.NewPID("nonhost", "one"), 2: actor.NewPID("nonhost", "two")}
	next := &fakeBox{}
	k.Spawn = func(actor.SpawnerContext, messages.AccumulatorSpec) (messages.Appender, error) { return next, nil }
	info := &messages.TopicInfo{Name: "t", ID: [16]byte{2}, Partitions: []messages.PartitionInfo{{Partition: partitioners.Partition{Leader: 1}}}}
	k.update(nil, answer{info, 1, 2}, 1)
	if next.leader == nil || next.leader.ID != 1 {
		t.Errorf("the new topic's partition was given leader %+v", next.leader)
	}
}
