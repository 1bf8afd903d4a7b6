package protocol

import (
	"encoding/binary"
	"math"
)

// The versions of Produce that this package writes and reads. Brokers may
// advertise less than MinProduceVersion (KAFKA-18659); those versions cannot
// carry batches of format 2 and must not be chosen.
const (
	MinProduceVersion int16 = 3
	MaxProduceVersion int16 = 13
)

const (
	produceKey int16 = 0
	// produceFlexible is the first version with compact lengths and tags.
	produceFlexible int16 = 9
	// produceTopicIDs is the first version with topic ids instead of names
	// (KIP-516).
	produceTopicIDs int16 = 13
)

// The Overhead functions bound, for every version, what a request takes beside
// the batches it carries, so that a caller can keep it below a limit before it
// is built: ProduceRequestOverhead once, ProduceTopicOverhead per topic and
// ProducePartitionOverhead per partition, all in bytes.

// ProducePartitionOverhead bounds a partition without its batch: the index, the
// size of the batch, the tags.
const ProducePartitionOverhead = 4 + maxVarint32Len + 1

// ProduceTopicOverhead bounds a topic without its partitions: the longer of its
// name and its id, the number of partitions, the tags.
func ProduceTopicOverhead(name string) int {
	const uuidSize = 16
	return max(maxVarint32Len+len(name), uuidSize) + maxVarint32Len + 1
}

// ProduceRequestOverhead bounds a request without its topics, with the frame
// size and the header.
func ProduceRequestOverhead(clientID string, transactionalID *string) int {
	n := FrameSizeBytes + requestHeaderOverhead + len(clientID) +
		maxVarint32Len + // transactional id
		2 + 4 + // acks, timeout
		maxVarint32Len + 1 // number of topics, tags
	if transactionalID != nil {
		n += len(*transactionalID)
	}
	return n
}

// ProduceEncoder builds Produce requests as chains of slices. What it writes
// itself, it writes into one buffer of its own; batches are referenced where
// they are. Call Begin, then Topic and for each of its partitions Partition, and
// Finish; then again from Begin. The zero value is ready. One goroutine at a
// time.
//
// It trusts its caller and panics if the version is none that it knows, if
// counts do not match, or if a string or the request is longer than its length
// field can say.
type ProduceEncoder struct {
	scratch []byte
	// out is the chain. Slices into scratch stand in it as holes until Finish,
	// because scratch moves when it grows.
	out   [][]byte
	holes []hole
	// cut is where the piece of scratch that is being written starts.
	cut     int
	batched int64 // bytes of batches referenced
	size    int
	version int16
	// topics and partitions are how many of each were promised and did not come.
	topics, partitions int
	open               bool
}

// hole is a place in the chain that belongs to scratch[start:end].
type hole struct{ at, start, end int }

// Begin starts a request of the given version, MinProduceVersion to
// MaxProduceVersion, that will have exactly topics topics, and gives up the one
// before. acks is -1, 0 or 1; timeoutMs is how long the broker may wait for
// replicas, in milliseconds. A nil transactionalID is null: no transaction. The
// slices that Finish returned before become invalid.
func (e *ProduceEncoder) Begin(version int16, correlationID int32, clientID string, transactionalID *string, acks int16, timeoutMs int32, topics int) {
	if version < MinProduceVersion || version > MaxProduceVersion {
		panic("protocol: Produce is written in versions 3 to 13 only")
	}
	e.Reset()
	e.version, e.topics, e.open = version, topics, true
	flexible := e.flexible()

	b := append(e.scratch, 0, 0, 0, 0) // the frame size, known at Finish
	b = AppendRequestHeader(b, produceKey, version, correlationID, clientID, flexible)
	switch {
	case transactionalID == nil && flexible:
		b = append(b, 0)
	case transactionalID == nil:
		b = append(b, 0xff, 0xff)
	case flexible:
		b = appendCompactString(b, *transactionalID)
	default:
		b = appendString(b, *transactionalID)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(acks))
	b = binary.BigEndian.AppendUint32(b, uint32(timeoutMs))
	e.scratch = appendArrayLen(b, topics, flexible)
}

// Topic starts a topic with exactly that many partitions. The name travels up to
// version 12 and the id from 13 on; the other is ignored. A zero id makes the
// broker answer UNKNOWN_TOPIC_ID.
func (e *ProduceEncoder) Topic(name string, id [16]byte, partitions int) {
	e.endTopic()
	if !e.open || e.topics == 0 {
		panic("protocol: more topics than Begin was told")
	}
	e.topics--
	e.partitions = partitions
	flexible := e.flexible()
	b := e.scratch
	switch {
	case e.version >= produceTopicIDs:
		b = append(b, id[:]...)
	case flexible:
		b = appendCompactString(b, name)
	default:
		b = appendString(b, name)
	}
	e.scratch = appendArrayLen(b, partitions, flexible)
	if partitions == 0 {
		e.endTags()
	}
}

// Partition adds one partition of the topic with its batch: the header and the
// records, sealed, in any number of slices. They are not copied, so they must
// stay as they are until the request has been written; the slice of slices
// itself is not kept. Brokers accept exactly one batch per partition.
func (e *ProduceEncoder) Partition(index int32, batch [][]byte) {
	if !e.open || e.partitions == 0 {
		panic("protocol: more partitions than Topic was told")
	}
	e.partitions--
	var size int64
	for _, s := range batch {
		size += int64(len(s))
	}
	if size >= math.MaxInt32 {
		panic("protocol: a batch must take less than 2 GiB")
	}
	e.batched += size

	b := binary.BigEndian.AppendUint32(e.scratch, uint32(index))
	if e.flexible() {
		e.scratch = appendUvarint(b, uint32(size)+1)
	} else {
		e.scratch = binary.BigEndian.AppendUint32(b, uint32(size))
	}
	e.closePiece()
	for _, s := range batch {
		if len(s) > 0 {
			e.out = append(e.out, s)
		}
	}
	e.endTags()
	if e.partitions == 0 {
		e.endTags() // of the topic
	}
}

// Finish completes the request and returns its frame with the size in front, as
// slices to be written in order (net.Buffers). They are valid until the next
// Begin or Reset; a net.Buffers made of them may consume the returned slice.
func (e *ProduceEncoder) Finish() [][]byte {
	e.endTopic()
	if !e.open || e.topics != 0 {
		panic("protocol: fewer topics than Begin was told")
	}
	e.open = false
	e.endTags()
	e.closePiece()
	total := int64(len(e.scratch)) + e.batched
	putFrameSize(e.scratch, total-FrameSizeBytes)
	e.size = int(total)
	for _, h := range e.holes {
		e.out[h.at] = e.scratch[h.start:h.end:h.end]
	}
	return e.out
}

// Size is the size in bytes of the request that Finish returned last, with the
// frame size; 0 after Begin and Reset.
func (e *ProduceEncoder) Size() int { return e.size }

// Reset lets go of the batches of the last request, so that an idle encoder does
// not keep their buffers alive. Its own buffers stay.
func (e *ProduceEncoder) Reset() {
	clear(e.out)
	*e = ProduceEncoder{scratch: e.scratch[:0], out: e.out[:0], holes: e.holes[:0]}
}

func (e *ProduceEncoder) flexible() bool { return e.version >= produceFlexible }

// endTopic checks that the topic before has all its partitions.
func (e *ProduceEncoder) endTopic() {
	if e.partitions != 0 {
		panic("protocol: fewer partitions than Topic was told")
	}
}

// endTags ends a struct: no tagged fields, in the versions that have any.
func (e *ProduceEncoder) endTags() {
	if e.flexible() {
		e.scratch = append(e.scratch, 0)
	}
}

// closePiece puts what was written since the last piece into the chain.
func (e *ProduceEncoder) closePiece() {
	if e.cut == len(e.scratch) {
		return
	}
	e.holes = append(e.holes, hole{at: len(e.out), start: e.cut, end: len(e.scratch)})
	e.out = append(e.out, nil)
	e.cut = len(e.scratch)
}
