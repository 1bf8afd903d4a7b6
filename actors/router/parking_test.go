package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// TestParkedRecordsComeFirst has callers produce while the topic is discovered
// and the drain is held up by the buffer: each finds its own records in order,
// and none is lost.
func TestParkedRecordsComeFirst(t *testing.T) {
	for _, name := range []string{"with room", "the drain waits for room"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.hungry = name != "with room"
			topic := w.topic("t")
			const callers, each = 4, 400
			var refused outcomes
			var running sync.WaitGroup
			for n := range callers {
				running.Go(func() {
					for i := range each {
						r := at("t", int32(n%2), fmt.Sprintf("%d:%04d", n, i))
						if err := topic.Produce(context.Background(), r, refused.add, Options{Wait: true}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			eventually(t, "parked records", func() bool { return w.Unanswered() >= 20 })
			if w.hungry {
				// The leader of partition 1 has no room until it answers.
				other, err := w.Budget.TryAcquire(w.Budget.NewAccount("another", 1), bufferBytes-w.Budget.Used()-40_000)
				if err != nil {
					t.Fatal(err)
				}
				w.found(topicOf("t", 0, 1))
				time.Sleep(time.Millisecond)
				w.Budget.Release(other)
			} else {
				w.found(topicOf("t", 0, 1))
			}
			running.Wait()
			topic.mu.Lock()
			left := len(topic.parked)
			topic.mu.Unlock()
			if left != 0 || topic.routes.Load() == nil {
				t.Fatalf("%d records are left, the routes are open: %v", left, topic.routes.Load() != nil)
			}
			total := 0
			for part := range 2 {
				last := make(map[string]string)
				for _, value := range w.boxes[fmt.Sprint("t/", part)].got {
					caller, number, _ := strings.Cut(value, ":")
					if number <= last[caller] {
						t.Fatalf("partition %d got %s after %s of caller %s", part, number, last[caller], caller)
					}
					last[caller] = number
					total++
				}
			}
			if total != callers*each || len(refused.all()) != 0 {
				t.Errorf("%d records of %d, %d refused", total, callers*each, len(refused.all()))
			}
		})
	}
}

// TestDrainThatWaitsKeepsTheOrder: while the budget has no room for what is
// parked, later records queue up behind it, also those of another partition.
func TestDrainThatWaitsKeepsTheOrder(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	var o outcomes
	w.must(at("t", 0, "a"), &o)
	w.must(at("t", 1, "b"), &o)
	other := w.Budget.NewAccount("another", 1)
	held, err := w.Budget.TryAcquire(other, bufferBytes-w.Budget.Used())
	if err != nil {
		t.Fatal(err)
	}
	w.found(topicOf("t", 0, 1))
	if w.boxes["t/0"].values() != "" || w.topic("t").routes.Load() != nil {
		t.Fatal("the topic is open though its records are still parked")
	}
	w.must(at("t", 0, "c"), &o) // in the parking's own chunk
	w.must(at("t", 1, "d"), &o)
	if w.Unanswered() != 4 {
		t.Errorf("%d records are counted", w.Unanswered())
	}
	w.Budget.Release(held) // tells the router of room
	if a, b := w.boxes["t/0"].values(), w.boxes["t/1"].values(); a != "a c" || b != "b d" {
		t.Errorf("the partitions got %q and %q", a, b)
	}
	w.must(at("t", 0, "e"), &o)
	if got := w.boxes["t/0"].values(); got != "a c e" || len(o.all()) != 0 {
		t.Errorf("partition 0 got %q, %d outcomes", got, len(o.all()))
	}
	w.boxes["t/0"].settle()
	w.boxes["t/1"].settle()
	if used := w.Budget.Used(); used != 0 {
		t.Errorf("%d bytes are charged", used)
	}
}

// late is a record that does not fit into what fillParking leaves.
var late = strings.Repeat("l", 800)

// TestWhatEndsAWait: a caller who waits for parking room goes on when there is
// news of its topic, whatever else fills the parking.
func TestWhatEndsAWait(t *testing.T) {
	denied := messages.TopicInfo{Name: "t", Err: protocol.TopicAuthorizationFailed, Permanent: true}
	for _, c := range []struct {
		name string
		news func(w *world, cancel context.CancelFunc)
		want error // nil: the record is in its partition
	}{
		{"the topic becomes known", func(w *world, _ context.CancelFunc) { w.found(topicOf("t", 0)) }, nil},
		{"the topic fails for certain", func(w *world, _ context.CancelFunc) { w.found(denied) }, protocol.TopicAuthorizationFailed},
		{"the topic cannot be believed", func(w *world, _ context.CancelFunc) { w.found(topicOf("t", 1<<30)) }, messages.ErrTooManyPartitions},
		{"the partition turns out not to exist", func(w *world, _ context.CancelFunc) { w.found(topicOf("t", 5)) }, messages.ErrUnknownPartition},
		{"close", func(w *world, _ context.CancelFunc) { w.Refuse(messages.ErrClosed) }, messages.ErrClosed},
		{"the caller's context", func(_ *world, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"max.block.ms", func(*world, context.CancelFunc) {}, messages.ErrBufferFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			var parked, o outcomes
			w.fillParking("t", &parked)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			maxBlock := time.Duration(0)
			if c.name == "max.block.ms" {
				maxBlock = time.Millisecond
			}
			ended := w.waiting(ctx, at("t", 0, late), &o, maxBlock)
			c.news(w, cancel)
			if err := result(t, ended); !errors.Is(err, c.want) {
				t.Fatalf("the wait ended with %v", err)
			}
			if c.want != nil {
				return
			}
			if got := w.boxes["t/0"].got; got[len(got)-1] != late {
				t.Errorf("the partition got %.9q last", got[len(got)-1])
			}
			if w.Budget.Used() != 0 {
				t.Errorf("%d bytes are charged", w.Budget.Used())
			}
		})
	}
}

// TestAWaitGoesOnWithoutNewsOfItsTopic: an answer that does not know the topic,
// or is about another, ends nothing.
func TestAWaitGoesOnWithoutNewsOfItsTopic(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	w.fillParking("t", &o)
	ended := w.waiting(context.Background(), at("t", 0, late), &o, 0)
	w.found(messages.TopicInfo{Name: "t", Err: protocol.UnknownTopicOrPartition}, topicOf("other", 0))
	time.Sleep(5 * time.Millisecond)
	if len(ended) > 0 || w.Budget.Waiting() != 1 {
		t.Fatal("the wait has ended")
	}
	w.found(topicOf("t", 0))
	if err := result(t, ended); err != nil {
		t.Error(err)
	}
}

// TestOneTopicLeavesRoomForOthers: one unknown topic holds its share only, and
// whoever has nothing parked finds room for one small chunk at least.
func TestOneTopicLeavesRoomForOthers(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	w.fillParking("first", &o)
	if n := len(got[*messages.TrackTopic](w.root)); n != 2 { // when it was made, and with its first record
		t.Errorf("the topic was asked for %d times", n)
	}
	tenth := bufferBytes / 10
	if used := w.Budget.Used(); used == 0 || used > tenth/4 {
		t.Errorf("one topic holds %d bytes", used)
	}
	for i := range 20 {
		w.fillParking(fmt.Sprint("topic-", i), &o)
	}
	if used, most := w.Budget.Used(), tenth+20*4096; used > most {
		t.Errorf("unknown topics hold %d bytes, expected %d at most", used, most)
	}
	for i := range 10 {
		w.must(at(fmt.Sprint("new-", i), 0, "v"), &o)
	}
	w.found(topicOf("known", 0))
	w.must(at("known", 0, "v"), &o)
}

// TestWaitersAskForTheirTopic: an idle topic has been forgotten, so a caller that
// finds no room must have it looked up, or would wait for nothing. One that may
// not wait asks, too, and nobody asks again and again.
func TestWaitersAskForTheirTopic(t *testing.T) {
	large := strings.Repeat("l", 150_000) // more than all that is for unknown topics
	for _, wait := range []bool{true, false} {
		t.Run(fmt.Sprint("wait ", wait), func(t *testing.T) {
			w := newWorld(t)
			var o outcomes
			w.topic("t")
			w.found(topicOf("t", 0))
			w.clock.Advance(2 * time.Minute)
			if len(got[*messages.ForgetTopic](w.root)) != 1 {
				t.Fatal("the topic is not forgotten")
			}
			w.root.clear()
			var ended <-chan error
			if wait {
				ended = w.waiting(context.Background(), at("t", 0, large), &o, 0)
			} else {
				for range 3 {
					if err := w.produce(at("t", 0, large), &o); !errors.Is(err, messages.ErrBufferFull) {
						t.Fatal(err)
					}
				}
			}
			if n := len(got[*messages.TrackTopic](w.root)); n != 1 {
				t.Fatalf("the topic was asked for %d times", n)
			}
			w.found(topicOf("t", 0))
			if !wait {
				w.must(at("t", 0, large), &o)
			} else if err := result(t, ended); err != nil {
				t.Error(err)
			}
			if got := w.boxes["t/0.2"].got; len(got) != 1 || got[0] != large {
				t.Errorf("the new accumulator has %d records", len(got))
			}
		})
	}
}

// TestEveryWaitAsks: an answer, or the end of an idle topic, makes the next caller
// without room ask again.
func TestEveryWaitAsks(t *testing.T) {
	large := strings.Repeat("l", 150_000)
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	var o outcomes
	for round := range 3 {
		ended := w.waiting(context.Background(), at("t", 5, large), &o, 0)
		if n := len(got[*messages.RefreshMetadata](w.root)); n != round+1 {
			t.Fatalf("%d refreshes in round %d", n, round)
		}
		w.found(topicOf("t", 0))
		if err := result(t, ended); !errors.Is(err, messages.ErrUnknownPartition) {
			t.Fatal(err)
		}
	}
	if err := w.produce(at("t", 5, large), &o); !errors.Is(err, messages.ErrBufferFull) {
		t.Fatal(err)
	}
	w.clock.Advance(2 * time.Minute) // no answer, and the topic is idle
	w.root.clear()
	if err := w.produce(at("t", 0, large), &o); !errors.Is(err, messages.ErrBufferFull) || len(got[*messages.TrackTopic](w.root)) != 1 {
		t.Errorf("%v; the topic was asked for %d times", err, len(got[*messages.TrackTopic](w.root)))
	}
}

// TestNewsBeforeTheWaitCounts: the topic becomes known after a caller looked at it
// and before he waits for room, which nobody would then end.
func TestNewsBeforeTheWaitCounts(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("t")
	looked := topic.share.Turn()
	topic.rouse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	large := messages.Admission{Record: at("t", 0, strings.Repeat("l", 150_000)), Wait: true}
	chunk, partly, err := topic.parkingRoom(ctx, []messages.Admission{large}, looked, false)
	if chunk != nil || partly || err != nil {
		t.Errorf("chunk %v, partly %v, %v", chunk, partly, err)
	}
}

// TestParkedRecordsRunOutOfTime: contexts end within a sweep, the topic wait ends
// the rest, and the error says what the cluster said last.
func TestParkedRecordsRunOutOfTime(t *testing.T) {
	w := newWorld(t)
	var own, first, later outcomes
	ctx, cancel := context.WithCancelCause(context.Background())
	if err := w.topic("t").Produce(ctx, record("t", "v"), own.add, Options{}); err != nil {
		t.Fatal(err)
	}
	w.must(record("t", "v"), &first)
	mine := errors.New("mine")
	cancel(mine)
	w.clock.Advance(parkedSweep)
	if d := own.only(t); !errors.Is(d.Err, mine) || d.Status != messages.NotPersisted {
		t.Errorf("%+v", d)
	}
	why := errors.New("no broker answers")
	system.Root.Send(w.keeper, &messages.RefreshFailed{Err: why})
	w.clock.Advance(30 * time.Second)
	w.must(record("t", "v"), &later)
	for range 10 {
		w.clock.Advance(3 * time.Second)
	}
	if d := first.only(t); !errors.Is(d.Err, messages.ErrUnknownTopic) || !errors.Is(d.Err, why) || !strings.Contains(d.Err.Error(), `"t"`) {
		t.Errorf("%+v", d)
	}
	if len(later.all()) != 0 {
		t.Error("the later one's time is over, too")
	}
	w.found(topicOf("t", 0))
	if got := w.boxes["t/0"].values(); got != "v" || w.Budget.Used() != 0 {
		t.Errorf("the partition got %q, %d bytes are charged", got, w.Budget.Used())
	}
}

// usedAgain is a context of a framework that has given it to its next request.
type usedAgain struct{ context.Context }

func (usedAgain) Done() <-chan struct{} { return make(chan struct{}) }
func (usedAgain) Err() error            { panic("no request") }

// TestContextOfAParkedRecordPanics: it ends that record, in the drain and while
// nobody knows the topic.
func TestContextOfAParkedRecordPanics(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t)
		topic := w.topic("t")
		var bad, good outcomes
		r := record("t", "bad")
		r.Tag = 1
		list := []messages.Admission{{Record: r, Callback: bad.add, Context: usedAgain{context.Background()}, Wait: true}}
		if n, err := topic.park(context.Background(), list, 0); n != 1 {
			t.Fatal(err)
		}
		w.must(record("t", "good"), &good)
		if !known {
			w.clock.Advance(parkedSweep)
		}
		w.found(topicOf("t", 0))
		if d := bad.only(t); !errors.Is(d.Err, messages.ErrInvalidContext) || d.Status != messages.NotPersisted {
			t.Errorf("%+v", d)
		}
		if got := w.boxes["t/0"].values(); got != "good" {
			t.Errorf("the partition got %q", got)
		}
	}
}

// TestCertainErrorsEndTheParking: authorisation and invalid names fail at once,
// and only as long as the cluster says so.
func TestCertainErrorsEndTheParking(t *testing.T) {
	for _, code := range []protocol.ErrorCode{protocol.TopicAuthorizationFailed, protocol.InvalidTopicException} {
		w := newWorld(t)
		var o outcomes
		w.must(record("t", "v"), &o)
		w.found(messages.TopicInfo{Name: "t", Err: code, Permanent: true})
		if d := o.only(t); !errors.Is(d.Err, code) || d.Status != messages.NotPersisted {
			t.Errorf("%+v", d)
		}
		if err := w.produce(record("t", "v"), &o); !errors.Is(err, code) {
			t.Errorf("the next one: %v", err)
		}
		w.found(messages.TopicInfo{Name: "t", Err: protocol.LeaderNotAvailable})
		w.must(record("t", "w"), &o)
		w.found(topicOf("t", 0))
		if got := w.boxes["t/0"].values(); got != "w" || w.Budget.Used() != 0 {
			t.Errorf("the partition got %q, %d bytes are charged", got, w.Budget.Used())
		}
	}
}

// TestParkedRecordsAreCopies: the caller may reuse every slice.
func TestParkedRecordsAreCopies(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	value := []byte("value")
	r := record("t", "")
	r.Key, r.Value, r.Headers = []byte("key"), value, []messages.Header{{Key: "h", Value: []byte("header")}, {Key: "null"}}
	w.must(r, &o)
	for _, b := range [][]byte{r.Key, r.Value, r.Headers[0].Value} {
		clear(b)
	}
	p := w.topic("t").parked[0].record
	if string(p.Key) != "key" || string(p.Value) != "value" || string(p.Headers[0].Value) != "header" || p.Headers[1].Value != nil {
		t.Errorf("%+v", p)
	}
}

// TestFlushWaitsForParkedRecords, on through the partitions that they reach.
func TestFlushWaitsForParkedRecords(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		w := newWorld(t)
		var o outcomes
		w.must(record("t", "v"), &o)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer cancel()
		if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a flush of parked records: %v", err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- w.Flush(context.Background()) }()
		topic := w.topic("t")
		eventually(t, "the flush to wait", func() bool {
			topic.mu.Lock()
			defer topic.mu.Unlock()
			return len(topic.flushes) == 2
		})
		if refuse {
			w.FailAll(messages.ErrClosed)
			if d := o.only(t); !errors.Is(d.Err, messages.ErrClosed) {
				t.Errorf("%+v", d)
			}
		} else {
			w.found(topicOf("t", 0))
			box := w.boxes["t/0"]
			time.Sleep(time.Millisecond)
			if len(box.flushes) != 2 || len(flushed) > 0 {
				t.Fatalf("the partition knows of %d flushes, %d have returned", len(box.flushes), len(flushed))
			}
			for _, f := range box.flushes {
				f.Done()
			}
		}
		if err := result(t, flushed); err != nil {
			t.Error(err)
		}
	}
}

// TestFlushFollowsRecordsThatWereDrained: some parked records have moved on into
// their partition when the rest is refused; a Flush that waits for them must go
// on to wait there.
func TestFlushFollowsRecordsThatWereDrained(t *testing.T) {
	for name, end := range map[string]func(*Topic){
		"refused": func(topic *Topic) { topic.refuseParked(errors.New("no")) },
		"expired": func(topic *Topic) { topic.expireParked(10, 10, tooLate) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			topic := w.topic("t")
			w.found(topicOf("t", 0))
			topic.pending = topic.routes.Swap(nil)
			topic.parked = []parked{{record: *record("t", "left"), at: 1}}
			topic.flushes = []*messages.FlushWaiter{messages.NewFlushWaiter(topic.router.Settings.Parking.NewSpot())}
			end(topic)
			if topic.routes.Load() == nil || len(w.boxes["t/0"].flushes) != 1 {
				t.Errorf("routes known %v, partition flushed %d times", topic.routes.Load() != nil, len(w.boxes["t/0"].flushes))
			}
		})
	}
}

// TestCallbackOfAParkedRecordPanics: the next one is called all the same.
func TestCallbackOfAParkedRecordPanics(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	if err := w.topic("t").Produce(context.Background(), record("t", "v"), func(messages.Delivery) { panic("mine") }, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := w.topic("t").Produce(context.Background(), record("t", "v"), nil, Options{}); err != nil {
		t.Fatal(err)
	}
	w.must(record("t", "v"), &o)
	w.FailAll(messages.ErrClosed)
	o.only(t)
	if !strings.Contains(w.log.String(), "a delivery callback panicked") {
		t.Errorf("the log says %q", w.log)
	}
}

// TestCallbackOfAParkedRecordEndsItsGoroutine, as FailNow of a test does: the next one
// is called all the same, and what was kept for them is given back.
func TestCallbackOfAParkedRecordEndsItsGoroutine(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.Executor = seams.NewExecutor() })
	var o outcomes
	for range 2 {
		if err := w.topic("t").Produce(context.Background(), record("t", "v"), func(messages.Delivery) { runtime.Goexit() }, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	w.must(record("t", "v"), &o)
	w.FailAll(messages.ErrClosed)
	eventually(t, "the last record's outcome, and its memory", func() bool { return len(o.all()) == 1 && w.Budget.Used() == 0 })
}

// TestRefuseEndsAdmission: the first reason stays.
func TestRefuseEndsAdmission(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	w.must(record("t", "v"), &o)
	first := errors.New("first")
	w.Refuse(first)
	w.Refuse(messages.ErrClosed)
	for _, topic := range []string{"t", "new"} {
		t1, err := w.Topic(topic)
		if err == nil {
			err = t1.Produce(context.Background(), record(topic, "v"), o.add, Options{Wait: true})
		}
		if !errors.Is(err, first) {
			t.Errorf("topic %s: %v", topic, err)
		}
	}
	w.found(topicOf("t", 0)) // what was admitted goes on
	if got := w.boxes["t/0"].got; !slices.Equal(got, []string{"v"}) || len(o.all()) != 0 {
		t.Errorf("the partition got %q", got)
	}
}

// TestNobodyLetsUsIn: records of topics that nobody knows fail at once when every broker
// refuses who we are; those of topics that are known go on waiting.
func TestNobodyLetsUsIn(t *testing.T) {
	w := newWorld(t)
	w.topic("known")
	w.found(topicOf("known", 0))
	var unknown, beyond, later outcomes
	w.must(record("nowhere", "v"), &unknown)
	w.must(at("known", 7, "v"), &beyond)
	denied := fmt.Errorf("%w: wrong password", messages.ErrAuthentication)
	system.Root.Send(w.keeper, &messages.RefreshFailed{Err: denied})
	if len(unknown.all()) != 0 {
		t.Fatal("failed with somebody left to ask")
	}
	system.Root.Send(w.keeper, &messages.RefreshFailed{Err: denied, Hopeless: true})
	if d := unknown.only(t); !errors.Is(d.Err, messages.ErrAuthentication) || d.Status != messages.NotPersisted {
		t.Errorf("%+v", d)
	}
	if len(beyond.all()) != 0 {
		t.Error("a record of a known topic has failed as well")
	}
	w.must(record("nowhere", "v"), &later) // somebody may have changed the password
	w.found(topicOf("nowhere", 0))
	if got := w.boxes["nowhere/0"].values(); got != "v" || len(later.all()) != 0 {
		t.Errorf("then the partition got %q, outcomes %v", got, later.all())
	}
}
