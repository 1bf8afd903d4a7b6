package embedded_test

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/seams"
)

// crashEverySecond panics in every second turn of an accumulator, a number of
// times.
type crashEverySecond struct {
	turns atomic.Int64
	last  int64
}

// Received implements seams.Tracer.
func (c *crashEverySecond) Received(path string, message any) {
	if _, woken := message.(*seams.Woken); woken && strings.Contains(path, "/topic/") {
		if n := c.turns.Add(1); n%2 == 0 && n < c.last {
			panic("the test wants a crash")
		}
	}
}

// TestManyCrashes: protoactor's own strategy ends an actor after ten crashes in
// ten seconds, which closed the partition for good.
func TestManyCrashes(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	c := &crashEverySecond{last: 80}
	p := newProducer(t, cluster, oneEach(troupe.WithSeams(troupe.Seams{Tracer: c}), quietly(io.Discard))...)
	var got outcomes
	for i := range 100 {
		if err := p.Produce(within(t, patience), to("t", 0, padded(fmt.Sprintf("m-%03d", i))), got.add); err != nil {
			t.Fatalf("record %d after %d turns: %v", i, c.turns.Load(), err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	persistedAll(t, got.wait(t, 100))
	if n := c.turns.Load(); n < c.last {
		t.Errorf("only %d turns", n)
	}
}
