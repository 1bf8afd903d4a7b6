package accumulator

import (
	"slices"
	"testing"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// TestPromptAnswersKeepTheirPlace: a callback of Troupe's own runs in the turn of
// whoever settles, but not before callbacks of the user's that came first, and not
// in a batch with one.
func TestPromptAnswersKeepTheirPlace(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	r.assign(1, 1)
	var called []string
	offset := int64(0)
	answer := func(names ...string) {
		t.Helper()
		for i, name := range names {
			a := admission(name, func(messages.Delivery) { called = append(called, name) })
			a.Prompt, a.Urgent = name[0] == 'p', i == len(names)-1
			if r.append(a) != messages.Appended {
				t.Fatal(name)
			}
		}
		a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
		r.s.fx.announce = false // nobody hears it
		r.deliver(a, okResult(offset))
		offset += int64(len(names))
		a.WriteEnded()
		r.box.mu.Lock()
		r.box.unlock(seams.Never)
	}
	expect := func(names ...string) {
		t.Helper()
		if !slices.Equal(called, names) {
			t.Errorf("called %v, expected %v", called, names)
		}
		called = nil
	}
	answer("p1", "p2")
	expect("p1", "p2")
	if len(executor.todo) != 0 {
		t.Error("a turn of its own")
	}
	answer("p3", "u1")
	expect()
	answer("p4") // behind the user's
	expect()
	executor.run()
	expect("p3", "u1", "p4")
	answer("p5")
	expect("p5")
}

// TestAnswerBehindAPromptOne: what comes in while a prompt callback runs is answered
// after it, in a turn of its own.
func TestAnswerBehindAPromptOne(t *testing.T) {
	r := newRig(t, testConfig())
	_, executor := r.enact()
	var called []string
	behind := &batch{count: 1, side: &side{callbacks: []callbackRun{{callback: func(messages.Delivery) { called = append(called, "behind") }}}, stamps: []stampRun{{}}}}
	prompt := &batch{count: 1, prompt: true, side: &side{callbacks: []callbackRun{{callback: func(messages.Delivery) {
		r.box.lane.add([]answer{{batch: behind, side: behind.side}})
		called = append(called, "prompt")
	}}}, stamps: []stampRun{{}}}}
	r.s.answeringOpen = 2
	r.box.lane.add([]answer{{batch: prompt, side: prompt.side}})
	if !slices.Equal(called, []string{"prompt"}) || len(executor.todo) != 1 {
		t.Errorf("called %v, %d turns asked for", called, len(executor.todo))
	}
	executor.run()
	if !slices.Equal(called, []string{"prompt", "behind"}) || r.box.lane.running {
		t.Errorf("called %v", called)
	}
}
