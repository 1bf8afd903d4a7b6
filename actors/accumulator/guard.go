package accumulator

import (
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// A crash under the lock must not take the lock with it: the partition would stand
// still for ever, and whoever touches it. What follows depends on whose turn it is.
// The accumulator's own fails the actor. Everybody else's is survived, since it is
// no bug of theirs, and the accumulator's next turn mends the state.

// letGo is deferred by whoever decides under the lock. A bug that panics there
// must not take the lock with it: the next step needs it, and mends the state.
func (b *Box) letGo(held *bool) {
	if *held {
		b.state.suspect = true
		b.mu.Unlock()
		b.Signal()
	}
}

// survive is letGo for everybody else: callers, the broker, the router.
func (b *Box) survive(held *bool, reason any, what string) {
	b.letGo(held)
	b.bug(reason, what)
}

// bug reports a panic that was recovered in the deferred function that calls it.
func (b *Box) bug(reason any, what string) {
	b.settings.LogPanic(reason).Str("topic", b.state.topic).Int32("partition", b.state.partition).Msg(what)
}

// guarded decides under the lock and does what follows. A crash is survived, and
// reported.
func (b *Box) guarded(what string, decide func(*State)) (ok bool) {
	b.mu.Lock()
	held := true
	defer func() {
		if held {
			b.survive(&held, recover(), what)
		}
	}()
	b.mendFirst()
	decide(&b.state)
	held = false
	b.unlock(seams.Never)
	return true
}

// lastly is guarded for what comes last: there may be no other turn to mend the
// state in, so after a crash every record fails here.
func (b *Box) lastly(what string, cause error, decide func(*State)) {
	if !b.guarded(what, decide) {
		b.guarded(what+", again", func(s *State) {
			s.mending = true
			defer func() { s.mending = false }()
			s.failAll(cause)
		})
	}
}

// appendGuarded appends and unlocks. After a crash the record is in the partition
// or it is not, and the caller is told which.
func (b *Box) appendGuarded(a *messages.Admission, unixMs int64, now seams.Instant) (status messages.AppendStatus) {
	held := true
	defer func() {
		if held {
			b.survive(&held, recover(), "a record could not be taken in")
			status = crashStatus(a)
		}
	}()
	status, review, wakeAt := b.state.appendRecord(a, b, unixMs, now)
	if review {
		b.state.review(now)
	}
	held = false
	b.unlock(wakeAt)
	return status
}

// crashStatus is what a caller is told of its record after a crash.
func crashStatus(a *messages.Admission) messages.AppendStatus {
	if a.Taken {
		return messages.Appended // its outcome comes with its batch's
	}
	return messages.AppendCrashed
}

// mendFirst is called under the lock by whoever decides anything but an append: a crash
// may have left half of a decision, and the accumulator not had its turn yet.
func (b *Box) mendFirst() {
	if b.state.suspect {
		b.mended(b.state.mend(b.settings.Clock.Now()))
	}
}

// mended reports what mending could not save.
func (b *Box) mended(err error) {
	if err != nil {
		b.settings.Log.Error().Err(err).Str("topic", b.state.topic).Int32("partition", b.state.partition).
			Msg("accumulator crashed with a damaged state; its records fail")
	}
}
