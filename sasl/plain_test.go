package sasl

import (
	"context"
	"errors"
	"testing"
)

func TestPlain(t *testing.T) {
	m := Plain("álice", "pass word")
	if m.Name() != "PLAIN" {
		t.Error(m.Name())
	}
	e, first := start(t, m)
	if first != "\x00álice\x00pass word" {
		t.Errorf("%q", first)
	}
	if response, done, err := e.Next(nil); response != nil || !done || err != nil {
		t.Errorf("%q, %v, %v", response, done, err)
	}
	wantOver(t, e)

	// Words of the broker's beside its error code say nothing.
	e, _ = start(t, m)
	if _, done, err := e.Next([]byte("welcome")); !done || err != nil {
		t.Error(done, err)
	}
}

func TestCredentialsAreAskedAnew(t *testing.T) {
	for _, of := range []func(Credentials) Mechanism{PlainFunc, Scram256Func, Scram512Func} {
		passwords := []string{"one", "two", "three"}
		asked := 0
		type key struct{}
		ctx := context.WithValue(context.Background(), key{}, "passed on")
		m := of(func(ctx context.Context) (string, string, error) {
			if ctx.Value(key{}) != "passed on" {
				t.Error("another context")
			}
			asked++
			return testUser, passwords[asked-1], nil
		})
		for range passwords {
			_, first, err := m.Start(ctx, testAddress)
			if err != nil {
				t.Fatal(err)
			}
			if want := "\x00" + testUser + "\x00" + passwords[asked-1]; m.Name() == "PLAIN" && string(first) != want {
				t.Errorf("%q, want %q", first, want)
			}
		}
		if asked != len(passwords) {
			t.Errorf("%s asked %d times", m.Name(), asked)
		}
	}
}

// TestUnusableCredentials: what cannot be sent is refused before anything is.
func TestUnusableCredentials(t *testing.T) {
	cause := errors.New("the safe is locked")
	for name, c := range map[string]Credentials{
		"nil":              nil,
		"no user":          fixed("", testPassword),
		"no password":      fixed(testUser, ""),
		"NUL in user":      fixed("al\x00ice", testPassword),
		"NUL in password":  fixed(testUser, testPassword+"\x00"),
		"user not UTF-8":   fixed("\xff", testPassword),
		"secret not UTF-8": fixed(testUser, testPassword+"\xff"),
		"error":            func(context.Context) (string, string, error) { return testUser, testPassword, cause },
		"panic":            func(context.Context) (string, string, error) { panic(testPassword) },
		"panic with error": func(context.Context) (string, string, error) { panic(errors.New(testPassword)) },
		"runtime's panic":  func(context.Context) (string, string, error) { return []string{}[len(testUser)], "", nil },
		"context": func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, m := range []Mechanism{PlainFunc(c), Scram256Func(c), Scram512Func(c)} {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				e, first, err := m.Start(ctx, testAddress)
				if e != nil || first != nil {
					t.Errorf("%s: %v, %q", m.Name(), e, first)
				}
				wantError(t, err, ErrCredentials)
				if name == "error" && !errors.Is(err, cause) || name == "context" && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: the cause is lost: %v", m.Name(), err)
				}
			}
		})
	}
}
