package messages

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// handClock is moved by the test, and fires its one timer on the way.
type handClock struct {
	seams.Clock
	now  seams.Instant
	at   seams.Instant
	fire func()
}

func (c *handClock) Now() seams.Instant { return c.now }
func (c *handClock) NewTimer(fire func()) seams.Timer {
	c.at, c.fire = seams.Never, fire
	return c
}
func (c *handClock) Reset(at seams.Instant) { c.at = at }
func (c *handClock) Stop()                  { c.at = seams.Never }

func (c *handClock) advance(d time.Duration) {
	end := c.now.Add(d)
	for c.at <= end {
		c.now, c.at = max(c.now, c.at), seams.Never
		c.fire()
	}
	c.now = end
}

// newspaper is a gate and what it wrote.
type newspaper struct {
	*LogGate
	clock *handClock
	lines []LogLine
}

func newNewspaper() *newspaper {
	n := &newspaper{clock: &handClock{now: seams.Instant(time.Hour)}}
	n.LogGate = NewLogGate(n.clock, func(l LogLine) { n.lines = append(n.lines, l) })
	return n
}

var errAway = errors.New("refused")

func (n *newspaper) lost(broker int32, waiting bool) {
	n.Happened(Occurrence{Kind: LogNoConnection, Broker: broker, Err: errAway, Waiting: waiting, Lane: "produce", InFlight: 2})
}

// texts takes the lines written since the last call.
func (n *newspaper) texts() []string {
	var texts []string
	for _, l := range n.lines {
		text := l.Text
		if l.Times > 0 {
			text = fmt.Sprintf("%s: %d times, brokers %v", text, l.Times, l.Brokers)
		}
		texts = append(texts, text)
	}
	n.lines = nil
	return texts
}

func (n *newspaper) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := n.texts(); !slices.Equal(got, want) {
		t.Fatalf("the log has %q, expected %q", got, want)
	}
}

// TestOneOutageIsOneCause: brokers and seeds that are away are one line, and one
// with the count when the last that somebody waits for is back.
func TestOneOutageIsOneCause(t *testing.T) {
	n := newNewspaper()
	n.lost(2, true)
	if l := n.lines[0]; l.Broker != 2 || l.Err != errAway || l.Lane != "produce" || l.InFlight != 2 || l.Times != 0 {
		t.Errorf("the first line is %+v", l)
	}
	n.expect(t, "no connection; trying again")
	for range 10 {
		for _, broker := range []int32{3, 1, 2} {
			n.lost(broker, true)
		}
		for i := range 3 {
			n.lost(SeedID(i), false)
		}
		n.clock.advance(time.Second)
	}
	n.Recovered(LogNoConnection, 1)
	n.Recovered(LogNoConnection, 9) // of which nothing was heard
	n.Recovered(LogNoConnection, 3)
	n.expect(t)
	n.Recovered(LogNoConnection, 2)
	if l := n.lines[0]; l.Lasted != 10*time.Second {
		t.Errorf("lasted %v", l.Lasted)
	}
	n.expect(t, "connected again: 60 times, brokers [1 2 3 seed-0 seed-1 seed-2]")
	n.Recovered(LogNoConnection, 2)
	n.clock.advance(time.Hour)
	n.expect(t)
	// Another time is another line.
	n.lost(1, true)
	n.expect(t, "no connection; trying again")
	n.Recovered(LogNoConnection, 1) // nothing to count
	n.Close()
	n.expect(t)
}

// TestLongOutages are heard of once in a while, though nothing is written by the
// occurrences themselves.
func TestLongOutages(t *testing.T) {
	n := newNewspaper()
	for range 125 {
		n.lost(1, true)
		n.clock.advance(time.Second)
	}
	n.expect(t, "no connection; trying again", "still no connection: 59 times, brokers [1]", "still no connection: 60 times, brokers [1]")
	n.Recovered(LogNoConnection, 1)
	n.expect(t, "connected again: 5 times, brokers [1]")
}

// TestFlapping: a connection that comes and goes is a line at its first end, and
// then one per interval.
func TestFlapping(t *testing.T) {
	n := newNewspaper()
	for range 300 {
		n.lost(1, true)
		n.Recovered(LogNoConnection, 1)
		n.clock.advance(500 * time.Millisecond)
	}
	got := n.texts()
	want := []string{"no connection; trying again", "connected again: 1 times, brokers [1]", "connected again: 119 times, brokers [1]", "connected again: 120 times, brokers [1]"}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	n.clock.advance(time.Minute)
	n.expect(t, "connected again: 59 times, brokers [1]") // nothing is lost
}

// TestNobodyComesBack: what was counted is written though no broker recovers.
func TestNobodyComesBack(t *testing.T) {
	n := newNewspaper()
	n.lost(1, true)
	n.lost(1, true)
	n.expect(t, "no connection; trying again")
	n.clock.advance(time.Minute)
	n.expect(t, "still no connection: 1 times, brokers [1]")
	n.clock.advance(time.Minute)
	n.lost(1, true)
	n.lost(2, true)
	n.expect(t, "no connection; trying again")
	n.Left(1)
	n.Recovered(LogNoConnection, 2)
	n.expect(t, "connected again: 1 times, brokers [1 2]")
	n.lost(3, true)
	n.Close()
	n.expect(t, "still no connection: 1 times, brokers [3]")
	n.lost(3, true)
	n.clock.advance(time.Hour)
	n.expect(t)
	if n.clock.at != seams.Never {
		t.Error("a timer is left behind")
	}
}

// TestCauses are told apart by what an operator would do about them.
func TestCauses(t *testing.T) {
	n := newNewspaper()
	name := fmt.Errorf("dial: %w", &net.DNSError{Err: "no such host", Name: "kafka"})
	unread := &protocol.DecodeError{Err: protocol.ErrLength}
	for _, err := range []error{errAway, ErrRequestTimeout, name, protocol.UnsupportedVersion, unread, protocol.TopicAuthorizationFailed} {
		n.Happened(Occurrence{Kind: LogNoMetadata, Broker: 1, Err: err})
	}
	if got := n.texts(); len(got) != 5 {
		t.Errorf("%d lines: %q", len(got), got)
	}
	n.Happened(Occurrence{Kind: LogNoProducerID, Broker: 1, Err: errAway})
	n.expect(t, "no producer id yet")
	n.Recovered(LogNoConnection, 1)
	n.expect(t)
	n.Over(LogNoMetadata)
	n.expect(t, "metadata is refreshed again: 1 times, brokers [1]")
}

// TestTheGateIsBounded in causes and in brokers, and loses no count.
func TestTheGateIsBounded(t *testing.T) {
	n := newNewspaper()
	for code := range int16(100) {
		for broker := range int32(1000) {
			n.Happened(Occurrence{Kind: LogNoConnection, Broker: broker, Err: protocol.ErrorCode(code), Waiting: true})
		}
	}
	if got := len(n.causes); got > maxLogCauses+len(logTexts) {
		t.Errorf("%d causes", got)
	}
	happened := 0
	for _, c := range n.causes {
		if len(c.counted) > maxLogBrokers || len(c.failing) > maxLogBrokers {
			t.Fatalf("%d and %d brokers of a cause", len(c.counted), len(c.failing))
		}
	}
	n.Close()
	for _, l := range n.lines {
		happened += max(l.Times, 1)
		if l.Times > 0 && (len(l.Brokers) != maxLogBrokers || l.Others == 0) {
			t.Fatalf("%+v", l)
		}
	}
	if happened != 100*1000 {
		t.Errorf("%d of 100000 are in the log", happened)
	}
	// What is long over makes room.
	n = newNewspaper()
	for code := range int16(100) {
		n.Happened(Occurrence{Kind: LogNoConnection, Broker: 1, Err: protocol.ErrorCode(code + 1)})
		n.clock.advance(2 * time.Minute)
	}
	if got := n.texts(); len(got) != 100 || len(n.causes) > maxLogCauses {
		t.Errorf("%d lines, %d causes", len(got), len(n.causes))
	}
}

// TestTheGateHoldsNoLock while it writes: a writer is the user's code.
func TestTheGateHoldsNoLock(t *testing.T) {
	var g *LogGate
	inside := 0
	g = NewLogGate(&handClock{}, func(LogLine) {
		if inside++; inside == 1 {
			g.Happened(Occurrence{Kind: LogNoMetadata, Err: errAway})
		}
	})
	g.Happened(Occurrence{Kind: LogNoConnection, Err: errAway})
	if inside != 2 {
		t.Errorf("%d lines", inside)
	}
}

// TestManyActors use one gate at a time.
func TestManyActors(t *testing.T) {
	var mu sync.Mutex
	written := 0
	g := NewLogGate(seams.NewClock(), func(l LogLine) {
		mu.Lock()
		written += max(l.Times, 1)
		mu.Unlock()
	})
	var all sync.WaitGroup
	for broker := range int32(8) {
		all.Go(func() {
			for i := range 500 {
				g.Happened(Occurrence{Kind: LogNoConnection, Broker: broker, Err: errAway, Waiting: true})
				if i%50 == 0 {
					g.Recovered(LogNoConnection, broker)
				}
			}
		})
	}
	all.Wait()
	g.Close()
	if written != 8*500 {
		t.Errorf("%d of 4000 are in the log", written)
	}
}
