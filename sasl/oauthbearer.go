package sasl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Token is what an authorization server has given for one exchange. Package fmt does not
// show it, unless it is in somebody's unexported field; JSON and other encoders do.
type Token struct {
	// Value is the token, of the characters that RFC 6750 has for one: letters, digits,
	// -._~+/ and = at its end. It is not empty. Kafka's own server takes the same ones, and
	// no message above sasl.server.max.receive.size, 512 KiB by default.
	Value string
	// Extensions go with the token (KIP-342). A key is ASCII letters and not "auth", in
	// whatever case; a value is printable ASCII, spaces, tabs or line ends, and not empty.
	// They are not signed: a broker that believes them believes the client.
	Extensions map[string]string
}

// String tells nothing of the token.
func (t Token) String() string { return "sasl.Token" }

// GoString tells nothing of the token.
func (t Token) GoString() string { return t.String() }

// Format tells nothing of the token, whatever the verb; but %p, which go vet refuses here,
// does not ask.
func (t Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.String()) }

// oauthBearer sends a token, in one message.
type oauthBearer struct {
	named
	token func(context.Context) (Token, error)
}

// OAuthBearer is the mechanism OAUTHBEARER (RFC 7628, KIP-255). The function gives the token
// of one exchange. It is asked anew for each, by many connections at the same time, and
// returns when ctx ends at the latest; whether it fetches a token or has one in stock is its
// own business. The token goes over the connection as it is: use it over TLS only.
//
// A token that is not of [Token]'s form is [ErrCredentials], and so are a nil function, its
// panic and its error, which is wrapped and should not tell the token.
//
// A broker that refuses a token says why, and wants one more message before it ends the
// exchange (RFC 7628, section 3.2.3). Next returns that message, and from then on only the
// reason, as [ErrRefused]: whoever got no further answer, or an error code, asks Next(nil).
func OAuthBearer(token func(ctx context.Context) (Token, error)) Mechanism {
	return &oauthBearer{"OAUTHBEARER", token}
}

// Start needs no address: one token is for all brokers.
func (o *oauthBearer) Start(ctx context.Context, _ string) (Exchange, []byte, error) {
	t, err := o.ask(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err = t.check(); err != nil {
		return nil, nil, err
	}
	var b strings.Builder
	b.WriteString("n,,\x01auth=Bearer " + t.Value + "\x01")
	for _, key := range slices.Sorted(maps.Keys(t.Extensions)) {
		b.WriteString(key + "=" + t.Extensions[key] + "\x01")
	}
	b.WriteString("\x01")
	repeats := func(text string) bool { return strings.Contains(text, t.Value) }
	return &bearerExchange{named: o.named, repeats: repeats}, []byte(b.String()), nil
}

func (o *oauthBearer) ask(ctx context.Context) (t Token, err error) {
	if o.token == nil {
		return Token{}, fmt.Errorf("%w: the function to ask is nil", ErrCredentials)
	}
	defer recovered(&err)
	if t, err = o.token(ctx); err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	return t, nil
}

// check keeps out what would end a field or the message early: the rest of it would be
// read as an extension of somebody else's making.
func (t Token) check() error {
	value := strings.TrimRight(t.Value, "=")
	if value == "" {
		return fmt.Errorf("%w: the token is empty", ErrCredentials)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return !isLetter(r) && !strings.ContainsRune("0123456789-._~+/", r) }) {
		return fmt.Errorf("%w: the token has a character that RFC 6750 does not allow", ErrCredentials)
	}
	for key, text := range t.Extensions {
		switch {
		case key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isLetter(r) }):
			return fmt.Errorf("%w: the name of the extension %.40q is not of letters", ErrCredentials, key)
		case strings.EqualFold(key, "auth"):
			return fmt.Errorf("%w: the name of the extension %q is reserved", ErrCredentials, key)
		case text == "" || strings.ContainsFunc(text, func(r rune) bool { return (r < ' ' || r > '~') && !strings.ContainsRune("\t\r\n", r) }):
			return fmt.Errorf("%w: the value of the extension %.40q is empty or not printable", ErrCredentials, key)
		}
	}
	return nil
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// bearerExchange waits for an empty answer.
type bearerExchange struct {
	named
	repeats func(text string) bool // whether the token is in it
	ended   error                  // what every further call returns
}

func (e *bearerExchange) Next(challenge []byte) ([]byte, bool, error) {
	switch {
	case e.ended != nil:
		return nil, false, e.ended
	case len(challenge) == 0:
		e.ended = errOver
		return nil, true, nil
	default:
		e.ended = e.reason(challenge)
		return []byte{1}, false, nil
	}
}

// reason reads the broker's JSON (RFC 7628, section 3.2.2). What is not JSON is quoted.
func (e *bearerExchange) reason(challenge []byte) error {
	var answer struct {
		Status        string `json:"status"`
		Scope         string `json:"scope"`
		Configuration string `json:"openid-configuration"`
	}
	if json.Unmarshal(challenge, &answer) != nil || answer.Status == "" {
		text := string(challenge)
		return fmt.Errorf("%w: it says %s", ErrRefused, said(text, e.repeats(text)))
	}
	text := "status " + said(answer.Status, e.repeats(answer.Status))
	if answer.Scope != "" {
		text += ", scope " + said(answer.Scope, e.repeats(answer.Scope))
	}
	if answer.Configuration != "" {
		text += ", openid-configuration " + said(answer.Configuration, e.repeats(answer.Configuration))
	}
	return fmt.Errorf("%w: %s", ErrRefused, text)
}
