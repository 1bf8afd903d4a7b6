package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/sasl"
	"github.com/troupe-kafka/troupe/seams"
)

// script is a mechanism that says its lines one after the other, and wants a server to
// have answered each with the same.
type script struct {
	lines  []string
	start  func(ctx context.Context) error
	next   func() error
	wanted string // address
}

func (s *script) Name() string { return "SCRIPT" }

func (s *script) Start(ctx context.Context, address string) (sasl.Exchange, []byte, error) {
	if s.start != nil {
		if err := s.start(ctx); err != nil {
			return nil, nil, err
		}
	}
	if s.wanted != "" && address != s.wanted {
		return nil, nil, fmt.Errorf("broker %q", address)
	}
	return &reading{s, 0}, []byte(s.lines[0]), nil
}

type reading struct {
	*script
	at int
}

func (r *reading) Next(challenge []byte) ([]byte, bool, error) {
	if r.next != nil {
		if err := r.next(); err != nil {
			return nil, false, err
		}
	}
	if string(challenge) != "re: "+r.lines[r.at] {
		return nil, false, fmt.Errorf("the broker said %q", challenge)
	}
	if r.at++; r.at == len(r.lines) {
		return nil, true, nil
	}
	return []byte(r.lines[r.at]), false, nil
}

func withSASL(m sasl.Mechanism) func(*Config) {
	return func(c *Config) { c.Settings.SASL, c.Settings.Executor = m, seams.NewExecutor() }
}

func secure() []kmsg.ApiVersionsResponseApiKey {
	return append(modern(), apiKey(kmsg.SASLHandshake, 0, 1), apiKey(kmsg.SASLAuthenticate, 0, 2))
}

// secureDial answers the next dial up to ApiVersions.
func (th *theatre) secureDial(keys ...kmsg.ApiVersionsResponseApiKey) *fakeConnection {
	th.t.Helper()
	c := receive(th.t, "a dial", th.transport.dials)
	c.events.Opened()
	c.events.Received(responseFrame(th.expectVersionsRequest(c, 3), apiVersions(3, keys...)))
	return c
}

// expect reads a request of the handshake.
func (th *theatre) expect(c *fakeConnection, r kmsg.Request) (correlation int32) {
	th.t.Helper()
	key, version, correlation, body := readHeader(th.t, receive(th.t, kmsg.NameForKey(r.Key()), c.frames))
	if key != r.Key() {
		th.t.Fatalf("request %s, expected %s", kmsg.NameForKey(key), kmsg.NameForKey(r.Key()))
	}
	r.SetVersion(version)
	if err := r.ReadFrom(body); err != nil {
		th.t.Fatal(err)
	}
	return correlation
}

func (th *theatre) takeHandshake(c *fakeConnection, code protocol.ErrorCode) {
	th.t.Helper()
	r := kmsg.NewPtrSASLHandshakeRequest()
	correlation := th.expect(c, r)
	if r.Version != 1 || r.Mechanism != "SCRIPT" {
		th.t.Errorf("%+v", r)
	}
	a := kmsg.NewPtrSASLHandshakeResponse()
	a.Version, a.ErrorCode, a.SupportedMechanisms = 1, int16(code), []string{"PLAIN", "GSSAPI"}
	c.events.Received(responseFrame(correlation, a))
}

// takeLine answers one SaslAuthenticate.
func (th *theatre) takeLine(c *fakeConnection, want string, lifetime time.Duration, change ...func(*kmsg.SASLAuthenticateResponse)) {
	th.t.Helper()
	r := kmsg.NewPtrSASLAuthenticateRequest()
	correlation := th.expect(c, r)
	if string(r.SASLAuthBytes) != want {
		th.t.Errorf("the client says %q, expected %q", r.SASLAuthBytes, want)
	}
	a := kmsg.NewPtrSASLAuthenticateResponse()
	a.Version, a.SASLAuthBytes, a.SessionLifetimeMillis = r.Version, []byte("re: "+want), lifetime.Milliseconds()
	for _, fn := range change {
		fn(a)
	}
	c.events.Received(responseFrame(correlation, a))
}

// authenticated is the next connection, when both sides are content.
func (th *theatre) authenticated(lines []string, lifetime time.Duration) *fakeConnection {
	th.t.Helper()
	c := th.secureDial(secure()...)
	th.takeHandshake(c, 0)
	for _, line := range lines {
		th.takeLine(c, line, lifetime)
	}
	return c
}

// TestAuthentication: nothing but the handshake goes out before both sides are content,
// in every version of SaslAuthenticate.
func TestAuthentication(t *testing.T) {
	for version := int16(0); version <= 2; version++ {
		m := &script{lines: []string{"first", "second", "third"}, wanted: "one:9092"}
		th := newTheatre(t, restart, withSASL(m))
		b := newBatch(100)
		th.ready(newTaker("a", 5, b))
		c := th.secureDial(append(modern(), apiKey(kmsg.SASLHandshake, 0, 1), apiKey(kmsg.SASLAuthenticate, 0, version))...)
		th.takeHandshake(c, 0)
		for _, line := range m.lines {
			th.takeLine(c, line, 0)
		}
		correlation, k := readRequest(t, receive(t, "a request", c.frames))
		c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
		if r := th.outcome(b); r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
}

// TestAuthenticationRefused: the connection ends, no record goes out or has an outcome,
// and it is tried again. The reason says what is wrong.
func TestAuthenticationRefused(t *testing.T) {
	lines := []string{"first", "second"}
	refuse := func(a *kmsg.SASLAuthenticateResponse) {
		a.ErrorCode, a.ErrorMessage = int16(protocol.SaslAuthenticationFailed), kmsg.StringPtr("who are you?")
	}
	for name, c := range map[string]struct {
		m    script
		play func(*theatre) *fakeConnection
		says []string
		is   error
		kind error // nil: ErrAuthentication
	}{
		"password": {script{}, func(th *theatre) *fakeConnection {
			c := th.authenticated(lines[:1], 0)
			th.takeLine(c, "second", 0, refuse)
			return c
		}, []string{"who are you?", "one:9092"}, protocol.SaslAuthenticationFailed, nil},
		"mechanism": {script{}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.takeHandshake(c, protocol.UnsupportedSaslMechanism)
			return c
		}, []string{"PLAIN, GSSAPI", "SCRIPT"}, protocol.UnsupportedSaslMechanism, nil},
		"a listener without SASL": {script{}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.takeHandshake(c, protocol.IllegalSaslState)
			return c
		}, []string{"wants no SASL"}, protocol.IllegalSaslState, nil},
		"an old broker": {script{}, func(th *theatre) *fakeConnection {
			return th.secureDial(append(modern(), apiKey(kmsg.SASLHandshake, 0, 0))...)
		}, []string{"before Kafka 1.0"}, nil, nil},
		"a false server": {script{}, func(th *theatre) *fakeConnection {
			c := th.authenticated(lines[:1], 0)
			th.takeLine(c, "second", 0, func(a *kmsg.SASLAuthenticateResponse) { a.SASLAuthBytes = []byte("trust me") })
			return c
		}, []string{`the broker said "trust me"`}, nil, nil},
		"no token": {script{start: func(context.Context) error { return errors.New("no token today") }}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.takeHandshake(c, 0)
			return c
		}, []string{"no token today"}, nil, messages.ErrCredentials},
		"a mechanism that panics": {script{next: func() error { panic("bad mechanism") }}, func(th *theatre) *fakeConnection {
			return th.authenticated(lines[:1], 0)
		}, []string{"panicked with a string"}, messages.ErrInternal, nil},
		"a mechanism that ends its goroutine": {script{start: func(context.Context) error { runtime.Goexit(); return nil }}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.takeHandshake(c, 0)
			return c
		}, []string{"ended its goroutine"}, messages.ErrInternal, messages.ErrCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			c.m.lines = lines
			th := newTheatre(t, restart, withSASL(&c.m))
			b := newBatch(100)
			th.ready(newTaker("a", 0, b))
			connection := c.play(th)
			reason := receive(t, "the end of the connection", connection.closed)
			kind := c.kind
			if kind == nil {
				kind = messages.ErrAuthentication
			}
			if !errors.Is(reason, kind) || errors.Is(reason, messages.ErrAuthentication) != (c.kind == nil) || c.is != nil && !errors.Is(reason, c.is) {
				t.Errorf("closed with %v", reason)
			}
			for _, says := range c.says {
				if !strings.Contains(reason.Error(), says) {
					t.Errorf("%q does not say %q", reason, says)
				}
			}
			receive(t, "another dial", th.transport.dials)
			if _, ok := b.outcome(t); ok || len(connection.frames) > 0 {
				t.Error("a record went out, or has an outcome")
			}
		})
	}
}

// TestUnreadableAuthentication: garbage at every step ends the connection.
func TestUnreadableAuthentication(t *testing.T) {
	garbage := []byte{0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff}
	for steps := range 3 {
		th := newTheatre(t, restart, withSASL(&script{lines: []string{"first", "second"}}))
		th.ready(newTaker("a", 0, newBatch(100)))
		c := th.secureDial(secure()...)
		if steps > 0 {
			th.takeHandshake(c, 0)
		}
		if steps > 1 {
			th.takeLine(c, "first", 0)
		}
		receive(t, "a request", c.frames)
		c.events.Received(garbage)
		if reason := receive(t, "the end", c.closed); reason == nil {
			t.Error("no reason")
		}
	}
}

// TestAuthenticationTakesTooLong: a broker that falls silent in the middle, and a
// mechanism that gets no token. Both have what is left of the time to connect.
func TestAuthenticationTakesTooLong(t *testing.T) {
	entered := make(chan struct{})
	waits := func(ctx context.Context) error { close(entered); <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		m    script
		play func(*theatre) *fakeConnection
		says string
	}{
		"handshake": {script{}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.expect(c, kmsg.NewPtrSASLHandshakeRequest())
			return c
		}, "no answer to SaslHandshake"},
		"authenticate": {script{}, func(th *theatre) *fakeConnection {
			c := th.authenticated([]string{"first"}, 0)
			th.expect(c, kmsg.NewPtrSASLAuthenticateRequest())
			return c
		}, "no answer to SaslAuthenticate"},
		"token": {script{start: waits}, func(th *theatre) *fakeConnection {
			c := th.secureDial(secure()...)
			th.takeHandshake(c, 0)
			<-entered
			return c
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.m.lines = []string{"first", "second"}
			th := newTheatre(t, restart, withSASL(&c.m))
			th.ready(newTaker("a", 0, newBatch(100)))
			connection := c.play(th)
			th.clock.Advance(10*time.Second - 1)
			if len(connection.closed) > 0 {
				t.Fatal("given up too early")
			}
			th.clock.Advance(1)
			if reason := receive(t, "the end", connection.closed); !strings.Contains(reason.Error(), c.says) {
				t.Errorf("closed with %v", reason)
			}
		})
	}
}

// TestSessionEnds: before the broker ends a session nothing new is written on it. When
// what is in flight is answered another connection takes over, and nothing is lost or
// sent twice.
func TestSessionEnds(t *testing.T) {
	lines := []string{"first"}
	const lifetime = 20 * time.Second
	th := newTheatre(t, restart, withSASL(&script{lines: lines}))
	batches := []*fakeBatch{newBatch(100), newBatch(100), newBatch(100)}
	a := newTaker("a", 0, batches...)
	th.ready(a)
	c := th.authenticated(lines, lifetime)
	one, first := readRequest(t, receive(t, "a request", c.frames))
	two, second := readRequest(t, receive(t, "another, in flight with it", c.frames))
	th.clock.Advance(lifetime * (sessionLeast - 1) / 100)
	if len(c.closed) > 0 {
		t.Fatal("the session is given up too early")
	}
	c.events.Received(responseFrame(one, produceAnswer(first, 0)))
	three, third := readRequest(t, receive(t, "a third, before the end", c.frames))
	th.clock.Advance(lifetime * (sessionMost - sessionLeast + 1) / 100)
	next := newBatch(100)
	th.ready(newTaker("b", 0, next))
	time.Sleep(10 * time.Millisecond)
	if len(c.frames) > 0 || len(c.closed) > 0 {
		t.Fatal("written at the end of the session, or closed with requests in flight")
	}
	c.events.Received(responseFrame(two, produceAnswer(second, 0)))
	c.events.Received(responseFrame(three, produceAnswer(third, 0)))
	for i, b := range batches {
		if r := th.outcome(b); r.Err != nil {
			t.Errorf("batch %d: %+v", i, r)
		}
	}
	if reason := receive(t, "the end of the first connection", c.closed); !errors.Is(reason, seams.ErrClosedLocally) {
		t.Errorf("closed with %v", reason)
	}
	c = th.authenticated(lines, lifetime)
	correlation, k := readRequest(t, receive(t, "a request on the other", c.frames))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	if r := th.outcome(next); r.Err != nil {
		t.Errorf("%+v", r)
	}
	if slices.ContainsFunc(th.lines(), func(l messages.LogLine) bool { return l.Kind == messages.LogNoConnection }) {
		t.Errorf("the end of a session is in the log: %+v", th.lines())
	}
	// Nobody wants the lane: it ends with its session, and is not made anew.
	th.clock.Advance(lifetime)
	_ = receive(t, "the end of the other", c.closed)
	if len(th.transport.dials) > 0 {
		t.Error("a connection that nobody needs is opened")
	}
}

// TestSessionOfNoAcksEnds a moment after the last write: nobody says that it arrived.
func TestSessionOfNoAcksEnds(t *testing.T) {
	lines := []string{"first"}
	const lifetime = 20 * time.Second
	th := newTheatre(t, restart, withSASL(&script{lines: lines}))
	a := newTaker("a", 0, newBatch(100))
	a.class = messages.Class{Lane: messages.LaneNoAcks, Acks: messages.AcksNone}
	th.ready(a)
	c := th.authenticated(lines, lifetime)
	receive(t, "a request", c.frames)
	th.clock.Advance(lifetime*sessionLeast/100 - time.Millisecond)
	late := newBatch(100)
	b := newTaker("b", 0, late)
	b.class = a.class
	th.ready(b)
	receive(t, "a request", c.frames)
	th.outcome(late)
	th.clock.Advance(noAcksGrace - 2*time.Millisecond)
	if len(c.closed) > 0 {
		t.Error("closed at once")
	}
	th.clock.Advance(lifetime)
	_ = receive(t, "the end", c.closed)
}

// TestEndOfFileIsExplained: a broker that wants TLS, or credentials, most often just
// hangs up.
func TestEndOfFileIsExplained(t *testing.T) {
	th := newTheatre(t, restart, withSASL(&script{lines: []string{"first"}}))
	th.ready(newTaker("a", 0, newBatch(100)))
	c := receive(t, "a dial", th.transport.dials)
	c.events.Opened()
	th.expectVersionsRequest(c, 3)
	c.Close(fmt.Errorf("read: %w", io.EOF))
	said := func(what string) {
		t.Helper()
		th.eventually("a line that says "+what, func() bool {
			return slices.ContainsFunc(th.lines(), func(l messages.LogLine) bool { return l.Err != nil && strings.Contains(l.Err.Error(), what) })
		})
	}
	said("it may expect TLS")
	c = th.authenticated(nil, 0)
	th.expect(c, kmsg.NewPtrSASLAuthenticateRequest())
	c.Close(fmt.Errorf("read: %w", io.EOF))
	c = th.secureDial(secure()...)
	c.Close(io.EOF)
}

func (th *theatre) lines() []messages.LogLine {
	th.mu.Lock()
	defer th.mu.Unlock()
	return slices.Clone(th.log)
}

// TestRefusedAndHungUp: a broker that refuses hangs up at once. What is heard first does
// not matter: the reason is the refusal.
func TestRefusedAndHungUp(t *testing.T) {
	for turn := range 20 {
		wait := make(chan struct{})
		m := &script{lines: []string{"first"}, next: func() error { <-wait; return fmt.Errorf("%w: token is from yesterday", sasl.ErrRefused) }}
		th := newTheatre(t, restart, withSASL(m))
		th.ready(newTaker("a", 0, newBatch(100)))
		c := th.secureDial(secure()...)
		th.takeHandshake(c, 0)
		th.takeLine(c, "first", 0, func(a *kmsg.SASLAuthenticateResponse) { a.ErrorCode = int16(protocol.SaslAuthenticationFailed) })
		first := turn%2 == 0
		if first {
			c.Close(fmt.Errorf("read: %w", io.EOF))
			receive(t, "another dial", th.transport.dials)
		}
		close(wait)
		if !first {
			if reason := receive(t, "the end", c.closed); !strings.Contains(reason.Error(), "token is from yesterday") {
				t.Errorf("closed with %v", reason)
			}
		}
		th.eventually("a line about the refusal", func() bool {
			return slices.ContainsFunc(th.lines(), func(l messages.LogLine) bool {
				return errors.Is(l.Err, messages.ErrAuthentication) && errors.Is(l.Err, protocol.SaslAuthenticationFailed)
			})
		})
	}
}

// TestRefusalsArePaced: whoever asks next for the control lane does not have the
// credentials tried again at once.
func TestRefusalsArePaced(t *testing.T) {
	lines := []string{"first"}
	th := newTheatre(t, stop, withSASL(&script{lines: lines}))
	ask := func(ticket int) {
		th.tell(&messages.ControlRequest{Request: kmsg.NewPtrMetadataRequest(), ReplyTo: th.rootPID, Ticket: ticket})
	}
	ask(1)
	for n := 2; n < 5; n++ {
		c := th.secureDial(secure()...)
		th.takeHandshake(c, 0)
		th.takeLine(c, "first", 0, func(a *kmsg.SASLAuthenticateResponse) { a.ErrorCode = int16(protocol.SaslAuthenticationFailed) })
		for {
			if m, ok := receive(t, "the failure", th.root).(*messages.ControlResponse); ok {
				if !errors.Is(m.Err, messages.ErrAuthentication) {
					t.Errorf("%v", m.Err)
				}
				break
			}
		}
		ask(n)
		time.Sleep(5 * time.Millisecond)
		th.clock.Advance(time.Second - 1)
		time.Sleep(5 * time.Millisecond)
		if len(th.transport.dials) > 0 {
			t.Fatal("dialled again at once")
		}
		th.clock.Advance(1)
	}
	receive(t, "a dial", th.transport.dials)
}

// TestListenerThatWantsSASL hangs up at the first request of a client that has none.
// Such a connection has not been of use, and the next is not made as fast as after one
// that was.
func TestListenerThatWantsSASL(t *testing.T) {
	th := newTheatre(t, restart)
	th.ready(newTaker("a", 0, newBatch(100)))
	c := th.connect()
	receive(t, "a request", c.frames)
	c.Close(fmt.Errorf("read: %w", io.EOF))
	th.eventually("a hint", func() bool {
		return slices.ContainsFunc(th.lines(), func(l messages.LogLine) bool {
			return l.Err != nil && strings.Contains(l.Err.Error(), "may want SASL")
		})
	})
	// One that has answered before is only lost.
	th = newTheatre(t, restart)
	b := newBatch(100)
	th.ready(newTaker("a", 0, b, newBatch(100)))
	c = th.connect()
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	th.outcome(b)
	receive(t, "another", c.frames)
	c.Close(io.EOF)
	th.eventually("a line", func() bool { return len(th.lines()) > 0 })
	if l := th.lines()[0]; strings.Contains(l.Err.Error(), "SASL") {
		t.Errorf("%v", l.Err)
	}
}

// TestShortSessionsArePaced: a token that is over at once, again and again, does not make
// one connection after the other.
func TestShortSessionsArePaced(t *testing.T) {
	lines := []string{"first"}
	th := newTheatre(t, restart, withSASL(&script{lines: lines}))
	b, next := newBatch(100), newBatch(100)
	th.ready(newTaker("a", 0, b))
	c := th.authenticated(lines, 100*time.Millisecond)
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	th.clock.Advance(99 * time.Millisecond)
	th.ready(newTaker("b", 0, next))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	_ = receive(t, "the end", c.closed)
	time.Sleep(5 * time.Millisecond)
	th.clock.Advance(99 * time.Millisecond)
	time.Sleep(5 * time.Millisecond)
	if len(th.transport.dials) > 0 {
		t.Fatal("dialled at once")
	}
	th.clock.Advance(time.Millisecond)
	receive(t, "a request", th.authenticated(lines, time.Hour).frames)
}
