package messages

import (
	"errors"
	"fmt"
	"strings"
)

// The errors of admission and of the runtime's life.
var (
	// ErrClosed: the producer is closed or closing; nothing was sent.
	ErrClosed = errors.New("producer is closed")
	// ErrBufferFull: the byte budget is used up; nothing was sent. Wait for
	// outcomes, or raise buffer.memory.
	ErrBufferFull = errors.New("buffer is full")
	// ErrRecordTooLarge: the record is over a limit; nothing was sent.
	ErrRecordTooLarge = errors.New("record is too large")
	// ErrInvalidRecord: the record breaks a rule of the protocol; nothing was
	// sent.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrUnknownTopic: the cluster does not know the topic, and did not within
	// the topic wait.
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrUnknownPartition: the topic has no such partition.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrTooManyPartitions: the cluster describes the topic with a partition
	// number that no topic has (MaxTopicPartitions).
	ErrTooManyPartitions = errors.New("too many partitions")
	// ErrInvalidPartitioner: the partitioner's result is not a partition of the
	// topic.
	ErrInvalidPartitioner = errors.New("partitioner chose a partition that the topic does not have")
	// ErrInvalidContext: the record's context panicked when it was asked, after the
	// call had returned, whether it has ended. One that a framework uses again for its
	// next request must not be given along.
	ErrInvalidContext = errors.New("the record's context panicked")
	// ErrDeliveryTimeout: the record had no outcome within the delivery timeout.
	ErrDeliveryTimeout = errors.New("delivery timeout")
	// ErrRetriesExhausted: every allowed retry failed.
	ErrRetriesExhausted = errors.New("retries exhausted")
	// ErrConnectionLost: the connection ended before the answer.
	ErrConnectionLost = errors.New("connection lost")
	// ErrAuthentication: a broker refused the credentials or the client's certificate,
	// or its own cannot be trusted, or only one side wants TLS or SASL. No request went
	// out on that connection. Correct the security settings.
	ErrAuthentication = errors.New("authentication failed")
	// ErrCredentials: the SASL mechanism had no credentials to show, for instance
	// because whoever gives out tokens could not be reached. The broker was not asked.
	ErrCredentials = errors.New("no credentials")
	// ErrRequestTimeout: the broker did not answer in time.
	ErrRequestTimeout = errors.New("request timeout")
	// ErrFatal: the producer cannot go on and must be made anew; the cause is
	// wrapped.
	ErrFatal = errors.New("producer has failed for good")
	// ErrRefusedWithBatch: the broker refused another record of the same batch,
	// and a batch is appended whole or not at all. The record itself was not
	// blamed: send it again, or let the producer do it (WithResendInnocent).
	ErrRefusedWithBatch = errors.New("another record of the batch was refused")
	// ErrInternal: a bug of the runtime, which answered its records all the same.
	ErrInternal = errors.New("internal error")
)

// DeliveryError is why one record, or all records of one batch, failed. It
// works with errors.Is for the errors above, for context errors, and for
// protocol.ErrorCode values.
type DeliveryError struct {
	Topic     string
	Partition int32 // −1 if it was not chosen yet
	// Broker is the node the batch was last handed to, −1 if to none.
	Broker   int32
	Attempts int
	Status   Status
	// Cause is the reason; Last is the last error a broker answered, if it is
	// another.
	Cause error
	Last  error
}

// Error names the topic, partition and broker, the reason, and what is known of
// the log.
func (e *DeliveryError) Error() string {
	var b strings.Builder
	b.WriteString(e.Topic)
	if e.Partition >= 0 {
		fmt.Fprintf(&b, "/%d", e.Partition)
	}
	fmt.Fprintf(&b, ": %v", e.Cause)
	if e.Attempts > 0 {
		fmt.Fprintf(&b, " (attempt %d, broker %d)", e.Attempts, e.Broker)
	}
	if e.Last != nil && !errors.Is(e.Cause, e.Last) {
		fmt.Fprintf(&b, "; last broker error: %v", e.Last)
	}
	b.WriteString("; ")
	b.WriteString(e.Status.String())
	if e.Status == PossiblyPersisted {
		b.WriteString(": sending it again may duplicate it")
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As both causes.
func (e *DeliveryError) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Last}
}
