package simulation

import (
	"math/rand/v2"
	"testing"

	"github.com/troupe-kafka/troupe/seams"
)

// TestTimersFireInOrder sets, moves and stops timers at random, and compares what
// fires with what a list would say: by deadline, and among equals by number.
func TestTimersFireInOrder(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := newScheduler(random, newEstate())
		c := s.clock
		var timers []*timer
		set := make(map[*timer]seams.Instant)
		fired := func() (first *timer) {
			for timer, at := range set {
				if at > c.now {
					continue
				}
				if first == nil || at < set[first] || at == set[first] && timer.number < first.number {
					first = timer
				}
			}
			delete(set, first)
			return first
		}
		for range 2000 {
			switch n := random.IntN(10); {
			case n < 2 || len(timers) == 0:
				var made *timer
				made = c.newTimer(func() {
					if want := fired(); want != made {
						t.Fatalf("seed %d: timer %d fires before %v", seed, made.number, want)
					}
				})
				timers = append(timers, made)
			case n < 7:
				timer, at := timers[random.IntN(len(timers))], c.now+seams.Instant(random.IntN(40))
				if random.IntN(50) == 0 {
					at = seams.Never
				}
				timer.Reset(at)
				set[timer] = at
			case n < 8:
				timer := timers[random.IntN(len(timers))]
				timer.Stop()
				delete(set, timer)
			default:
				c.pass(random.Int64N(10))
				for _, due := range s.runnable {
					due.fn()
				}
				s.runnable = s.runnable[:0]
				if late := fired(); late != nil {
					t.Fatalf("seed %d: timer %d is due at %d and did not fire at %d", seed, late.number, set[late], c.now)
				}
			}
		}
	}
}

// TestPagesGiveEachItsOwn takes slices, fills them, and looks whether they are
// what they were, before and after all is taken back.
func TestPagesGiveEachItsOwn(t *testing.T) {
	p := pages[int]{size: 16}
	for round := range 3 {
		var taken [][]int
		for n := range 12 {
			s := p.take(n)
			for range n {
				s = append(s, round*100+n)
			}
			taken = append(taken, append(s, -1)[:n]) // one more than asked for hurts nobody
		}
		for n, s := range taken {
			for _, v := range s {
				if v != round*100+n {
					t.Fatalf("round %d: slice %d holds %v", round, n, s)
				}
			}
		}
		p.reset()
	}
}
