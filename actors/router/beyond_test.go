package router

import (
	"context"
	"errors"
	"testing"

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
