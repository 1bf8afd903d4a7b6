package accumulator

import (
	"errors"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/messages"
)

// TestTimedOutSaysWhy: "its time is over" alone sends nobody to the right place.
func TestTimedOutSaysWhy(t *testing.T) {
	c := testConfig()
	c.troubles = &messages.Troubles{}
	s := newState(c)
	says := func(what string) {
		t.Helper()
		if err := s.timedOut(); !errors.Is(err, messages.ErrDeliveryTimeout) || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, expected a word about %q", err, what)
		}
	}
	says("no leader")
	s.leader = messages.AssignLeader{ID: 3, Broker: pidOf("broker/3")}
	says("after")
	refused := errors.New("broker 3 (kafka-3:9092): connection refused")
	c.troubles.Happened(3, refused)
	c.troubles.Happened(4, errors.New("another"))
	says(refused.Error())
	c.troubles.Over(3)
	if err := s.timedOut(); strings.Contains(err.Error(), "broker") {
		t.Errorf("%v, and all is well", err)
	}
	var none *messages.Troubles
	none.Happened(1, refused)
	none.Over(1)
	if none.Of(1) != nil {
		t.Error("nil has troubles")
	}
}

// TestClosedSaysWhy: records that are left at the end had a reason to be.
func TestClosedSaysWhy(t *testing.T) {
	s := newStage(t)
	got := make(chan messages.Delivery, 1)
	if s.append("v", func(d messages.Delivery) { got <- d }) != messages.Appended {
		t.Fatal("not appended")
	}
	s.box.FailAll(messages.ErrClosed)
	if d := <-got; !errors.Is(d.Err, messages.ErrClosed) || !strings.Contains(d.Err.Error(), "no leader") || d.Status != messages.NotPersisted {
		t.Errorf("%+v", d)
	}
}
