package messages

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/sasl"
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
	ConnectionTimeout    time.Duration // of the dial and the handshake together
	ConnectionIdle       time.Duration
	SlowRequest          time.Duration
	MetadataHedge        time.Duration // of a broker's silence, before another is asked as well
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
	ResendInnocent       bool // records refused only with their batch go out again
	StickyShards         int  // 0: as many as the router has; 1 in a simulation
	Retry                RetryPolicy

	// SASL is how a connection shows who it is; nil: it does not (KIP-43).
	SASL sasl.Mechanism

	// What a producer's actors share beside messages; the supervisor makes them.
	Sequences Sequences
	Troubles  *Troubles
	Counters  *Counters

	Log zerolog.Logger
	// Gate writes to Log what may happen again and again; the supervisor makes it.
	Gate *LogGate

	Clock      seams.Clock
	Stamps     *seams.Stamps // of Clock; the supervisor makes them
	Transport  seams.Transport
	Executor   seams.Executor
	CodecCrew  seams.Executor // runs codecs: a bounded number at a time on Executor
	Callbacks  seams.Executor // runs the users' callbacks, a partition's one after the other
	Parking    seams.Parking
	Randomness seams.Randomness
	Dispatcher actor.Dispatcher
	Tracer     seams.Tracer
}

// NewGate returns the gate in front of Log.
func (s *Settings) NewGate() *LogGate {
	log := s.Log
	return NewLogGate(s.Clock, func(l LogLine) {
		level := zerolog.WarnLevel
		switch l.Kind {
		case LogUnreadable:
			level = zerolog.ErrorLevel
		case LogNoMetadata, LogNoProducerID:
			level = zerolog.DebugLevel
		default:
		}
		e := log.WithLevel(level).Err(l.Err)
		switch {
		case l.Times > 0:
			e = e.Int("times", l.Times).Strs("brokers", l.Brokers).Stringer("lasted", l.Lasted.Round(time.Millisecond))
			if l.Others > 0 {
				e = e.Int("times_at_others", l.Others)
			}
		case l.Broker != AnyBroker:
			e = e.Str("broker", brokerName(l.Broker))
			if l.Address != "" {
				e = e.Str("address", l.Address)
			}
			if l.Lane != "" {
				e = e.Str("lane", l.Lane).Int("in_flight", l.InFlight)
			}
		default:
		}
		e.Msg(l.Text)
	})
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

// LogPanic begins a line about a panic: what was recovered, and where it happened.
// Whoever recovers calls it in the deferred function.
func (s *Settings) LogPanic(reason any) *zerolog.Event {
	event := s.Log.Error()
	if event.Enabled() { // a stack costs more than most of what panics
		text, stack := seams.Described(reason)
		event.Str("panic", text).Str("stack", stack)
	}
	return event
}
