package broker

import (
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// classes in the order in which they are served, but for inTurn.
var classes = [...]messages.Class{
	{Lane: messages.LaneProduce, Acks: messages.AcksAll},
	{Lane: messages.LaneProduce, Acks: messages.AcksLeader},
	{Lane: messages.LaneSlow, Acks: messages.AcksAll},
	{Lane: messages.LaneSlow, Acks: messages.AcksLeader},
	{Lane: messages.LaneNoAcks, Acks: messages.AcksNone},
}

// readyLines are the partitions in line, for each class.
type readyLines [messages.Lanes][messages.AcksNone + 1][]messages.Taker

func (l *readyLines) of(c messages.Class) *[]messages.Taker { return &l[c.Lane][c.Acks] }

const (
	// gatherFrom is how many requests in flight keep a broker busy: it serves one
	// of a connection while the next is on its way.
	gatherFrom = 2
	// gatherTime is how long what becomes ready beyond them is gathered into one
	// request, if no answer makes room before. A broker that is near answers
	// earlier, and then gets few large requests for many small ones; one that is
	// far still gets all it may have in flight.
	gatherTime = time.Millisecond
)

// anyReady reports whether any partition is in line: in most turns none is.
func (s *State) anyReady() bool {
	for l := range s.ready {
		for acks := range s.ready[l] {
			if len(s.ready[l][acks]) > 0 {
				return true
			}
		}
	}
	return false
}

// hasRoom reports whether a lane can take another request now.
func (s *State) hasRoom(l messages.Lane, now seams.Instant) bool {
	lane := &s.lanes[l]
	return lane.up && len(lane.inFlight) < s.maxInFlight && now >= lane.throttled && now < lane.until
}

// canSend reports whether a request of a class may go out now.
func (s *State) canSend(c messages.Class, now seams.Instant) bool {
	lane := &s.lanes[c.Lane]
	return s.hasRoom(c.Lane, now) && len(*s.ready.of(c)) > 0 && (len(lane.inFlight) < gatherFrom || now >= lane.gathering[c.Acks])
}

// inTurn is the classes in the order in which they are served now: of two on one
// lane, the one that was not served last comes first.
func (s *State) inTurn() [len(classes)]messages.Class {
	order := classes
	for i := 1; i < len(order); i++ {
		if l := order[i].Lane; order[i-1].Lane == l && s.lanes[l].served == order[i-1].Acks {
			order[i-1], order[i] = order[i], order[i-1]
		}
	}
	return order
}
