package protocol

import (
	"fmt"
	"testing"
)

func BenchmarkAppendRecord(b *testing.B) {
	headers := []Header{{"trace-id", []byte("0123456789abcdef")}, {"type", []byte("order")}}
	for _, bm := range []struct {
		name       string
		key, value int
		headers    []Header
	}{
		{"value=100", 0, 100, nil},
		{"key=16,value=84", 16, 84, nil},
		{"key=16,value=84,headers=2", 16, 84, headers},
		{"value=1024", 0, 1024, nil},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var key []byte
			if bm.key > 0 {
				key = make([]byte, bm.key)
			}
			value := make([]byte, bm.value)
			buf := make([]byte, 0, 64<<10)
			bound := RecordUpperBound(len(key), len(value), bm.headers)
			b.SetBytes(int64(bm.key + bm.value))
			b.ReportAllocs()
			offset := int32(0)
			for b.Loop() {
				if cap(buf)-len(buf) < bound {
					buf, offset = buf[:0], 0
				}
				buf = AppendRecord(buf, 3, offset, key, value, bm.headers)
				offset++
			}
		})
	}
}

func BenchmarkSealBatchCRC(b *testing.B) {
	header := make([]byte, BatchHeaderSize)
	records := [][]byte{make([]byte, 64<<10)}
	b.SetBytes(64 << 10)
	for b.Loop() {
		SealBatchCRC(header, records)
	}
}

func BenchmarkProduceEncoder(b *testing.B) {
	batch := [][]byte{make([]byte, BatchHeaderSize), make([]byte, 1000)}
	for _, partitions := range []int{1, 12} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			var e ProduceEncoder
			b.ReportAllocs()
			for b.Loop() {
				e.Begin(12, 1, "client", nil, -1, 30000, 1)
				e.Topic("topic", [16]byte{}, partitions)
				for p := range int32(partitions) {
					e.Partition(p, batch)
				}
				e.Finish()
			}
		})
	}
}

func BenchmarkProduceResponse(b *testing.B) {
	body := responseBody(1, randomProduceResponse(newRand(3), 12))
	var r ProduceResponse
	if err := r.Decode(12, body); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Decode(12, body)
	}
}
