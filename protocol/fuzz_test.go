package protocol

import (
	"bytes"
	"errors"
	"testing"
)

// Every decoder must answer any input with a value or a *DecodeError whose
// offset lies inside the input.
func checkDecodeError(t *testing.T, err error, size int) {
	t.Helper()
	var de *DecodeError
	if !errors.As(err, &de) || de.Err == nil || de.Offset < 0 || de.Offset > size || de.Error() == "" {
		t.Fatalf("bad error %#v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	r := newRand(11)
	f.Add([]byte{})
	f.Add(makeBatch(BatchHeader{ProducerID: NoProducerID}, nil))
	f.Add(makeBatch(BatchHeader{BaseSequence: 5}, []testRecord{{key: []byte("k"), value: []byte("v")}, {offset: 1}}))
	f.Add(makeBatch(BatchHeader{Attributes: 4}, []testRecord{randomRecord(r, 0)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Without a correct checksum a fuzzer would never get behind it.
		if len(b) >= BatchHeaderSize {
			b = bytes.Clone(b)
			SealBatchChain([][]byte{b})
		}
		batch, rest, err := DecodeBatch(b)
		if err != nil {
			checkDecodeError(t, err, len(b))
			return
		}
		if BatchHeaderSize+len(batch.Body)+len(rest) != len(b) {
			t.Fatal("bytes were lost")
		}
		it := batch.RecordIterator()
		for n := int32(0); ; n++ {
			if _, ok := it.Next(); !ok {
				if it.Err() == nil && n != batch.Records {
					t.Fatalf("%d records, want %d", n, batch.Records)
				}
				break
			}
		}
	})
}

func FuzzRecordIterator(f *testing.F) {
	r := newRand(12)
	f.Add([]byte{}, 0)
	f.Add([]byte("\x0c\x00\x00\x00\x01\x01\x00"), 1)
	f.Add(testRecord{key: []byte("k"), headers: []Header{{"h", nil}, {"i", []byte("v")}}}.append(nil), 1)
	f.Add(randomRecord(r, 1).append(randomRecord(r, 0).append(nil)), 2)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		it := NewRecordIterator(b, count)
		total, n := 0, 0
		for {
			rec, ok := it.Next()
			if !ok {
				break
			}
			n++
			total += len(rec.Raw)
			headers := rec.AppendHeaders(nil)
			if len(headers) != rec.HeaderCount {
				t.Fatalf("%d headers, want %d", len(headers), rec.HeaderCount)
			}
			// What was read must mean the same after it is written again. The bytes
			// may differ: an integer may be written longer than it must be.
			again := testRecord{rec.TimestampDelta, rec.OffsetDelta, rec.Key, rec.Value, headers}
			back := NewRecordIterator(again.append(nil), 1)
			got, ok := back.Next()
			if !ok {
				t.Fatal(back.Err())
			}
			again.check(t, got)
			moved := rec.AppendMoved(make([]byte, 0, rec.MovedSize(5, 6)), 5, 6)
			back = NewRecordIterator(moved, 1)
			if got, ok = back.Next(); !ok {
				t.Fatal(back.Err())
			}
			again.ts, again.offset = 5, 6
			got.Attributes = 0
			again.check(t, got)
		}
		if err := it.Err(); err != nil {
			checkDecodeError(t, err, len(b))
		} else if n != count || total != len(b) {
			t.Fatalf("%d records of %d bytes, want %d of %d", n, total, count, len(b))
		}
	})
}

func FuzzProduceResponse(f *testing.F) {
	for version := MinProduceVersion; version <= MaxProduceVersion; version++ {
		r := newRand(300 + uint64(version))
		for range 3 {
			f.Add(version, responseBody(1, randomProduceResponse(r, version)))
		}
	}
	f.Fuzz(func(t *testing.T, version int16, b []byte) {
		var fresh ProduceResponse
		if err := fresh.Decode(version, b); err != nil {
			checkDecodeError(t, err, len(b))
		}
		// Memory is bounded by the input, with what append adds while growing.
		if n := len(fresh.Partitions) * minProducePartition; n > len(b) {
			t.Fatalf("%d partitions from %d bytes", len(fresh.Partitions), len(b))
		}
	})
}

func FuzzResponseHeader(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01"), false)
	f.Add([]byte("\x00\x00\x00\x01\x00rest"), true)
	f.Add([]byte("\x00\x00\x00\x01\x02\x00\x01a\x05\x00rest"), true)
	f.Add([]byte("\x00\x00\x00\x01\xff\xff\xff\xff\x0f"), true)
	f.Fuzz(func(t *testing.T, b []byte, flexible bool) {
		_, rest, err := ResponseHeader(b, flexible)
		if err != nil {
			checkDecodeError(t, err, len(b))
			return
		}
		if !bytes.HasSuffix(b, rest) || len(rest) > len(b)-4 {
			t.Fatalf("rest %x of %x", rest, b)
		}
	})
}
