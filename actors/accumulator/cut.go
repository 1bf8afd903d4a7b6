package accumulator

import (
	"math"

	"github.com/troupe-kafka/troupe/protocol"
)

// eachRecord decodes the records of a batch in order.
func (b *batch) eachRecord(fn func(i int32, r *protocol.Record)) {
	for n := range b.chunks {
		b.eachInChunk(n, fn)
	}
}

// eachInChunk is eachRecord for one chunk, and returns where its records begin.
func (b *batch) eachInChunk(n int, fn func(i int32, r *protocol.Record)) (start int) {
	if n == 0 {
		start = protocol.BatchHeaderSize
	}
	i, end := b.chunkFirst[n], b.count
	if n+1 < len(b.chunkFirst) {
		end = b.chunkFirst[n+1]
	}
	it := protocol.NewRecordIterator(b.chunks[n].Bytes[start:], int(end-i))
	for r, ok := it.Next(); ok; r, ok = it.Next() {
		fn(i, &r)
		i++
	}
	return start
}

// cutAnswered removes the answered records from a sealed batch that was never
// handed over. The rest is encoded again in place, since offset deltas must have
// no holes: each record gets at most as long as it was, so writing never
// overtakes reading.
func (b *batch) cutAnswered() {
	fresh := &side{}
	walk := sideWalk{old: b.side}
	kept, bytes, maxMs := int32(0), 0, int64(math.MinInt64) // the first may be gone
	var firsts []int32
	for n, chunk := range b.chunks {
		firsts = append(firsts, kept)
		start := 0
		if n == 0 {
			start = protocol.BatchHeaderSize
		}
		out := chunk.Bytes[start:start]
		b.eachInChunk(n, func(i int32, r *protocol.Record) {
			if b.isAnswered(i) {
				return
			}
			out = r.AppendMoved(out, r.TimestampDelta, kept)
			walk.copyTo(fresh, kept, i)
			maxMs = max(maxMs, b.baseMs+r.TimestampDelta)
			kept++
		})
		bytes += len(out)
		chunk.Bytes = chunk.Bytes[:start+len(out)]
	}
	b.side, b.count, b.bytes, b.maxMs, b.chunkFirst = fresh, kept, bytes, maxMs, firsts
	b.answered, b.answeredCount = nil, 0
}

// sideWalk reads what a side knows of records, in ascending order.
type sideWalk struct {
	old                         *side
	callback, reply, stamp, ctx int
}

// runAt returns the run that holds for record index, searching on from at.
func runAt[R any](runs []R, at int, index int32, first func(R) int32) int {
	for at+1 < len(runs) && first(runs[at+1]) <= index {
		at++
	}
	return at
}

// copyTo adds what is known of record index to d as record kept.
func (w *sideWalk) copyTo(d *side, kept, index int32) {
	old := w.old
	w.callback = runAt(old.callbacks, w.callback, index, func(r callbackRun) int32 { return r.first })
	w.stamp = runAt(old.stamps, w.stamp, index, func(r stampRun) int32 { return r.first })
	w.ctx = runAt(old.contexts, w.ctx, index, func(r contextRun) int32 { return r.first })
	if c := old.callbacks[w.callback]; len(d.callbacks) == 0 || !sameCallback(d.callbacks[len(d.callbacks)-1].callback, c.callback) {
		d.callbacks = append(d.callbacks, callbackRun{kept, c.callback, c.many})
	}
	if len(old.replies) > 0 {
		w.reply = runAt(old.replies, w.reply, index, func(r replyRun) int32 { return r.first })
		d.reply(kept, old.replies[w.reply].to)
	}
	if st := old.stamps[w.stamp]; len(d.stamps) == 0 || d.stamps[len(d.stamps)-1] != (stampRun{d.stamps[len(d.stamps)-1].first, st.unixMs, st.admitted}) {
		d.stamp(stampRun{kept, st.unixMs, st.admitted})
	}
	if len(old.contexts) > 0 && old.contexts[w.ctx].first <= index {
		if c := old.contexts[w.ctx].ctx; len(d.contexts) == 0 || !sameContext(d.contexts[len(d.contexts)-1].ctx, c) {
			d.contexts = append(d.contexts, contextRun{kept, c})
		}
	}
	d.tags.add(kept, old.tags.at(index))
	d.opaques.add(kept, old.opaques.at(index))
}
