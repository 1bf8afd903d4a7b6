package troupe

import (
	"fmt"
	"strings"

	"github.com/troupe-kafka/troupe/messages"
)

// The errors a user can meet; see messages for what each means. They work with
// errors.Is.
var (
	ErrClosed             = messages.ErrClosed
	ErrBufferFull         = messages.ErrBufferFull
	ErrRecordTooLarge     = messages.ErrRecordTooLarge
	ErrInvalidRecord      = messages.ErrInvalidRecord
	ErrUnknownTopic       = messages.ErrUnknownTopic
	ErrUnknownPartition   = messages.ErrUnknownPartition
	ErrTooManyPartitions  = messages.ErrTooManyPartitions
	ErrInvalidPartitioner = messages.ErrInvalidPartitioner
	ErrInvalidContext     = messages.ErrInvalidContext
	ErrDeliveryTimeout    = messages.ErrDeliveryTimeout
	ErrRetriesExhausted   = messages.ErrRetriesExhausted
	ErrConnectionLost     = messages.ErrConnectionLost
	ErrAuthentication     = messages.ErrAuthentication
	ErrCredentials        = messages.ErrCredentials
	ErrRequestTimeout     = messages.ErrRequestTimeout
	ErrFatal              = messages.ErrFatal
	ErrRefusedWithBatch   = messages.ErrRefusedWithBatch
	ErrInternal           = messages.ErrInternal
)

// DeliveryError is why a record, or every record of a batch, failed.
type DeliveryError = messages.DeliveryError

// ConfigError is an option, or a combination of options, that is refused before
// anything is started.
type ConfigError struct {
	// Option is the Kafka property name, or the Go option's.
	Option string
	Reason string
}

// Error implements error.
func (e *ConfigError) Error() string { return "troupe: " + e.Option + ": " + e.Reason }

// MessageError is the failure of one message of a Send.
type MessageError struct {
	// Topic and Index name the message: the Index-th of the topic's messages in
	// the call, counting from 0 over all entries of the same topic.
	Topic string
	Index int
	// Partition is −1 when none was chosen.
	Partition int32
	Status    Status
	Err       error
}

// Error implements error.
func (e *MessageError) Error() string {
	if e.Partition < 0 {
		return fmt.Sprintf("%s[%d]: %v", e.Topic, e.Index, e.Err)
	}
	return fmt.Sprintf("%s[%d] (partition %d): %v", e.Topic, e.Index, e.Partition, e.Err)
}

// Unwrap returns the cause.
func (e *MessageError) Unwrap() error { return e.Err }

// SendError lists every message of a Send that failed. The results returned
// beside it are the messages that succeeded.
type SendError struct {
	Failed []*MessageError
	Total  int
}

// maxListedFailures bounds the text of a SendError; Failed has them all.
const maxListedFailures = 5

// Error names the number of failures and the first few.
func (e *SendError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d messages failed: ", len(e.Failed), e.Total)
	for i, f := range e.Failed {
		if i == maxListedFailures {
			fmt.Fprintf(&b, "; and %d more", len(e.Failed)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Error())
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As every failure.
func (e *SendError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}
