package simulation

import (
	"slices"
	"testing"
	"time"
)

// TestShrink puts what breaks a run among much that does not, and wants it found
// alone.
func TestShrink(t *testing.T) {
	system := NewSystem()
	defer system.Shutdown()
	hay := Run(system, Campaign{Seed: 7, Records: 200}).Plan
	if len(hay.Faults) < 10 {
		t.Fatalf("%d faults to look through", len(hay.Faults))
	}
	needle := Fault{Kind: BrokerDown, At: Duration(time.Second), For: Duration(time.Second), Pick: 12345}
	hay.Faults = slices.Insert(hay.Faults, len(hay.Faults)/2, needle)
	s := &shrinker{best: hay, broken: func(p Plan) bool {
		return p.Records >= 7 && slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Pick == needle.Pick })
	}}
	if !s.shrink() {
		t.Fatal("the plan does not fail")
	}
	if len(s.best.Faults) != 1 || s.best.Faults[0].Pick != needle.Pick || s.best.Records != 7 {
		t.Errorf("faults %+v and %d records are left", s.best.Faults, s.best.Records)
	}
	fine := Plan{Seed: 1, Records: 20, Settings: hay.Settings}
	if p := Shrink(system, fine, LostWrite); p.Records != 20 {
		t.Error("a plan that does not fail was changed")
	}
}
