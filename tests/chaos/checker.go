package chaos

import (
	"fmt"
	"maps"
	"slices"
)

// The violations, in Jepsen's words where Jepsen has one.
const (
	lostWrite      = "lost-write"           // acknowledged, at or before the highest offset read, and not read
	unseen         = "unseen"               // acknowledged beyond the highest offset read
	duplicate      = "duplicate"            // one record at two places of the log
	nonmonotonic   = "nonmonotonic-send"    // a record stands after one that was admitted later
	inconsistent   = "inconsistent-offsets" // answered with one place, read at another; or one place answered twice
	abortedRead    = "aborted-read"         // reported not persisted, or refused, and read
	unanswered     = "unanswered"           // admitted, and no outcome
	answeredTwice  = "answered-twice"       // two outcomes, or an outcome of what was refused
	lateAnswer     = "late-answer"          // an outcome after the delivery timeout, or the context's end, and the slack
	contradiction  = "contradiction"        // persisted with an error, another topic, and the like
	phantom        = "phantom"              // read, and nobody sent it
	damaged        = "damaged"              // read with a key or value that is not its own
	keyMoved       = "key-moved"            // one key in two partitions of a topic that does not grow
	hole           = "hole"                 // an offset that the consumer was not shown
	unrecovered    = "unrecovered"          // no acknowledgement on a partition after a fault had ended
	unresolved     = "unresolved"           // records without an outcome long after everything was healed
	unbounded      = "unbounded"            // more memory than the limits allow
	leftGoroutines = "left-goroutines"      // goroutines after Close
)

var violationKinds = []string{
	lostWrite, unseen, duplicate, nonmonotonic, inconsistent, abortedRead, unanswered, answeredTwice, lateAnswer,
	contradiction, phantom, damaged, keyMoved, hole, unrecovered, unresolved, unbounded, leftGoroutines,
}

// violation is one broken promise.
type violation struct {
	Violation string
	Detail    string
}

// maxDetails bounds the violations of one kind that are described; all are
// counted.
const maxDetails = 20

// verdict is what the checker says.
type verdict struct {
	Violations []violation    // with at most maxDetails of a kind
	Counts     map[string]int // by kind
	Outcomes   map[status]int // numbered topics
	Weak       map[status]int // topics with acks 1
	// Of the records that were reported possibly persisted, those in the log.
	PossiblyInLog int
	// Acknowledged without an offset: the broker recognised a duplicate that it
	// no longer remembered the place of.
	NoOffset int
	// What acks 1 allows: acknowledged and gone, more than one copy.
	WeakLost, WeakCopies int
	Read                 int
}

func (v *verdict) add(kind, format string, args ...any) {
	v.Counts[kind]++
	if v.Counts[kind] <= maxDetails {
		v.Violations = append(v.Violations, violation{kind, fmt.Sprintf(format, args...)})
	}
}

// check compares what was answered with what was read. It is a pure function.
func check(h *history) *verdict {
	v := &verdict{Counts: map[string]int{}, Outcomes: map[status]int{}, Weak: map[status]int{}, Read: len(h.Reads)}
	for _, left := range h.Leftovers {
		v.add(left.Violation, "%s", left.Detail)
	}
	c := &checking{history: h, verdict: v}
	c.index()
	c.checkLog()
	c.checkAnswers()
	c.checkOrder()
	return v
}

// spot is a place in a log.
type spot struct {
	place
	offset int64
}

func (s spot) name(h *history) string {
	return fmt.Sprintf("%s-%d@%d", h.Topics[s.Topic].Name, s.Partition, s.offset)
}

type checking struct {
	*history
	*verdict
	highest map[place]int64
	first   [][]int32          // by line and place: one more than the index of the first read of a record
	more    map[uint64][]int32 // the indices of further reads, of the few records that have some
}

func (c *checking) index() {
	c.more, c.highest = map[uint64][]int32{}, map[place]int64{}
	for l := range c.Lines {
		c.first = append(c.first, make([]int32, len(c.Lines[l].Records)))
	}
	for i, r := range c.Reads {
		in := place{r.Topic, r.Partition}
		if c.find(r.ID) != nil {
			if l, n := placeOf(r.ID); c.first[l][n] == 0 {
				c.first[l][n] = int32(i + 1)
			} else {
				c.more[r.ID] = append(c.more[r.ID], int32(i))
			}
		}
		if high, known := c.highest[in]; !known || r.Offset > high {
			c.highest[in] = r.Offset
		}
	}
}

// at is where a record was read.
func (c *checking) at(id uint64) []spot {
	l, n := placeOf(id)
	first := c.first[l][n]
	if first == 0 {
		return nil
	}
	spots := []spot{c.spotOf(first - 1)}
	for _, i := range c.more[id] {
		spots = append(spots, c.spotOf(i))
	}
	return spots
}

func (c *checking) spotOf(i int32) spot {
	r := &c.Reads[i]
	return spot{place{r.Topic, r.Partition}, r.Offset}
}

// checkLog looks at what was read by itself.
func (c *checking) checkLog() {
	next := map[place]int64{}
	type keyOf struct {
		topic uint8
		key   uint16
	}
	home := map[keyOf]int32{}
	for _, r := range c.Reads {
		at := spot{place{r.Topic, r.Partition}, r.Offset}
		if r.Offset != next[at.place] {
			c.add(hole, "%s follows offset %d", at.name(c.history), next[at.place]-1)
		}
		next[at.place] = r.Offset + 1
		sent := c.find(r.ID)
		switch {
		case sent == nil || sent.Topic != r.Topic:
			c.add(phantom, "%s holds record %s, which nobody sent there", at.name(c.history), c.name(r.ID))
			continue
		case !r.Intact || sent.Key != r.Key:
			c.add(damaged, "%s holds record %s with another key or value", at.name(c.history), c.name(r.ID))
		case c.Topics[r.Topic].Fixed:
			key := keyOf{r.Topic, r.Key}
			if known, seen := home[key]; seen && known != r.Partition {
				c.add(keyMoved, "key %d of %s stands in partition %d, and in %d", r.Key, c.Topics[r.Topic].Name, known, r.Partition)
			}
			home[key] = r.Partition
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.more)) {
		spots := c.at(id)
		if c.Topics[spots[0].Topic].Numbered {
			c.add(duplicate, "record %s (%v) stands at %v", c.name(id), c.find(id).Status, c.names(spots))
		} else {
			c.WeakCopies += len(spots) - 1
		}
	}
}

func (c *checking) names(spots []spot) []string {
	names := make([]string, len(spots))
	for i, s := range spots {
		names[i] = s.name(c.history)
	}
	return names
}

// checkAnswers looks at each record: at its outcome, and whether the log agrees.
func (c *checking) checkAnswers() {
	answeredAt := map[spot]uint64{}
	for l := range c.Lines {
		for n := range c.Lines[l].Records {
			id, r := idOf(l, n), &c.Lines[l].Records[n]
			numbered := c.Topics[r.Topic].Numbered
			if numbered {
				c.Outcomes[r.Status]++
			} else {
				c.Weak[r.Status]++
			}
			c.checkOutcome(id, r)
			found := c.at(id)
			switch r.Status {
			case persisted:
				c.checkPersisted(id, r, found, answeredAt)
			case notPersisted, refused:
				if len(found) > 0 {
					c.add(abortedRead, "record %s (%v: %s) stands at %v", c.name(id), r.Status, c.reason(r), c.names(found))
				}
			case possibly:
				if numbered && len(found) > 0 {
					c.PossiblyInLog++
				}
			}
		}
	}
}

func (c *checking) checkOutcome(id uint64, r *record) {
	switch {
	case r.Status == refused && r.Answers > 0:
		c.add(answeredTwice, "record %s was refused (%s) and got an outcome as well", c.name(id), c.reason(r))
		return
	case r.Status == refused:
		return
	case r.Answers == 0 || r.Status == pending:
		c.add(unanswered, "record %s was admitted at %v and has no outcome", c.name(id), r.Sent)
		return
	case r.Answers > 1:
		c.add(answeredTwice, "record %s got %d outcomes", c.name(id), r.Answers)
	}
	if r.BadStatus {
		c.add(contradiction, "record %s: %v with %q", c.name(id), r.Status, c.reason(r))
	}
	if r.Due > 0 && r.Answered > r.Due {
		c.add(lateAnswer, "record %s was sent at %v, due at %v and answered (%v) at %v", c.name(id), r.Sent, r.Due, r.Status, r.Answered)
	}
}

func (c *checking) checkPersisted(id uint64, r *record, found []spot, answeredAt map[spot]uint64) {
	said := spot{place{r.Topic, r.Partition}, r.Offset}
	numbered := c.Topics[r.Topic].Numbered
	if r.Offset < 0 {
		c.NoOffset++
	} else {
		if other, twice := answeredAt[said]; twice && numbered {
			c.add(inconsistent, "records %s and %s were both answered %s", c.name(other), c.name(id), said.name(c.history))
		}
		answeredAt[said] = id
	}
	if len(found) == 0 {
		high, known := c.highest[said.place]
		switch {
		case !numbered:
			c.WeakLost++
		case known && r.Offset <= high:
			c.add(lostWrite, "record %s was acknowledged at %s, the log goes to offset %d, and it is not in it", c.name(id), said.name(c.history), high)
		default:
			c.add(unseen, "record %s was acknowledged at %s, and the log ends before", c.name(id), said.name(c.history))
		}
		return
	}
	if !numbered {
		return // with acks 1 the leader that answered may have lost its log, and an older copy may be left
	}
	if !slices.ContainsFunc(found, func(s spot) bool {
		return s.place == said.place && (s.offset == said.offset || r.Offset < 0)
	}) {
		c.add(inconsistent, "record %s was answered %s and stands at %v", c.name(id), said.name(c.history), c.names(found))
	}
}

// checkOrder walks the logs. In a numbered topic every record counts. With acks 1
// those count that stand where they were acknowledged: copies that a retry left
// behind, and what a dead leader took with it, have no order.
func (c *checking) checkOrder() {
	type lane struct {
		place
		line int
	}
	last := map[lane]uint64{}
	for _, r := range c.Reads {
		sent := c.find(r.ID)
		if sent == nil || sent.Topic != r.Topic {
			continue
		}
		if !c.Topics[r.Topic].Numbered && (sent.Status != persisted || sent.Offset != r.Offset || sent.Partition != r.Partition) {
			continue
		}
		l, _ := placeOf(r.ID)
		in := lane{place{r.Topic, r.Partition}, l}
		before, known := last[in]
		if known && r.ID < before {
			c.add(nonmonotonic, "record %s (%v) stands at %s, after record %s (%v), which was admitted later",
				c.name(r.ID), sent.Status, spot{in.place, r.Offset}.name(c.history), c.name(before), c.find(before).Status)
		}
		if !known || r.ID > before {
			last[in] = r.ID
		}
	}
}
