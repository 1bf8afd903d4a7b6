package accumulator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// A run holds for the records from first up to the next run's. Most batches
// have one of each kind: the same callback, the same context, the same
// millisecond.
type (
	callbackRun struct {
		first    int32
		callback messages.Callback
		many     messages.RangeCallback // of the same call; nil: none
	}
	replyRun struct {
		first int32
		to    messages.Recipient
	}
	contextRun struct {
		first int32
		ctx   context.Context // nil: none
	}
	stampRun struct {
		first    int32
		unixMs   int64
		admitted seams.Instant
	}
)

// side is what a batch knows of its records besides their bytes.
type side struct {
	callbacks []callbackRun
	replies   []replyRun // none unless actors produce
	contexts  []contextRun
	stamps    []stampRun
	tags      perRecord[uint64]
	opaques   perRecord[any]
	oldest    seams.Instant // admission among stamps
}

// perRecord is what callers gave along with their records, from the first that is
// not zero on.
type perRecord[T comparable] struct {
	first  int32
	values []T
}

// add takes the value of record i, which follows the last one. Zeros before the
// first that is not cost nothing: most callers give neither tags nor opaques.
func (p *perRecord[T]) add(i int32, v T) {
	var zero T
	if len(p.values) == 0 {
		if v == zero {
			return
		}
		p.first = i
	}
	p.values = append(p.values, v)
}

func (p *perRecord[T]) at(i int32) (v T) {
	if len(p.values) > 0 && i >= p.first {
		v = p.values[i-p.first]
	}
	return v
}

// countUp returns how many tags from that of record i up to end count up by one.
func countUp(tags *perRecord[uint64], i, end int32) int32 {
	if len(tags.values) == 0 || i < tags.first {
		return 1
	}
	first := tags.values[i-tags.first:]
	n := int32(1)
	for i+n < end && first[n] == first[0]+uint64(n) {
		n++
	}
	return n
}

func (p *perRecord[T]) reset() {
	clear(p.values)
	p.values = p.values[:0]
}

// batchOverhead is about what a batch takes besides its buffers, whatever it
// holds.
const batchOverhead = int(unsafe.Sizeof(batch{}) + unsafe.Sizeof(side{}))

// size is what the runs, tags and opaques take.
func (d *side) size() int {
	return len(d.callbacks)*int(unsafe.Sizeof(callbackRun{})) + len(d.replies)*int(unsafe.Sizeof(replyRun{})) + len(d.contexts)*int(unsafe.Sizeof(contextRun{})) +
		len(d.stamps)*int(unsafe.Sizeof(stampRun{})) +
		len(d.tags.values)*int(unsafe.Sizeof(uint64(0))) + len(d.opaques.values)*int(unsafe.Sizeof(any(nil)))
}

// batch is a run of records of one partition that lives and dies together on
// the wire. Before it is sealed it grows; from its first hand-over on its bytes
// are frozen.
type batch struct {
	// What every record changes stands in one line of the processor's cache: a
	// partition with several producers passes it from core to core with each.
	tail      []byte // free part: len 0, cap what is left of the last chunk
	bytes     int    // encoded records
	baseMs    int64
	maxMs     int64
	count     int32
	timeoutMs int32
	acks      messages.Acks
	codec     codecs.ID
	urgent    bool
	prompt    bool // no callback is the user's

	side  *side
	box   atomic.Pointer[Box] // changes when its topic is created again
	order batchOrder

	chunks     []*memory.Chunk // the first begins with room for the batch header
	chunkFirst []int32         // index of the first record in each chunk

	ledger  memory.Chunk // charges side and the batch itself
	charged int          // by ledger

	lingerUntil seams.Instant

	sealed      bool
	compressing bool
	packedChunk *memory.Chunk
	packed      []byte // the compressed records; nil: the chunks hold them
	packedCodec codecs.ID

	numbered    bool
	hasSequence bool
	identity    messages.Identity
	sequence    int32
	attempts    int
	maybe       bool // some attempt may have been appended
	broker      int32
	lastError   error
	current     *attempt // the attempt in flight
	first       attempt

	// Room for what most batches need, so that they are one allocation.
	chunkRoom [2]*memory.Chunk
	firstRoom [2]int32
	sliceRoom [3][]byte // of the first attempt

	answered      []uint64 // bit per record answered ahead of the batch
	answeredCount int32
	settled       bool
	failing       bool   // with all others, as it may have done before a crash
	before, after *batch // in the list of all without an outcome
	flushes       []*messages.FlushWaiter

	// holds keeps the buffers: one for the batch itself until it is settled, one
	// for each write that the transport may still be reading from.
	holds atomic.Int32
}

// attempt is one hand-over of a batch. An attempt that was taken back because
// the leader moved may still be answered; the answer then changes nothing.
type attempt struct {
	batch  *batch
	number uint64
	broker int32
	taken  seams.Instant
	lane   messages.Lane

	// What the header says, fixed with the lock held; the slices are made without
	// it, and an attempt that follows may begin before they are done.
	numbers numbers
	again   bool // not the batch's first attempt
	slices  [][]byte
}

func (a *attempt) Acks() messages.Acks { return a.batch.acks }
func (a *attempt) TimeoutMs() int32    { return a.batch.timeoutMs }
func (a *attempt) Bytes() int          { return a.batch.wireBytes() }
func (a *attempt) Slices() [][]byte    { return a.slices }
func (a *attempt) WriteEnded() {
	a.slices = nil
	a.batch.release()
}
func (a *attempt) Settle(r messages.Result) {
	a.batch.box.Load().settle(a, r)
}

// batchOrder is a batch's place in its partition's order of admission: the
// number of the batch, and behind it the index in that batch of the record it
// now begins with. Splitting thus needs no renumbering of those behind.
type batchOrder uint64

const orderStep batchOrder = 1 << 32

// String returns "3", or "3+17" for what was split off at record 17.
func (o batchOrder) String() string {
	if first := o % orderStep; first != 0 {
		return fmt.Sprintf("%d+%d", o/orderStep, first)
	}
	return strconv.FormatUint(uint64(o/orderStep), 10)
}

// newBatch returns an open batch without a buffer.
func newBatch(box *Box, order batchOrder, acks messages.Acks, codec codecs.ID) *batch {
	b := &batch{order: order, acks: acks, codec: codec, broker: -1, side: box.takeSide()}
	b.box.Store(box)
	b.chunks, b.chunkFirst = b.chunkRoom[:0], b.firstRoom[:0]
	b.holds.Store(1)
	return b
}

// wireBytes is the size on the wire as far as it is known: before compression
// the uncompressed size, an upper bound.
func (b *batch) wireBytes() int {
	if b.packed != nil {
		return protocol.BatchHeaderSize + len(b.packed)
	}
	return protocol.BatchHeaderSize + b.bytes
}

func (b *batch) addChunk(c *memory.Chunk) {
	b.trimTail()
	if len(b.chunks) == 0 {
		c.Bytes = c.Bytes[:protocol.BatchHeaderSize]
	}
	b.chunks = append(b.chunks, c)
	b.chunkFirst = append(b.chunkFirst, b.count)
	b.tail = c.Bytes[len(c.Bytes):cap(c.Bytes)]
	b.tail = b.tail[:0]
}

// trimTail writes the length of what was encoded back into the last chunk.
func (b *batch) trimTail() {
	if n := len(b.chunks); n > 0 {
		last := b.chunks[n-1]
		last.Bytes = last.Bytes[:cap(last.Bytes)-cap(b.tail)]
	}
}

func sameCallback(a, b messages.Callback) bool {
	// Two func values are the same closure exactly when their pointers are; Go
	// has no operator for it.
	return *(*unsafe.Pointer)(unsafe.Pointer(&a)) == *(*unsafe.Pointer)(unsafe.Pointer(&b))
}

// sameContext compares as sameCallback does: == panics for a context of a type
// that cannot be compared, and users make such.
func sameContext(a, b context.Context) bool {
	return *(*[2]unsafe.Pointer)(unsafe.Pointer(&a)) == *(*[2]unsafe.Pointer)(unsafe.Pointer(&b))
}

// add encodes a record into the tail, which has room for it.
func (b *batch) add(a *messages.Admission, unixMs int64, now seams.Instant) {
	r := a.Record
	if a.Admitted != 0 {
		now = a.Admitted
	}
	at := unixMs
	if !r.Timestamp.IsZero() {
		at = r.Timestamp.UnixMilli()
	}
	i := b.count
	if i == 0 {
		b.baseMs, b.maxMs = at, at
	} else if at > b.maxMs {
		b.maxMs = at
	}
	encoded := protocol.AppendRecord(b.tail, at-b.baseMs, i, r.Key, r.Value, r.Headers)

	d := b.side
	if n := len(d.callbacks); n == 0 || !sameCallback(d.callbacks[n-1].callback, a.Callback) {
		d.callbacks = append(d.callbacks, callbackRun{i, a.Callback, a.Range})
	}
	if a.ReplyTo != nil || len(d.replies) > 0 {
		d.reply(i, a.ReplyTo)
	}
	if n := len(d.stamps); n == 0 || d.stamps[n-1].unixMs != at || uint64(now-d.stamps[n-1].admitted) >= uint64(time.Millisecond) {
		// Also when it was admitted before: it may have waited in the parking.
		d.stamp(stampRun{i, at, now})
	}
	if n := len(d.contexts); a.Context != nil || n > 0 {
		if n == 0 || !sameContext(d.contexts[n-1].ctx, a.Context) {
			d.contexts = append(d.contexts, contextRun{i, a.Context})
		}
	}
	d.tags.add(i, r.Tag)
	d.opaques.add(i, r.Opaque)
	b.timeoutMs = max(b.timeoutMs, a.TimeoutMs)
	if a.Urgent {
		b.urgent = true
	}
	if !a.Prompt {
		b.prompt = false
	}
	// Last: until here the record is not in the batch, whatever happens.
	n := len(encoded)
	b.tail = encoded[n:n]
	b.bytes += n
	b.count = i + 1
}

// frame makes the slices of a batch whose records are final. The header of a
// first attempt stands right before the records; a later one gets a place of its
// own, since an old write may still be reading the first.
func (a *attempt) frame() (header []byte) {
	b := a.batch
	switch {
	case a.again:
		header = make([]byte, protocol.BatchHeaderSize)
	case b.packed != nil:
		header = b.packedChunk.Bytes[:protocol.BatchHeaderSize]
	default:
		header = b.chunks[0].Bytes[:protocol.BatchHeaderSize]
	}
	if a == &b.first && len(b.chunks) < len(b.sliceRoom) {
		a.slices = append(b.sliceRoom[:0], header)
	} else {
		a.slices = append(make([][]byte, 0, len(b.chunks)+1), header)
	}
	if b.packed != nil {
		a.slices = append(a.slices, b.packed)
		return header
	}
	for i, c := range b.chunks {
		records := c.Bytes
		if i == 0 {
			records = records[protocol.BatchHeaderSize:]
		}
		if len(records) > 0 {
			a.slices = append(a.slices, records)
		}
	}
	return header
}

// stamp writes the header for the attempt and the checksum. It runs outside the
// box's lock, under the hold of the attempt, and touches only what is the
// attempt's own or final: the leader may have moved meanwhile, and the next
// attempt be stamped at the same time. A retry under the same numbers is the
// same, byte for byte.
func (a *attempt) stamp() {
	b := a.batch
	header := a.frame()
	h := protocol.BatchHeader{
		BaseTimestamp: b.baseMs, MaxTimestamp: b.maxMs,
		ProducerID: messages.NoProducerID, ProducerEpoch: -1, BaseSequence: -1,
		Records: b.count,
	}
	records := b.bytes
	if b.packed != nil {
		h.Attributes = int16(b.packedCodec)
		records = len(b.packed)
	}
	if n := a.numbers; n.has {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = n.identity.ProducerID, n.identity.Epoch, n.sequence
	}
	protocol.PutBatchHeader(header, &h, records)
	protocol.SealBatchCRC(header, a.slices[1:])
}

// numbers are what a header carries of the producer's numbering.
type numbers struct {
	has      bool
	identity messages.Identity
	sequence int32
}

// drop gives up one hold and returns the buffers if it was the last. The caller
// releases them outside the box's lock: whoever waits for room is told at once.
func (b *batch) drop() []*memory.Chunk {
	if b.holds.Add(-1) != 0 {
		return nil
	}
	chunks := b.chunks
	if b.packedChunk != nil {
		chunks = append(chunks, b.packedChunk)
	}
	b.chunks, b.tail, b.packed, b.packedChunk = nil, nil, nil, nil
	return chunks
}

// release is drop for callers without the lock.
func (b *batch) release() {
	if chunks := b.drop(); len(chunks) > 0 {
		b.box.Load().budget.Release(chunks...)
	}
}

func (b *batch) isAnswered(i int32) bool {
	return b.answered != nil && b.answered[i/64]&(1<<(i%64)) != 0
}

func (b *batch) markAnswered(i int32) {
	if b.answered == nil {
		b.answered = make([]uint64, (b.count+63)/64)
	}
	b.answered[i/64] |= 1 << (i % 64)
	b.answeredCount++
}

func (b *batch) live() int32 { return b.count - b.answeredCount }

// oldestAdmission is when the oldest record came in: most often the first, but
// one that waited in the parking may stand behind younger ones.
func (b *batch) oldestAdmission() seams.Instant { return b.side.oldest }

// reply notes who is sent the outcome of record i. An actor sends many records in a
// turn, under the same PID: they are one run.
func (d *side) reply(i int32, to messages.Recipient) {
	n := len(d.replies)
	switch {
	case n > 0 && d.replies[n-1].to == to, n == 0 && to == nil:
		return
	case n == 0 && i > 0:
		d.replies = append(d.replies, replyRun{})
	}
	d.replies = append(d.replies, replyRun{i, to})
}

// stamp begins a run.
func (d *side) stamp(r stampRun) {
	if len(d.stamps) == 0 || r.admitted < d.oldest {
		d.oldest = r.admitted
	}
	d.stamps = append(d.stamps, r)
}

// runEnd is behind the last record of the nth run of those admitted together.
func (b *batch) runEnd(n int) int32 {
	if n+1 < len(b.side.stamps) {
		return b.side.stamps[n+1].first
	}
	return b.count
}

// dueAfter is when the next records time out that have not yet.
func (b *batch) dueAfter(now seams.Instant, timeout time.Duration) seams.Instant {
	at := seams.Never
	for _, run := range b.side.stamps {
		if due := run.admitted.Add(timeout); due > now {
			at = min(at, due)
		}
	}
	return at
}

func (b *batch) status() messages.Status {
	if b.maybe || b.current != nil {
		return messages.PossiblyPersisted
	}
	return messages.NotPersisted
}

// workbench is where a batch is compressed: what it needs is not known before, and
// kept for the next batch. There are as many as codecs run at once.
type workbench struct {
	plain  []byte // the records of several chunks, copied together
	packed []byte
}

var benches = sync.Pool{New: func() any { return new(workbench) }}

// contiguous returns the encoded records as one slice, copied together in room
// when they stand in several chunks.
func (b *batch) contiguous(room *[]byte) []byte {
	if len(b.chunks) == 1 {
		return b.chunks[0].Bytes[protocol.BatchHeaderSize:]
	}
	joined := slices.Grow((*room)[:0], b.bytes)
	for i, c := range b.chunks {
		records := c.Bytes
		if i == 0 {
			records = records[protocol.BatchHeaderSize:]
		}
		joined = append(joined, records...)
	}
	*room = joined
	return joined
}
