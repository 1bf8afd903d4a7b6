package metadata

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

const (
	maxAge = 5 * time.Minute
	minAge = 50 * time.Millisecond
	hedge  = 2 * time.Second
)

// asked takes the request for metadata that the root was given, and the topics
// that it names.
func (s *stage) asked() (r *messages.ControlRequest, topics []string) {
	s.t.Helper()
	r = hear[*messages.ControlRequest](s)
	k, ok := r.Request.(*kmsg.MetadataRequest)
	if !ok || !r.ReplyTo.Equal(s.pid) || !k.AllowAutoTopicCreation {
		s.t.Fatalf("%+v", r)
	}
	for _, t := range k.Topics {
		topics = append(topics, *t.Topic)
	}
	return r, topics
}

func (s *stage) answer(r *messages.ControlRequest, a *kmsg.MetadataResponse) {
	s.tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Response: a})
}

// view answers a request and returns what the root hears of it.
func (s *stage) view(r *messages.ControlRequest, a *kmsg.MetadataResponse) *messages.ClusterView {
	s.t.Helper()
	s.answer(r, a)
	return hear[*messages.ClusterChanged](s).View
}

// lose fails a request; the root is told.
func (s *stage) lose(r *messages.ControlRequest) {
	s.t.Helper()
	s.tell(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Err: messages.ErrConnectionLost})
	if m := hear[*messages.RefreshFailed](s); !errors.Is(m.Err, messages.ErrConnectionLost) {
		s.t.Fatalf("%+v", m)
	}
}

// settled is a stage that knows topic t on two brokers and wants nothing.
func settled(t *testing.T) *stage {
	s := newStage(t, Props)
	s.tell(&messages.TrackTopic{Name: "t"})
	r, topics := s.asked()
	if !messages.IsSeed(r.Broker) || !slices.Equal(topics, []string{"t"}) {
		t.Fatalf("broker %d is asked for %v", r.Broker, topics)
	}
	if v := s.view(r, cluster(2, topic("t", 1, 0, 0))); v.Version != 1 || len(v.Brokers) != 2 || len(v.Topics) != 1 || len(v.Topics[0].Partitions) != 2 {
		t.Fatalf("%+v", v)
	}
	s.silent()
	return s
}

// TestOneRefreshInFlight, whoever asks and however often.
func TestOneRefreshInFlight(t *testing.T) {
	s := newStage(t, Props)
	s.tell(&messages.RefreshMetadata{}, &messages.RefreshMetadata{}, &messages.TrackTopic{Name: "b"})
	first, _ := s.asked()
	s.silent()
	s.tell(&messages.TrackTopic{Name: "a"}, &messages.RefreshMetadata{})
	s.advance(time.Second)
	s.silent()
	// What was wanted meanwhile is asked for with the answer.
	s.view(first, cluster(1, topic("b", 1, 0)))
	second, topics := s.asked()
	if second.Ticket == first.Ticket || !slices.Equal(topics, []string{"a", "b"}) {
		t.Errorf("ticket %d after %d, topics %v", second.Ticket, first.Ticket, topics)
	}
	s.silent()
	s.answer(first, cluster(3)) // once more: nobody waits for it
	s.silent()
	if v := s.view(second, cluster(1, topic("a", 1, 0), topic("b", 1, 0))); v.Version != 2 {
		t.Errorf("%+v", v)
	}
}

func TestMaxAge(t *testing.T) {
	s := settled(t)
	for range 3 {
		s.after(maxAge)
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
	s.advance(10 * time.Millisecond)
	for range 5 {
		s.tell(&messages.RefreshMetadata{})
	}
	s.after(minAge - 10*time.Millisecond)
	r, _ := s.asked()
	s.view(r, cluster(2, topic("t", 1, 0, 0)))
	s.advance(time.Minute)
	s.silent()
	s.tell(&messages.RefreshMetadata{}) // long after: at once
	s.asked()
	s.silent()
}

// TestIdleTopics are asked for no more, and are not part of the view.
func TestIdleTopics(t *testing.T) {
	s := settled(t)
	s.tell(&messages.ForgetTopic{Name: "t"})
	s.after(maxAge)
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
	s.tell(&messages.TrackTopic{Name: "t"})
	if _, topics := s.asked(); !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
}

// TestFailuresMoveOn to the other brokers at once, then wait as the retry policy
// says, and the log has them as one cause.
func TestFailuresMoveOn(t *testing.T) {
	s := newStage(t, Props)
	s.tell(&messages.RefreshMetadata{})
	first, _ := s.asked()
	s.lose(first)
	second, _ := s.asked()
	if first.Broker == second.Broker {
		t.Errorf("broker %d is asked again at once", first.Broker)
	}
	for _, wait := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		s.lose(second)
		s.after(wait * time.Millisecond)
		second, _ = s.asked()
	}
	s.answer(second, kmsg.NewPtrMetadataResponse())
	if m := hear[*messages.RefreshFailed](s); m.Err == nil {
		t.Error("an answer without brokers is one")
	}
	s.after(time.Second)
	r, _ := s.asked()
	s.view(r, cluster(1))
	if len(s.log) != 2 || s.log[0].Kind != messages.LogNoMetadata || s.log[1].Times != 7 || !slices.Equal(s.log[1].Brokers, []string{"seed-0", "seed-1"}) {
		t.Errorf("the log has %+v", s.log)
	}
	// A success ends the waits.
	s.after(maxAge)
	r, _ = s.asked()
	s.lose(r)
	if r, _ = s.asked(); !messages.IsSeed(r.Broker) { // one broker is known, and failed
		t.Errorf("broker %d is asked", r.Broker)
	}
}

// TestSilence: another broker is asked as well, and after the request timeout and
// its slack the silence is a failure. What the first says then is not heard.
func TestSilence(t *testing.T) {
	s := newStage(t, Props)
	s.tell(&messages.RefreshMetadata{})
	first, _ := s.asked()
	s.after(hedge)
	second, _ := s.asked()
	if second.Broker == first.Broker {
		t.Errorf("broker %d is asked again", first.Broker)
	}
	s.after(40*time.Second - hedge + 100*time.Millisecond) // both have been tried
	third, _ := s.asked()
	s.answer(first, cluster(3))
	s.silent()
	if v := s.view(second, cluster(1)); len(v.Brokers) != 1 {
		t.Errorf("%+v", v.Brokers)
	}
	s.answer(third, cluster(3))
	s.silent()
}

// TestUnknownTopicsAreAskedForAgain at the pace of the retry policy.
func TestUnknownTopicsAreAskedForAgain(t *testing.T) {
	s := newStage(t, Props)
	s.tell(&messages.TrackTopic{Name: "t"})
	r, _ := s.asked()
	for _, wait := range []time.Duration{100, 200, 400, 800, 1000} {
		if v := s.view(r, cluster(1)); !errors.Is(v.Topics[0].Err, messages.ErrUnknownTopic) {
			t.Fatalf("%+v", v.Topics[0])
		}
		s.after(wait * time.Millisecond)
		r, _ = s.asked()
	}
	s.view(r, cluster(1, topic("t", 1, 0)))
	s.after(maxAge)
}

// TestARestartForgetsNothing: topics are still tracked, and the request under
// way is waited for, and no longer than before.
func TestARestartForgetsNothing(t *testing.T) {
	s := settled(t)
	s.restart()
	s.after(maxAge)
	r, topics := s.asked()
	if !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
	s.restart()
	again, topics := s.asked() // its answer may be what it crashed over
	if !slices.Equal(topics, []string{"t"}) {
		t.Errorf("asked for %v", topics)
	}
	s.answer(r, cluster(2, topic("t", 1, 0, 0))) // too late: it was given up
	s.silent()
	if v := s.view(again, cluster(2, topic("t", 1, 0, 0))); v.Version != 2 {
		t.Errorf("%+v", v)
	}
	s.after(maxAge)
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
		s.restart()
	}
	set := 0
	for _, timer := range s.timers {
		if timer.at != seams.Never {
			set++
		}
	}
	if set != 1 {
		t.Errorf("%d timers are set", set)
	}
}
