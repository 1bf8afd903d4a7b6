package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestVarint(t *testing.T) {
	values := []int64{0, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}
	for shift := range 63 {
		for d := int64(-2); d <= 2; d++ {
			values = append(values, 1<<shift+d, -(1<<shift)+d)
		}
	}
	for _, v := range values {
		want := binary.AppendVarint(nil, v)
		if got := varintLen(v); got != len(want) {
			t.Errorf("varintLen(%d) = %d, want %d", v, got, len(want))
		}
		b := make([]byte, maxVarint64Len)
		if n := putVarint(b, 0, v); !bytes.Equal(b[:n], want) {
			t.Errorf("putVarint(%d) = %x, want %x", v, b[:n], want)
		}
		if got, n := readVarint(want, 64); got != v || n != len(want) {
			t.Errorf("readVarint(%x) = %d, %d, want %d", want, got, n, v)
		}
		_, n := readVarint(want, 32)
		if fits := v == int64(int32(v)); fits != (n == len(want)) {
			t.Errorf("readVarint(%x, 32): n = %d, fits %t", want, n, fits)
		}
		for cut := range want {
			if _, n := readVarint(want[:cut], 64); n != 0 {
				t.Errorf("readVarint(%x): n = %d, want 0", want[:cut], n)
			}
		}
		if v >= 0 && v <= math.MaxUint32 {
			if got, want := appendUvarint(nil, uint32(v)), binary.AppendUvarint(nil, uint64(v)); !bytes.Equal(got, want) {
				t.Errorf("appendUvarint(%d) = %x, want %x", v, got, want)
			}
		}
	}
	for _, tt := range []struct {
		in   string
		bits uint
		n    int
	}{
		{"\xff\xff\xff\xff\x0f", 32, 5},
		{"\xff\xff\xff\xff\x1f", 32, -1},     // a 33rd bit
		{"\xff\xff\xff\xff\x8f\x00", 32, -1}, // a sixth group
		{"\x80\x80\x80\x80\x80", 32, -1},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 64, 10},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 64, -1},
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 64, -1},
		{"\x80\x00", 32, 2}, // longer than it must be, yet no more than it may be
	} {
		if _, n := readUvarint([]byte(tt.in), tt.bits); n != tt.n {
			t.Errorf("readUvarint(%x, %d): n = %d, want %d", tt.in, tt.bits, n, tt.n)
		}
	}
}

func TestAppendRecordBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		rec  testRecord
		want string
	}{
		{"null key and value", testRecord{}, "\x0c\x00\x00\x00\x01\x01\x00"},
		{"empty key and value", testRecord{key: []byte{}, value: []byte{}}, "\x0c\x00\x00\x00\x00\x00\x00"},
		{"tombstone", testRecord{ts: 1, offset: 1, key: []byte("k")}, "\x0e\x00\x02\x02\x02k\x01\x00"},
		{"headers", testRecord{ts: -1, offset: 64, value: []byte("v"), headers: []Header{{"h", nil}, {"", []byte{}}, {"x", []byte("y")}}},
			"\x22\x00\x01\x80\x01\x01\x02v\x06\x02h\x01\x00\x00\x02x\x02y"},
	} {
		got := tt.rec.append(nil)
		if string(got) != tt.want {
			t.Errorf("%s: got %x, want %x", tt.name, got, tt.want)
		}
	}
}

// TestAppendRecordAgainstKmsg compares with the encoder of another project, and
// reads everything back.
func TestAppendRecordAgainstKmsg(t *testing.T) {
	r := newRand(1)
	for i := range 2000 {
		rec := randomRecord(r, int32(r.Uint32())>>r.IntN(32))
		got := rec.append([]byte("before"))
		got = got[len("before"):]
		if size := RecordSize(rec.ts, rec.offset, rec.key, rec.value, rec.headers); size != len(got) {
			t.Fatalf("%d: RecordSize = %d, encoded %d", i, size, len(got))
		}
		if bound := RecordUpperBound(len(rec.key), len(rec.value), rec.headers); bound < len(got) {
			t.Fatalf("%d: RecordUpperBound = %d, encoded %d", i, bound, len(got))
		}
		k := kmsg.Record{TimestampDelta64: rec.ts, OffsetDelta: rec.offset, Key: rec.key, Value: rec.value}
		for _, h := range rec.headers {
			k.Headers = append(k.Headers, kmsg.Header(h))
		}
		_, n := readVarint(got, 32)
		k.Length = int32(len(got) - n)
		if want := k.AppendTo(nil); !bytes.Equal(got, want) {
			t.Fatalf("%d: got %x, want %x", i, got, want)
		}
		it := NewRecordIterator(got, 1)
		back, ok := it.Next()
		if !ok {
			t.Fatal(it.Err())
		}
		rec.check(t, back)
		if !bytes.Equal(back.Raw, got) {
			t.Fatal("Raw differs")
		}
	}
}

func TestAppendRecordNeverGrows(t *testing.T) {
	size := RecordSize(0, 0, nil, []byte("value"), nil)
	dst := make([]byte, 0, size)
	if got := AppendRecord(dst, 0, 0, nil, []byte("value"), nil); &got[0] != &dst[:1][0] {
		t.Error("AppendRecord moved a slice that had the room")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic without the room")
		}
	}()
	AppendRecord(make([]byte, 0, size-1), 0, 0, nil, []byte("value"), nil)
}

func TestRecordUpperBoundSaturates(t *testing.T) {
	if got := RecordUpperBound(-1, -1, nil); got != worstFixedRecord {
		t.Errorf("null key and value: %d", got)
	}
	for _, tt := range [][2]int{{math.MaxInt, 0}, {math.MaxInt, math.MaxInt}, {0, math.MaxInt32}, {math.MaxInt32 - worstFixedRecord, 0}} {
		if got := RecordUpperBound(tt[0], tt[1], []Header{{"a", nil}}); got != math.MaxInt32 {
			t.Errorf("RecordUpperBound(%d, %d) = %d", tt[0], tt[1], got)
		}
	}
	if got := RecordUpperBound(math.MaxInt32-worstFixedRecord-1, 0, nil); got != math.MaxInt32-1 {
		t.Errorf("just below: %d", got)
	}
}

func TestRecordMoved(t *testing.T) {
	r := newRand(2)
	for range 500 {
		rec := randomRecord(r, int32(r.IntN(1<<20)))
		it := NewRecordIterator(rec.append(nil), 1)
		got, _ := it.Next()
		moved := rec
		moved.ts, moved.offset = int64(r.Uint64())>>r.IntN(64), int32(r.IntN(300))
		dst := got.AppendMoved(make([]byte, 0, got.MovedSize(moved.ts, moved.offset)), moved.ts, moved.offset)
		if want := moved.append(nil); !bytes.Equal(dst, want) {
			t.Fatalf("got %x, want %x", dst, want)
		}
	}
}

func TestRecordIteratorErrors(t *testing.T) {
	good := string(testRecord{key: []byte("k"), headers: []Header{{"h", []byte("v")}}}.append(nil))
	for _, tt := range []struct {
		name   string
		body   string
		count  int
		field  string
		reason error
	}{
		{"negative count", "", -1, "records_count", ErrLength},
		{"huge count", good, 1 << 30, "records_count", ErrLength},
		{"one too few", good + good, 3, "record.length", ErrTruncated},
		{"one too many", good + good, 1, "records", ErrTrailing},
		{"length beyond the end", "\x10\x00\x00\x00\x01\x01\x00", 1, "record.length", ErrLength},
		{"length negative", "\x01\x00\x00\x00\x01\x01\x00", 1, "record.length", ErrLength},
		{"length too small", "\x0a\x00\x00\x00\x01\x01\x00", 1, "record.length", ErrLength},
		{"length overlong", "\xff\xff\xff\xff\xff\x01\x00", 1, "record.length", ErrVarint},
		{"delta overlong", "\x14\x00\x00\xff\xff\xff\xff\xff\x01\x01\x00", 1, "record.offset_delta", ErrVarint},
		{"key beyond the record", "\x0c\x00\x00\x00\x08\x01\x00\x00\x00\x00\x00", 1, "record.key", ErrLength},
		{"key length -2", "\x0c\x00\x00\x00\x03\x01\x00", 1, "record.key", ErrLength},
		{"value beyond the record", "\x0c\x00\x00\x00\x01\x08\x00", 1, "record.value", ErrLength},
		{"headers negative", "\x0c\x00\x00\x00\x01\x01\x01", 1, "record.headers_count", ErrLength},
		{"headers too many", "\x0e\x00\x00\x00\x01\x01\x04\x00", 1, "record.headers_count", ErrLength},
		{"header key null", "\x10\x00\x00\x00\x01\x01\x02\x01\x01", 1, "record.header.key", ErrNull},
		{"header value beyond", "\x10\x00\x00\x00\x01\x01\x02\x00\x02", 1, "record.header.value", ErrLength},
		{"bytes left in the record", "\x0e\x00\x00\x00\x01\x01\x00\x00", 1, "record", ErrTrailing},
	} {
		it := NewRecordIterator([]byte(tt.body), tt.count)
		for {
			if _, ok := it.Next(); !ok {
				break
			}
		}
		var de *DecodeError
		if err := it.Err(); !errors.As(err, &de) || de.Field != tt.field || !errors.Is(err, tt.reason) {
			t.Errorf("%s: got %v, want %s: %v", tt.name, err, tt.field, tt.reason)
		}
		if _, ok := it.Next(); ok {
			t.Errorf("%s: Next after an error", tt.name)
		}
	}
}
