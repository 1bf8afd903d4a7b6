package accumulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(actortest.Patient{M: m}) }

type noSequences struct{}

func (noSequences) Keep(string, [16]byte, int32, messages.LastSequence) {}
func (noSequences) Recall(string, [16]byte, int32) (messages.LastSequence, bool) {
	return messages.LastSequence{}, false
}

// stage is an accumulator in an actor system, with whatever stands for a broker.
type stage struct {
	t      *testing.T
	system *actor.ActorSystem
	queue  *seams.RunQueue
	budget *memory.Budget
	box    *Box
	root   *actor.PID
}

func newStage(t *testing.T) *stage {
	registry, err := codecs.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })), queue: seams.NewRunQueue(), budget: memory.NewBudget(32<<20, seams.NewParking())}
	clock := seams.NewClock()
	settings := &messages.Settings{
		Name: "test", BatchMaxBytes: 2000, Linger: time.Millisecond, DeliveryTimeout: time.Minute, Idempotent: true,
		MaxInFlight: 5, UnnumberedInFlight: 2, SlowRequest: time.Minute, Codecs: registry, Log: zerolog.Nop(),
		Retry: messages.RetryPolicy{InitialRetryTime: time.Millisecond, MaxRetryTime: 2 * time.Millisecond, Multiplier: 2, Retries: -1},
		Clock: clock, Stamps: seams.NewStamps(clock), Executor: seams.NewExecutor(), CodecCrew: seams.NewExecutor(), Callbacks: seams.NewExecutor(), Randomness: seams.SeededRandomness(1),
		Dispatcher: s.queue, Sequences: noSequences{},
	}
	s.root = s.system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	box, err := Spawn(s.system.Root, settings, s.budget, NewLingers(settings, s.system), s.root, messages.AccumulatorSpec{Topic: "t", Partition: 3, After: messages.NoIdentity})
	if err != nil {
		t.Fatal(err)
	}
	box.SetAccount(s.budget.NewAccount("leader", 1))
	s.box = box
	t.Cleanup(func() {
		_ = s.system.Root.StopFuture(box.PID()).Wait()
		_ = s.system.Root.StopFuture(s.root).Wait()
		s.system.Shutdown()
		s.queue.Close()
		s.queue.Wait()
	})
	return s
}

// broker makes an actor of a function.
func (s *stage) broker(receive func(*messages.PartitionReady)) *actor.PID {
	pid := s.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *messages.PartitionReady:
			receive(m)
		case *messages.PartitionsReady:
			for i := range m.Partitions {
				receive(&m.Partitions[i])
			}
		}
	}))
	s.t.Cleanup(func() { _ = s.system.Root.StopFuture(pid).Wait() })
	return pid
}

func (s *stage) lead(pid *actor.PID, id, epoch int32) {
	s.box.Assign(messages.AssignLeader{Broker: pid, ID: id, LeaderEpoch: epoch})
}

// TestTakeByAnOlderTurn: the turn of a broker began before a batch came back that was lost
// by another one, and asks for the partition since it was ready before. Its time is too
// early for the batch, and nobody else would tell it that it no longer is.
func TestTakeByAnOlderTurn(t *testing.T) {
	s := newStage(t)
	var told atomic.Int32
	s.lead(s.broker(func(*messages.PartitionReady) { told.Add(1) }), 1, 1)
	if s.append("v", nil) != messages.Appended {
		t.Fatal("not appended")
	}
	s.box.Urge()
	eventually(t, "the partition to be ready", func() bool { return told.Load() == 1 })
	old := s.request(1, messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll})
	s.box.mu.Lock()
	s.box.state.retryAt = old.Now.Add(1)
	s.box.mu.Unlock()
	if b, status := s.box.Take(old); b != nil || status != messages.TakeDone {
		t.Fatalf("took %v, %v", b, status)
	}
	eventually(t, "the partition to be ready again", func() bool { return told.Load() == 2 })
}

func (s *stage) request(id int32, class messages.Class) messages.TakeRequest {
	return messages.TakeRequest{
		Now: s.box.settings.Clock.Now(), Broker: id, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: class,
		RoomBytes: 1 << 20, First: true, ProduceVersion: 13,
	}
}

func (s *stage) append(value string, callback messages.Callback) messages.AppendStatus {
	a := admission(value, callback)
	a.Bytes = protocol.RecordUpperBound(0, len(value), nil)
	for {
		status := s.box.Append(a)
		if status != messages.NeedsBatch && status != messages.NeedsChunk {
			if a.Chunk != nil {
				s.budget.Release(a.Chunk)
			}
			return status
		}
		if a.Chunk != nil {
			s.budget.Release(a.Chunk)
		}
		var err error
		if a.Chunk, err = s.budget.Acquire(context.Background(), s.box.Account(), s.box.NeedBytes(a.Bytes)); err != nil {
			s.t.Error(err)
			return messages.AppendClosed
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// TestManyCallersAndAMovingLeader runs callers, two brokers that answer or fail
// at random, and changes of leader against each other. Every record has one
// outcome, and a partition's outcomes come one at a time.
func TestManyCallersAndAMovingLeader(t *testing.T) {
	s := newStage(t)
	var writes sync.WaitGroup
	var sequence atomic.Int64
	broker := func(id int32) func(*messages.PartitionReady) {
		random := rand.New(rand.NewPCG(1, uint64(id)))
		return func(m *messages.PartitionReady) {
			for {
				b, status := m.Taker.Take(s.request(id, m.Class))
				if b != nil {
					r := okResult(sequence.Add(1))
					if n := random.IntN(10); n < 2 {
						r = lostResult(n == 0)
					}
					writes.Add(1)
					go func() {
						defer writes.Done()
						n := 0
						for _, slice := range b.Slices() {
							n += len(slice)
						}
						if n != b.Bytes() {
							t.Errorf("%d bytes, said %d", n, b.Bytes())
						}
						r.Now = s.box.settings.Clock.Now()
						b.Settle(r)
						b.WriteEnded()
					}()
				}
				if status != messages.TakeMore {
					return
				}
			}
		}
	}
	one, two := s.broker(broker(1)), s.broker(broker(2))
	s.lead(one, 1, 1)
	const callers, each = 4, 2000
	var answered [callers * each]atomic.Int32
	var inCallback, total atomic.Int32
	var running sync.WaitGroup
	for c := range callers {
		running.Go(func() {
			for i := range each {
				n := c*each + i
				s.append(fmt.Sprintf("record %d", n), func(messages.Delivery) {
					if inCallback.Add(1) > 1 {
						t.Error("two callbacks of one partition at once")
					}
					answered[n].Add(1)
					total.Add(1)
					inCallback.Add(-1)
				})
			}
		})
	}
	for epoch := int32(2); epoch < 40; epoch++ {
		if epoch%2 == 0 {
			s.lead(two, 2, epoch)
		} else {
			s.lead(one, 1, epoch)
		}
		time.Sleep(2 * time.Millisecond)
	}
	running.Wait()
	eventually(t, "every record has an outcome", func() bool { return total.Load() == callers*each && s.box.Unanswered() == 0 })
	writes.Wait()
	for i := range answered {
		if n := answered[i].Load(); n != 1 {
			t.Fatalf("record %d has %d outcomes", i, n)
		}
	}
	s.box.FailAll(messages.ErrClosed)
	eventually(t, "the budget has everything back", func() bool { return s.budget.Used() == 0 })
}

// TestCrashLeavesTheLock: a bug in a decision costs an incarnation, not the box.
func TestCrashLeavesTheLock(t *testing.T) {
	s := newStage(t)
	var tries atomic.Int32
	leader := s.broker(func(m *messages.PartitionReady) {
		b, _ := m.Taker.Take(s.request(1, m.Class))
		if b == nil {
			return
		}
		r := okResult(4)
		if tries.Add(1) == 1 {
			r = errorResult(protocol.NotLeaderOrFollower, -1)
		}
		r.Now = s.box.settings.Clock.Now()
		b.Settle(r)
		b.WriteEnded()
	})
	s.lead(leader, 1, 1)
	random := s.box.state.config.random
	s.box.mu.Lock()
	s.box.state.config.random = nil // the next draw panics
	s.box.mu.Unlock()
	done := make(chan messages.Delivery, 1)
	s.append("a", func(d messages.Delivery) { done <- d })
	eventually(t, "the first answer", func() bool { return tries.Load() >= 1 })
	time.Sleep(20 * time.Millisecond) // it crashes, perhaps more than once
	locked := make(chan struct{})
	go func() {
		s.box.mu.Lock()
		s.box.state.config.random = random
		s.box.mu.Unlock()
		close(locked)
	}()
	select {
	case <-locked:
	case <-time.After(5 * time.Second):
		t.Fatal("the crash kept the lock")
	}
	s.box.Signal()
	select {
	case d := <-done:
		if d.Status != messages.Persisted || d.Offset != 4 {
			t.Errorf("outcome %+v", d)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no outcome after the crash")
	}
}

// TestFlush waits for the callbacks of what came before it, and for nothing else.
func TestFlush(t *testing.T) {
	s := newStage(t)
	release := make(chan struct{})
	leader := s.broker(func(m *messages.PartitionReady) {
		for {
			b, status := m.Taker.Take(s.request(1, m.Class))
			if b != nil {
				b.WriteEnded()
				r := okResult(0)
				r.Now = s.box.settings.Clock.Now()
				b.Settle(r)
			}
			if status != messages.TakeMore {
				return
			}
		}
	})
	s.lead(leader, 1, 1)
	var called atomic.Int32
	for range 3 {
		s.append("a", func(messages.Delivery) { <-release; called.Add(1) })
	}
	spot := seams.NewParking().NewSpot()
	w := messages.NewFlushWaiter(spot)
	s.box.Flush(w)
	w.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := spot.Wait(ctx); err == nil {
		t.Fatal("flush did not wait for the callbacks")
	}
	close(release)
	if err := spot.Wait(context.Background()); err != nil || called.Load() != 3 {
		t.Fatal(err, called.Load())
	}
	// With nothing left it ends at once; with a batch in the lane after that.
	spot = seams.NewParking().NewSpot()
	w = messages.NewFlushWaiter(spot)
	s.box.Flush(w)
	w.Done()
	if err := spot.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestStopAnswers: whoever stops the actor, records get their outcome and later
// ones are refused.
func TestStopAnswers(t *testing.T) {
	s := newStage(t)
	done := make(chan messages.Delivery, 2)
	s.append("a", func(d messages.Delivery) { done <- d })
	_ = s.system.Root.StopFuture(s.box.PID()).Wait()
	if d := <-done; !errors.Is(d.Err, messages.ErrClosed) || d.Status != messages.NotPersisted {
		t.Errorf("outcome %+v", d)
	}
	if status := s.append("b", nil); status != messages.AppendClosed {
		t.Errorf("status %v after the stop", status)
	}
}

// TestPanickingCallback costs nobody else the answer.
func TestPanickingCallback(t *testing.T) {
	r := newRig(t, testConfig())
	var got []string
	for _, v := range []string{"a", "b", "c"} {
		r.append(admission(v, func(messages.Delivery) {
			got = append(got, v)
			if v == "b" {
				panic("the user's")
			}
		}))
	}
	r.s.failAll(messages.ErrClosed)
	r.effects()
	if !slices.Equal(got, []string{"a", "b", "c"}) || r.s.answeringOpen != 0 {
		t.Errorf("answered %v, %d batches open", got, r.s.answeringOpen)
	}
}

// TestCutKeepsWhatIsTheirs: records of one batch keep what is theirs when some
// of them are cut out, over several chunks.
func TestCutKeepsWhatIsTheirs(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	for round := range 50 {
		c := testConfig()
		c.batchMaxBytes = 1 << 20
		r := newRig(t, c)
		r.s.lastBytes = 1 << 20 // large chunks
		if round%2 == 0 {
			r.s.lastBytes = 0
		}
		const n = 300
		gone := endedContext(context.Canceled)
		var want []string
		deliveries := make(map[uint64]messages.Delivery)
		callbacks := []messages.Callback{
			func(d messages.Delivery) { deliveries[d.Tag] = d },
			func(d messages.Delivery) { d.Opaque = "second"; deliveries[d.Tag] = d },
		}
		ended := make(map[uint64]bool)
		stamp := make(map[uint64]time.Time)
		for i := range uint64(n) {
			value := fmt.Sprintf("%d %s", i, make([]byte, random.IntN(1000)))
			a := admission(value, callbacks[random.IntN(2)])
			a.Record.Tag = i + 1
			a.Record.Key = []byte{byte(i)}
			a.Record.Headers = []messages.Header{{Key: "h", Value: []byte{byte(i)}}, {Key: "null"}}
			if random.IntN(3) == 0 {
				a.Record.Timestamp = time.UnixMilli(baseUnixMs + int64(random.IntN(100000)) - 50000)
				stamp[i+1] = a.Record.Timestamp
			}
			if random.IntN(3) == 0 {
				a.Context, ended[i+1] = gone, true
			} else {
				want = append(want, value)
			}
			if status := r.append(a); status != messages.Appended {
				t.Fatal(status)
			}
		}
		r.s.open.urgent = true
		r.step()
		r.check()
		r.effects()
		r.assign(1, 1)
		a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: messages.Class{Acks: messages.AcksAll}})
		if a == nil {
			t.Fatal("nothing to take")
		}
		if w := readWire(t, a, r.box.settings.Codecs); !slices.Equal(w.values, want) {
			t.Fatalf("round %d: %d records travel, expected %d", round, len(w.values), len(want))
		}
		r.deliver(a, okResult(100))
		a.WriteEnded()
		r.effects()
		offset := int64(100)
		for tag := uint64(1); tag <= n; tag++ {
			d := deliveries[tag]
			if ended[tag] {
				if !errors.Is(d.Err, context.Canceled) || d.Status != messages.NotPersisted {
					t.Fatalf("record %d: %+v", tag, d)
				}
				continue
			}
			if d.Offset != offset || d.Status != messages.Persisted {
				t.Fatalf("record %d: %+v, expected offset %d", tag, d, offset)
			}
			if at, ok := stamp[tag]; ok && !d.Timestamp.Equal(at) {
				t.Fatalf("record %d: timestamp %v, expected %v", tag, d.Timestamp, at)
			}
			offset++
		}
		if used := r.budget.Used(); used != 0 {
			t.Fatalf("%d bytes are not given back", used)
		}
	}
}

// TestTimestampsDoNotAgeRecords: records that carry one timestamp of their own
// each have the delivery timeout from their own admission.
func TestTimestampsDoNotAgeRecords(t *testing.T) {
	c := testConfig()
	c.deliveryTimeout = time.Second
	r := newRig(t, c)
	var gone []uint64
	add := func(tag uint64) {
		a := admission("a", func(d messages.Delivery) { gone = append(gone, d.Tag) })
		a.Record.Tag, a.Record.Timestamp = tag, time.UnixMilli(5)
		r.append(a)
	}
	add(1)
	r.now = r.now.Add(900 * time.Millisecond)
	add(2)
	r.now = r.now.Add(100 * time.Millisecond)
	r.step()
	r.effects()
	if !slices.Equal(gone, []uint64{1}) {
		t.Errorf("timed out: %v", gone)
	}
	if at := r.s.nextDeadline(r.now); at != r.now.Add(900*time.Millisecond) {
		t.Errorf("next deadline in %v", at.Sub(r.now))
	}
}

// TestAppendAllThenTheTopicIsCreatedAgain goes through the box's other doors.
func TestAppendAllThenTheTopicIsCreatedAgain(t *testing.T) {
	s := newStage(t)
	var answered atomic.Int32
	records := make([]messages.Admission, 30)
	for i := range records {
		a := admission(fmt.Sprint("record ", i), func(messages.Delivery) { answered.Add(1) })
		a.Record.Key, a.Record.Tag = []byte{byte(i)}, uint64(i)
		a.Codec = codecs.Gzip
		a.Bytes = protocol.RecordUpperBound(1, len(a.Record.Value), nil)
		records[i] = *a
	}
	chunk := func() []*memory.Chunk {
		c, err := s.budget.TryAcquire(s.box.Account(), memory.SmallChunkBytes)
		if err != nil {
			t.Fatal(err)
		}
		return []*memory.Chunk{c}
	}
	chunks := []*memory.Chunk(nil)
	if n, status := s.box.AppendAll(records, &chunks); n != 0 || status != messages.NeedsBatch {
		t.Fatalf("took %d without a chunk, %v", n, status)
	}
	chunks = chunk()
	if n, status := s.box.AppendAll(records, &chunks); n != len(records) || status != messages.Appended || len(chunks) != 0 {
		t.Fatalf("took %d of %d, %v, %d chunks are left", n, len(records), status, len(chunks))
	}
	if s.box.BacklogBytes() == 0 || s.box.Unanswered() != len(records) || s.box.Retire(0) {
		t.Errorf("backlog %d, unanswered %d", s.box.BacklogBytes(), s.box.Unanswered())
	}
	identity := s.box.Evacuate(messages.ErrUnknownPartition)
	eventually(t, "only what was kept has no outcome", func() bool { return s.box.Unanswered() == len(records) })
	if identity.Known() || answered.Load() != 0 {
		t.Errorf("identity %v, %d are answered", identity, answered.Load())
	}
	s.box.FailAll(messages.ErrUnknownPartition) // there is no next one
	eventually(t, "all are answered, and the budget has everything back", func() bool { return s.box.Unanswered() == 0 && s.budget.Used() == 0 })
	if int(answered.Load()) != len(records) {
		t.Errorf("%d are answered", answered.Load())
	}
	if status := s.append("late", nil); status != messages.AppendClosed {
		t.Errorf("status %v", status)
	}
}

// TestCodecsRunElsewhere and may fail or panic: the batch goes out as it is.
func TestCodecsRunElsewhere(t *testing.T) {
	s := newStage(t)
	leader := s.broker(func(m *messages.PartitionReady) {
		b, _ := m.Taker.Take(s.request(1, m.Class))
		if b == nil {
			return
		}
		readWire(t, b.(*attempt), s.box.settings.Codecs)
		r := okResult(0)
		r.Now = s.box.settings.Clock.Now()
		b.Settle(r)
		b.WriteEnded()
	})
	s.lead(leader, 1, 1)
	for _, id := range []codecs.ID{codecs.Gzip, codecs.Snappy, codecs.LZ4, codecs.Zstd} {
		done := make(chan messages.Delivery, 1)
		a := admission(fmt.Sprint(make([]byte, 500)), func(d messages.Delivery) { done <- d })
		a.Codec = id
		a.Bytes = protocol.RecordUpperBound(0, len(a.Record.Value), nil)
		chunk, err := s.budget.TryAcquire(s.box.Account(), s.box.NeedBytes(a.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		a.Chunk = chunk
		if status := s.box.Append(a); status != messages.Appended {
			t.Fatal(status)
		}
		s.box.Urge()
		select {
		case d := <-done:
			if d.Status != messages.Persisted {
				t.Errorf("%v: %+v", id, d)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%v: no outcome", id)
		}
	}
	for _, codec := range []codecs.Codec{failingCodec{}, panickingCodec{}} {
		registry, err := s.box.settings.Codecs.With(codecs.Gzip, codec)
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, testConfig())
		r.box.settings.Codecs = registry
		a := admission(fmt.Sprint(make([]byte, 500)), nil)
		a.Codec = codecs.Gzip
		r.append(a)
		p := r.s.open
		r.s.sealOpen(r.now)
		if packed, err := r.box.pack(p); packed != nil || err == nil {
			t.Errorf("%T: %d bytes, %v", codec, len(packed), err)
		}
	}
}

type failingCodec struct{ codecs.Codec }

func (failingCodec) Compress(dst, src []byte) ([]byte, error) { return nil, errors.New("broken") }

type panickingCodec struct{ codecs.Codec }

func (panickingCodec) Compress(dst, src []byte) ([]byte, error) { panic("a bug") }
