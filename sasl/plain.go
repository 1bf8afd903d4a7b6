package sasl

import "context"

// plain sends the password itself, in one message (RFC 4616).
type plain struct {
	named
	credentials Credentials
}

// Plain is the mechanism PLAIN (RFC 4616) with one user name and password for as long as
// the program runs. Both go over the connection as they are: use it over TLS only. Both
// are UTF-8 without NUL and not empty; else every exchange fails with [ErrCredentials].
// There is no authorization identity: Kafka takes none but the user name.
func Plain(user, password string) Mechanism { return PlainFunc(fixed(user, password)) }

// PlainFunc is [Plain] with credentials that may change: the function is asked for each
// exchange. A nil function is [ErrCredentials] at each.
func PlainFunc(credentials Credentials) Mechanism { return &plain{"PLAIN", credentials} }

// Start needs no address: a user has one password for all brokers.
func (p *plain) Start(ctx context.Context, _ string) (Exchange, []byte, error) {
	user, password, err := p.credentials.ask(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &plainExchange{named: p.named}, []byte("\x00" + user + "\x00" + password), nil
}

type plainExchange struct {
	named
	over bool
}

// Next does not look at what the broker says, nor does Java's client: whether the password
// is right is the error code around it, and RFC 4616 knows no words.
func (e *plainExchange) Next([]byte) ([]byte, bool, error) {
	if e.over {
		return nil, false, errOver
	}
	e.over = true
	return nil, true, nil
}
