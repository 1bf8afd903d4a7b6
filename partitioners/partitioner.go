package partitioners

import (
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// Header is one header of a record, the type that the wire protocol uses.
type Header = protocol.Header

// Answers of a [Partitioner] that are not partitions.
const (
	// Unassigned leaves the choice to the runtime, which keeps to one partition
	// until a batch is full and prefers partitions that drain faster (KIP-480,
	// KIP-794).
	Unassigned int32 = -1

	// Invalid means that there is no partition for this record: the runtime
	// answers it with an error. So does it for any other number outside the
	// topic's partitions.
	Invalid int32 = -2
)

// Partition is one partition of a topic, as the cluster last described it.
type Partition struct {
	// ID is the partition's number. Kafka numbers a topic's partitions from 0
	// without gaps.
	ID int32
	// Leader is the broker that takes records for it, or -1 for none.
	Leader int32
	// Replicas are the brokers that hold a copy, the preferred leader first.
	Replicas []int32
	// ISR are the replicas that are in sync.
	ISR []int32
}

// Message is the record to place.
type Message struct {
	// Key is nil for a record without a key. An empty key is a key, except to
	// [ConsistentCRC32].
	Key []byte
	// Value is nil for a tombstone.
	Value []byte
	// Headers are in the order the caller gave.
	Headers []Header
	// Timestamp is zero unless the caller set one.
	Timestamp time.Time
	// Partition is what the caller named, or -1. The runtime honours it before
	// it asks any partitioner.
	Partition int32
}

// Input is what a [Partitioner] may know. All of it is shared with other
// goroutines: read only, and not kept after the call.
type Input struct {
	// Topic is the topic's name.
	Topic string
	// Partitions are all of the topic's, sorted by ID, those without a leader
	// included. Choices by key count all of them, so that an election does not
	// move keys.
	Partitions []Partition
	// Available are the IDs of the partitions with a leader, ascending.
	Available []int32
	// Message is the record; never nil.
	Message *Message
}

// Partitioner chooses a partition for each record. It is called concurrently.
type Partitioner interface {
	// Partition returns the ID of one of in.Partitions, or [Unassigned], or
	// [Invalid]. It must not keep or change in.
	Partition(in *Input) int32
}

// Func makes a [Partitioner] of a function, which must be safe for concurrent
// use.
type Func func(in *Input) int32

// Partition calls f.
func (f Func) Partition(in *Input) int32 { return f(in) }

// Random is a source of start positions. The producer gives one that is seeded,
// so that a simulation with the same seed makes the same choices.
// *math/rand/v2.Rand is one.
type Random interface {
	// Uint32 returns 32 evenly distributed bits.
	Uint32() uint32
}

// Factory makes the partitioner of one producer. It is called once per producer;
// random is for use during that call only, since it need not be safe for
// concurrent use.
type Factory func(random Random) Partitioner

// positive clears the sign of a hash. Java's Utils.toPositive and KafkaJS do it
// this way: unlike an absolute value it is defined for the lowest number.
func positive(hash int32) int32 { return hash & 0x7fffffff }
