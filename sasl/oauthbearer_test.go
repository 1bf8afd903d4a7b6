package sasl

import (
	"context"
	"errors"
	"strings"
	"testing"
)

const testToken = "eyJhbGciOiJub25lIn0.e30.c2ln-_~+/=="

func given(t Token) Mechanism {
	return OAuthBearer(func(context.Context) (Token, error) { return t, nil })
}

func TestOAuthBearer(t *testing.T) {
	for _, c := range []struct {
		token Token
		want  string
	}{
		{Token{Value: testToken}, "n,,\x01auth=Bearer " + testToken + "\x01\x01"},
		{
			Token{testToken, map[string]string{"zone": "b", "Traceid": "a b\tc\r\n=,", "host": "~"}},
			"n,,\x01auth=Bearer " + testToken + "\x01Traceid=a b\tc\r\n=,\x01host=~\x01zone=b\x01\x01",
		},
	} {
		m := given(c.token)
		if m.Name() != "OAUTHBEARER" {
			t.Error(m.Name())
		}
		e, first := start(t, m)
		if first != c.want {
			t.Errorf("%q, want %q", first, c.want)
		}
		if response, done, err := e.Next(nil); response != nil || !done || err != nil {
			t.Errorf("%q, %v, %v", response, done, err)
		}
		wantOver(t, e)
	}
}

// TestTokenRefused: the broker gets its one byte, and the reason stays.
func TestTokenRefused(t *testing.T) {
	for _, c := range []struct{ challenge, want string }{
		{`{"status":"invalid_token"}`, `refused by the broker: status "invalid_token"`},
		{
			`{"status":"insufficient_scope", "scope":"produce", "openid-configuration":"https://id.example/x"}`,
			`status "insufficient_scope", scope "produce", openid-configuration "https://id.example/x"`,
		},
		{`{"status":""}`, `it says "{\"status\":\"\"}"`},
		{"go\naway", `it says "go\naway"`},
		{`{"status":"` + testToken + ` has expired"}`, "withheld"},
		{"not JSON: " + testToken, "withheld"},
		{`{"status":"` + strings.Repeat("x", 10_000) + `"}`, `xxx"…`},
		{strings.Repeat("[", 100_000), `[[["…`},
	} {
		e, _ := start(t, given(Token{Value: testToken}))
		response, done, err := e.Next([]byte(c.challenge))
		if string(response) != "\x01" || done || err != nil {
			t.Fatalf("%q, %v, %v", response, done, err)
		}
		for _, then := range [][]byte{nil, {}, []byte(c.challenge), []byte(`{"status":"fine"}`)} {
			response, done, err = e.Next(then)
			if response != nil || done {
				t.Fatalf("%q, %v", response, done)
			}
			wantError(t, err, ErrRefused, testToken)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q is not in %v", c.want, err)
			}
		}
	}
}

func TestUnusableTokens(t *testing.T) {
	cause := errors.New("no network")
	with := func(key, value string) func(context.Context) (Token, error) {
		return func(context.Context) (Token, error) {
			return Token{Value: testToken, Extensions: map[string]string{"fine": "x", key: value}}, nil
		}
	}
	value := func(v string) func(context.Context) (Token, error) {
		return func(context.Context) (Token, error) { return Token{Value: v}, nil }
	}
	const hidden = "hidden-value"
	for name, f := range map[string]func(context.Context) (Token, error){
		"nil":               nil,
		"empty":             value(""),
		"padding only":      value("=="),
		"padding inside":    value(testToken + "x"),
		"a space":           value("abc " + hidden),
		"a separator":       value("abc\x01user=" + hidden),
		"a line end":        value(hidden + "\n"),
		"not ASCII":         value(hidden + "é"),
		"not UTF-8":         value(hidden + "\xff"),
		"auth":              with("auth", "Bearer "+hidden),
		"Auth":              with("Auth", "Bearer "+hidden),
		"no key":            with("", hidden),
		"key with a digit":  with("trace1", hidden),
		"key with an equal": with("a=b", hidden),
		"long key":          with(strings.Repeat("k_", 10_000), hidden),
		"key not ASCII":     with("é", hidden),
		"no value":          with("key", ""),
		"value ends early":  with("key", hidden+"\x01auth=Bearer other"),
		"NUL in value":      with("key", hidden+"\x00"),
		"value not ASCII":   with("key", hidden+"é"),
		"value not UTF-8":   with("key", hidden+"\xff"),
		"error":             func(context.Context) (Token, error) { return Token{Value: testToken}, cause },
		"panic":             func(context.Context) (Token, error) { panic(testToken) },
	} {
		t.Run(name, func(t *testing.T) {
			e, first, err := OAuthBearer(f).Start(context.Background(), testAddress)
			if e != nil || first != nil {
				t.Errorf("%v, %q", e, first)
			}
			wantError(t, err, ErrCredentials, testToken, hidden)
			if name == "error" && !errors.Is(err, cause) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
}
