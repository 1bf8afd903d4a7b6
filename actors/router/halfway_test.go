package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Decisions of the router that crash half-way. What seeds come to is in the simulation
// (decision-crash); here are those that it seldom does.

// crashAt is a tracer with which the router crashes once, at a step, when it has come to
// it so many times before.
type crashAt struct {
	step   string
	before int
}

func (*crashAt) Received(string, any) {}

// Decides implements messages.DecisionWatcher.
func (c *crashAt) Decides(_, step string) {
	if step != c.step {
		return
	}
	if c.before--; c.before < 0 {
		c.step = ""
		panic("half-way")
	}
}

var (
	_ seams.Tracer             = (*crashAt)(nil)
	_ messages.DecisionWatcher = (*crashAt)(nil)
)

func crashing(step string, before int) func(*messages.Settings, *Config) {
	return func(s *messages.Settings, _ *Config) { s.Tracer = &crashAt{step, before} }
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
	w := newWorld(t, crashing("has forgotten a topic", 0))
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
	w := newWorld(t, crashing("has retired a topic", 0))
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
			w := newWorld(t, crashing("has new routes", known))
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
