package messages

import (
	"slices"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// Question is something that any broker can answer, metadata or a producer id. It
// is put to one; if that one is silent for Hedge, it is put to another as well,
// to a third if both are silent for twice as long, and so on up to Most, and the
// first answer counts. Whoever asks keeps one Question and puts it again
// and again. It does no I/O and is told the time.
type Question struct {
	// Hedge is for how long a broker may be silent before another is asked too.
	Hedge time.Duration
	// Timeout is after how long without an answer a request counts as failed.
	Timeout time.Duration
	// Most bounds the brokers that it is put to at the same time. Each is given twice the
	// time of the one before until another is asked as well: a cluster that is slow as a
	// whole must not get the same question from every client as often as it has brokers.
	Most int

	ticket  int
	asked   []asked // requests without an answer, the oldest first
	another seams.Instant
}

type asked struct {
	ticket int
	broker int32
	at     seams.Instant
}

// Open reports whether an answer is waited for.
func (q *Question) Open() bool { return len(q.asked) > 0 }

// Put notes a request to a broker, and returns its ticket.
func (q *Question) Put(broker int32, now seams.Instant) int {
	q.ticket++
	q.asked = append(q.asked, asked{q.ticket, broker, now})
	q.another = q.patience()
	return q.ticket
}

// patience is when those that are asked have been silent for long enough.
func (q *Question) patience() seams.Instant {
	n := len(q.asked) - 1
	at := q.asked[n].at
	for range 1 << n {
		at = at.Add(q.Hedge)
	}
	return at
}

// WantsAnother reports whether the brokers that were asked have been silent for
// so long that another should be asked now.
func (q *Question) WantsAnother(now seams.Instant) bool {
	return q.Open() && len(q.asked) < q.Most && now >= q.another
}

// NoOther says that there is no other broker to ask.
func (q *Question) NoOther() { q.another = seams.Never }

// Asked reports whether a broker's answer is waited for.
func (q *Question) Asked(broker int32) bool {
	return slices.ContainsFunc(q.asked, func(a asked) bool { return a.broker == broker })
}

// Silent are the brokers that were asked and have not answered.
func (q *Question) Silent() []int32 {
	silent := make([]int32, len(q.asked))
	for i := range q.asked {
		silent[i] = q.asked[i].broker
	}
	return silent
}

// WaitsFor reports whether the answer to the request with a ticket is still of
// use: another broker may have been quicker.
func (q *Question) WaitsFor(ticket int) bool {
	return slices.ContainsFunc(q.asked, func(a asked) bool { return a.ticket == ticket })
}

// Expired is the ticket of a request whose time is over, if there is one.
func (q *Question) Expired(now seams.Instant) (ticket int, ok bool) {
	if q.Open() && now >= q.asked[0].at.Add(q.Timeout) {
		return q.asked[0].ticket, true
	}
	return 0, false
}

// Failed takes out the request with a ticket. Others that are open go on without it,
// and somebody else is asked as well when they have been silent for long enough.
func (q *Question) Failed(ticket int) {
	q.asked = slices.DeleteFunc(q.asked, func(a asked) bool { return a.ticket == ticket })
	if q.Open() {
		q.another = q.patience()
	}
}

// NotBefore says that another broker must not be asked yet.
func (q *Question) NotBefore(at seams.Instant) { q.another = max(q.another, at) }

// Settle ends the question: what is said to it from now on comes too late.
func (q *Question) Settle() { q.asked = q.asked[:0] }

// Deadline is when to look again; Never if no answer is waited for.
func (q *Question) Deadline() seams.Instant {
	if !q.Open() {
		return seams.Never
	}
	at := q.asked[0].at.Add(q.Timeout)
	if len(q.asked) < q.Most {
		at = min(at, q.another)
	}
	return at
}
