package broker

import (
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Connections that end by our own decision, with nothing in flight.

// noAcksGrace is for how long a connection without answers stays open after its last
// write: a broker may forget what it has not taken in when its peer hangs up.
const noAcksGrace = 200 * time.Millisecond

// over is when a lane whose session ends can be closed, if nothing is in flight on it.
func (s *State) over(l messages.Lane) seams.Instant {
	lane := &s.lanes[l]
	if l == messages.LaneNoAcks {
		return max(lane.until, lane.lastUsed.Add(noAcksGrace))
	}
	return lane.until
}

// ended returns the lanes whose session ends and that owe nobody an answer.
func (s *State) ended(now seams.Instant) (lanes []messages.Lane) {
	for l := range s.lanes {
		if lane := &s.lanes[l]; lane.up && len(lane.inFlight) == 0 && now >= s.over(messages.Lane(l)) {
			lanes = append(lanes, messages.Lane(l))
		}
	}
	return lanes
}

// idle returns the lanes that nobody used for the idle time.
func (s *State) idle(now seams.Instant) []messages.Lane {
	var lanes []messages.Lane
	for l := range s.lanes {
		lane := &s.lanes[l]
		if lane.up && len(lane.inFlight) == 0 && !s.wants(messages.Lane(l)) && now.Sub(lane.lastUsed) >= s.connectionIdle {
			lanes = append(lanes, messages.Lane(l))
		}
	}
	return lanes
}
