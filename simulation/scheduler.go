package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxTurns ends a run that goes round in circles without time passing.
const maxTurns = 3_000_000

// ErrEndless is what a world says when it has run maxTurns turns.
var ErrEndless = errors.New("simulation: the run does not come to an end")

// policy is how a scheduler picks the next turn. Uniform choice alone seldom
// starves anybody for long, and starvation is where races hide.
type policy int

const (
	pickAny    policy = iota
	pickNewest        // most often the newest: old turns starve
	pickOldest        // most often the oldest: close to what a real queue does
	policies
)

// scheduler runs turns one at a time, in an order drawn from a seed. It is the
// dispatcher of every actor and the executor of everything else.
type scheduler struct {
	clock    *clock
	random   *rand.Rand
	policy   policy
	runnable []turn
	turns    int
	current  *coroutine
	// cause is the number of the event that what happens now follows from.
	cause uint64
	// acting says that the turn is one of the runtime's actors.
	acting bool
	// maxTurn is the most virtual time that one turn takes, in nanoseconds.
	maxTurn int64
	coroutines
}

// turn is one thing to run, and the event that made it runnable.
type turn struct {
	fn    func()
	cause uint64
}

func newScheduler(random *rand.Rand, e *estate) *scheduler {
	s := &scheduler{random: random, policy: policy(random.IntN(int(policies))), runnable: e.runnable}
	s.maxTurn = [...]int64{1, 2_000, 50_000}[random.IntN(3)]
	s.clock = &clock{scheduler: s, heap: e.heap, spent: e.spent, made: &e.timers}
	return s
}

// Schedule implements actor.Dispatcher.
func (s *scheduler) Schedule(fn func()) { s.runnable = append(s.runnable, turn{fn, s.cause}) }

// Throughput implements actor.Dispatcher: one message per turn, so that every
// message is a choice of the seed.
func (s *scheduler) Throughput() int { return 1 }

// Run implements seams.Executor. The turn may park: what the runtime runs here
// may wait for outcomes.
func (s *scheduler) Run(fn func()) { s.spawn(fn) }

// until runs turns until done reports true, the virtual time passes the limit,
// or nothing is left to do. It reports whether done did.
func (s *scheduler) until(limit int64, done func() bool) (bool, error) {
	for !done() {
		if len(s.runnable) == 0 {
			s.cause = 0
			if !s.clock.advance(limit) {
				return done(), nil
			}
		}
		if int64(s.clock.now) > limit {
			return done(), nil
		}
		s.turns++
		if s.turns > maxTurns {
			return false, fmt.Errorf("%w: %d turns, at %v", ErrEndless, s.turns, time.Duration(s.clock.now))
		}
		s.turn()
	}
	return true, nil
}

func (s *scheduler) turn() {
	if len(s.runnable) == 0 {
		return
	}
	at := s.pick(len(s.runnable))
	t := s.runnable[at]
	copy(s.runnable[at:], s.runnable[at+1:])
	s.runnable[len(s.runnable)-1] = turn{}
	s.runnable = s.runnable[:len(s.runnable)-1]
	s.clock.pass(s.random.Int64N(s.maxTurn))
	s.cause, s.acting = t.cause, false
	t.fn()
}

func (s *scheduler) pick(n int) int {
	if n == 1 {
		return 0
	}
	switch {
	case s.policy == pickNewest && s.random.IntN(8) > 0:
		return n - 1
	case s.policy == pickOldest && s.random.IntN(8) > 0:
		return 0
	}
	return s.random.IntN(n)
}
