package sasl

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xdg-go/scram"
)

// withNonce has a mechanism's next exchanges use the nonce of a test vector.
func withNonce(t testing.TB, m Mechanism, user, password, nonce string) Mechanism {
	t.Helper()
	keys, err := m.(*scramMechanism).keysOf(user, password)
	if err != nil {
		t.Fatal(err)
	}
	keys.client.WithNonceGenerator(func() string { return nonce })
	return m
}

// TestScramRFC7677 is the exchange of RFC 7677, section 3.
func TestScramRFC7677(t *testing.T) {
	m := withNonce(t, Scram256("user", "pencil"), "user", "pencil", "rOprNGfwEbeRWgbNEkqO")
	e, first := start(t, m)
	if first != "n,,n=user,r=rOprNGfwEbeRWgbNEkqO" {
		t.Fatalf("%q", first)
	}
	response, done, err := e.Next([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if done || err != nil {
		t.Fatal(done, err)
	}
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; string(response) != want {
		t.Fatalf("%q, want %q", response, want)
	}
	response, done, err = e.Next([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="))
	if response != nil || !done || err != nil {
		t.Fatal(response, done, err)
	}
	wantOver(t, e)
}

func TestScram(t *testing.T) {
	for _, c := range []struct {
		mechanism Mechanism
		name      string
		hash      scram.HashGeneratorFcn
		user      string // at the server
		password  string
		want      error
	}{
		{Scram256(testUser, testPassword), "SCRAM-SHA-256", scram.SHA256, testUser, testPassword, nil},
		{Scram512(testUser, testPassword), "SCRAM-SHA-512", scram.SHA512, testUser, testPassword, nil},
		{Scram256("a,b=c", testPassword), "SCRAM-SHA-256", scram.SHA256, "a,b=c", testPassword, nil},
		// No SASLprep: it would make "fi" of the ligature, and a space of the no-break space.
		{Scram256(testUser, "ﬁ\u00a0ß🔑"), "SCRAM-SHA-256", scram.SHA256, testUser, "ﬁ\u00a0ß🔑", nil},
		{Scram256(testUser, testPassword), "SCRAM-SHA-256", scram.SHA256, testUser, "another", ErrRefused},
		{Scram512(testUser, testPassword), "SCRAM-SHA-512", scram.SHA512, testUser, "another", ErrRefused},
		{Scram256(testUser, testPassword), "SCRAM-SHA-256", scram.SHA256, "bob", testPassword, ErrRefused},
		{Scram256(testUser, testPassword), "SCRAM-SHA-256", scram.SHA512, testUser, testPassword, ErrRefused},
	} {
		if c.mechanism.Name() != c.name {
			t.Error(c.mechanism.Name())
		}
		server := library(t, c.hash, c.user, c.password, MinIterations)
		for range 2 { // the second time with kept keys
			e, err := converse(context.Background(), c.mechanism, server, untouched, untouched)
			if c.want == nil && err != nil {
				t.Errorf("%s with %s and %s: %v", c.name, c.user, c.password, err)
			}
			if c.want != nil {
				wantError(t, err, c.want)
			}
			wantOver(t, e)
		}
	}
}

// TestScramDistrusts: whatever a broker sends but the right thing ends the exchange for
// good, and the library is not asked for keys of a count that is out of bounds.
func TestScramDistrusts(t *testing.T) {
	const salt = ",s=MDEyMzQ1Njc4OWFiY2RlZg=="
	long := strings.Repeat("9", 300)
	type change = func(string) string
	instead := func(message string) change { return func(string) string { return message } }
	after := func(rest string) change { // the nonce as it is, then something else
		return func(message string) string {
			nonce, _, _ := strings.Cut(message, ",")
			return nonce + rest
		}
	}
	cut := func(n int) change { return func(message string) string { return message[:len(message)-n] } }
	for name, c := range map[string]struct {
		first, final change
		want         error
		text         string // part of the error
		derives      bool
	}{
		"4095 iterations":      {after(salt + ",i=4095"), untouched, ErrServer, "4095 iterations", false},
		"1 iteration":          {after(salt + ",i=1"), untouched, ErrServer, "1 iterations", false},
		"0 iterations":         {after(salt + ",i=0"), untouched, ErrServer, "0 iterations", false},
		"-4096 iterations":     {after(salt + ",i=-4096"), untouched, ErrServer, "no number", false},
		"+4096 iterations":     {after(salt + ",i=+4096"), untouched, ErrServer, "no number", false},
		"4096.0 iterations":    {after(salt + ",i=4096.0"), untouched, ErrServer, "no number", false},
		"0x1000 iterations":    {after(salt + ",i=0x1000"), untouched, ErrServer, "no number", false},
		"no count":             {after(salt + ",i="), untouched, ErrServer, "no number", false},
		"1000001 iterations":   {after(salt + ",i=1000001"), untouched, ErrServer, "more than 1000000", false},
		"2^31 iterations":      {after(salt + ",i=2147483648"), untouched, ErrServer, "more than 1000000", false},
		"2^64+4096 iterations": {after(salt + ",i=18446744073709555712"), untouched, ErrServer, "more than 1000000", false},
		"300 digits":           {after(salt + ",i=" + long), untouched, ErrServer, "more than 1000000", false},

		"nothing":                     {instead(""), untouched, ErrServer, "nonce, salt, iterations", false},
		"commas":                      {instead(",,,,"), untouched, ErrServer, "nonce, salt, iterations", false},
		"nonce alone":                 {after(""), untouched, ErrServer, "nonce, salt, iterations", false},
		"no nonce":                    {instead(salt[1:] + ",i=4096"), untouched, ErrServer, "nonce, salt, iterations", false},
		"no salt":                     {after(",i=4096"), untouched, ErrServer, "nonce, salt, iterations", false},
		"no iterations":               {after(salt), untouched, ErrServer, "nonce, salt, iterations", false},
		"another order":               {after(",i=4096" + salt), untouched, ErrServer, "nonce, salt, iterations", false},
		"empty salt":                  {after(",s=,i=4096"), untouched, ErrServer, "no salt", false},
		"salt not base64":             {after(",s=!!!,i=4096"), untouched, ErrServer, "base64", false},
		"mandatory extension":         {func(s string) string { return "m=x," + s }, untouched, ErrServer, "nonce, salt, iterations", false},
		"another nonce":               {instead("r=mine" + salt + ",i=4096"), untouched, ErrServer, "nonce", false},
		"empty nonce":                 {instead("r=" + salt + ",i=4096"), untouched, ErrServer, "nonce", false},
		"too long":                    {func(s string) string { return s + "," + strings.Repeat("x=y,", 2000) }, untouched, ErrServer, "bytes", false},
		"signature at once":           {instead("v=" + strings.Repeat("A", 43) + "="), untouched, ErrServer, "nonce, salt, iterations", false},
		"refused at once":             {instead("e=unknown-user"), untouched, ErrRefused, `"unknown-user"`, false},
		"refused with an extension":   {instead("e=no-resources,x=y"), untouched, ErrRefused, `"no-resources"`, false},
		"refused without a word":      {instead("e="), untouched, ErrRefused, `""`, false},
		"refused with the password":   {instead("e=" + testPassword + " is wrong"), untouched, ErrRefused, "withheld", false},
		"refused with line ends":      {instead("e=\n\x1b[31mroot"), untouched, ErrRefused, `"\n\x1b[31mroot"`, false},
		"refused with too many words": {instead("e=" + strings.Repeat("n", 3000)), untouched, ErrRefused, "…", false},

		"wrong signature":     {untouched, instead("v=" + strings.Repeat("A", 43) + "="), ErrServer, "signature", true},
		"truncated":           {untouched, cut(4), ErrServer, "signature", true},
		"truncated in base64": {untouched, cut(1), ErrServer, "signature", true},
		"empty signature":     {untouched, instead("v="), ErrServer, "signature", true},
		"no signature":        {untouched, instead(""), ErrServer, "signature", true},
		"garbage at the end":  {untouched, instead("\x00\xff" + strings.Repeat("g", 3000)), ErrServer, "signature", true},
		"refused at the end":  {untouched, instead("e=invalid-proof"), ErrRefused, `"invalid-proof"`, true},
		"the proof is echoed": {untouched, instead("p=" + strings.Repeat("A", 43) + "="), ErrServer, "signature", true},
		"first message again": {untouched, instead("r=x" + salt + ",i=4096"), ErrServer, "signature", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := Scram256(testUser, testPassword).(*scramMechanism)
			var work atomic.Int64
			m.hash = counted(scram.SHA256, &work)
			e, err := converse(context.Background(), m, library(t, scram.SHA256, testUser, testPassword, MinIterations), c.first, c.final)
			wantError(t, err, c.want)
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q is not in %v", c.text, err)
			}
			if derived := work.Load() > MinIterations; derived != c.derives {
				t.Errorf("%d hashes computed", work.Load())
			}
			wantOver(t, e)
		})
	}
}

// TestScramStaysFailed: the library's conversation, asked again after an error, takes an
// empty signature for the right one. Ours is not asked again.
func TestScramStaysFailed(t *testing.T) {
	e, _ := start(t, Scram256(testUser, testPassword))
	_, _, err := e.Next([]byte("r=x,s=QUJD,i=4096"))
	wantError(t, err, ErrServer)
	_, done, again := e.Next([]byte("v="))
	if done || again != err {
		t.Errorf("%v, %v", done, again)
	}

	client, _ := scram.SHA256.NewClientUnprepped(testUser, testPassword, "")
	bare := client.NewConversation()
	_, _ = bare.Step("")
	_, _ = bare.Step("r=x,s=QUJD,i=4096")
	if _, err := bare.Step("v="); err != nil || !bare.Valid() {
		t.Log("the library has mended this")
	}
}

// TestScramAtTheBounds: what is just allowed is done.
func TestScramAtTheBounds(t *testing.T) {
	for _, iterations := range []int{MinIterations, MaxIterations} {
		server := library(t, scram.SHA256, testUser, testPassword, iterations)
		if _, err := converse(context.Background(), Scram256(testUser, testPassword), server, untouched, untouched); err != nil {
			t.Error(iterations, err)
		}
	}
	extended := func(message string) string { return message + ",x=y" } // RFC 5802: ignored
	server := library(t, scram.SHA256, testUser, testPassword, MinIterations)
	if _, err := converse(context.Background(), Scram256(testUser, testPassword), server, untouched, extended); err != nil {
		t.Error(err)
	}
}

// countedHash counts what a hash computes.
type countedHash struct {
	hash.Hash
	n *atomic.Int64
}

func (h countedHash) Sum(b []byte) []byte {
	h.n.Add(1)
	return h.Hash.Sum(b)
}

func counted(of scram.HashGeneratorFcn, n *atomic.Int64) scram.HashGeneratorFcn {
	return func() hash.Hash { return countedHash{of(), n} }
}

// TestScramKeysAreKept: keys are derived once, until the credentials change.
func TestScramKeysAreKept(t *testing.T) {
	password := testPassword
	m := Scram256Func(func(context.Context) (string, string, error) { return testUser, password, nil }).(*scramMechanism)
	var work atomic.Int64
	m.hash = counted(scram.SHA256, &work)
	exchange := func(server *scram.Server, derives bool) {
		t.Helper()
		before := work.Load()
		if _, err := converse(context.Background(), m, server, untouched, untouched); err != nil {
			t.Fatal(err)
		}
		if derived := work.Load()-before > MinIterations; derived != derives {
			t.Fatalf("%d hashes computed", work.Load()-before)
		}
	}
	server := library(t, scram.SHA256, testUser, password, MinIterations)
	exchange(server, true)
	exchange(server, false)
	exchange(library(t, scram.SHA256, testUser, password, 2*MinIterations), true)
	exchange(server, false)
	password = "changed"
	exchange(library(t, scram.SHA256, testUser, password, MinIterations), true)

	// A broker with ever other salts does not fill the memory.
	keys := m.last
	for i := range maxSalts {
		m.noteSalt(keys, fmt.Sprint("s=", i))
		m.noteSalt(keys, fmt.Sprint("s=", i))
	}
	if m.last != nil || len(keys.salts) > maxSalts+1 {
		t.Errorf("%d salts, and the client is kept", len(keys.salts))
	}
	exchange(library(t, scram.SHA256, testUser, password, MinIterations), true)
}

// TestScramFromManyConnections: one mechanism, many exchanges at once, of changing users.
func TestScramFromManyConnections(t *testing.T) {
	type key struct{}
	m := Scram512Func(func(ctx context.Context) (string, string, error) {
		user := ctx.Value(key{}).(string)
		return user, user + "'s secret", nil
	})
	servers := make(map[string]*scram.Server)
	for _, user := range []string{"alice", "bob"} {
		servers[user] = library(t, scram.SHA512, user, user+"'s secret", MinIterations)
	}
	var group sync.WaitGroup
	for user, server := range servers {
		for range 4 {
			group.Go(func() {
				ctx := context.WithValue(context.Background(), key{}, user)
				for range 5 {
					if _, err := converse(ctx, m, server, untouched, untouched); err != nil {
						t.Error(err)
					}
					wrong := func(string) string { return "v=AAAA" }
					if _, err := converse(ctx, m, server, untouched, wrong); !errors.Is(err, ErrServer) {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
}
