package chaos

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestPlanIsAFunctionOfTheSeed is what makes a seed worth printing.
func TestPlanIsAFunctionOfTheSeed(t *testing.T) {
	one, again, other := newPlan(7, 5*time.Minute), newPlan(7, 5*time.Minute), newPlan(8, 5*time.Minute)
	if !reflect.DeepEqual(one, again) {
		t.Errorf("one seed, two plans:\n%v\n%v", one, again)
	}
	if reflect.DeepEqual(one, other) {
		t.Error("two seeds, one plan")
	}
	longer := newPlan(7, 20*time.Minute)
	if !slices.Equal(longer.Brokers[:len(one.Brokers)], one.Brokers) || !slices.Equal(longer.Network[:len(one.Network)], one.Network) {
		t.Error("a longer plan does not begin as a shorter one")
	}
}

// TestPlanHasEverything looks for each kind, and at the ranges.
func TestPlanHasEverything(t *testing.T) {
	for seed := range uint64(50) {
		p := newPlan(seed, 2*time.Minute)
		count := map[kind]int{}
		for _, s := range slices.Concat(p.Brokers, p.Network) {
			count[s.Kind]++
			if s.Broker < 1 || s.Broker > brokerCount || s.Chosen < 0 || s.Chosen >= numberedPartitions || s.Hits < 1 || s.Hits > mostHits {
				t.Errorf("seed %d: %+v", seed, s)
			}
			if s.Kind == pauseBroker && (s.For < leastPause || s.For > mostPause) {
				t.Errorf("seed %d: %+v", seed, s)
			}
		}
		for _, k := range kinds {
			if count[k] == 0 {
				t.Errorf("seed %d: no %q", seed, k)
			}
		}
		if count[addPartitions] > mostAdded {
			t.Errorf("seed %d adds %d partitions, want at most %d", seed, count[addPartitions], mostAdded)
		}
	}
	for _, k := range slices.Concat(brokerBag, networkBag) {
		if !slices.Contains(kinds, k) {
			t.Errorf("%q would not be reported", k)
		}
	}
}

// TestSettingsFit keeps a seed from drawing settings that a producer refuses.
func TestSettingsFit(t *testing.T) {
	differ := false
	for seed := range uint64(200) {
		list, again := newSettings(seed), newSettings(seed)
		if !slices.Equal(list, again) {
			t.Fatalf("one seed, two settings: %v, %v", list, again)
		}
		differ = differ || !slices.Equal(list, newSettings(seed+1))
		for i, s := range list {
			if s.linger+s.request > shapes[i].delivery || s.inFlight < 1 || s.inFlight > 5 {
				t.Errorf("seed %d, %s: %v", seed, shapes[i].name, s)
			}
		}
	}
	if !differ {
		t.Error("all seeds, one setting")
	}
}
