package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/sasl"
	"github.com/troupe-kafka/troupe/seams"
)

// Authentication follows the answer to ApiVersions (KIP-43, KIP-152): SaslHandshake
// names the mechanism, and SaslAuthenticate carries its messages until both sides are
// content. Mechanisms run outside of the actor's turn, since one may wait for a token or
// derive keys. A session that the broker limits (KIP-368) ends with its connection: see
// laneState.until.

const (
	saslHandshakeVersion = 1 // 0 has messages without a Kafka header around them
	saslAuthenticateMost = 2
)

// authentication is how far a connection has come.
type authentication struct {
	exchange sasl.Exchange
	version  int16 // of SaslAuthenticate
	// refused is the broker's word. It hangs up at once, which may be heard before the
	// mechanism has been asked what it knows of it.
	refused error
	// cancel ends the mechanism's wait, with the connection.
	cancel context.CancelFunc
}

func (a *authentication) stop() {
	if a.cancel != nil {
		a.cancel()
	}
}

// mechanismSaid is what the mechanism makes of what was said to it.
type mechanismSaid struct {
	link     *link
	exchange sasl.Exchange
	message  []byte
	content  bool
	err      error         // the mechanism's, or what became of it
	kind     error         // of err: ErrAuthentication, or ErrCredentials before the broker was asked
	lifetime time.Duration // of the session, as the broker has it
}

func (k *connection) beginAuthentication(r *kmsg.ApiVersionsResponse) error {
	handshake, authenticate := int16(-1), int16(-1)
	for i := range r.ApiKeys {
		switch key := &r.ApiKeys[i]; kmsg.Key(key.ApiKey) {
		case kmsg.SASLHandshake:
			handshake = key.MaxVersion
		case kmsg.SASLAuthenticate:
			authenticate = min(key.MaxVersion, saslAuthenticateMost)
		default:
		}
	}
	if handshake < saslHandshakeVersion || authenticate < 0 {
		return fmt.Errorf("%w: %s has no SaslAuthenticate: it is from before Kafka 1.0, or its listener wants no SASL", messages.ErrAuthentication, k.info.Address)
	}
	k.who.version, k.stage = authenticate, awaitsMechanism
	k.limitStage()
	ask := kmsg.NewPtrSASLHandshakeRequest()
	ask.Mechanism = k.settings.SASL.Name()
	k.write(ask, saslHandshakeVersion)
	return nil
}

// limitStage has the time that is left say what was missing.
func (k *connection) limitStage() {
	k.limit(k.stage.String(), k.dialled.Add(k.settings.ConnectionTimeout))
}

// takeMechanism takes the answer to SaslHandshake.
func (k *connection) takeMechanism(c actor.Context, frame []byte) error {
	r := kmsg.NewPtrSASLHandshakeResponse()
	if err := read(frame, r, saslHandshakeVersion); err != nil {
		return fmt.Errorf("SaslHandshake with %s: %w", k.info.Address, err)
	}
	switch code := protocol.ErrorCode(r.ErrorCode); code {
	case protocol.None:
	case protocol.UnsupportedSaslMechanism:
		return fmt.Errorf("%w: %w: %s offers %s, and not %s", messages.ErrAuthentication, code, k.info.Address, quoted(strings.Join(r.SupportedMechanisms, ", ")), k.settings.SASL.Name())
	case protocol.IllegalSaslState:
		return fmt.Errorf("%w: %w: the listener of %s wants no SASL", messages.ErrAuthentication, code, k.info.Address)
	default:
		return fmt.Errorf("%w: SaslHandshake with %s: %w", messages.ErrAuthentication, k.info.Address, code)
	}
	mechanism, address := k.settings.SASL, k.info.Address
	left := k.dialled.Add(k.settings.ConnectionTimeout).Sub(k.settings.Clock.Now())
	ctx, cancel := k.settings.Clock.WithTimeout(context.Background(), left)
	k.who.cancel = cancel
	k.consult(c, messages.ErrCredentials, func(said *mechanismSaid) {
		said.exchange, said.message, said.err = mechanism.Start(ctx, address)
	})
	return nil
}

// takeChallenge takes the answer to SaslAuthenticate.
func (k *connection) takeChallenge(c actor.Context, frame []byte) error {
	r := kmsg.NewPtrSASLAuthenticateResponse()
	if err := read(frame, r, k.who.version); err != nil {
		return fmt.Errorf("SaslAuthenticate with %s: %w", k.info.Address, err)
	}
	exchange := k.who.exchange
	if code := protocol.ErrorCode(r.ErrorCode); code != protocol.None {
		refused := refusal(code, r.ErrorMessage)
		k.who.refused = k.distrust(messages.ErrAuthentication, refused)
		k.consult(c, messages.ErrAuthentication, func(said *mechanismSaid) {
			said.exchange, said.err = exchange, refused
			if _, _, why := exchange.Next(nil); errors.Is(why, sasl.ErrRefused) {
				said.err = fmt.Errorf("%w (%w)", refused, why) // OAUTHBEARER has heard it before
			}
		})
		return nil
	}
	lifetime := time.Duration(min(max(r.SessionLifetimeMillis, 0), longestSession)) * time.Millisecond
	k.consult(c, messages.ErrAuthentication, func(said *mechanismSaid) {
		said.exchange, said.lifetime = exchange, lifetime
		said.message, said.content, said.err = exchange.Next(r.SASLAuthBytes)
	})
	return nil
}

// longestSession is longer than any, in milliseconds: a token may end in the year 9999.
const longestSession = 100 * 365 * 24 * 60 * 60 * 1000

// refusal is a broker's word about credentials.
func refusal(code protocol.ErrorCode, text *string) error {
	if text != nil && *text != "" {
		return fmt.Errorf("%w: %s", code, quoted(*text))
	}
	return code
}

// quotedBytes is how much of a broker's words an error repeats.
const quotedBytes = 200

// quoted is a broker's word as it can stand in a line of a log.
func quoted(text string) string {
	if len(text) > quotedBytes {
		text = text[:quotedBytes] + "…"
	}
	return strconv.Quote(text)
}

// distrust is an error of the mechanism, or about it.
func (k *connection) distrust(kind, err error) error {
	return fmt.Errorf("%w: %s with %s: %w", kind, k.settings.SASL.Name(), k.info.Address, err)
}

// consult asks the mechanism outside of the actor's turn. It is the user's code, or may
// be: what it panics with ends this connection and nothing else.
func (k *connection) consult(c actor.Context, kind error, ask func(*mechanismSaid)) {
	k.stage = awaitsClient
	k.limitStage()
	self, system, said := c.Self(), c.ActorSystem(), &mechanismSaid{link: k.link, kind: kind}
	k.settings.Executor.Run(func() {
		returned := false
		defer func() {
			if reason := recover(); !returned {
				// What it panicked with may be a password.
				said.err = fmt.Errorf("%w: the mechanism panicked with a %T, or ended its goroutine", messages.ErrInternal, reason)
			}
			system.Root.Send(self, said)
		}()
		ask(said)
		returned = true
	})
}

// goOn sends what the mechanism said, or is done.
func (k *connection) goOn(c actor.Context, said *mechanismSaid) {
	if k.stage != awaitsClient || k.up {
		return
	}
	if said.err == nil && said.exchange == nil {
		said.err = fmt.Errorf("%w: the mechanism began no exchange", messages.ErrInternal)
	}
	switch k.who.exchange = said.exchange; {
	case said.err != nil:
		k.link.connection.Close(k.distrust(said.kind, said.err))
	case said.content:
		k.open(c, k.sessionEnd(said.lifetime))
	default:
		k.stage = awaitsServer
		k.limitStage()
		r := kmsg.NewPtrSASLAuthenticateRequest()
		r.SASLAuthBytes = said.message
		k.write(r, k.who.version)
	}
}

// The part of its session that a connection is used for, in hundredths, drawn for each:
// what is on its way must arrive before the end, and not all connections be made anew
// at the same moment (Java does it so: KIP-368).
const (
	sessionLeast = 85
	sessionMost  = 95
)

// sessionEnd is when a session that lives for so long from now is given up, 0 for never.
func (k *connection) sessionEnd(lifetime time.Duration) seams.Instant {
	if lifetime <= 0 {
		return 0
	}
	random := k.settings.Randomness.For(fmt.Sprintf("%s/session/%v/%d", k.info.Address, k.lane, k.link.generation))
	part := sessionLeast + random.IntN(sessionMost-sessionLeast+1)
	return k.settings.Clock.Now().Add(lifetime / 100 * time.Duration(part))
}
