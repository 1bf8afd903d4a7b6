package troupe_test

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/partitioners"
)

var seed = troupe.WithBrokers("127.0.0.1:9092")

// offline keeps a producer that is made here from the network.
func offline() troupe.Option {
	return troupe.WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

// try makes a producer and closes it again.
func try(t *testing.T, options ...troupe.Option) error {
	t.Helper()
	p, err := troupe.New(append([]troupe.Option{offline(), troupe.WithLogger(zerolog.Nop())}, options...)...)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	return err
}

// refused checks that the options are refused under the option's name.
func refused(t *testing.T, option, reason string, options ...troupe.Option) {
	t.Helper()
	err := try(t, options...)
	var c *troupe.ConfigError
	if !errors.As(err, &c) {
		t.Errorf("%s: accepted, or another error: %v", option, err)
		return
	}
	if c.Option != option || !strings.Contains(err.Error(), reason) {
		t.Errorf("refused as %q, expected option %q and reason %q", err, option, reason)
	}
}

func accepted(t *testing.T, what string, options ...troupe.Option) {
	t.Helper()
	if err := try(t, append([]troupe.Option{seed}, options...)...); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func retries(n int) troupe.Option {
	p := troupe.DefaultRetryPolicy()
	p.Retries = n
	return troupe.WithRetry(p)
}

// TestCombinations is row 49 of the list of Java's tests.
func TestCombinations(t *testing.T) {
	t.Run("java 49: idempotence asked for", func(t *testing.T) {
		on := troupe.WithIdempotence(true)
		accepted(t, "alone", on)
		accepted(t, "acks all", on, troupe.WithAcks(troupe.AcksAll))
		accepted(t, "retries", on, retries(1))
		accepted(t, "5 in flight", on, troupe.WithMaxInFlight(5))
		refused(t, "acks", "not requiring acknowledgement by all replicas", seed, on, troupe.WithAcks(troupe.AcksLeader))
		refused(t, "acks", "not requiring acknowledgement by all replicas", seed, troupe.WithAcks(troupe.AcksNone), on)
		refused(t, "retries", "must allow retries", seed, on, retries(0))
		refused(t, "max.in.flight.requests.per.connection", "5 batches that a broker remembers", seed, on, troupe.WithMaxInFlight(6))
	})
	t.Run("java 49: idempotence by default gives way", func(t *testing.T) {
		accepted(t, "acks 1", troupe.WithAcks(troupe.AcksLeader))
		accepted(t, "acks 0", troupe.WithAcks(troupe.AcksNone))
		accepted(t, "no retries", retries(0))
		refused(t, "max.in.flight.requests.per.connection", "KAFKA-17927", seed, troupe.WithMaxInFlight(6))
	})
	t.Run("java 49: idempotence off allows the rest", func(t *testing.T) {
		off := troupe.WithIdempotence(false)
		for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksLeader, troupe.AcksNone} {
			accepted(t, acks.String(), off, troupe.WithAcks(acks), retries(0), troupe.WithMaxInFlight(50))
		}
	})
	t.Run("java 49: delivery.timeout against linger and request.timeout", func(t *testing.T) {
		second := troupe.WithDeliveryTimeout(time.Second)
		refused(t, "delivery.timeout.ms", "below linger.ms + request.timeout.ms", seed, second)
		refused(t, "delivery.timeout.ms", "below linger.ms + request.timeout.ms", seed, second, troupe.WithRequestTimeout(999*time.Millisecond))
		accepted(t, "exactly", second, troupe.WithRequestTimeout(990*time.Millisecond), troupe.WithLinger(10*time.Millisecond))
		accepted(t, "raised when it is the default", troupe.WithRequestTimeout(time.Hour), troupe.WithLinger(time.Hour))
	})
	t.Run("a record needs a buffer of twice its size", func(t *testing.T) {
		refused(t, "max.request.size", "buffer.memory", seed, troupe.WithBufferBytes(1<<20))
		accepted(t, "half", troupe.WithBufferBytes(1<<20), troupe.WithRecordMaxBytes(1<<19))
	})
	t.Run("metadata ages", func(t *testing.T) {
		refused(t, "metadata.min.age.ms", "above metadata.max.age.ms", seed, troupe.WithMetadataMaxAge(50*time.Millisecond))
		accepted(t, "equal", troupe.WithMetadataMaxAge(50*time.Millisecond), troupe.WithMetadataMinAge(50*time.Millisecond))
	})
}

func TestBrokers(t *testing.T) {
	refused(t, "bootstrap.servers", "expected brokers and got none")
	refused(t, "bootstrap.servers", "expected brokers and got none", troupe.WithBrokers())
	for _, bad := range []string{"", "host", "host:", ":9092", "host:0", "host:65536", "host:x", "host:-1", "a:b:c", "http://host:9092/", "host:9092,other:9092"} {
		refused(t, "bootstrap.servers", "", troupe.WithBrokers(bad))
	}
	for _, good := range []string{"host:9092", " host:9092 ", "[::1]:9092", "10.0.0.1:65535"} {
		if err := try(t, troupe.WithBrokers(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if err := try(t, troupe.WithBrokers("a:1", "a:1"), troupe.WithBrokers("a:1")); err != nil {
		t.Errorf("duplicates: %v", err)
	}
}

func TestRanges(t *testing.T) {
	for option, o := range map[string]troupe.Option{
		"linger.ms": troupe.WithLinger(-1), "batch.size": troupe.WithBatchMaxBytes(0), "max.request.size": troupe.WithRecordMaxBytes(-1),
		"request.max.bytes": troupe.WithRequestMaxBytes(0), "receive.message.max.bytes": troupe.WithResponseMaxBytes(10),
		"buffer.memory": troupe.WithBufferBytes(1000), "buffer.pace.bytes": troupe.WithPaceBytes(-1),
		"max.in.flight.requests.per.connection": troupe.WithMaxInFlight(0),
		"unnumbered.in.flight":                  troupe.WithUnnumberedInFlight(0), "delivery.timeout.ms": troupe.WithDeliveryTimeout(0),
		"request.timeout.ms": troupe.WithRequestTimeout(0), "max.block.ms": troupe.WithMaxBlock(-1),
		"socket.connection.setup.timeout.ms": troupe.WithConnectionTimeout(0), "connections.max.idle.ms": troupe.WithConnectionIdle(0),
		"slow.request.ms": troupe.WithSlowRequest(0), "metadata.max.age.ms": troupe.WithMetadataMaxAge(0), "metadata.min.age.ms": troupe.WithMetadataMinAge(-1),
		"metadata.max.idle.ms": troupe.WithMetadataIdle(0), "metadata.hedge.ms": troupe.WithMetadataHedge(0), "topic.wait.ms": troupe.WithMaxTopicWait(0), "partitioner.sticky.bytes": troupe.WithStickyBytes(0),
		"acks": troupe.WithAcks(troupe.AcksDefault), "WithName": troupe.WithName(""),
	} {
		refused(t, option, "", seed, o)
	}
	refused(t, "acks", "unknown value 9", seed, troupe.WithAcks(9))
	refused(t, "WithName", "not a name", seed, troupe.WithName("two words"))
	refused(t, "options", "nil", seed, nil)
	if _, err := troupe.NewIn(nil, seed); err == nil {
		t.Error("a nil actor system is accepted")
	}
}

func TestRetryPolicies(t *testing.T) {
	base := troupe.DefaultRetryPolicy()
	for name, change := range map[string]func(*troupe.RetryPolicy){
		"initialRetryTime":          func(p *troupe.RetryPolicy) { p.InitialRetryTime = 0 },
		"maxRetryTime":              func(p *troupe.RetryPolicy) { p.MaxRetryTime = p.InitialRetryTime - 1 },
		"factor -0.1":               func(p *troupe.RetryPolicy) { p.Factor = -0.1 },
		"factor 1":                  func(p *troupe.RetryPolicy) { p.Factor = 1 },
		"factor NaN":                func(p *troupe.RetryPolicy) { p.Factor = math.NaN() },
		"multiplier 0.5":            func(p *troupe.RetryPolicy) { p.Multiplier = 0.5 },
		"multiplier NaN":            func(p *troupe.RetryPolicy) { p.Multiplier = math.NaN() },
		"multiplier +Inf":           func(p *troupe.RetryPolicy) { p.Multiplier = math.Inf(1) },
		"retries must be −1":        func(p *troupe.RetryPolicy) { p.Retries = -2 },
		"initialRetryTime -1s must": func(p *troupe.RetryPolicy) { p.InitialRetryTime = -time.Second },
	} {
		p := base
		change(&p)
		refused(t, "retry", name[:4], seed, troupe.WithRetry(p))
	}
	// The values of KafkaJS's document.
	accepted(t, "KafkaJS", troupe.WithRetry(troupe.RetryPolicy{MaxRetryTime: 30 * time.Second, InitialRetryTime: 300 * time.Millisecond, Factor: 0.2, Multiplier: 2, Retries: 5}))
}

func TestCompressionOptions(t *testing.T) {
	for id, bad := range map[codecs.ID][]int{codecs.Gzip: {0, 10, -2}, codecs.LZ4: {0, 18}, codecs.Zstd: {23, -131073}} {
		for _, level := range bad {
			refused(t, "compression", "level", seed, troupe.WithCompressionLevel(id, level))
		}
	}
	refused(t, "compression", "snappy has no levels", seed, troupe.WithCompressionLevel(codecs.Snappy, 1))
	refused(t, "compression", "none has no levels", seed, troupe.WithCompressionLevel(codecs.None, 1))
	refused(t, "compression", "", seed, troupe.WithCompressionLevel(9, 1))
	refused(t, "compression", "", seed, troupe.WithCodec(codecs.Gzip, nil))
	refused(t, "compression", "", seed, troupe.WithCodec(codecs.None, nil))
	refused(t, "compression", "", seed, troupe.WithCodec(5, nil))
	refused(t, "compression.type", "", seed, troupe.WithCompression(5))
	refused(t, "compression.type", "", seed, troupe.WithCompression(-1))
	for id, good := range map[codecs.ID][]int{codecs.Gzip: {1, 9, -1}, codecs.LZ4: {1, 17}, codecs.Zstd: {-131072, 22}} {
		for _, level := range good {
			accepted(t, id.String(), troupe.WithCompression(id), troupe.WithCompressionLevel(id, level))
		}
	}
}

func TestPartitionerOptions(t *testing.T) {
	calls := 0
	factory := func(r partitioners.Random) partitioners.Partitioner {
		calls++
		return partitioners.RoundRobin(r)
	}
	accepted(t, "a factory", troupe.WithPartitioner(factory))
	if calls != 1 {
		t.Errorf("the factory was called %d times for one producer", calls)
	}
	accepted(t, "nil is the default", troupe.WithPartitioner(nil))
}

// withProperties makes a producer from properties.
func withProperties(t *testing.T, properties map[string]string) error {
	t.Helper()
	options, err := troupe.Properties(properties)
	if err != nil {
		return err
	}
	return try(t, append([]troupe.Option{seed}, options...)...)
}

func TestPropertiesAccepted(t *testing.T) {
	for _, c := range []map[string]string{
		{},
		{"bootstrap.servers": "a:9092, b:9092,,a:9092", "client.id": "me"},
		{"acks": "all", "enable.idempotence": "true", "retries": "2147483647", "max.in.flight.requests.per.connection": "5"},
		{"acks": "-1"},
		{"acks": "1", "enable.idempotence": "FALSE", "retries": "0"},
		{"acks": "0"},
		{"compression.type": "gzip", "compression.gzip.level": "9"},
		{"compression.type": "snappy"}, {"compression.type": "lz4", "compression.lz4.level": "17"}, {"compression.type": "zstd", "compression.zstd.level": "-5"},
		{"compression.type": "none"},
		{"linger.ms": "0", "batch.size": "16384", "buffer.memory": "33554432", "max.request.size": "1048576", "max.block.ms": "60000"},
		{"delivery.timeout.ms": "120000", "request.timeout.ms": "30000", "retry.backoff.ms": "100", "retry.backoff.max.ms": "1000"},
		{"retry.backoff.max.ms": "5000", "retry.backoff.ms": "2000"},
		{"metadata.max.age.ms": "300000", "metadata.max.idle.ms": "300000", "metadata.hedge.ms": "500", "connections.max.idle.ms": "540000", "socket.connection.setup.timeout.ms": "10000"},
		{"partitioner.class": "round_robin"}, {"partitioner.class": "org.apache.kafka.clients.producer.RoundRobinPartitioner"},
		{"partitioner.class": "legacy"}, {"partitioner.ignore.keys": "true"}, {"partitioner.ignore.keys": "false"},
		{"allow.auto.create.topics": "false", "topic.wait.ms": "1000", "slow.request.ms": "500", "unnumbered.in.flight": "2", "buffer.pace.bytes": "0"},
		{"linger.ms": " 5 "},
	} {
		if err := withProperties(t, c); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestPropertiesRefused(t *testing.T) {
	for _, c := range []struct{ name, value, reason string }{
		{"linger", "5", "known ones like it: linger.ms"},
		{"batch.sizes", "5", "batch.size"},
		{"max.in.flight", "5", "max.in.flight.requests.per.connection"},
		{"transactional.id", "t", "unknown property"},
		{"acks", "2", "not one of all, -1, 0, 1"},
		{"acks", "", "not one of"},
		{"acks", "ALL", "not one of"},
		{"enable.idempotence", "yes", "neither true nor false"},
		{"compression.type", "brotli", "want none, gzip, snappy, lz4 or zstd"},
		{"compression.type", "", "unknown compression codec"},
		{"compression.gzip.level", "high", "not a whole number"},
		{"linger.ms", "-1", "below 0s"},
		{"linger.ms", "5ms", "not a number of milliseconds"},
		{"linger.ms", "1.5", "not a number of milliseconds"},
		{"linger.ms", "9223372036854775807", "not a number of milliseconds"},
		{"batch.size", "lots", "not a whole number"},
		{"buffer.memory", "1", "is not from"},
		{"retries", "-1", "negative"},
		{"retries", "many", ""},
		{"retry.backoff.ms", "0", "initialRetryTime"},
		{"retry.backoff.ms", "1001", "maxRetryTime"},
		{"retry.backoff.max.ms", "99", "maxRetryTime"},
		{"partitioner.class", "mine", "not one of consistent_crc32, default"},
		{"partitioner.ignore.keys", "perhaps", ""},
		{"bootstrap.servers", "nowhere", "not host:port"},
		{"delivery.timeout.ms", "1000", "below linger.ms + request.timeout.ms"},
		{"max.in.flight.requests.per.connection", "6", "KAFKA-17927"},
	} {
		err := withProperties(t, map[string]string{c.name: c.value})
		var refusal *troupe.ConfigError
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s=%s: %v, expected %q", c.name, c.value, err, c.reason)
		}
	}
	if err := withProperties(t, map[string]string{"acks": "1", "enable.idempotence": "true"}); err == nil || !strings.Contains(err.Error(), "acks") {
		t.Error(err)
	}
	if err := withProperties(t, map[string]string{"retries": "0", "enable.idempotence": "true"}); err == nil || !strings.Contains(err.Error(), "retries") {
		t.Error(err)
	}
}

func TestReadProperties(t *testing.T) {
	read := func(text string) error {
		options, err := troupe.ReadProperties(strings.NewReader(text))
		if err != nil {
			return err
		}
		return try(t, options...)
	}
	if err := read(`
# the cluster
bootstrap.servers = a:9092,\
                    b:9092
! how fast
linger.ms: 10
acks=all
client.id=an = in the value
`); err != nil {
		t.Error(err)
	}
	// A continuation that the end of the file cuts off is a line all the same.
	if err := read("bootstrap.servers=a:1\nacks=nonsense\\"); err == nil || !strings.Contains(err.Error(), "acks") {
		t.Errorf("the last line was dropped: %v", err)
	}
	for text, reason := range map[string]string{
		"bootstrap.servers=a:1\nlinger.ms=1\nlinger.ms=2": "given twice, the second time in line 3",
		"acks":                            "line 1",
		"= 5":                             "line 1",
		"bootstrap.servers=a:1\nlinger=5": "linger.ms",
		"bootstrap.servers=a:1\nacks=x":   "acks",
		"# nothing":                       "expected brokers and got none",
		"bootstrap.servers=a:1\n acks = 1\nenable.idempotence=true": "acks",
	} {
		err := read(text)
		var refusal *troupe.ConfigError
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, expected %q", text, err, reason)
		}
	}
}

// TestSendErrorText keeps the text of a large failure short.
func TestSendErrorText(t *testing.T) {
	e := &troupe.SendError{Total: 100}
	for i := range 100 {
		e.Failed = append(e.Failed, &troupe.MessageError{Topic: "t", Index: i, Partition: -1, Err: troupe.ErrClosed})
	}
	if text := e.Error(); !strings.Contains(text, "100 of 100 messages failed") || !strings.Contains(text, "and 95 more") || len(text) > 500 {
		t.Error(text)
	}
	if !errors.Is(e, troupe.ErrClosed) {
		t.Error("the cause cannot be found")
	}
}
