package accumulator

import (
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
)

// Evacuate implements messages.Appender.
func (b *Box) Evacuate(cause error) messages.Identity {
	b.mu.Lock()
	b.leaving = append(b.leaving, b.state.evacuate()...)
	b.state.failAll(cause)
	identity := b.state.identity
	b.unlock(b.timing)
	return identity
}

// MoveTo implements messages.Appender. Both locks are held: a Flush that looks at one
// box after the other must find a batch in either.
func (b *Box) MoveTo(next messages.Appender) {
	to := next.(*Box)
	b.mu.Lock()
	to.mu.Lock()
	to.state.inherit(b.leaving, to)
	b.leaving = nil
	b.mu.Unlock()
	now := to.settings.Clock.Now()
	to.state.review(now)
	to.unlock(to.state.nextDeadline(now))
}

// evacuate takes the batches out that are certainly in no log: they were never handed
// over, or every attempt was refused. They may be sent to another.
func (s *State) evacuate() (leaving []*batch) {
	if o := s.open; o != nil {
		// Not by sealOpen: its records have the time that is left, and the codec can wait.
		s.open = nil
		o.trimTail()
		o.sealed = true
		if o.count > 0 {
			s.pending = append(s.pending, o)
			s.backlogBytes += o.bytes
		} else {
			s.discard(o)
		}
	}
	kept := s.pending[:0]
	for _, b := range s.pending {
		if b.maybe || b.live() == 0 {
			kept = append(kept, b)
			continue
		}
		s.went.Note(messages.BatchEvacuated)
		if b.hasSequence && b.identity == s.identity {
			s.needsEpoch = true // its numbers are taken by nobody, should the topic come back
		}
		s.unsettled.remove(b)
		s.unanswered -= int64(b.live())
		s.backlogBytes -= b.bytes
		leaving = append(leaving, b)
	}
	clear(s.pending[len(kept):])
	s.pending = kept
	return leaving
}

// inherit takes in batches of the partition that went before, whose records have not
// been numbered here.
func (s *State) inherit(leaving []*batch, box *Box) {
	for _, b := range leaving {
		s.batchCount++
		b.order = s.batchCount * orderStep
		b.box.Store(box)
		b.hasSequence, b.identity, b.sequence = false, messages.NoIdentity, 0
		s.enlist(b)
		s.unanswered += int64(b.live())
		s.pending = append(s.pending, b)
		s.backlogBytes += b.bytes
		if b.codec != codecs.None && b.packed == nil && !b.compressing && b.attempts == 0 {
			s.compress(b)
		}
	}
}

// stay takes batches back that have nowhere to go: they fail with all others.
func (s *State) stay(leaving []*batch) {
	for _, b := range leaving {
		s.enlist(b)
		s.unanswered += int64(b.live())
	}
}
