package model

import (
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// Version is a line of Kafka whose behaviour is modelled.
type Version uint8

// The lines. The first two are compared with real brokers by tests/kafka.
const (
	// V4 is Kafka 4.1 to 4.4, and what a zero Config means.
	V4 Version = iota
	// V3 is Kafka 3.9: Produce up to 11, no limit on timestamps in the future.
	V3
	// V45 is Kafka 4.5, from its description (KAFKA-15591) and not compared with a
	// broker: a partition that was never written to wants a producer's first
	// sequence to be 0.
	V45
)

// String returns the release.
func (v Version) String() string {
	switch v {
	case V4:
		return "4"
	case V3:
		return "3.9"
	default:
		return "4.5"
	}
}

// NewestProduce is the highest version of Produce that the brokers advertise.
func (v Version) NewestProduce() int16 {
	if v == V3 {
		return 11
	}
	return 13
}

// Defaults of Config and TopicConfig; each stands for Kafka's own default.
const (
	DefaultMaxMessageBytes      = 1048588 // max.message.bytes
	DefaultSegmentBytes         = 1 << 30 // segment.bytes
	DefaultProducerIDExpiration = 24 * time.Hour
	DefaultReplicaLagMax        = 30 * time.Second // replica.lag.time.max.ms
	DefaultProducerIDBlock      = 1000             // ids that the controller hands to a broker at a time
	MaxBrokers                  = 63
	timestampAfterV4            = time.Hour // message.timestamp.after.max.ms since 4.0 (KIP-1030)
)

// Config says what cluster to model. The zero value of a field is its default.
type Config struct {
	Version Version
	// Brokers have the ids 1 to Brokers, at most MaxBrokers; 0 means 3.
	Brokers int
	// StartMillis is the wall clock, in milliseconds since 1970, at the instant 0.
	StartMillis int64
	// AutoCreate is auto.create.topics.enable; topics created so have
	// DefaultPartitions (0 means 1) and DefaultReplication (0 means 1).
	AutoCreate                            bool
	DefaultPartitions, DefaultReplication int
	// DefaultTopic is how such topics are configured.
	DefaultTopic TopicConfig
	// ProducerIDExpiration is producer.id.expiration.ms. It counts from the
	// largest timestamp of a producer's last batch, which the client chose.
	ProducerIDExpiration time.Duration
	// ReplicaLagMax is replica.lag.time.max.ms.
	ReplicaLagMax time.Duration
	// ProducerIDBlock is the number of producer ids in a block, and
	// ProducerIDLatency how long a broker waits for the next one.
	ProducerIDBlock   int64
	ProducerIDLatency time.Duration
}

func (c Config) withDefaults() Config {
	if c.Brokers == 0 {
		c.Brokers = 3
	}
	if c.Brokers < 1 || c.Brokers > MaxBrokers {
		panic("model: Config.Brokers is out of range")
	}
	orDefault(&c.DefaultPartitions, 1)
	orDefault(&c.DefaultReplication, 1)
	orDefault(&c.ProducerIDExpiration, DefaultProducerIDExpiration)
	orDefault(&c.ReplicaLagMax, DefaultReplicaLagMax)
	orDefault(&c.ProducerIDBlock, DefaultProducerIDBlock)
	return c
}

func orDefault[T ~int | ~int64](v *T, byDefault T) {
	if *v == 0 {
		*v = byDefault
	}
}

// TopicConfig holds the settings of a topic that a producer can feel. The zero
// value of a field is its default.
type TopicConfig struct {
	MinInSync       int  // min.insync.replicas
	MaxMessageBytes int  // max.message.bytes, for a whole batch as it travels
	SegmentBytes    int  // segment.bytes
	Compacted       bool // cleanup.policy contains compact
	LogAppendTime   bool // message.timestamp.type
	// TimestampBefore and TimestampAfter are message.timestamp.before.max.ms and
	// after.max.ms; 0 is the version's default, negative is no limit.
	TimestampBefore, TimestampAfter time.Duration
}

func (t TopicConfig) withDefaults(v Version) TopicConfig {
	orDefault(&t.MinInSync, 1)
	orDefault(&t.MaxMessageBytes, DefaultMaxMessageBytes)
	orDefault(&t.SegmentBytes, DefaultSegmentBytes)
	if t.TimestampAfter == 0 && v != V3 {
		t.TimestampAfter = timestampAfterV4
	}
	return t
}

// TopicID is a topic's id; the zero value is none.
type TopicID [16]byte

// TopicPartition names a partition of the topic that has the name at the time.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Record is one record as the log keeps it.
type Record struct {
	// Value is whatever the caller wants to find again.
	Value string
	// TimestampMillis is the client's timestamp, -1 for none.
	TimestampMillis int64
	// Keyless says that the key is null.
	Keyless bool
}

// Batch is one batch of a Produce request. The model keeps Records: the caller
// must not change them afterwards.
type Batch struct {
	// ProducerID is negative for a batch without idempotence.
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
	Records       []Record
	// Size is the batch as it travels, in bytes, header included.
	Size int
	// Codec is the id of the codec, 4 for zstd.
	Codec int8
	// Miscount is added to the number of records that the header announces.
	Miscount int32
	// OldFormat says that the magic is not 2, Corrupt that the checksum is wrong,
	// Control and AppendTime that the client set these attributes, and BaseOffset
	// is what the header says, which must be 0.
	OldFormat, Corrupt, Control, AppendTime bool
	BaseOffset                              int64
}

// BatchOf describes a decoded batch of size bytes whose records the caller has
// read. A batch that cannot be decoded is one with Corrupt or OldFormat set.
func BatchOf(b *protocol.Batch, size int, records []Record) Batch {
	return Batch{
		ProducerID: b.ProducerID, ProducerEpoch: b.ProducerEpoch, BaseSequence: b.BaseSequence, Records: records,
		Size: size, Codec: b.Codec(), Miscount: b.BatchHeader.Records - int32(len(records)), BaseOffset: b.BaseOffset,
		Control: b.Attributes&protocol.AttributeControl != 0, AppendTime: b.Attributes&protocol.AttributeLogAppendTime != 0,
	}
}

func (b *Batch) lastSequence() int32 {
	return protocol.AddSequence(b.BaseSequence, int32(len(b.Records)-1))
}

func (b *Batch) maxTimestamp() int64 {
	newest := int64(-1)
	for i := range b.Records {
		newest = max(newest, b.Records[i].TimestampMillis)
	}
	return newest
}

// Entry is a record with its place in the log.
type Entry struct {
	Offset        int64
	LeaderEpoch   int32
	ProducerID    int64
	ProducerEpoch int16
	Sequence      int32 // -1 without idempotence
	Start         int64 // of the log when the record was appended
	// Nth counts the batches that any leader of the partition had appended before.
	Nth int
	// First says that the record's batch was accepted by a leader that knew nothing
	// of its producer, and so took any sequence.
	First bool
	// Late says that the topic had been deleted, which its leader had not heard.
	Late   bool
	Record Record
}

// ProduceRequest is a Produce request. From version 13 on topics are named by id.
type ProduceRequest struct {
	Version    int16
	Acks       int16 // -1 is all
	Timeout    time.Duration
	Partitions []PartitionData
}

// PartitionData is the part of a request for one partition.
type PartitionData struct {
	Topic     string
	TopicID   TopicID
	Partition int32
	Batch     Batch
}

// ProduceAnswer is the answer to a Produce request, its partitions in the order
// of the request.
type ProduceAnswer struct {
	Throttle   time.Duration
	Partitions []PartitionAnswer
	// Nodes are the brokers that leader hints name and that the answering broker
	// believes to be up, in order (KIP-951).
	Nodes []int32
}

// PartitionAnswer is the answer for one partition. Offsets, times and leaders
// that are not told are -1.
type PartitionAnswer struct {
	Topic     string
	TopicID   TopicID
	Partition int32
	Code      protocol.ErrorCode
	// BaseOffset is set, in spite of an error, if the batch was appended before
	// the error came.
	BaseOffset      int64
	LogAppendMillis int64
	LogStartOffset  int64
	// RecordErrors names the records that are to blame (Produce 8, KIP-467).
	RecordErrors []RecordError
	Message      string
	// Leader and LeaderEpoch are a hint (Produce 10, KIP-951).
	Leader, LeaderEpoch int32
}

// RecordError blames one record of a batch.
type RecordError struct {
	Index   int32
	Message string
}

// Handle names a Produce request that waits for its replicas; 0 is none.
type Handle uint64

// Outcome is what becomes of a request at once: an answer, a handle whose answer
// Advance returns later, or neither for acks 0. Cut says that the broker ends
// the connection, its way to report an error to acks 0.
type Outcome struct {
	Answer *ProduceAnswer
	Handle Handle
	Cut    bool
}

// Effect is something that the caller has to do: send an answer, or, if Answer
// is nil, forget a request whose broker went away.
type Effect struct {
	Broker int32
	Handle Handle
	Answer *ProduceAnswer
}
