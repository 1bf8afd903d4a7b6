package accumulator

import (
	"testing"

	"github.com/troupe-kafka/troupe/messages"
)

// TestBookkeepingIsCharged: callbacks that hang while records keep coming must not
// hold memory that nobody counts.
func TestBookkeepingIsCharged(t *testing.T) {
	s := newStage(t)
	leader := s.broker(func(m *messages.PartitionReady) {
		b, _ := m.Taker.Take(s.request(1, m.Class))
		if b == nil {
			return
		}
		r := okResult(0)
		r.Now = s.box.settings.Clock.Now()
		b.Settle(r)
		b.WriteEnded()
	})
	s.lead(leader, 1, 1)
	hang, hanging := make(chan struct{}), make(chan struct{}, 1)
	s.append("a", func(messages.Delivery) { hanging <- struct{}{}; <-hang })
	<-hanging
	before := s.budget.Used()
	if before <= 0 {
		t.Errorf("%d bytes are charged for a batch whose callback hangs", before)
	}
	for range 10 {
		s.append("b", func(messages.Delivery) {})
		eventually(t, "the outcome is known", func() bool {
			s.box.mu.Lock()
			defer s.box.mu.Unlock()
			return len(s.box.state.inFlight)+len(s.box.state.pending) == 0 && s.box.state.open == nil
		})
	}
	if after := s.budget.Used(); after < before+10*batchOverhead {
		t.Errorf("%d bytes are charged for 10 batches more, %d before", after, before)
	}
	close(hang)
	eventually(t, "the budget has everything back", func() bool { return s.budget.Used() == 0 })
}
