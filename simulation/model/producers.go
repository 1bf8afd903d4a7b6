package model

import (
	"slices"

	"github.com/troupe-kafka/troupe/protocol"
)

// remembered is how many batches of a producer a replica recognises.
const remembered = 5

// appended is what a replica remembers of a batch.
type appended struct {
	first, last int32 // sequences
	base, end   int64 // offsets: the first record's, and the one behind the last
	timestamp   int64
}

// producerEntry is what a replica knows of one producer.
type producerEntry struct {
	id        int64
	epoch     int16
	count     int8
	batches   [remembered]appended // the newest last
	timestamp int64                // of the last batch; expiry counts from it
}

func (e *producerEntry) newest() *appended {
	if e.count == 0 {
		return nil
	}
	return &e.batches[e.count-1]
}

// producerTable is a replica's memory of producers, ordered by id: no order may
// come from a map.
type producerTable []producerEntry

func (t producerTable) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(t, id, func(e producerEntry, id int64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
}

// add remembers a batch. It does not ask whether it may stand there: a follower
// and a replay take what the leader took. A batch of another epoch, even of an
// older one, replaces all that was known.
func (t *producerTable) add(id int64, epoch int16, a appended) {
	i, known := t.find(id)
	if !known {
		*t = slices.Insert(*t, i, producerEntry{id: id, epoch: epoch})
	}
	e := &(*t)[i]
	if e.epoch != epoch {
		e.epoch, e.count = epoch, 0
	}
	if e.count == remembered {
		copy(e.batches[:], e.batches[1:])
		e.count--
	}
	e.batches[e.count] = a
	e.count++
	e.timestamp = a.timestamp
}

// check is the validation of a client's batch. A duplicate of a remembered batch
// comes first: it is a success, whatever was appended since.
func (t producerTable) check(b *Batch, firstMustBeZero bool) (duplicate *appended, code protocol.ErrorCode) {
	i, known := t.find(b.ProducerID)
	if !known {
		if firstMustBeZero && b.BaseSequence != 0 {
			return nil, protocol.OutOfOrderSequenceNumber
		}
		return nil, protocol.None // any sequence will do
	}
	e := &t[i]
	if b.ProducerEpoch == e.epoch {
		last := b.lastSequence()
		for k := range e.batches[:e.count] {
			if a := &e.batches[k]; a.first == b.BaseSequence && a.last == last {
				return a, protocol.None
			}
		}
	}
	switch {
	case b.ProducerEpoch < e.epoch:
		return nil, protocol.InvalidProducerEpoch
	case b.ProducerEpoch > e.epoch && b.BaseSequence != 0:
		return nil, protocol.OutOfOrderSequenceNumber
	case b.ProducerEpoch == e.epoch && b.BaseSequence != protocol.AddSequence(e.newest().last, 1):
		return nil, protocol.OutOfOrderSequenceNumber
	}
	return nil, protocol.None
}

// expire forgets the producers whose last batch is too old.
func (t *producerTable) expire(nowMillis, afterMillis int64) {
	*t = slices.DeleteFunc(*t, func(e producerEntry) bool { return nowMillis-e.timestamp >= afterMillis })
}

// snapshot is a producer snapshot file: of each producer only the last batch.
type snapshot struct {
	offset  int64
	entries producerTable
}

// takeSnapshot writes a snapshot at an offset, if there is anything new since the
// last one. A snapshot holds only the last batch of each producer.
func (r *replica) takeSnapshot(at int64) {
	if at <= r.lastSnapshot {
		return
	}
	s := snapshot{offset: at, entries: make(producerTable, len(r.producers))}
	for i := range r.producers {
		e := &r.producers[i]
		s.entries[i] = producerEntry{id: e.id, epoch: e.epoch, count: 1, timestamp: e.timestamp}
		s.entries[i].batches[0] = *e.newest()
	}
	r.snapshots = append(r.snapshots, s)
	r.lastSnapshot = at
}

// rebuild makes the producers anew as they were at limit: from the newest
// snapshot up to there that is above the log's start, and from the batches behind it.
// Of a batch in which the log starts all counts: segments are read by whole batches
// (LogSegment.translateOffset).
func (r *replica) rebuild(limit, nowMillis int64) {
	r.reload(limit, nowMillis)
	for _, b := range r.batches[r.holding(r.lastSnapshot):] {
		if b.base >= limit {
			break
		}
		r.remember(b)
	}
	r.takeSnapshot(limit)
}

// cutProducers makes the producers anew for a log that was cut back. The batches are
// not read if nobody was known: cutting changes nothing about that.
func (r *replica) cutProducers(end, nowMillis int64) {
	if len(r.producers) > 0 {
		r.rebuild(end, nowMillis)
		return
	}
	r.reload(end, nowMillis)
	r.takeSnapshot(end)
}

// reload drops the snapshots that are not in the log, and reads the newest.
func (r *replica) reload(limit, nowMillis int64) {
	r.snapshots = slices.DeleteFunc(r.snapshots, func(s snapshot) bool { return s.offset > limit || s.offset <= r.start })
	r.producers, r.lastSnapshot = nil, r.start
	if n := len(r.snapshots); n > 0 {
		s := r.snapshots[n-1]
		r.producers = append(r.producers, s.entries...)
		r.producers.expire(nowMillis, r.expiryMillis)
		r.lastSnapshot = s.offset
	}
}

// load makes the producers anew after a restart. Kafka's recovery after an
// unclean end reads the newest segment, writes a snapshot at its end and then
// loads that: so either way only the last batch of a producer is known.
func (r *replica) load(clean bool, nowMillis int64) {
	if clean {
		r.takeSnapshot(r.end)
	} else {
		newest := r.segments[len(r.segments)-1]
		r.rebuild(newest, nowMillis)
		for _, b := range r.batches[r.at(newest):] {
			r.remember(b)
		}
		r.takeSnapshot(r.end)
	}
	r.dropStraySnapshots()
	r.rebuild(r.end, nowMillis)
}

// dropStraySnapshots keeps the snapshots at the starts of segments, and of the
// others the newest if it is above them.
func (r *replica) dropStraySnapshots() {
	newest := len(r.snapshots) - 1
	kept := r.snapshots[:0]
	for i, s := range r.snapshots {
		_, atSegment := slices.BinarySearch(r.segments, s.offset)
		if atSegment || (i == newest && s.offset > r.segments[len(r.segments)-1]) {
			kept = append(kept, s)
		}
	}
	r.snapshots = kept
}

// remember updates the producers with a batch that has been appended.
func (r *replica) remember(b *stored) {
	if b.ProducerID < 0 {
		return
	}
	r.producers.add(b.ProducerID, b.ProducerEpoch, appended{
		first: b.BaseSequence, last: b.lastSequence(), base: b.base, end: b.end(), timestamp: b.timestamp,
	})
}
