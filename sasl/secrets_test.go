package sasl

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// TestFormattingTellsNoSecrets prints everything in every way, with the mechanism in use and
// its caches full.
func TestFormattingTellsNoSecrets(t *testing.T) {
	shown := map[string]any{
		"token":      Token{Value: testPassword, Extensions: map[string]string{"key": testPassword}},
		"token at *": &Token{Value: testPassword},
	}
	for _, m := range []Mechanism{
		Plain(testUser, testPassword), Scram256(testUser, testPassword), Scram512(testUser, testPassword), given(Token{Value: testPassword}),
	} {
		e, _ := start(t, m)
		if s, ok := m.(*scramMechanism); ok {
			hash := scram.SHA256
			if m.Name() == "SCRAM-SHA-512" {
				hash = scram.SHA512
			}
			var err error
			if e, err = converse(t.Context(), m, library(t, hash, testUser, testPassword, MinIterations), untouched, untouched); err != nil || s.last == nil {
				t.Fatal(err)
			}
		}
		shown[m.Name()], shown[m.Name()+" exchange"] = m, e
		if got := fmt.Sprint(m); got != "sasl "+m.Name() {
			t.Error(got)
		}
	}
	secrets := []string{
		testPassword,
		hex.EncodeToString([]byte(testPassword)),
		strings.ToUpper(hex.EncodeToString([]byte(testPassword))),
		base64.StdEncoding.EncodeToString([]byte(testPassword)),
		strings.Trim(fmt.Sprint([]byte(testPassword)), "[]"),
	}
	for name, v := range shown {
		hidden := struct{ v any }{v} // fmt calls no method of an unexported field
		around := struct{ V any }{v}
		verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "% x", "%t", "%c", "%U", "%p", "%e", "%!", "%y"}
		for _, verb := range verbs {
			values := []any{v, around, &around, []any{v}, map[string]any{"k": v}}
			if strings.HasPrefix(name, "token") {
				if verb == "%p" { // fmt asks nobody about this one, and a Token's fields are its own
					continue
				}
			} else {
				values = append(values, hidden, &hidden, fmt.Errorf("wrapped: %v", v))
			}
			for _, value := range values {
				text := fmt.Sprintf(verb, value)
				for _, secret := range secrets {
					if strings.Contains(text, secret) {
						t.Errorf("%s, %s of %T: %s", name, verb, value, text)
					}
				}
			}
		}
		if strings.HasPrefix(name, "token") {
			continue
		}
		if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), testPassword) {
			t.Errorf("%s as JSON: %s, %v", name, text, err)
		}
	}
}
