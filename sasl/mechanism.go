package sasl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Mechanism makes the exchanges of one SASL mechanism (RFC 4422). It is used by many
// connections at the same time.
type Mechanism interface {
	// Name is the mechanism's name in SaslHandshake, for instance "PLAIN".
	Name() string
	// Start begins an exchange with the broker at address (host:port). It runs in a
	// goroutine of its own and may wait, for a token for instance, until ctx ends. It
	// returns the client's first message. A connection that authenticates again (KIP-368)
	// starts another exchange.
	Start(ctx context.Context, address string) (Exchange, []byte, error)
}

// Exchange is one conversation with one broker. It is for one goroutine at a time.
type Exchange interface {
	// Next takes what the broker answered and returns the client's next message, or done
	// when there is nothing left to say and the broker has shown all that the mechanism
	// asks of it. An error ends the connection; after one, and after done, every further
	// call is an error. Next does not keep challenge. It does not wait for anything, but
	// SCRAM derives keys in it: a few milliseconds with the iterations that Kafka sets
	// by itself, up to a second or so at [MaxIterations].
	Next(challenge []byte) (response []byte, done bool, err error)
}

// Credentials gives the user name and the password of one exchange. It is asked anew for
// each, by many connections at the same time, and returns when ctx ends at the latest.
// Both are UTF-8 without NUL and not empty; else the exchange is not begun, with
// [ErrCredentials]. Its error is wrapped, so it should not tell the password. If it
// panics, that is [ErrCredentials] as well.
type Credentials func(ctx context.Context) (user, password string, err error)

var (
	// ErrCredentials: the exchange was not begun, for there were no credentials, or none
	// that the mechanism can express. The broker was not asked.
	ErrCredentials = errors.New("sasl: no usable credentials")

	// ErrRefused: the broker refuses the credentials in the mechanism's own words. Kafka
	// says so of tokens only; a wrong password is an error code of its answer.
	ErrRefused = errors.New("sasl: refused by the broker")

	// ErrServer: the broker says what the mechanism does not allow, asks for too much or
	// too little, or did not prove that it knows the password. It may be somebody else.
	ErrServer = errors.New("sasl: the broker is not trusted")

	// errOver answers a call after done.
	errOver = errors.New("sasl: the exchange is over")
)

// maxSaid bounds what an error quotes of a broker, in bytes.
const maxSaid = 200

// said quotes a broker's text for an error. A text that repeats the secret is withheld:
// brokers know tokens, and may know passwords, and errors go into logs.
func said(text string, repeatsSecret bool) string {
	if repeatsSecret {
		return "words that repeat the secret, which are withheld"
	}
	if len(text) > maxSaid {
		return strconv.Quote(text[:maxSaid]) + "…"
	}
	return strconv.Quote(text)
}

// fixed gives the same credentials always. A closure, since fmt and what else looks into
// values by reflection find no strings in it.
func fixed(user, password string) Credentials {
	return func(context.Context) (string, string, error) { return user, password, nil }
}

// ask calls the user's function and checks what it gives.
func (c Credentials) ask(ctx context.Context) (user, password string, err error) {
	if c == nil {
		return "", "", fmt.Errorf("%w: the function to ask is nil", ErrCredentials)
	}
	defer recovered(&err)
	if user, password, err = c(ctx); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	if err = usable("user name", user); err == nil {
		err = usable("password", password)
	}
	return user, password, err
}

// usable refuses what PLAIN cannot express and SCRAM must not: PLAIN separates by NUL, and
// in SCRAM's HMAC a password with NULs at its end is the same as one without. Kafka refuses
// empty ones.
func usable(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: the %s is empty", ErrCredentials, what)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: the %s has a NUL byte", ErrCredentials, what)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: the %s is not UTF-8", ErrCredentials, what)
	}
	return nil
}

// recovered makes an error of a panic in a user's function. It tells what the runtime
// says, but only the type of what the user's code has thrown, as that may be a secret.
func recovered(err *error) {
	switch reason := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("%w: the function to ask panicked: %v", ErrCredentials, reason)
	default:
		*err = fmt.Errorf("%w: the function to ask panicked with a %T", ErrCredentials, reason)
	}
}

// named is what a mechanism or an exchange shows of itself, embedded in it: under no verb
// of package fmt is there more. Format is what matters: %d and %#v pass String by. It is
// not all: fmt calls no method of what is in an unexported field, and with %s shows what a
// pointer there points to. So secrets are in closures, or behind a second pointer.
type named string

// Name is the mechanism's name in SaslHandshake.
func (n named) Name() string { return string(n) }

// String is the mechanism's name.
func (n named) String() string { return "sasl " + string(n) }

// GoString is the mechanism's name.
func (n named) GoString() string { return n.String() }

// Format writes the mechanism's name, whatever the verb.
func (n named) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, n.String()) }
