package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
)

const fuzzNonce = "fuzz"

// signature computes by hand what a broker has to sign (RFC 5802, section 3), from its first
// message and the client's answer.
func signature(t testing.TB, first, answer string) []byte {
	t.Helper()
	fields := strings.Split(first, ",")
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil {
		t.Fatal(err)
	}
	iterations, err := strconv.Atoi(fields[2][2:])
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, testPassword, salt, iterations, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	unproved := answer[:strings.LastIndex(answer, ",p=")]
	return mac(mac(salted, "Server Key"), "n="+testUser+",r="+fuzzNonce+","+first+","+unproved)
}

// FuzzScramServer is a broker that may say anything, three times: no panic, and done only
// after the right signature over what was said.
func FuzzScramServer(f *testing.F) {
	const good = "r=fuzzX,s=c2FsdA==,i=4096"
	e, _ := start(f, withNonce(f, Scram256(testUser, testPassword), testUser, testPassword, fuzzNonce))
	answer, _, err := e.Next([]byte(good))
	if err != nil {
		f.Fatal(err)
	}
	final := "v=" + base64.StdEncoding.EncodeToString(signature(f, good, string(answer)))
	if _, done, err := e.Next([]byte(final)); !done || err != nil {
		f.Fatal("the signature by hand is not taken", err)
	}
	for _, first := range []string{good, good + ",x=y", "", "r=fuzz", "e=other-error", "m=1," + good, "r=fuzz,s=,i=4096", "r=f,s=c2FsdA==,i=4096", "r=fuzz,s=c2FsdA==,i=99999999999999999999"} {
		for _, second := range []string{final, final + ",x=y", final[:40], "v=", "e=", "e=invalid-proof", "", good} {
			f.Add(first, second, final)
			f.Add(first, second, "v=")
		}
	}
	f.Fuzz(func(t *testing.T, first, second, third string) {
		if fields := strings.Split(first, ","); len(fields) > 2 && len(fields[2]) > 6 {
			if n, err := strconv.Atoi(strings.TrimPrefix(fields[2], "i=")); err == nil && n > 3*MinIterations && n <= MaxIterations {
				t.Skip("allowed, and slow")
			}
		}
		e, _ := start(t, withNonce(t, Scram256(testUser, testPassword), testUser, testPassword, fuzzNonce))
		answer, ended := "", false
		for step, message := range []string{first, second, third} {
			response, done, err := e.Next([]byte(message))
			switch {
			case ended && (done || err == nil || response != nil):
				t.Fatalf("step %d: it goes on after its end", step)
			case err != nil:
				if done || response != nil || !ended && strings.Contains(err.Error(), testPassword) {
					t.Fatalf("step %d: %q, %v, %v", step, response, done, err)
				}
				ended = true
			case done:
				ended = true
				field, _, _ := strings.Cut(message, ",")
				got, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(field, "v="))
				if step != 1 || err != nil || !hmac.Equal(got, signature(t, first, answer)) {
					t.Fatalf("step %d: done without the right signature (%v)", step, err)
				}
			default:
				if step != 0 || response == nil {
					t.Fatalf("step %d: neither an answer nor an end", step)
				}
				answer = string(response)
			}
		}
	})
}
