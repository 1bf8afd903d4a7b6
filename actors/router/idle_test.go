package router

import (
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// unrouted is a world with topics that have no routes: one that does not exist, one
// that was deleted, and one that nobody may write to.
func unrouted(t *testing.T) (*world, *outcomes) {
	w, o := newWorld(t), &outcomes{}
	w.topic("deleted")
	w.found(topicOf("deleted", 0))
	for _, name := range []string{"nowhere", "forbidden"} {
		w.must(at(name, 0, "v"), o)
	}
	w.found(
		messages.TopicInfo{Name: "nowhere", Err: messages.ErrUnknownTopic},
		messages.TopicInfo{Name: "deleted", Err: messages.ErrUnknownTopic, Gone: true},
		messages.TopicInfo{Name: "forbidden", Err: protocol.TopicAuthorizationFailed, Permanent: true},
	)
	w.clock.Advance(2 * time.Minute) // the wait for a topic is over
	if n := len(o.all()); n != 2 {
		t.Fatalf("%d outcomes", n)
	}
	w.root.clear()
	return w, o
}

// TestTopicsThatNobodyWantsAreForgotten: they would be looked up every second, for ever.
// A record has them looked up again, also one whose topic it was not permitted to write
// to, which may be permitted by now.
func TestTopicsThatNobodyWantsAreForgotten(t *testing.T) {
	w, o := unrouted(t)
	if n := len(got[*messages.ForgetTopic](w.root)); n != 0 {
		t.Fatalf("%d are forgotten before the idle time is over", n)
	}
	if err := w.produce(at("forbidden", 0, "v"), o); !errors.Is(err, protocol.TopicAuthorizationFailed) {
		t.Errorf("refused with %v", err)
	}
	for range 10 {
		w.clock.Advance(time.Minute + 15*time.Second)
	}
	forgotten := make(map[string]int)
	for _, m := range got[*messages.ForgetTopic](w.root) {
		forgotten[m.Name]++
	}
	if len(forgotten) != 3 || forgotten["nowhere"]+forgotten["deleted"]+forgotten["forbidden"] != 3 {
		t.Errorf("forgotten: %v", forgotten)
	}
	if _, set := w.clock.Timers(); set != 0 {
		t.Errorf("%d timers are set, with nothing to look after", set)
	}
	for name := range forgotten {
		w.root.clear()
		w.must(at(name, 0, name), o)
		if n := len(got[*messages.TrackTopic](w.root)); n != 1 {
			t.Errorf("%s is looked up %d times", name, n)
		}
	}
	w.found(topicOf("deleted", 0), topicOf("forbidden", 0), topicOf("nowhere", 0))
	for box, value := range map[string]string{"nowhere/0": "nowhere", "deleted/0.2": "deleted", "forbidden/0": "forbidden"} {
		if b := w.boxes[box]; b == nil || b.values() != value {
			t.Errorf("%s: %+v", box, b)
		}
	}
}

// TestWantedTopicsAreNotForgotten while records wait for them.
func TestWantedTopicsAreNotForgotten(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.MaxTopicWait = time.Hour })
	var o outcomes
	w.topic("known")
	w.must(at("nowhere", 0, "v"), &o)
	for range 10 {
		w.found(topicOf("known", 0), messages.TopicInfo{Name: "nowhere", Err: messages.ErrUnknownTopic})
		w.clock.Advance(time.Minute)
	}
	for _, m := range got[*messages.ForgetTopic](w.root) {
		if m.Name == "nowhere" {
			t.Error("a topic that a record waits for is forgotten")
		}
	}
}

// TestLateNewsOfAForgottenTopic: an answer that was on its way when the topic was
// forgotten starts no partitions. Nobody would tell them of a new leader.
func TestLateNewsOfAForgottenTopic(t *testing.T) {
	for name, forget := range map[string]func(w *world){
		"idle": func(w *world) { w.clock.Advance(2 * time.Minute) },
		"crashed": func(w *world) {
			w.found(messages.TopicInfo{Name: "t", Err: messages.ErrUnknownTopic, Gone: true})
			w.recovers()
		},
	} {
		w := newWorld(t)
		w.topic("t")
		w.found(topicOf("t", 0))
		forget(w)
		if len(got[*messages.ForgetTopic](w.root)) != 1 {
			t.Fatalf("%s: the topic is not forgotten", name)
		}
		w.found(topicOf("t", 0))
		if len(w.boxes) != 1 {
			t.Errorf("%s: %d partitions were started", name, len(w.boxes)-1)
		}
		var o outcomes
		w.root.clear()
		w.must(at("t", 0, "v"), &o)
		if len(got[*messages.TrackTopic](w.root)) != 1 {
			t.Errorf("%s: the topic is not looked up again", name)
		}
		w.found(topicOf("t", 0))
		if b := w.boxes["t/0.2"]; b == nil || b.values() != "v" {
			t.Errorf("%s: the new partition: %+v", name, b)
		}
	}
}
