package sequencer

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// asked takes the request for a producer id that the root was given.
func (s *stage) asked() *messages.ControlRequest {
	s.t.Helper()
	r := hear[*messages.ControlRequest](s)
	if _, ok := r.Request.(*kmsg.InitProducerIDRequest); !ok || r.Broker != messages.AnyBroker || !r.ReplyTo.Equal(s.pid) {
		s.t.Fatalf("%+v", r)
	}
	return r
}

func (s *stage) answer(r *messages.ControlRequest, a kmsg.Response) {
	s.tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: 7, Response: a})
}

// known is a stage whose sequencer has an identity.
func known(t *testing.T, id int64, epoch int16) (*stage, messages.Identity) {
	s := newStage(t, Props)
	s.tell(&messages.NeedIdentity{})
	s.answer(s.asked(), granted(id, epoch))
	i := hear[*messages.IdentityChanged](s).Identity
	if i != (messages.Identity{ProducerID: id, Epoch: epoch, Generation: 1}) {
		t.Fatalf("%+v", i)
	}
	s.silent()
	return s, i
}

// TestTheFirstIdentity is asked for once, however many need it, and told to all
// who ask later without another request.
func TestTheFirstIdentity(t *testing.T) {
	s := newStage(t, Props)
	s.advance(time.Hour)
	s.silent()
	s.tell(&messages.NeedIdentity{}, &messages.NeedIdentity{}, &messages.NeedIdentity{})
	r := s.asked()
	s.silent()
	s.tell(&messages.NeedIdentity{})
	s.silent()
	s.answer(r, granted(42, 3))
	first := hear[*messages.IdentityChanged](s).Identity
	s.silent()
	s.tell(&messages.NeedIdentity{})
	if again := hear[*messages.IdentityChanged](s).Identity; again != first || again.ProducerID != 42 || again.Epoch != 3 {
		t.Errorf("%+v, then %+v", first, again)
	}
	s.advance(time.Hour)
	s.silent()
}

// TestFailuresAreTriedAgain at the pace of the retry policy: no connection, a
// code that passes, an answer of the wrong kind, and no answer at all.
func TestFailuresAreTriedAgain(t *testing.T) {
	s := newStage(t, Props)
	s.tell(&messages.NeedIdentity{})
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
		s.tell(m)
		s.after(wait * time.Millisecond)
		late = s.asked()
	}
	s.after(2 * time.Second)
	r := s.asked()                        // of another broker
	s.after(38*time.Second + time.Second) // request timeout and slack of the first, and the policy's wait
	more := s.asked()
	s.answer(late, granted(1, 0))
	s.silent() // whom nobody waits for any more
	s.answer(r, granted(2, 0))
	if i := hear[*messages.IdentityChanged](s).Identity; i.ProducerID != 2 {
		t.Errorf("%+v", i)
	}
	s.answer(more, granted(3, 0)) // the same
	s.silent()
	s.advance(time.Hour)
	s.silent()
	if len(s.log) != 2 || s.log[0].Kind != messages.LogNoProducerID || s.log[1].Times != 1 {
		t.Errorf("the log has %+v", s.log)
	}
}

// TestRefusalsEndTheProducer, and say what to do.
func TestRefusalsEndTheProducer(t *testing.T) {
	for code, remedy := range map[protocol.ErrorCode]string{
		protocol.ClusterAuthorizationFailed: "grant IdempotentWrite on the cluster",
		protocol.UnsupportedVersion:         "turn idempotence off",
	} {
		s := newStage(t, Props)
		s.tell(&messages.NeedIdentity{})
		s.answer(s.asked(), refused(code))
		if m := hear[*messages.ProducerFailed](s); !errors.Is(m.Err, code) || !strings.Contains(m.Err.Error(), remedy) {
			t.Errorf("%v", m.Err)
		}
		s.silent()
		s.advance(time.Hour)
		s.silent()
	}
}

// TestABumpIsLocal, and two partitions that found a gap at the same time cause
// one.
func TestABumpIsLocal(t *testing.T) {
	s, old := known(t, 42, 3)
	s.tell(&messages.BumpEpoch{After: old}, &messages.BumpEpoch{After: old})
	want := messages.Identity{ProducerID: 42, Epoch: 4, Generation: 2}
	for range 2 { // both are told
		if i := hear[*messages.IdentityChanged](s).Identity; i != want {
			t.Errorf("%+v", i)
		}
	}
	s.silent()
	s.tell(&messages.BumpEpoch{After: want})
	if i := hear[*messages.IdentityChanged](s).Identity; i.Epoch != 5 || i.Generation != 3 {
		t.Errorf("%+v", i)
	}
	s.advance(time.Hour)
	s.silent()
}

// TestTheLastEpoch is followed by another producer id, and by one only.
func TestTheLastEpoch(t *testing.T) {
	s, old := known(t, 42, math.MaxInt16-1)
	s.tell(&messages.BumpEpoch{After: old})
	last := hear[*messages.IdentityChanged](s).Identity
	if last.Epoch != math.MaxInt16 {
		t.Fatalf("%+v", last)
	}
	s.tell(&messages.BumpEpoch{After: last}, &messages.BumpEpoch{After: last}, &messages.NeedIdentity{})
	r := s.asked()
	s.silent()
	s.answer(r, granted(7, 0))
	next := hear[*messages.IdentityChanged](s).Identity
	if next != (messages.Identity{ProducerID: 7, Epoch: 0, Generation: 3}) || !next.Newer(last) {
		t.Errorf("%+v after %+v", next, last)
	}
	s.silent()
	s.tell(&messages.BumpEpoch{After: last}) // late: it has been done
	if i := hear[*messages.IdentityChanged](s).Identity; i != next {
		t.Errorf("%+v", i)
	}
	s.silent()
}

// TestACrashForgetsNothing: an epoch that was handed out must not be handed out
// again, and a request whose answer may be lost is made again.
func TestACrashForgetsNothing(t *testing.T) {
	s, old := known(t, 42, 3)
	s.tell(&messages.BumpEpoch{After: old})
	now := hear[*messages.IdentityChanged](s).Identity
	s.restart()
	s.tell(&messages.NeedIdentity{})
	if i := hear[*messages.IdentityChanged](s).Identity; i != now {
		t.Errorf("%+v after the crash, %+v before", i, now)
	}

	s = newStage(t, Props)
	s.tell(&messages.NeedIdentity{})
	r := s.asked()
	var none *kmsg.InitProducerIDResponse
	s.answer(r, none) // as a bug would have it: the actor panics and is restarted
	s.silent()
	s.after(100 * time.Millisecond)
	again := s.asked()
	s.answer(r, granted(9, 0)) // too late: it was given up
	s.silent()
	s.answer(again, granted(8, 0))
	if i := hear[*messages.IdentityChanged](s).Identity; i.ProducerID != 8 {
		t.Errorf("%+v", i)
	}
}
