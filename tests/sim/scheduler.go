package sim

import (
	"fmt"
	"math/rand/v2"
)

// maxSteps ends a run that goes round in circles without time passing.
const maxSteps = 3_000_000

// policy is how a scheduler picks the next turn. Uniform choice alone seldom
// starves anybody for long, and starvation is where races hide.
type policy int

const (
	pickAny    policy = iota
	pickNewest        // most often the newest: old turns starve
	pickOldest        // most often the oldest: close to what a real queue does
	policies
)

// Scheduler runs turns one at a time, in an order drawn from a seed. It is the
// dispatcher of every actor and the executor of everything else.
type Scheduler struct {
	clock    *Clock
	random   *rand.Rand
	policy   policy
	runnable []func()
	steps    int
	current  *coroutine
	// maxTurn is the most virtual time that one turn takes, in nanoseconds.
	maxTurn int64
}

func newScheduler(random *rand.Rand) *Scheduler {
	s := &Scheduler{random: random, policy: policy(random.IntN(int(policies)))}
	s.maxTurn = [...]int64{1, 2_000, 50_000}[random.IntN(3)]
	s.clock = &Clock{scheduler: s}
	return s
}

// Schedule implements actor.Dispatcher.
func (s *Scheduler) Schedule(fn func()) { s.runnable = append(s.runnable, fn) }

// Throughput implements actor.Dispatcher: one message per turn, so that every
// message is a choice of the seed.
func (s *Scheduler) Throughput() int { return 1 }

// Run implements seams.Executor. The turn may park: what the runtime runs here
// may wait for outcomes.
func (s *Scheduler) Run(fn func()) { s.spawn(fn) }

// until runs turns until done reports true, the virtual time passes the limit,
// or nothing is left to do. It reports whether done did.
func (s *Scheduler) until(limit int64, done func() bool) (bool, error) {
	for !done() {
		if len(s.runnable) == 0 && !s.clock.advance() {
			return done(), nil
		}
		if int64(s.clock.now) > limit {
			return done(), nil
		}
		s.steps++
		if s.steps > maxSteps {
			return false, fmt.Errorf("no end after %d turns, at %v", s.steps, s.clock.now)
		}
		s.turn()
	}
	return true, nil
}

func (s *Scheduler) turn() {
	if len(s.runnable) == 0 {
		return
	}
	at := s.pick(len(s.runnable))
	fn := s.runnable[at]
	copy(s.runnable[at:], s.runnable[at+1:])
	s.runnable[len(s.runnable)-1] = nil
	s.runnable = s.runnable[:len(s.runnable)-1]
	s.clock.pass(s.random.Int64N(s.maxTurn))
	fn()
}

func (s *Scheduler) pick(n int) int {
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
