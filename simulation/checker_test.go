package simulation

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a history of two records to partition t/0 and one to t/1, with nothing
// wrong.
func good() *History {
	return &History{
		Numbered: true, BufferLimit: 100, BufferPeak: 100,
		Writes: []Write{
			{ID: 1, Value: "a", Topic: "t", AnswerFor: "t", Asked: -1, Order: 1, Answers: 1, Outcome: OK, Offset: 0, Admitted: 1, Answered: 5, Deadline: 9},
			{ID: 2, Value: "b", Topic: "t", AnswerFor: "t", Asked: 0, Order: 2, Answers: 1, Outcome: OK, Offset: 1, Admitted: 2, Answered: 6, Deadline: 9},
			{ID: 3, Value: "c", Topic: "t", AnswerFor: "t", Asked: 1, Order: 3, Answers: 1, Outcome: OK, Partition: 1, Offset: 0, Admitted: 3, Answered: 7, Deadline: 9},
		},
		Logs: []Log{
			{Topic: "t", Partition: 0, Visible: 2, Entries: []Entry{entry("a", 0), entry("b", 1)}},
			{Topic: "t", Partition: 1, Visible: 1, Entries: []Entry{entry("c", 0)}},
		},
		Attempts: []Attempt{
			{Topic: "t", Entry: entry("a", 0)}, {Topic: "t", Entry: entry("b", 1)}, {Topic: "t", Partition: 1, Entry: entry("c", 0)},
		},
	}
}

func entry(value string, sequence int32) Entry {
	return Entry{Value: []byte(value), ProducerID: 7, Epoch: 1, Sequence: sequence}
}

// at puts an entry at an offset under a leader epoch.
func at(e Entry, offset int64, leader int32) Entry {
	e.Offset, e.LeaderEpoch = offset, leader
	return e
}

// first makes an entry one that its broker took without knowing the producer.
func first(e Entry) Entry {
	e.First = true
	return e
}

// findsOut makes a record a probe that a broker has refused since it does not know
// the producer, when another attempt was in doubt.
func findsOut(w *Write) {
	fail(w)
	w.Outcome, w.Probe, w.FindsOut, w.FoundOut = Unknown, true, true, true
}

// fail makes a record one that was refused.
func fail(w *Write) { w.Outcome, w.Error, w.Offset = Fail, "refused", -1 }

// sentAnew sends a record again as the first of another epoch.
func sentAnew(h *History, value string) {
	e := entry(value, 0)
	e.Epoch = 2
	h.Attempts = append(h.Attempts, Attempt{Topic: "t", Entry: e, Refused: true})
}

// TestCheckerSees changes one thing in a good history, and wants it seen, and
// nothing else.
func TestCheckerSees(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *History)
		want   []Class
	}{
		{"a good history", func(*History) {}, nil},
		{"an acknowledged record is gone", func(h *History) { h.Logs[1].Entries = nil }, []Class{LostWrite}},
		{"it is in another partition", func(h *History) { h.Writes[2].Partition, h.Writes[2].Asked = 2, -1 }, []Class{InconsistentOffsets}},
		{"it was cut off with its leader", func(h *History) { h.Logs[1].Lost = true }, []Class{LostWrite}},
		{"so it was, with acks=1", func(h *History) { h.Logs[1].Lost, h.Weak, h.Numbered = true, true, false }, nil},
		{"with acks=1, something was cut off, but not where it was acknowledged", func(h *History) {
			h.Logs[1].Lost, h.Weak, h.Numbered, h.Writes[2].Offset = true, true, false, 4
		}, []Class{LostWrite}},
		{"with acks=1 it is in no log at all", func(h *History) { h.Logs[1].Entries, h.Weak, h.Numbered = nil, true, false }, []Class{LostWrite}},
		{"a record stands twice", func(h *History) { h.Logs[0].Entries = append(h.Logs[0].Entries, entry("b", 2)); h.Logs[0].Visible = 3 }, []Class{Duplicate}},
		{"twice, unnumbered", func(h *History) {
			h.Numbered = false
			h.Logs[0].Entries = append(h.Logs[0].Entries, Entry{Value: []byte("b"), ProducerID: -1})
		}, nil},
		{"between two records of one Send stands another", func(h *History) {
			h.Logs[0].Entries, h.Logs[0].Visible = []Entry{entry("a", 0), entry("c", 1), entry("b", 2)}, 3
			h.Writes[1].Offset, h.Writes[2].Partition, h.Writes[2].Asked, h.Writes[2].Offset, h.Writes[2].Line = 2, 0, 0, 1, 1
			h.Logs[1].Entries, h.Attempts, h.Together = nil, nil, []Together{{[]uint64{1, 2}}}
		}, []Class{NonmonotonicSend}},
		{"between them stands a copy of another that was acknowledged elsewhere", func(h *History) {
			h.Numbered = false
			h.Logs[0].Entries, h.Logs[0].Visible = []Entry{entry("a", 0), entry("c", 1), entry("b", 2), entry("c", 3)}, 4
			h.Writes[1].Offset, h.Writes[2].Partition, h.Writes[2].Asked, h.Writes[2].Offset, h.Writes[2].Line = 2, 0, 0, 3, 1
			h.Attempts, h.Together = nil, []Together{{[]uint64{1, 2}}}
		}, nil},
		{"a record with acks=1 has a sequence", func(h *History) { h.Writes[2].Weak, h.Writes[2].Unnumbered = true, true }, []Class{Protocol}},
		{"a numbered record has none", func(h *History) {
			h.Logs[1].Entries, h.Attempts = []Entry{{Value: []byte("c"), ProducerID: -1}}, nil
		}, []Class{Protocol}},
		{"acks=0: nobody knows where it stands", func(h *History) {
			h.Logs[1].Entries, h.Attempts = nil, nil
			h.Writes[2].Unnumbered, h.Writes[2].Silent, h.Writes[2].Offset = true, true, -1
		}, nil},
		{"once kept, once cut off", func(h *History) {
			h.Logs = append(h.Logs, Log{Topic: "t", Lost: true, Entries: []Entry{entry("b", 1)}})
		}, nil},
		{"the order is another", func(h *History) {
			h.Logs[0].Entries = []Entry{entry("b", 0), entry("a", 1)}
			h.Writes[0].Offset, h.Writes[1].Offset = 1, 0
			h.Attempts = nil
		}, []Class{NonmonotonicSend}},
		{"the order of two lines is another", func(h *History) {
			h.Logs[0].Entries = []Entry{entry("b", 0), entry("a", 1)}
			h.Writes[0].Offset, h.Writes[1].Offset, h.Writes[1].Line = 1, 0, 1
			h.Attempts = nil
		}, nil},
		{"a later record is in an earlier life", func(h *History) {
			h.Logs = append(h.Logs, Log{Topic: "t", Life: 1, Visible: 1, Entries: []Entry{entry("a", 0)}})
			h.Logs[0].Entries, h.Logs[0].Visible = []Entry{entry("b", 0)}, 1
			h.Writes[1].Offset = 0
			h.Attempts = nil
		}, []Class{NonmonotonicSend}},
		{"with acks=1, another try of what was cut off", func(h *History) {
			h.Weak, h.Numbered, h.Attempts = true, false, nil
			h.Logs[0].Entries = []Entry{entry("b", 0), entry("a", 1)}
			h.Logs = append(h.Logs, Log{Topic: "t", Lost: true, Entries: []Entry{at(entry("a", 1), 2, 1)}})
			h.Writes[0].Offset, h.Writes[1].Offset = 2, 0
		}, nil},
		{"two were acknowledged at one offset", func(h *History) { h.Writes[1].Offset = 0 }, []Class{InconsistentOffsets}},
		{"an offset is not known", func(h *History) { h.Writes[1].Offset = -1 }, nil},
		{"readers do not see it", func(h *History) { h.Logs[0].Visible = 1 }, []Class{Unseen}},
		{"not persisted, and in the log", func(h *History) { fail(&h.Writes[1]) }, []Class{AbortedRead}},
		{"not persisted, and cut off", func(h *History) { fail(&h.Writes[2]); h.Logs[1].Lost = true }, nil},
		{"unknown, and in the log", func(h *History) { fail(&h.Writes[1]); h.Writes[1].Outcome = Unknown }, nil},
		{"unknown, and not in the log", func(h *History) {
			fail(&h.Writes[1])
			h.Writes[1].Outcome = Unknown
			h.Logs[0].Entries = h.Logs[0].Entries[:1]
		}, nil},
		{"nobody produced it", func(h *History) { h.Logs[1].Entries = append(h.Logs[1].Entries, entry("x", 1)) }, []Class{Phantom}},
		{"it was changed", func(h *History) { h.Logs[1].Entries[0].Value = []byte("C"); h.Attempts = nil }, []Class{Phantom, LostWrite}},
		{"a sequence is left out", func(h *History) { h.Logs[0].Entries[1].Sequence = 2 }, []Class{SequenceGap}},
		{"the first sequence is not 0", func(h *History) { h.Logs[1].Entries[0].Sequence = 4 }, []Class{SequenceGap}},
		{"a new epoch goes on with the old sequence", func(h *History) { h.Logs[0].Entries[1].Epoch = 2 }, []Class{SequenceGap}},
		{"a new epoch begins at 0", func(h *History) { h.Logs[0].Entries[1].Epoch, h.Logs[0].Entries[1].Sequence = 2, 0 }, nil},
		{"what a broker had taken was sent under another number", func(h *History) { sentAnew(h, "b") }, []Class{Renumbered}},
		{"what it had refused was", func(h *History) {
			for i := range h.Attempts {
				h.Attempts[i].Refused = h.Attempts[i].Refused || string(h.Attempts[i].Entry.Value) == "b"
			}
			sentAnew(h, "b")
		}, nil},
		{"an attempt had the sequence of another record", func(h *History) { h.Attempts = append(h.Attempts, Attempt{Topic: "t", Entry: entry("z", 1)}) }, []Class{SequenceReused}},
		{"the cluster has lost it", func(h *History) { h.Logs[1].Lost, h.Logs[1].Committed = true, true }, nil},
		{"the cluster has lost it elsewhere", func(h *History) {
			h.Logs[1].Lost, h.Logs[1].Committed, h.Logs[1].Partition = true, true, 2
		}, []Class{LostWrite}},
		{"it was deleted, and stands again", func(h *History) {
			again := first(entry("b", 1))
			again.Start = 2
			h.Logs[0].Entries, h.Logs[0].Visible = append(h.Logs[0].Entries, again), 3
		}, nil},
		{"it was deleted, and stands again though the broker knew the producer", func(h *History) {
			again := entry("b", 1)
			again.Start = 2
			h.Logs[0].Entries, h.Logs[0].Visible = append(h.Logs[0].Entries, again), 3
		}, []Class{SequenceGap}},
		{"one before it was deleted, and it stands twice", func(h *History) {
			again := first(entry("b", 2))
			again.Start = 1
			h.Logs[0].Entries, h.Logs[0].Visible = append(h.Logs[0].Entries, again), 3
		}, []Class{Duplicate}},
		{"one before it was deleted, and it stands again", func(h *History) {
			again := first(entry("b", 1))
			again.Start = 1
			h.Logs[0].Entries, h.Logs[0].Visible = append(h.Logs[0].Entries, again), 3
		}, []Class{Duplicate, SequenceGap}},
		{"with acks=0 it is in no log", func(h *History) { h.Logs[1].Entries, h.Writes[2].Silent, h.Writes[2].Unnumbered = nil, true, true }, nil},
		{"nothing stands at an offset any more", func(h *History) {
			h.Logs[0].Entries = append([]Entry{{Gone: true, ProducerID: -1}}, h.Logs[0].Entries...)
			h.Logs[0].Visible, h.Writes[0].Offset, h.Writes[1].Offset = 3, 1, 2
		}, nil},
		{"an attempt was repeated", func(h *History) { h.Attempts = append(h.Attempts, h.Attempts[1]) }, nil},
		{"another partition has the sequence", func(h *History) {
			h.Attempts = append(h.Attempts, Attempt{Topic: "t", Partition: 2, Entry: entry("y", 0)}, Attempt{Topic: "t", Partition: 2, Entry: entry("z", 1)})
		}, nil},
		{"never answered", func(h *History) { h.Writes[1].Answers, h.Writes[1].Outcome = 0, Unanswered }, []Class{NoOutcome}},
		{"never admitted", func(h *History) {
			h.Writes = append(h.Writes, Write{ID: 4, Value: "d", Topic: "t"})
		}, nil},
		{"answered twice", func(h *History) { h.Writes[1].Answers = 2 }, []Class{ManyOutcomes}},
		{"acknowledged with an error", func(h *History) { h.Writes[1].Error = "odd" }, []Class{WrongOutcome}},
		{"failed without one", func(h *History) { h.Writes[1].Outcome = Unknown }, []Class{WrongOutcome}},
		{"answered for another topic", func(h *History) { h.Writes[1].AnswerFor = "u" }, []Class{WrongOutcome}},
		{"answered for another partition", func(h *History) { h.Writes[2].Asked = 0 }, []Class{WrongOutcome}},
		{"acknowledged without a place to go", func(h *History) { h.Writes[2].MustFail = true }, []Class{WrongOutcome}},
		{"answered late", func(h *History) { h.Writes[1].Answered = 10 }, []Class{LateOutcome}},
		{"held up by callbacks", func(h *History) { h.Writes[1].Answered, h.Writes[1].HeldUp = 10, 1 }, nil},
		{"answered long after its context", func(h *History) {
			h.Writes[1].Context, h.Writes[1].Answered, h.Writes[1].Deadline = 3, 4+contextSlack, time.Hour
		}, []Class{LateOutcome}},
		{"ended by a context that had not", func(h *History) {
			fail(&h.Writes[1])
			h.Writes[1].Outcome, h.Writes[1].Context, h.Writes[1].EndedByContext = Unknown, 8, true
		}, []Class{WrongOutcome}},
		{"ended by a context that it does not have", func(h *History) {
			fail(&h.Writes[1])
			h.Writes[1].Outcome, h.Writes[1].EndedByContext = Unknown, true
		}, []Class{WrongOutcome}},
		{"a probe fails", func(h *History) { fail(&h.Writes[1]); h.Writes[1].Outcome, h.Writes[1].Probe = Unknown, true }, []Class{NotLive}},
		{"a probe finds out that it was forgotten", func(h *History) { findsOut(&h.Writes[1]) }, nil},
		{"a probe that should know fails for it", func(h *History) { findsOut(&h.Writes[1]); h.Writes[1].FindsOut = false }, []Class{NotLive}},
		{"it fails for something else", func(h *History) { findsOut(&h.Writes[1]); h.Writes[1].FoundOut = false }, []Class{NotLive}},
		{"it fails though nothing was in doubt", func(h *History) {
			findsOut(&h.Writes[1])
			h.Writes[1].Outcome, h.Logs[0].Entries, h.Logs[0].Visible = Fail, h.Logs[0].Entries[:1], 1
		}, []Class{NotLive}},
		{"too much memory", func(h *History) { h.BufferPeak = 101 }, []Class{BufferExceeded}},
		{"memory is left", func(h *History) { h.BufferLeft = 1 }, []Class{Leak}},
		{"records are left", func(h *History) { h.UnansweredLeft = 1 }, []Class{NoOutcome}},
		{"an actor is left", func(h *History) { h.ActorsLeft = []string{"broker/1"} }, []Class{Leak}},
		{"a caller waits", func(h *History) { h.CallersLeft = 1 }, []Class{Wedged}},
		{"what was observed is kept", func(h *History) { h.Observed = []Violation{{Protocol, "a frame"}} }, []Class{Protocol}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := good()
			c.change(h)
			wants(t, h, c.want)
		})
	}
}

func wants(t *testing.T, h *History, want []Class) {
	t.Helper()
	var got []Class
	for _, v := range Check(h) {
		if !slices.Contains(got, v.Class) {
			got = append(got, v.Class)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("want %v, got %v: %v", want, got, Check(h))
	}
}
