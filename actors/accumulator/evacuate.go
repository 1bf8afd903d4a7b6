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

// evacuate takes the batches that were never handed over apart. Their records
// are certainly in no log, so they may be sent to another.
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
		if b.attempts == 0 {
			size += b.bytes
		}
	}
	bytes = make([]byte, 0, size)
	kept := s.pending[:0]
	for _, b := range s.pending {
		if b.attempts > 0 {
			kept = append(kept, b)
			continue
		}
		bytes = b.unpack(&out, bytes, s.partition)
		s.unanswered -= int64(b.live())
		s.backlogBytes -= b.bytes
		out.Flushes = append(out.Flushes, b.flushes...)
		b.settled, b.flushes = true, nil
		s.fx.freed = append(s.fx.freed, b.drop()...)
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
	index := int32(0)
	for n, chunk := range b.chunks {
		start, end := 0, b.count
		if n == 0 {
			start = protocol.BatchHeaderSize
		}
		if n+1 < len(b.chunkFirst) {
			end = b.chunkFirst[n+1]
		}
		it := protocol.NewRecordIterator(chunk.Bytes[start:], int(end-b.chunkFirst[n]))
		for r, ok := it.Next(); ok; r, ok = it.Next() {
			if !b.isAnswered(index) {
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
				t := b.side.token(index)
				record.Tag, record.Opaque = t.tag, t.opaque
				out.Records = append(out.Records, messages.StrandedRecord{
					Record: record, Callback: callbackOf(b.side, index), Context: contextOf(b.side, index),
					Acks: b.acks, Codec: b.codec, TimeoutMs: b.timeoutMs,
				})
			}
			index++
		}
	}
	return bytes
}
