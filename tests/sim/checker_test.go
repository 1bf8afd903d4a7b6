package sim

import (
	"slices"
	"strings"
	"testing"
)

// TestCheckerSees lets the cluster break its word in every way it knows. A
// checker that has nothing to say then is worth nothing.
func TestCheckerSees(t *testing.T) {
	system := NewSystem()
	defer system.Shutdown()
	for i, c := range []struct {
		name string
		lie  Lie
		want string
	}{
		{"honest", Honest, ""},
		{"forgets", Forgets, "is in no log"},
		{"repeats", Repeats, "times in the log"},
		{"reverses", Reverses, "order:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Run(system, i, Config{Seed: 3, Records: recordsPerSeed, Lie: c.lie})
			saw := slices.ContainsFunc(r.Violations, func(v string) bool { return c.want != "" && strings.Contains(v, c.want) })
			if c.lie == Honest && len(r.Violations) > 0 || c.lie != Honest && !saw {
				t.Errorf("want a violation with %q, got %q", c.want, r.Violations)
			}
		})
	}
}
