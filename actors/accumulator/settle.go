package accumulator

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// settle decides what the end of an attempt means for its batch.
func (s *State) settle(a *attempt, r messages.Result) {
	b := a.batch
	if b.current != a {
		// The attempt was taken back when the leader moved, or the batch was
		// failed: whatever the old leader says, the batch's fate is decided
		// elsewhere.
		return
	}
	b.current = nil
	for i, f := range s.inFlight {
		if f == b {
			s.inFlight = slices.Delete(s.inFlight, i, i+1) // and nothing of it is kept
			break
		}
	}
	open := r.Now.Sub(a.taken)
	if r.Err != nil {
		s.settleLost(a, r, open)
		return
	}
	info := protocol.LookupError(r.Code)
	s.took.Note(info.Action)
	if info.Action == protocol.Succeed || r.Code == 0 {
		s.settleSuccess(a, r, open)
		return
	}
	b.lastError = protocol.ErrorCode(r.Code)
	if r.ErrorMessage != "" {
		b.lastError = fmt.Errorf("%w (%s)", b.lastError, r.ErrorMessage)
	}
	appended := info.WasAppended(r.BaseOffset)
	if info.Action != protocol.NewEpoch {
		b.maybe = b.maybe || appended
	}
	switch protocol.ErrorCode(r.Code) {
	case protocol.RequestTimedOut, protocol.NotEnoughReplicas, protocol.NotEnoughReplicasAfterAppend:
		s.slow = true
	}
	if r.LeaderID >= 0 && r.LeaderEpoch > s.leader.LeaderEpoch {
		s.fx.hint = &messages.LeaderHinted{Topic: s.topic, Partition: s.partition, LeaderID: r.LeaderID, LeaderEpoch: r.LeaderEpoch}
	}
	if info.Refresh {
		s.fx.refresh = info.Name
	}
	switch info.Action {
	case protocol.Retry:
		s.retry(a, r.Now)
	case protocol.NewEpoch:
		s.settleSequenceError(a, r.Now)
	case protocol.Split:
		s.split(b, r.Now)
	case protocol.Fatal:
		s.fx.fatal = b.lastError
		s.fail(b, b.lastError, b.status())
	default:
		s.closeGate()
		s.refuse(b, r)
	}
}

func (s *State) settleSuccess(a *attempt, r messages.Result, open time.Duration) {
	b := a.batch
	s.failures = 0
	s.retryAt = 0
	s.slow = open > s.slowRequest
	if b.numbered {
		// Of another the broker takes note without knowing who sent it.
		s.lastSuccess = r.Now
		if a.number > s.gate {
			s.oneInFlight = false
		}
	}
	s.limit.accepted(b.bytes, s.batchMaxBytes, r.Now)
	offset := r.BaseOffset
	if b.acks == messages.AcksNone || protocol.ErrorCode(r.Code) == protocol.DuplicateSequenceNumber {
		offset = -1
	}
	if offset < 0 && b.acks != messages.AcksNone {
		s.note(messages.BatchRecognised)
	}
	s.note(messages.BatchSucceeded)
	s.countSuccess(b, r.Now)
	s.finish(b, messages.Delivery{
		Topic: s.topic, Partition: s.partition, Offset: offset,
		LogAppendTimeMs: s.appendTime(a, r.LogAppendTimeMs), LogStartOffset: r.LogStartOffset,
		Status: messages.Persisted, Attempts: b.attempts, LastBrokerError: b.lastError,
	})
}

func (s *State) countSuccess(b *batch, now seams.Instant) {
	waited := time.Duration(0)
	for n, run := range b.side.stamps {
		waited += time.Duration(b.runEnd(n)-run.first) * now.Sub(run.admitted)
	}
	if b.answeredCount > 0 && b.count > 0 {
		waited = waited / time.Duration(b.count) * time.Duration(b.live()) // about: they have left at different times
	}
	s.tally.Add(messages.CountBatches, 1)
	s.tally.Add(messages.CountBatchBytes, uint64(b.bytes))
	s.tally.Add(messages.CountWireBytes, uint64(b.wireBytes()))
	s.tally.Add(messages.CountRecordTime, uint64(max(waited, 0)))
}

// appendTime is the broker's time of the append, or −1. A broker that recognises a
// batch answers with the time of its newest record, also where records keep their
// own: what a first attempt was told says which it is.
func (s *State) appendTime(a *attempt, ms int64) int64 {
	switch {
	case !a.again:
		s.brokersTime = ms >= 0
	case !s.brokersTime && ms == a.batch.maxMs:
		return -1
	}
	return ms
}

// settleLost is the end of an attempt without an answer.
func (s *State) settleLost(a *attempt, r messages.Result, open time.Duration) {
	b := a.batch
	b.lastError = r.Err
	b.maybe = b.maybe || r.Sent
	s.note(messages.BatchLost)
	s.slow = s.slow || open > s.slowRequest // a loss is no answer: it ends no slowness
	if b.acks == messages.AcksNone && r.Sent {
		// Nothing will ever tell what became of it; another try could reorder.
		s.fail(b, r.Err, messages.PossiblyPersisted)
		return
	}
	s.fx.refresh = "no answer from broker"
	s.retry(a, r.Now)
	if s.failures == 1 {
		// The first loss costs no wait: the batch goes out when a connection is
		// up, which is paced by the connection's own backoff. Losing it again
		// and again is another matter.
		s.retryAt = r.Now
	}
}

// retry puts a batch back in line, or fails it when the policy or its records'
// own time is used up. What was in flight together fails together: only the
// first of such attempts makes the wait longer.
func (s *State) retry(a *attempt, now seams.Instant) {
	b := a.batch
	first := s.failures == 0 || !s.oneInFlight || a.number > s.gate
	if first {
		s.failures++
	}
	if s.requeueLive(b) && first {
		s.retryAt = now.Add(s.config.retry.Delay(s.failures, s.random))
	}
}

// requeueLive is retry without the wait: it reports whether the batch is back in
// line.
func (s *State) requeueLive(b *batch) bool {
	s.closeGate()
	switch {
	case b.live() == 0:
		s.fail(b, messages.ErrDeliveryTimeout, b.status())
	case !s.config.retry.Allows(b.attempts):
		s.fail(b, fmt.Errorf("%w after %d attempts: %w", messages.ErrRetriesExhausted, b.attempts, b.lastError), b.status())
	default:
		s.requeue(b)
		return !b.settled
	}
	return false
}

// settleSequenceError handles OUT_OF_ORDER_SEQUENCE_NUMBER and
// UNKNOWN_PRODUCER_ID. While an earlier batch is unsettled they only say that
// the earlier one is missing; once the batch is next in line they say that the
// sequence cannot go on under this identity.
func (s *State) settleSequenceError(a *attempt, now seams.Instant) {
	b := a.batch
	if s.earlierUnsettled(b) {
		s.requeueLive(b) // the earlier one's wait is wait enough
		return
	}
	s.needsEpoch = true
	if b.maybe {
		// After an ambiguous attempt the broker may have appended the batch and
		// since forgotten that it did (KAFKA-9199): under a new epoch it would
		// stand in the log twice.
		s.closeGate()
		s.fail(b, b.lastError, messages.PossiblyPersisted)
		return
	}
	s.retry(a, now)
	if b.settled {
		return
	}
	// The batch is certainly not in the log, and no later one can be: they are
	// numbered anew, in order, under the next epoch. Those in flight follow
	// when they are back in line.
	s.breakFrom(b)
}

// errBrokenBefore is why a batch fails that may be in a log and stands behind one
// that is not. Nobody may have said anything of it yet.
var errBrokenBefore = errors.New("a batch before it was refused, and its own sequence cannot go on")

// breakFrom takes the numbers from a batch that is certainly in no log and from
// all behind it. Those behind of which that is not certain fail: a broker that
// knows the producer has not appended them without the first, but one that has
// lost the records before, and has forgotten it, took any sequence.
func (s *State) breakFrom(b *batch) {
	if s.broken != b.identity || b.order < s.brokenFrom {
		s.broken, s.brokenFrom = b.identity, b.order
	}
	s.needsEpoch = true
	s.renumberBroken(b)
	s.renumberPending()
}

// renumberPending is the part of breakFrom that concerns those behind, and is done
// again after a crash that may have come in the middle of it.
func (s *State) renumberPending() {
	kept := s.pending[:0]
	for _, p := range s.pending {
		if s.renumberBroken(p) {
			kept = append(kept, p)
			continue
		}
		s.backlogBytes -= p.bytes
		s.fail(p, errBrokenBefore, messages.PossiblyPersisted)
	}
	clear(s.pending[len(kept):])
	s.pending = kept
}

// renumberBroken takes the number from a batch whose sequence broke before it. It
// reports false if the batch may be in a log all the same.
func (s *State) renumberBroken(b *batch) bool {
	if !b.hasSequence || b.identity != s.broken || b.order < s.brokenFrom {
		return true
	}
	if b.maybe {
		return false
	}
	b.hasSequence = false
	s.note(messages.BatchLostNumber)
	return true
}

func (s *State) earlierUnsettled(b *batch) bool {
	for _, f := range s.inFlight {
		if f.order < b.order && f.numbered {
			return true
		}
	}
	return len(s.pending) > 0 && s.pending[0].order < b.order && s.pending[0].hasSequence
}

// assign takes in who leads the partition now.
func (s *State) assign(l messages.AssignLeader, now seams.Instant) {
	moved := l.ID != s.leader.ID
	newer := l.LeaderEpoch > s.leader.LeaderEpoch || l.LeaderEpoch < 0
	changed := moved || l.LeaderEpoch != s.leader.LeaderEpoch
	s.leader = l
	if !changed {
		return
	}
	s.closeGate()
	if newer {
		s.retryAt = 0
	}
	if !moved {
		return
	}
	s.announced = false
	if !newer {
		return
	}
	// Numbered batches at the old leader are sent again at once: if it had
	// appended and replicated them, the new leader recognises the numbers.
	// Unnumbered ones wait for their answer or their connection's end.
	kept := s.inFlight[:0]
	for _, b := range s.inFlight {
		if !b.numbered {
			kept = append(kept, b)
			continue
		}
		b.current = nil
		b.maybe = true
		s.note(messages.BatchTakenBack)
		if b.live() == 0 {
			s.fail(b, messages.ErrDeliveryTimeout, messages.PossiblyPersisted)
			continue
		}
		s.requeue(b)
	}
	clear(s.inFlight[len(kept):])
	s.inFlight = kept
}
