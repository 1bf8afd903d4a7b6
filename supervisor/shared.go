package supervisor

import (
	"sync"

	"github.com/troupe-kafka/troupe/seams"
)

// shared is what the root tells callers without a message.
type shared struct {
	parking seams.Parking
	stopped *seams.Latch // the tree is down

	mu      sync.Mutex
	known   *seams.Latch // the cluster has answered, or refuses us, or the tree is down
	ready   bool         // it has answered
	refused error        // why every broker refuses us, the last time
}

func newShared(p seams.Parking) *shared {
	return &shared{parking: p, stopped: seams.NewLatch(p), known: seams.NewLatch(p)}
}

// answer says that the cluster has answered, for good.
func (s *shared) answer() {
	s.mu.Lock()
	s.ready = true
	known := s.known
	s.mu.Unlock()
	known.Open()
}

// refuse lets those who wait now hear that nobody lets us in. Whoever comes next waits
// for the next word.
func (s *shared) refuse(why error) {
	s.mu.Lock()
	if s.ready {
		s.mu.Unlock()
		return
	}
	known := s.known
	s.refused, s.known = why, seams.NewLatch(s.parking)
	s.mu.Unlock()
	known.Open()
}

// end says that the tree is down.
func (s *shared) end() {
	s.stopped.Open()
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	known.Open() // who waits for it looks at the other
}

// wait is what there is to wait for.
func (s *shared) wait() *seams.Latch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// word is what came of it.
func (s *shared) word() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	return s.refused
}
