package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// Settings is what a run of the campaign draws besides its faults: the options
// of the producer, small enough for the limits to matter, and the cluster.
type Settings struct {
	Span            Duration        `json:"span"` // the time over which records are produced
	DeliveryTimeout Duration        `json:"delivery_timeout"`
	TopicWait       Duration        `json:"topic_wait"`
	RequestTimeout  Duration        `json:"request_timeout"`
	BatchMaxBytes   int             `json:"batch_max_bytes"`
	RequestMaxBytes int             `json:"request_max_bytes"`
	Linger          Duration        `json:"linger"`
	MaxInFlight     int             `json:"max_in_flight"`
	BufferBytes     int             `json:"buffer_bytes"`
	PaceBytes       int             `json:"pace_bytes"`
	StickyBytes     int             `json:"sticky_bytes"`
	SlowRequest     Duration        `json:"slow_request"`
	ConnectionIdle  Duration        `json:"connection_idle"`
	MetadataIdle    Duration        `json:"metadata_idle"`
	MetadataMaxAge  Duration        `json:"metadata_max_age"`
	Compression     string          `json:"compression"`
	Numbered        bool            `json:"numbered"` // acks all and idempotent; else acks 1
	TopicCreatedAt  Duration        `json:"topic_created_at"`
	Cluster         ClusterSettings `json:"cluster"`
	// Compacted topics refuse records without a key; ResendInnocent says what then
	// becomes of the others of the batch.
	Compacted      bool `json:"compacted,omitempty"`
	ResendInnocent bool `json:"resend_innocent,omitempty"`
	// MetadataHedge is how long a broker may let a refresh wait; 0: the default.
	MetadataHedge Duration `json:"metadata_hedge,omitempty"`
	// MetadataMinAge is the least time between two refreshes, RetryTime the first
	// wait before another try, RetryTimeMax the longest; 0: the defaults.
	MetadataMinAge Duration `json:"metadata_min_age,omitempty"`
	RetryTime      Duration `json:"retry_time,omitempty"`
	RetryTimeMax   Duration `json:"retry_time_max,omitempty"`
	// Retries is how often anything is tried again; 0: without a limit.
	Retries int `json:"retries,omitempty"`
	// CallbacksAtOnce is how many partitions' callbacks run at once; 0: any number.
	CallbacksAtOnce int `json:"callbacks_at_once,omitempty"`
	// Abrupt is when the producer is ended in the middle of it all; 0: it is not.
	Abrupt Duration `json:"abrupt,omitempty"`
	// Close is how it is ended: stop, poison or now.
	Close string `json:"close"`
	Load  *Load  `json:"load,omitempty"`
}

// fewRetries is less than what it may take to find out what has become of a
// partition: that its leader is another, and has forgotten the producer.
const fewRetries = 1

// one draws one of several.
func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// longFrom is how many records a run has at the most that is not a long one.
const longFrom = 300

// drawSettings draws the settings of a run of so many records.
func drawSettings(r *rand.Rand, records int) Settings {
	longest := 3
	if records > longFrom {
		longest = 14
	}
	s := Settings{
		Span:            Duration(time.Second + between(r, 0, time.Duration(longest)*time.Second)),
		DeliveryTimeout: Duration(one(r, 7*time.Second, 20*time.Second, 2*time.Minute)),
		TopicWait:       Duration(one(r, 500*time.Millisecond, 30*time.Second, 30*time.Second, 30*time.Second, 30*time.Second, 30*time.Second)),
		RequestTimeout:  Duration(time.Duration(1+r.IntN(4)) * time.Second),
		BatchMaxBytes:   one(r, 300, 2000, 8000, 100_000),
		RequestMaxBytes: one(r, 2000, 20_000, 1<<20),
		Linger:          Duration(one(r, 0, 5*time.Millisecond, 100*time.Millisecond)),
		MaxInFlight:     one(r, 1, 2, 5),
		BufferBytes:     one(r, 1<<20, 4<<20),
		PaceBytes:       one(r, 0, 128<<10, 8<<20),
		StickyBytes:     one(r, 1000, 256<<10),
		SlowRequest:     Duration(one(r, 100*time.Millisecond, 2*time.Second)),
		ConnectionIdle:  Duration(one(r, time.Second, 9*time.Minute)),
		MetadataIdle:    Duration(one(r, time.Second, 5*time.Minute, 5*time.Minute, 5*time.Minute)),
		MetadataMaxAge:  Duration(one(r, time.Second, 5*time.Second, 5*time.Minute, 5*time.Minute)),
		Compression:     one(r, codecs.None, codecs.None, codecs.Snappy, codecs.LZ4).String(),
		Numbered:        r.IntN(6) > 0,
		Close:           one(r, "stop", "poison", "now"),
	}
	if r.IntN(2) == 0 {
		// The topic may be younger than the producer.
		s.TopicCreatedAt = Duration(between(r, 0, 2*time.Second))
	}
	if r.IntN(10) == 0 {
		s.Abrupt = Duration(1 + r.Int64N(int64(s.Span)))
	}
	s.Cluster = drawCluster(r)
	s.Compacted, s.ResendInnocent = r.IntN(8) == 0, r.IntN(2) == 0
	s.Cluster.MinInSync = one(r, 0, 0, 1, 3)
	s.Cluster.FetchEvery = Duration(one(r, 0, 5*time.Millisecond, 60*time.Millisecond))
	s.Cluster.ReplicaLagMax = Duration(one(r, 0, 300*time.Millisecond, 3*time.Second))
	s.Cluster.SegmentBytes = one(r, 0, 0, 300_000)
	s.Cluster.ProducerIDLatency = Duration(one(r, 0, 0, 200*time.Millisecond))
	s.Cluster.AutoCreate = r.IntN(8) == 0
	s.Cluster.Kafka3 = r.IntN(3) == 0
	s.MetadataHedge = Duration(one(r, 20*time.Millisecond, 500*time.Millisecond, 2*time.Second))
	return s
}

// drawPaces draws how often the runtime looks and tries again, and how many turns
// brokers take.
func (s *Settings) drawPaces(r *rand.Rand) {
	if r.IntN(20) == 0 { // else the defaults, which is what most users have
		s.MetadataMinAge = Duration(one(r, 0, 300*time.Millisecond, time.Second))
		s.RetryTime = Duration(one(r, 20*time.Millisecond, 300*time.Millisecond, time.Second))
		s.RetryTimeMax = Duration(one(r, time.Second, 3*time.Second))
		s.Retries = one(r, 0, 0, fewRetries, 5)
	}
	s.CallbacksAtOnce = r.IntN(3)
	if r.IntN(6) == 0 {
		s.Cluster.SASL = &SASLSettings{Session: Duration(one(r, 0, 300*time.Millisecond, 2*time.Second))}
	}
	s.Cluster.ServeAtOnce, s.Cluster.Brisk = Duration(one(r, 0, time.Millisecond, time.Millisecond)), r.IntN(4) > 0
}

// drawCluster draws the ages of three brokers: most often the same.
func drawCluster(r *rand.Rand) ClusterSettings {
	age := func() BrokerSettings {
		b := BrokerSettings{Produce: newestProduce, Metadata: newestMetadata}
		if r.IntN(2) == 0 {
			b.Produce = int16(3 + r.IntN(newestProduce-3+1))
			b.Metadata = int16(min(4+r.IntN(newestMetadata-4+1), newestMetadata))
		}
		b.Ancient = r.IntN(8) == 0
		return b
	}
	c := ClusterSettings{Brokers: []BrokerSettings{age()}}
	mixed := r.IntN(4) == 0
	for range brokerCount - 1 {
		b := c.Brokers[0]
		if mixed {
			b = age()
		}
		c.Brokers = append(c.Brokers, b)
	}
	for range partitionCount {
		c.Epochs = append(c.Epochs, int32(r.IntN(4)))
	}
	return c
}

// options are the producer's.
func (s *Settings) options() []troupe.Option {
	compression := codecs.None
	for _, id := range []codecs.ID{codecs.Snappy, codecs.LZ4, codecs.Gzip, codecs.Zstd} {
		if id.String() == s.Compression {
			compression = id
		}
	}
	options := []troupe.Option{
		troupe.WithRequestTimeout(time.Duration(s.RequestTimeout)), troupe.WithDeliveryTimeout(time.Duration(s.DeliveryTimeout)),
		troupe.WithMaxTopicWait(time.Duration(s.TopicWait)), troupe.WithBatchMaxBytes(s.BatchMaxBytes),
		troupe.WithRequestMaxBytes(s.RequestMaxBytes), troupe.WithLinger(time.Duration(s.Linger)), troupe.WithMaxInFlight(s.MaxInFlight),
		troupe.WithBufferBytes(s.BufferBytes), troupe.WithRecordMaxBytes(64 << 10), troupe.WithPaceBytes(s.PaceBytes),
		troupe.WithStickyBytes(s.StickyBytes), troupe.WithSlowRequest(time.Duration(s.SlowRequest)),
		troupe.WithConnectionIdle(time.Duration(s.ConnectionIdle)), troupe.WithMetadataIdle(time.Duration(s.MetadataIdle)),
		troupe.WithMetadataMaxAge(time.Duration(s.MetadataMaxAge)), troupe.WithCompression(compression),
	}
	if s.MetadataHedge > 0 {
		options = append(options, troupe.WithMetadataHedge(time.Duration(s.MetadataHedge)))
	}
	if s.MetadataMinAge > 0 {
		options = append(options, troupe.WithMetadataMinAge(time.Duration(s.MetadataMinAge)))
	}
	if s.RetryTime > 0 {
		retry := troupe.DefaultRetryPolicy()
		retry.InitialRetryTime, retry.MaxRetryTime = time.Duration(s.RetryTime), time.Duration(s.RetryTimeMax)
		if s.Retries > 0 {
			retry.Retries = s.Retries
		}
		options = append(options, troupe.WithRetry(retry))
	}
	if s.ResendInnocent {
		options = append(options, troupe.WithResendInnocent(true))
	}
	if s.Cluster.SASL != nil {
		options = append(options, troupe.WithSASL(password{}))
	}
	if !s.Numbered {
		options = append(options, troupe.WithAcks(s.acks()), troupe.WithIdempotence(false))
	}
	return options
}
