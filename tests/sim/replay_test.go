package sim

import (
	"runtime"
	"testing"
)

// TestSameSeedSameTrace is the promise that the rest of this package stands on:
// a seed is a run, whatever ran before it and however many processors there are.
func TestSameSeedSameTrace(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 10
	}
	config := Config{Seed: 42, Records: recordsPerSeed}
	place := 0
	var first Result
	for _, processors := range []int{1, 2} {
		before := runtime.GOMAXPROCS(processors)
		system := NewSystem()
		for range runs / 2 {
			r := Run(system, place, config)
			if place == 0 {
				first = r
			}
			place++
			if r.Hash != first.Hash || r.Events != first.Events {
				t.Errorf("run %d at GOMAXPROCS %d: hash %016x over %d events, the first had %016x over %d", place, processors, r.Hash, r.Events, first.Hash, first.Events)
			}
		}
		system.Shutdown()
		runtime.GOMAXPROCS(before)
	}
	t.Logf("seed 42: hash %016x, %d events, %d of %d runs", first.Hash, first.Events, place, runs)
}

// TestSameSeedSameTraceAmongOthers runs a seed alone and then among others that
// leave full pools and used names behind.
func TestSameSeedSameTraceAmongOthers(t *testing.T) {
	system := NewSystem()
	defer system.Shutdown()
	place := 0
	hashes := make(map[uint64]uint64)
	for _, s := range []uint64{7, 8, 9, 7, 9, 8, 8, 7, 9} {
		r := Run(system, place, Config{Seed: s, Records: recordsPerSeed})
		place++
		if before, ok := hashes[s]; ok && before != r.Hash {
			t.Errorf("seed %d: hash %016x at place %d, %016x before", s, r.Hash, place, before)
		}
		hashes[s] = r.Hash
	}
}

// TestSeedsDiffer makes sure that seeds are not all the same run.
func TestSeedsDiffer(t *testing.T) {
	system := NewSystem()
	defer system.Shutdown()
	seen := make(map[uint64]uint64)
	for s := uint64(1); s <= 100; s++ {
		r := Run(system, int(s), Config{Seed: s, Records: 200})
		if other, ok := seen[r.Hash]; ok {
			t.Errorf("seeds %d and %d have the same hash", s, other)
		}
		seen[r.Hash] = s
	}
	if len(seen) != 100 {
		t.Errorf("%d hashes for 100 seeds", len(seen))
	}
}
