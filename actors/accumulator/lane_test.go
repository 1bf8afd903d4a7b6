package accumulator

import (
	"runtime"
	"slices"
	"sync"
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

// TestRangesOfAnswers: records of one call that stand side by side and end alike are
// answered in one call, and each once, whatever else is in the batch.
func TestRangesOfAnswers(t *testing.T) {
	type told struct {
		tag    uint64
		offset int64
		n      int
	}
	for name, c := range map[string]struct {
		tags     []uint64
		answered []int32
		only     []int32
		unknown  bool // the offset
		want     []told
	}{
		"side by side":     {tags: []uint64{7, 8, 9}, want: []told{{7, 102, 3}}},
		"others between":   {tags: []uint64{7, 9, 10}, want: []told{{7, 102, 1}, {9, 103, 2}}},
		"no offset":        {tags: []uint64{7, 8, 9}, unknown: true, want: []told{{7, -1, 3}}},
		"one was answered": {tags: []uint64{7, 8, 9}, answered: []int32{3}, want: []told{{7, 102, 0}, {9, 104, 0}}},
		"some of them":     {tags: []uint64{7, 8, 9}, only: []int32{2, 4}, want: []told{{7, 102, 0}, {9, 104, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig())
			r.enact()
			r.s.answeringOpen = 1
			var others int
			var got []told
			d := &side{
				callbacks: []callbackRun{
					{first: 0, callback: func(messages.Delivery) { others++ }},
					{
						first: 2, callback: func(d messages.Delivery) { got = append(got, told{d.Tag, d.Offset, 0}) },
						many: func(d messages.Delivery, n int) { got = append(got, told{d.Tag, d.Offset, n}) },
					},
					{first: 5, callback: func(messages.Delivery) { others++ }},
				},
				stamps: []stampRun{{unixMs: baseUnixMs}},
				tags:   perRecord[uint64]{first: 2, values: append(slices.Clone(c.tags), 0)},
			}
			b := &batch{count: 6, settled: true, side: d}
			for _, i := range c.answered {
				b.markAnswered(i)
			}
			offset := int64(100)
			if c.unknown {
				offset = -1
			}
			r.box.lane.answer(&answer{batch: b, side: d, only: c.only, delivery: messages.Delivery{Offset: offset, LogAppendTimeMs: -1, Status: messages.Persisted}})
			if !slices.Equal(got, c.want) {
				t.Errorf("told %v, expected %v", got, c.want)
			}
			if want := 3; c.only == nil && others != want {
				t.Errorf("others were called %d times, expected %d", others, want)
			}
		})
	}
}

// TestCallbackEndsItsGoroutine: a callback that calls runtime.Goexit, as FailNow of
// a test does, costs nobody else their answer.
func TestCallbackEndsItsGoroutine(t *testing.T) {
	r := newRig(t, testConfig())
	r.enact()
	var running sync.WaitGroup
	r.box.settings.Callbacks = counted{&running}
	r.assign(1, 1)
	var called []int
	offset := int64(0)
	settle := func(n int) {
		t.Helper()
		for range n {
			me := len(called) + int(r.s.unanswered)
			a := admission("v", func(messages.Delivery) {
				called = append(called, me)
				if me%4 == 3 {
					runtime.Goexit()
				}
			})
			a.Urgent = true
			if r.append(a) != messages.Appended {
				t.Fatal(me)
			}
		}
		a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
		r.s.fx.announce = false // nobody hears it
		r.deliver(a, okResult(offset))
		offset += int64(n)
		a.WriteEnded()
		r.box.mu.Lock()
		r.box.unlock(seams.Never)
		running.Wait()
	}
	settle(8) // in the middle, and the last
	settle(3)
	settle(2)
	for i, n := range called {
		if i != n {
			t.Fatalf("called %v", called)
		}
	}
	if len(called) != 13 || r.box.lane.running || r.s.answeringOpen != 0 || r.budget.Used() != 0 {
		t.Errorf("called %v, running %v, %d batches are being answered, %d bytes kept", called, r.box.lane.running, r.s.answeringOpen, r.budget.Used())
	}
}

// counted runs each work on a goroutine that can be waited for.
type counted struct{ running *sync.WaitGroup }

func (c counted) Run(fn func()) { c.running.Go(fn) }

// TestAFewOfALargeBatchAreAFew: of a batch that goes on only what is answered counts,
// and nothing else of it may be looked at without the lock.
func TestAFewOfALargeBatchAreAFew(t *testing.T) {
	large := &batch{count: 1000}
	if n := recordsOf([]answer{{batch: large, only: []int32{1, 7}}, {batch: &batch{count: 3}}}); n != 5 {
		t.Errorf("%d records, want 5", n)
	}
}

// TestLargeTurnsHaveAGoroutineOfTheirOwn: they would keep small ones waiting.
func TestLargeTurnsHaveAGoroutineOfTheirOwn(t *testing.T) {
	for count, own := range map[int32]bool{1: false, sharedRecords: false, sharedRecords + 1: true} {
		r := newRig(t, testConfig())
		r.enact()
		alone, shared := &later{}, &later{}
		r.box.settings.Executor, r.box.settings.Callbacks = alone, shared
		b := &batch{count: count, side: &side{callbacks: []callbackRun{{callback: func(messages.Delivery) {}}}, stamps: []stampRun{{}}}}
		r.box.lane.add([]answer{{batch: b, side: b.side}})
		if len(alone.todo) > 0 != own || len(shared.todo) > 0 == own {
			t.Errorf("%d records: %d turns alone, %d shared", count, len(alone.todo), len(shared.todo))
		}
	}
}
