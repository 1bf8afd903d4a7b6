package accumulator

import (
	"math/rand/v2"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// modelBatch is a batch in the model's log.
type modelBatch struct {
	wire
	tags   []uint64
	offset int64
}

// model is one partition of a cluster: a log that a newly elected leader may
// have without its uncommitted end, and Kafka's rules of producer state.
type model struct {
	leader, epoch int32
	log           []modelBatch
	committed     int // batches
	waiting       []*flight
	calm          bool // no errors of the broker's own
	maxBytes      int  // of a batch on the wire; 0: no bound
}

// flight is one attempt on its way to a broker and back.
type flight struct {
	attempt *attempt
	wire    wire
	tags    []uint64
	result  *messages.Result // nil: not answered yet
	arrived bool
	ended   bool // the write
}

// arrive lets a broker handle a request as Kafka does.
func (m *model) arrive(broker int32, f *flight, random *rand.Rand) {
	f.arrived = true
	refuse := func(code protocol.ErrorCode) {
		r := errorResult(code, -1)
		f.result = &r
	}
	if broker != m.leader {
		refuse(protocol.NotLeaderOrFollower)
		return
	}
	if m.maxBytes > 0 && f.attempt.Bytes() > m.maxBytes {
		refuse(protocol.MessageTooLarge)
		return
	}
	switch n := random.IntN(40); {
	case m.calm:
	case n == 0:
		refuse(protocol.KafkaStorageError)
		return
	case n == 1:
		refuse(protocol.InvalidRecord)
		for i := range f.tags {
			if random.IntN(3) == 0 {
				f.result.RecordErrors = append(f.result.RecordErrors, messages.RecordError{Index: int32(i)})
			}
		}
		return
	case n == 2:
		refuse(protocol.NotEnoughReplicas)
		return
	}
	if f.wire.sequence >= 0 {
		code, copyAt := m.checkSequence(f)
		if code != 0 {
			refuse(code)
			return
		}
		if copyAt >= 0 {
			// A repetition waits for the replicas like the first.
			m.waiting = append(m.waiting, f)
			return
		}
	}
	m.log = append(m.log, modelBatch{wire: f.wire, tags: f.tags, offset: m.end()})
	offset := m.log[len(m.log)-1].offset
	switch {
	case f.attempt.Acks() != messages.AcksAll:
		r := okResult(offset)
		f.result = &r
	case !m.calm && random.IntN(10) == 0:
		r := errorResult(protocol.NotEnoughReplicasAfterAppend, offset)
		if random.IntN(2) == 0 {
			r = errorResult(protocol.RequestTimedOut, -1)
		}
		f.result = &r
	default:
		m.waiting = append(m.waiting, f)
	}
}

func (m *model) end() int64 {
	n := int64(0)
	for _, b := range m.log {
		n += int64(len(b.tags))
	}
	return n
}

// checkSequence gives the error of a batch that does not follow, and the place
// of an earlier copy in the log.
func (m *model) checkSequence(f *flight) (code protocol.ErrorCode, copyAt int) {
	last := -1
	seen := 0
	for i := len(m.log) - 1; i >= 0; i-- {
		b := &m.log[i]
		if b.sequence < 0 || b.identity.ProducerID != f.wire.identity.ProducerID {
			continue
		}
		if last < 0 {
			last = i
		}
		if b.identity != f.wire.identity {
			break
		}
		// Brokers remember the last five.
		if seen++; seen <= 5 && b.sequence == f.wire.sequence && len(b.tags) == len(f.tags) {
			return 0, i
		}
	}
	if last < 0 {
		return 0, -1 // nothing known of the producer: anything goes
	}
	b := &m.log[last]
	switch {
	case f.wire.identity.Epoch < b.identity.Epoch:
		return protocol.InvalidProducerEpoch, -1
	case f.wire.identity.Epoch > b.identity.Epoch && f.wire.sequence != 0,
		f.wire.identity.Epoch == b.identity.Epoch && f.wire.sequence != b.sequence+int32(len(b.tags)):
		return protocol.OutOfOrderSequenceNumber, -1
	}
	return 0, -1
}

// commit brings the replicas up to date.
func (m *model) commit() {
	m.committed = len(m.log)
	for _, f := range m.waiting {
		offset := int64(-1)
		for _, b := range m.log {
			if b.sequence == f.wire.sequence && b.identity == f.wire.identity && b.tags[0] == f.tags[0] {
				offset = b.offset
			}
		}
		r := okResult(offset)
		f.result = &r
	}
	m.waiting = nil
}

// elect makes another broker the leader, with or without what was not committed.
func (m *model) elect(leader int32, truncate bool) {
	for _, f := range m.waiting {
		r := errorResult(protocol.NotLeaderOrFollower, 7) // with an offset: after the append
		f.result = &r
	}
	m.waiting = nil
	m.leader = leader
	m.epoch++
	if truncate {
		m.log = m.log[:m.committed]
	}
	m.committed = min(m.committed, len(m.log))
}
