package broker

import (
	"testing"

	"github.com/troupe-kafka/troupe/messages"
)

// TestGenerationsAreUniquePerBroker: a lane's next connection may be another
// child, and what the last one says late must not be taken for its successor's.
func TestGenerationsAreUniquePerBroker(t *testing.T) {
	th := newTheatre(t, restart)
	seen := make(map[int]bool)
	for i, address := range []string{"one:9092", "two:9092", "three:9092"} {
		th.tell(&messages.BrokerMoved{Address: address}) // another address stops the child there is
		th.ready(newTaker("a", int32(i), newBatch(100)))
		c := th.connect()
		receive(t, "a request", c.frames)
		generation := c.events.(*link).generation
		if c.address != address || seen[generation] {
			t.Errorf("connection to %s, expected %s, is of generation %d; others are %v", c.address, address, generation, seen)
		}
		seen[generation] = true
	}
}
