package protocol

import "math"

// Header is one header of a record (KIP-82).
type Header struct {
	// Key may be empty but not null. Kafka reads it as UTF-8 and wants the keys
	// of a record in no order; a key may stand more than once.
	Key string
	// Value is any bytes; nil is null, which is not the same as empty.
	Value []byte
}

// worstFixedRecord bounds everything in a record but the bytes of key, value and
// headers: the length prefix, attributes, timestamp delta, offset delta, key
// length, value length and header count.
const worstFixedRecord = maxVarint32Len + 1 + maxVarint64Len + 4*maxVarint32Len

// worstFixedHeader bounds the two lengths of a header.
const worstFixedHeader = 2 * maxVarint32Len

// RecordUpperBound is the worst-case encoded size of a record in bytes, for the
// room check that is made before the lock is taken and before the deltas are
// known. A length of -1 for a null key or value counts as 0. The result
// saturates at math.MaxInt32, because a record's own length field is an int32;
// a record that reaches it must be refused.
func RecordUpperBound(keyLen, valueLen int, headers []Header) int {
	n := boundedAdd(boundedAdd(worstFixedRecord, keyLen), valueLen)
	for i := range headers {
		n = boundedAdd(n, worstFixedHeader)
		n = boundedAdd(boundedAdd(n, len(headers[i].Key)), len(headers[i].Value))
	}
	return n
}

// boundedAdd adds a length to n, which is at most math.MaxInt32, and stays there.
func boundedAdd(n, length int) int {
	if length <= 0 {
		return n
	}
	if length >= math.MaxInt32-n {
		return math.MaxInt32
	}
	return n + length
}

// RecordSize is the exact encoded size of a record in bytes, with its length
// prefix: what [AppendRecord] appends for the same arguments. The record must be
// one whose [RecordUpperBound] is below math.MaxInt32.
func RecordSize(timestampDelta int64, offsetDelta int32, key, value []byte, headers []Header) int {
	body := recordBodySize(timestampDelta, offsetDelta, key, value, headers)
	return varintLen(int64(body)) + body
}

// recordBodySize is the size of a record without its length prefix. The first
// three bytes are the attributes and, at least, the two lengths.
func recordBodySize(timestampDelta int64, offsetDelta int32, key, value []byte, headers []Header) int {
	n := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) +
		lengthSize(len(key)) + len(key) +
		lengthSize(len(value)) + len(value) +
		lengthSize(len(headers))
	for i := range headers {
		h := &headers[i]
		n += lengthSize(len(h.Key)) + len(h.Key) + lengthSize(len(h.Value)) + len(h.Value)
	}
	return n
}

// lengthSize is varintLen for a number that is not negative. Null, which is
// written as -1, takes one byte like 0, so the length of a nil slice will do.
func lengthSize(n int) int { return uvarintLen(uint64(n) << 1) }

// AppendRecord appends one record of a batch of format 2 to dst and returns the
// longer slice. It writes in place and never grows: dst must have the room
// ([RecordUpperBound] bytes always suffice, [RecordSize] exactly), and too
// little of it panics, because a chunk that moved would leave the byte budget.
//
// timestampDelta is in milliseconds from the batch's base timestamp, offsetDelta
// counts from the batch's first record. A nil key or value is null (a null value
// is a tombstone on a compacted topic); an empty one that is not nil is empty.
// The bytes are copied: the caller may reuse its slices at once.
//
// Layout (KIP-98): length, attributes 0, timestamp delta, offset delta, key,
// value, headers; all numbers but the attributes are zigzag varints.
func AppendRecord(dst []byte, timestampDelta int64, offsetDelta int32, key, value []byte, headers []Header) []byte {
	body := recordBodySize(timestampDelta, offsetDelta, key, value, headers)
	start := len(dst)
	dst = dst[:start+varintLen(int64(body))+body]
	b := dst[start:]

	// One byte each is the common case of these three. It is spelled out because
	// a helper for it is too large for the compiler to inline, and a call costs
	// as much as the rest of the field.
	i := 1
	if u := zigzag(int64(body)); u < 1<<7 {
		b[0] = byte(u)
	} else {
		i = putUvarintLong(b, 0, u)
	}
	b[i] = 0 // attributes: none is defined
	i++
	if u := zigzag(timestampDelta); u < 1<<7 {
		b[i] = byte(u)
		i++
	} else {
		i = putUvarintLong(b, i, u)
	}
	if u := zigzag(int64(offsetDelta)); u < 1<<7 {
		b[i] = byte(u)
		i++
	} else {
		i = putUvarintLong(b, i, u)
	}
	i = putNullable(b, i, key)
	i = putNullable(b, i, value)
	if len(headers) == 0 {
		b[i] = 0
		return dst
	}
	i = putVarint(b, i, int64(len(headers)))
	for k := range headers {
		h := &headers[k]
		i = putVarint(b, i, int64(len(h.Key)))
		i += copy(b[i:], h.Key)
		i = putNullable(b, i, h.Value)
	}
	return dst
}

// putNullable writes a length and the bytes, or the length -1 for nil.
func putNullable(b []byte, i int, v []byte) int {
	if v == nil {
		b[i] = 1 // zigzag of -1
		return i + 1
	}
	if u := uint64(len(v)) << 1; u < 1<<7 {
		b[i] = byte(u)
		i++
	} else {
		i = putUvarintLong(b, i, u)
	}
	return i + copy(b[i:], v)
}
