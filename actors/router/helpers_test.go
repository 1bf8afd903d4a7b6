package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(actortest.Patient{M: m}) }

// system is one for all tests; every test has names of its own in it.
var system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }),
	actor.WithDeadLetterRequestLogging(false))

// inline runs what the executor and the dispatcher are given at once, so that
// whatever follows from a call has happened when it returns.
type inline struct{}

func (inline) Run(fn func())      { fn() }
func (inline) Schedule(fn func()) { fn() }
func (inline) Throughput() int    { return 1 }

// inbox is a process that keeps what it is sent.
type inbox struct {
	mu   sync.Mutex
	list []any
	on   func(any)
}

func (b *inbox) SendUserMessage(_ *actor.PID, m any) {
	b.mu.Lock()
	b.list = append(b.list, m)
	b.mu.Unlock()
	if b.on != nil {
		b.on(m)
	}
}

func (b *inbox) SendSystemMessage(pid *actor.PID, m any) { b.SendUserMessage(pid, m) }
func (b *inbox) Stop(*actor.PID)                         {}

// got returns what came of type M, and forgets nothing.
func got[M any](b *inbox) []M {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []M
	for _, m := range b.list {
		if m, ok := m.(M); ok {
			found = append(found, m)
		}
	}
	return found
}

func (b *inbox) clear() {
	b.mu.Lock()
	b.list = nil
	b.mu.Unlock()
}

var inboxes int

// newInbox registers an inbox under a name of its own.
func newInbox(name string) (*inbox, *actor.PID) {
	b := &inbox{}
	inboxes++
	pid, _ := system.ProcessRegistry.Add(b, fmt.Sprintf("%s-%d", name, inboxes))
	return b, pid
}

// world is a router with its actor, and everything around it played by the test.
type world struct {
	*testing.T
	*Router
	clock   *actortest.Clock
	keeper  *actor.PID
	root    *inbox
	boxes   map[string]*fakeBox // topic/partition, with .n from the second incarnation on
	brokers map[int32]*actor.PID
	version int
	hungry  bool // new boxes take memory
	log     *strings.Builder
}

const bufferBytes = 1 << 20

func newWorld(t *testing.T, with ...func(*messages.Settings, *Config)) *world {
	t.Helper()
	w := &world{T: t, clock: actortest.NewClock(), boxes: make(map[string]*fakeBox), log: &strings.Builder{}}
	var rootPID *actor.PID
	w.root, rootPID = newInbox("root")
	s := &messages.Settings{
		Name: "troupe/" + rootPID.Id, Acks: messages.AcksAll, RecordMaxBytes: 1 << 20, Clock: w.clock, Executor: inline{}, Parking: seams.NewParking(),
		Dispatcher: inline{}, Randomness: seams.SeededRandomness(1), StickyShards: 1, StickyBytes: 256 << 10, Log: zerolog.New(w.log),
		MetadataIdle: 5 * time.Minute, MaxTopicWait: time.Minute,
		MaxTopicPartitions: 100, LeaderPercent: 75, ParkedPercent: 10, ParkedTopicPercent: 25,
	}
	c := Config{Settings: s, HashedByMurmur2: true, Partitioner: partitioners.Default(nil), Root: rootPID, Spawn: w.spawn}
	for _, fn := range with {
		fn(s, &c)
	}
	c.Budget = memory.NewBudget(bufferBytes, s.Parking)
	w.Router = New(c, system)
	w.brokers = make(map[int32]*actor.PID)
	for id := range int32(3) {
		_, w.brokers[id] = newInbox("broker")
	}
	var err error
	if w.keeper, err = system.Root.SpawnNamed(w.Router.Props(), s.Name); err != nil {
		t.Fatal(err)
	}
	w.root.on = func(m any) {
		if f, ok := m.(*messages.ForRouter); ok {
			system.Root.Send(w.keeper, f.Message)
		}
	}
	t.Cleanup(func() {
		_ = system.Root.StopFuture(w.keeper).Wait()
	})
	return w
}

func (w *world) spawn(_ actor.SpawnerContext, spec messages.AccumulatorSpec) (messages.Appender, error) {
	name := fmt.Sprintf("%s/%d", spec.Topic, spec.Partition)
	if spec.Incarnation > 1 {
		name = fmt.Sprintf("%s.%d", name, spec.Incarnation)
	}
	if w.boxes[name] != nil {
		return nil, errors.New("the name " + name + " is used twice")
	}
	b := &fakeBox{spec: spec, budget: w.Budget, hungry: w.hungry}
	b.inbox, b.pid = newInbox(name)
	w.boxes[name] = b
	return b, nil
}

// part describes a partition led by a broker.
func partOf(id, leader, epoch int32) messages.PartitionInfo {
	return messages.PartitionInfo{Partition: partitioners.Partition{ID: id, Leader: leader}, LeaderEpoch: epoch}
}

// topicOf describes a topic whose partitions have the ids, each led by the
// broker of its number modulo three.
func topicOf(name string, ids ...int32) messages.TopicInfo {
	t := messages.TopicInfo{Name: name, ID: [16]byte{1}}
	for _, id := range ids {
		t.Partitions = append(t.Partitions, partOf(id, id%3, 1))
	}
	return t
}

// found tells the router what metadata found, in an answer of broker 0.
func (w *world) found(topics ...messages.TopicInfo) { w.foundBy(0, topics...) }

func (w *world) foundBy(broker int32, topics ...messages.TopicInfo) {
	w.version++
	view := &messages.ClusterView{Version: w.version, AnsweredBy: broker, Topics: topics}
	for id := range w.brokers {
		view.Brokers = append(view.Brokers, messages.BrokerInfo{ID: id})
	}
	system.Root.Send(w.keeper, &messages.RoutesChanged{View: view, Brokers: w.brokers})
}

func (w *world) topic(name string) *Topic {
	w.Helper()
	t, err := w.Topic(name)
	if err != nil {
		w.Fatal(err)
	}
	return t
}

// outcomes collects deliveries.
type outcomes struct {
	mu   sync.Mutex
	list []messages.Delivery
}

func (o *outcomes) add(d messages.Delivery) {
	o.mu.Lock()
	o.list = append(o.list, d)
	o.mu.Unlock()
}

func (o *outcomes) all() []messages.Delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

// only returns the one outcome there is.
func (o *outcomes) only(t *testing.T) messages.Delivery {
	t.Helper()
	list := o.all()
	if len(list) != 1 {
		t.Fatalf("%d outcomes: %+v", len(list), list)
	}
	return list[0]
}

func record(topic, value string) *messages.Record {
	return &messages.Record{Topic: topic, Value: []byte(value)}
}

func at(topic string, partition int32, value string) *messages.Record {
	r := record(topic, value)
	r.Partition = messages.AtPartition(partition)
	return r
}

// produce admits a record without waiting.
func (w *world) produce(r *messages.Record, o *outcomes) error {
	w.Helper()
	return w.topic(r.Topic).Produce(context.Background(), r, o.add, Options{Acks: messages.AcksAll, Codec: codecs.None})
}

func (w *world) must(r *messages.Record, o *outcomes) {
	w.Helper()
	if err := w.produce(r, o); err != nil {
		w.Fatal(err)
	}
}

// fillParking parks records until the topic's share is used up.
func (w *world) fillParking(topic string, o *outcomes) (n int) {
	w.Helper()
	for ; ; n++ {
		if err := w.produce(at(topic, 0, strings.Repeat("f", 500)), o); errors.Is(err, messages.ErrBufferFull) {
			return n
		} else if err != nil {
			w.Fatal(err)
		}
	}
}

// waiting starts a caller who may wait, and returns when it does.
func (w *world) waiting(ctx context.Context, r *messages.Record, o *outcomes, maxBlock time.Duration) <-chan error {
	w.Helper()
	ended := make(chan error, 1)
	before := w.Budget.Waiting()
	go func() {
		ended <- w.topic(r.Topic).Produce(ctx, r, o.add, Options{Acks: messages.AcksAll, Wait: true, MaxBlock: maxBlock})
	}()
	eventually(w.T, "the caller to wait", func() bool { return w.Budget.Waiting() > before || len(ended) > 0 })
	return ended
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// result returns how a caller's wait ended.
func result(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the caller still waits")
		return nil
	}
}
