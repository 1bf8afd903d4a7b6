package troupe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// Option configures a producer. Options are applied in order; the combination is
// checked once, by New.
type Option func(*config) error

// config is the settings under construction, and which of them the user named:
// some rules depend on that.
type config struct {
	messages.Settings
	named map[string]bool

	codecOptions     []codecs.Option
	partitioner      partitioners.Factory
	dial             seams.DialFunc
	tls              *tls.Config
	security         securityProperties
	responseMaxBytes int
	maxBlock         time.Duration
	seams            *Seams
}

func defaults() *config {
	return &config{
		named:            make(map[string]bool),
		responseMaxBytes: DefaultResponseMaxBytes, maxBlock: DefaultMaxBlock,
		Settings: messages.Settings{
			ClientID: "troupe", Software: "troupe", SoftwareVer: Version,
			Acks: messages.AcksAll, Idempotent: true, Compression: codecs.None,
			Linger: DefaultLinger, BatchMaxBytes: DefaultBatchMaxBytes, RecordMaxBytes: DefaultRecordMaxBytes,
			RequestMaxBytes: DefaultRequestMaxBytes, BufferBytes: DefaultBufferBytes, PaceBytes: DefaultPaceBytes,
			MaxInFlight: DefaultMaxInFlight, UnnumberedInFlight: 1,
			DeliveryTimeout: DefaultDeliveryTimeout, RequestTimeout: DefaultRequestTimeout, RequestTimeoutSlack: RequestTimeoutSlack,
			ConnectionTimeout: DefaultConnectionTimeout, ConnectionIdle: DefaultConnectionIdle, SlowRequest: DefaultSlowRequest,
			MetadataMaxAge: DefaultMetadataMaxAge, MetadataMinAge: DefaultMetadataMinAge, MetadataHedge: DefaultMetadataHedge,
			MetadataIdle: DefaultMetadataIdle, MaxTopicWait: DefaultMaxTopicWait, AllowAutoTopicCreate: true, StickyBytes: DefaultStickyBytes,
			MaxTopicPartitions: MaxTopicPartitions, LeaderPercent: LeaderPercent, ParkedPercent: ParkedPercent, ParkedTopicPercent: ParkedTopicPercent,
			Retry: messages.DefaultRetryPolicy(), Log: defaultLog(),
		},
	}
}

func refuse(option, format string, args ...any) error {
	return &ConfigError{Option: option, Reason: fmt.Sprintf(format, args...)}
}

// WithBrokers names the brokers to begin with, each as host:port
// (bootstrap.servers). Duplicates are ignored.
func WithBrokers(addresses ...string) Option {
	return func(c *config) error {
		for _, a := range addresses {
			a = strings.TrimSpace(a)
			host, port, err := net.SplitHostPort(a)
			if err != nil || host == "" {
				return refuse("bootstrap.servers", "%q is not host:port", a)
			}
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				return refuse("bootstrap.servers", "%q has no port from 1 to 65535", a)
			}
			if !contains(c.Seeds, a) {
				c.Seeds = append(c.Seeds, a)
			}
		}
		return nil
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// WithClientID sets the name that brokers see, for quotas and logs (client.id).
func WithClientID(id string) Option {
	return set("client.id", func(c *config) { c.ClientID = id })
}

// WithName names the producer's actors; it must be unique in its actor system.
func WithName(name string) Option {
	return func(c *config) error {
		if name == "" || strings.ContainsAny(name, " \t\n") {
			return refuse("WithName", "%q is not a name for an actor", name)
		}
		c.Name = "troupe/" + name
		return nil
	}
}

// WithAcks sets how many replicas must have a record (acks). The default is all.
func WithAcks(a Acks) Option {
	return func(c *config) error {
		if a < AcksAll || a > AcksNone {
			return refuse("acks", "unknown value %d", a)
		}
		c.named["acks"] = true
		c.Acks = a
		return nil
	}
}

// WithIdempotence turns numbering on or off (enable.idempotence). It is on by
// default. Asked for explicitly, it forbids acks other than all; on by default
// only, sends with other acks simply go unnumbered.
func WithIdempotence(on bool) Option {
	return set("enable.idempotence", func(c *config) { c.Idempotent = on })
}

// WithCompression sets the codec of every send that names none
// (compression.type).
func WithCompression(id codecs.ID) Option {
	return set("compression.type", func(c *config) { c.Compression = id })
}

// WithCompressionLevel sets a codec's level (compression.<codec>.level).
func WithCompressionLevel(id codecs.ID, level int) Option {
	return set("compression."+id.String()+".level", func(c *config) {
		c.codecOptions = append(c.codecOptions, codecs.WithLevel(id, level))
	})
}

// WithCodec replaces the implementation of a codec id. Brokers know the ids 1 to
// 4 and no others, so what it produces must be in the format of that id.
func WithCodec(id codecs.ID, codec codecs.Codec) Option {
	return set("WithCodec", func(c *config) {
		c.codecOptions = append(c.codecOptions, codecs.WithCodec(id, codec))
	})
}

// WithPartitioner sets how partitions are chosen (partitioner.class). The
// default is partitioners.Default.
func WithPartitioner(f partitioners.Factory) Option {
	return set("partitioner.class", func(c *config) { c.partitioner = f })
}

// WithLinger sets how long a batch that is not full waits (linger.ms).
func WithLinger(d time.Duration) Option {
	return atLeast("linger.ms", d, 0, func(c *config) { c.Linger = d })
}

// WithBatchMaxBytes bounds a batch before compression (batch.size).
func WithBatchMaxBytes(n int) Option {
	return between("batch.size", n, 1, 512<<20, func(c *config) { c.BatchMaxBytes = n })
}

// WithRecordMaxBytes bounds one encoded record (max.request.size).
func WithRecordMaxBytes(n int) Option {
	return between("max.request.size", n, 1, 512<<20, func(c *config) { c.RecordMaxBytes = n })
}

// WithRequestMaxBytes bounds one Produce request (request.max.bytes).
func WithRequestMaxBytes(n int) Option {
	return between("request.max.bytes", n, 1, 1<<30, func(c *config) { c.RequestMaxBytes = n })
}

// WithResponseMaxBytes bounds one answer (receive.message.max.bytes).
func WithResponseMaxBytes(n int) Option {
	return between("receive.message.max.bytes", n, 1<<10, 1<<30, func(c *config) { c.responseMaxBytes = n })
}

// WithBufferBytes bounds everything admitted and unanswered (buffer.memory).
func WithBufferBytes(n int) Option {
	return between("buffer.memory", n, 1<<20, 1<<40, func(c *config) { c.BufferBytes = n })
}

// WithPaceBytes is how much the partitions of one leader hold while it keeps up
// (buffer.pace.bytes); 0 turns the pace off.
func WithPaceBytes(n int) Option {
	return between("buffer.pace.bytes", n, 0, 1<<40, func(c *config) { c.PaceBytes = n })
}

// WithMaxInFlight bounds the requests in flight to one broker, and the batches
// of one numbered partition (max.in.flight.requests.per.connection).
func WithMaxInFlight(n int) Option {
	return between("max.in.flight.requests.per.connection", n, 1, 1000, func(c *config) { c.MaxInFlight = n })
}

// WithUnnumberedInFlight allows more than one batch of an unnumbered partition
// in flight (unnumbered.in.flight). Order may then break on a retry.
func WithUnnumberedInFlight(n int) Option {
	return between("unnumbered.in.flight", n, 1, 1000, func(c *config) { c.UnnumberedInFlight = n })
}

// WithDeliveryTimeout bounds the time from admission to outcome
// (delivery.timeout.ms).
func WithDeliveryTimeout(d time.Duration) Option {
	return atLeast("delivery.timeout.ms", d, time.Millisecond, func(c *config) { c.DeliveryTimeout = d })
}

// WithRequestTimeout is how long a broker may wait for its replicas
// (request.timeout.ms); the client waits RequestTimeoutSlack longer.
func WithRequestTimeout(d time.Duration) Option {
	return atLeast("request.timeout.ms", d, time.Millisecond, func(c *config) { c.RequestTimeout = d })
}

// WithMaxBlock bounds the wait for room when the context has no deadline
// (max.block.ms).
func WithMaxBlock(d time.Duration) Option {
	return atLeast("max.block.ms", d, 0, func(c *config) { c.maxBlock = d })
}

// WithConnectionTimeout bounds one attempt to connect, with the broker's answer
// to ApiVersions (socket.connection.setup.timeout.ms).
func WithConnectionTimeout(d time.Duration) Option {
	return atLeast("socket.connection.setup.timeout.ms", d, time.Millisecond, func(c *config) { c.ConnectionTimeout = d })
}

// WithConnectionIdle closes connections that nobody used
// (connections.max.idle.ms).
func WithConnectionIdle(d time.Duration) Option {
	return atLeast("connections.max.idle.ms", d, time.Second, func(c *config) { c.ConnectionIdle = d })
}

// WithSlowRequest is how long a request may be open before its partitions travel
// on a lane of their own (slow.request.ms).
func WithSlowRequest(d time.Duration) Option {
	return atLeast("slow.request.ms", d, time.Millisecond, func(c *config) { c.SlowRequest = d })
}

// WithMetadataMaxAge forces a refresh (metadata.max.age.ms; KafkaJS
// metadataMaxAge).
func WithMetadataMaxAge(d time.Duration) Option {
	return atLeast("metadata.max.age.ms", d, time.Millisecond, func(c *config) { c.MetadataMaxAge = d })
}

// WithMetadataMinAge is the least time between two refreshes
// (metadata.min.age.ms).
func WithMetadataMinAge(d time.Duration) Option {
	return atLeast("metadata.min.age.ms", d, 0, func(c *config) { c.MetadataMinAge = d })
}

// WithMetadataHedge is how long the broker asked for metadata, or for a producer
// id, may be silent before another is asked as well (metadata.hedge.ms); for
// metadata a third and a fourth are, after twice the time of the one before.
func WithMetadataHedge(d time.Duration) Option {
	return atLeast("metadata.hedge.ms", d, time.Millisecond, func(c *config) { c.MetadataHedge = d })
}

// WithMetadataIdle ends the accumulators of a topic that got no record for so
// long (metadata.max.idle.ms).
func WithMetadataIdle(d time.Duration) Option {
	return atLeast("metadata.max.idle.ms", d, time.Second, func(c *config) { c.MetadataIdle = d })
}

// WithMaxTopicWait is how long records of an unknown topic wait (topic.wait.ms).
func WithMaxTopicWait(d time.Duration) Option {
	return atLeast("topic.wait.ms", d, time.Millisecond, func(c *config) { c.MaxTopicWait = d })
}

// WithAllowAutoTopicCreation lets the cluster create unknown topics, if it does
// so at all (allow.auto.create.topics). On by default, as in KafkaJS.
func WithAllowAutoTopicCreation(on bool) Option {
	return set("allow.auto.create.topics", func(c *config) { c.AllowAutoTopicCreate = on })
}

// WithResendInnocent sends the records of a refused batch again, in order, that
// the broker did not blame (KIP-467), instead of failing them with
// ErrRefusedWithBatch. Off by default: who relies on a batch being all or
// nothing keeps that.
func WithResendInnocent(on bool) Option {
	return set("resend.innocent.records", func(c *config) { c.ResendInnocent = on })
}

// WithStickyBytes is the least that goes to one partition before records without
// a key move on (partitioner.sticky.bytes).
func WithStickyBytes(n int) Option {
	return between("partitioner.sticky.bytes", n, 1, 1<<30, func(c *config) { c.StickyBytes = n })
}

// WithRetry sets the retry policy in the words of the KafkaJS document.
func WithRetry(p RetryPolicy) Option {
	return func(c *config) error {
		if err := p.Validate(); err != nil {
			return refuse("retry", "%v", err)
		}
		c.named["retries"] = true
		c.Retry = p
		return nil
	}
}

// WithLogger sends the runtime's log, and protoactor's, to log. By default only
// warnings are written, to standard error.
func WithLogger(log zerolog.Logger) Option {
	return set("WithLogger", func(c *config) { c.Log = log })
}

// WithDialer sets how network connections are opened.
func WithDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return set("WithDialer", func(c *config) { c.dial = dial })
}

// Seams replace the world around the runtime, for simulations. A nil field takes
// the real one.
type Seams struct {
	Clock     seams.Clock
	Transport seams.Transport
	Executor  seams.Executor // runs one codec at a time
	// CallbacksAtOnce is how many partitions' callbacks run at once before any of them
	// is late by Clock; 0: as CallbacksPerProcessor says, or all where Clock or Executor
	// is given.
	CallbacksAtOnce int
	Parking         seams.Parking
	Randomness      seams.Randomness
	Dispatcher      interface {
		Schedule(fn func())
		Throughput() int
	}
	Tracer seams.Tracer
	// StickyShards of 1 makes the choice of partitions independent of where
	// goroutines' stacks are.
	StickyShards int
}

// WithSeams replaces the world around the runtime.
func WithSeams(s Seams) Option {
	return set("WithSeams", func(c *config) { c.seams = &s })
}

func set(name string, apply func(*config)) Option {
	return func(c *config) error {
		c.named[name] = true
		apply(c)
		return nil
	}
}

func atLeast(name string, d, least time.Duration, apply func(*config)) Option {
	return func(c *config) error {
		if d < least {
			return refuse(name, "%v is below %v", d, least)
		}
		return set(name, apply)(c)
	}
}

func between(name string, n, least, most int, apply func(*config)) Option {
	return func(c *config) error {
		if n < least || n > most {
			return refuse(name, "%d is not from %d to %d", n, least, most)
		}
		return set(name, apply)(c)
	}
}

// validate checks the combination, and settles what follows from it.
func (c *config) validate() error {
	if len(c.Seeds) == 0 {
		return refuse("bootstrap.servers", "expected brokers and got none")
	}
	if c.Idempotent {
		explicit := c.named["enable.idempotence"]
		switch {
		case c.Acks != AcksAll && explicit:
			return refuse("acks", "not requiring acknowledgement by all replicas invalidates the idempotent producer's guarantees; use acks=all or turn idempotence off")
		case c.Retry.Retries == 0 && explicit:
			return refuse("retries", "an idempotent producer must allow retries to protect against transient errors")
		case c.MaxInFlight > 5:
			return refuse("max.in.flight.requests.per.connection", "%d is more than the 5 batches that a broker remembers of an idempotent producer (KAFKA-17927)", c.MaxInFlight)
		case c.Acks != AcksAll || c.Retry.Retries == 0:
			c.Idempotent = false
		}
	}
	if least := c.Linger + c.RequestTimeout; c.DeliveryTimeout < least {
		if c.named["delivery.timeout.ms"] {
			return refuse("delivery.timeout.ms", "%v is below linger.ms + request.timeout.ms = %v", c.DeliveryTimeout, least)
		}
		c.DeliveryTimeout = least
	}
	if c.RecordMaxBytes > c.BufferBytes/2 {
		return refuse("max.request.size", "a record of %d bytes needs a buffer.memory of at least twice that, which is %d", c.RecordMaxBytes, c.BufferBytes)
	}
	if c.MetadataMinAge > c.MetadataMaxAge {
		return refuse("metadata.min.age.ms", "%v is above metadata.max.age.ms = %v", c.MetadataMinAge, c.MetadataMaxAge)
	}
	if err := c.resolveSecurity(); err != nil {
		return err
	}
	return c.buildCodecs()
}

func (c *config) buildCodecs() error {
	registry, err := codecs.NewRegistry(c.codecOptions...)
	if err != nil {
		return refuse("compression", "%v", err)
	}
	c.Codecs = registry
	if c.Compression != codecs.None {
		if _, err := registry.Lookup(c.Compression); err != nil {
			return refuse("compression.type", "%v", err)
		}
	}
	return nil
}
