package accumulator

import (
	"slices"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Evacuate implements messages.Appender.
func (b *Box) Evacuate(cause error) messages.Identity {
	identity := messages.NoIdentity
	b.lastly("a partition could not be closed", cause, func(s *State) {
		identity = s.identity
		s.evacuate(b.settings.Clock.Now(), &b.leaving)
		s.failAll(cause)
	})
	b.guarded("flushes do not wait for a partition that was closed", func(s *State) {
		// Callbacks of records that ended ahead of their batches run here, and not
		// where the batches go: who waits for those waits for these as well.
		var flushes []*messages.FlushWaiter
		for _, p := range b.leaving {
			for _, w := range p.flushes {
				w.Add(1)
				flushes = append(flushes, w)
			}
		}
		s.mark(flushes...)
	})
	b.Signal() // for their deadlines: a crash of the router may keep them here
	return identity
}

// MoveTo implements messages.Appender. Both locks are held: a Flush that looks at one
// box after the other must find a batch in either.
func (b *Box) MoveTo(next messages.Appender) {
	to := next.(*Box)
	b.mu.Lock()
	to.mu.Lock()
	held, both := true, true
	defer func() {
		if !held {
			return
		}
		if both {
			b.mu.Unlock()
		}
		to.survive(&held, recover(), "batches could not be moved")
	}()
	leaving := b.leaving
	b.leaving = nil
	to.state.inherit(leaving, to)
	both = false
	b.mu.Unlock()
	to.mendFirst()
	to.state.review(to.settings.Clock.Now())
	held = false
	to.unlock(seams.Never)
	to.Signal() // for their deadlines: one may be over
}

// evacuate takes the batches out that are certainly in no log: they were never handed
// over, or every attempt was refused. They may be sent to another.
func (s *State) evacuate(now seams.Instant, leaving *[]*batch) {
	s.sealOpen(now)
	kept := s.pending[:0]
	for _, b := range s.pending {
		if b.maybe || b.live() == 0 {
			kept = append(kept, b)
			continue
		}
		s.note(messages.BatchEvacuated)
		if b.hasSequence && b.identity == s.identity {
			s.needsEpoch = true // its numbers are taken by nobody, should the topic come back
		}
		s.unsettled.remove(b)
		s.unanswered -= int64(b.live())
		s.backlogBytes -= b.bytes
		*leaving = append(*leaving, b)
	}
	clear(s.pending[len(kept):])
	s.pending = kept
}

// inherit takes in batches of the partition that went before, whose records have not
// been numbered here. All are listed before anything is decided: they would fail, but
// not be forgotten.
func (s *State) inherit(leaving []*batch, box *Box) {
	for _, b := range leaving {
		b.box.Store(box)
		s.enlist(b)
	}
	for _, b := range leaving {
		s.batchCount++
		b.order = s.batchCount * orderStep
		b.hasSequence, b.identity, b.sequence = false, messages.NoIdentity, 0
		s.unanswered += int64(b.live())
		s.pending = append(s.pending, b)
		s.backlogBytes += b.bytes
	}
}

// expireLeaving answers the records whose time is over while their batches wait for the
// topic's next creation, and returns when to look again. A batch is taken out first: it
// must not be in two lines when a crash is mended.
func (b *Box) expireLeaving(now seams.Instant) seams.Instant {
	at := seams.Never
	for i := 0; i < len(b.leaving); {
		p := b.leaving[i]
		if b.state.hasEnded(p, now) {
			b.leaving = slices.Delete(b.leaving, i, i+1)
			b.state.stay([]*batch{p})
			b.state.expireWaiting(p, now)
			if p.settled {
				continue
			}
			b.state.unsettled.remove(p)
			b.state.unanswered -= int64(p.live())
			b.leaving = slices.Insert(b.leaving, i, p)
		}
		at = min(at, b.state.recordsEnd(p, now))
		i++
	}
	return at
}

// stay takes batches back that have nowhere to go: they fail with all others.
func (s *State) stay(leaving []*batch) {
	for _, b := range leaving {
		s.enlist(b)
		s.unanswered += int64(b.live())
	}
}
