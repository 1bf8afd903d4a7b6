package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestUnreadableAnswerEndsTheConnection, and however often it does, the log has
// one line, and one with the count when an answer is readable again.
func TestUnreadableAnswerEndsTheConnection(t *testing.T) {
	th := newTheatre(t, restart)
	var batches []*fakeBatch
	for range 20 {
		batches = append(batches, newBatch(100))
	}
	th.ready(newTaker("a", 0, batches...))
	for round := range 4 {
		c := th.connect()
		correlation, k := readRequest(t, receive(t, "a request", c.frames))
		frame := responseFrame(correlation, produceAnswer(k, 0))
		if round == 3 {
			c.events.Received(frame)
			break
		}
		c.events.Received(append(frame, 1, 2, 3))
		_ = receive(t, "the end of the connection", c.closed)
	}
	if r := th.outcome(batches[0]); r.Err == nil || !r.Sent {
		t.Errorf("%+v", r)
	}
	lines := func() (lines []messages.LogLine) {
		th.mu.Lock()
		defer th.mu.Unlock()
		for _, l := range th.log {
			if l.Kind == messages.LogUnreadable {
				lines = append(lines, l)
			}
		}
		return lines
	}
	th.eventually("the line with the count", func() bool { return len(lines()) == 2 })
	if got := lines(); got[0].Times != 0 || got[0].Broker != 4 || got[1].Times != 2 || !slices.Equal(got[1].Brokers, []string{"4"}) {
		t.Errorf("the log has %+v", got)
	}
}

// TestRequestTimeout: the error says how long the answer was waited for, which
// is up to the batches of the request.
func TestRequestTimeout(t *testing.T) {
	for own, allowed := range map[time.Duration]time.Duration{0: 40 * time.Second, 5 * time.Second: 15 * time.Second, 90 * time.Second: 100 * time.Second} {
		th := newTheatre(t, restart)
		b := newBatch(100)
		b.timeoutMs = int32(own.Milliseconds())
		th.ready(newTaker("a", 0, b))
		c := th.connect()
		receive(t, "a request", c.frames)
		th.clock.Advance(allowed - time.Second)
		th.clock.Advance(time.Second)
		reason := receive(t, "the end of the connection", c.closed)
		if !errors.Is(reason, messages.ErrRequestTimeout) || !strings.Contains(reason.Error(), "broker 4 within "+allowed.String()) {
			t.Errorf("reason %v, expected %v", reason, allowed)
		}
		if r := th.outcome(b); !errors.Is(r.Err, messages.ErrRequestTimeout) || !r.Sent {
			t.Errorf("%+v", r)
		}
	}
}

// TestControlRequestTimeout: a metadata request has the request timeout alone.
func TestControlRequestTimeout(t *testing.T) {
	th := newTheatre(t, restart)
	th.tell(&messages.ControlRequest{Request: kmsg.NewPtrMetadataRequest(), ReplyTo: th.rootPID})
	c := th.connect()
	receive(t, "a request", c.frames)
	th.clock.Advance(30 * time.Second)
	if reason := receive(t, "the end of the connection", c.closed); !errors.Is(reason, messages.ErrRequestTimeout) || !strings.Contains(reason.Error(), "within 30s") {
		t.Errorf("reason %v", reason)
	}
}

// TestSilentSetup: a peer that does not take the connection, or accepts it and
// says nothing, is given up when the time for the whole setup is over, which is
// long before that of a request.
func TestSilentSetup(t *testing.T) {
	th := newTheatre(t, restart)
	th.ready(newTaker("a", 0, newBatch(100)))
	c := receive(t, "a dial", th.transport.dials)
	th.clock.Advance(10 * time.Second)
	if reason := receive(t, "the end of the connection", c.closed); !errors.Is(reason, messages.ErrRequestTimeout) || !strings.Contains(reason.Error(), "no connection within 10s") {
		t.Errorf("reason %v", reason)
	}
	c = receive(t, "a dial", th.transport.dials)
	th.clock.Advance(4 * time.Second)
	c.events.Opened()
	th.expectVersionsRequest(c, 3)
	th.clock.Advance(6*time.Second - 1)
	select {
	case reason := <-c.closed:
		t.Errorf("closed too early: %v", reason)
	case <-time.After(20 * time.Millisecond):
	}
	th.clock.Advance(1)
	if reason := receive(t, "the end of the connection", c.closed); !errors.Is(reason, messages.ErrRequestTimeout) || !strings.Contains(reason.Error(), "no answer to ApiVersions within 10s") {
		t.Errorf("reason %v", reason)
	}
	c = th.connect()
	receive(t, "the request", c.frames)
	th.clock.Advance(31 * time.Second) // the handshake's time is no longer counted
	select {
	case reason := <-c.closed:
		t.Errorf("closed in spite of the handshake: %v", reason)
	case <-time.After(20 * time.Millisecond):
	}
}

// TestSilentHandshakeOfAShortRequest: ApiVersions has no longer than a request.
func TestSilentHandshakeOfAShortRequest(t *testing.T) {
	th := newTheatre(t, restart, func(c *Config) { c.Settings.RequestTimeout = 2 * time.Second })
	th.ready(newTaker("a", 0, newBatch(100)))
	c := receive(t, "a dial", th.transport.dials)
	c.events.Opened()
	th.expectVersionsRequest(c, 3)
	th.clock.Advance(2 * time.Second)
	if reason := receive(t, "the end of the connection", c.closed); !errors.Is(reason, messages.ErrRequestTimeout) {
		t.Errorf("reason %v", reason)
	}
}

// TestAnswersThatLieAreNotDecoded: seventy bytes that announce 2³² − 1 tagged
// fields cost the decoder seconds. The check in front of it refuses them, in an
// answer and in the handshake.
func TestAnswersThatLieAreNotDecoded(t *testing.T) {
	lie := func(body []byte, size int) []byte {
		body = append(body[:len(body)-1:len(body)-1], 0xff, 0xff, 0xff, 0xff, 0x0f)
		return append(body, make([]byte, max(0, size-len(body)))...)
	}
	th := newTheatre(t, restart)
	th.control(kmsg.NewPtrMetadataRequest())
	c := th.connect()
	_, version, correlation, _ := readHeader(t, receive(t, "a request", c.frames))
	a := kmsg.NewPtrMetadataResponse()
	a.SetVersion(version)
	a.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "one", Port: 9092}}
	c.events.Received(lie(responseFrame(correlation, a), 70))
	var refused *protocol.DecodeError
	if reason := receive(t, "the end of the connection", c.closed); !errors.As(reason, &refused) {
		t.Errorf("reason %v", reason)
	}
	answer, ok := receive(t, "an answer", th.root).(*messages.ControlResponse)
	if !ok || answer.Response != nil || !errors.As(answer.Err, &refused) {
		t.Errorf("%+v", answer)
	}

	th = newTheatre(t, restart)
	th.control(kmsg.NewPtrMetadataRequest())
	c = receive(t, "a dial", th.transport.dials)
	c.events.Opened()
	correlation = th.expectVersionsRequest(c, 3)
	c.events.Received(lie(responseFrame(correlation, apiVersions(3, modern()...)), 0))
	if reason := receive(t, "the end of the connection", c.closed); !errors.As(reason, &refused) {
		t.Errorf("reason %v", reason)
	}
}

// TestTroubleIsKnownWhileItLasts: whoever gives up a record that was never sent can say
// why.
func TestTroubleIsKnownWhileItLasts(t *testing.T) {
	troubles := &messages.Troubles{}
	th := newTheatre(t, restart, func(c *Config) { c.Settings.Troubles = troubles })
	th.ready(newTaker("a", 0, newBatch(100)))
	refused := errors.New("connection refused")
	receive(t, "a dial", th.transport.dials).Close(refused)
	th.eventually("trouble", func() bool {
		why := troubles.Of(4)
		return errors.Is(why, refused) && strings.Contains(why.Error(), "broker 4 (one:9092)")
	})
	receive(t, "a request", th.connect().frames)
	if why := troubles.Of(4); why != nil {
		t.Errorf("connected, and still %v", why)
	}
}
