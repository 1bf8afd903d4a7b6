package broker

import (
	"errors"
	"testing"
	"time"

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

// TestLateWordOfAStoppedConnection: the end of a connection that was stopped and
// settled may be told when its successor has requests in flight. They are not its
// own.
func TestLateWordOfAStoppedConnection(t *testing.T) {
	th := newTheatre(t, restart)
	first, second := newBatch(100), newBatch(100)
	th.ready(newTaker("a", 0, first))
	receive(t, "a request", th.connect().frames)
	th.tell(&messages.BrokerMoved{Address: "two:9092"})
	if r := th.outcome(first); !errors.Is(r.Err, messages.ErrConnectionLost) {
		t.Fatalf("%+v", r)
	}
	th.ready(newTaker("a", 1, second))
	c := th.connect()
	correlation, k := readRequest(t, receive(t, "another request", c.frames))
	for _, wasUp := range []bool{true, false} {
		th.tell(&messages.ConnectionLost{Lane: messages.LaneProduce, Generation: 1<<generationBits + 1, Reason: errors.New("late"), WasUp: wasUp})
	}
	select {
	case reason := <-c.closed:
		t.Fatalf("the successor is closed: %v", reason)
	case <-time.After(50 * time.Millisecond):
	}
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	if r := th.outcome(second); r.Err != nil {
		t.Errorf("%+v", r)
	}
}

// TestLateUpOfAStoppedConnection: a connection that was stopped while it came up
// says so late, to a broker with another. It is closed, and not written to.
func TestLateUpOfAStoppedConnection(t *testing.T) {
	th := newTheatre(t, restart)
	first, second := newBatch(100), newBatch(100)
	th.ready(newTaker("a", 0, first))
	stopped := th.connect()
	receive(t, "a request", stopped.frames)
	th.tell(&messages.BrokerMoved{Address: "two:9092"})
	if r := th.outcome(first); !errors.Is(r.Err, messages.ErrConnectionLost) {
		t.Fatalf("%+v", r)
	}
	third := newBatch(100)
	th.ready(newTaker("a", 1, second))
	c := th.connect()
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	th.tell(&messages.ConnectionUp{Lane: messages.LaneProduce, Generation: stopped.events.(*link).generation, Connection: stopped})
	th.ready(newTaker("a", 2, third))
	next, m := readRequest(t, receive(t, "a request on the connection that is there", c.frames))
	for _, answer := range [][]byte{responseFrame(correlation, produceAnswer(k, 0)), responseFrame(next, produceAnswer(m, 0))} {
		c.events.Received(answer)
	}
	for _, b := range []*fakeBatch{second, third} {
		if r := th.outcome(b); r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
}

// TestConnectionStoppedOverABug: its supervisor does not restart one that has used up
// its retries. What was in flight is settled all the same, and does not count as the
// successor's.
func TestConnectionStoppedOverABug(t *testing.T) {
	th := newTheatre(t, restart)
	first, second := newBatch(100), newBatch(100)
	th.ready(newTaker("a", 0, first))
	c := th.connect()
	receive(t, "a request", c.frames)
	th.system.Root.Stop(c.events.(*link).self)
	if r := th.outcome(first); !errors.Is(r.Err, messages.ErrConnectionLost) {
		t.Fatalf("%+v", r)
	}
	th.ready(newTaker("a", 1, second))
	for end := time.Now().Add(5 * time.Second); len(th.transport.dials) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		th.clock.Advance(time.Second) // the pause after an end may have to begin yet
	}
	c = th.connect()
	correlation, k := readRequest(t, receive(t, "another request", c.frames))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	if r := th.outcome(second); r.Err != nil {
		t.Errorf("%+v", r)
	}
}
