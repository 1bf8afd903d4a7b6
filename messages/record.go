package messages

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/protocol"
)

// Header is one record header. Keys may repeat; a nil value is a null value.
type Header = protocol.Header

// Partition is the partition a record asks for. The zero value leaves the
// choice to the partitioner.
type Partition struct {
	id  int32
	set bool
}

// AtPartition asks for partition id; a negative id is refused on admission.
func AtPartition(id int32) Partition { return Partition{id: id, set: true} }

// Get returns the partition asked for, and whether there is one.
func (p Partition) Get() (int32, bool) { return p.id, p.set }

// String returns the number, or "any".
func (p Partition) String() string {
	if !p.set {
		return "any"
	}
	return strconv.Itoa(int(p.id))
}

// Acks is how many replicas must have a record before it counts as
// acknowledged.
type Acks int8

// The values of Acks; the zero value takes the producer's setting.
const (
	AcksDefault Acks = iota
	AcksAll          // all in-sync replicas: −1 on the wire
	AcksLeader       // the leader alone: 1
	AcksNone         // no acknowledgement: 0
)

// Wire returns the value in a Produce request.
func (a Acks) Wire() int16 {
	switch a {
	case AcksLeader:
		return 1
	case AcksNone:
		return 0
	default:
		return -1
	}
}

// String returns Kafka's spelling: "all", "1" or "0".
func (a Acks) String() string {
	switch a {
	case AcksAll:
		return "all"
	case AcksLeader:
		return "1"
	case AcksNone:
		return "0"
	default:
		return "default"
	}
}

// Record is one record to produce. It is passed by value, and the runtime has
// copied everything it points to when the call that takes it returns.
type Record struct {
	// Topic is where the record goes. A topic handle fills it in.
	Topic string
	// Key chooses the partition and is kept with the record. nil is a null key;
	// an empty slice is an empty key, which counts as a key.
	Key []byte
	// Value is the payload; nil is a tombstone.
	Value []byte
	// Headers are kept in order; keys may repeat.
	Headers []Header
	// Timestamp is when the record happened, to the millisecond; the zero value
	// means now.
	Timestamp time.Time
	// Partition overrules the partitioner.
	Partition Partition
	// Opaque and Tag come back in the Delivery, so that one callback can serve
	// all records. Tag costs no allocation.
	Opaque any
	Tag    uint64
}

// Status says whether a record is in the log.
type Status int8

const (
	// NotPersisted: the record is not in the log; sending it again is safe.
	NotPersisted Status = iota
	// PossiblyPersisted: the broker may have appended the record, but its answer
	// did not arrive. Sending it again may duplicate it.
	PossiblyPersisted
	// Persisted: acknowledged as the acks setting asked.
	Persisted
)

// String returns the status in words.
func (s Status) String() string {
	switch s {
	case NotPersisted:
		return "not persisted"
	case PossiblyPersisted:
		return "possibly persisted"
	default:
		return "persisted"
	}
}

// Delivery is the one outcome of one record.
type Delivery struct {
	Topic     string
	Partition int32
	Status    Status
	// Offset is the record's offset, or −1 when it is not known: on failure, with
	// acks 0, and when the broker recognised a duplicate too old to remember.
	Offset int64
	// Timestamp is what the log holds: the broker's own time with
	// LogAppendTime, else the record's. Zero on failure.
	Timestamp time.Time
	// LogAppendTimeMs and LogStartOffset are the broker's answer for the batch;
	// −1 when it gave none.
	LogAppendTimeMs int64
	LogStartOffset  int64
	// Attempts is how often the record's batch was handed to a broker.
	Attempts int
	// Err is nil exactly when Status is Persisted.
	Err error
	// LastBrokerError is the last error a broker answered, even if a retry then
	// succeeded.
	LastBrokerError error
	Opaque          any
	Tag             uint64
}

// Callback receives the outcome of a record. It runs in its partition's
// completion lane: outcomes of one partition come one at a time, in the order in
// which they are known. That is the order of admission, unless a batch is sent
// again while later ones in flight succeed: the log keeps the order then, the
// callbacks need not. A callback that blocks, panics or ends its goroutine hurts its
// own partition; others wait for some milliseconds at the most
// (CallbacksPerProcessor).
type Callback func(Delivery)

// RangeCallback receives the outcome of n records of one batch that stand side by side
// and end alike: from the first to the last their tags count up from that of d, and so
// do their offsets, unless the first is −1. d has no timestamp and no Opaque. It is for
// Troupe's own use, and counts as n calls of the Callback that it comes with.
type RangeCallback func(d Delivery, n int)

// Produce asks the router for the delivery of one record. From an actor, send
// it to Producer.PID; the runtime has copied the record when Send returns, and
// answers the sender with Delivered. It never waits: over the budget the answer
// is ErrBufferFull, and Writable follows when there is room again.
type Produce struct {
	Record Record
	// ReplyTo receives Delivered. With protoactor's Request it may stay nil: the
	// sender is taken. Without either, the outcome is dropped. Send with ReplyTo
	// costs an allocation less than Request, which wraps the message.
	ReplyTo *actor.PID
	// Context ends the record's wait for its outcome; nil means none.
	Context context.Context
}

// Delivered answers a Produce, and is the receiver's for good. A few of one batch
// are allocated together: to keep an outcome for long, keep a copy of Delivery.
type Delivered struct{ Delivery Delivery }

// Writable tells an actor whose Produce was answered ErrBufferFull that there is
// room again.
type Writable struct{}

// EndOf is the cause of a record's context if it has ended, and nil for none. The
// context is the user's code, which may panic: that ends the record, too, with
// [ErrInvalidContext].
func EndOf(ctx context.Context) (cause error) {
	if ctx == nil {
		return nil
	}
	defer func() {
		if reason := recover(); reason != nil {
			cause = fmt.Errorf("%w: %v", ErrInvalidContext, reason)
		}
	}()
	if err := ctx.Err(); err != nil {
		return CauseOf(ctx, err)
	}
	return nil
}

// CauseOf is the cause of a context that has said it has ended with err. It may have
// changed its mind since.
func CauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
