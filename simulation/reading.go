package simulation

import (
	"slices"

	"github.com/troupe-kafka/troupe/simulation/model"
)

// heal ends everything that is still wrong with the brokers, and lets the
// replicas become one.
func (c *cluster) heal() {
	c.now()
	for _, b := range c.brokers {
		c.model.Isolate(b.id, false)
	}
	for _, b := range c.brokers {
		c.model.Restart(b.id)
		c.model.Unfence(b.id)
	}
	c.model.Settle()
	for _, p := range c.partitions {
		if leader, _ := c.model.Leader(p.TopicPartition); leader < 0 {
			c.move(p, 0)
		}
	}
	c.model.Settle()
}

// logs implements kafka.
func (c *cluster) logs(e *estate) []Log {
	histories := c.model.Histories()
	all := make([]Log, 0, len(histories))
	for i := range histories {
		h := &histories[i]
		l := Log{Topic: h.Topic, Partition: h.Partition, Life: h.Life, Entries: e.entries.take(len(h.Kept)), Start: h.Start, Visible: h.High}
		parted := partedBelow(h)
		for k := range h.Kept {
			for int64(len(l.Entries)) < h.Kept[k].Offset {
				l.Entries = append(l.Entries, Entry{Gone: true, ProducerID: -1})
			}
			if parted(k) {
				continue // a hole, as far as this log is concerned
			}
			value := h.Kept[k].Record.Value
			l.Entries = append(l.Entries, entryOfModel(&h.Kept[k], append(e.bytes.take(len(value)), value...)))
		}
		c.tell(&l)
		all = append(all, l)
		for _, committed := range [...]bool{false, true} {
			l := Log{Topic: h.Topic, Partition: h.Partition, Life: h.Life, Lost: true, Committed: committed}
			for k := range h.Cut {
				if h.Cut[k].Committed == committed {
					l.Entries = append(l.Entries, entryOfModel(&h.Cut[k].Entry, []byte(h.Cut[k].Record.Value)))
				}
			}
			for k := range h.Kept {
				if committed && parted(k) {
					l.Entries = append(l.Entries, entryOfModel(&h.Kept[k], []byte(h.Kept[k].Record.Value)))
				}
			}
			if len(l.Entries) > 0 {
				all = append(all, l)
			}
		}
	}
	return all
}

// partedBelow tells which entries of a log, below its start, are not of the history that
// it goes on with: of a later leader than what stands at the start. A replica keeps what
// it had there when it follows a leader that has deleted the place. Whoever took such
// records lost them, by an unclean election, and then the place was deleted as well.
func partedBelow(h *model.History) func(k int) bool {
	next := int32(-1)
	for k := range h.Kept {
		if h.Kept[k].Offset >= h.Start {
			next = h.Kept[k].LeaderEpoch
			break
		}
	}
	return func(k int) bool {
		return next >= 0 && h.Kept[k].Offset < h.Start && h.Kept[k].LeaderEpoch > next
	}
}

func entryOfModel(e *model.Entry, value []byte) Entry {
	return Entry{
		Value: value, ProducerID: e.ProducerID, Epoch: e.ProducerEpoch, Sequence: e.Sequence, Start: e.Start,
		First: e.First, Nth: e.Nth, Late: e.Late, Offset: e.Offset, LeaderEpoch: e.LeaderEpoch,
	}
}

// entries implements kafka.
func (c *cluster) entries(topic string, partition int32) []Entry {
	read := c.model.Committed(model.TopicPartition{Topic: topic, Partition: partition})
	all := make([]Entry, 0, len(read))
	for i := range read {
		all = append(all, entryOfModel(&read[i], []byte(read[i].Record.Value)))
	}
	return all
}

// tell lets a log be what a cluster that lies has made of it.
func (c *cluster) tell(l *Log) {
	if len(c.tampered) == 0 {
		return
	}
	honest := l.Entries
	l.Entries = nil
	for at := 0; at < len(honest); {
		// A batch goes as far as the next that was tampered with, or to the end of
		// its numbers; for a lie that is close enough.
		end := at + 1
		for end < len(honest) && end < at+3 && !c.tampered[string(honest[end].Value)] {
			end++
		}
		batch := honest[at:end]
		if c.tampered[string(batch[0].Value)] {
			switch c.lie {
			case Forgets:
				batch = nil
			case Repeats:
				batch = append(slices.Clone(batch), batch...)
			case Reverses:
				batch = slices.Clone(batch)
				slices.Reverse(batch)
			case Hides:
				l.Visible = min(l.Visible, int64(at))
			}
		}
		l.Entries = append(l.Entries, batch...)
		at = end
	}
	if c.lie != Hides {
		l.Visible = int64(len(l.Entries))
	}
}
