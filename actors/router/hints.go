package router

import "github.com/troupe-kafka/troupe/messages"

// hintDoubts is how many refreshes in a row may name an older leader than a
// broker did in its answer before they are believed: as patient as metadata is
// with older epochs. Without a bound, a hint that nobody confirms would rule for
// ever.
const hintDoubts = 5

// hint takes in a leader that a broker named with its error (KIP-951).
func (k *keeper) hint(m *messages.LeaderHinted) {
	t := (*k.table.Load())[m.Topic]
	if t == nil || k.brokers[m.LeaderID] == nil {
		return
	}
	rt := t.routes.Load()
	if rt == nil || int(m.Partition) >= len(rt.boxes) {
		return
	}
	if k.hinted[m.Topic] == nil {
		k.hinted[m.Topic] = make(map[int32]messages.AssignLeader)
	}
	if h, ok := k.hinted[m.Topic][m.Partition]; ok && h.LeaderEpoch >= m.LeaderEpoch {
		return
	}
	k.hinted[m.Topic][m.Partition] = messages.AssignLeader{ID: m.LeaderID, LeaderEpoch: m.LeaderEpoch}
	delete(k.doubts[m.Topic], m.Partition)
	k.lead(rt.boxes[m.Partition], m.LeaderID, m.LeaderEpoch)
}

// believed returns the hint for a partition if it is newer than what metadata
// says now, its leader is there, and metadata has not contradicted it too often.
// A hint that is none of it is forgotten.
func (k *keeper) believed(topic string, partition, epoch int32) (messages.AssignLeader, bool) {
	h, ok := k.hinted[topic][partition]
	if !ok {
		return h, false
	}
	if k.doubts == nil {
		k.doubts = make(map[string]map[int32]int)
	}
	if k.doubts[topic] == nil {
		k.doubts[topic] = make(map[int32]int)
	}
	k.doubts[topic][partition]++
	if h.LeaderEpoch > epoch && k.brokers[h.ID] != nil && k.doubts[topic][partition] < hintDoubts {
		return h, true
	}
	delete(k.hinted[topic], partition)
	delete(k.doubts[topic], partition)
	return h, false
}

func (k *keeper) forgetHints(topic string) {
	delete(k.hinted, topic)
	delete(k.doubts, topic)
}
