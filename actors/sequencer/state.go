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

// mostAsked is how many brokers are asked at a time: each has ids at hand, or nobody has.
const mostAsked = 2

type config struct {
	timeout time.Duration
	hedge   time.Duration
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
	question   messages.Question
	failures   int
	at         seams.Instant // when to ask, with no request in flight
	fatal      error
}

func newState(c config) *State {
	return &State{config: c, identity: messages.NoIdentity, at: seams.Never, question: messages.Question{Hedge: c.hedge, Timeout: c.timeout, Most: mostAsked}}
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

// crashed gives up what is in flight: an answer may be what the sequencer
// crashed over. It asks anew as after any other failure.
func (s *State) crashed(now seams.Instant) {
	if s.question.Open() {
		s.question.Settle()
		s.failed(none, now)
	}
}

// none is no ticket.
const none = 0

// step returns the request to send now, if any. The root chooses the broker, in
// turn, so that the second of two is another one where there are several. The id
// of the later answer is never used: ids are there in plenty.
func (s *State) step(now seams.Instant) *messages.ControlRequest {
	if !s.wanted || s.fatal != nil {
		return nil
	}
	for ticket, ok := s.question.Expired(now); ok; ticket, ok = s.question.Expired(now) {
		s.failed(ticket, now)
	}
	if !s.question.WantsAnother(now) && (s.question.Open() || now < s.at) {
		return nil
	}
	r := kmsg.NewPtrInitProducerIDRequest()
	r.TransactionTimeoutMillis = math.MaxInt32
	r.ProducerID, r.ProducerEpoch = messages.NoProducerID, -1
	return &messages.ControlRequest{Broker: messages.AnyBroker, Request: r, Ticket: s.question.Put(messages.AnyBroker, now)}
}

// failed takes out a request and waits before the next. If somebody else is being
// asked, too, that goes on.
func (s *State) failed(ticket int, now seams.Instant) {
	s.failures++
	s.at = now.Add(s.retry.Delay(s.failures, s.random))
	s.question.Failed(ticket)
	s.question.NotBefore(s.at)
}

// answered takes in a response; it reports whether there is an identity to
// publish. After an error that no retry can cure, fatal is set.
func (s *State) answered(m *messages.ControlResponse, now seams.Instant) bool {
	if !s.question.WaitsFor(m.Ticket) {
		return false
	}
	if m.Err != nil {
		s.failed(m.Ticket, now)
		return false
	}
	r, ok := m.Response.(*kmsg.InitProducerIDResponse)
	if !ok {
		s.failed(m.Ticket, now)
		return false
	}
	code := protocol.ErrorCode(r.ErrorCode)
	switch {
	case code == 0:
		s.become(r.ProducerID, r.ProducerEpoch)
		s.wanted, s.failures, s.at = false, 0, seams.Never
		s.question.Settle()
		return true
	case code == protocol.ClusterAuthorizationFailed:
		s.fatal = fmt.Errorf("%w: no permission for a producer id; grant IdempotentWrite on the cluster, or Write on any topic with brokers from 2.8, or turn idempotence off", code)
	case code == protocol.UnsupportedVersion:
		s.fatal = fmt.Errorf("%w: the brokers have no producer ids (before 0.11); turn idempotence off", code)
	default:
		s.failed(m.Ticket, now)
	}
	return false
}

// nextDeadline is when step wants to be called again.
func (s *State) nextDeadline() seams.Instant {
	if !s.wanted || s.fatal != nil {
		return seams.Never
	}
	if s.question.Open() {
		return s.question.Deadline()
	}
	return s.at
}
