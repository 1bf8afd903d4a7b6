package router

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// TestPartitionBeyondIsFoundInTheDrain: a record that came while the drain waited
// for room gets its refresh, too, and the topic opens for others.
func TestPartitionBeyondIsFoundInTheDrain(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	var o, beyond outcomes
	w.fillParking("t", &o)
	held, err := w.Budget.TryAcquire(w.Budget.NewAccount("another", 1), bufferBytes-w.Budget.Used())
	if err != nil {
		t.Fatal(err)
	}
	w.found(topicOf("t", 0))
	w.root.clear()
	w.must(at("t", 1, ""), &beyond) // in what is left of the last chunk
	ended := w.waiting(context.Background(), at("t", 0, late), &o, 0)
	w.Budget.Release(held)
	if err := result(t, ended); err != nil {
		t.Fatal(err)
	}
	if n := len(got[*messages.RefreshMetadata](w.root)); n != 1 || len(beyond.all()) != 0 {
		t.Fatalf("%d refreshes, %d outcomes", n, len(beyond.all()))
	}
	for range 3 {
		w.clock.Advance(parkedSweep)
	}
	if n := len(got[*messages.RefreshMetadata](w.root)); n != 1 {
		t.Errorf("%d refreshes before the first has an answer", n)
	}
	w.found(topicOf("t", 0))
	if d := beyond.only(t); !errors.Is(d.Err, messages.ErrUnknownPartition) {
		t.Errorf("%+v", d)
	}
}

// TestPartitionsAddedWhileTheBufferIsFull: callers go on with the partitions that
// they know, and those that wait for room to be drained into live already. They are
// not started twice, and nobody forgets them.
func TestPartitionsAddedWhileTheBufferIsFull(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.MaxTopicWait = 24 * time.Hour })
	topic := w.topic("t")
	w.found(topicOf("t", 0, 1))
	w.hungry = true
	var o, known outcomes
	w.must(at("t", 3, "one"), &o)
	held, err := w.Budget.TryAcquire(w.Budget.NewAccount("another", 1), bufferBytes-w.Budget.Used())
	if err != nil {
		t.Fatal(err)
	}
	since := topic.refreshes
	w.found(topicOf("t", 0, 1, 2, 3))
	moved := topicOf("t", 0, 1, 2, 3)
	moved.Partitions[3] = partOf(3, 1, 2)
	w.found(moved)
	b := w.boxes["t/3"]
	if len(b.got) != 0 || len(w.boxes) != 4 || b.last().ID != 1 {
		t.Fatalf("%d partitions, the new one got %v and has leader %+v", len(w.boxes), b.got, b.last())
	}
	w.must(at("t", 1, "known"), &known)
	w.must(at("t", 3, "two"), &o) // behind the first
	waited := messages.Admission{Record: at("t", 3, "waited for room")}
	topic.mu.Lock()
	if err := topic.parkable(&waited, since); err != nil {
		t.Errorf("a record for the new partition cannot wait: %v", err)
	}
	topic.mu.Unlock()
	w.Reannounce()
	w.urge()
	system.Root.Send(w.keeper, &messages.LeaderHinted{Topic: "t", Partition: 3, LeaderID: 2, LeaderEpoch: 3})
	if b.reannounced != 1 || b.urged.Load() != 1 || b.last().ID != 2 || w.Unanswered() != 3 {
		t.Errorf("announced %d times, urged %d times, leader %+v; %d unanswered", b.reannounced, b.urged.Load(), b.last(), w.Unanswered())
	}
	w.clock.Advance(time.Hour) // nor is it idle
	w.Budget.Release(held)
	if b.values() != "one two" || w.boxes["t/1"].values() != "known" || len(w.boxes) != 4 {
		t.Errorf("the new partition got %q", b.values())
	}
}

// TestPartitionGoneWhileTheBufferIsFull: the producer is not closed for that.
func TestPartitionGoneWhileTheBufferIsFull(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0, 1))
	w.hungry = true
	var o outcomes
	w.must(at("t", 3, "beyond"), &o)
	held, err := w.Budget.TryAcquire(w.Budget.NewAccount("another", 1), bufferBytes-w.Budget.Used())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Budget.Release(held)
	for broker := range int32(3) {
		w.foundBy(broker, topicOf("t", 0, 2, 3))
	}
	if !w.boxes["t/1"].closed {
		t.Fatal("the partition is not gone")
	}
	if err := w.produce(at("t", 1, "gone"), &o); !errors.Is(err, messages.ErrUnknownPartition) {
		t.Errorf("%v", err)
	}
}

// TestPartitionBeyondTheKnownOnes forces one refresh before it fails; others need
// not wait meanwhile.
func TestPartitionBeyondTheKnownOnes(t *testing.T) {
	for _, c := range []struct {
		name string
		then []int32 // the partitions that the refresh finds
		want error
	}{
		{"it is there by now", []int32{0, 1, 2, 3}, nil},
		{"it is not there", []int32{0, 1}, messages.ErrUnknownPartition},
		{"another is there by now", []int32{0, 1, 2}, messages.ErrUnknownPartition},
		{"its number is not used", []int32{0, 1, 4}, messages.ErrUnknownPartition},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.topic("t")
			w.found(topicOf("t", 0, 1))
			var o, other outcomes
			w.must(at("t", 3, "beyond"), &o)
			w.must(at("t", 3, "beyond, too"), &o)
			if n := len(got[*messages.RefreshMetadata](w.root)); n != 1 {
				t.Fatalf("%d refreshes", n)
			}
			w.must(at("t", 1, "known"), &other)
			if got := w.boxes["t/1"].values(); got != "known" {
				t.Errorf("the known partition got %q", got)
			}
			w.clock.Advance(parkedSweep) // no answer yet
			if len(o.all()) != 0 {
				t.Fatalf("answered before the refresh: %+v", o.all())
			}
			w.found(topicOf("t", c.then...))
			if c.want == nil {
				if got := w.boxes["t/3"].values(); got != "beyond beyond, too" || len(o.all()) != 0 {
					t.Errorf("the new partition got %q, %d outcomes", got, len(o.all()))
				}
				return
			}
			for _, d := range o.all() {
				if !errors.Is(d.Err, c.want) || d.Status != messages.NotPersisted || d.Partition != 3 {
					t.Errorf("%+v", d)
				}
			}
			if len(o.all()) != 2 {
				t.Errorf("%d outcomes", len(o.all()))
			}
			w.root.clear()
			w.must(at("t", 3, "again"), &o)
			if n := len(got[*messages.RefreshMetadata](w.root)); n != 1 || len(o.all()) != 2 {
				t.Errorf("a later record: %d refreshes, %d outcomes", n, len(o.all()))
			}
		})
	}
}
