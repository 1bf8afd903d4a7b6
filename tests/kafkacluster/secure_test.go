package kafkacluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// The second user has what a mechanism, a JAAS line, a property file or
// StorageTool could take for its own.
const (
	user, password       = "alice", "alice-secret"
	oddUser, oddPassword = "bob='s user; #1=", `p=,"\'; {ß€𝄞}`
)

// session is how long a connection lives that does not authenticate again. It is
// long enough for franz-go, which does so a second earlier, while Kafka refuses it
// within a second of the last time.
const session = 3 * time.Second

// TestSecureListeners lets franz-go in by every listener and mechanism, and keeps
// it out with a wrong password and without a certificate.
func TestSecureListeners(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			began := time.Now()
			kafka := kafkacluster.Start(t, kafkacluster.Config{
				Version: version,
				Security: &kafkacluster.Security{
					SSLClientAuth:        "required",
					Users:                map[string]string{user: password, oddUser: oddPassword},
					ConnectionsMaxReauth: session,
				},
			})
			t.Logf("started in %v", time.Since(began))
			checkPlaintextStays(t, kafka)
			checkLetIn(t, kafka)
			checkKeptOut(t, kafka)
			checkFiles(t, kafka)
			checkSessions(t, kafka)
		})
	}
}

// way is a way in.
type way struct {
	name     string
	listener string
	options  []kgo.Opt
}

func ways(kafka *kafkacluster.Cluster, user, password string) []way {
	mechanism := kgo.SASL
	clear, encrypted := kafkacluster.SASLPlaintext, kafkacluster.SASLSSL
	tls := kgo.DialTLSConfig(kafka.TLS())
	scramAuth := scram.Auth{User: user, Pass: password}
	return []way{
		{"PLAIN", clear, []kgo.Opt{mechanism(plainAuth(user, password))}},
		{"PLAIN over TLS", encrypted, []kgo.Opt{mechanism(plainAuth(user, password)), tls}},
		{"SCRAM-SHA-256", clear, []kgo.Opt{mechanism(scramAuth.AsSha256Mechanism())}},
		{"SCRAM-SHA-256 over TLS", encrypted, []kgo.Opt{mechanism(scramAuth.AsSha256Mechanism()), tls}},
		{"SCRAM-SHA-512", clear, []kgo.Opt{mechanism(scramAuth.AsSha512Mechanism())}},
		{"SCRAM-SHA-512 over TLS", encrypted, []kgo.Opt{mechanism(scramAuth.AsSha512Mechanism()), tls}},
	}
}

func plainAuth(user, password string) sasl.Mechanism {
	return plain.Auth{User: user, Pass: password}.AsMechanism()
}

// token is the mechanism OAUTHBEARER with a token of some lifetime.
func token(lifetime time.Duration) kgo.Opt {
	return kgo.SASL(oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		return oauth.Auth{Token: kafkacluster.UnsecuredToken(user, lifetime)}, nil
	}))
}

// checkPlaintextStays writes and reads where there is no Security.
func checkPlaintextStays(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	kafka.CreateTopic("open", 1, 1, nil)
	produce(t, kafka.Seeds(), "open", 1, []string{"clear"})
	if got := valuesOf(kafka.ConsumeAll("open", 10*time.Second)); !slices.Equal(got, []string{"clear"}) {
		t.Errorf("consumed %q over the plaintext listeners", got)
	}
}

// checkLetIn produces one record each way and reads it back the same way.
func checkLetIn(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	all := slices.Concat(
		[]way{{"mutual TLS", kafkacluster.SSL, []kgo.Opt{kgo.DialTLSConfig(kafka.MutualTLS())}}},
		ways(kafka, user, password), ways(kafka, oddUser, oddPassword),
		[]way{
			{"OAUTHBEARER", kafkacluster.SASLPlaintext, []kgo.Opt{token(time.Minute)}},
			{"OAUTHBEARER over TLS", kafkacluster.SASLSSL, []kgo.Opt{token(time.Minute), kgo.DialTLSConfig(kafka.TLS())}},
		})
	for number, each := range all {
		topic := "guarded-" + strconv.Itoa(number)
		kafka.CreateTopic(topic, 1, 1, nil)
		seeds := kafka.SeedsOf(each.listener)
		produce(t, seeds, topic, 1, []string{each.name}, each.options...)
		if got := readBack(t, seeds, topic, each.options); got != each.name {
			t.Errorf("%s: read %q", each.name, got)
		}
		if told := toldAddresses(t, seeds, each.options); !slices.Equal(told, seeds) {
			t.Errorf("%s: a client of the listener at %q is told %q", each.name, seeds, told)
		}
	}
}

// readBack reads the first record of a topic.
func readBack(t *testing.T, seeds []string, topic string, options []kgo.Opt) string {
	t.Helper()
	consumer, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	records := consumer.PollFetches(ctx).Records()
	if len(records) != 1 {
		t.Fatalf("read %d records of %s", len(records), topic)
	}
	return string(records[0].Value)
}

// toldAddresses are those in the metadata.
func toldAddresses(t *testing.T, seeds []string, options []kgo.Opt) []string {
	t.Helper()
	asker, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	told, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), asker)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, b := range told.Brokers {
		addresses = append(addresses, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
	}
	slices.Sort(addresses)
	return addresses
}

// checkKeptOut goes each way as somebody who must not, at once, since Kafka lets
// those wait who fail.
func checkKeptOut(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	strangers := kafka.TLS()
	strangers.RootCAs = nil // the system's
	var visits sync.WaitGroup
	defer visits.Wait()
	for _, each := range slices.Concat(ways(kafka, user, oddPassword), ways(kafka, "mallory", password)) {
		visits.Go(func() {
			if err := knock(t, kafka, each); !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("%s with a wrong name or password: %v", each.name, err)
			}
		})
	}
	for _, each := range []way{
		{"no client certificate", kafkacluster.SSL, []kgo.Opt{kgo.DialTLSConfig(kafka.TLS())}},
		{"no TLS", kafkacluster.SSL, nil},
		{"no TLS before SASL", kafkacluster.SASLSSL, []kgo.Opt{kgo.SASL(plainAuth(user, password))}},
		{"no SASL", kafkacluster.SASLPlaintext, nil},
		{"an unknown authority", kafkacluster.SASLSSL, []kgo.Opt{kgo.SASL(plainAuth(user, password)), kgo.DialTLSConfig(strangers)}},
		{"a token out of date", kafkacluster.SASLPlaintext, []kgo.Opt{token(-time.Minute)}},
	} {
		visits.Go(func() {
			if err := knock(t, kafka, each); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want to be refused", each.name, err)
			}
		})
	}
}

// knock says how a client is received.
func knock(t *testing.T, kafka *kafkacluster.Cluster, by way) error {
	t.Helper()
	visitor, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(kafka.SeedsOf(by.listener)...), kgo.RequestRetries(0),
	}, by.options...)...)
	if err != nil {
		return err
	}
	defer visitor.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return visitor.Ping(ctx)
}

// checkSessions authenticates a connection again before its first session ends, and
// then no more: the broker answers on it until the end of the second.
func checkSessions(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	connection, err := net.Dial("tcp4", kafka.SeedsOf(kafkacluster.SASLPlaintext)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	question := kmsg.NewPtrMetadataRequest()
	question.SetVersion(1)
	for range 2 {
		logIn(t, connection)
		time.Sleep(session * 2 / 3)
		if err := roundTrip(connection, question, question.ResponseKind()); err != nil {
			t.Fatalf("within the session: %v", err)
		}
	}
	time.Sleep(session / 2)
	if err := roundTrip(connection, question, question.ResponseKind()); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the session: %v, want a connection that is closed", err)
	}
}

// logIn authenticates a connection, new or not.
func logIn(t *testing.T, connection net.Conn) {
	t.Helper()
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.SetVersion(1)
	handshake.Mechanism = "PLAIN"
	offer := kmsg.NewPtrSASLHandshakeResponse()
	if err := roundTrip(connection, handshake, offer); err != nil || offer.ErrorCode != 0 {
		t.Fatalf("%+v, %v", offer, err)
	}
	login := kmsg.NewPtrSASLAuthenticateRequest()
	login.SetVersion(1)
	login.SASLAuthBytes = []byte("\x00" + user + "\x00" + password)
	answer := kmsg.NewPtrSASLAuthenticateResponse()
	if err := roundTrip(connection, login, answer); err != nil || answer.ErrorCode != 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if got := time.Duration(answer.SessionLifetimeMillis) * time.Millisecond; got != session {
		t.Errorf("the session lasts %v, want %v", got, session)
	}
}

// roundTrip sends a request of a version before the flexible ones.
func roundTrip(connection net.Conn, request kmsg.Request, into kmsg.Response) error {
	into.SetVersion(request.GetVersion())
	if _, err := connection.Write(kmsg.NewRequestFormatter().AppendRequest(nil, request, 0)); err != nil {
		return err
	}
	var size uint32
	if err := binary.Read(connection, binary.BigEndian, &size); err != nil {
		return err
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(connection, answer); err != nil {
		return err
	}
	return into.ReadFrom(answer[4:]) // behind the correlation id
}

// checkFiles wants keys to be their owner's alone, and PEM that a client can use.
func checkFiles(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(kafka.KeystoreFile()), "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("files %q, %v, want three", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode() != fs.FileMode(0o600) {
			t.Errorf("%s: %v, %v, want a file of mode 0600", file, info.Mode(), err)
		}
	}
	for file, blocks := range map[string][]string{
		kafka.TruststoreFile(): {"CERTIFICATE"},
		kafka.KeystoreFile():   {"PRIVATE KEY", "CERTIFICATE"},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks {
			if !bytes.Contains(text, []byte("-----BEGIN "+block+"-----")) {
				t.Errorf("%s has no %s", file, block)
			}
		}
	}
}

func TestSecurityIsChecked(t *testing.T) {
	type security = kafkacluster.Security
	for want, cfg := range map[string]kafkacluster.Config{
		"SSLClientAuth":        {Security: &security{SSLClientAuth: "maybe"}},
		"ConnectionsMaxReauth": {Security: &security{ConnectionsMaxReauth: time.Microsecond}},
		"a,b":                  {Security: &security{Users: map[string]string{"a,b": "c"}}},
		"password":             {Security: &security{Users: map[string]string{"a": ""}}},
		"Listeners":            {Security: &security{}, Listeners: []string{"SSL"}},
	} {
		if _, err := kafkacluster.Launch(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error about %s", cfg, err, want)
		}
	}
}
