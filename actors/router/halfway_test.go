package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Decisions of the router that crash half-way. What seeds come to is in the simulation
// (decision-crash); here are those that it seldom does.

// crashAt is a tracer with which the router crashes at steps, one after the other: at
// the first when it has come to it so many times before.
type crashAt struct {
	steps  []string
	before int
}

func (*crashAt) Received(string, any) {}

// Decides implements messages.DecisionWatcher.
func (c *crashAt) Decides(_, step string) {
	if len(c.steps) == 0 || step != c.steps[0] {
		return
	}
	if c.before--; c.before < 0 {
		c.steps = c.steps[1:]
		panic("half-way")
	}
}

var (
	_ seams.Tracer             = (*crashAt)(nil)
	_ messages.DecisionWatcher = (*crashAt)(nil)
)

func crashing(before int, steps ...string) func(*messages.Settings, *Config) {
	return func(s *messages.Settings, _ *Config) { s.Tracer = &crashAt{steps, before} }
}

// noneIsLost checks that each accumulator can be found, or ends.
func (w *world) noneIsLost(topic string) {
	w.Helper()
	live := w.topic(topic).known().live
	for name, box := range w.boxes {
		if !slices.Contains(live, messages.Appender(box)) && !box.poisoned() {
			w.Errorf("%s lives on, and nobody can find it", name)
		}
	}
}

// successor is the partition's latest box but the first.
func (w *world) successor(name string) (latest *fakeBox) {
	for n := 2; n < 10; n++ {
		if b := w.boxes[fmt.Sprintf("%s.%d", name, n)]; b != nil {
			latest = b
		}
	}
	return latest
}

// recovers tells the router that something has crashed, as the root does.
func (w *world) recovers() { system.Root.Send(w.keeper, &messages.Crashed{}) }

// TestCrashAfterForgettingATopic: the accumulators of a topic that is gone end though
// the router crashed when nobody could find them any more. They would go on producing,
// under numbers that their successors use as well.
func TestCrashAfterForgettingATopic(t *testing.T) {
	w := newWorld(t, crashing(0, "has forgotten a topic"))
	var o outcomes
	w.must(record("t", "v"), &o)
	w.found(topicOf("t", 0, 1))
	w.found(messages.TopicInfo{Name: "t", Gone: true, Err: errors.New("deleted")})
	w.recovers()
	for name, box := range w.boxes {
		eventually(t, name+" to end", func() bool { return box.poisoned() })
		if !errors.Is(box.failed, messages.ErrUnknownPartition) {
			t.Errorf("%s failed its records with %v", name, box.failed)
		}
	}
}

// TestCrashAfterRetiringATopic: an idle topic's accumulators end all the same, and who
// produces for it has it looked up again.
func TestCrashAfterRetiringATopic(t *testing.T) {
	w := newWorld(t, crashing(0, "has retired a topic"))
	var o outcomes
	w.must(record("t", "v"), &o)
	w.found(topicOf("t", 0))
	w.clock.Advance(2 * w.Settings.MetadataIdle)
	w.recovers()
	eventually(t, "the accumulator to end", func() bool { return w.boxes["t/0"].poisoned() })
	w.must(record("t", "again"), &o)
	w.found(topicOf("t", 0))
	eventually(t, "its successor to have the record", func() bool { b := w.successor("t/0"); return b != nil && b.values() == "again" })
}

// TestCrashBeforeNewRoutes: accumulators that were started when the router crashed, and
// that nobody can find, end; their successors have other names. With the same ones no
// partition that is added would ever come into being.
func TestCrashBeforeNewRoutes(t *testing.T) {
	for name, known := range map[string]int{"the first routes": 0, "an added partition": 1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, crashing(known, "has new routes"))
			var o outcomes
			w.must(record("t", "v"), &o)
			for range known {
				w.found(topicOf("t", 0))
			}
			w.found(topicOf("t", 0, 1))
			if left := w.boxes["t/1"]; left == nil || left.poisoned() {
				t.Fatal("nothing crashed")
			}
			w.recovers()
			w.found(topicOf("t", 0, 1))
			if left := w.boxes["t/1"]; !left.poisoned() || !left.closed {
				t.Error("what nobody can find lives on")
			}
			next := w.successor("t/1")
			if next == nil {
				t.Fatalf("the partitions are %v", w.boxes)
			}
			w.must(at("t", 1, "there"), &o)
			if !strings.Contains(next.values(), "there") {
				t.Errorf("it got %q", next.values())
			}
		})
	}
}

// TestTwoCrashesInAMove: the second comes when the move is made again from its start. What
// the first pass has moved is with accumulators that the second must find.
func TestTwoCrashesInAMove(t *testing.T) {
	w := newWorld(t, crashing(0, "has resettled a topic", "has evacuated a topic"))
	var o outcomes
	w.must(record("t", "v"), &o)
	w.found(topicOf("t", 0))
	again := topicOf("t", 0)
	again.ID = [16]byte{2}
	for range 4 {
		w.found(again)
		w.recovers()
	}
	if w.topic("t").known() == nil {
		t.Fatal("the topic has no routes")
	}
	w.noneIsLost("t")
}

// TestCrashAfterPartitionsLeft: their accumulators end all the same.
func TestCrashAfterPartitionsLeft(t *testing.T) {
	w := newWorld(t, crashing(0, "has dropped partitions"))
	var o outcomes
	w.must(record("t", "v"), &o)
	w.found(topicOf("t", 0, 1))
	for broker := range int32(2 * missingBeforeGone) {
		w.foundBy(broker, topicOf("t", 0))
	}
	w.recovers()
	if left := w.boxes["t/1"]; !left.closed {
		t.Error("the partition has not failed its records")
	}
	w.noneIsLost("t")
}
