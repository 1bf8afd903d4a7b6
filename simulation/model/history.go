package model

import "slices"

// History is everything that was ever appended to one partition in one life of
// its topic, and what became of it.
type History struct {
	TopicPartition
	ID TopicID
	// Life counts the topics of the name that were there before.
	Life int
	// Kept is the log that is left: the leader's, or what it was when the topic
	// was deleted, with what DeleteRecords and retention took from its beginning.
	// Offsets may have holes. High is its high watermark, and Start where it begins:
	// before that may be what only this replica had.
	Kept        []Entry
	Start, High int64
	// Cut is what a leader had appended and is not in that log: nobody followed
	// it, or it was truncated.
	Cut []CutEntry
}

// CutEntry is a record that was cut off. Committed says that consumers could read
// it before: an unclean election, or a loss of power, has lost it.
type CutEntry struct {
	Entry
	Committed bool
}

// Histories tells the story of every partition there ever was, in the order of
// their creation. The cluster should be settled before.
func (c *Cluster) Histories() []History {
	lives := make(map[string]int)
	total := 0
	for _, t := range c.topics {
		total += len(t.partitions)
	}
	all := make([]History, 0, total)
	for _, t := range c.topics {
		for _, p := range t.partitions {
			h := History{TopicPartition: TopicPartition{t.name, p.id}, ID: t.id, Life: lives[t.name]}
			p.tell(&h, c.final(p))
			all = append(all, h)
		}
		lives[t.name]++
	}
	return all
}

// final is the replica whose log is the partition's.
func (c *Cluster) final(p *partition) *replica {
	if p.topic.deleted {
		return p.last
	}
	if p.state.leader != noLeader {
		if r := c.broker(p.state.leader).replica(TopicPartition{p.topic.name, p.id}); r != nil {
			return r
		}
	}
	var best *replica
	for _, id := range p.state.isr.ids(p.state.replicas) {
		if r := c.broker(id).replica(TopicPartition{p.topic.name, p.id}); r != nil && (best == nil || r.end > best.end) {
			best = r
		}
	}
	return best
}

// drop keeps the log of a partition whose topic is deleted: the leader's, or else
// the one that reaches furthest under the newest epoch.
func (p *partition) drop(r *replica) {
	switch l := p.last; {
	case l == nil, r.broker.id == p.state.leader:
	case l.broker.id == p.state.leader, l.lastEpoch() > r.lastEpoch(), l.lastEpoch() == r.lastEpoch() && l.end >= r.end:
		return
	}
	p.last = r
}

func (p *partition) tell(h *History, final *replica) {
	if final != nil {
		h.Start = final.start
		if h.High = final.hw; p.topic.deleted {
			h.High = final.end // nobody will come to read
		}
		need := final.end
		if len(final.batches) > 0 {
			need = final.batches[0].base
		}
		// What was deleted stood where the log begins now.
		var before []*stored
		for i := len(p.ever) - 1; i >= 0 && need > 0; i-- {
			if b := p.ever[i]; b.deleted && b.end() == need && !final.has(b) {
				before, need = append(before, b), b.base
			}
		}
		records := 0
		for _, b := range before {
			records += len(b.Records)
		}
		for _, b := range final.batches {
			records += len(b.Records)
		}
		h.Kept = make([]Entry, 0, records)
		for i := len(before) - 1; i >= 0; i-- {
			before[i].kept = true
			h.Kept = before[i].appendTo(h.Kept)
		}
		for _, b := range final.batches {
			b.kept = true
			h.Kept = b.appendTo(h.Kept)
		}
	}
	for _, b := range p.ever {
		if kept := b.kept; kept {
			b.kept = false
		} else {
			for _, e := range b.appendTo(nil) {
				h.Cut = append(h.Cut, CutEntry{e, b.committed})
			}
		}
	}
}

func (r *replica) has(b *stored) bool {
	i := r.at(b.base)
	return i < len(r.batches) && r.batches[i] == b
}

func (b *stored) appendTo(list []Entry) []Entry {
	list = slices.Grow(list, len(b.Records))
	for i := range b.Records {
		list = append(list, b.entry(i))
	}
	return list
}
