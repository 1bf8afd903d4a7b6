package protocol

import "strconv"

// ErrorCode is an error code of the Kafka protocol. It is an error itself, so
// that errors.Is(err, protocol.NotLeaderOrFollower) works on whatever wraps one.
// The constants are in error_codes.go and what they mean in error_table.go.
type ErrorCode int16

// Info is the code's row of the table.
func (c ErrorCode) Info() ErrorInfo { return LookupError(int16(c)) }

// Error gives the name, the number and the meaning.
func (c ErrorCode) Error() string {
	i := c.Info()
	return i.Name + " (" + strconv.Itoa(int(c)) + "): " + i.Message
}

// Action is what a producer does with a batch that was answered with a code.
// Limits (attempts, delivery timeout) are the caller's, and so is the rule for a
// numbered batch that fails: it leaves a gap in its sequences, so its partition
// goes on under a new epoch.
type Action uint8

const (
	// Fail answers the records with the error; another attempt would be answered
	// the same. It is the zero value, so that what is unknown is never repeated.
	Fail Action = iota
	// Succeed answers the records as acknowledged. DUPLICATE_SEQUENCE_NUMBER is a
	// success too: an earlier attempt was appended. Its offset is not known, -1.
	Succeed
	// Retry sends the same bytes under the same sequences again, after a delay
	// and, if Refresh is set, after new metadata.
	Retry
	// Split sends the records again in smaller batches. A batch of one record
	// cannot be split and fails.
	Split
	// NewEpoch means that the broker's idea of the producer and ours have parted:
	// the partition's sequences start again under a new epoch. Whether the
	// records may be sent again then depends on their earlier attempts
	// (KIP-360, KAFKA-9199), so it is the partition's decision.
	NewEpoch
	// Fatal ends the producer: every batch would be answered the same, and no
	// new epoch helps.
	Fatal
)

// String names the action.
func (a Action) String() string {
	switch a {
	case Fail:
		return "fail"
	case Succeed:
		return "succeed"
	case Retry:
		return "retry"
	case Split:
		return "split"
	case NewEpoch:
		return "new-epoch"
	case Fatal:
		return "fatal"
	}
	return "action-" + strconv.Itoa(int(a))
}

// Appended is whether a batch may stand in the log although it was answered with
// an error. It speaks of the answered attempt alone: what earlier attempts of
// the batch left behind is for the caller to remember.
type Appended uint8

const (
	// AppendedMaybe: the batch may be in the log. It is the zero value, because
	// in doubt this is the answer that hides no duplicate.
	AppendedMaybe Appended = iota
	// AppendedNo: the broker refused the batch before it touched the log.
	AppendedNo
	// AppendedNoIfNoOffset: the broker may refuse the batch with this code before
	// the append, without a base offset, or give it up after the append while it
	// waits for replicas, with one. Only a base offset of -1 means no.
	AppendedNoIfNoOffset
)

// String names the value.
func (a Appended) String() string {
	switch a {
	case AppendedMaybe:
		return "maybe"
	case AppendedNo:
		return "no"
	case AppendedNoIfNoOffset:
		return "no-if-no-offset"
	}
	return "appended-" + strconv.Itoa(int(a))
}

// ErrorInfo is a row of the error table: what a code in the answer to a Produce
// request means and what follows from it.
type ErrorInfo struct {
	Code ErrorCode
	// Name is Kafka's own, "NOT_LEADER_OR_FOLLOWER".
	Name string
	// Message is one sentence for people.
	Message string
	// Retriable is whether Kafka counts the error among those that may go away
	// by themselves. It is true exactly for the rows whose Action is Retry.
	Retriable bool
	// Refresh is whether the cluster's metadata is out of date if this code
	// comes, so that new metadata should be fetched before the next attempt.
	Refresh bool
	// Action is what to do with the batch.
	Action Action
	// Appended is whether the batch may be in the log. For Succeed it is.
	Appended Appended
}

// WasAppended reports whether the answered batch is or may be in the log, given
// the answer's base offset (-1 for none). False is certain, true is a maybe.
func (i ErrorInfo) WasAppended(baseOffset int64) bool {
	switch i.Appended {
	case AppendedNo:
		return false
	case AppendedNoIfNoOffset:
		return baseOffset != -1
	}
	return true
}

// firstErrorCode is the lowest code, and so the code of the table's first row.
const firstErrorCode = -1

// LookupError gives the row of a code. A code that the table does not have, from
// a broker newer than this package, is called UNKNOWN_ERROR_CODE_n; it fails,
// and its batch may have been appended. Only that case allocates.
func LookupError(code int16) ErrorInfo {
	if i := int(code) - firstErrorCode; i >= 0 && i < len(errorTable) {
		return errorTable[i]
	}
	return ErrorInfo{
		Code:    ErrorCode(code),
		Name:    "UNKNOWN_ERROR_CODE_" + strconv.Itoa(int(code)),
		Message: "the broker answered with a code this client does not know; the records may have been written",
	}
}
