package sequencer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

type config struct {
	timeout time.Duration
	retry   messages.RetryPolicy
	random  *rand.Rand
}

// State is the producer's identity and the request for the next one.
type State struct {
	config
	identity messages.Identity
	// generation is the last that was handed out; it grows on when an identity is
	// used up and there is none for a while.
	generation int64
	wanted     bool
	inFlight   bool
	ticket     int
	failures   int
	at         seams.Instant // when to ask, or when the request counts as failed
	fatal      error
}

func newState(c config) *State {
	return &State{config: c, identity: messages.NoIdentity, at: seams.Never}
}

// need reports whether there is an identity to publish; if not, it is asked for.
func (s *State) need(now seams.Instant) bool {
	if s.identity.Known() {
		return true
	}
	if !s.wanted {
		s.wanted, s.at = true, now
	}
	return false
}

// bump moves on to the next epoch, unless somebody else has already moved it
// past what the asker has. It reports whether there is an identity to publish.
func (s *State) bump(after messages.Identity, now seams.Instant) bool {
	if s.identity.Known() && s.identity == after {
		if s.identity.Epoch < math.MaxInt16 {
			s.become(s.identity.ProducerID, s.identity.Epoch+1)
		} else {
			s.identity = messages.NoIdentity
		}
	}
	return s.need(now)
}

// become takes up an identity, which is newer than all before.
func (s *State) become(id int64, epoch int16) {
	s.generation++
	s.identity = messages.Identity{ProducerID: id, Epoch: epoch, Generation: s.generation}
}

// crashed gives up the request in flight: its answer may be what the sequencer
// crashed over. It asks anew as after any other failure.
func (s *State) crashed(now seams.Instant) {
	if s.inFlight {
		s.failed(now)
		s.ticket++ // the answer may still come
	}
}

// step returns the request to send now, if any.
func (s *State) step(now seams.Instant) *messages.ControlRequest {
	if !s.wanted || s.fatal != nil || now < s.at {
		return nil
	}
	if s.inFlight {
		s.failed(now)
		return nil
	}
	s.ticket++
	s.inFlight, s.at = true, now.Add(s.timeout)
	r := kmsg.NewPtrInitProducerIDRequest()
	r.TransactionTimeoutMillis = math.MaxInt32
	r.ProducerID, r.ProducerEpoch = messages.NoProducerID, -1
	return &messages.ControlRequest{Broker: messages.AnyBroker, Request: r, Ticket: s.ticket}
}

func (s *State) failed(now seams.Instant) {
	s.inFlight = false
	s.failures++
	s.at = now.Add(s.retry.Delay(s.failures, s.random))
}

// answered takes in a response; it reports whether there is an identity to
// publish. After an error that no retry can cure, fatal is set.
func (s *State) answered(m *messages.ControlResponse, now seams.Instant) bool {
	if !s.inFlight || m.Ticket != s.ticket {
		return false
	}
	if m.Err != nil {
		s.failed(now)
		return false
	}
	r, ok := m.Response.(*kmsg.InitProducerIDResponse)
	if !ok {
		s.failed(now)
		return false
	}
	code := protocol.ErrorCode(r.ErrorCode)
	switch {
	case code == 0:
		s.become(r.ProducerID, r.ProducerEpoch)
		s.wanted, s.inFlight, s.failures, s.at = false, false, 0, seams.Never
		return true
	case code == protocol.ClusterAuthorizationFailed:
		s.fatal = fmt.Errorf("%w: no permission for a producer id; grant IdempotentWrite on the cluster, or Write on any topic with brokers from 2.8, or turn idempotence off", code)
	case code == protocol.UnsupportedVersion:
		s.fatal = fmt.Errorf("%w: the brokers have no producer ids (before 0.11); turn idempotence off", code)
	default:
		s.failed(now)
	}
	return false
}

// nextDeadline is when step wants to be called again.
func (s *State) nextDeadline() seams.Instant {
	if !s.wanted || s.fatal != nil {
		return seams.Never
	}
	return s.at
}
