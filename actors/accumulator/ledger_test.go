package accumulator

import (
	"errors"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
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
	eventually(t, "the write is over", func() bool { return s.budget.Used() < memory.LeastChunkBytes })
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

// packedBatch is a rig with one compressed batch of n records in line.
func packedBatch(t *testing.T, n int, got answersOf) *rig {
	c := testConfig()
	c.batchMaxBytes = 100_000
	r := newRig(t, c)
	r.assign(1, 1)
	for i := range n {
		a := admission(strings.Repeat("v", 1000), got.callback("v"))
		a.Codec, a.Urgent = codecs.Gzip, i == n-1
		r.append(a)
	}
	for _, b := range r.effects().compress {
		r.pack(b)
	}
	r.effects()
	return r
}

// TestCompressedBatchTakesItsPackedSize: the plain records go back as soon as they
// are compressed.
func TestCompressedBatchTakesItsPackedSize(t *testing.T) {
	got := make(answersOf)
	r := packedBatch(t, 50, got)
	b := r.s.pending[0]
	if used, most := r.budget.Used(), b.charged+cap(b.packedChunk.Bytes); used > most || b.packed == nil {
		t.Errorf("%d bytes are charged, the packed batch takes %d", used, most)
	}
	r.s.failAll(messages.ErrClosed)
	r.effects()
	if used := r.budget.Used(); used != 0 || len(got["v"]) != 50 {
		t.Errorf("%d bytes are left, %d outcomes", used, len(got["v"]))
	}
}

// TestUnreadableCodec: when what a caller's codec wrote cannot be read back, its
// records fail instead of being cut or split.
func TestUnreadableCodec(t *testing.T) {
	got := make(answersOf)
	r := packedBatch(t, 4, got)
	copy(r.s.pending[0].packed, "no gzip at all")
	a, _ := r.take(messages.TakeRequest{Broker: 1, Identity: messages.Identity{ProducerID: 7, Generation: 1}, Class: messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}})
	a.WriteEnded()
	r.deliver(a, errorResult(protocol.MessageTooLarge, -1))
	r.effects()
	for _, d := range got["v"] {
		if d.Status != messages.NotPersisted || !errors.Is(d.Err, messages.ErrInternal) {
			t.Fatalf("%+v", d)
		}
	}
	if len(got["v"]) != 4 || r.budget.Used() != 0 {
		t.Errorf("%d outcomes, %d bytes left", len(got["v"]), r.budget.Used())
	}
	r.check()
}
