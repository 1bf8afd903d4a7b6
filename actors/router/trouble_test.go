package router

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// TestWhyATopicIsUnknown is what records say that fail meanwhile: what the last answer
// said of their own topic, or why there was none.
func TestWhyATopicIsUnknown(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.MaxTopicWait, s.DeliveryTimeout = time.Hour, time.Minute })
	missing, away := errors.New("the broker does not know it"), errors.New("no broker answers")
	told := func(what string, d messages.Delivery, cause error, why ...error) {
		t.Helper()
		for _, e := range []error{missing, away} {
			is := len(why) > 0 && errors.Is(why[0], e)
			if !errors.Is(d.Err, cause) || errors.Is(d.Err, e) != is || d.Status != messages.NotPersisted {
				t.Errorf("%s: %+v", what, d)
			}
		}
	}
	over := func() {
		for range 20 {
			w.clock.Advance(4 * time.Second)
		}
	}

	var a, b, c, d outcomes
	w.must(record("a", "v"), &a)
	w.must(record("b", "v"), &b)
	system.Root.Send(w.keeper, &messages.RefreshFailed{Err: away})
	w.found(messages.TopicInfo{Name: "a", Err: missing})
	over()
	told("of its own topic", a.only(t), messages.ErrDeliveryTimeout, missing)
	told("of another's, and an outage that is over", b.only(t), messages.ErrDeliveryTimeout)

	w.must(record("b", "v"), &c)
	system.Root.Send(w.keeper, &messages.RefreshFailed{Err: away})
	over()
	told("of an outage", c.only(t), messages.ErrDeliveryTimeout, away)

	w.must(record("b", "v"), &d)
	w.FailAll(messages.ErrClosed)
	told("at the end", d.only(t), messages.ErrClosed, away)
}

// TestRefusedByAHandle names the topic, which the record need not.
func TestRefusedByAHandle(t *testing.T) {
	w := newWorld(t)
	err := w.topic("mine").Produce(context.Background(), &messages.Record{Value: make([]byte, 2<<20)}, nil, Options{})
	if !errors.Is(err, messages.ErrRecordTooLarge) || !strings.Contains(err.Error(), "topic mine") {
		t.Error(err)
	}
}
