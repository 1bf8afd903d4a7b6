package messages

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// RepeatedLogInterval is the least time between two lines about one cause. What
// happens in between is counted, and the next line has the count.
const RepeatedLogInterval = time.Minute

const (
	// maxLogCauses bounds the causes that are told apart; further ones of a kind
	// share one line.
	maxLogCauses = 32
	// maxLogBrokers bounds the brokers that a line names; further ones are
	// counted.
	maxLogBrokers = 64
)

// LogKind is what a line of the log is about when the same may happen again and
// again, and to many brokers at once.
type LogKind int8

// The kinds of repeated events.
const (
	// LogNoConnection is a connection that was lost, or could not be made.
	LogNoConnection LogKind = iota
	// LogGaveUp is a connection that the retry policy gives up.
	LogGaveUp
	// LogUnreadable is an answer that cannot be decoded.
	LogUnreadable
	// LogNoMetadata is a metadata refresh that failed.
	LogNoMetadata
	// LogNoProducerID is a failed request for a producer id.
	LogNoProducerID
	// LogNotCompressed is a batch that its codec could not compress.
	LogNotCompressed
)

// logTexts has the three lines of each kind.
var logTexts = [...]struct{ first, still, over string }{
	LogNoConnection:  {"no connection; trying again", "still no connection", "connected again"},
	LogGaveUp:        {"retries are used up; the connection is stopped until somebody needs it again", "retries are used up again", "connected again after retries were used up"},
	LogUnreadable:    {"unreadable answer; the connection is given up", "answers are still unreadable", "answers are readable again"},
	LogNoMetadata:    {"metadata refresh failed", "metadata refreshes still fail", "metadata is refreshed again"},
	LogNoProducerID:  {"no producer id yet", "still no producer id", "producer id granted"},
	LogNotCompressed: {"compression failed; the batch goes out uncompressed", "compression still fails; batches go out uncompressed", "batches are compressed again"},
}

// Occurrence is one event that deserves a line unless its cause has one.
type Occurrence struct {
	Kind   LogKind
	Broker int32 // −1 when it concerns none
	Err    error
	// Waiting says that somebody waits for the broker: the cause is not over
	// before it has recovered.
	Waiting bool
	// Address, Lane and InFlight stand in the first line only.
	Address, Lane string
	InFlight      int
}

// LogLine is one line to write: the first of a cause, or a count.
type LogLine struct {
	Occurrence
	Text string
	// Times is how often it happened since the last line of the cause; 0 in the
	// first.
	Times int
	// Brokers are those counted, sorted; Others is how often it happened at
	// brokers beyond those that a line names.
	Brokers []string
	Others  int
	// Lasted is the time since the first line.
	Lasted time.Duration
}

// LogGate makes one line of one cause, for the whole producer: the first
// occurrence is written in full, later ones are counted, whichever broker they
// come from. The count is written when the cause ends, and every
// RepeatedLogInterval while it does not. A cause that comes back within that
// time goes on counting, so that a connection that flaps does not fill the log.
// It may be used from any actor.
type LogGate struct {
	clock seams.Clock
	write func(LogLine)
	timer seams.Timer

	mu     sync.Mutex
	causes []*cause // in order of appearance, which is the order of lines
	armed  seams.Instant
	closed bool
}

// cause is what one line is about: the kind and the class of the error, never an
// address.
type cause struct {
	kind  LogKind
	class string

	since    seams.Instant // first occurrence
	lastAt   seams.Instant // latest occurrence
	lastLine seams.Instant
	latest   Occurrence
	times    int
	counted  map[int32]bool // brokers since the last line
	others   int
	failing  map[int32]bool // brokers that have not recovered → somebody waits
	over     bool
	told     bool // a line has said that it is over
}

// NewLogGate returns a gate that writes lines with write, which is called
// without a lock and possibly from several goroutines.
func NewLogGate(clock seams.Clock, write func(LogLine)) *LogGate {
	g := &LogGate{clock: clock, write: write, armed: seams.Never}
	g.timer = clock.NewTimer(g.due)
	return g
}

// Happened writes an occurrence, or counts it.
func (g *LogGate) Happened(o Occurrence) {
	now := g.clock.Now()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	var lines []LogLine
	c := g.find(o.Kind, classOf(o.Err))
	if c != nil && now.Sub(c.lastAt) >= RepeatedLogInterval {
		// Nothing of it for so long: this is another time, not the same.
		lines = c.count(lines, now)
		g.forget(c)
		c = nil
	}
	if c == nil {
		lines = g.makeRoom(lines, now)
		g.begin(o, now)
		lines = append(lines, LogLine{Occurrence: o, Text: logTexts[o.Kind].first})
	} else {
		c.add(o, now)
		if now.Sub(c.lastLine) >= RepeatedLogInterval {
			lines = c.count(lines, now)
		}
	}
	g.unlock(lines)
}

// Recovered says that a broker is well again in this respect. The cause is over
// when nobody waits for another broker that is not.
func (g *LogGate) Recovered(kind LogKind, broker int32) {
	g.end(func(c *cause) bool {
		if _, was := c.failing[broker]; !was || c.kind != kind {
			return false
		}
		delete(c.failing, broker)
		for _, waiting := range c.failing {
			if waiting {
				return false
			}
		}
		return true
	})
}

// Over says that all of a kind is over.
func (g *LogGate) Over(kind LogKind) {
	g.end(func(c *cause) bool { return c.kind == kind })
}

// Left says that a broker is no longer part of the cluster: nobody waits for it.
func (g *LogGate) Left(broker int32) {
	g.mu.Lock()
	for _, c := range g.causes {
		delete(c.failing, broker)
	}
	g.mu.Unlock()
}

func (g *LogGate) end(ends func(*cause) bool) {
	now := g.clock.Now()
	g.mu.Lock()
	var lines []LogLine
	for _, c := range g.causes {
		if c.over || !ends(c) {
			continue
		}
		c.over = true
		clear(c.failing)
		if !c.told || now.Sub(c.lastLine) >= RepeatedLogInterval {
			lines = c.count(lines, now)
		}
	}
	g.unlock(lines)
}

// Close writes the counts that have not been written, and nothing afterwards.
func (g *LogGate) Close() {
	now := g.clock.Now()
	g.mu.Lock()
	var lines []LogLine
	for _, c := range g.causes {
		lines = c.count(lines, now)
	}
	g.causes, g.closed = nil, true
	g.timer.Stop()
	g.unlock(lines)
}

// due writes the counts whose time has come.
func (g *LogGate) due() {
	now := g.clock.Now()
	g.mu.Lock()
	g.armed = seams.Never
	var lines []LogLine
	for _, c := range g.causes {
		if now.Sub(c.lastLine) >= RepeatedLogInterval {
			lines = c.count(lines, now)
		}
	}
	g.causes = slices.DeleteFunc(g.causes, func(c *cause) bool { return now.Sub(c.lastAt) >= RepeatedLogInterval })
	g.unlock(lines)
}

// unlock sets the timer for the next count, and writes without the lock: a
// writer is the user's code.
func (g *LogGate) unlock(lines []LogLine) {
	at := seams.Never
	for _, c := range g.causes {
		if c.times > 0 {
			at = min(at, c.lastLine.Add(RepeatedLogInterval))
		}
	}
	if at < g.armed {
		g.armed = at
		g.timer.Reset(at)
	}
	g.mu.Unlock()
	for _, line := range lines {
		g.write(line)
	}
}

func (g *LogGate) find(kind LogKind, class string) *cause {
	var shared *cause
	for _, c := range g.causes {
		if c.kind == kind && c.class == class {
			return c
		}
		if c.kind == kind && c.class == "" {
			shared = c
		}
	}
	return shared
}

func (g *LogGate) begin(o Occurrence, now seams.Instant) {
	c := &cause{
		kind: o.Kind, class: classOf(o.Err), since: now, lastAt: now, lastLine: now, latest: o,
		counted: make(map[int32]bool), failing: make(map[int32]bool),
	}
	if len(g.causes) >= maxLogCauses {
		c.class = "" // one of these per kind
	}
	c.name(o)
	g.causes = append(g.causes, c)
}

// makeRoom forgets what has not happened for long, when there is no room for
// another cause.
func (g *LogGate) makeRoom(lines []LogLine, now seams.Instant) []LogLine {
	if len(g.causes) < maxLogCauses {
		return lines
	}
	for _, c := range slices.Clone(g.causes) {
		if now.Sub(c.lastAt) >= RepeatedLogInterval {
			lines = c.count(lines, now)
			g.forget(c)
		}
	}
	return lines
}

func (g *LogGate) forget(c *cause) {
	g.causes = slices.DeleteFunc(g.causes, func(other *cause) bool { return other == c })
}

func (c *cause) add(o Occurrence, now seams.Instant) {
	c.lastAt, c.latest, c.over = now, o, false
	c.times++
	c.name(o)
}

// name notes the broker. The first line's broker stands in the count, too.
func (c *cause) name(o Occurrence) {
	switch {
	case o.Broker == AnyBroker:
		return
	case !c.counted[o.Broker] && len(c.counted) == maxLogBrokers:
		c.others++
	default:
		c.counted[o.Broker] = true
	}
	if _, known := c.failing[o.Broker]; known || len(c.failing) < maxLogBrokers {
		c.failing[o.Broker] = o.Waiting
	}
}

// count adds the line with the count, if there is anything to count.
func (c *cause) count(lines []LogLine, now seams.Instant) []LogLine {
	if c.times == 0 {
		return lines
	}
	line := LogLine{Occurrence: c.latest, Text: logTexts[c.kind].still, Times: c.times, Others: c.others, Lasted: now.Sub(c.since)}
	if c.over {
		line.Text, c.told = logTexts[c.kind].over, true
	}
	ids := make([]int32, 0, len(c.counted))
	for id := range c.counted {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareBrokers)
	for _, id := range ids {
		line.Brokers = append(line.Brokers, brokerName(id))
	}
	c.lastLine, c.times, c.others = now, 0, 0
	clear(c.counted)
	return append(lines, line)
}

// compareBrokers sorts nodes by id, and seeds behind them in their own order.
func compareBrokers(a, b int32) int {
	if IsSeed(a) {
		return cmp.Compare(b, a) // a node's id is above every seed's
	}
	if IsSeed(b) {
		return -1
	}
	return cmp.Compare(a, b)
}

func brokerName(id int32) string {
	if IsSeed(id) {
		return "seed-" + strconv.Itoa(int(-2-id))
	}
	return strconv.Itoa(int(id))
}

// classOf says which errors have one cause. Whatever the network says is one:
// a broker that dies resets its connections, refuses the next ones and lets the
// last ones time out. A name that cannot be resolved and a broker's own answer
// are others, with another remedy.
func classOf(err error) string {
	var code protocol.ErrorCode
	var unreadable *protocol.DecodeError
	switch {
	case seams.IsNameError(err):
		return "name"
	case errors.As(err, &code):
		return code.Info().Name
	case errors.As(err, &unreadable):
		return "unreadable"
	}
	return "network"
}
