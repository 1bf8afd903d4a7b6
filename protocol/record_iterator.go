package protocol

// minRecordSize is the smallest record: length, attributes, two deltas, two
// lengths and a header count of one byte each.
const minRecordSize = 7

// Record is one record as [RecordIterator] found it. Its slices alias the
// iterator's input.
type Record struct {
	// Attributes is unused by Kafka and 0 from our encoder.
	Attributes int8
	// TimestampDelta is in milliseconds from the batch's base timestamp.
	TimestampDelta int64
	// OffsetDelta counts from the batch's base offset.
	OffsetDelta int32
	// Key and Value are nil when null, and empty but not nil when empty.
	Key, Value []byte
	// HeaderCount is the number of headers; AppendHeaders decodes them.
	HeaderCount int
	// Raw is the whole record with its length prefix.
	Raw []byte

	// tail is Raw from the key's length on: all that does not depend on the
	// record's place in a batch. headers is the part of it behind the count.
	tail, headers []byte
}

// AppendHeaders decodes the headers, appends them to dst and returns it. Values
// alias the input; keys are copied into strings, so this allocates where the
// rest of a record does not. The iterator has already checked every bound.
func (r *Record) AppendHeaders(dst []Header) []Header {
	c := newCursor(r.headers)
	for i := 0; i < r.HeaderCount && !c.failed(); i++ {
		key := recordBytes(&c, "")
		value := recordBytes(&c, "")
		dst = append(dst, Header{Key: string(key), Value: value})
	}
	return dst
}

// MovedSize is the number of bytes that AppendMoved appends for the same deltas.
func (r *Record) MovedSize(timestampDelta int64, offsetDelta int32) int {
	body := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) + len(r.tail)
	return varintLen(int64(body)) + body
}

// AppendMoved appends the record to dst with other deltas, for a batch that is
// split: key, value and headers are copied as one block of bytes and never
// decoded, so the record cannot change on the way. Like [AppendRecord] it writes
// in place and panics if dst has less room than MovedSize.
func (r *Record) AppendMoved(dst []byte, timestampDelta int64, offsetDelta int32) []byte {
	body := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) + len(r.tail)
	start := len(dst)
	dst = dst[:start+varintLen(int64(body))+body]
	b := dst[start:]
	i := putVarint(b, 0, int64(body))
	b[i] = byte(r.Attributes)
	i = putVarint(b, i+1, timestampDelta)
	i = putVarint(b, i, int64(offsetDelta))
	copy(b[i:], r.tail)
	return dst
}

// RecordIterator reads the records of a batch's uncompressed body one by one. It
// allocates nothing and can be copied; make one with [NewRecordIterator].
type RecordIterator struct {
	c cursor
	// left is the number of records still to come.
	left int
}

// NewRecordIterator reads count records from body, which must be exactly that
// long. A count that body cannot hold is an error on the first Next.
func NewRecordIterator(body []byte, count int) RecordIterator {
	it := RecordIterator{c: newCursor(body), left: count}
	if count < 0 || count > len(body)/minRecordSize {
		it.c.fail("records_count", ErrLength)
	}
	return it
}

// Next returns the next record, and false after the last one and on the first
// malformed one; Err tells the two apart.
func (it *RecordIterator) Next() (Record, bool) {
	c := &it.c
	if c.failed() {
		return Record{}, false
	}
	if it.left == 0 {
		c.finish("records")
		return Record{}, false
	}
	it.left--
	start := c.off
	size := c.varint(32, "record.length")
	if c.failed() {
		return Record{}, false
	}
	if size < minRecordSize-1 || size > int64(c.remaining()) {
		c.off = start
		c.fail("record.length", ErrLength)
		return Record{}, false
	}
	outer := c.sub(int(size))
	r := Record{Raw: c.b[start:c.end:c.end]}
	if b := c.take(1, "record.attributes"); b != nil {
		r.Attributes = int8(b[0])
	}
	r.TimestampDelta = c.varint(64, "record.timestamp_delta")
	r.OffsetDelta = int32(c.varint(32, "record.offset_delta"))
	r.tail = c.b[c.off:c.end:c.end]
	r.Key = recordBytes(c, "record.key")
	r.Value = recordBytes(c, "record.value")
	r.HeaderCount, r.headers = recordHeaders(c)
	c.leave(outer, "record")
	if c.failed() {
		return Record{}, false
	}
	return r, true
}

// Err is nil while all went well, else a [*DecodeError] whose offset counts from
// the start of the body.
func (it *RecordIterator) Err() error { return it.c.error() }

// recordBytes reads a varint length and as many bytes; -1 is null.
func recordBytes(c *cursor, field string) []byte {
	start := c.off
	n := c.varint(32, field)
	if n == -1 || c.failed() {
		return nil
	}
	if n < 0 || n > int64(c.remaining()) {
		c.off = start
		c.fail(field, ErrLength)
		return nil
	}
	return c.take(int(n), field)
}

// recordHeaders checks every header of a record and returns their count and
// their bytes.
func recordHeaders(c *cursor) (count int, headers []byte) {
	start := c.off
	n := c.varint(32, "record.headers_count")
	// A header takes two bytes at least.
	if n < 0 || n > int64(c.remaining()/2) {
		c.off = start
		c.fail("record.headers_count", ErrLength)
		return 0, nil
	}
	headers = c.b[c.off:c.end:c.end]
	for i := int64(0); i < n && !c.failed(); i++ {
		start := c.off
		if recordBytes(c, "record.header.key") == nil && !c.failed() {
			c.off = start
			c.fail("record.header.key", ErrNull)
		}
		recordBytes(c, "record.header.value")
	}
	return int(n), headers
}
