package accumulator

import (
	"github.com/troupe-kafka/troupe/protocol"
)

// cutAnswered removes the answered records from a sealed batch that was never
// handed over. The rest is encoded again in place, since offset deltas must have
// no holes: each record gets at most as long as it was, so writing never
// overtakes reading.
func (b *batch) cutAnswered() {
	old := b.side
	fresh := &side{}
	index, kept := int32(0), int32(0)
	bytes := 0
	maxMs := b.baseMs
	callback, stamp, ctx := 0, 0, 0
	var firsts []int32
	for n, chunk := range b.chunks {
		start := 0
		if n == 0 {
			start = protocol.BatchHeaderSize
		}
		end := b.count
		if n+1 < len(b.chunkFirst) {
			end = b.chunkFirst[n+1]
		}
		it := protocol.NewRecordIterator(chunk.Bytes[start:], int(end-b.chunkFirst[n]))
		firsts = append(firsts, kept)
		out := chunk.Bytes[start:start]
		for {
			r, ok := it.Next()
			if !ok {
				break
			}
			callback = runAt(old.callbacks, callback, index, func(r callbackRun) int32 { return r.first })
			stamp = runAt(old.stamps, stamp, index, func(r stampRun) int32 { return r.first })
			ctx = runAt(old.contexts, ctx, index, func(r contextRun) int32 { return r.first })
			if !b.isAnswered(index) {
				out = r.AppendMoved(out, r.TimestampDelta, kept)
				fresh.copyRuns(old, kept, index, callback, stamp, ctx)
				maxMs = max(maxMs, b.baseMs+r.TimestampDelta)
				kept++
			}
			index++
		}
		bytes += len(out)
		chunk.Bytes = chunk.Bytes[:start+len(out)]
	}
	b.side, b.count, b.bytes, b.maxMs, b.chunkFirst = fresh, kept, bytes, maxMs, firsts
	b.answered, b.answeredCount = nil, 0
}

// runAt returns the run that holds for record index, searching on from at.
func runAt[R any](runs []R, at int, index int32, first func(R) int32) int {
	for at+1 < len(runs) && first(runs[at+1]) <= index {
		at++
	}
	return at
}

// copyRuns adds what old knows of record index as record kept.
func (d *side) copyRuns(old *side, kept, index int32, callback, stamp, ctx int) {
	if c := old.callbacks[callback]; len(d.callbacks) == 0 || !sameCallback(d.callbacks[len(d.callbacks)-1].callback, c.callback) {
		d.callbacks = append(d.callbacks, callbackRun{kept, c.callback})
	}
	if st := old.stamps[stamp]; len(d.stamps) == 0 || d.stamps[len(d.stamps)-1] != (stampRun{d.stamps[len(d.stamps)-1].first, st.unixMs, st.admitted}) {
		d.stamps = append(d.stamps, stampRun{kept, st.unixMs, st.admitted})
	}
	if len(old.contexts) > 0 && old.contexts[ctx].first <= index {
		if c := old.contexts[ctx].ctx; len(d.contexts) == 0 || d.contexts[len(d.contexts)-1].ctx != c {
			d.contexts = append(d.contexts, contextRun{kept, c})
		}
	}
	t := old.token(index)
	if len(d.tokens) > 0 {
		d.tokens = append(d.tokens, t)
	} else if t != (token{}) {
		d.tokenBase = kept
		d.tokens = append(d.tokens, t)
	}
}

// token returns what the caller wants back with record i.
func (d *side) token(i int32) token {
	if len(d.tokens) == 0 || i < d.tokenBase {
		return token{}
	}
	return d.tokens[i-d.tokenBase]
}
