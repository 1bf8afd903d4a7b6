package router

import (
	"fmt"
	"slices"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
)

// missingBeforeGone is how many answers, by different brokers where there are
// several, must lack a partition before it counts as gone (DESIGN 4.9).
const missingBeforeGone = 2

// hintOutlivedBy is how many answers of metadata in a row may be older than a
// hint before it is forgotten: a cluster restored from a backup is younger than
// what this client remembers.
const hintOutlivedBy = 5

// leaderHint is a leader that a broker named with its error (KIP-951).
type leaderHint struct {
	leader, epoch int32
	older         int // answers that were
}

// isNewerThan says whether the hint still counts beside an answer of metadata.
// One without epochs, of a broker that is older than they are, cannot be told from
// a newer one, and is believed.
func (h *leaderHint) isNewerThan(epoch int32) bool {
	if epoch < 0 || h.epoch <= epoch {
		return false
	}
	h.older++
	return h.older < hintOutlivedBy
}

// absence is how often answers lacked a partition that is known, and whose was
// the last one that counted.
type absence struct {
	times int
	by    int32
}

// absences are the partitions of one topic that answers lacked.
type absences map[int32]absence

// shape is what a topic looks like after an answer. Its slices have one entry
// for each number up to the last partition's.
type shape struct {
	infos  []partitioners.Partition // of listed partitions
	epochs []int32
	// listed are in the answer. missing ones are not, and may come back: nothing
	// is known of them but what was before.
	listed  []bool
	missing []bool
	// gone are partitions that existed, in order.
	gone []int32
}

func (s *shape) exists(i int) bool { return s.listed[i] || s.missing[i] }

// answer is what the router is told of one topic, and by whom.
type answer struct {
	*messages.TopicInfo
	by      int32 // who answered
	brokers int   // how many there are
}

// shapeOf takes an answer into what is known: old says which partitions exist.
// Numbers need not be complete, and are the cluster's word alone; above most it
// is not believed, since tables are as long as the highest number.
func (a absences) shapeOf(m answer, old []bool, most int) (shape, error) {
	count := len(old)
	for _, p := range m.Partitions {
		if int(p.ID) >= most {
			return shape{}, fmt.Errorf("%w: topic %s: the cluster names partition %d, and a topic has %d at the most", messages.ErrTooManyPartitions, m.Name, p.ID, most)
		}
		count = max(count, int(p.ID)+1)
	}
	s := shape{
		infos: make([]partitioners.Partition, count), epochs: make([]int32, count),
		listed: make([]bool, count), missing: make([]bool, count),
	}
	for _, p := range m.Partitions {
		s.infos[p.ID], s.epochs[p.ID], s.listed[p.ID] = p.Partition, p.LeaderEpoch, true
		delete(a, p.ID)
	}
	for i, existed := range old {
		switch {
		case !existed || s.listed[i]:
		case a.note(int32(i), m.by, m.brokers):
			s.gone = append(s.gone, int32(i))
		default:
			s.missing[i] = true
		}
	}
	for count > 0 && !s.exists(count-1) {
		count--
	}
	s.infos, s.epochs, s.listed, s.missing = s.infos[:count], s.epochs[:count], s.listed[:count], s.missing[:count]
	return s, nil
}

// note counts an answer that lacks a partition, and reports whether that makes
// it gone.
func (a absences) note(id, by int32, brokers int) bool {
	n := a[id]
	if n.times == 0 || n.by != by || brokers <= 1 {
		n.times++
		n.by = by
	}
	if n.times >= missingBeforeGone {
		delete(a, id)
		return true
	}
	a[id] = n
	return false
}

// isKnown reports whether an answer says of a topic, without gaps, what infos and
// epochs say already.
func isKnown(m *messages.TopicInfo, infos []partitioners.Partition, epochs []int32) bool {
	if len(m.Partitions) != len(infos) {
		return false
	}
	for i := range m.Partitions {
		p, known := &m.Partitions[i], &infos[i]
		if int(p.ID) != i || p.Leader != known.Leader || p.LeaderEpoch != epochs[i] ||
			!slices.Equal(p.Replicas, known.Replicas) || !slices.Equal(p.ISR, known.ISR) {
			return false
		}
	}
	return true
}
