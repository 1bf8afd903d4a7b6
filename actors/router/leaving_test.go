package router

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// later keeps what the executor is given until the test runs it.
type later struct{ work []func() }

func (l *later) Run(fn func()) { l.work = append(l.work, fn) }

func (l *later) run() {
	work := l.work
	l.work = nil
	for _, fn := range work {
		fn()
	}
}

// TestFlushWaitsForRecordsThatLeaveTheParking: records that were refused are
// parked no more, but their callbacks have yet to run. A Flush that comes in
// between, as Close's last one does, must wait for them.
func TestFlushWaitsForRecordsThatLeaveTheParking(t *testing.T) {
	for name, end := range map[string]func(*Topic){
		"refused": func(topic *Topic) { topic.refuseParked(errors.New("no")) },
		"expired": func(topic *Topic) { topic.expireParked(10, 10, tooLate) },
		"drained": func(topic *Topic) { _, _ = topic.drain(topic.pending) }, // beyond the known partitions, and refreshed since
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			topic := w.topic("t")
			w.found(topicOf("t", 0))
			executor := &later{}
			topic.router.Settings.Executor = executor
			topic.pending = topic.routes.Swap(nil)
			answered := false
			topic.parked = []parked{{
				record: messages.Record{Topic: "t", Partition: messages.AtPartition(7)}, at: 1, callback: func(messages.Delivery) { answered = true },
			}}
			end(topic)
			if len(topic.parked) != 0 {
				t.Fatal("still parked")
			}
			topic.routes.Store(nil) // the partition is a fake: only the parking counts
			if n := topic.router.Unanswered(); n != 1 {
				t.Errorf("%d records without an answer, expected 1", n)
			}
			short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			if err := topic.router.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Flush before the callback: %v", err)
			}
			executor.run()
			if !answered {
				t.Fatal("not answered")
			}
			long, stop := context.WithTimeout(context.Background(), 10*time.Second)
			defer stop()
			if err := topic.router.Flush(long); err != nil {
				t.Errorf("Flush after the callback: %v", err)
			}
			if n := topic.router.Unanswered(); n != 0 {
				t.Errorf("%d records without an answer", n)
			}
		})
	}
}

// TestFlushWaitsForAllThatLeft: records that left in two rounds are answered side
// by side, and the second round may be done first.
func TestFlushWaitsForAllThatLeft(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("t")
	w.found(topicOf("t", 0))
	executor := &later{}
	topic.router.Settings.Executor = executor
	topic.pending = topic.routes.Swap(nil)
	answered := make(map[string]bool)
	for i, name := range []string{"first", "second"} {
		topic.parked = append(topic.parked, parked{
			record: messages.Record{Topic: "t", Partition: messages.AtPartition(7)}, at: seams.Instant(10 * (i + 1)),
			callback: func(messages.Delivery) { answered[name] = true },
		})
	}
	spot := topic.router.Settings.Parking.NewSpot()
	waiter := messages.NewFlushWaiter(spot)
	topic.flush(waiter)
	waiter.Done()
	topic.expireParked(10, 10, tooLate)
	topic.expireParked(20, 20, tooLate)
	if len(executor.work) != 2 {
		t.Fatalf("%d rounds", len(executor.work))
	}
	for _, f := range w.boxes["t/0"].flushes {
		f.Done() // nothing of the topic is in its partition
	}
	for n, round := range []int{1, 0} {
		executor.work[round]()
		short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if done := spot.Wait(short) == nil; done != (n == 1) {
			t.Errorf("after round %d, answered %v, the flush has ended: %v", round+1, answered, done)
		}
		cancel()
	}
}

// TestFlushWaitsForPartitionsThatLeft: what a partition held when its topic was
// deleted or created again, or when it vanished, has its outcome; the callbacks
// have yet to run, and no route leads there any more.
func TestFlushWaitsForPartitionsThatLeft(t *testing.T) {
	another := topicOf("t", 0, 1)
	another.ID = [16]byte{2}
	gone := messages.TopicInfo{Name: "t", Err: messages.ErrUnknownTopic, Gone: true}
	for name, answers := range map[string][]messages.TopicInfo{
		"deleted":           {gone},
		"created again":     {another},
		"partition removed": {topicOf("t", 0), topicOf("t", 0)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var o outcomes
			w.topic("t")
			w.found(topicOf("t", 0, 1))
			w.must(at("t", 1, "v"), &o)
			box := w.boxes["t/1"]
			for i, a := range answers {
				w.foundBy(int32(i), a)
			}
			if !box.closed {
				t.Fatal("the partition is still open")
			}
			if n := w.Unanswered(); n != 1 {
				t.Errorf("%d records without an answer, expected 1", n)
			}
			spot := w.Settings.Parking.NewSpot()
			waiter := messages.NewFlushWaiter(spot)
			w.topic("t").flush(waiter)
			if len(box.flushes) != 1 {
				t.Errorf("%d flushes wait for the partition, expected 1", len(box.flushes))
			}

			// With its last callback it is forgotten.
			box.got = nil
			w.topic("t").depart()
			if n := len(w.topic("t").departed); n != 0 {
				t.Errorf("%d partitions are kept", n)
			}
		})
	}
}

// TestParkedRecordsHaveADeliveryTimeout: the time that a record waits for its
// topic counts, whatever the topic may still wait.
func TestParkedRecordsHaveADeliveryTimeout(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.DeliveryTimeout = 7 * time.Second })
	var o outcomes
	w.must(record("t", "v"), &o)
	w.clock.Advance(6900 * time.Millisecond)
	if n := len(o.all()); n != 0 {
		t.Fatalf("%d outcomes before the time", n)
	}
	w.clock.Advance(300 * time.Millisecond)
	if d := o.only(t); !errors.Is(d.Err, messages.ErrDeliveryTimeout) || d.Status != messages.NotPersisted {
		t.Errorf("%+v", d)
	}
}

func tooLate(*Topic) error { return errors.New("late") }
