package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The reasons inside a [DecodeError], for errors.Is.
var (
	// ErrTruncated says that the input ends inside the field.
	ErrTruncated = errors.New("input ends inside it")
	// ErrLength says that a length or count is negative, too small for what it
	// covers, or larger than the bytes that follow can hold.
	ErrLength = errors.New("impossible length")
	// ErrVarint says that a variable-length integer has more bits than its type.
	ErrVarint = errors.New("overlong varint")
	// ErrNull says that a value is null where the protocol does not allow it.
	ErrNull = errors.New("null is not allowed")
	// ErrTrailing says that bytes are left over after the last field: a sign of
	// the wrong version rather than of a damaged input.
	ErrTrailing = errors.New("bytes left over after it")
	// ErrMagic says that a batch is not of format 2.
	ErrMagic = errors.New("not a batch of format 2")
	// ErrCRC says that the checksum of a batch does not match its bytes.
	ErrCRC = errors.New("checksum mismatch")
	// ErrVersion says that the version is not one this package implements.
	ErrVersion = errors.New("unsupported version")
)

// DecodeError is the error of every decoder in this package.
type DecodeError struct {
	// Field is the field that could not be read, in the protocol's own words
	// ("partition_responses.record_errors").
	Field string
	// Offset is where the field starts, in bytes from the start of the input.
	Offset int
	// Err is one of the reasons above.
	Err error
}

// Error names the field, the offset and the reason.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("protocol: %s at byte %d: %v", e.Field, e.Offset, e.Err)
}

// Unwrap gives the reason.
func (e *DecodeError) Unwrap() error { return e.Err }

// cursor reads fields one after the other and never beyond the end. The first
// failure sticks: later reads give zeros and move nothing, so that a decoder
// checks once per loop and not once per field. It lives on the stack; only a
// failure allocates.
type cursor struct {
	b   []byte
	off int
	// end bounds the reads: len(b), or less inside a tagged field, so that
	// offsets in errors are those of the whole input.
	end int
	err *DecodeError
}

func newCursor(b []byte) cursor { return cursor{b: b, end: len(b)} }

// remaining is the number of unread bytes.
func (c *cursor) remaining() int { return c.end - c.off }

// failed reports the sticky failure.
func (c *cursor) failed() bool { return c.err != nil }

// fail records a failure at the current position unless there is one already,
// and makes every later read come up empty.
func (c *cursor) fail(field string, reason error) {
	if c.err == nil {
		c.err = &DecodeError{Field: field, Offset: c.off, Err: reason}
	}
	c.end = c.off
}

// take returns the next n bytes without copying them, or nil.
func (c *cursor) take(n int, field string) []byte {
	if n > c.remaining() {
		c.fail(field, ErrTruncated)
		return nil
	}
	b := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

func (c *cursor) int16(field string) int16 {
	if b := c.take(2, field); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) int32(field string) int32 {
	if b := c.take(4, field); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cursor) int64(field string) int64 {
	if b := c.take(8, field); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (c *cursor) uuid(field string) (id [16]byte) {
	copy(id[:], c.take(16, field))
	return id
}

func (c *cursor) uvarint(field string) uint32 {
	u, n := readUvarint(c.b[c.off:c.end], 32)
	if n <= 0 {
		c.failVarint(n, field)
		return 0
	}
	c.off += n
	return uint32(u)
}

// varint reads a zigzag integer of 32 or 64 bits.
func (c *cursor) varint(valueBits uint, field string) int64 {
	v, n := readVarint(c.b[c.off:c.end], valueBits)
	if n <= 0 {
		c.failVarint(n, field)
		return 0
	}
	c.off += n
	return v
}

func (c *cursor) failVarint(n int, field string) {
	if n == 0 {
		c.fail(field, ErrTruncated)
		return
	}
	c.fail(field, ErrVarint)
}

// length reads the length of a string or the count of an array: -1 for null.
// Flexible versions write n+1 as a uvarint and 0 for null; the others a signed
// number, 16 bits wide for strings and 32 for arrays.
func (c *cursor) length(flexible, isString bool, field string) int {
	start := c.off
	var n int64
	switch {
	case flexible:
		n = int64(c.uvarint(field)) - 1
	case isString:
		n = int64(c.int16(field))
	default:
		n = int64(c.int32(field))
	}
	if c.failed() {
		return -1
	}
	if n < -1 || n > int64(c.remaining()) {
		c.off = start
		c.fail(field, ErrLength)
		return -1
	}
	return int(n)
}

// nullableString returns the bytes of a string, aliasing the input; nil is null,
// an empty string is empty and not nil.
func (c *cursor) nullableString(flexible bool, field string) []byte {
	n := c.length(flexible, true, field)
	if n < 0 {
		return nil
	}
	return c.take(n, field)
}

// str is nullableString for strings that may not be null.
func (c *cursor) str(flexible bool, field string) []byte {
	start := c.off
	s := c.nullableString(flexible, field)
	if s == nil && !c.failed() {
		c.off = start
		c.fail(field, ErrNull)
	}
	return s
}

// count reads the number of elements of an array whose elements take at least
// minSize bytes each. A count that the remaining bytes cannot hold fails here,
// before anyone reserves memory for it. Null counts as empty: no array of
// Produce may be null, but refusing the answer would turn settled batches into
// doubtful ones.
func (c *cursor) count(flexible bool, minSize int, field string) int {
	start := c.off
	n := c.length(flexible, false, field)
	if n <= 0 {
		return 0
	}
	if n > c.remaining()/minSize {
		c.off = start
		c.fail(field, ErrLength)
		return 0
	}
	return n
}

// tags reads the head of a tagged section (KIP-482): the number of fields.
// Every field takes two bytes at least.
func (c *cursor) tags(field string) int {
	start := c.off
	n := c.uvarint(field)
	if int64(n) > int64(c.remaining()/2) {
		c.off = start
		c.fail(field, ErrLength)
		return 0
	}
	return int(n)
}

// tag reads the number and the size of one tagged field; its data follows.
func (c *cursor) tag(field string) (number uint32, size int) {
	number = c.uvarint(field)
	start := c.off
	n := c.uvarint(field)
	if int64(n) > int64(c.remaining()) {
		c.off = start
		c.fail(field, ErrLength)
		return number, 0
	}
	return number, int(n)
}

// skipTags passes over a tagged section of which no field is known.
func (c *cursor) skipTags(field string) {
	for n := c.tags(field); n > 0 && !c.failed(); n-- {
		_, size := c.tag(field)
		c.take(size, field)
	}
}

// sub narrows the cursor to the next size bytes, which the caller has checked,
// and returns the end to give back to leave.
func (c *cursor) sub(size int) (outerEnd int) {
	outerEnd = c.end
	c.end = c.off + size
	return outerEnd
}

// leave widens the cursor again; what was inside must be used up.
func (c *cursor) leave(outerEnd int, field string) {
	c.finish(field)
	if !c.failed() {
		c.end = outerEnd
	}
}

// finish fails if bytes are left over.
func (c *cursor) finish(field string) {
	if !c.failed() && c.remaining() != 0 {
		c.fail(field, ErrTrailing)
	}
}

// error gives the failure as an error, and a true nil if there is none.
func (c *cursor) error() error {
	if c.err == nil {
		return nil
	}
	return c.err
}
