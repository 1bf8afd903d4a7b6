package model

import "slices"

// Replicate lets a follower fetch once: up to n batches. It returns how many it
// appended. The fetch tells the leader how far the follower is, so the leader
// learns of what this call appended only by the next one; n may be 0 for that.
// Nothing happens while follower and leader do not agree on the leader's epoch,
// one of them is down or cut off, or there is no such replica.
func (c *Cluster) Replicate(tp TopicPartition, id int32, n int) int {
	copied, _, _ := c.Fetch(tp, id, n)
	return copied
}

// Fetch is Replicate, and also says whether anything has changed by it, and whether
// another fetch may change more though nothing else happens meanwhile.
func (c *Cluster) Fetch(tp TopicPartition, id int32, n int) (copied int, moved, more bool) {
	b := c.broker(id)
	f := b.replica(tp)
	if f == nil || !b.up || b.isolated || f.leads() || f.state.leader == noLeader {
		return 0, false, false
	}
	from := c.broker(f.state.leader)
	if !from.up || from.isolated {
		return 0, false, false
	}
	leader := from.replica(tp)
	if leader == nil || leader.topic != f.topic || !leader.leads() || leader.state.leaderEpoch != f.state.leaderEpoch {
		return 0, false, false
	}
	known := leader.follower(id)
	if known == nil {
		return 0, false, false // the leader has not heard of this replica yet
	}
	end, hw, theirs, isr := f.end, f.hw, leader.hw, leader.state.isr
	f.reconcile(leader, c.millis())
	leader.fetchedBy(known, f.end)

	at := leader.at(f.end)
	if at > 0 && leader.batches[at-1].end() > f.end && f.start == f.end {
		// An empty log that begins inside a batch of the leader's, as after
		// DeleteRecords, begins anew where the batch does: it is copied whole
		// (ReplicaManager on UnexpectedAppendOffsetException).
		at--
		f.restartAt(leader.batches[at].base)
	}
	batches := leader.batches[at:]
	batches = batches[:min(n, len(batches))]
	for _, s := range batches {
		f.append(s)
	}
	f.advanceStart(min(leader.start, f.end))
	f.hw = max(min(leader.hw, f.end), f.start)
	moved = f.end != end || f.hw != hw || leader.hw != theirs || leader.state.isr != isr
	// The leader knows that the follower has everything, and the follower knows it.
	same := known.end == f.end && f.end == leader.end && f.hw == leader.hw && leader.state.isr.has(id)
	return len(batches), moved, (moved || len(batches) > 0) && !same
}

// Follows says whether a broker believes that it follows a leader there.
func (c *Cluster) Follows(tp TopicPartition, id int32) bool {
	b := c.broker(id)
	r := b.replica(tp)
	return r != nil && b.up && !r.leads() && r.state.leader != noLeader
}

// Leads says whether a broker believes that it leads a partition.
func (c *Cluster) Leads(tp TopicPartition, id int32) bool {
	b := c.broker(id)
	r := b.replica(tp)
	return r != nil && b.up && r.leads()
}

// Lag returns how many batches a follower has to fetch from the leader it
// believes in, were they one; 0 if it cannot fetch.
func (c *Cluster) Lag(tp TopicPartition, id int32) int {
	f := c.broker(id).replica(tp)
	if f == nil || f.leads() || f.state.leader == noLeader {
		return 0
	}
	leader := c.broker(f.state.leader).replica(tp)
	if leader == nil || leader.topic != f.topic || leader.end <= f.end {
		return 0
	}
	return len(leader.batches) - leader.at(f.end)
}

// replica returns a broker's replica of a partition of the topic that it believes
// to have the name.
func (b *broker) replica(tp TopicPartition) *replica {
	v := b.view.topic(b.view.names.get(tp.Topic))
	if v == nil || tp.Partition < 0 || int(tp.Partition) >= len(v.partitions) {
		return nil
	}
	return v.partitions[tp.Partition].replica
}

// reconcile cuts a follower's log back to where it parts from the leader's,
// epoch by epoch (KIP-101, KIP-595), and moves it if the leader has nothing there.
func (r *replica) reconcile(leader *replica, nowMillis int64) {
	// An empty log may have epochs, too: of a time in which it led.
	for last := r.lastEpoch(); last >= 0; last = r.lastEpoch() {
		epoch, end := leader.endOf(last)
		if epoch == last {
			if end < r.end {
				r.truncate(end, nowMillis)
			}
			break
		}
		if epoch < 0 {
			r.truncate(max(leader.start, r.start), nowMillis)
			break
		}
		_, mine := r.endOf(epoch)
		before := r.end
		r.truncate(min(end, mine), nowMillis)
		if r.end == before && r.lastEpoch() == last {
			break
		}
	}
	switch {
	case r.end > leader.end:
		r.truncate(leader.end, nowMillis)
	case r.end < leader.start:
		r.restartAt(leader.start)
	}
}

// fetchedBy notes a follower's fetch: it has everything before from. It may join
// the replicas in sync by that, and raise the high watermark.
func (r *replica) fetchedBy(f *follower, from int64) {
	now := r.broker.cluster.now
	switch {
	case from >= r.end:
		f.caughtUp = max(f.caughtUp, now)
	case from >= f.fetchedEnd && f.end >= 0:
		f.caughtUp = max(f.caughtUp, f.fetched)
	}
	f.end, f.fetched, f.fetchedEnd = from, now, r.end
	if !r.state.isr.has(f.id) && from >= r.hw && from >= r.epochStart && r.broker.cluster.alive.has(f.id) {
		r.broker.cluster.alterISR(r, r.state.isr.with(f.id))
	}
	if r.leads() {
		r.advanceHW()
	}
}

// ShrinkISR lets a partition's leader take those followers out of the replicas in
// sync that have lagged for longer than Config.ReplicaLagMax, as a broker does
// every half of that time. It returns whether any had.
func (c *Cluster) ShrinkISR(tp TopicPartition) bool {
	p := c.find(tp)
	if p == nil || p.state.leader == noLeader {
		return false
	}
	r := c.broker(p.state.leader).replica(tp)
	if r == nil || !r.leads() || !r.broker.up {
		return false
	}
	isr := r.state.isr
	for i := range r.followers {
		if f := &r.followers[i]; isr.has(f.id) && !r.caught(f, c.now) {
			isr = isr.without(f.id)
		}
	}
	return isr != r.state.isr && c.alterISR(r, isr)
}

// Roll begins a new segment on one replica.
func (c *Cluster) Roll(tp TopicPartition, id int32) {
	if r := c.broker(id).replica(tp); r != nil && c.broker(id).up {
		r.roll()
	}
}

// Flush makes a replica's log safe from a loss of power.
func (c *Cluster) Flush(tp TopicPartition, id int32) {
	if r := c.broker(id).replica(tp); r != nil && c.broker(id).up {
		r.flushed = r.end
	}
}

// DeleteRecords moves the start of the leader's log, at most to its high
// watermark; -1 means there. Followers take it over as they fetch. Brokers do not
// forget producers by it. It returns false if the leader cannot be asked.
func (c *Cluster) DeleteRecords(tp TopicPartition, before int64) bool {
	p := c.find(tp)
	if p == nil || p.state.leader == noLeader {
		return false
	}
	r := c.broker(p.state.leader).replica(tp)
	if r == nil || !r.leads() || !r.broker.up {
		return false
	}
	if before < 0 || before > r.hw {
		before = r.hw
	}
	r.advanceStart(before)
	return true
}

// DeleteSegments removes from one broker's disk what lies before the log's start,
// as the retention task does.
func (c *Cluster) DeleteSegments(tp TopicPartition, id int32) {
	if r := c.broker(id).replica(tp); r != nil && c.broker(id).up {
		r.deleteSegments()
	}
}

// settleRounds is when Settle gives up: no cluster takes more than a few rounds
// for each epoch and change of metadata that somebody has missed.
const settleRounds = 100_000

// Settle lets everything happen that can, without a change of time: all brokers
// hear everything, all followers that can fetch do until nothing moves. It panics
// if that never ends, which is a fault of the model.
func (c *Cluster) Settle() {
	for moved, rounds := true, 0; moved; rounds++ {
		if rounds == settleRounds {
			panic("model: the replicas copy and cut back for ever")
		}
		moved = false
		for _, b := range c.brokers {
			moved = c.Learn(b.id, len(c.metadata)) > 0 || moved
		}
		for _, t := range c.topics {
			if t.deleted {
				continue
			}
			for _, p := range t.partitions {
				tp := TopicPartition{t.name, p.id}
				for _, id := range slices.Clone(p.state.replicas) {
					f := c.broker(id).replica(tp)
					if f == nil {
						continue
					}
					mine, theirs, end, version := f.hw, c.highWatermark(p), f.end, p.state.version
					copied := c.Replicate(tp, id, 1<<30)
					moved = moved || copied > 0 || f.hw != mine || f.end != end || c.highWatermark(p) != theirs || p.state.version != version
				}
			}
		}
	}
}

func (c *Cluster) highWatermark(p *partition) int64 {
	if p.state.leader == noLeader {
		return -1
	}
	if r := c.broker(p.state.leader).replica(TopicPartition{p.topic.name, p.id}); r != nil {
		return r.hw
	}
	return -1
}
