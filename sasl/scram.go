package sasl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/xdg-go/scram"
)

const (
	// MinIterations is how often SCRAM's hash has to be repeated at least, as Kafka's own
	// minimum for both hashes is. A broker that asks for less is [ErrServer]: it may be
	// somebody who wants the password cheaply.
	MinIterations = 4096

	// MaxIterations is how often it may be repeated at most; about a second of a
	// processor. A broker that asks for more is [ErrServer], before anything is computed.
	MaxIterations = 1_000_000

	// maxScramMessage bounds a broker's message, in bytes. Kafka's have less than 200; the
	// salt in it is kept as long as the credentials are.
	maxScramMessage = 4096

	// maxSalts is how many derived keys are kept for one password: the library's cache has
	// no end of its own. A cluster has one salt for a user and mechanism; a broker that
	// makes up another each time does not fill the memory.
	maxSalts = 256
)

// scramMechanism proves the password without telling it.
type scramMechanism struct {
	named
	hash        scram.HashGeneratorFcn
	credentials Credentials

	mu   sync.Mutex
	last *scramKeys // of the credentials that were given last; nil for none
}

// scramKeys are one user's credentials and the library's client for them, which keeps the
// keys that it derived: they are the costly part, and every connection needs the same.
type scramKeys struct {
	user, password string
	client         *scram.Client
	salts          map[string]struct{} // what the client has keys for, or is about to
}

// Scram256 is the mechanism SCRAM-SHA-256 (RFC 5802, RFC 7677, KIP-84) with one user name
// and password for as long as the program runs. The broker's signature is verified before
// an exchange is done, so it knows the password's hash as well. There is no channel binding
// and no authorization identity: Kafka has neither.
//
// Both are UTF-8 without NUL and not empty; else every exchange fails with
// [ErrCredentials]. They are used as they are given, without SASLprep (RFC 4013), though
// RFC 5802 wants it: Kafka's tools hash the bytes of a password as they are, and so a
// prepared one would be wrong there as soon as the two differ. They are the same for
// printable ASCII. Kafka takes user names of ASCII only.
//
// Keys are derived once for each salt and count of iterations, and kept as long as the
// credentials stay the same.
func Scram256(user, password string) Mechanism { return Scram256Func(fixed(user, password)) }

// Scram512 is SCRAM-SHA-512: [Scram256] with the longer hash.
func Scram512(user, password string) Mechanism { return Scram512Func(fixed(user, password)) }

// Scram256Func is [Scram256] with credentials that may change: the function is asked for
// each exchange. A nil function is [ErrCredentials] at each.
func Scram256Func(credentials Credentials) Mechanism {
	return &scramMechanism{named: "SCRAM-SHA-256", hash: scram.SHA256, credentials: credentials}
}

// Scram512Func is [Scram512] with credentials that may change: the function is asked for
// each exchange. A nil function is [ErrCredentials] at each.
func Scram512Func(credentials Credentials) Mechanism {
	return &scramMechanism{named: "SCRAM-SHA-512", hash: scram.SHA512, credentials: credentials}
}

// Start needs no address: a user has one password for all brokers.
func (m *scramMechanism) Start(ctx context.Context, _ string) (Exchange, []byte, error) {
	user, password, err := m.credentials.ask(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, err := m.keysOf(user, password)
	if err != nil {
		return nil, nil, err
	}
	e := &scramExchange{named: m.named, mechanism: m, keys: keys, conversation: keys.client.NewConversation()}
	first, err := e.conversation.Step("")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the exchange cannot begin", ErrCredentials)
	}
	return e, []byte(first), nil
}

// keysOf returns what is known of the credentials. Only the last ones are kept: they change
// once in a while, for all connections.
func (m *scramMechanism) keysOf(user, password string) (*scramKeys, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil && m.last.user == user && m.last.password == password {
		return m.last, nil
	}
	client, err := m.hash.NewClientUnprepped(user, password, "")
	if err != nil { // never: nothing is prepared
		return nil, fmt.Errorf("%w: SCRAM does not take them", ErrCredentials)
	}
	client.WithMinIterations(MinIterations)
	m.last = &scramKeys{user: user, password: password, client: client, salts: make(map[string]struct{})}
	return m.last, nil
}

// noteSalt counts what the client keeps. A client that has its fill is given up with the
// exchanges that still use it.
func (m *scramMechanism) noteSalt(keys *scramKeys, salt string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := keys.salts[salt]; known {
		return
	}
	keys.salts[salt] = struct{}{}
	if len(keys.salts) >= maxSalts && m.last == keys {
		m.last = nil
	}
}

// scramExchange is a conversation of the library's with its guards.
type scramExchange struct {
	named
	mechanism    *scramMechanism
	keys         *scramKeys
	conversation *scram.ClientConversation
	proved       bool  // the client's last message is out
	ended        error // what every further call returns
}

// Next stays with the first error: the library's conversation goes on after one, and would
// then take an empty signature for right, since it has none to compare with.
func (e *scramExchange) Next(challenge []byte) ([]byte, bool, error) {
	if e.ended != nil {
		return nil, false, e.ended
	}
	var response []byte
	var err error
	switch message := string(challenge[:min(len(challenge), maxScramMessage)]); {
	case len(challenge) > maxScramMessage:
		err = fmt.Errorf("%w: a message of %d bytes, at most %d are allowed", ErrServer, len(challenge), maxScramMessage)
	case strings.HasPrefix(message, "e="):
		reason, _, _ := strings.Cut(message[2:], ",")
		err = fmt.Errorf("%w: it says %s", ErrRefused, said(reason, strings.Contains(reason, e.keys.password)))
	case !e.proved:
		e.proved = true
		response, err = e.prove(message)
	default:
		if err = e.verify(message); err == nil {
			e.ended = errOver
			return nil, true, nil
		}
	}
	e.ended = err
	return response, false, err
}

// prove answers the broker's first message.
func (e *scramExchange) prove(message string) ([]byte, error) {
	salt, err := checkServerFirst(message)
	if err != nil {
		return nil, err
	}
	e.mechanism.noteSalt(e.keys, salt)
	final, err := e.conversation.Step(message)
	if err != nil {
		// About the nonce, base64 or the salt of FIPS 140: since the fields were looked
		// at, the library has no reason to quote the broker.
		return nil, fmt.Errorf("%w: %v", ErrServer, err)
	}
	return []byte(final), nil
}

// verify looks at the signature in the broker's last message. What the library says of it
// is not told: it may quote the broker, without end.
func (e *scramExchange) verify(message string) error {
	if _, err := e.conversation.Step(message); err != nil || !e.conversation.Valid() {
		return fmt.Errorf("%w: its signature does not prove that it knows the password", ErrServer)
	}
	return nil
}

// checkServerFirst judges what the broker asks for before anything is computed from it, in
// the way in which the library will read it: by place, commas between. It returns the salt
// and the count of iterations as they are written.
func checkServerFirst(message string) (salt string, err error) {
	fields := strings.SplitN(message, ",", 4)
	if len(fields) < 3 || !strings.HasPrefix(fields[0], "r=") || !strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return "", fmt.Errorf("%w: its first message is not nonce, salt, iterations", ErrServer)
	}
	if fields[1] == "s=" {
		return "", fmt.Errorf("%w: it sends no salt", ErrServer)
	}
	// A number that is too large for the type is the type's largest, and refused as such.
	n, err := strconv.ParseUint(fields[2][2:], 10, 64)
	switch {
	case n < MinIterations && err != nil:
		return "", fmt.Errorf("%w: its count of iterations is no number", ErrServer)
	case n < MinIterations:
		return "", fmt.Errorf("%w: it asks for %d iterations, fewer than %d", ErrServer, n, MinIterations)
	case n > MaxIterations:
		return "", fmt.Errorf("%w: it asks for more than %d iterations", ErrServer, MaxIterations)
	}
	return fields[1] + "," + fields[2], nil
}
