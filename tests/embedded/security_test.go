package embedded_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/internal/certtest"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/sasl"
)

const secret = "wondrous"

// readBack reads n records of a secured cluster, in order within each partition.
func readBack(t *testing.T, cluster *kfake.Cluster, n int, options ...kgo.Opt) map[int32][]string {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	read, total := make(map[int32][]string), 0
	for total < n && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			read[r.Partition] = append(read[r.Partition], string(r.Value))
			total++
		})
	}
	if total != n {
		t.Fatalf("read %d records of %d", total, n)
	}
	return read
}

// TestSecureClusters: records go to clusters that want TLS, a client certificate, or
// credentials, by options and by properties.
func TestSecureClusters(t *testing.T) {
	a := certtest.New(t)
	chain, key := certtest.PEM(t, a.Certificate("client"))
	folder := t.TempDir()
	file := func(name string, parts ...[]byte) string {
		path := filepath.Join(folder, name)
		var text []byte
		for _, p := range parts {
			text = append(text, p...)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server := &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}, MinVersion: tls.VersionTLS12}
	mutual := server.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
	known := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", secret), kfake.Superuser("SCRAM-SHA-256", "ada", secret), kfake.Superuser("SCRAM-SHA-512", "ada", secret)}
	trusting := &tls.Config{RootCAs: a.Pool()}
	properties := func(names ...string) []troupe.Option {
		m := make(map[string]string)
		for i := 0; i < len(names); i += 2 {
			m[names[i]] = names[i+1]
		}
		options, err := troupe.Properties(m)
		if err != nil {
			t.Fatal(err)
		}
		return options
	}
	withKey := trusting.Clone()
	withKey.Certificates = []tls.Certificate{a.Certificate("reader")}
	reader := kgo.SASL(plain.Auth{User: "ada", Pass: secret}.AsMechanism())
	for name, c := range map[string]struct {
		cluster  []kfake.Opt
		producer []troupe.Option
		consumer []kgo.Opt
	}{
		"tls":     {[]kfake.Opt{kfake.TLS(server)}, []troupe.Option{troupe.WithTLS(trusting)}, []kgo.Opt{kgo.DialTLSConfig(trusting)}},
		"mutual":  {[]kfake.Opt{kfake.TLS(mutual)}, []troupe.Option{troupe.WithTLS(withKey)}, []kgo.Opt{kgo.DialTLSConfig(withKey)}},
		"plain":   {known, []troupe.Option{troupe.WithSASL(sasl.Plain("ada", secret))}, []kgo.Opt{reader}},
		"scram":   {known, []troupe.Option{troupe.WithSASL(sasl.Scram256("ada", secret))}, []kgo.Opt{reader}},
		"both":    {append(known, kfake.TLS(server)), []troupe.Option{troupe.WithSASL(sasl.Scram512("ada", secret)), troupe.WithTLS(trusting)}, []kgo.Opt{reader, kgo.DialTLSConfig(trusting)}},
		"rotates": {known, []troupe.Option{troupe.WithSASL(sasl.PlainFunc(func(context.Context) (string, string, error) { return "ada", secret, nil }))}, []kgo.Opt{reader}},
		"by properties": {append(known, kfake.TLS(mutual)), properties(
			"security.protocol", "SASL_SSL", "sasl.mechanism", "SCRAM-SHA-256",
			"sasl.jaas.config", fmt.Sprintf(`org.apache.kafka.common.security.scram.ScramLoginModule required username="ada" password="%s";`, secret),
			"ssl.truststore.type", "PEM", "ssl.truststore.location", file("ca.pem", a.PEM()),
			"ssl.keystore.type", "PEM", "ssl.keystore.location", file("client.pem", key, chain),
		), []kgo.Opt{reader, kgo.DialTLSConfig(withKey)}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := startCluster(t, 2, map[string]int32{"t": 3}, c.cluster...)
			p := newProducer(t, cluster, c.producer...)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			const records = 300
			send := troupe.Send{Topic: "t"}
			for i := range records {
				send.Messages = append(send.Messages, troupe.Message{Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
			}
			if _, err := p.Send(ctx, send); err != nil {
				t.Fatal(err)
			}
			readBack(t, cluster, records, c.consumer...)
		})
	}
}

// TestSessions: brokers that end a session after a moment, TLS or not. Connections are
// replaced under load, and every record is there once and in order.
func TestSessions(t *testing.T) {
	a := certtest.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}, MinVersion: tls.VersionTLS12}
	cluster := startCluster(t, 2, map[string]int32{"t": 4}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", secret), kfake.TLS(server),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "300"}))
	var logins atomic.Int64
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		logins.Add(1)
		return nil, nil, false
	})
	p := newProducer(t, cluster, troupe.WithTLS(&tls.Config{RootCAs: a.Pool()}), troupe.WithSASL(sasl.Plain("ada", secret)), troupe.WithLinger(0))
	want, failed := make([]int, 4), make(chan error, 1)
	sent := 0
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(time.Millisecond) {
		for partition := range want {
			r := troupe.Record{Topic: "t", Partition: troupe.AtPartition(int32(partition)), Value: fmt.Append(nil, want[partition])}
			err := p.Produce(context.Background(), r, func(d troupe.Delivery) {
				if d.Err != nil {
					select {
					case failed <- d.Err:
					default:
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			want[partition]++
			sent++
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if n := logins.Load(); n < 8 {
		t.Errorf("%d logins at two brokers in two seconds of sessions of 300 ms", n)
	}
	for partition, values := range readBack(t, cluster, sent, kgo.SASL(plain.Auth{User: "ada", Pass: secret}.AsMechanism()), kgo.DialTLSConfig(&tls.Config{RootCAs: a.Pool()})) {
		for i, v := range values {
			if v != fmt.Sprint(i) {
				t.Fatalf("partition %d has %q at %d", partition, v, i)
			}
		}
	}
}

// TestRefusedAtTheDoor: wrong credentials and certificates are said at once, not after
// the wait for a topic; and when the other side has mended it, records go out.
func TestRefusedAtTheDoor(t *testing.T) {
	a, other := certtest.New(t), certtest.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{a.Certificate("localhost", "127.0.0.1")}, MinVersion: tls.VersionTLS12}
	send := func(p *troupe.Producer, within time.Duration) error {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: []troupe.Message{{Value: []byte("v")}}})
		return err
	}
	t.Run("password", func(t *testing.T) {
		cluster := startCluster(t, 3, map[string]int32{"t": 1}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", secret))
		var mended atomic.Bool
		cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if mended.Load() {
				return nil, nil, false
			}
			a := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			a.ErrorCode, a.ErrorMessage = int16(protocol.SaslAuthenticationFailed), kmsg.StringPtr("invalid username or password")
			return a, nil, true
		})
		p := newProducer(t, cluster, troupe.WithSASL(sasl.Plain("ada", secret)))
		err := send(p, 10*time.Second)
		if !errors.Is(err, troupe.ErrAuthentication) || !errors.Is(err, protocol.SaslAuthenticationFailed) || !strings.Contains(err.Error(), "invalid username or password") || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
		mended.Store(true)
		for deadline := time.Now().Add(10 * time.Second); ; {
			err := send(p, 10*time.Second)
			if err == nil {
				break
			}
			if !errors.Is(err, troupe.ErrAuthentication) || time.Now().After(deadline) {
				t.Fatalf("after the password was right: %v", err)
			}
		}
	})
	t.Run("token", func(t *testing.T) { // nobody has refused: whoever gives them out is away for a moment
		cluster := startCluster(t, 3, map[string]int32{"t": 1}, kfake.EnableSASL(), kfake.Superuser("PLAIN", "ada", secret))
		began := time.Now()
		p := newProducer(t, cluster, troupe.WithSASL(sasl.PlainFunc(func(context.Context) (string, string, error) {
			if time.Since(began) < 700*time.Millisecond {
				return "", "", errors.New("503")
			}
			return "ada", secret, nil
		})))
		if err := send(p, 10*time.Second); err != nil {
			t.Errorf("%v", err)
		}
	})
	t.Run("Connect", func(t *testing.T) {
		cluster := startCluster(t, 1, nil, kfake.TLS(server))
		p := newProducer(t, cluster, troupe.WithTLS(&tls.Config{RootCAs: other.Pool()}))
		soon, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := p.Connect(soon); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, troupe.ErrAuthentication) {
			t.Errorf("%v", err)
		}
		late, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Connect(late); errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, troupe.ErrAuthentication) {
			t.Errorf("%v", err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		cluster := startCluster(t, 3, map[string]int32{"t": 1}, kfake.TLS(server))
		p := newProducer(t, cluster, troupe.WithTLS(&tls.Config{RootCAs: other.Pool()}))
		if err := send(p, 10*time.Second); !errors.Is(err, troupe.ErrAuthentication) || !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithTLS(&tls.Config{RootCAs: other.Pool()}), troupe.WithConnectionTimeout(300*time.Millisecond), troupe.WithMaxTopicWait(2*time.Second))
		if err := send(p, 10*time.Second); err == nil || !strings.Contains(err.Error(), "TLS handshake") { // kfake waits for the rest of a frame
			t.Errorf("%v", err)
		}
	})
}
