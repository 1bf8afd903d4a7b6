package messages

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/seams"
)

// Settings configure every actor. They are checked by the options of the root
// package and never change afterwards.
type Settings struct {
	Name        string
	Seeds       []string
	ClientID    string
	Software    string
	SoftwareVer string

	Acks        Acks
	Idempotent  bool
	Compression codecs.ID
	Codecs      *codecs.Registry

	Linger          time.Duration
	BatchMaxBytes   int
	RecordMaxBytes  int
	RequestMaxBytes int
	BufferBytes     int
	PaceBytes       int // held per leader while it keeps up

	MaxInFlight          int // requests per broker, and batches per numbered partition
	UnnumberedInFlight   int // batches per unnumbered partition
	DeliveryTimeout      time.Duration
	RequestTimeout       time.Duration
	RequestTimeoutSlack  time.Duration
	MaxBlock             time.Duration
	ConnectionIdle       time.Duration
	SlowRequest          time.Duration
	MetadataMaxAge       time.Duration
	MetadataMinAge       time.Duration
	MetadataIdle         time.Duration
	MaxTopicWait         time.Duration
	MaxTopicPartitions   int // more are not believed
	LeaderPercent        int // of the budget, for the partitions of one leader
	ParkedPercent        int // of the budget, for records of unknown topics
	ParkedTopicPercent   int // of that, for those of one topic
	AllowAutoTopicCreate bool
	StickyBytes          int
	StickyShards         int // 0: as many as the router has; 1 in a simulation
	Retry                RetryPolicy

	Sequences Sequences

	Log zerolog.Logger

	Clock      seams.Clock
	Stamps     *seams.Stamps // of Clock; the supervisor makes them
	Transport  seams.Transport
	Executor   seams.Executor
	Parking    seams.Parking
	Randomness seams.Randomness
	Dispatcher actor.Dispatcher
	Tracer     seams.Tracer
}

// Props returns the properties of one of our actors: our mailbox, the
// dispatcher of the seams.
func (s *Settings) Props(path string, producer actor.Producer, more ...actor.PropsOption) *actor.Props {
	opts := append([]actor.PropsOption{
		actor.WithMailbox(func() actor.Mailbox { return seams.NewMailbox(path, s.Tracer) }),
		actor.WithDispatcher(s.Dispatcher),
	}, more...)
	return actor.PropsFromProducer(producer, opts...)
}
