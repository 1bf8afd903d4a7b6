package accumulator

import (
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// lingerGrain is the part of the linger that passes at least between two turns of
// the line: where a thousand partitions begin their batches one after the other,
// they become ready in a few groups, and a broker hears of each group once.
const lingerGrain = 16

// Lingers is the line of all partitions of a producer whose open batch lingers.
// One timer serves them all, and no accumulator is woken when a linger ends.
type Lingers struct {
	clock seams.Clock
	grain time.Duration
	timer seams.Timer
	tell  func(leader messages.AssignLeader, news *messages.PartitionsReady)

	mu     sync.Mutex
	line   []linger      // by deadline
	timing seams.Instant // when the timer is set to fire; 0 while it fires

	// turning is held for a turn. A timer that is late, and set to an earlier time
	// before it has taken its turn, fires twice.
	turning sync.Mutex
	due     []linger // of the turn under way
	ready   []readyAt
}

type linger struct {
	box   *Box
	until seams.Instant
}

// readyAt are the partitions of one leader that became ready together.
type readyAt struct {
	leader messages.AssignLeader
	news   *messages.PartitionsReady
}

// newLingers returns an empty line; tell sends to a leader's broker.
func newLingers(settings *messages.Settings, tell func(messages.AssignLeader, *messages.PartitionsReady)) *Lingers {
	l := &Lingers{clock: settings.Clock, tell: tell, grain: settings.Linger / lingerGrain, timing: seams.Never}
	l.timer = settings.Clock.NewTimer(l.turn)
	return l
}

// add puts a box in line. All lingers are equally long, so its place is the end or
// close to it.
func (l *Lingers) add(b *Box, until seams.Instant) {
	l.mu.Lock()
	at := len(l.line)
	l.line = append(l.line, linger{b, until})
	for ; at > 0 && l.line[at-1].until > until; at-- {
		l.line[at] = l.line[at-1]
	}
	l.line[at] = linger{b, until}
	if until < l.timing {
		l.timing = until
		l.timer.Reset(until)
	}
	l.mu.Unlock()
}

// turn ends the lingers that are due and tells each leader of its partitions.
func (l *Lingers) turn() {
	l.turning.Lock()
	defer l.turning.Unlock()
	now := l.clock.Now()
	l.mu.Lock()
	l.timing = 0
	n := 0
	for n < len(l.line) && l.line[n].until <= now {
		n++
	}
	l.due = append(l.due[:0], l.line[:n]...)
	kept := copy(l.line, l.line[n:])
	clear(l.line[kept:])
	l.line = l.line[:kept]
	l.mu.Unlock()
	for _, due := range l.due {
		if leader, class, ready := due.box.lingerEnded(now); ready {
			news := l.group(leader)
			news.Partitions = append(news.Partitions, messages.PartitionReady{Taker: due.box, Class: class})
		}
	}
	clear(l.due)
	for i, r := range l.ready {
		l.tell(r.leader, r.news)
		l.ready[i] = readyAt{}
	}
	l.ready = l.ready[:0]
	l.mu.Lock()
	l.timing = seams.Never
	if len(l.line) > 0 {
		l.timing = max(l.line[0].until, now.Add(l.grain))
		l.timer.Reset(l.timing)
	}
	l.mu.Unlock()
}

func (l *Lingers) group(leader messages.AssignLeader) *messages.PartitionsReady {
	for _, r := range l.ready {
		if r.leader.Broker == leader.Broker {
			return r.news
		}
	}
	news := &messages.PartitionsReady{}
	l.ready = append(l.ready, readyAt{leader, news})
	return news
}
