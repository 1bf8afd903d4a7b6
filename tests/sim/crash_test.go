package sim

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
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

// decisions are the places in the middle of decisions where a crash is planned, but for
// those of partitions, which are the steps of a batch.
var decisions = []string{
	"root/tells brokers of an identity", "root/has started a broker", "root/has stopped a broker", "root/knows all brokers", "root/passes a request on",
	"router/finds a topic created again", "router/has evacuated a topic", "router/has new routes", "router/has resettled a topic",
	"router/has forgotten a topic", "router/has retired a topic",
	"broker/takes a batch", "broker/encodes a request", "broker/writes a request", "broker/hears an answer", "broker/settles a batch", "broker/loses a connection",
	"metadata/knows the cluster", "metadata/asks", "sequencer/has an identity", "sequencer/asks",
}

// TestCrashInEveryDecision makes each decision panic half-way, among the faults of
// seeds that come to it: no record is lost, and none answered twice or wrongly.
func TestCrashInEveryDecision(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	const seeds, enough = 400, 6
	plans := make([]simulation.Plan, seeds)
	for seed := range plans {
		r := simulation.Run(system, simulation.Campaign{Seed: uint64(seed + 1), Records: 100})
		plans[seed] = r.Plan
		plans[seed].Faults = slices.DeleteFunc(r.Plan.Faults, func(f simulation.Fault) bool { return f.Kind == simulation.DecisionCrash })
	}
	targets := decisions
	for step := range messages.BatchStepCount {
		targets = append(targets, "accumulator/"+step.String())
	}
	for _, target := range targets {
		t.Run(target, func(t *testing.T) {
			crashes := 0
			for seed := 0; seed < seeds && crashes < enough; seed++ {
				plan := plans[seed]
				for _, nth := range []int{1, 2, 5} {
					plan.Faults = append(slices.Clone(plan.Faults), simulation.Fault{Kind: simulation.DecisionCrash, Target: target, Nth: nth})
				}
				r := simulation.Run(system, simulation.Campaign{Plan: &plan})
				if r.Counts.Kinds[simulation.DecisionCrash] > 0 {
					crashes++
				}
				for _, v := range r.Violations {
					t.Errorf("seed %d: %v", plan.Seed, v)
				}
			}
			if crashes == 0 {
				t.Error("no seed came to it")
			}
		})
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
