package chaos

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	strong  = 0 // topics of the small history
	weak    = 1
	growing = 2
)

// small is a history without a fault: line 0 sends records 0 to 5 to the strong
// topic, line 1 records 0 to 3 to the weak one.
func small() *history {
	answered := func(topic uint8, offset int64) record {
		return record{
			Topic: topic, Status: persisted, Answers: 1, Key: 7, Partition: 1, Offset: offset,
			Sent: time.Second, Due: 3 * time.Second, Answered: 2 * time.Second,
		}
	}
	h := &history{
		Topics:  []topic{{"strong", true, true}, {"weak", false, true}, {"growing", true, false}},
		Lines:   []line{{Producer: "a"}, {Producer: "b"}, {Producer: "c"}},
		Reasons: []string{"", "delivery timeout"},
	}
	for n := range 6 {
		h.Lines[0].Records = append(h.Lines[0].Records, answered(strong, int64(n)))
		h.Reads = append(h.Reads, read{strong, 1, int64(n), idOf(0, n), 7, true})
	}
	for n := range 4 {
		h.Lines[1].Records = append(h.Lines[1].Records, answered(weak, int64(n)))
		h.Reads = append(h.Reads, read{weak, 1, int64(n), idOf(1, n), 7, true})
	}
	return h
}

func (h *history) strong(n int) *record { return &h.Lines[0].Records[n] }
func (h *history) weak(n int) *record   { return &h.Lines[1].Records[n] }

// unread takes read number i out and closes the gap, as if the record had never
// been appended.
func (h *history) unread(i int) {
	gone := h.Reads[i]
	h.Reads = slices.Delete(h.Reads, i, i+1)
	for j := range h.Reads {
		if r := &h.Reads[j]; r.Topic == gone.Topic && r.Partition == gone.Partition && r.Offset > gone.Offset {
			r.Offset--
			if sent := h.find(r.ID); sent.Offset > gone.Offset {
				sent.Offset--
			}
		}
	}
}

// TestCheckerSees shows the checker each violation, and what is none.
func TestCheckerSees(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*history)
		want []string
	}{
		{"nothing", func(*history) {}, nil},
		{"an acknowledged record is not in the log", func(h *history) { h.unread(2) }, []string{inconsistent, lostWrite}},
		{"acknowledged without an offset, and not in the log", func(h *history) {
			h.strong(2).Offset = -1
			h.unread(2)
		}, []string{lostWrite}},
		{"acknowledged without an offset, and in the log", func(h *history) { h.strong(2).Offset = -1 }, nil},
		{"the log ends before an acknowledged record", func(h *history) { h.unread(5) }, []string{unseen}},
		{"a record stands twice", func(h *history) {
			h.Reads = slices.Insert(h.Reads, 6, read{strong, 1, 6, idOf(0, 5), 7, true})
		}, []string{duplicate}},
		{"an earlier record stands twice", func(h *history) {
			h.Reads = slices.Insert(h.Reads, 6, read{strong, 1, 6, idOf(0, 3), 7, true})
		}, []string{duplicate, nonmonotonic}},
		{"a record stands in two partitions", func(h *history) {
			h.Reads = append(h.Reads, read{strong, 2, 0, idOf(0, 5), 7, true})
		}, []string{duplicate, keyMoved}},
		{"possibly persisted, and there twice", func(h *history) {
			h.strong(5).Status, h.strong(5).Offset = possibly, -1
			h.Reads = slices.Insert(h.Reads, 6, read{strong, 1, 6, idOf(0, 5), 7, true})
		}, []string{duplicate}},
		{"possibly persisted, and there once", func(h *history) { h.strong(3).Status, h.strong(3).Offset = possibly, -1 }, nil},
		{"possibly persisted, and not there", func(h *history) {
			h.strong(3).Status, h.strong(3).Offset = possibly, -1
			h.unread(3)
		}, nil},
		{"two records changed places", func(h *history) {
			h.Reads[2].ID, h.Reads[3].ID = h.Reads[3].ID, h.Reads[2].ID
			h.strong(2).Offset, h.strong(3).Offset = 3, 2
		}, []string{nonmonotonic}},
		{"a possibly persisted record stands after a later one", func(h *history) {
			h.Reads[2].ID, h.Reads[3].ID = h.Reads[3].ID, h.Reads[2].ID
			h.strong(2).Status, h.strong(2).Offset, h.strong(3).Offset = possibly, -1, 2
		}, []string{nonmonotonic}},
		{"answered with another offset", func(h *history) { h.strong(2).Offset = 4 }, []string{inconsistent}},
		{"answered with another partition", func(h *history) { h.strong(5).Partition = 3 }, []string{inconsistent}},
		{"two records answered with one place", func(h *history) {
			h.strong(2).Offset, h.strong(3).Offset = 3, 3
		}, []string{inconsistent}},
		{"not persisted, and in the log", func(h *history) { h.strong(1).Status = notPersisted }, []string{abortedRead}},
		{"not persisted with acks 1, and in the log", func(h *history) { h.weak(1).Status = notPersisted }, []string{abortedRead}},
		{"not persisted, and not in the log", func(h *history) {
			h.strong(1).Status, h.strong(1).Offset = notPersisted, -1
			h.unread(1)
		}, nil},
		{"refused, and in the log", func(h *history) { h.strong(1).Status, h.strong(1).Answers = refused, 0 }, []string{abortedRead}},
		{"refused, and answered", func(h *history) {
			h.strong(1).Status, h.strong(1).Offset = refused, -1
			h.unread(1)
		}, []string{answeredTwice}},
		{"no outcome", func(h *history) { h.strong(4).Status, h.strong(4).Answers = pending, 0 }, []string{unanswered}},
		{"no outcome, and a record not in the log", func(h *history) {
			h.weak(1).Status, h.weak(1).Answers, h.weak(1).Offset = pending, 0, -1
			h.unread(7)
		}, []string{unanswered}},
		{"two outcomes", func(h *history) { h.strong(4).Answers = 2 }, []string{answeredTwice}},
		{"a late outcome", func(h *history) { h.strong(4).Answered = 4 * time.Second }, []string{lateAnswer}},
		{"persisted with an error", func(h *history) { h.strong(4).BadStatus = true }, []string{contradiction}},
		{"nobody sent it", func(h *history) {
			h.Reads = append(h.Reads, read{strong, 3, 0, idOf(9, 1), 7, true})
		}, []string{phantom}},
		{"sent to another topic", func(h *history) {
			h.Reads = append(h.Reads, read{growing, 0, 0, idOf(0, 1), 7, true})
		}, []string{duplicate, phantom}},
		{"another value", func(h *history) { h.Reads[3].Intact = false }, []string{damaged}},
		{"another key", func(h *history) { h.Reads[3].Key = 8 }, []string{damaged}},
		{"a key in two partitions", func(h *history) {
			h.Lines[2].Records = []record{{Topic: strong, Status: persisted, Answers: 1, Key: 7, Partition: 2}}
			h.Reads = append(h.Reads, read{strong, 2, 0, idOf(2, 0), 7, true})
		}, []string{keyMoved}},
		{"a key in two partitions of a topic that grows", func(h *history) {
			h.Lines[2].Records = []record{
				{Topic: growing, Status: persisted, Answers: 1, Key: 7, Partition: 2},
				{Topic: growing, Status: persisted, Answers: 1, Key: 7, Partition: 3},
			}
			h.Reads = append(h.Reads, read{growing, 2, 0, idOf(2, 0), 7, true}, read{growing, 3, 0, idOf(2, 1), 7, true})
		}, nil},
		{"the consumer skipped a record", func(h *history) { h.Reads = slices.Delete(h.Reads, 2, 3) }, []string{hole, lostWrite}},
		{"acks 1: an acknowledged record is gone", func(h *history) { h.unread(8) }, nil},
		{"acks 1: a retry left a copy", func(h *history) {
			h.Reads = slices.Insert(h.Reads, 6, read{weak, 1, 0, idOf(1, 0), 7, true})
			for n := range 4 {
				h.Reads[7+n].Offset++
				h.weak(n).Offset++
			}
		}, nil},
		{"acks 1: two records changed places", func(h *history) {
			h.Reads[7].ID, h.Reads[8].ID = h.Reads[8].ID, h.Reads[7].ID
			h.weak(1).Offset, h.weak(2).Offset = 2, 1
		}, []string{nonmonotonic}},
		{"no acknowledgement after a fault", func(h *history) { h.Leftovers = []violation{{unrecovered, "x"}} }, []string{unrecovered}},
		{"records without an outcome", func(h *history) { h.Leftovers = []violation{{unresolved, "x"}} }, []string{unresolved}},
		{"too much memory", func(h *history) { h.Leftovers = []violation{{unbounded, "x"}} }, []string{unbounded}},
		{"goroutines", func(h *history) { h.Leftovers = []violation{{leftGoroutines, "x"}} }, []string{leftGoroutines}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := small()
			c.harm(h)
			found := check(h)
			if got := slices.Sorted(maps.Keys(found.Counts)); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q: %+v", got, c.want, found.Violations)
			}
			for kind, count := range found.Counts {
				if count < 1 || !slices.Contains(violationKinds, kind) {
					t.Errorf("%d violations of a kind %q", count, kind)
				}
			}
		})
	}
}

// TestCheckerCounts looks at the figures beside the violations.
func TestCheckerCounts(t *testing.T) {
	h := small()
	h.strong(3).Status, h.strong(3).Offset = possibly, -1
	h.strong(5).Status, h.strong(5).Offset = possibly, -1
	h.strong(1).Offset = -1
	h.unread(8) // weak 2
	h.unread(5) // strong 5
	v := check(h)
	if len(v.Violations) > 0 {
		t.Errorf("violations %+v, want none", v.Violations)
	}
	if v.Outcomes[persisted] != 4 || v.Outcomes[possibly] != 2 || v.Weak[persisted] != 4 || v.PossiblyInLog != 1 ||
		v.NoOffset != 1 || v.WeakLost != 1 || v.WeakCopies != 0 || v.Read != 8 {
		t.Errorf("counted %+v", v)
	}
}

// TestCheckerDescribesSomeAndCountsAll bounds the report of a disaster.
func TestCheckerDescribesSomeAndCountsAll(t *testing.T) {
	h := small()
	for range 100 {
		h.Lines[2].Records = append(h.Lines[2].Records, record{Topic: growing, Sent: time.Second})
	}
	v := check(h)
	if v.Counts[unanswered] != 100 || len(v.Violations) != maxDetails {
		t.Errorf("counted %d, described %d, want 100 and %d", v.Counts[unanswered], len(v.Violations), maxDetails)
	}
}

// TestHistoryIsWritten reads a written history back.
func TestHistoryIsWritten(t *testing.T) {
	h := small()
	h.Seed = 42
	h.strong(3).Status, h.strong(3).Reason = possibly, 1
	name := filepath.Join(t.TempDir(), "history.jsonl")
	if err := h.write(name, map[string]string{"note": "hello"}); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var lines []string
	for scan := bufio.NewScanner(in); scan.Scan(); {
		var value map[string]any
		if err := json.Unmarshal(scan.Bytes(), &value); err != nil {
			t.Fatalf("%q: %v", scan.Text(), err)
		}
		lines = append(lines, scan.Text())
	}
	if len(lines) != 2+10+10 {
		t.Fatalf("%d lines, want 22", len(lines))
	}
	for i, want := range map[int]string{0: `"Seed":42`, 1: "hello", 5: `"Status":"possibly persisted"`, 12: `"ReadID":"a/0/0"`} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %s, want %s in it", i, lines[i], want)
		}
	}
	if !strings.Contains(lines[5], "delivery timeout") {
		t.Errorf("line 5 is %s, want the reason in it", lines[5])
	}
	if err := h.write(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("a file that cannot be made is no error")
	}
}
