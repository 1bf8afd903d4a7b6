package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

var oneTopic = []Topic{{Name: "t", Partitions: 2}}

// story is a run of a world with all kinds of callers.
func story(t *testing.T, seed uint64, faults []Fault) (*World, []Violation) {
	t.Helper()
	w, err := NewWorld(Config{Seed: seed, Topics: oneTopic, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Start("", troupe.WithRequestTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	left := 3
	w.Go(func() {
		ctx, cancel := w.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		got, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: []troupe.Message{{Value: []byte("sent")}}})
		if err != nil || len(got) != 1 {
			t.Errorf("Send: %v, %v", got, err)
		}
		w.Note("caller", "sent", int64(len(got)))
		left--
	})
	w.Go(func() {
		w.Sleep(time.Second)
		answered := 0
		for i := range 10 {
			record := troupe.Record{Topic: "t", Value: fmt.Appendf(nil, "produced %d", i), Partition: troupe.AtPartition(int32(i % 2))}
			if err := p.Produce(context.Background(), record, func(troupe.Delivery) { answered++ }); err != nil {
				t.Errorf("Produce: %v", err)
			}
		}
		if err := p.Flush(context.Background()); err != nil || answered != 10 {
			t.Errorf("Flush: %v, with %d of 10 answers", err, answered)
		}
		left--
	})
	pid, err := w.Spawn("asker", func() actor.Actor {
		return actor.ReceiveFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				c.Request(p.PID(), &messages.Produce{Record: troupe.Record{Topic: "t", Value: []byte("asked")}})
			case *messages.Delivered:
				if m.Delivery.Err != nil {
					t.Errorf("messages.Produce: %v", m.Delivery.Err)
				}
				left--
			}
		})
	})
	if err != nil || pid == nil {
		t.Fatal(err)
	}
	if done, err := w.Until(2*time.Minute, func() bool { return left == 0 }); err != nil || !done {
		t.Fatalf("at %v: %d callers are not done (%v)", w.Now(), left, err)
	}
	return w, w.Close()
}

func TestAWorldForCallersOfAllKinds(t *testing.T) {
	w, wrong := story(t, 5, nil)
	if len(wrong) > 0 {
		t.Error(wrong)
	}
	var values []string
	for p := range int32(2) {
		for _, e := range w.Entries("t", p) {
			values = append(values, string(e.Value))
		}
	}
	if len(values) != 12 || !slices.Contains(values, "sent") || !slices.Contains(values, "asked") {
		t.Errorf("the logs hold %q", values)
	}
	again, _ := story(t, 5, nil)
	other, _ := story(t, 6, nil)
	if again.Hash() != w.Hash() || again.Events() != w.Events() || other.Hash() == w.Hash() {
		t.Errorf("hashes %016x, again %016x, another seed %016x", w.Hash(), again.Hash(), other.Hash())
	}
}

// TestFaultsOfAPlanHappen aims each kind of fault that can be aimed, and looks
// whether it came, and came once.
func TestFaultsOfAPlanHappen(t *testing.T) {
	for _, f := range []Fault{
		{Kind: ErrorAnswer, Nth: 1, Target: "t/1", Code: protocol.NotEnoughReplicas},
		{Kind: ErrorAnswer, Nth: 1, Target: "t/0", Code: protocol.LeaderNotAvailable, Pick: 1},
		{Kind: CutAfterAppend, Nth: 1},
		{Kind: CutMidAppend, Nth: 2},
		{Kind: BlackHole, Nth: 1, Target: "broker-1"},
		{Kind: SlowLink, Nth: 2, For: Duration(300 * time.Millisecond)},
		{Kind: DialRefused, Nth: 1},
		{Kind: ActorCrash, Nth: 1, Target: "metadata/*messages.ControlResponse"},
		{Kind: BrokerDown, At: Duration(time.Second), Target: "broker-2", For: Duration(3 * time.Second)},
		{Kind: ClusterDown, At: Duration(time.Second), For: Duration(3 * time.Second)},
		{Kind: LeaderMoves, At: Duration(900 * time.Millisecond), Target: "t/1"},
		{Kind: ZombieLeader, At: Duration(900 * time.Millisecond), Target: "t/0", For: Duration(time.Second)},
		{Kind: WallClockJumps, At: Duration(500 * time.Millisecond), For: Duration(-time.Hour)},
	} {
		name := f.Kind.String() + "/" + f.Target
		t.Run(name, func(t *testing.T) {
			w, wrong := story(t, 9, []Fault{f})
			if len(wrong) > 0 {
				t.Error(wrong)
			}
			counts := w.Counts()
			if n := counts.Kinds[f.Kind]; n != 1 {
				t.Errorf("it happened %d times", n)
			}
			if f.Kind == ErrorAnswer && counts.Code(f.Code) != 1 {
				t.Errorf("%v was the answer %d times", f.Code, counts.Code(f.Code))
			}
			for _, l := range w.Logs() {
				if f.Kind == ClusterDown && len(l.Entries) == 0 {
					t.Errorf("partition %d is empty", l.Partition)
				}
			}
		})
	}
}

// TestFaultsInARow of one kind and one target: each counts every occurrence.
func TestFaultsInARow(t *testing.T) {
	var faults []Fault
	for n := range 3 {
		faults = append(faults, Fault{Kind: ErrorAnswer, Nth: 2 + n, Target: "t/1", Code: protocol.NotEnoughReplicas})
	}
	f := newInjector(newEstate(), &trace{scheduler: newScheduler(rand.New(rand.NewPCG(1, 1)), newEstate()), hash: hashStart}, faults, 0)
	var came []int
	for n := range 6 {
		f.happens(ErrorAnswer, place{topic: "t", partition: 0})
		if f.happens(ErrorAnswer, place{topic: "t", partition: 1}) != nil {
			came = append(came, n+1)
		}
	}
	if !slices.Equal(came, []int{2, 3, 4}) {
		t.Errorf("they came at %v", came)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	for _, f := range []Fault{{Kind: Kinds}, {Kind: -1}, {Kind: CutAfterAppend}, {Kind: LeaderMoves, Nth: 1}} {
		if _, err := NewWorld(Config{Faults: []Fault{f}}); err == nil {
			t.Errorf("%+v is taken", f)
		}
	}
	for _, text := range []string{`{"faults":[{"kind":"no-such"}]}`, `{"fault":[]}`, `{"faults":[{"kind":"leader-moves","at":"soon"}]}`, `x`} {
		if _, err := ReadPlan(strings.NewReader(text)); err == nil {
			t.Errorf("%s is a plan", text)
		}
	}
}

// TestAWorldSeesWhatIsLeft leaves a caller waiting, and an actor that refuses to
// go is one more.
func TestAWorldSeesWhatIsLeft(t *testing.T) {
	w, err := NewWorld(Config{Seed: 1, Topics: oneTopic})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	w.Go(func() {
		defer func() { ended = true }()
		w.Sleep(1000 * time.Hour)
	})
	if err := w.Advance(time.Second); err != nil {
		t.Fatal(err)
	}
	wrong := w.Close()
	if len(wrong) != 1 || wrong[0].Class != Wedged || !ended {
		t.Errorf("saw %v; the caller's defers ran: %v", wrong, ended)
	}
	if again := w.Close(); len(again) != 1 {
		t.Errorf("closed twice: %v", again)
	}
}

// TestTimePassesAsAsked: nothing runs before its time, and virtual time is exact.
func TestTimePassesAsAsked(t *testing.T) {
	w, err := NewWorld(Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var at []time.Duration
	w.After(3*time.Second, func() { at = append(at, w.Now()) })
	w.After(time.Second, func() { at = append(at, w.Now()) })
	ctx, cancel := w.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := w.Advance(2500 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if len(at) != 1 || at[0] < time.Second || w.Now() != 2500*time.Millisecond || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("at %v: fired at %v, context %v", w.Now(), at, ctx.Err())
	}
}

// TestEveryFaultHasAName and every code of the table can be an answer.
func TestEveryFaultHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for k := range Kinds {
		text, _ := k.MarshalText()
		var back Kind
		if err := back.UnmarshalText(text); err != nil || back != k || seen[string(text)] || len(text) == 0 {
			t.Errorf("kind %d is %q, which is %d (%v)", int(k), text, int(back), err)
		}
		seen[string(text)] = true
	}
	last := protocol.ErrorCode(codeCount - 2)
	if unknown := "UNKNOWN_ERROR_CODE"; strings.HasPrefix(last.Info().Name, unknown) || !strings.HasPrefix((last+1).Info().Name, unknown) {
		t.Errorf("the table does not end with %d, %s", last, last.Info().Name)
	}
	if n := len(InjectedCodes()); n != codeCount-1 {
		t.Errorf("%d of %d codes can be an answer", n, codeCount-1)
	}
}

// TestTheTraceIsComplete: an actor of the user's is in it, with what it was sent.
func TestTheTraceIsComplete(t *testing.T) {
	var lines bytes.Buffer
	w, err := NewWorld(Config{Seed: 1, Trace: &lines})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := w.Spawn("mine", func() actor.Actor { return actor.ReceiveFunc(func(actor.Context) {}) })
	if err != nil {
		t.Fatal(err)
	}
	w.Note("me", "asks", 7)
	w.System().Root.Send(pid, &struct{ N int }{1})
	if err := w.Advance(time.Second); err != nil {
		t.Fatal(err)
	}
	if wrong := w.Close(); len(wrong) > 0 {
		t.Error(wrong)
	}
	for _, want := range []string{`"to":"me","what":"asks","with":"7 "`, `"cause":1,"from":"me","to":"mine","what":"*struct { N int }"`} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("no %s in\n%s", want, &lines)
		}
	}
}

// TestOnlyPlannedPanicsAreExcused: the runtime survives its own bugs, and says so
// only in its log.
func TestOnlyPlannedPanicsAreExcused(t *testing.T) {
	for _, c := range []struct {
		reason  any
		planned bool
	}{{crashed{}, true}, {misbehaved{}, true}, {errors.New("a bug"), false}, {&seams.Panic{Reason: "index out of range"}, false}} {
		w := &World{}
		s := messages.Settings{Log: zerolog.New(&logWatch{w})}
		s.LogPanic(c.reason).Msg("an actor panicked")
		if excused := len(w.observed) == 0; excused != c.planned {
			t.Errorf("a panic with %v: excused %v", c.reason, excused)
		}
	}
}
