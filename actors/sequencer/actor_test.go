package sequencer

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// play is the actor on its stage.
type play struct{ *actortest.Stage }

func newPlay(t *testing.T) *play { return &play{actortest.New(t, Props)} }

// asked takes the request for a producer id that the root was given.
func (s *play) asked() *messages.ControlRequest {
	s.T.Helper()
	r := actortest.Hear[*messages.ControlRequest](s.Stage)
	if _, ok := r.Request.(*kmsg.InitProducerIDRequest); !ok || r.Broker != messages.AnyBroker || !r.ReplyTo.Equal(s.PID) {
		s.T.Fatalf("%+v", r)
	}
	return r
}

func (s *play) answer(r *messages.ControlRequest, a kmsg.Response) {
	s.Tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: 7, Response: a})
}

// known is a play whose sequencer has an identity.
func known(t *testing.T, id int64, epoch int16) (*play, messages.Identity) {
	s := newPlay(t)
	s.Tell(&messages.NeedIdentity{})
	s.answer(s.asked(), granted(id, epoch))
	i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity
	if i != (messages.Identity{ProducerID: id, Epoch: epoch, Generation: 1}) {
		t.Fatalf("%+v", i)
	}
	s.Silent()
	return s, i
}

// TestTheFirstIdentity is asked for once, however many need it, and told to all
// who ask later without another request.
func TestTheFirstIdentity(t *testing.T) {
	s := newPlay(t)
	s.Advance(time.Hour)
	s.Silent()
	s.Tell(&messages.NeedIdentity{}, &messages.NeedIdentity{}, &messages.NeedIdentity{})
	r := s.asked()
	s.Silent()
	s.Tell(&messages.NeedIdentity{})
	s.Silent()
	s.answer(r, granted(42, 3))
	first := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity
	s.Silent()
	s.Tell(&messages.NeedIdentity{})
	if again := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; again != first || again.ProducerID != 42 || again.Epoch != 3 {
		t.Errorf("%+v, then %+v", first, again)
	}
	s.Advance(time.Hour)
	s.Silent()
}

// TestFailuresAreTriedAgain at the pace of the retry policy: no connection, a
// code that passes, an answer of the wrong kind, and no answer at all.
func TestFailuresAreTriedAgain(t *testing.T) {
	s := newPlay(t)
	s.Tell(&messages.NeedIdentity{})
	late := s.asked()
	for i, wait := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		m := &messages.ControlResponse{Ticket: late.Ticket, Broker: 7}
		switch i % 3 {
		case 0:
			m.Err = messages.ErrConnectionLost
		case 1:
			m.Response = refused(protocol.CoordinatorLoadInProgress)
		case 2:
			m.Response = kmsg.NewPtrMetadataResponse()
		}
		s.Tell(m)
		s.After(wait * time.Millisecond)
		late = s.asked()
	}
	s.After(2 * time.Second)
	r := s.asked()                        // of another broker
	s.After(38*time.Second + time.Second) // request timeout and slack of the first, and the policy's wait
	more := s.asked()
	s.answer(late, granted(1, 0))
	s.Silent() // whom nobody waits for any more
	s.answer(r, granted(2, 0))
	if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i.ProducerID != 2 {
		t.Errorf("%+v", i)
	}
	s.answer(more, granted(3, 0)) // the same
	s.Silent()
	s.Advance(time.Hour)
	s.Silent()
	if len(s.Log) != 2 || s.Log[0].Kind != messages.LogNoProducerID || s.Log[1].Times != 1 {
		t.Errorf("the log has %+v", s.Log)
	}
}

// TestRefusalsEndTheProducer, and say what to do.
func TestRefusalsEndTheProducer(t *testing.T) {
	for code, remedy := range map[protocol.ErrorCode]string{
		protocol.ClusterAuthorizationFailed: "grant IdempotentWrite on the cluster",
		protocol.UnsupportedVersion:         "turn idempotence off",
	} {
		s := newPlay(t)
		s.Tell(&messages.NeedIdentity{})
		s.answer(s.asked(), refused(code))
		if m := actortest.Hear[*messages.ProducerFailed](s.Stage); !errors.Is(m.Err, code) || !strings.Contains(m.Err.Error(), remedy) {
			t.Errorf("%v", m.Err)
		}
		s.Silent()
		s.Advance(time.Hour)
		s.Silent()
	}
}

// TestABumpIsLocal, and two partitions that found a gap at the same time cause
// one.
func TestABumpIsLocal(t *testing.T) {
	s, old := known(t, 42, 3)
	s.Tell(&messages.BumpEpoch{After: old}, &messages.BumpEpoch{After: old})
	want := messages.Identity{ProducerID: 42, Epoch: 4, Generation: 2}
	for range 2 { // both are told
		if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i != want {
			t.Errorf("%+v", i)
		}
	}
	s.Silent()
	s.Tell(&messages.BumpEpoch{After: want})
	if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i.Epoch != 5 || i.Generation != 3 {
		t.Errorf("%+v", i)
	}
	s.Advance(time.Hour)
	s.Silent()
}

// TestTheLastEpoch is followed by another producer id, and by one only.
func TestTheLastEpoch(t *testing.T) {
	s, old := known(t, 42, math.MaxInt16-1)
	s.Tell(&messages.BumpEpoch{After: old})
	last := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity
	if last.Epoch != math.MaxInt16 {
		t.Fatalf("%+v", last)
	}
	s.Tell(&messages.BumpEpoch{After: last}, &messages.BumpEpoch{After: last}, &messages.NeedIdentity{})
	r := s.asked()
	s.Silent()
	s.answer(r, granted(7, 0))
	next := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity
	if next != (messages.Identity{ProducerID: 7, Epoch: 0, Generation: 3}) || !next.Newer(last) {
		t.Errorf("%+v after %+v", next, last)
	}
	s.Silent()
	s.Tell(&messages.BumpEpoch{After: last}) // late: it has been done
	if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i != next {
		t.Errorf("%+v", i)
	}
	s.Silent()
}

// TestACrashForgetsNothing: an epoch that was handed out must not be handed out
// again, and a request whose answer may be lost is made again.
func TestACrashForgetsNothing(t *testing.T) {
	s, old := known(t, 42, 3)
	s.Tell(&messages.BumpEpoch{After: old})
	now := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity
	s.Restart()
	s.Tell(&messages.NeedIdentity{})
	if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i != now {
		t.Errorf("%+v after the crash, %+v before", i, now)
	}

	s = newPlay(t)
	s.Tell(&messages.NeedIdentity{})
	r := s.asked()
	var none *kmsg.InitProducerIDResponse
	s.answer(r, none) // as a bug would have it: the actor panics and is restarted
	s.Silent()
	s.After(100 * time.Millisecond)
	again := s.asked()
	s.answer(r, granted(9, 0)) // too late: it was given up
	s.Silent()
	s.answer(again, granted(8, 0))
	if i := actortest.Hear[*messages.IdentityChanged](s.Stage).Identity; i.ProducerID != 8 {
		t.Errorf("%+v", i)
	}
}
