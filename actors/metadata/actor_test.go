package metadata

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
)

const (
	maxAge = 5 * time.Minute
	minAge = 50 * time.Millisecond
	hedge  = 2 * time.Second
)

// play is the actor on its stage.
type play struct{ *actortest.Stage }

func newPlay(t *testing.T) *play { return &play{actortest.New(t, Props)} }

// asked takes the request for metadata that the root was given, and the topics
// that it names.
func (s *play) asked() (r *messages.ControlRequest, topics []string) {
	s.T.Helper()
	r = actortest.Hear[*messages.ControlRequest](s.Stage)
	k, ok := r.Request.(*kmsg.MetadataRequest)
	if !ok || !r.ReplyTo.Equal(s.PID) || !k.AllowAutoTopicCreation {
		s.T.Fatalf("%+v", r)
	}
	for _, t := range k.Topics {
		topics = append(topics, *t.Topic)
	}
	return r, topics
}

func (s *play) answer(r *messages.ControlRequest, a *kmsg.MetadataResponse) {
	s.Tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Response: a})
}

// view answers a request and returns what the root hears of it.
func (s *play) view(r *messages.ControlRequest, a *kmsg.MetadataResponse) *messages.ClusterView {
	s.T.Helper()
	s.answer(r, a)
	return actortest.Hear[*messages.ClusterChanged](s.Stage).View
}

// lose fails a request; the root is told.
func (s *play) lose(r *messages.ControlRequest) {
	s.T.Helper()
	s.Tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Err: messages.ErrConnectionLost})
	if m := actortest.Hear[*messages.RefreshFailed](s.Stage); !errors.Is(m.Err, messages.ErrConnectionLost) {
		s.T.Fatalf("%+v", m)
	}
}

// settled is a play that knows topic t on two brokers and wants nothing.
func settled(t *testing.T) *play {
	s := newPlay(t)
	s.Tell(&messages.TrackTopic{Name: "t"})
	r, topics := s.asked()
	if !messages.IsSeed(r.Broker) || !slices.Equal(topics, []string{"t"}) {
		t.Fatalf("broker %d is asked for %v", r.Broker, topics)
	}
	if v := s.view(r, cluster(2, topic("t", 1, 0, 0))); v.Version != 1 || len(v.Brokers) != 2 || len(v.Topics) != 1 || len(v.Topics[0].Partitions) != 2 {
		t.Fatalf("%+v", v)
	}
	s.Silent()
	return s
}

// TestOneRefreshInFlight, whoever asks and however often.
func TestOneRefreshInFlight(t *testing.T) {
	s := newPlay(t)
	s.Tell(&messages.RefreshMetadata{}, &messages.RefreshMetadata{}, &messages.TrackTopic{Name: "b"})
	first, _ := s.asked()
	s.Silent()
	s.Tell(&messages.TrackTopic{Name: "a"}, &messages.RefreshMetadata{})
	s.Advance(time.Second)
	s.Silent()
	// What was wanted meanwhile is asked for with the answer.
	s.view(first, cluster(1, topic("b", 1, 0)))
	second, topics := s.asked()
	if second.Ticket == first.Ticket || !slices.Equal(topics, []string{"a", "b"}) {
		t.Errorf("ticket %d after %d, topics %v", second.Ticket, first.Ticket, topics)
	}
	s.Silent()
	s.answer(first, cluster(3)) // once more: nobody waits for it
	s.Silent()
	if v := s.view(second, cluster(1, topic("a", 1, 0), topic("b", 1, 0))); v.Version != 2 {
		t.Errorf("%+v", v)
	}
}

func TestMaxAge(t *testing.T) {
	s := settled(t)
	for range 3 {
		s.After(maxAge)
		r, topics := s.asked()
		if messages.IsSeed(r.Broker) || !slices.Equal(topics, []string{"t"}) {
			t.Errorf("broker %d is asked for %v", r.Broker, topics)
		}
		s.view(r, cluster(2, topic("t", 1, 0, 0)))
	}
}

// TestMinAge: wishes that follow a request closely wait, and become one.
func TestMinAge(t *testing.T) {
	s := settled(t)
	s.Advance(10 * time.Millisecond)
	for range 5 {
		s.Tell(&messages.RefreshMetadata{})
	}
	s.After(minAge - 10*time.Millisecond)
	r, _ := s.asked()
	s.view(r, cluster(2, topic("t", 1, 0, 0)))
	s.Advance(time.Minute)
	s.Silent()
	s.Tell(&messages.RefreshMetadata{}) // long after: at once
	s.asked()
	s.Silent()
}

// TestIdleTopics are asked for no more, and are not part of the view.
func TestIdleTopics(t *testing.T) {
	s := settled(t)
	s.Tell(&messages.ForgetTopic{Name: "t"})
	s.After(maxAge)
	r, topics := s.asked()
	if len(topics) != 0 {
		t.Errorf("asked for %v", topics)
	}
	if k := r.Request.(*kmsg.MetadataRequest); k.Topics == nil {
		t.Error("no list of topics is a wish for all of them")
	}
	if v := s.view(r, cluster(2)); len(v.Topics) != 0 {
		t.Errorf("%+v", v.Topics)
	}
	// It may come back, without any age to wait for.
	s.Tell(&messages.TrackTopic{Name: "t"})
	if _, topics := s.asked(); !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
}

// TestFailuresMoveOn to the other brokers at once, then wait as the retry policy
// says, and the log has them as one cause.
func TestFailuresMoveOn(t *testing.T) {
	s := newPlay(t)
	s.Tell(&messages.RefreshMetadata{})
	first, _ := s.asked()
	s.lose(first)
	second, _ := s.asked()
	if first.Broker == second.Broker {
		t.Errorf("broker %d is asked again at once", first.Broker)
	}
	for _, wait := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		s.lose(second)
		s.After(wait * time.Millisecond)
		second, _ = s.asked()
	}
	s.answer(second, kmsg.NewPtrMetadataResponse())
	if m := actortest.Hear[*messages.RefreshFailed](s.Stage); m.Err == nil {
		t.Error("an answer without brokers is one")
	}
	s.After(time.Second)
	r, _ := s.asked()
	s.view(r, cluster(1))
	if len(s.Log) != 2 || s.Log[0].Kind != messages.LogNoMetadata || s.Log[1].Times != 7 || !slices.Equal(s.Log[1].Brokers, []string{"seed-0", "seed-1"}) {
		t.Errorf("the log has %+v", s.Log)
	}
	// A success ends the waits.
	s.After(maxAge)
	r, _ = s.asked()
	s.lose(r)
	if r, _ = s.asked(); !messages.IsSeed(r.Broker) { // one broker is known, and failed
		t.Errorf("broker %d is asked", r.Broker)
	}
}

// TestSilence: another broker is asked as well, and after the request timeout and
// its slack the silence is a failure. What the first says then is not heard.
func TestSilence(t *testing.T) {
	s := newPlay(t)
	s.Tell(&messages.RefreshMetadata{})
	first, _ := s.asked()
	s.After(hedge)
	second, _ := s.asked()
	if second.Broker == first.Broker {
		t.Errorf("broker %d is asked again", first.Broker)
	}
	s.After(40*time.Second - hedge + 100*time.Millisecond) // both have been tried
	third, _ := s.asked()
	s.answer(first, cluster(3))
	s.Silent()
	if v := s.view(second, cluster(1)); len(v.Brokers) != 1 {
		t.Errorf("%+v", v.Brokers)
	}
	s.answer(third, cluster(3))
	s.Silent()
}

// TestUnknownTopicsAreAskedForAgain at the pace of the retry policy.
func TestUnknownTopicsAreAskedForAgain(t *testing.T) {
	s := newPlay(t)
	s.Tell(&messages.TrackTopic{Name: "t"})
	r, _ := s.asked()
	for _, wait := range []time.Duration{100, 200, 400, 800, 1000} {
		if v := s.view(r, cluster(1)); !errors.Is(v.Topics[0].Err, messages.ErrUnknownTopic) {
			t.Fatalf("%+v", v.Topics[0])
		}
		s.After(wait * time.Millisecond)
		r, _ = s.asked()
	}
	s.view(r, cluster(1, topic("t", 1, 0)))
	s.After(maxAge)
}

// TestARestartForgetsNothing: topics are still tracked, and the request under
// way is waited for, and no longer than before.
func TestARestartForgetsNothing(t *testing.T) {
	s := settled(t)
	s.Restart()
	s.After(maxAge)
	r, topics := s.asked()
	if !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
	s.Restart()
	again, topics := s.asked() // its answer may be what it crashed over
	if !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
	s.answer(r, cluster(2, topic("t", 1, 0, 0))) // too late: it was given up
	s.Silent()
	if v := s.view(again, cluster(2, topic("t", 1, 0, 0))); v.Version != 2 {
		t.Errorf("%+v", v)
	}
	s.After(maxAge)
	r, _ = s.asked()
	var none *kmsg.MetadataResponse
	s.answer(r, none) // as a bug would have it: the actor panics and is restarted
	s.asked()
}

// TestARestartLeavesNoTimer: each incarnation has one of its own, and nothing may
// wake an actor that has stopped.
func TestARestartLeavesNoTimer(t *testing.T) {
	s := settled(t)
	for range 3 {
		s.Restart()
	}
	if set := s.SetTimers(); set != 1 {
		t.Errorf("%d timers are set", set)
	}
}

// TestNobodyLetsUsIn: when every address has refused who we are, twice, there is nothing
// to hope for until somebody changes a setting. It is otherwise if one is only away, or
// has let us in before.
func TestNobodyLetsUsIn(t *testing.T) {
	s := newPlay(t) // with two bootstrap addresses
	denied := fmt.Errorf("%w: %w: wrong password", messages.ErrConnectionLost, messages.ErrAuthentication)
	refuse := func(err error) bool {
		t.Helper()
		s.Advance(time.Second)
		r, _ := s.asked()
		s.Tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Err: err})
		return actortest.Hear[*messages.RefreshFailed](s.Stage).Hopeless
	}
	s.Tell(&messages.TrackTopic{Name: "t"})
	for i, want := range []bool{false, false, false, true, true} {
		if refuse(denied) != want {
			t.Errorf("refusal %d: hopeless %v", i+1, !want)
		}
	}
	if refuse(messages.ErrConnectionLost) || refuse(denied) {
		t.Error("one is only away")
	}
	for i, want := range []bool{false, false, true} {
		if refuse(denied) != want {
			t.Errorf("refusal %d after that: hopeless %v", i+1, !want)
		}
	}
	s.Advance(time.Second)
	r, _ := s.asked()
	s.view(r, cluster(1, topic("t", 1, 0)))
	s.Advance(time.Minute)
	s.Tell(&messages.RefreshMetadata{})
	for range 10 {
		if refuse(denied) {
			t.Fatal("we were let in before")
		}
	}
}
