package messages

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/seams"
)

// Class is what batches must share to travel in one request: the lane and the
// acks value.
type Class struct {
	Lane Lane
	Acks Acks
}

// Taker is a partition's box as its broker sees it. The broker takes batches in
// its own turn; the accumulator is not woken for it.
type Taker interface {
	Topic() string
	TopicID() [16]byte
	Partition() int32
	// Take numbers and hands over the next batch if the rules allow one now.
	Take(TakeRequest) (Batch, TakeStatus)
	// Class returns the class of the next batch.
	Class() Class
}

// TakeRequest is what a broker offers a partition.
type TakeRequest struct {
	Now      seams.Instant
	Broker   int32
	Identity Identity
	Class    Class
	// RoomBytes is what the request can still hold. The first batch of a request
	// is taken whatever its size.
	RoomBytes int
	First     bool
	// Connection is the number of the connection that it will travel on: another
	// one of the broker, even of another lane, has another number.
	Connection int
	// ProduceVersion is what the connection negotiated.
	ProduceVersion int16
}

// TakeStatus says what to do with a partition after a Take.
type TakeStatus int8

const (
	// TakeDone: nothing more is ready; the partition will announce itself again.
	TakeDone TakeStatus = iota
	// TakeMore: a batch was taken and more is ready.
	TakeMore
	// TakeNoRoom: the next batch does not fit this request; keep the partition
	// for the next.
	TakeNoRoom
	// TakeReclass: the next batch is of another class; ask for it and keep the
	// partition there.
	TakeReclass
	// TakeNeedsIdentity: keep the partition until an identity arrives, and ask
	// for one.
	TakeNeedsIdentity
)

// Batch is a batch that was handed to a broker.
type Batch interface {
	Acks() Acks
	// TimeoutMs is how long the broker may wait for its replicas; 0 takes the
	// request timeout.
	TimeoutMs() int32
	// Bytes is the encoded size with its header.
	Bytes() int
	// Slices returns the header and the records, encoded and checksummed.
	Slices() [][]byte
	// WriteEnded says that the transport reads the slices no more. It is called
	// exactly once per Take, and the buffers stay until then (KAFKA-19012).
	WriteEnded()
	// Settle reports the outcome of the attempt, exactly once per Take.
	Settle(Result)
}

// Result is how one attempt of a batch ended.
type Result struct {
	Now    seams.Instant
	Broker int32
	// Sent is false when no byte of the batch can have left this process.
	Sent bool
	// Err is a connection's end or a timeout; with it the code means nothing.
	Err error
	// Code is the broker's answer.
	Code int16
	// ErrorMessage is the broker's own text, often empty.
	ErrorMessage string
	// RecordErrors name the records that the broker refused the batch for; most
	// errors come without (KIP-467).
	RecordErrors    []RecordError
	BaseOffset      int64
	LogAppendTimeMs int64
	LogStartOffset  int64
	// LeaderID and LeaderEpoch are the hint of KIP-951; −1 when there is none.
	LeaderID    int32
	LeaderEpoch int32
}

// RecordError is a broker's word on one record of a batch (KIP-467).
type RecordError struct {
	// Index is the record's place in the batch, from 0, as the broker says it.
	Index int32
	// Message is the broker's own text, often empty.
	Message string
}

// PartitionReady tells a broker that a partition has a batch to take. A
// partition sends it once, and again only after a Take answered TakeDone.
type PartitionReady struct {
	Taker Taker
	Class Class
}

// PartitionsReady tells a broker of several, whose lingers ended together.
type PartitionsReady struct{ Partitions []PartitionReady }

// AssignLeader tells an accumulator which broker to offer its batches to.
type AssignLeader struct {
	// Broker is nil while the partition has no leader.
	Broker      *actor.PID
	ID          int32
	LeaderEpoch int32
}

// LeaderHinted tells the router of a newer leader that a broker named in its
// answer (KIP-951); metadata confirms it later.
type LeaderHinted struct {
	Topic       string
	Partition   int32
	LeaderID    int32
	LeaderEpoch int32
}
