package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCRC32C pins the polynomial with the vectors of RFC 3720, B.4.
func TestCRC32C(t *testing.T) {
	ascending := make([]byte, 32)
	for i := range ascending {
		ascending[i] = byte(i)
	}
	for _, tt := range []struct {
		in   []byte
		want uint32
	}{
		{make([]byte, 32), 0x8a9136aa},
		{bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
		{ascending, 0x46dd794e},
		{[]byte("123456789"), 0xe3069283},
	} {
		if got := crc32.Checksum(tt.in, castagnoli); got != tt.want {
			t.Errorf("CRC-32C of %x = %08x, want %08x", tt.in, got, tt.want)
		}
	}
}

func TestBatchRoundTrip(t *testing.T) {
	r := newRand(3)
	for range 200 {
		records := make([]testRecord, 1+r.IntN(20))
		var body []byte
		for i := range records {
			records[i] = randomRecord(r, int32(i))
			body = records[i].append(body)
		}
		h := BatchHeader{
			Attributes:    int16(r.IntN(1 << 15)),
			BaseTimestamp: int64(r.Uint64()), MaxTimestamp: int64(r.Uint64()),
			ProducerID: int64(r.Uint64()), ProducerEpoch: int16(r.Uint32()),
			BaseSequence: int32(r.Uint32()), Records: int32(len(records)),
		}
		// The checksum must not depend on how the records are cut into slices.
		header := make([]byte, BatchHeaderSize)
		PutBatchHeader(header, &h, len(body))
		SealBatchCRC(header, chop(r, body))
		encoded := append(header, body...)

		chain := append([]byte(nil), encoded...)
		binary.BigEndian.PutUint32(chain[batchAtCRC:], 0)
		at := BatchHeaderSize + r.IntN(len(body)+1)
		SealBatchChain([][]byte{chain[:at], chain[at:]})
		if !bytes.Equal(chain, encoded) {
			t.Fatal("SealBatchChain differs from SealBatchCRC")
		}

		k := kmsg.RecordBatch{
			Length: int32(len(encoded) - 12), PartitionLeaderEpoch: -1, Magic: 2,
			CRC:        int32(crc32.Checksum(encoded[21:], castagnoli)),
			Attributes: h.Attributes, LastOffsetDelta: h.Records - 1,
			FirstTimestamp: h.BaseTimestamp, MaxTimestamp: h.MaxTimestamp,
			ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch,
			FirstSequence: h.BaseSequence, NumRecords: h.Records, Records: body,
		}
		if want := k.AppendTo(nil); !bytes.Equal(encoded, want) {
			t.Fatalf("batch differs from kmsg's:\n%x\n%x", encoded[:61], want[:61])
		}

		batch, rest, err := DecodeBatch(append(encoded, "next"...))
		if err != nil || string(rest) != "next" {
			t.Fatal(err, rest)
		}
		if batch.BatchHeader != h || batch.LeaderEpoch != -1 || batch.LastOffsetDelta != h.Records-1 || batch.Codec() != int8(h.Attributes&7) {
			t.Fatalf("got %+v, want %+v", batch.BatchHeader, h)
		}
		it := batch.RecordIterator()
		for i := range records {
			got, ok := it.Next()
			if !ok {
				t.Fatal(i, it.Err())
			}
			records[i].check(t, got)
		}
		if _, ok := it.Next(); ok || it.Err() != nil {
			t.Fatal(ok, it.Err())
		}
	}
}

func TestDecodeBatchErrors(t *testing.T) {
	good := makeBatch(BatchHeader{ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence},
		[]testRecord{{key: []byte("key"), value: []byte("value")}})
	change := func(at int, b ...byte) []byte {
		c := append([]byte(nil), good...)
		copy(c[at:], b)
		return c
	}
	negative := change(batchAtRecordCount, 0xff)
	SealBatchChain([][]byte{negative})
	tests := []struct {
		name   string
		in     []byte
		field  string
		reason error
	}{
		{"empty", nil, "batch", ErrTruncated},
		{"only a length", good[:16], "batch", ErrTruncated},
		{"old format", change(batchAtMagic, 1), "batch.magic", ErrMagic},
		{"length short of the header", change(batchAtLength, 0, 0, 0, 48), "batch.length", ErrLength},
		{"length negative", change(batchAtLength, 0xff, 0xff, 0xff, 0xff), "batch.length", ErrLength},
		{"length beyond the end", change(batchAtLength, 0x7f, 0xff, 0xff, 0xff), "batch.length", ErrTruncated},
		{"checksum", change(batchAtCRC, good[batchAtCRC]^1), "batch.crc", ErrCRC},
		{"negative count", negative, "batch.records_count", ErrLength},
	}
	for at := batchAtAttributes; at < len(good); at++ {
		tests = append(tests, struct {
			name   string
			in     []byte
			field  string
			reason error
		}{"flipped bit", change(at, good[at]^0x10), "batch.crc", ErrCRC})
	}
	for _, tt := range tests {
		_, rest, err := DecodeBatch(tt.in)
		var de *DecodeError
		if !errors.As(err, &de) || de.Field != tt.field || !errors.Is(err, tt.reason) || !bytes.Equal(rest, tt.in) {
			t.Errorf("%s: got %v, want %s: %v", tt.name, err, tt.field, tt.reason)
		}
	}
	for n := range good {
		if _, _, err := DecodeBatch(good[:n]); !errors.Is(err, ErrTruncated) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestAddSequence(t *testing.T) {
	for _, tt := range [][3]int32{
		{0, 0, 0}, {0, 5, 5}, {math.MaxInt32 - 1, 1, math.MaxInt32},
		{math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 4, 2}, {math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1},
	} {
		if got := AddSequence(tt[0], tt[1]); got != tt[2] {
			t.Errorf("AddSequence(%d, %d) = %d, want %d", tt[0], tt[1], got, tt[2])
		}
	}
}
