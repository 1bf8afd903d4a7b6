package messages

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/seams"
)

// Recipient is an actor that is sent Delivered, in place of a callback; nil: nobody.
type Recipient = *actor.PID

// Admission is one record on its way into a partition, borrowed for the call.
type Admission struct {
	Record   *Record
	Callback Callback
	ReplyTo  Recipient
	// Context is nil when it can never end.
	Context context.Context
	Acks    Acks
	Codec   codecs.ID
	// Bytes is the most the encoded record can take.
	Bytes int
	// Chunk is the buffer that the partition asked for; it is nil again when the
	// partition has taken it.
	Chunk *memory.Chunk
	// Taken is set when the record is in the partition and will have an outcome,
	// whatever becomes of the rest of the call.
	Taken bool
	// Urgent ends the linger of the batch the record lands in.
	Urgent bool
	// Prompt says that the callback is Troupe's own: it neither blocks nor panics,
	// and may run in an actor's turn.
	Prompt bool
	// Wait lets the caller wait for room, for MaxBlock at the most unless the
	// context has a deadline of its own; 0 leaves it to the context. It counts
	// from Since, when a call of several records began; 0 is the record's first wait.
	Wait     bool
	MaxBlock time.Duration
	Since    seams.Instant
	// TimeoutMs is how long the broker may wait for its replicas; 0 takes the
	// request timeout.
	TimeoutMs int32
	// Admitted is when the delivery timeout of the record began, for a record
	// that waited elsewhere before; 0 is now. A partition gets such records in
	// the order of their admission, and before any other.
	Admitted seams.Instant
	// Range stands for Callback where records side by side end alike; nil: it does not.
	Range RangeCallback
}

// AppendStatus is what came of an Append.
type AppendStatus int8

const (
	// Appended: the record is admitted and will have an outcome.
	Appended AppendStatus = iota
	// NeedsChunk: the record needs a chunk of NeedBytes in the open batch.
	NeedsChunk
	// NeedsBatch: the same, and it would open a batch: a sticky choice may move.
	NeedsBatch
	// AppendClosed: the partition takes no more records.
	AppendClosed
	// AppendCrashed: a bug; the record is not in the partition, which mends itself.
	AppendCrashed
)

// Appender is a partition's box as the router sees it.
type Appender interface {
	// Append encodes the record into the open batch on the caller's goroutine.
	Append(*Admission) AppendStatus
	// AppendAll encodes records in order without another record between them,
	// as far as the chunks reach, and returns how many it took. Chunks used are
	// removed from the front.
	AppendAll(records []Admission, chunks *[]*memory.Chunk) (int, AppendStatus)
	// NeedBytes is the size of the chunk to acquire for a record of n bytes.
	NeedBytes(n int) int
	// Account is what chunks for this partition are charged to.
	Account() *memory.Account
	// SetAccount changes it when the leader changes.
	SetAccount(*memory.Account)
	// BacklogBytes is what waits to be handed over.
	BacklogBytes() int
	// Urge makes the open batch ready at once.
	Urge()
	// Flush makes everything ready and registers w with every unanswered batch.
	Flush(w *FlushWaiter)
	// Assign says who leads the partition now. To say it again costs nothing.
	Assign(AssignLeader)
	// FailAll answers every record with cause, and refuses more. In flight
	// batches are possibly persisted.
	FailAll(cause error)
	// Retire closes a partition that holds nothing and took no record for that
	// long; it reports whether it did. Reopen takes it back.
	Retire(idle time.Duration) bool
	Reopen()
	// Reannounce says once more that batches are ready, if they are: the broker
	// may have lost the announcement in a crash.
	Reannounce()
	// Evacuate closes a partition whose topic was deleted and created again. It keeps
	// what is certainly in no log for MoveTo, answers all other records with cause,
	// and returns the identity it numbered under.
	Evacuate(cause error) Identity
	// MoveTo gives what Evacuate has kept to the partition of the new topic, in front
	// of all that comes there.
	MoveTo(next Appender)
	// Unanswered is the number of records without an outcome.
	Unanswered() int
	// Count tells the producer's counters what has become of records since the last
	// time. It happens by itself when the partition fails all or ends.
	Count()
	PID() *actor.PID
}

// AccumulatorSpec names an accumulator to start.
type AccumulatorSpec struct {
	Topic     string
	TopicID   [16]byte
	Partition int32
	// Incarnation counts how often the topic was created, as far as is known: a
	// name is never used twice in a system.
	Incarnation int
	// After is what the partition of the topic's last creation was numbered
	// under: this one starts under a newer epoch. NoIdentity when there was none.
	After Identity
}

// SpawnAccumulator starts the accumulator of a partition; the supervisor injects
// it, since actors do not know each other.
type SpawnAccumulator func(parent actor.SpawnerContext, spec AccumulatorSpec) (Appender, error)
