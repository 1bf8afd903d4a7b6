package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/simulation"
)

// TestSameSeedSameTrace is the promise that everything here stands on: a seed is
// a run, whatever ran before it and however many processors there are.
func TestSameSeedSameTrace(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 10
	}
	c := simulation.Campaign{Seed: 42, Records: 1000}
	var first simulation.Result
	done := 0
	for _, processors := range []int{1, 2} {
		before := runtime.GOMAXPROCS(processors)
		system := simulation.NewSystem()
		for range runs / 2 {
			r := simulation.Run(system, c)
			if done == 0 {
				first = r
			}
			done++
			if r.Hash != first.Hash || r.Events != first.Events {
				t.Errorf("run %d at GOMAXPROCS %d: hash %016x over %d events, the first had %016x over %d", done, processors, r.Hash, r.Events, first.Hash, first.Events)
			}
		}
		system.Shutdown()
		runtime.GOMAXPROCS(before)
	}
	t.Logf("%d runs: %v", done, &first)
}

// TestSameSeedSameTraceAmongOthers runs a seed alone and then among others that
// leave full pools and used names behind.
func TestSameSeedSameTraceAmongOthers(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	hashes := make(map[uint64]uint64)
	for place, seed := range []uint64{7, 8, 9, 10, 11, 12, 7, 9, 8, 12, 11, 10, 8, 7, 9, 10, 12, 11} {
		r := simulation.Run(system, simulation.Campaign{Seed: seed, Records: 300})
		if before, ok := hashes[seed]; ok && before != r.Hash {
			t.Errorf("seed %d: hash %016x at place %d, %016x before", seed, r.Hash, place, before)
		}
		hashes[seed] = r.Hash
	}
}

// TestSeedsDiffer makes sure that seeds are not all the same run.
func TestSeedsDiffer(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	seen := make(map[uint64]uint64)
	for seed := uint64(1); seed <= 100; seed++ {
		r := simulation.Run(system, simulation.Campaign{Seed: seed, Records: 100})
		if other, ok := seen[r.Hash]; ok {
			t.Errorf("seeds %d and %d have the same hash", seed, other)
		}
		seen[r.Hash] = seed
	}
}

// TestAPlanIsItsSeed writes down what seeds drew, reads it, and makes the runs
// again: they must be the same.
func TestAPlanIsItsSeed(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	listed := 0
	for seed := uint64(1); seed <= 60; seed++ {
		drawn := simulation.Run(system, simulation.Campaign{Seed: seed, Records: 100})
		var file bytes.Buffer
		if err := simulation.WritePlan(&file, &drawn.Plan); err != nil {
			t.Fatal(err)
		}
		plan, err := simulation.ReadPlan(&file)
		if err != nil {
			t.Fatal(err)
		}
		again := simulation.Run(system, simulation.Campaign{Plan: plan})
		if again.Hash != drawn.Hash || again.Events != drawn.Events {
			t.Errorf("seed %d: hash %016x, and %016x from the plan it drew", seed, drawn.Hash, again.Hash)
		}
		listed += len(plan.Faults)
		// Without its faults it is another run, or the plan says nothing.
		plan.Faults = nil
		if len(drawn.Plan.Faults) > 10 && simulation.Run(system, simulation.Campaign{Plan: plan}).Hash == drawn.Hash {
			t.Errorf("seed %d: the same hash without its %d faults", seed, len(drawn.Plan.Faults))
		}
	}
	if listed < 600 {
		t.Errorf("60 seeds drew only %d faults", listed)
	}
}

// event is a line of a trace.
type event struct {
	N     uint64 `json:"n"`
	T     int64  `json:"t"`
	Cause uint64 `json:"cause"`
	From  string `json:"from"`
	To    string `json:"to"`
	What  string `json:"what"`
	With  string `json:"with"`
}

// TestTraceTellsCauses reads a trace: it does not change the run, its events are
// numbered, and each follows from an earlier one that happened where it says.
func TestTraceTellsCauses(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	c := simulation.Campaign{Seed: 11, Records: 100}
	plain := simulation.Run(system, c)
	var lines bytes.Buffer
	c.Trace = &lines
	if r := simulation.Run(system, c); r.Hash != plain.Hash {
		t.Errorf("hash %016x with a trace, %016x without", r.Hash, plain.Hash)
	}
	var events []event
	crossing := make(map[string]int)
	for s := bufio.NewScanner(&lines); s.Scan(); {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		events = append(events, e)
		switch {
		case e.N != uint64(len(events)):
			t.Fatalf("event %d is line %d", e.N, len(events))
		case e.Cause >= e.N:
			t.Errorf("event %d follows from %d", e.N, e.Cause)
		case e.Cause > 0 && (events[e.Cause-1].To != e.From || events[e.Cause-1].T > e.T):
			t.Errorf("event %d comes from %q at %d, and its cause happened at %q at %d", e.N, e.From, e.T, events[e.Cause-1].To, events[e.Cause-1].T)
		}
		crossing[e.What+" from "+strings.TrimRight(e.From, "0123456789")]++
	}
	if uint64(len(events)) != plain.Events {
		t.Errorf("%d lines for %d events", len(events), plain.Events)
	}
	// Messages name who sent them, not what happened before by chance.
	for _, want := range []string{"*messages.TrackTopic from router", "*messages.RoutesChanged from ", "*messages.ClusterChanged from metadata", "produce from network", "outcome from topic/orders/"} {
		if crossing[want] == 0 {
			t.Errorf("no event %q", want)
		}
	}
	if n := crossing["*messages.ClusterChanged from router"]; n > 0 {
		t.Errorf("%d views of the cluster come from the router", n)
	}
}
