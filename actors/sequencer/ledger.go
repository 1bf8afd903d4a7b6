package sequencer

import (
	"sync"

	"github.com/troupe-kafka/troupe/messages"
)

// Ledger keeps the last sequence of every partition that was numbered and whose
// accumulator has ended. A few dozen bytes each, for the life of the producer.
type Ledger struct {
	mu   sync.Mutex
	last map[place]messages.LastSequence
	// latest is the id under which something of a topic was kept last.
	latest map[string][16]byte
}

// place names a partition of one creation of a topic: a topic that was deleted
// and created again is another.
type place struct {
	topic     string
	id        [16]byte
	partition int32
}

var _ messages.Sequences = (*Ledger)(nil)

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{last: make(map[place]messages.LastSequence), latest: make(map[string][16]byte)}
}

// Keep implements messages.Sequences.
func (l *Ledger) Keep(topic string, id [16]byte, partition int32, last messages.LastSequence) {
	l.mu.Lock()
	l.last[place{topic, id, partition}] = last
	l.latest[topic] = id
	l.mu.Unlock()
}

// Recall implements messages.Sequences. Without topic ids a topic that was
// created again cannot be told from the one before, and then its numbering goes
// on under the next epoch at the latest when the broker refuses it. The same
// holds when brokers that know topic ids come or go while the topic is idle: what
// was kept without an id, or under the last one, is taken to be this topic's.
func (l *Ledger) Recall(topic string, id [16]byte, partition int32) (messages.LastSequence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.last[place{topic, id, partition}]
	if ok {
		return last, true
	}
	none := [16]byte{}
	if id == none {
		id = l.latest[topic]
	} else {
		id = none
	}
	last, ok = l.last[place{topic, id, partition}]
	return last, ok
}
