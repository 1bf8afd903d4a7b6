package kafka_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/internal/certtest"
	"github.com/troupe-kafka/troupe/sasl"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// What of a user's name and password somebody on the way could take for its own.
const (
	user     = "bob='s user; #1="
	password = `p=,"\'; {ß€𝄞}`
)

// plaintext is the listener that is always there.
const plaintext = "PLAINTEXT"

// session is how long brokers let a connection live (connections.max.reauth.ms).
const session = 1500 * time.Millisecond

// TestSecureKafka: every way in, the ends of sessions under load, and who is kept out.
func TestSecureKafka(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			kafka := kafkacluster.Start(t, kafkacluster.Config{
				Version: version,
				Security: &kafkacluster.Security{
					SSLClientAuth: "required", Users: map[string]string{user: password}, ConnectionsMaxReauth: session,
				},
			})
			t.Run("let in", func(t *testing.T) { letIn(t, kafka) })
			t.Run("sessions", func(t *testing.T) { sessionsEnd(t, kafka) })
			t.Run("kept out", func(t *testing.T) { keptOut(t, kafka) })
		})
	}
}

func token(lifetime time.Duration) sasl.Mechanism {
	return sasl.OAuthBearer(func(context.Context) (sasl.Token, error) {
		return sasl.Token{Value: kafkacluster.UnsecuredToken("carol", lifetime)}, nil
	})
}

// through is a producer of one of the cluster's listeners.
func through(t *testing.T, kafka *kafkacluster.Cluster, listener string, options ...troupe.Option) *troupe.Producer {
	t.Helper()
	seeds := kafka.Seeds()
	if listener != plaintext {
		seeds = kafka.SeedsOf(listener)
	}
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	p, err := troupe.New(append(options, troupe.WithBrokers(seeds...), troupe.WithLogger(log))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}

func letIn(t *testing.T, kafka *kafkacluster.Cluster) {
	clear, encrypted := kafkacluster.SASLPlaintext, kafkacluster.SASLSSL
	properties, err := troupe.Properties(map[string]string{
		"security.protocol": "SSL", "ssl.truststore.location": kafka.TruststoreFile(), "ssl.keystore.location": kafka.KeystoreFile(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, way := range []struct {
		listener string
		options  []troupe.Option
	}{
		{kafkacluster.SSL, []troupe.Option{troupe.WithTLS(kafka.MutualTLS())}},
		{kafkacluster.SSL, properties},
		{clear, []troupe.Option{troupe.WithSASL(sasl.Plain(user, password))}},
		{clear, []troupe.Option{troupe.WithSASL(sasl.Scram256(user, password))}},
		{clear, []troupe.Option{troupe.WithSASL(sasl.Scram512(user, password))}},
		{clear, []troupe.Option{troupe.WithSASL(token(time.Minute))}},
		{encrypted, []troupe.Option{troupe.WithTLS(kafka.TLS()), troupe.WithSASL(sasl.Plain(user, password))}},
		{encrypted, []troupe.Option{troupe.WithTLS(kafka.TLS()), troupe.WithSASL(sasl.Scram256(user, password))}},
		{encrypted, []troupe.Option{troupe.WithTLS(kafka.TLS()), troupe.WithSASL(sasl.Scram512(user, password))}},
		{encrypted, []troupe.Option{troupe.WithTLS(kafka.TLS()), troupe.WithSASL(token(time.Minute))}},
	} {
		topic := fmt.Sprint("let-in-", i)
		kafka.CreateTopic(topic, 3, 1, nil)
		send := troupe.Send{Topic: topic}
		for n := range 200 {
			send.Messages = append(send.Messages, troupe.Message{Key: fmt.Append(nil, n), Value: []byte(strings.Repeat("v", 1+n*50))})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := through(t, kafka, way.listener, way.options...).Send(ctx, send); err != nil {
			t.Errorf("way %d: %v", i, err)
		} else if got := len(kafka.ConsumeAll(topic, 20*time.Second)); got != len(send.Messages) {
			t.Errorf("way %d: read %d records of %d", i, got, len(send.Messages))
		}
		cancel()
	}
}

// sessionsEnd several times, some by the brokers' limit and some with their token, while
// records are produced. Each is there once, and in order.
func sessionsEnd(t *testing.T, kafka *kafkacluster.Cluster) {
	for name, mechanism := range map[string]sasl.Mechanism{"limit": sasl.Scram512(user, password), "token": token(time.Second)} {
		topic := "sessions-" + name
		kafka.CreateTopic(topic, 2, 1, nil)
		p := through(t, kafka, kafkacluster.SASLSSL, troupe.WithTLS(kafka.TLS()), troupe.WithSASL(mechanism), troupe.WithLinger(0))
		failed := make(chan error, 1)
		n := 0
		for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(500 * time.Microsecond) {
			for partition := range int32(2) {
				r := troupe.Record{Topic: topic, Partition: troupe.AtPartition(partition), Value: fmt.Append(nil, n)}
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
			}
			n++
		}
		if err := p.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			t.Errorf("%s: %v", name, err)
		default:
		}
		next := make(map[int32]int)
		records := kafka.ConsumeAll(topic, 20*time.Second)
		for _, r := range records {
			if string(r.Value) != fmt.Sprint(next[r.Partition]) {
				t.Fatalf("%s: partition %d has %q, expected %d", name, r.Partition, r.Value, next[r.Partition])
			}
			next[r.Partition]++
		}
		if len(records) != 2*n {
			t.Errorf("%s: read %d records of %d", name, len(records), 2*n)
		}
	}
}

// keptOut is told why, and soon: not when the wait for a topic is over.
func keptOut(t *testing.T, kafka *kafkacluster.Cluster) {
	kafka.CreateTopic("kept-out", 1, 1, nil)
	stranger := &tls.Config{RootCAs: certtest.New(t).Pool(), MinVersion: tls.VersionTLS12}
	for name, c := range map[string]struct {
		listener string
		options  []troupe.Option
		says     string
		sure     bool // ErrAuthentication, at once
	}{
		"password, PLAIN":          {kafkacluster.SASLPlaintext, []troupe.Option{troupe.WithSASL(sasl.Plain(user, "wrong"))}, "SASL_AUTHENTICATION_FAILED", true},
		"password, SCRAM":          {kafkacluster.SASLPlaintext, []troupe.Option{troupe.WithSASL(sasl.Scram256(user, "wrong"))}, "SASL_AUTHENTICATION_FAILED", true},
		"user, SCRAM":              {kafkacluster.SASLPlaintext, []troupe.Option{troupe.WithSASL(sasl.Scram512("nobody", password))}, "SASL_AUTHENTICATION_FAILED", true},
		"token that is over":       {kafkacluster.SASLPlaintext, []troupe.Option{troupe.WithSASL(token(-time.Minute))}, "", true},
		"authority":                {kafkacluster.SSL, []troupe.Option{troupe.WithTLS(stranger)}, "unknown authority", true},
		"no client certificate":    {kafkacluster.SSL, []troupe.Option{troupe.WithTLS(kafka.TLS())}, "certificate", true},
		"SASL where there is none": {plaintext, []troupe.Option{troupe.WithSASL(sasl.Plain(user, password))}, "wants no SASL", true},
		"no TLS":                   {kafkacluster.SSL, nil, "speaks TLS", true},
		"TLS where there is none":  {plaintext, []troupe.Option{troupe.WithTLS(stranger)}, "may speak no TLS", false},
	} {
		t.Run(name, func(t *testing.T) {
			wait := 2 * time.Second // for a topic, where nobody says that it is hopeless
			if c.sure {
				wait = time.Minute
			}
			p := through(t, kafka, c.listener, append(c.options, troupe.WithMaxTopicWait(wait))...)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_, err := p.Send(ctx, troupe.Send{Topic: "kept-out", Messages: []troupe.Message{{Value: []byte("v")}}})
			if err == nil || errors.Is(err, troupe.ErrAuthentication) != c.sure || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Error("the error tells the password")
			}
		})
	}
	if n := len(kafka.ConsumeAll("kept-out", 10*time.Second)); n != 0 {
		t.Errorf("%d records came in", n)
	}
}
