package protocol

import (
	"fmt"
	"testing"
)

func noAllocs(t *testing.T, name string, f func()) {
	t.Helper()
	f() // warm
	if n := testing.AllocsPerRun(100, f); n != 0 {
		t.Errorf("%s: %v allocations per run, want 0", name, n)
	}
}

func TestNoAllocations(t *testing.T) {
	key, value := []byte("key"), make([]byte, 100)
	headers := []Header{{"trace", []byte("id")}, {"none", nil}}
	buf := make([]byte, 0, 64<<10)
	noAllocs(t, "AppendRecord", func() {
		buf = buf[:0]
		for i := range int32(100) {
			if cap(buf)-len(buf) < RecordUpperBound(len(key), len(value), headers) {
				t.Fatal("no room")
			}
			buf = AppendRecord(buf, int64(i), i, key, value, headers)
		}
	})

	header := make([]byte, BatchHeaderSize)
	records := [][]byte{buf[:1000], buf[1000:]}
	noAllocs(t, "header and checksum", func() {
		PutBatchHeader(header, &BatchHeader{Records: 100}, len(buf))
		SealBatchCRC(header, records)
	})
	encoded := append(append([]byte(nil), header...), buf...)
	noAllocs(t, "DecodeBatch and RecordIterator", func() {
		b, _, err := DecodeBatch(encoded)
		it := b.RecordIterator()
		n := 0
		for _, ok := it.Next(); ok; _, ok = it.Next() {
			n++
		}
		if err != nil || it.Err() != nil || n != 100 {
			t.Fatal(err, it.Err(), n)
		}
	})

	chain := [][]byte{header, buf}
	var e ProduceEncoder
	txn := "transaction"
	for version := MinProduceVersion; version <= MaxProduceVersion; version++ {
		noAllocs(t, fmt.Sprintf("ProduceEncoder v%d", version), func() {
			e.Begin(version, 7, "client", &txn, -1, 30000, 3)
			for range 3 {
				e.Topic("a-topic", [16]byte{1}, 20)
				for p := range int32(20) {
					e.Partition(p, chain)
				}
			}
			e.Finish()
		})
		r := newRand(uint64(version))
		bodies := make([][]byte, 20)
		for i := range bodies {
			bodies[i] = responseBody(1, randomProduceResponse(r, version))
		}
		var resp ProduceResponse
		noAllocs(t, fmt.Sprintf("ProduceResponse v%d", version), func() {
			for _, b := range bodies {
				if err := resp.Decode(version, b); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	noAllocs(t, "LookupError", func() {
		for code := int16(-1); code < 130; code++ {
			if LookupError(code).Code != ErrorCode(code) {
				t.Fatal(code)
			}
		}
	})
}
