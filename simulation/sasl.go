package simulation

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/sasl"
	"github.com/troupe-kafka/troupe/seams"
)

// SASLSettings are for brokers that want to know who speaks to them.
type SASLSettings struct {
	// Session is connections.max.reauth.ms: who has not authenticated for so long is
	// not served; 0: sessions do not end (KIP-368).
	Session Duration `json:"session,omitempty"`
}

// password is the campaign's mechanism: two words each, so that there is a middle.
type password struct{}

// What is said, one after the other, by client and broker.
const (
	saysWho   = "who I am"
	saysProve = "prove it"
	saysProof = "the proof"
	saysFine  = "welcome"
)

// Name implements sasl.Mechanism.
func (password) Name() string { return "SIMULATED" }

// Start implements sasl.Mechanism.
func (password) Start(context.Context, string) (sasl.Exchange, []byte, error) {
	return password{}, []byte(saysWho), nil
}

// Next implements sasl.Exchange.
func (password) Next(challenge []byte) ([]byte, bool, error) {
	switch string(challenge) {
	case saysProve:
		return []byte(saysProof), false, nil
	case saysFine:
		return nil, true, nil
	}
	return nil, false, errors.New("simulation: a broker that is none")
}

// login is how far the server's end of a socket knows who is there.
type login struct {
	named, proven, known bool
	since, until         seams.Instant // of the session; until 0: no end
}

// authenticates reports whether a request is served: nothing but the handshake is,
// before the client has shown who it is. It serves the handshake itself.
func (c *cluster) authenticates(q *request) bool {
	if c.settings.SASL == nil {
		return true
	}
	l, now := &q.socket.login, c.scheduler.clock.now
	switch r := q.message.(type) {
	case *kmsg.ApiVersionsRequest:
		return true
	case *kmsg.SASLHandshakeRequest:
		a := kmsg.NewPtrSASLHandshakeResponse()
		a.SupportedMechanisms = []string{password{}.Name()}
		if l.named = r.Mechanism == (password{}).Name(); !l.named {
			a.ErrorCode = int16(protocol.UnsupportedSaslMechanism)
		}
		q.respond(0, a)
		return false
	case *kmsg.SASLAuthenticateRequest:
		q.respond(0, c.authenticate(q, l, string(r.SASLAuthBytes)))
		return false
	}
	switch {
	case !l.known:
		c.wrong(Protocol, "broker %d: %s from somebody who has not authenticated", q.broker, kmsg.NameForKey(q.key))
	case l.until > 0 && now > l.until:
		c.trace.note("cluster", "session-over", int64(q.broker))
		c.faults.counts.Reached[pointSessionCut]++
	default:
		return true
	}
	q.cut(false)
	return false
}

func (c *cluster) authenticate(q *request, l *login, says string) kmsg.Response {
	a := kmsg.NewPtrSASLAuthenticateResponse()
	switch {
	case c.faults.happens(AuthenticationFails, place{broker: q.broker}) != nil:
		a.ErrorCode = int16(protocol.SaslAuthenticationFailed)
	case l.named && !l.proven && says == saysWho:
		l.proven = true
		a.SASLAuthBytes = []byte(saysProve)
	case l.proven && says == saysProof:
		a.SASLAuthBytes, l.known, l.since = []byte(saysFine), true, c.scheduler.clock.now
		if session := time.Duration(c.settings.SASL.Session); session > 0 {
			a.SessionLifetimeMillis, l.until = session.Milliseconds(), l.since.Add(session)
		}
	default:
		c.wrong(Protocol, "broker %d: %q in a handshake", q.broker, says)
		a.ErrorCode = int16(protocol.IllegalSaslState)
	}
	return a
}

// replaced reports whether a client gives a connection up because its session ends soon.
func (l *login) replaced(now seams.Instant) bool {
	return l.until > 0 && now <= l.until && now.Sub(l.since) >= l.until.Sub(l.since)*8/10
}
