package simulation

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Class is a kind of violation, in Jepsen's words where Jepsen has one.
type Class string

// The classes.
const (
	LostWrite           Class = "lost-write"           // acknowledged, and in no log
	Duplicate           Class = "duplicate"            // a numbered record stands in the log more than once
	NonmonotonicSend    Class = "nonmonotonic-send"    // a partition's order is not the order of admission
	InconsistentOffsets Class = "inconsistent-offsets" // acknowledged at an offset that holds something else
	Unseen              Class = "unseen"               // acknowledged, and no reader will see it
	AbortedRead         Class = "aborted-read"         // answered "not persisted", and in the log
	FlushEarly          Class = "flush-early"          // Flush returned before an outcome that it waits for
	CloseEarly          Class = "close-early"          // so did Close
	Phantom             Class = "phantom"              // in the log, and produced by nobody
	SequenceGap         Class = "sequence-gap"         // the sequences of an epoch are not 0, 1, 2, …
	SequenceReused      Class = "sequence-reused"      // a sequence named two records
	Renumbered          Class = "renumbered"           // a record that a broker had taken was sent under another sequence
	NoOutcome           Class = "no-outcome"           // admitted, and never answered
	ManyOutcomes        Class = "many-outcomes"        // answered more than once
	WrongOutcome        Class = "wrong-outcome"        // an answer that contradicts itself or the record
	LateOutcome         Class = "late-outcome"         // answered after its own deadline
	BufferExceeded      Class = "buffer-exceeded"      // more memory was charged than the budget has
	Leak                Class = "leak"                 // memory, actors or callers are left behind
	NotLive             Class = "not-live"             // after healing, a record is not acknowledged
	Wedged              Class = "wedged"               // an actor or a caller waits for ever
	Protocol            Class = "protocol"             // what no client may send a broker or tell a transport
	RuntimeError        Class = "runtime-error"        // the runtime's own word that it is broken
	Panic               Class = "panic"                // a panic that nobody planned
	Endless             Class = "endless"              // turns without an end
)

// Violation is one promise that did not hold.
type Violation struct {
	Class Class
	Text  string
}

// String returns class and text.
func (v Violation) String() string { return string(v.Class) + ": " + v.Text }

// Outcome is how an operation ended.
type Outcome int

// The outcomes. Unknown is Jepsen's "info": it may have happened or not, and
// neither is a violation.
const (
	Unanswered Outcome = iota
	OK
	Fail
	Unknown
)

// Write is one record that somebody produced, and what was said of it.
type Write struct {
	ID    uint64
	Value string
	Topic string
	// Asked is the partition it was produced to; −1: the partitioner's choice.
	Asked int32
	// Line and Order say what came before what: records of one line were admitted
	// one after the other, in ascending Order. Order 0: it was never admitted.
	Line  int
	Order int

	// Answers is how often it was answered.
	Answers   int
	Outcome   Outcome
	Error     string
	AnswerFor string // the topic of the answer
	Partition int32
	Offset    int64 // −1: not known

	// Admitted and Answered are virtual times; Deadline is when the answer is
	// late, 0 for never.
	Admitted, Answered, Deadline time.Duration
	// HeldUp is for how long callbacks have held up answers meanwhile.
	HeldUp time.Duration
	// Context is the end of its context, 0 for none; EndedByContext says that
	// this is what it failed with.
	Context        time.Duration
	EndedByContext bool
	// Weak is acks=1 for this record alone, Unnumbered one without a sequence;
	// Silent is acks=0: OK says that it was handed over, and nothing else.
	Weak, Unnumbered, Silent bool
	// GaveUp says that it failed since it may be tried again once only.
	GaveUp bool
	// MustFail is for a record that has no place to go to, Probe for one that
	// must be acknowledged since everything has healed.
	MustFail, Probe bool
	// FindsOut is for a probe that may be the first to meet what happened before, and
	// FoundOut says that this is what its error tells. A broker that has lost what it
	// knew of the producer, by an unclean election or with records that were deleted,
	// answers OUT_OF_ORDER_SEQUENCE_NUMBER or UNKNOWN_PRODUCER_ID; a topic may turn
	// out to be another of its name. Either fails the probe only if an attempt is in
	// doubt (KAFKA-9199): otherwise it is sent again.
	FindsOut, FoundOut bool
}

// Entry is one record in a log.
type Entry struct {
	Value      []byte
	ProducerID int64 // −1: not numbered
	Epoch      int16
	Sequence   int32
	// Start is where the log began when it was appended: what stood before had
	// been deleted, and a broker may have forgotten it.
	Start int64
	// First says that it came in a batch that its broker accepted without knowing
	// anything of the producer: such a broker takes any sequence.
	First bool
	// Nth counts the batches that any leader of the partition had appended before:
	// epochs do not say it, since a deposed leader may not know that it is.
	Nth int
	// Offset is where it stands, or stood when it was cut off, and LeaderEpoch the
	// epoch of the leader that appended it.
	Offset      int64
	LeaderEpoch int32
	// Late says that the topic had been deleted, which its leader had not heard.
	Late bool
	// Gone says that nothing is at this offset any more.
	Gone bool
}

// Log is the log of one partition, in one life of its topic.
type Log struct {
	Topic     string
	Partition int32
	// Life counts how often the topic was deleted and created again.
	Life int
	// Lost is for what stood at a leader and was cut off; its offsets are those of
	// its entries and not its indices. Committed says that it had been readable
	// before: replication has lost it, by an unclean election.
	Lost, Committed bool
	Entries         []Entry
	// Visible is the number of entries that readers see, with those before Start:
	// they were deleted.
	Start, Visible int64
}

// Attempt is one record as a broker was sent it, appended or not.
type Attempt struct {
	Topic     string
	Partition int32
	Life      int
	Entry     Entry
	// Refused says that the broker did not append it.
	Refused bool
}

// History is everything that the checker judges.
type History struct {
	Writes   []Write
	Logs     []Log
	Attempts []Attempt
	// Forgets says that brokers have forgotten producers for being quiet, and not only
	// with their records.
	Forgets bool
	// Together are records that were appended under one lock.
	Together []Together
	// Numbered is acks=all with idempotence: no duplicates. Weak is acks=1: what
	// only a deposed leader had is lost though it was acknowledged.
	Numbered, Weak bool
	// BufferLimit and BufferPeak are the budget and the most that was in use if more
	// than that was, without what is charged to it whether it is full or not;
	// BufferLeft, UnansweredLeft, ActorsLeft and CallersLeft are what remained
	// when everything was over.
	BufferLimit, BufferPeak    int
	BufferLeft, UnansweredLeft int
	ActorsLeft                 []string
	CallersLeft                int
	// Observed is what was seen to be wrong while it happened.
	Observed []Violation
}

// contextSlack is how late the runtime may be with the end of a context: it looks
// at them every so often, not at each of their ends.
const contextSlack = 500 * time.Millisecond

// standing is where a value stands.
type standing struct {
	log    int // index in Logs
	offset int64
}

type check struct {
	*History
	*scratch
	lost       bool // something was cut off
	violations []Violation
}

// scratch is the memory that one check leaves to the next.
type scratch struct {
	known map[string]int32 // by value: the index in Writes
	found [][]standing     // by index in Writes
	once  []standing
	slots []int
	taken []sequenceName // by index in Writes: what a broker took it under
	kept  map[lane]tail
	named map[sequenceName]int32
	index map[uint64]int
	acked map[standing]int
	room  []logPlace
}

var scratches = sync.Pool{New: func() any {
	return &scratch{
		known: make(map[string]int32), kept: make(map[lane]tail), named: make(map[sequenceName]int32),
		index: make(map[uint64]int), acked: make(map[standing]int),
	}
}}

// leave ends the use of the scratch.
func (c *check) leave() {
	s := c.scratch
	c.scratch = nil
	clear(s.known)
	clear(s.found)
	clear(s.kept)
	clear(s.named)
	clear(s.index)
	clear(s.acked)
	scratches.Put(s)
}

func (c *check) add(class Class, format string, args ...any) {
	c.violations = append(c.violations, Violation{class, fmt.Sprintf(format, args...)})
}

// Check says what is wrong with a history. It is a function of the history alone.
func Check(h *History) []Violation {
	c := &check{History: h, scratch: scratches.Get().(*scratch), violations: append([]Violation(nil), h.Observed...)}
	defer c.leave()
	c.find()
	for i := range h.Writes {
		w := &h.Writes[i]
		if w.Order == 0 {
			continue
		}
		c.answer(w)
		c.standing(i)
	}
	c.order()
	c.together()
	c.numbering()
	c.sequences()
	c.reuse()
	c.remains()
	return c.violations
}

// find looks up where each value stands.
func (c *check) find() {
	known := c.known
	for i := range c.Writes {
		known[c.Writes[i].Value] = int32(i)
	}
	c.found = append(c.found[:0], make([][]standing, len(c.Writes))...)
	c.once = slices.Grow(c.once[:0], len(c.Writes))[:len(c.Writes)] // most stand once, and need no slice of their own
	once := c.once
	for l := range c.Logs {
		c.lost = c.lost || c.Logs[l].Lost
		for offset, e := range c.Logs[l].Entries {
			if e.Gone {
				continue
			}
			i, ok := known[string(e.Value)]
			if !ok {
				c.add(Phantom, "partition %s/%d holds at %d what nobody produced: %.40q", c.Logs[l].Topic, c.Logs[l].Partition, offset, e.Value)
				continue
			}
			if c.found[i] == nil {
				c.found[i] = once[i : i : i+1]
			}
			c.found[i] = append(c.found[i], standing{l, int64(offset)})
		}
	}
}

// kept is where a record stands in logs that were not cut off.
func (c *check) kept(write int) []standing {
	all := c.found[write]
	for i, s := range all {
		if c.Logs[s.log].Lost {
			kept := append([]standing(nil), all[:i]...)
			for _, s := range all[i:] {
				if !c.Logs[s.log].Lost {
					kept = append(kept, s)
				}
			}
			return kept
		}
	}
	return all
}

// answer judges the outcome by itself.
func (c *check) answer(w *Write) {
	switch {
	case w.Answers == 0:
		c.add(NoOutcome, "record %d, admitted at %v, was never answered", w.ID, w.Admitted)
		return
	case w.Answers > 1:
		c.add(ManyOutcomes, "record %d was answered %d times", w.ID, w.Answers)
	}
	if (w.Error == "") != (w.Outcome == OK) {
		c.add(WrongOutcome, "record %d: outcome %d with error %q", w.ID, w.Outcome, w.Error)
	}
	if w.AnswerFor != w.Topic {
		c.add(WrongOutcome, "record %d for topic %q was answered for topic %q", w.ID, w.Topic, w.AnswerFor)
	}
	if w.Asked >= 0 && w.Partition != w.Asked {
		c.add(WrongOutcome, "record %d asked for partition %d and was answered %d", w.ID, w.Asked, w.Partition)
	}
	if w.MustFail && w.Outcome != Fail {
		c.add(WrongOutcome, "record %d, which has no place to go to, has outcome %d", w.ID, w.Outcome)
	}
	if w.Probe && w.Outcome != OK && !w.GaveUp && !(w.FindsOut && w.Outcome == Unknown && w.FoundOut) {
		c.add(NotLive, "after healing, record %d for partition %d failed: %s", w.ID, w.Asked, w.Error)
	}
	at := w.Answered - w.HeldUp
	if w.Deadline > 0 && at > w.Deadline {
		c.add(LateOutcome, "record %d, admitted at %v, was answered at %v, limit %v (%s)", w.ID, w.Admitted, w.Answered, w.Deadline, w.Error)
	}
	switch {
	case w.Context == 0 && w.EndedByContext:
		c.add(WrongOutcome, "record %d has no context and failed with one: %s", w.ID, w.Error)
	case w.Context == 0 || w.Deadline == 0:
	case at > w.Context+contextSlack:
		c.add(LateOutcome, "record %d was answered %v after the end of its context (%s)", w.ID, w.Answered-w.Context, w.Error)
	case w.EndedByContext && w.Answered < w.Context:
		c.add(WrongOutcome, "record %d failed with its context's end, %v before it", w.ID, w.Context-w.Answered)
	}
}

// standing judges the outcome against the logs.
func (c *check) standing(i int) {
	w := &c.Writes[i]
	if w.Answers == 0 {
		return
	}
	at := c.kept(i)
	if len(at) > 1 && c.Numbered && !w.Unnumbered && !c.deletedBefore(at) {
		c.add(Duplicate, "record %d stands %d times in the log, %s (outcome %d, %s)", w.ID, len(at), c.places(at), w.Outcome, w.Error)
	}
	switch w.Outcome {
	case OK:
		if w.Silent {
			return
		}
		weak := c.Weak || w.Weak
		if len(at) == 0 {
			if !c.lostByCluster(i, weak) {
				c.add(LostWrite, "record %d was acknowledged at %s/%d@%d and is in no log", w.ID, w.AnswerFor, w.Partition, w.Offset)
			}
			return
		}
		for _, s := range at {
			l := &c.Logs[s.log]
			if l.Topic != w.Topic || l.Partition != w.Partition || w.Offset >= 0 && s.offset != w.Offset {
				continue
			}
			if s.offset >= l.Visible {
				c.add(Unseen, "record %d was acknowledged at %s/%d@%d, and readers see no more than %d records", w.ID, l.Topic, l.Partition, s.offset, l.Visible)
			}
			return
		}
		if !c.lostByCluster(i, weak) {
			c.add(InconsistentOffsets, "record %d was acknowledged at %s/%d@%d and stands at %s", w.ID, w.AnswerFor, w.Partition, w.Offset, c.places(at))
		}
	case Fail:
		if len(at) > 0 {
			c.add(AbortedRead, "record %d was answered \"not persisted\" (%s) and stands at %s", w.ID, w.Error, c.places(at))
		}
	}
}

// deletedBefore reports whether of several copies of a record each was deleted
// before the next was appended.
func (c *check) deletedBefore(at []standing) bool {
	for i := 1; i < len(at); i++ {
		if at[i].log != at[i-1].log || at[i-1].offset >= c.Logs[at[i].log].Entries[at[i].offset].Start {
			return false
		}
	}
	return true
}

// lostByCluster reports whether a copy of a record could be read at the offset where
// it was acknowledged, and was then lost by the cluster: a leader was elected that
// did not have it. With acks=1 it need not have been readable: the leader
// acknowledges what nobody else has. Without an offset (a duplicate) it is any copy.
func (c *check) lostByCluster(i int, weak bool) bool {
	w := &c.Writes[i]
	for _, s := range c.found[i] {
		l := &c.Logs[s.log]
		if l.Lost && (l.Committed || weak) && l.Topic == w.Topic && l.Partition == w.Partition && (w.Offset < 0 || l.Entries[s.offset].Offset == w.Offset) {
			return true
		}
	}
	return false
}

func (c *check) places(at []standing) string {
	text := ""
	for _, s := range at {
		l := &c.Logs[s.log]
		text += fmt.Sprintf(" %s/%d@%d", l.Topic, l.Partition, s.offset)
		if l.Life > 0 {
			text += fmt.Sprintf(" (life %d)", l.Life)
		}
	}
	if text == "" {
		return "nowhere"
	}
	return text[1:]
}

// remains judges what was left, and what was used.
func (c *check) remains() {
	if c.BufferPeak > c.BufferLimit {
		c.add(BufferExceeded, "%d bytes were charged to a buffer of %d", c.BufferPeak, c.BufferLimit)
	}
	if c.BufferLeft != 0 {
		c.add(Leak, "%d bytes are still charged to the buffer", c.BufferLeft)
	}
	if c.UnansweredLeft != 0 {
		c.add(NoOutcome, "the runtime counts %d records without an outcome", c.UnansweredLeft)
	}
	if len(c.ActorsLeft) > 0 {
		c.add(Leak, "actors are left: %v", c.ActorsLeft)
	}
	if c.CallersLeft != 0 {
		c.add(Wedged, "%d callers wait for ever", c.CallersLeft)
	}
}
