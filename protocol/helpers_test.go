package protocol

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// newRand gives every test its own fixed sequence.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// randomBytes returns nil, empty or up to limit random bytes.
func randomBytes(r *rand.Rand, limit int) []byte {
	switch r.IntN(5) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, r.IntN(limit+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomString(r *rand.Rand, limit int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	b := make([]byte, r.IntN(limit+1))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// chop cuts b into a random chain of slices, some of them empty.
func chop(r *rand.Rand, b []byte) [][]byte {
	var chain [][]byte
	for len(b) > 0 {
		n := r.IntN(len(b) + 1)
		chain = append(chain, b[:n])
		b = b[n:]
	}
	return chain
}

func join(chain [][]byte) []byte { return bytes.Join(chain, nil) }

// sameBytes is equality that tells null from empty.
func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func sameHeaders(a, b []Header) bool {
	return slices.EqualFunc(a, b, func(x, y Header) bool {
		return x.Key == y.Key && sameBytes(x.Value, y.Value)
	})
}

// testRecord is one record as a test wants it.
type testRecord struct {
	ts         int64
	offset     int32
	key, value []byte
	headers    []Header
}

func randomRecord(r *rand.Rand, offset int32) testRecord {
	t := testRecord{
		ts:     int64(r.Uint64()) >> r.IntN(64),
		offset: offset,
		key:    randomBytes(r, 200),
		value:  randomBytes(r, 20000),
	}
	for range r.IntN(4) {
		t.headers = append(t.headers, Header{Key: randomString(r, 100), Value: randomBytes(r, 100)})
	}
	return t
}

func (t testRecord) append(dst []byte) []byte {
	dst = slices.Grow(dst, RecordUpperBound(len(t.key), len(t.value), t.headers))
	return AppendRecord(dst, t.ts, t.offset, t.key, t.value, t.headers)
}

func (t testRecord) check(tb testing.TB, got Record) {
	tb.Helper()
	if got.TimestampDelta != t.ts || got.OffsetDelta != t.offset || got.Attributes != 0 {
		tb.Fatalf("deltas: got %d, %d, attributes %d; want %d, %d", got.TimestampDelta, got.OffsetDelta, got.Attributes, t.ts, t.offset)
	}
	if !sameBytes(got.Key, t.key) || !sameBytes(got.Value, t.value) {
		tb.Fatalf("key or value differ: got %q (nil %t), %d bytes (nil %t)", got.Key, got.Key == nil, len(got.Value), got.Value == nil)
	}
	if headers := got.AppendHeaders(nil); got.HeaderCount != len(t.headers) || !sameHeaders(headers, t.headers) {
		tb.Fatalf("headers: got %v, want %v", headers, t.headers)
	}
}

// makeBatch seals a batch of the records.
func makeBatch(h BatchHeader, records []testRecord) []byte {
	var body []byte
	for _, r := range records {
		body = r.append(body)
	}
	h.Records = int32(len(records))
	batch := make([]byte, BatchHeaderSize, BatchHeaderSize+len(body))
	PutBatchHeader(batch, &h, len(body))
	SealBatchCRC(batch, [][]byte{body})
	return append(batch, body...)
}
