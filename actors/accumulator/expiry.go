package accumulator

import (
	"fmt"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// contextSweep is how late the end of a record's context may be noticed.
const contextSweep = 100 * time.Millisecond

// expireUnsent answers the records whose context or delivery timeout has ended while
// nothing of the batch was ever handed over: they are not persisted. They are cut out
// at once, or from a batch that is compressed when it is next (cutFirst): many batches
// may have such records, and unpacked together they would take more than the buffer.
func (s *State) expireUnsent(b *batch, now seams.Instant) {
	gone, causes := s.endedRecords(b, now)
	if len(gone) == 0 {
		return
	}
	s.answerSome(b, gone, causes, messages.NotPersisted)
	switch {
	case b.live() == 0:
		s.finish(b, messages.Delivery{Status: messages.NotPersisted})
		b.count = 0
	case b.packed == nil && !b.compressing: // nor in line for the codec, which reads all of them
		b.cutAnswered()
		s.note(messages.BatchCut)
	}
}

// cutFirst cuts the records out of the batch that is next that were answered before
// it was ever handed over.
func (s *State) cutFirst() {
	for len(s.pending) > 0 {
		b := s.pending[0]
		if b.attempts > 0 || b.answeredCount == 0 || b.compressing {
			return
		}
		if err := s.unpack(b); err != nil {
			s.unqueue(b)
			s.fail(b, err, messages.NotPersisted)
			continue
		}
		s.backlogBytes -= b.bytes
		b.cutAnswered()
		s.backlogBytes += b.bytes
		s.note(messages.BatchCut)
		s.compress(b) // that is what it was
	}
}

// endedRecords lists the unanswered records of b whose own time is over. Causes
// are shared by pointer: the user's need not be comparable.
func (s *State) endedRecords(b *batch, now seams.Instant) (gone []int32, causes []*error) {
	limit := now.Add(-s.deliveryTimeout)
	if b.oldestAdmission() <= limit {
		timeout := s.timedOut()
		for n, run := range b.side.stamps {
			if run.admitted > limit {
				continue
			}
			for i := run.first; i < b.runEnd(n); i++ {
				if !b.isAnswered(i) {
					gone = append(gone, i)
					causes = append(causes, &timeout)
				}
			}
		}
	}
	for n, run := range b.side.contexts {
		cause := messages.EndOf(run.ctx)
		if cause == nil {
			continue
		}
		end := b.count
		if n+1 < len(b.side.contexts) {
			end = b.side.contexts[n+1].first
		}
		for i := run.first; i < end; i++ {
			if !b.isAnswered(i) && b.side.admittedAt(i) > limit {
				gone = append(gone, i)
				causes = append(causes, &cause)
			}
		}
	}
	return gone, causes
}

// timedOut is the end of a record's time.
func (s *State) timedOut() error {
	return s.because(fmt.Errorf("%w after %v", messages.ErrDeliveryTimeout, s.deliveryTimeout))
}

// because adds to the end of records what has kept them, if that is known.
func (s *State) because(err error) error {
	switch trouble := s.troubles.Of(s.leader.ID); {
	case s.leader.Broker == nil:
		return fmt.Errorf("%w: the partition has no leader", err)
	case trouble != nil:
		return fmt.Errorf("%w: %w", err, trouble)
	}
	return err
}

// sweep answers records whose time is over and drops batches without a live
// record from the line.
func (s *State) sweep(now seams.Instant) {
	if o := s.open; o != nil && o.count > 0 && s.hasEnded(o, now) {
		s.sealOpen(now)
	}
	kept := s.pending[:0]
	for _, b := range s.pending {
		if !s.hasEnded(b, now) {
			kept = append(kept, b)
			continue
		}
		s.backlogBytes -= b.bytes
		s.expireWaiting(b, now)
		if !b.settled {
			s.backlogBytes += b.bytes
			kept = append(kept, b)
		}
	}
	clear(s.pending[len(kept):])
	s.pending = kept
	for _, b := range s.inFlight {
		if now.Sub(b.current.taken) > s.slowRequest {
			s.slow = true // the next ones do not stand in others' way
		}
		if s.hasEnded(b, now) {
			s.answerHandedOver(b, now)
		}
	}
}

// expireWaiting answers the records of a batch in line whose time is over.
func (s *State) expireWaiting(b *batch, now seams.Instant) {
	if b.attempts == 0 {
		s.expireUnsent(b, now)
		return
	}
	s.answerHandedOver(b, now)
	if b.live() == 0 {
		s.fail(b, messages.ErrDeliveryTimeout, b.status())
	}
}

// answerHandedOver answers the records of a batch whose bytes are frozen. As
// long as one record is live the bytes travel on, so the others may still be
// persisted, whatever became of the attempts so far.
func (s *State) answerHandedOver(b *batch, now seams.Instant) {
	gone, causes := s.endedRecords(b, now)
	if len(gone) == 0 {
		return
	}
	status := messages.PossiblyPersisted
	if int(b.live()) == len(gone) {
		status = b.status()
	}
	s.answerSome(b, gone, causes, status)
	if b.live() == 0 {
		s.note(messages.BatchOrphaned)
	}
	if b.live() == 0 && len(b.flushes) > 0 {
		// The bytes travel on for nobody: a flush waits for callbacks, not for them.
		s.mark(b.flushes...)
		b.flushes = nil
	}
}

// mark puts an empty batch behind those in the completion lane. It ends after
// their callbacks, and the flushes with it.
func (s *State) mark(flushes ...*messages.FlushWaiter) {
	marker := &batch{side: &side{callbacks: []callbackRun{{}}}, flushes: flushes, settled: true}
	s.answeringOpen++
	s.fx.answer(answer{batch: marker, side: marker.side})
}

func (s *State) hasEnded(b *batch, now seams.Instant) bool {
	if b.oldestAdmission() <= now.Add(-s.deliveryTimeout) {
		return true
	}
	for _, run := range b.side.contexts {
		if messages.EndOf(run.ctx) != nil {
			return true
		}
	}
	return false
}

// lingering is when the open batch is ready of itself, if that is to come.
func (s *State) lingering(now seams.Instant) seams.Instant {
	if o := s.open; o != nil && o.count > 0 && o.lingerUntil > now {
		return o.lingerUntil
	}
	return seams.Never
}

// nextDeadline is when the state wants to step again if nothing else happens, but
// for the end of a linger.
func (s *State) nextDeadline(now seams.Instant) seams.Instant {
	at := seams.Never
	if o := s.open; o != nil && o.count > 0 {
		at = s.recordsEnd(o, now)
	}
	if len(s.pending) > 0 {
		for _, b := range s.pending {
			at = min(at, s.recordsEnd(b, now))
		}
		if s.retryAt > now {
			at = min(at, s.retryAt)
		}
	}
	for _, b := range s.inFlight {
		at = min(at, s.recordsEnd(b, now))
		if !s.slow {
			at = min(at, b.current.taken.Add(s.slowRequest+1))
		}
	}
	return at
}

// recordsEnd is when to look at a batch's records again: when the time of one is over,
// or its context may be.
func (s *State) recordsEnd(b *batch, now seams.Instant) seams.Instant {
	if b.live() == 0 {
		return seams.Never
	}
	deadline := b.oldestAdmission().Add(s.deliveryTimeout)
	if deadline <= now {
		// The oldest are answered already; the next ones are due later.
		deadline = b.dueAfter(now, s.deliveryTimeout)
	}
	if len(b.side.contexts) > 0 {
		deadline = min(deadline, now.Add(contextSweep))
	}
	return deadline
}
