package model

import "github.com/troupe-kafka/troupe/protocol"

const (
	codecZstd  = 4
	zstdSince  = 7  // Produce
	namesUntil = 12 // Produce; topic ids from then on
	hintsSince = 10 // Produce
	blameSince = 8  // Produce: record errors
	startSince = 5  // Produce: log start offset
)

// validateRequest is what a broker checks before it looks for the partition.
func validateRequest(version int16, b *Batch) protocol.ErrorCode {
	switch {
	case len(b.Records) == 0 && !b.Corrupt, b.OldFormat:
		return protocol.InvalidRecord
	case b.Codec == codecZstd && version < zstdSince:
		return protocol.UnsupportedCompressionType
	}
	return protocol.None
}

// refusal is why a log does not take a batch.
type refusal struct {
	code protocol.ErrorCode
	// withStart says that the answer tells the log's start; the kinds of errors
	// that a broker counts as ordinary do not.
	withStart bool
	errors    []RecordError
}

// validate is what a leader checks of a batch before it looks at its producer,
// in Kafka's order. A repeated batch goes through it again.
func (r *replica) validate(b *Batch, nowMillis int64) refusal {
	cfg := &r.topic.config
	announced := int32(len(b.Records)) + b.Miscount
	switch {
	case b.BaseOffset != 0:
		return refusal{code: protocol.InvalidRecord, withStart: true}
	case b.Size > cfg.MaxMessageBytes:
		return refusal{code: protocol.MessageTooLarge}
	case b.Corrupt:
		return refusal{code: protocol.CorruptMessage}
	case announced <= 0, b.Miscount != 0, b.Control, b.ProducerID >= 0 && b.BaseSequence < 0:
		return refusal{code: protocol.InvalidRecord, withStart: true}
	}
	if refused := validateRecords(b, cfg, nowMillis); refused.code != protocol.None {
		return refused
	}
	if b.Size > cfg.SegmentBytes {
		return refusal{code: protocol.RecordListTooLarge}
	}
	return refusal{}
}

// validateRecords names every record that is to blame. One bad timestamp makes
// the whole an INVALID_TIMESTAMP.
func validateRecords(b *Batch, cfg *TopicConfig, nowMillis int64) (refused refusal) {
	before, after := cfg.TimestampBefore.Milliseconds(), cfg.TimestampAfter.Milliseconds()
	for i := range b.Records {
		record := &b.Records[i]
		age := nowMillis - record.TimestampMillis
		switch {
		case cfg.Compacted && record.Keyless:
			refused.blame(protocol.InvalidRecord, i, "a compacted topic takes no record without a key")
		case !cfg.LogAppendTime && record.TimestampMillis >= 0:
			if (before > 0 && age > before) || (after > 0 && -age > after) {
				refused.blame(protocol.InvalidTimestamp, i, "the timestamp is out of range")
			}
		case b.AppendTime:
			refused.blame(protocol.InvalidTimestamp, i, "a producer may not set LogAppendTime")
		}
	}
	return refused
}

func (r *refusal) blame(code protocol.ErrorCode, index int, message string) {
	if r.code != protocol.InvalidTimestamp {
		r.code = code
	}
	r.withStart = true
	r.errors = append(r.errors, RecordError{Index: int32(index), Message: message})
}
