package accumulator

import (
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// Evacuate implements messages.Appender.
func (b *Box) Evacuate(cause error) (messages.Stranded, messages.Identity) {
	b.mu.Lock()
	stranded, bytes := b.state.evacuate()
	b.state.failAll(cause)
	identity := b.state.identity
	if len(bytes) > 0 {
		stranded.Chunk = b.budget.Adopt(b.account.Load(), bytes)
	}
	b.unlock(b.timing)
	return stranded, identity
}

// evacuate takes the batches apart that are certainly in no log: they were never
// handed over, or every attempt was refused. Their records may be sent to another.
func (s *State) evacuate() (messages.Stranded, []byte) {
	var out messages.Stranded
	var bytes []byte
	if o := s.open; o != nil {
		// Not sealed: sealing would compress.
		s.open = nil
		o.trimTail()
		o.sealed = true
		if o.count > 0 {
			s.pending = append(s.pending, o)
			s.backlogBytes += o.bytes
		}
	}
	size := 0
	for _, b := range s.pending {
		if !b.maybe {
			size += b.bytes
		}
	}
	bytes = make([]byte, 0, size)
	kept := s.pending[:0]
	for _, b := range s.pending {
		if b.maybe || s.unpack(b) != nil {
			kept = append(kept, b)
			continue
		}
		s.went.Note(messages.BatchEvacuated)
		bytes = b.unpack(&out, bytes, s.partition)
		s.unanswered -= int64(b.live())
		s.backlogBytes -= b.bytes
		if b.hasSequence && b.identity == s.identity {
			s.needsEpoch = true // its numbers are taken by nobody, should the topic come back
		}
		out.Flushes = append(out.Flushes, b.flushes...)
		b.flushes = nil
		s.discard(b)
	}
	clear(s.pending[len(kept):])
	s.pending = kept
	return out, bytes
}

// unpack copies the live records of a batch out; bytes has room for all.
func (b *batch) unpack(out *messages.Stranded, bytes []byte, partition int32) []byte {
	keep := func(v []byte) []byte {
		if v == nil {
			return nil
		}
		start := len(bytes)
		bytes = append(bytes, v...)
		return bytes[start:len(bytes):len(bytes)]
	}
	b.eachRecord(func(index int32, r *protocol.Record) {
		if b.isAnswered(index) {
			return
		}
		record := messages.Record{
			Key: keep(r.Key), Value: keep(r.Value), Timestamp: time.UnixMilli(b.baseMs + r.TimestampDelta),
			Partition: messages.AtPartition(partition),
		}
		if r.HeaderCount > 0 {
			record.Headers = r.AppendHeaders(make([]messages.Header, 0, r.HeaderCount))
			for i := range record.Headers {
				record.Headers[i].Value = keep(record.Headers[i].Value)
			}
		}
		record.Tag, record.Opaque = b.side.tags.at(index), b.side.opaques.at(index)
		out.Records = append(out.Records, messages.StrandedRecord{
			Record: record, Callback: callbackOf(b.side, index), ReplyTo: replyToOf(b.side, index), Context: contextOf(b.side, index),
			Acks: b.acks, Codec: b.codec, TimeoutMs: b.timeoutMs, Admitted: b.side.admittedAt(index),
		})
	})
	return bytes
}
