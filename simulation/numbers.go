package simulation

import "fmt"

// producerEpoch is one identity of a producer.
type producerEpoch struct {
	id    int64
	epoch int16
}

// sequences judges that each log has the sequences of an epoch without a hole,
// from 0. A broker sees to it itself as long as it knows the producer, so all that
// is left to judge is what a broker took that knew nothing of it.
func (c *check) sequences() {
	for i := range c.Logs {
		l := &c.Logs[i]
		if l.Lost {
			continue
		}
		type place struct{ next, last int64 } // the sequence; the offset, and 1 more
		places := make(map[producerEpoch]place, 4)
		var at place // of key: most follow one of the same epoch
		key := producerEpoch{id: -1}
		for offset := range l.Entries {
			e := &l.Entries[offset]
			if e.ProducerID < 0 {
				continue
			}
			if k := (producerEpoch{e.ProducerID, e.Epoch}); k != key {
				places[key] = at
				key, at = k, places[k]
			}
			if int64(e.Sequence) != at.next {
				if why := c.gap(l, e, at.next, at.last); why != "" {
					c.add(SequenceGap, "partition %s/%d@%d: producer %d, epoch %d goes on with sequence %d, expected %d: %s", l.Topic, l.Partition, offset, key.id, key.epoch, e.Sequence, at.next, why)
				}
			}
			at = place{(int64(e.Sequence) + 1) & 0x7fffffff, int64(offset) + 1}
		}
	}
}

// gap says what is wrong with an entry whose sequence is not the next of its epoch
// in its log; end is where the epoch ended there, 0 if it had no record.
//
// Nothing is wrong if its broker knew nothing of the producer, so that it took any
// sequence, and if the client could not know: a broker had told it that it has
// records of the epoch, and had lost them, by an unclean election or since they
// were deleted and it was restarted. What was lost explains the sequences that it
// had. Others were on their way as well and never came into a log, or not even to a
// broker, so what they named has failed. Or brokers refused it, and it went under
// the next epoch: then the entry, which was on its way behind it, has failed in
// doubt.
//
// And nothing is wrong if the one before stood there when it was appended. The log
// may have a hole by now: a replica that is cut in the middle of a batch drops all
// of it. Or it was deleted, and the replica that is left has others below the log's
// start: it is not cut back to where it parted from a leader that does not have the
// place any more.
func (c *check) gap(l *Log, e *Entry, next, end int64) string {
	lost := make(map[int64]bool)
	earlier, last := end > 0, int64(e.Sequence)
	deleted := max(l.Start, e.Start)
	stood := false
	for i := range c.Logs {
		o := &c.Logs[i]
		if !o.Lost || o.Topic != l.Topic || o.Partition != l.Partition || o.Life != l.Life {
			continue
		}
		for k := range o.Entries {
			x := &o.Entries[k]
			if x.ProducerID != e.ProducerID || x.Epoch != e.Epoch || x.Sequence >= e.Sequence || x.Nth >= e.Nth {
				continue // another's, or appended later
			}
			earlier, lost[int64(x.Sequence)] = true, true
			if x.Sequence == e.Sequence-1 {
				hole := x.Offset < int64(len(l.Entries)) && l.Entries[x.Offset].Gone
				stood = stood || hole || x.Offset < deleted && end <= deleted
			}
		}
	}
	switch {
	case stood:
		return ""
	case !e.First:
		return "its broker knew the producer"
	case end > deleted && !c.Forgets:
		return fmt.Sprintf("what stands at %d was not deleted", end-1)
	case last < next:
		return "" // one that was deleted: otherwise its sequence names two records
	case !earlier:
		return "no broker had a record of the epoch before"
	}
	named := make(map[int64]string)
	taken := make(map[string]bool)
	for i := range c.Attempts {
		a := &c.Attempts[i]
		if x := &a.Entry; x.ProducerID == e.ProducerID && x.Epoch == e.Epoch && a.Topic == l.Topic && a.Partition == l.Partition && a.Life == l.Life {
			named[int64(x.Sequence)] = string(x.Value)
			taken[string(x.Value)] = taken[string(x.Value)] || !a.Refused
		}
	}
	inDoubt := false
	for i := range c.Writes {
		inDoubt = inDoubt || c.Writes[i].Value == string(e.Value) && c.Writes[i].Outcome == Unknown
	}
	sent := make(map[string]bool, len(named))
	unsent := 0
	for s := next; s < last; s++ {
		value, ok := named[s]
		switch {
		case lost[s]:
		case ok:
			sent[value] = true
		default:
			unsent++
		}
	}
	failed := 0
	for i := range c.Writes {
		w := &c.Writes[i]
		switch {
		case w.Topic != l.Topic || w.Answers == 0:
		case w.Partition != l.Partition && (w.Partition >= 0 || !sent[w.Value]): // a Send that ended early names no partition
		case sent[w.Value] && w.Outcome == OK && inDoubt && !taken[w.Value]:
			failed++ // under this epoch: it was numbered anew
		case sent[w.Value] && w.Outcome == OK:
			return fmt.Sprintf("record %d, whose sequence is left out, was acknowledged", w.ID)
		case w.Outcome != OK:
			failed++
		}
	}
	if unsent > failed-len(sent) {
		return fmt.Sprintf("%d sequences that no broker was sent are left out, and %d records failed", unsent, failed-len(sent))
	}
	return ""
}

// follows reports whether one attempt is the record behind another in a batch.
func (a *Attempt) follows(b *Attempt) bool {
	return a.Topic == b.Topic && a.Partition == b.Partition && a.Life == b.Life && a.Entry.ProducerID == b.Entry.ProducerID &&
		a.Entry.Epoch == b.Entry.Epoch && a.Entry.Sequence == b.Entry.Sequence+1
}

// sequenceName is one sequence of an epoch, in one partition.
type sequenceName struct {
	id                     int64
	epoch, place, sequence int32
}

// reuse judges that a sequence never names another record, appended or not, and
// that the first a broker is sent of an epoch is 0: nothing follows before it has
// been acknowledged once. Nor is a record that a broker has taken sent under another:
// whoever took it would take it again.
func (c *check) reuse() {
	type place struct {
		topic     string
		partition int32
		life      int // a topic that was created again is another
	}
	places := make(map[place]int32)
	at, last := int32(-1), place{}
	named := c.named
	c.taken = append(c.taken[:0], make([]sequenceName, len(c.Writes))...)
	for i := range c.Attempts {
		a := &c.Attempts[i]
		if a.Entry.ProducerID < 0 {
			continue
		}
		if p := (place{a.Topic, a.Partition, a.Life}); at < 0 || p != last {
			known, ok := places[p]
			if !ok {
				known = int32(len(places))
				places[p] = known
			}
			at, last = known, p
		}
		key := sequenceName{a.Entry.ProducerID, int32(a.Entry.Epoch), at, a.Entry.Sequence}
		if w, ok := c.known[string(a.Entry.Value)]; ok {
			if took := c.taken[w]; took.place == at+1 && (took.id != key.id || took.epoch != key.epoch || took.sequence != key.sequence) {
				c.add(Renumbered, "partition %s/%d: record %d was taken under producer %d, epoch %d, sequence %d, and then sent under %d, %d, %d",
					a.Topic, a.Partition, c.Writes[w].ID, took.id, took.epoch, took.sequence, key.id, key.epoch, key.sequence)
			}
			if !a.Refused {
				took := key
				took.place = at + 1 // 0: nobody took it
				c.taken[w] = took
			}
		}
		before, ok := named[key]
		if !ok {
			named[key] = int32(i)
			if key.sequence > 0 && (i == 0 || !a.follows(&c.Attempts[i-1])) {
				key.sequence = 0
				if _, begun := named[key]; !begun {
					c.add(SequenceGap, "partition %s/%d: producer %d, epoch %d begins with sequence %d", a.Topic, a.Partition, key.id, key.epoch, a.Entry.Sequence)
				}
			}
			continue
		}
		if first := c.Attempts[before].Entry.Value; string(first) != string(a.Entry.Value) {
			c.add(SequenceReused, "partition %s/%d: producer %d, epoch %d, sequence %d named %.20q and then %.20q", a.Topic, a.Partition, key.id, key.epoch, key.sequence, first, a.Entry.Value)
		}
	}
}
