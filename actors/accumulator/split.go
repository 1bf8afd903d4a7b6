package accumulator

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

const (
	// raiseLimitAfter is how many batches in a row a broker has to accept at about
	// the limit before larger ones are tried.
	raiseLimitAfter = 64
	// forgetRefusalAfter is when a size that was refused may be tried again: the
	// topic's max.message.bytes may have been raised.
	forgetRefusalAfter = 10 * time.Minute
)

// sizeLimit is how large a partition's batches may grow: batch.size, unless the
// broker refuses batches of that size.
type sizeLimit struct {
	bytes     int
	refused   int // the smallest size that was refused; 0: none
	refusedAt seams.Instant
	full      int // batches near the limit since it changed
}

// lower takes in that a batch of n bytes was refused.
func (l *sizeLimit) lower(n int, now seams.Instant) {
	if l.refused == 0 || n < l.refused || now.Sub(l.refusedAt) > forgetRefusalAfter {
		l.refused = n
	}
	l.refusedAt = now
	l.bytes = max(1, min(l.bytes, n/2))
	l.full = 0
}

// accepted takes in that a batch of n bytes was appended. The limit goes half
// the way back to what was refused, again and again, and stops short of it.
func (l *sizeLimit) accepted(n, most int, now seams.Instant) {
	if l.bytes >= most || n < l.bytes-l.bytes/4 {
		return
	}
	if l.full++; l.full < raiseLimitAfter {
		return
	}
	l.full = 0
	ceiling := most
	if now.Sub(l.refusedAt) <= forgetRefusalAfter {
		ceiling = min(most, l.refused-l.refused/16)
	}
	if ceiling > l.bytes {
		l.bytes += (ceiling - l.bytes + 1) / 2
	}
}

// split sends the records of a batch that is too large for the broker in two
// batches, in their order, each record under the number it has: a sequence never
// names another record. The halves have fewer records, so it ends at the latest
// with batches of one, which fail. What waits and is as large is split in its turn.
func (s *State) split(b *batch, now seams.Instant) {
	s.closeGate()
	if b.count == 1 || b.maybe {
		// With an attempt in doubt the broker may have the batch as it was, and
		// would not recognise the halves.
		s.fail(b, b.lastError, b.status())
		return
	}
	s.limit.lower(b.bytes, now)
	s.requeue(b)
	if o := s.open; o != nil && o.bytes > s.limit.bytes {
		s.sealOpen(now)
	}
	s.halveFirst()
	for _, p := range slices.Clone(s.pending) {
		if p.live() == 0 {
			s.unqueue(p)
			s.fail(p, messages.ErrDeliveryTimeout, p.status())
		}
	}
}

// halveFirst splits the batch that is next while it is larger than the broker is known
// to take. Others have time until it is their turn: to split all would unpack all.
func (s *State) halveFirst() {
	for len(s.pending) > 0 {
		p := s.pending[0]
		if p.bytes <= s.limit.bytes || p.count == 1 || p.maybe || p.compressing {
			return
		}
		s.halve(0)
	}
}

// halve puts two batches in the place of pending[i], of about the same size.
func (s *State) halve(i int) {
	b := s.pending[i]
	if err := s.unpack(b); err != nil {
		s.unqueue(b)
		s.fail(b, err, b.status())
		return
	}
	at, size := int32(0), 0
	b.eachRecord(func(n int32, r *protocol.Record) {
		if n == 0 || (size+len(r.Raw) <= b.bytes/2 && n == at) {
			at = n + 1
		}
		size += len(r.Raw)
	})
	at = min(at, b.count-1)
	s.note(messages.BatchSplit)
	s.tally.Add(messages.CountSplits, 1)
	first, second := s.carve(b, 0, at, nil), s.carve(b, at, b.count, nil)
	for _, w := range b.flushes {
		w.Add(1) // one more batch to wait for
	}
	first.flushes, second.flushes = b.flushes, slices.Clone(b.flushes)
	b.flushes = nil
	s.unsettled.insert(first, b)
	s.unsettled.insert(second, first)
	s.pending = slices.Replace(s.pending, i, i+1, first, second)
	s.backlogBytes += first.bytes + second.bytes - b.bytes
	s.discard(b)
	s.repack(first)
	s.repack(second)
}

// repack compresses a batch that was cut out of another.
func (s *State) repack(b *batch) {
	if b.codec != codecs.None {
		s.compress(b)
	}
}

// refuse ends a batch that the broker will not take. From version 8 of Produce on
// it may say which records are to blame (KIP-467): they get its word for it. The
// others fail because a batch is appended whole or not at all, or are sent
// again when the caller chose that.
func (s *State) refuse(b *batch, r messages.Result) {
	named := make(map[int32]string, len(r.RecordErrors))
	for _, e := range r.RecordErrors {
		if e.Index >= 0 && e.Index < b.count {
			named[e.Index] = e.Message
		}
	}
	if len(named) == 0 {
		s.fail(b, b.lastError, b.status())
		return
	}
	var guilty []int32
	var causes []*error
	for i := range b.count {
		if message, ok := named[i]; ok && !b.isAnswered(i) {
			cause := error(protocol.ErrorCode(r.Code))
			if message != "" {
				cause = fmt.Errorf("%w: %s", cause, message)
			}
			guilty, causes = append(guilty, i), append(causes, &cause)
		}
	}
	s.answerSome(b, guilty, causes, b.status())
	if !s.resendInnocent || b.maybe || b.live() == 0 {
		s.fail(b, fmt.Errorf("%w: %w", messages.ErrRefusedWithBatch, b.lastError), b.status())
		return
	}
	if err := s.unpack(b); err != nil {
		s.fail(b, err, b.status())
		return
	}
	// The rest is numbered anew: without the guilty ones its records would move
	// down to the numbers of others.
	s.note(messages.BatchCarved)
	if b.hasSequence {
		s.breakFrom(b)
	}
	// From here on both have the records, until the first is discarded.
	rest := s.carve(b, 0, b.count, b.isAnswered)
	rest.flushes, b.flushes = b.flushes, nil
	s.unsettled.insert(rest, b)
	s.discard(b)
	s.requeue(rest)
	s.repack(rest)
}

// carve makes a batch of the records from up to to of a batch that is certainly
// in no log, without the ones that leaveOut names. The records are copied: an
// old write may still be reading them.
func (s *State) carve(b *batch, from, to int32, leaveOut func(int32) bool) *batch {
	size := 0
	b.eachRecord(func(i int32, r *protocol.Record) {
		if i >= from && i < to {
			size += len(r.Raw)
		}
	})
	c := newBatch(b.box.Load(), b.order+batchOrder(from), b.acks, b.codec)
	c.sealed, c.numbered, c.attempts, c.broker, c.lastError, c.timeoutMs = true, b.numbered, b.attempts, b.broker, b.lastError, b.timeoutMs
	if b.hasSequence {
		c.hasSequence, c.identity, c.sequence = true, b.identity, protocol.AddSequence(b.sequence, from)
	}
	c.baseMs, c.maxMs = b.baseMs, math.MinInt64 // the record of that time may not be in it
	// A record is at most as long as it was: its timestamp delta stays, and its
	// offset delta gets smaller.
	out := make([]byte, protocol.BatchHeaderSize, protocol.BatchHeaderSize+size)
	c.side = &side{}
	walk := sideWalk{old: b.side}
	b.eachRecord(func(i int32, r *protocol.Record) {
		if i < from || i >= to || (leaveOut != nil && leaveOut(i)) {
			return
		}
		out = r.AppendMoved(out, r.TimestampDelta, c.count)
		c.maxMs = max(c.maxMs, b.baseMs+r.TimestampDelta)
		walk.copyTo(c.side, c.count, i)
		c.count++
	})
	c.bytes = len(out) - protocol.BatchHeaderSize
	s.chargeLedger(c)
	c.chunks, c.chunkFirst = []*memory.Chunk{s.charge(out)}, []int32{0}
	if leaveOut == nil {
		for i := from; i < to; i++ {
			if b.isAnswered(i) {
				c.markAnswered(i - from)
			}
		}
	}
	return c
}
