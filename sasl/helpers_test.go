package sasl

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

const (
	testUser     = "alice"
	testPassword = "open-sesame-9"
	testAddress  = "broker-1:9092"
)

// start begins an exchange that has to begin.
func start(t testing.TB, m Mechanism) (Exchange, string) {
	t.Helper()
	e, first, err := m.Start(context.Background(), testAddress)
	if err != nil {
		t.Fatal(err)
	}
	return e, string(first)
}

// wantError wants an error of a kind that tells no secret.
func wantError(t testing.TB, err, kind error, secrets ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	for _, s := range append(secrets, testPassword) {
		if strings.Contains(err.Error(), s) {
			t.Fatalf("the error tells a secret: %v", err)
		}
	}
	if len(err.Error()) > 1000 {
		t.Fatalf("an error of %d bytes", len(err.Error()))
	}
}

// wantOver wants an exchange to take nothing any more.
func wantOver(t testing.TB, e Exchange) {
	t.Helper()
	for _, challenge := range []string{"", "v=", "e=", "x", "r=,s=,i="} {
		if response, done, err := e.Next([]byte(challenge)); response != nil || done || err == nil {
			t.Fatalf("Next(%q) after the end: %q, %v, %v", challenge, response, done, err)
		}
	}
}

// library is a broker: the library's side for servers, with one user.
func library(t testing.TB, hash scram.HashGeneratorFcn, user, password string, iterations int) *scram.Server {
	t.Helper()
	client, err := hash.NewClientUnprepped(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: iterations})
	if err != nil {
		t.Fatal(err)
	}
	server, err := hash.NewServer(func(name string) (scram.StoredCredentials, error) {
		if name != user {
			return scram.StoredCredentials{}, errors.New("unknown")
		}
		return stored, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// untouched is a broker's message as it is.
func untouched(message string) string { return message }

// converse has a mechanism talk to the library's server, whose two messages are changed on
// the way. It returns nil when both sides are content.
func converse(ctx context.Context, m Mechanism, server *scram.Server, first, final func(string) string) (Exchange, error) {
	e, message, err := m.Start(ctx, testAddress)
	if err != nil {
		return nil, err
	}
	there := server.NewConversation()
	for _, change := range []func(string) string{first, final} {
		answer, _ := there.Step(string(message)) // an error goes into the answer as e=
		response, done, err := e.Next([]byte(change(answer)))
		switch {
		case err != nil:
			return e, err
		case done && (response != nil || !there.Valid()):
			return e, errors.New("done, and the server is not content")
		case done:
			return e, nil
		}
		message = response
	}
	return e, errors.New("two messages, and it is not done")
}
