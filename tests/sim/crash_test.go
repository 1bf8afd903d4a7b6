package sim

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/simulation"
)

// TestCrashOverEveryAnswer: a router that crashes over the very message that is said
// again to it crashes every so often, and not as fast as the machine can: one bug
// must not cost a processor. When it crashes no more, everything goes on.
func TestCrashOverEveryAnswer(t *testing.T) {
	const crashes, least = 30, time.Second
	faults := make([]simulation.Fault, crashes)
	for i := range faults {
		faults[i] = simulation.Fault{Kind: simulation.ActorCrash, Target: "router/*messages.RoutesChanged", Nth: i + 1}
	}
	w, err := simulation.NewWorld(simulation.Config{
		Seed: 1, Topics: []simulation.Topic{{Name: topicName, Partitions: 1}}, Faults: faults,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Start("")
	if err != nil {
		t.Fatal(err)
	}
	var outcome troupe.Delivery
	answers := 0
	w.Go(func() {
		err := p.Produce(context.Background(), troupe.Record{Topic: topicName, Value: []byte("v")}, func(d troupe.Delivery) { outcome, answers = d, answers+1 })
		if err != nil {
			t.Error(err)
		}
	})
	if _, err := w.Until(time.Minute, func() bool { return answers > 0 }); err != nil {
		t.Fatal(err)
	}
	if answers != 1 || outcome.Err != nil {
		t.Errorf("%d outcomes, %v", answers, outcome.Err)
	}
	if n := w.Counts().Kinds[simulation.ActorCrash]; n != crashes || w.Now() < least {
		t.Errorf("%d crashes within %v", n, w.Now())
	}
	for _, v := range w.Close() {
		t.Error(v)
	}
}

// TestCrashWhileStopping: a broker that crashes while its connections end is
// restarted, and ends all the same.
func TestCrashWhileStopping(t *testing.T) {
	for seed := range uint64(60) { // whether the word of a connection's end is heard before the others' is chance
		w, err := simulation.NewWorld(simulation.Config{
			Seed: seed, Topics: []simulation.Topic{{Name: topicName, Partitions: 1}},
			Faults: []simulation.Fault{{Kind: simulation.ActorCrash, Target: "broker/*messages.ConnectionLost", Nth: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Start("")
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		w.Go(func() {
			for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksNone} {
				if _, err := p.Send(context.Background(), troupe.Send{Topic: topicName, Messages: []troupe.Message{{}}, Acks: acks}); err != nil {
					t.Error(err)
				}
			}
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
			ended = true
		})
		if _, err := w.Until(time.Minute, func() bool { return ended }); err != nil || !ended {
			t.Errorf("seed %d: Close has returned: %v, %v", seed, ended, err)
		}
		for _, v := range w.Close() {
			t.Errorf("seed %d: %v", seed, v)
		}
	}
}
