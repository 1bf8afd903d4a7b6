package accumulator

import (
	"errors"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

func (s *State) canTake(now seams.Instant) bool {
	if s.leader.Broker == nil || now < s.retryAt {
		return false
	}
	// First, since a batch that cannot be unpacked fails: the open one may be next then.
	s.cutFirst()
	if s.limit.bytes < s.batchMaxBytes {
		s.halveFirst()
	}
	if len(s.pending) == 0 {
		if !s.openIsReady(now) {
			return false
		}
		if s.open.codec != codecs.None {
			// Compression runs elsewhere and announces the batch when done.
			s.sealOpen(now)
			return false
		}
	}
	b := s.next()
	return !b.compressing && s.hasWindow(b, now)
}

// hasWindow applies the rules of how many batches may be in flight (DESIGN 4.3).
func (s *State) hasWindow(b *batch, now seams.Instant) bool {
	n := len(s.inFlight)
	if n == 0 {
		return true
	}
	last := s.inFlight[n-1]
	if last.numbered != b.numbered || last.current.broker != s.leader.ID {
		return false
	}
	if s.classOf(b).Lane != last.current.lane {
		return false
	}
	if !b.numbered {
		return n < s.unnumberedInFlight && s.failures == 0
	}
	if s.oneInFlight || s.needsEpoch || now.Sub(s.lastSuccess) > producerForgottenAfter {
		return false
	}
	return n < s.maxInFlight
}

func (s *State) classOf(b *batch) messages.Class {
	c := messages.Class{Lane: messages.LaneProduce, Acks: b.acks}
	switch {
	case b.acks == messages.AcksNone:
		c.Lane = messages.LaneNoAcks
	case s.slow:
		c.Lane = messages.LaneSlow
	}
	return c
}

// take hands the next batch over. The caller stamps it after unlocking.
func (s *State) take(r messages.TakeRequest) (*attempt, messages.TakeStatus) {
	if s.leader.ID != r.Broker {
		// An announcement from before the leader moved; the flag is about the new
		// leader's.
		return nil, messages.TakeDone
	}
	if last := &s.connections[r.Class.Lane]; *last != r.Connection {
		// The broker may have been restarted meanwhile, though it still leads and
		// nothing was on its way; with records that were deleted it then forgets who
		// produced them.
		*last = r.Connection
		s.closeGate()
	}
	if b := s.next(); b != nil && b.count > 0 && s.hasEnded(b, r.Now) {
		s.sweep(r.Now)
	}
	if !s.canTake(r.Now) {
		s.announced = false
		return nil, messages.TakeDone
	}
	b := s.next()
	if s.classOf(b) != r.Class {
		return nil, messages.TakeReclass
	}
	if !r.First && b.wireBytes() > r.RoomBytes {
		return nil, messages.TakeNoRoom
	}
	if b.codec == codecs.Zstd && r.ProduceVersion < 7 {
		s.announced = false
		s.unqueue(b)
		s.fail(b, errZstdTooOld, b.status())
		s.review(r.Now)
		return nil, messages.TakeDone
	}
	if s.needsEpoch && b.hasSequence && b.identity == s.identity && !b.maybe {
		// Before or behind a gap, and certainly in no log: a broker that knows nothing
		// of the producer would take it as the first, gap and all.
		s.breakFrom(b)
	}
	if b.numbered && !b.hasSequence {
		if !s.adopt(r.Identity) {
			return nil, messages.TakeNeedsIdentity
		}
	}
	if !b.sealed {
		s.sealOpen(r.Now)
		if b.count == 0 {
			s.announced = false
			return nil, messages.TakeDone
		}
	}
	s.unqueue(b)
	if b.numbered && !b.hasSequence {
		s.note(messages.BatchNumbered)
		b.identity, b.sequence, b.hasSequence = s.identity, s.nextSequence, true
		s.nextSequence = int32((int64(s.nextSequence) + int64(b.count)) % sequenceModulus)
	}
	s.note(messages.BatchHandedOver)
	s.attemptCount++
	b.attempts++
	b.broker = r.Broker
	a := &b.first
	if b.attempts > 1 {
		a = new(attempt)
		s.tally.Add(messages.CountRetries, 1)
	}
	*a = attempt{
		batch: b, number: s.attemptCount, broker: r.Broker, taken: r.Now, lane: r.Class.Lane,
		numbers: numbers{b.hasSequence, b.identity, b.sequence}, again: b.attempts > 1,
	}
	b.current, s.handing = a, a
	b.holds.Add(1) // until the write has ended: a batch may fail while it is written
	s.inFlight = append(s.inFlight, b)
	if s.canTake(r.Now) {
		return a, messages.TakeMore
	}
	s.announced = false
	return a, messages.TakeDone
}

var errZstdTooOld = errors.New("zstd needs a broker of version 2.1 or later (Produce 7); choose another codec")

// adopt makes sure that the state has an identity under which it may number new
// batches. A partition keeps its identity as long as it can: others' bumps do
// not concern it.
func (s *State) adopt(offered messages.Identity) bool {
	if s.identity.Known() && !s.needsEpoch {
		return true
	}
	if len(s.inFlight) > 0 || !offered.Known() {
		return false
	}
	if s.identity.Known() && !offered.Newer(s.identity) {
		// Ours is the one with the gap, or the broker has not heard of it yet.
		s.fx.bump, s.fx.bumpFrom = true, s.identity
		return false
	}
	// A new identity numbers from 0, and this is the first time that this
	// partition goes under it: identities are never handed out twice.
	if s.identity.Known() {
		s.note(messages.BatchNewIdentity)
	}
	s.identity, s.nextSequence, s.needsEpoch = offered, 0, false
	s.closeGate()
	return true
}

func (s *State) closeGate() {
	s.oneInFlight = true
	s.gate = s.attemptCount
}
