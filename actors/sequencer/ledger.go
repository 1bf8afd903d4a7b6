package sequencer

import (
	"slices"
	"sync"

	"github.com/troupe-kafka/troupe/messages"
)

// Ledger keeps the last sequence of every partition that was numbered and whose
// accumulator has ended. A few dozen bytes each, for the life of the producer.
type Ledger struct {
	mu   sync.Mutex
	last map[place][]kept
}

type place struct {
	topic     string
	partition int32
}

// kept is where a partition's numbering stopped, and in which creation of its
// topic. The id is zero when no broker had told it: old ones do not know ids, and
// a cluster that is being upgraded has both kinds.
type kept struct {
	id   [16]byte
	last messages.LastSequence
}

var _ messages.Sequences = (*Ledger)(nil)

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{last: make(map[place][]kept)} }

// mostCreations is how many creations of a topic the ledger knows apart: brokers
// that are behind may speak of an earlier one again, and it may be believed.
const mostCreations = 4

// Keep implements messages.Sequences.
func (l *Ledger) Keep(topic string, id [16]byte, partition int32, last messages.LastSequence) {
	l.mu.Lock()
	at := place{topic, partition}
	all := slices.DeleteFunc(l.last[at], func(k kept) bool {
		// Whoever knew no id has gone on from the newest, and the first that knows one
		// from there.
		return k.id == id || id == noID || k.id == noID
	})
	if len(all) == mostCreations {
		all = slices.Delete(all, 0, 1)
	}
	l.last[at] = append(all, kept{id, last})
	l.mu.Unlock()
}

// Recall implements messages.Sequences. A topic that was deleted and created
// again is another, and its sequences begin anew; but only two ids that are known
// and differ say so. Without them the numbering goes on, under the next epoch at
// the latest when the broker refuses it: what begins at 0 again under the same
// identity is answered with success and dropped.
func (l *Ledger) Recall(topic string, id [16]byte, partition int32) (messages.LastSequence, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.last[place{topic, partition}]
	for i := len(all) - 1; i >= 0; i-- {
		if k := &all[i]; k.id == id || id == noID || k.id == noID {
			return k.last, true
		}
	}
	return messages.LastSequence{}, false
}

// noID is the id of a topic that nobody has told.
var noID [16]byte
