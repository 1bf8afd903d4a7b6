package chaos

import (
	"regexp"
	"slices"
	"testing"
	"time"
)

func seconds(list ...float64) []time.Duration {
	times := make([]time.Duration, len(list))
	for i, s := range list {
		times[i] = time.Duration(s * float64(time.Second))
	}
	return times
}

func TestRecoveries(t *testing.T) {
	a, b := place{0, 1}, place{0, 2}
	acks := acknowledgements{a: seconds(1, 2, 3, 9, 10, 20), b: seconds(1, 2, 7, 8)}
	found, missing := recoveries([]fault{
		{Kind: killLeader, From: 3500 * time.Millisecond, To: 8 * time.Second, Affected: []place{a, b}, Hits: 1},
		{Kind: killLeader, From: 9 * time.Second, To: 9500 * time.Millisecond, Affected: []place{a}, Hits: 1},
		{Kind: reset, From: 9 * time.Second, To: 12 * time.Second, Affected: []place{b}, Hits: 4},
		{Kind: reassign, Err: "refused"},
	}, acks)
	kill := found[killLeader]
	if kill.Done != 2 || kill.Hits != 2 || kill.Stall != 10*time.Second-4*time.Second ||
		!slices.Equal(kill.Recovered, []time.Duration{0, 500 * time.Millisecond, time.Second}) {
		t.Errorf("kills: %+v", kill)
	}
	if r := found[reset]; r.Done != 1 || r.Hits != 4 || len(r.Recovered) != 0 {
		t.Errorf("resets: %+v", r)
	}
	if r := found[reassign]; r.Done != 0 || r.Missed != 1 {
		t.Errorf("reassignments: %+v", r)
	}
	if len(missing) != 1 || missing[0].Violation != unrecovered {
		t.Errorf("missing %v, want one: partition 2 after the reset", missing)
	}
	if middle(kill.Recovered) != 500*time.Millisecond || middle(nil) != 0 {
		t.Errorf("median %v", middle(kill.Recovered))
	}
}

func TestGaps(t *testing.T) {
	a, b := place{0, 1}, place{1, 0}
	each, overall := acknowledgements{a: seconds(1, 2, 8), b: seconds(3, 5, 6, 11)}.gaps()
	want := []gap{{a, 2 * time.Second, 6 * time.Second}, {b, 6 * time.Second, 5 * time.Second}}
	if !slices.Equal(each, want) {
		t.Errorf("gaps %v, want %v", each, want)
	}
	if overall.From != 8*time.Second || overall.Long != 3*time.Second {
		t.Errorf("overall %v", overall)
	}
}

// TestAcknowledgementsAreThoseOfRecords leaves out what failed.
func TestAcknowledgementsAreThoseOfRecords(t *testing.T) {
	h := small()
	h.strong(0).Answered = 5 * time.Second
	h.strong(1).Status = possibly
	got := h.acknowledgements()[place{strong, 1}]
	if !slices.Equal(got, seconds(2, 2, 2, 2, 5)) {
		t.Errorf("%v", got)
	}
}

// TestReport looks for the figures of a small history.
func TestReport(t *testing.T) {
	h := small()
	h.strong(5).Status, h.strong(5).Offset = possibly, -1
	h.strong(3).Answers = 2
	h.strong(4).Answered = 9 * time.Second
	h.strong(4).Due = 0
	c := &campaign{seed: 77, length: 2 * time.Minute, resolved: 30 * time.Millisecond, history: h, faults: []fault{
		{Kind: killLeader, From: 3 * time.Second, To: 5 * time.Second, Affected: []place{{strong, 1}}, Hits: 1},
		{Kind: reset},
	}}
	text := report(c, "4.x", check(h))
	for _, want := range []string{
		`seed 77, 2m0s of faults, 3 brokers of Kafka 4\.x`,
		`kill -9 a leader, restart it +1 +0 +1 +4\.0 s +4\.0 s +7\.0 s`,
		`reset connections +0 +1 +0 +- +- +-`,
		`of one partition 7\.0 s \(strong-1, from 2\.0 s on\)`,
		`last outcome 30 ms after`,
		`numbered batches, acks all +5 +1 +0 +0 +6`,
		`acks 1 +4 +0 +0 +0 +4`,
		`possibly persisted and in the log: 1;`,
		`answered-twice 1;`,
		`lost-write 0;`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}
