package accumulator

import (
	"errors"
	"fmt"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// batchList is every batch of the partition that has no outcome yet. The lines
// they stand in may be wrong after a crash; this list says who is owed an answer.
type batchList struct{ first, last *batch }

func (l *batchList) add(b *batch) {
	b.before, b.after = l.last, nil
	if l.last == nil {
		l.first = b
	} else {
		l.last.after = b
	}
	l.last = b
}

func (l *batchList) remove(b *batch) {
	if b.before == nil && b.after == nil && l.first != b {
		return
	}
	if b.before == nil {
		l.first = b.after
	} else {
		b.before.after = b.after
	}
	if b.after == nil {
		l.last = b.before
	} else {
		b.after.before = b.before
	}
	b.before, b.after = nil, nil
}

// insert puts b behind at.
func (l *batchList) insert(b, at *batch) {
	if at == l.last {
		l.add(b)
		return
	}
	b.before, b.after = at, at.after
	at.after.before = b
	at.after = b
}

func (s *State) enlist(b *batch) *batch {
	s.unsettled.add(b)
	return b
}

// errCrashed is the end of an attempt whose answer crashed the accumulator.
var errCrashed = fmt.Errorf("%w: the accumulator crashed over the broker's answer", messages.ErrInternal)

// errRestartBroken is why records fail when a crash left a state that
// contradicts itself.
var errRestartBroken = errors.New("accumulator crashed and its state is damaged")

// maxCrashes is how many crashes in a row a partition's records outlive.
const maxCrashes = 3

var errCrashesAgain = errors.New("it crashes again and again")

// mend makes the state whole after a crash: an answer that was being settled
// counts as lost, since settling it again would crash again; and if the lines
// contradict each other, or this is not the first crash in a row, every record
// fails, and a new epoch numbers what comes. It returns why.
func (s *State) mend(now seams.Instant) error {
	s.mending = true
	defer func() { s.mending = false }()
	s.suspect = false
	s.announced = false
	a := s.settling
	s.settling = nil
	err := s.invariant()
	if err == nil && s.crashes > maxCrashes {
		err = errCrashesAgain
	}
	if err == nil {
		if a != nil && a.batch.current == a {
			s.settle(a, messages.Result{Now: now, Broker: a.broker, Sent: true, Err: errCrashed})
		}
		s.renumberPending()
		return nil
	}
	closed := s.closed
	defer func() { // also if it crashes over one of them: what comes next goes on
		s.closed, s.needsEpoch, s.crashes = closed, true, 0
	}()
	s.failAll(fmt.Errorf("%w: %w", messages.ErrInternal, errRestartBroken))
	return err
}

// crashed is mend for a new incarnation of the actor.
func (s *State) crashed(now seams.Instant) error {
	s.crashes++
	return s.mend(now)
}

// failAll answers every record and refuses more.
func (s *State) failAll(cause error) {
	if s.closed == nil {
		s.closed = cause
	}
	open := s.open
	clear(s.pending)
	clear(s.inFlight)
	s.open, s.pending, s.inFlight, s.backlogBytes = nil, s.pending[:0], s.inFlight[:0], 0
	if open != nil && open.count == 0 {
		s.discard(open)
	}
	for b := s.unsettled.first; b != nil; b = s.unsettled.first {
		if b.failing {
			s.unsettled.remove(b) // it crashed over this one: the others get their outcomes
		}
		b.failing, b.sealed = true, true
		status := b.status()
		if b.attempts > 0 && (s.mending || s.suspect) {
			status = messages.PossiblyPersisted // the doubt may be what was lost
		}
		s.fail(b, cause, status)
		s.unsettled.remove(b)
		b.current = nil
	}
	// Whatever the count was, nobody is owed an answer now.
	s.unanswered = 0
}

// invariant is checked by tests after every step and by each new incarnation of
// the actor.
func (s *State) invariant() error {
	var last batchOrder
	live := int64(0)
	bytes := 0
	for _, b := range s.pending {
		if b.order <= last {
			return fmt.Errorf("pending batch %v stands after %v", b.order, last)
		}
		if b.settled || !b.sealed || b.current != nil {
			return fmt.Errorf("pending batch %v is settled, open or in flight", b.order)
		}
		last = b.order
		live += int64(b.live())
		bytes += b.bytes
	}
	if bytes != s.backlogBytes {
		return fmt.Errorf("backlog is %d bytes, counted %d", bytes, s.backlogBytes)
	}
	if s.open != nil {
		if s.open.order <= last {
			return fmt.Errorf("open batch %v stands after %v", s.open.order, last)
		}
		live += int64(s.open.live())
	}
	for _, b := range s.inFlight {
		if b.settled || b.current == nil {
			return fmt.Errorf("in-flight batch %v is settled or has no attempt", b.order)
		}
		live += int64(b.live())
	}
	if live != s.unanswered {
		return fmt.Errorf("%d records are unanswered, counted %d", live, s.unanswered)
	}
	if limit := max(s.maxInFlight, s.unnumberedInFlight); len(s.inFlight) > limit {
		return fmt.Errorf("%d batches in flight, limit %d", len(s.inFlight), limit)
	}
	return s.checkUnsettled()
}

// checkUnsettled holds the list of all batches against the lines they stand in.
func (s *State) checkUnsettled() error {
	n := len(s.pending) + len(s.inFlight)
	if s.open != nil {
		n++
	}
	listed := 0
	for b := s.unsettled.first; b != nil; b = b.after {
		if b.settled {
			return fmt.Errorf("batch %v has its outcome and is listed", b.order)
		}
		listed++
	}
	if listed != n {
		return fmt.Errorf("%d batches have no outcome, %d stand in a line", listed, n)
	}
	return nil
}
