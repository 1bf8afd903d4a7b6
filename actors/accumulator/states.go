package accumulator

import (
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// in is the states that a partition is in: DESIGN.md has the table. Nothing asks
// for it but who watches.
func (s *State) in(now seams.Instant) (in messages.PartitionStates) {
	compressing, doubt := false, false
	for _, b := range s.pending {
		compressing, doubt = compressing || b.compressing, doubt || b.maybe
	}
	filling := s.open != nil && s.open.count > 0
	forgotten := !s.oneInFlight && now.Sub(s.lastSuccess) > producerForgottenAfter
	retired := s.closed == errRetired
	return in.
		With(messages.StateEmpty, !filling && len(s.pending)+len(s.inFlight) == 0).
		With(messages.StateFilling, filling && !s.openIsReady(now)).
		With(messages.StateCompressing, compressing).
		With(messages.StateReady, s.announced).
		With(messages.StateLeaderless, s.leader.Broker == nil).
		With(messages.StateWaiting, now < s.retryAt).
		With(messages.StateOneInFlight, s.oneInFlight).
		With(messages.StateForgotten, forgotten).
		With(messages.StatePipelined, !s.oneInFlight && !forgotten && !s.needsEpoch && len(s.inFlight) > 1).
		With(messages.StateInDoubt, doubt).
		With(messages.StateGap, s.needsEpoch).
		With(messages.StateSlow, s.slow).
		With(messages.StateSmall, s.limit.bytes < s.batchMaxBytes).
		With(messages.StateSuspect, s.suspect || s.settling != nil).
		With(messages.StateRetired, retired).
		With(messages.StateClosed, s.closed != nil && !retired)
}

// observe tells who watches, under the lock.
func (b *Box) observe() {
	if b.watcher != nil {
		s, before := &b.state, b.seen
		b.seen = s.in(b.settings.Clock.Now())
		b.watcher.PartitionStepped(before, b.seen, s.went, s.took)
		s.went, s.took = 0, 0
	}
}
