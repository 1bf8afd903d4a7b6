package seams

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/internal/certtest"
)

// secured opens a connection to a TLS server of the test.
func secured(t *testing.T, server, client *tls.Config) (Connection, *ear, *tls.Conn) {
	t.Helper()
	server.MinVersion = tls.VersionTLS12
	ends := make(chan *tls.Conn, 1)
	client = client.Clone()
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			ends <- conn.(*tls.Conn)
		}
	}()
	e := newEar()
	c := NewNetTransport(NetConfig{Dial: dial, TLS: client, DialTimeout: 5 * time.Second, MaxFrameBytes: 8 << 20}).Dial(l.Addr().String(), e)
	far := await(t, "the handshake", ends)
	t.Cleanup(func() {
		c.Close(errors.New("test is over"))
		_ = far.Close()
	})
	return c, e, far
}

// TestTLS: frames go both ways whole, in slices small and large.
func TestTLS(t *testing.T) {
	a := certtest.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}}
	c, e, far := secured(t, server, &tls.Config{RootCAs: a.Pool()})
	await(t, "the opening", e.opened)
	random := rand.New(rand.NewPCG(1, 1))
	var slices [][]byte
	for _, n := range []int{4, 1, 0, 100, joinBytes / 2, joinBytes/2 + 1, 20_000, 20_000, 20_000, 20_000, 1 << 20, 7} {
		s := make([]byte, n)
		for i := range s {
			s[i] = byte(random.Uint32())
		}
		slices = append(slices, s)
	}
	want := bytes.Join(slices, nil)
	p := newPen(e)
	c.Write(slices, p)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("other bytes arrived: %v", err)
	}
	if r := await(t, "the end of the write", p.done); r.err != nil || !r.started {
		t.Errorf("%+v", r)
	}
	if _, err := far.Write(frame([]byte("answer"))); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); len(e.received()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if got := e.received(); len(got) != 1 || string(got[0]) != "answer" {
		t.Errorf("received %q", got)
	}
}

// TestTrust: who cannot be trusted gets no byte of a request, and the error says why.
// It is one that no retry helps against.
func TestTrust(t *testing.T) {
	a, other := certtest.New(t), certtest.New(t)
	here := a.Certificate("localhost", "127.0.0.1")
	for name, c := range map[string]struct {
		server, client *tls.Config
		says           string
	}{
		"unknown authority": {&tls.Config{Certificates: []tls.Certificate{here}}, &tls.Config{RootCAs: other.Pool()}, "unknown authority"},
		"another host":      {&tls.Config{Certificates: []tls.Certificate{a.Certificate("elsewhere.example")}}, &tls.Config{RootCAs: a.Pool()}, "127.0.0.1"},
		"another name":      {&tls.Config{Certificates: []tls.Certificate{here}}, &tls.Config{RootCAs: a.Pool(), ServerName: "kafka.example"}, "kafka.example"},
		"no client certificate": {
			&tls.Config{Certificates: []tls.Certificate{here}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()},
			&tls.Config{RootCAs: a.Pool()}, "certificate required",
		},
		"another's client certificate": {
			&tls.Config{Certificates: []tls.Certificate{here}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()},
			&tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{other.Certificate("client")}}, "remote error",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, e, _ := secured(t, c.server, c.client)
			if err := await(t, "the end", e.closed); !strings.Contains(err.Error(), c.says) || !IsSecurityError(err) {
				t.Errorf("closed with %v; a matter of trust: %v", err, IsSecurityError(err))
			}
		})
	}
	a.Certificate("client")
	c, e, _ := secured(t, &tls.Config{Certificates: []tls.Certificate{here}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()},
		&tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{a.Certificate("client")}})
	await(t, "the opening with the right certificate", e.opened)
	c.Close(ErrClosedLocally)
}

// TestTLSOnOneSide is told apart from a broken network.
func TestTLSOnOneSide(t *testing.T) {
	a := certtest.New(t)
	t.Run("theirs", func(t *testing.T) {
		c, e, far := call(t, NetConfig{})
		c.Write([][]byte{frame([]byte("in the clear"))}, newPen(e))
		if _, err := far.Write([]byte{tlsAlert, tlsMajor, 1, 0, 2, 2, 80}); err != nil { // internal_error
			t.Fatal(err)
		}
		if err := await(t, "the end", e.closed); !errors.Is(err, errSpeaksTLS) || !IsSecurityError(err) {
			t.Errorf("closed with %v", err)
		}
	})
	t.Run("ours", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		e := newEar()
		NewNetTransport(NetConfig{TLS: &tls.Config{RootCAs: a.Pool()}, DialTimeout: 5 * time.Second, MaxFrameBytes: 1 << 20}).Dial(l.Addr().String(), e)
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write([]byte("HTTP/1.1 400 Bad Request")); err != nil {
			t.Fatal(err)
		}
		if err := await(t, "the end", e.closed); !strings.Contains(err.Error(), "speaks no TLS") || !IsSecurityError(err) {
			t.Errorf("closed with %v", err)
		}
		_ = far.Close()
	})
}

// TestHandshakeEnds with the time to connect, or at once when its owner closes.
func TestHandshakeEnds(t *testing.T) {
	a := certtest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, closes := range []bool{true, false} {
		limit := 200 * time.Millisecond
		if closes {
			limit = time.Hour
		}
		e := newEar()
		c := NewNetTransport(NetConfig{TLS: &tls.Config{RootCAs: a.Pool()}, DialTimeout: limit, MaxFrameBytes: 1 << 20}).Dial(l.Addr().String(), e)
		far, err := l.Accept() // and says nothing
		if err != nil {
			t.Fatal(err)
		}
		if closes {
			c.Close(ErrClosedLocally)
		}
		if err := await(t, "the end", e.closed); closes != errors.Is(err, ErrClosedLocally) || IsSecurityError(err) {
			t.Errorf("closed with %v", err)
		}
		_ = far.Close()
	}
}

// TestCloseDoesNotSayGoodbye: an actor closes connections in its turn, which a peer that
// does not read any more must not hold up.
func TestCloseDoesNotSayGoodbye(t *testing.T) {
	a := certtest.New(t)
	c, e, _ := secured(t, &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}}, &tls.Config{RootCAs: a.Pool()})
	await(t, "the opening", e.opened)
	p := newPen(e)
	c.Write([][]byte{make([]byte, 64<<20)}, p) // more than sockets take
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	c.Close(ErrClosedLocally)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	if r := await(t, "the end of the write", p.done); r.err == nil {
		t.Error("a write that nobody read has succeeded")
	}
}

// TestJoiner: few writes, and the slices as they were.
func TestJoiner(t *testing.T) {
	near, far := net.Pipe()
	sizes := make(chan int)
	go func() {
		b := make([]byte, 1<<20)
		for {
			n, err := far.Read(b)
			if err != nil {
				close(sizes)
				return
			}
			sizes <- n
		}
	}()
	go func() {
		j := joiner{conn: near}
		var frame [][]byte
		for range 1000 {
			frame = append(frame, make([]byte, 100))
		}
		if n, err := j.write(frame); n != 100_000 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = near.Close()
		if n, err := j.write(frame); n != 0 || err == nil {
			t.Errorf("after the end %d bytes, %v", n, err)
		}
	}()
	var got []int
	for n := range sizes {
		got = append(got, n)
	}
	if len(got) != 2 || got[0]+got[1] != 100_000 {
		t.Errorf("written in pieces of %v", got)
	}
}

// TestAlerts: those that say that a certificate is refused are a matter of settings,
// those about bytes are not.
func TestAlerts(t *testing.T) {
	a := certtest.New(t)
	for code, matters := range map[byte]bool{10: false, 20: false, 42: true, 48: true, 70: true, 80: false, 116: true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := newEar()
		NewNetTransport(NetConfig{TLS: &tls.Config{RootCAs: a.Pool()}, DialTimeout: 5 * time.Second, MaxFrameBytes: 1 << 20}).Dial(l.Addr().String(), e)
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write([]byte{tlsAlert, tlsMajor, 3, 0, 2, 2, code}); err != nil {
			t.Fatal(err)
		}
		if err := await(t, "the end", e.closed); IsSecurityError(err) != matters {
			t.Errorf("alert %d: %v, a matter of trust: %v", code, err, !matters)
		}
		_ = far.Close()
		_ = l.Close()
	}
}

// TestResumptionIsForOthers: a client with a certificate of its own shows the one that it
// has now, and one with checks of its own makes them, on each connection.
func TestResumptionIsForOthers(t *testing.T) {
	a := certtest.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	for name, c := range map[string]struct {
		client  *tls.Config
		resumes bool
	}{
		"nothing of its own": {&tls.Config{RootCAs: a.Pool()}, true},
		"a certificate": {&tls.Config{RootCAs: a.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			one := a.Certificate("client")
			return &one, nil
		}}, false},
		"a check": {&tls.Config{RootCAs: a.Pool(), VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return nil }}, false},
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		transport := NewNetTransport(NetConfig{TLS: c.client, DialTimeout: 5 * time.Second, MaxFrameBytes: 1 << 20})
		for n := range 2 {
			e := newEar()
			near := transport.Dial(l.Addr().String(), e)
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			far := conn.(*tls.Conn)
			if err := far.Handshake(); err != nil {
				t.Fatal(err)
			}
			await(t, "the opening", e.opened)
			if _, err := far.Write(frame([]byte("ticket"))); err != nil { // comes behind it
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); len(e.received()) == 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			if resumed := far.ConnectionState().DidResume; resumed != (n == 1 && c.resumes) {
				t.Errorf("%s: connection %d resumes a session: %v", name, n+1, resumed)
			}
			near.Close(ErrClosedLocally)
			_ = await(t, "the end", e.closed)
			_ = far.Close()
		}
		_ = l.Close()
	}
}
