package model

import (
	"fmt"
	"slices"

	"github.com/troupe-kafka/troupe/protocol"
)

// Leader returns who leads a partition and under which epoch, as the controller
// has it; -1 and -1 if nobody does or there is no such partition.
func (c *Cluster) Leader(tp TopicPartition) (id, epoch int32) {
	if p := c.find(tp); p != nil {
		return p.state.leader, p.state.leaderEpoch
	}
	return noLeader, -1
}

// InSync returns the replicas in sync, as the controller has it.
func (c *Cluster) InSync(tp TopicPartition) []int32 {
	if p := c.find(tp); p != nil {
		return p.state.isr.ids(p.state.replicas)
	}
	return nil
}

// Partitions returns how many partitions a topic has, 0 if there is none.
func (c *Cluster) Partitions(name string) int {
	if t := c.names.get(name); t != nil {
		return len(t.partitions)
	}
	return 0
}

// TopicID returns the id of the topic that has a name, zero if there is none.
func (c *Cluster) TopicID(name string) TopicID {
	if t := c.names.get(name); t != nil {
		return t.id
	}
	return TopicID{}
}

// Offsets returns where a broker's replica starts, how far it knows it to be
// committed, and where it ends; false if it has none.
func (c *Cluster) Offsets(tp TopicPartition, id int32) (start, highWatermark, end int64, ok bool) {
	r := c.broker(id).replica(tp)
	if r == nil {
		return -1, -1, -1, false
	}
	return r.start, r.hw, r.end, true
}

// Committed returns what a consumer can read of a partition: the leader's log up
// to its high watermark. Without a leader it is the replica in sync, or else any,
// that reaches furthest.
func (c *Cluster) Committed(tp TopicPartition) []Entry {
	p := c.find(tp)
	if p == nil {
		return nil
	}
	var best *replica
	if p.state.leader != noLeader {
		best = c.broker(p.state.leader).replica(tp)
	}
	if best == nil {
		for _, id := range p.state.isr.ids(p.state.replicas) {
			if r := c.broker(id).replica(tp); r != nil && (best == nil || r.hw > best.hw) {
				best = r
			}
		}
	}
	if best == nil {
		return nil
	}
	return best.entries(best.hw)
}

// Log returns everything in a broker's replica, committed or not.
func (c *Cluster) Log(tp TopicPartition, id int32) []Entry {
	if r := c.broker(id).replica(tp); r != nil {
		return r.entries(r.end)
	}
	return nil
}

func (r *replica) entries(end int64) (list []Entry) {
	for _, b := range r.batches {
		for i := range b.Records {
			if e := b.entry(i); e.Offset >= r.start && e.Offset < end {
				list = append(list, e)
			}
		}
	}
	return list
}

// entry is the ith record of a batch with its place.
func (b *stored) entry(i int) Entry {
	e := Entry{
		Offset: b.base + int64(i), LeaderEpoch: b.epoch, ProducerID: b.ProducerID, ProducerEpoch: b.ProducerEpoch,
		Sequence: -1, Start: b.start, First: b.first, Nth: b.nth, Late: b.late, Record: b.Records[i],
	}
	if b.ProducerID >= 0 {
		e.Sequence = protocol.AddSequence(b.BaseSequence, int32(i))
	}
	return e
}

// Invariant checks what must hold between any two calls, for the tests of the
// model itself. It does not compare replicas: an unclean election and a loss of
// power make them differ.
func (c *Cluster) Invariant() error {
	for _, t := range c.topics {
		for _, p := range t.partitions {
			s := &p.state
			replicas := setOf(s.replicas)
			switch {
			case t.deleted:
			case !replicas.contains(s.isr) || s.isr == 0:
				return fmt.Errorf("%s-%d: in sync %b of %v", t.name, p.id, s.isr, s.replicas)
			case s.leader != noLeader && !s.isr.has(s.leader):
				return fmt.Errorf("%s-%d: leader %d is not in sync", t.name, p.id, s.leader)
			case s.leader != noLeader && !c.alive.has(s.leader):
				return fmt.Errorf("%s-%d: leader %d is fenced", t.name, p.id, s.leader)
			}
		}
	}
	for _, b := range c.brokers {
		var problem error
		b.eachReplica(func(r *replica) {
			if err := r.invariant(); err != nil && problem == nil {
				problem = fmt.Errorf("broker %d, %s-%d: %w", b.id, r.topic.name, r.partition, err)
			}
		})
		if problem != nil {
			return problem
		}
	}
	for _, p := range c.pending {
		open := 0
		for _, w := range p.waits {
			if w.replica != nil {
				open++
			}
		}
		if open != p.open || !p.broker.up {
			return fmt.Errorf("request %d waits for %d partitions and counts %d; broker up: %v", p.handle, open, p.open, p.broker.up)
		}
	}
	return nil
}

func (r *replica) invariant() error {
	if r.start > r.hw || r.hw > r.end || r.flushed > r.end {
		return fmt.Errorf("start %d, high watermark %d, flushed %d, end %d", r.start, r.hw, r.flushed, r.end)
	}
	next, epoch, size := int64(-1), int32(-1), 0
	for _, b := range r.batches {
		if (next >= 0 && b.base < next) || b.epoch < epoch {
			return fmt.Errorf("batch at %d of epoch %d follows offset %d of epoch %d", b.base, b.epoch, next, epoch)
		}
		next, epoch = b.end(), b.epoch
		if b.base >= r.segments[len(r.segments)-1] {
			size += b.Size
		}
	}
	switch {
	case next > r.end:
		return fmt.Errorf("the last batch ends at %d and the log at %d", next, r.end)
	case size != r.segment:
		return fmt.Errorf("the last segment has %d bytes and counts %d", size, r.segment)
	case !slices.IsSorted(r.segments) || r.segments[len(r.segments)-1] > r.end:
		return fmt.Errorf("segments at %v, end %d", r.segments, r.end)
	}
	for i, e := range r.epochs {
		if e.offset > r.end || (i > 0 && (e.epoch <= r.epochs[i-1].epoch || e.offset < r.epochs[i-1].offset)) {
			return fmt.Errorf("epochs %v, end %d", r.epochs, r.end)
		}
	}
	at := 0
	for _, b := range r.batches {
		for at+1 < len(r.epochs) && r.epochs[at+1].offset <= b.base {
			at++
		}
		// The epochs of what was deleted are deleted before it is.
		if len(r.epochs) > 0 && r.epochs[at].offset <= b.base && r.epochs[at].epoch != b.epoch {
			return fmt.Errorf("the batch at %d is of epoch %d, the epochs are %v", b.base, b.epoch, r.epochs)
		}
	}
	for i, s := range r.snapshots {
		if s.offset > r.end || (i > 0 && s.offset <= r.snapshots[i-1].offset) {
			return fmt.Errorf("snapshot %d is at %d, end %d", i, s.offset, r.end)
		}
	}
	return r.producers.invariant(r.end)
}

func (t producerTable) invariant(end int64) error {
	for i := range t {
		e := &t[i]
		if i > 0 && e.id <= t[i-1].id {
			return fmt.Errorf("producer %d stands behind %d", e.id, t[i-1].id)
		}
		if e.count < 1 || e.count > remembered {
			return fmt.Errorf("producer %d: %d batches", e.id, e.count)
		}
		if e.newest().end > end {
			return fmt.Errorf("producer %d knows offset %d, the log ends at %d", e.id, e.newest().end, end)
		}
		for k := 1; k < int(e.count); k++ {
			if e.batches[k].base < e.batches[k-1].end {
				return fmt.Errorf("producer %d: batch at %d stands behind %d", e.id, e.batches[k].base, e.batches[k-1].end)
			}
		}
	}
	return nil
}
