package router

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// TestReplyToGoesAlong: whom to tell stays with a record that is parked, and that
// reaches no partition.
func TestReplyToGoesAlong(t *testing.T) {
	w := newWorld(t)
	pid := w.register()
	a, fromA := newInbox("a")
	b, fromB := newInbox("b")
	for i, from := range []messages.Recipient{fromA, fromB, nil} {
		system.Root.RequestWithCustomSender(pid, &messages.Produce{Record: messages.Record{Topic: "t", Tag: uint64(i), Partition: messages.AtPartition(0)}}, from)
	}
	system.Root.RequestWithCustomSender(pid, &messages.Produce{Record: messages.Record{Topic: "never", Tag: 3, Opaque: "o"}}, fromA)
	w.found(topicOf("t", 0))
	box := w.boxes["t/0"]
	if want := []messages.Recipient{fromA, fromB, nil}; !slices.Equal(box.replyTo, want) {
		t.Errorf("the partition replies to %v, expected %v", box.replyTo, want)
	}

	w.clock.Advance(2 * time.Minute)
	if all := got[*messages.Delivered](a); len(all) != 1 || !errors.Is(all[0].Delivery.Err, messages.ErrUnknownTopic) || all[0].Delivery.Tag != 3 || all[0].Delivery.Opaque != "o" {
		t.Errorf("the topic that does not exist: %+v", all)
	}
	if all := got[*messages.Delivered](b); len(all) != 0 {
		t.Errorf("another heard %+v", all)
	}
}

// TestMessagesAreNotChanged: an actor may send the same message to others, and at the
// same time. The partition that is chosen for its record may be one that is not known.
func TestMessagesAreNotChanged(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 1, 2)) // 0 is missing
	pid := w.register()
	_, from := newInbox("sender")
	for key := range byte(30) {
		m := &messages.Produce{Record: messages.Record{Topic: "t", Key: []byte{key}, Value: []byte("v")}}
		before := *m
		system.Root.RequestWithCustomSender(pid, m, from)
		if !reflect.DeepEqual(*m, before) {
			t.Fatalf("sent %+v, now %+v", before, *m)
		}
	}
	if parked := len(w.topic("t").parked); parked == 0 || parked == 30 {
		t.Errorf("%d of 30 records are parked", parked)
	}
}

// TestCallsLeaveNothingBehind: what a call gives along is no later call's.
func TestCallsLeaveNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	pid := w.register()
	_, from := newInbox("sender")
	box := w.boxes["t/0"]
	var o outcomes
	// Often, since a pool may forget.
	for range 50 {
		if err := w.topic("t").Produce(t.Context(), record("t", "v"), o.add, Options{Acks: messages.AcksAll, Urgent: true}); err != nil {
			t.Fatal(err)
		}
		system.Root.RequestWithCustomSender(pid, &messages.Produce{Record: *record("t", "v")}, from)
	}
	for i := range box.urgent {
		if called := i%2 == 0; box.urgent[i] != called || (box.replyTo[i] == nil) != called {
			t.Fatalf("record %d: urgent %v, replies to %v", i, box.urgent[i], box.replyTo[i])
		}
	}
	if box.calling != 50 {
		t.Errorf("%d records have a callback, expected 50", box.calling)
	}
}
