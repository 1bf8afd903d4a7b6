package accumulator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// callerRig is a partition whose box callers use themselves.
func callerRig(t *testing.T) (*rig, answersOf) {
	r := benchRig(t, false)
	r.s.linger = time.Hour
	r.box.RegisterHandlers(nil, idleDispatcher{})
	return r, make(answersOf)
}

// lead gives the partition a leader who has not heard of it.
func (r *rig) lead() {
	r.assign(1, 1)
	r.effects()
	r.s.announced = false
}

// caller is a record with the bytes that it takes.
func (r *rig) caller(name string, got answersOf) *messages.Admission {
	a := admission(name, got.callback(name))
	a.Bytes = 100
	return a
}

// free fails unless the lock can be had.
func (r *rig) free() {
	r.t.Helper()
	if !r.box.mu.TryLock() {
		r.t.Fatal("the crash has taken the lock with it")
	}
	r.box.mu.Unlock()
	if !r.s.suspect {
		r.t.Error("nobody will look the state over")
	}
}

// persists hands everything over, in order, and answers it.
func (r *rig) persists(got answersOf, names ...string) {
	r.t.Helper()
	if err := r.s.mend(r.now); err != nil {
		r.t.Fatal(err)
	}
	r.now = seams.Instant(r.box.settings.Clock.Now())
	r.assign(1, 1)
	for {
		r.s.sealOpen(r.now)
		for _, p := range r.effects().compress {
			r.pack(p)
		}
		if len(r.s.pending) == 0 {
			break
		}
		a, status := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: r.s.classOf(r.s.next())})
		if a == nil {
			r.t.Fatalf("status %v", status)
		}
		a.WriteEnded()
		r.deliver(a, okResult(0))
		r.effects()
	}
	r.check()
	for _, name := range names {
		if d := got[name]; len(d) != 1 || d[0].Status != messages.Persisted {
			r.t.Errorf("%s: %+v", name, d)
		}
	}
	if len(got) != len(names) {
		r.t.Errorf("answered: %v, expected %v", got, names)
	}
	if used := r.budget.Used(); used != 0 {
		r.t.Errorf("%d bytes of the budget are not given back", used)
	}
}

// odd is a context of a type that Go cannot compare.
type odd struct {
	context.Context
	values map[string]string
}

// TestContextsThatCannotBeCompared: two values of such a type make == panic.
func TestContextsThatCannotBeCompared(t *testing.T) {
	r, got := callerRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, name := range []string{"a", "b", "c"} {
		a := r.caller(name, got)
		a.Context = odd{ctx, map[string]string{}}
		r.post(a)
	}
	if !r.box.mu.TryLock() {
		t.Fatal("locked")
	}
	r.box.mu.Unlock()
	r.persists(got, "a", "b", "c")
}

// TestAppendThatCrashes: the caller gets an error and no panic, and the record is
// not in the partition; or it is, and the caller hears that.
func TestAppendThatCrashes(t *testing.T) {
	r, got := callerRig(t)
	r.post(r.caller("a", got))

	// Before the record is in.
	side := r.s.open.side
	r.s.open.side = nil
	a := r.caller("b", got)
	a.Urgent = true
	if status := r.box.Append(a); status != messages.AppendCrashed || a.Taken {
		t.Fatalf("status %v, taken: %v", status, a.Taken)
	}
	r.s.open.side = side
	r.free()
	r.post(r.caller("c", got)) // nobody has mended anything yet

	// After it.
	r.lead()
	r.s.inFlight = []*batch{nil}
	d := r.caller("d", got)
	d.Urgent = true
	if status := r.box.Append(d); status != messages.Appended {
		t.Fatalf("status %v", status)
	}
	r.s.inFlight = nil
	r.free()
	r.persists(got, "a", "c", "d")
}

// TestAppendAllThatCrashes: the caller knows how many are in, and which chunks are
// his to give back.
func TestAppendAllThatCrashes(t *testing.T) {
	r, got := callerRig(t)
	list := func(names ...string) (list []messages.Admission) {
		for _, name := range names {
			list = append(list, *r.caller(name, got))
		}
		return list
	}
	chunks := func(n int) (chunks []*memory.Chunk) {
		for range n {
			c, err := r.budget.TryAcquire(r.box.Account(), memory.ChunkBytes)
			if err != nil {
				t.Fatal(err)
			}
			chunks = append(chunks, c)
		}
		return chunks
	}

	// In the review, with all in.
	r.lead()
	r.s.inFlight = []*batch{nil}
	records, taken := list("a", "b"), chunks(2)
	records[1].Urgent = true
	if n, status := r.box.AppendAll(records, &taken); n != 2 || status != messages.Appended || len(taken) != 1 {
		t.Fatalf("%d appended, status %v, %d chunks left", n, status, len(taken))
	}
	r.s.inFlight = nil
	r.free()

	// Over the first record.
	whole := r.s.open.side
	r.s.open.side = nil
	records = list("c", "d")
	if n, status := r.box.AppendAll(records, &taken); n != 0 || status != messages.AppendCrashed || len(taken) != 1 {
		t.Fatalf("%d appended, status %v, %d chunks left", n, status, len(taken))
	}
	r.s.open.side = whole
	r.free()

	// Over the first record, with a chunk that its batch has taken by then.
	r.s.sealOpen(r.now)
	r.box.sides = []*side{nil}
	if n, status := r.box.AppendAll(records, &taken); n != 0 || status != messages.AppendCrashed || len(taken) != 0 {
		t.Fatalf("%d appended, status %v, %d chunks left", n, status, len(taken))
	}
	r.s.open.side = &side{}
	r.free()
	r.budget.Release(taken...)
	r.persists(got, "a", "b")
}

// TestFlushAndUrgeThatCrash: what was to be flushed is waited for all the same.
func TestFlushAndUrgeThatCrash(t *testing.T) {
	for name, call := range map[string]func(*rig, *messages.FlushWaiter){
		"flush": func(r *rig, w *messages.FlushWaiter) { r.box.Flush(w) },
		"urge":  func(r *rig, _ *messages.FlushWaiter) { r.box.Urge() },
		"again": func(r *rig, _ *messages.FlushWaiter) { r.s.open.urgent = true; r.box.Reannounce() },
		"idle": func(r *rig, _ *messages.FlushWaiter) {
			r.s.unanswered = 0
			r.box.Retire(-time.Hour)
			r.s.unanswered = 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, got := callerRig(t)
			a := r.caller("a", got)
			a.Codec = codecs.Snappy
			r.post(a)
			r.lead()
			open, side := r.s.open, r.s.open.side
			open.side = nil // the sealing will miss it
			spot := seams.NewParking().NewSpot()
			w := messages.NewFlushWaiter(spot)
			call(r, w)
			r.free()
			open.side, open.sealed, r.s.open = side, false, open
			if name != "flush" {
				r.persists(got, "a")
				return
			}
			w.Done()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			if err := spot.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the flush has ended: %v", err)
			}
			r.persists(got, "a")
			ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := spot.Wait(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
