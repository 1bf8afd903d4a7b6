package protocol

import (
	"encoding/binary"
	"hash/crc32"
)

// BatchHeaderSize is the size in bytes of a batch of format 2 from the base
// offset up to its records.
const BatchHeaderSize = 61

// The layout of a batch of format 2 (KIP-98). Everything is big-endian.
const (
	batchAtBaseOffset      = 0
	batchAtLength          = 8
	batchAtLeaderEpoch     = 12
	batchAtMagic           = 16
	batchAtCRC             = 17
	batchAtAttributes      = 21
	batchAtLastOffsetDelta = 23
	batchAtBaseTimestamp   = 27
	batchAtMaxTimestamp    = 35
	batchAtProducerID      = 43
	batchAtProducerEpoch   = 51
	batchAtBaseSequence    = 53
	batchAtRecordCount     = 57

	// batchUncounted is what the length field leaves out: the base offset and
	// the field itself.
	batchUncounted = batchAtLeaderEpoch
	batchMagic     = 2
)

// Bits of a batch's attributes (KIP-98, KIP-32).
const (
	// AttributeCodecMask covers the codec's id: 0 none, 1 gzip, 2 snappy, 3 lz4,
	// 4 zstd.
	AttributeCodecMask int16 = 0x07
	// AttributeLogAppendTime says that the broker set the timestamps. A producer
	// leaves it clear.
	AttributeLogAppendTime int16 = 1 << 3
	// AttributeTransactional marks a batch of a transaction.
	AttributeTransactional int16 = 1 << 4
	// AttributeControl marks a commit or abort marker; only brokers write those.
	AttributeControl int16 = 1 << 5
)

// NoProducerID, NoProducerEpoch and NoSequence are the fields of a batch without
// idempotence.
const (
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
)

// castagnoli is the polynomial of CRC-32C; the processor computes it in hardware
// where it can.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BatchHeader holds the fields of a batch that its producer decides.
type BatchHeader struct {
	// Attributes are the codec and the Attribute bits.
	Attributes int16
	// BaseTimestamp is that of the first record and MaxTimestamp the largest, in
	// milliseconds since 1970. Timestamp deltas count from BaseTimestamp.
	BaseTimestamp, MaxTimestamp int64
	// ProducerID and ProducerEpoch identify the producer, or are NoProducerID
	// and NoProducerEpoch.
	ProducerID    int64
	ProducerEpoch int16
	// BaseSequence is the sequence of the first record, 0 to math.MaxInt32 and
	// then 0 again, or NoSequence. See [AddSequence].
	BaseSequence int32
	// Records is the number of records, at least 1.
	Records int32
}

// AddSequence advances a sequence by n records, n at least 0. The sequence after
// math.MaxInt32 is 0, as brokers count (KIP-98).
func AddSequence(sequence, n int32) int32 {
	return int32((int64(sequence) + int64(n)) & 0x7fffffff)
}

// PutBatchHeader writes the header of a batch into dst[:BatchHeaderSize], which
// must be there, for a records section of recordsLen bytes as it travels, so
// compressed if it is. The checksum is left zero for [SealBatchCRC]. Base offset
// 0 and leader epoch -1 are placeholders that the broker replaces; neither is
// under the checksum.
func PutBatchHeader(dst []byte, h *BatchHeader, recordsLen int) {
	b := dst[:BatchHeaderSize]
	put := binary.BigEndian
	put.PutUint64(b[batchAtBaseOffset:], 0)
	put.PutUint32(b[batchAtLength:], uint32(BatchHeaderSize-batchUncounted+recordsLen))
	put.PutUint32(b[batchAtLeaderEpoch:], ^uint32(0))
	b[batchAtMagic] = batchMagic
	put.PutUint32(b[batchAtCRC:], 0)
	put.PutUint16(b[batchAtAttributes:], uint16(h.Attributes))
	put.PutUint32(b[batchAtLastOffsetDelta:], uint32(h.Records-1))
	put.PutUint64(b[batchAtBaseTimestamp:], uint64(h.BaseTimestamp))
	put.PutUint64(b[batchAtMaxTimestamp:], uint64(h.MaxTimestamp))
	put.PutUint64(b[batchAtProducerID:], uint64(h.ProducerID))
	put.PutUint16(b[batchAtProducerEpoch:], uint16(h.ProducerEpoch))
	put.PutUint32(b[batchAtBaseSequence:], uint32(h.BaseSequence))
	put.PutUint32(b[batchAtRecordCount:], uint32(h.Records))
}

// SealBatchCRC computes the CRC-32C of a batch and stores it in its header. The
// batch is the first BatchHeaderSize bytes of header and then the slices of
// records, in order. See [SealBatchChain] for records that stand right behind
// the header.
func SealBatchCRC(header []byte, records [][]byte) {
	sealBatch(header[:BatchHeaderSize], records)
}

// SealBatchChain is SealBatchCRC for a batch whose header and first records
// share a slice: batch is the chain that [ProduceEncoder.Partition] takes, and
// its first slice starts with the whole header.
func SealBatchChain(batch [][]byte) { sealBatch(batch[0], batch[1:]) }

func sealBatch(first []byte, more [][]byte) {
	_ = first[BatchHeaderSize-1]
	sum := crc32.Update(0, castagnoli, first[batchAtAttributes:])
	for _, b := range more {
		sum = crc32.Update(sum, castagnoli, b)
	}
	binary.BigEndian.PutUint32(first[batchAtCRC:], sum)
}

// Batch is a decoded batch. Its Body aliases the input.
type Batch struct {
	// BatchHeader holds what the producer wrote; BatchHeader.Records is the
	// number of records.
	BatchHeader
	// BaseOffset is the offset of the first record; 0 until a broker sets it.
	BaseOffset int64
	// LeaderEpoch is the epoch of the leader that appended it, -1 before that.
	LeaderEpoch int32
	// LastOffsetDelta is the last record's offset minus BaseOffset. It exceeds
	// Records-1 after compaction only.
	LastOffsetDelta int32
	// CRC is the checksum, which [DecodeBatch] has verified.
	CRC uint32
	// Body is the records section, still compressed if Codec is not 0.
	Body []byte
}

// Codec is the id of the codec that Body is compressed with, 0 to 7; Kafka
// defines 0 to 4.
func (b *Batch) Codec() int8 { return int8(b.Attributes & AttributeCodecMask) }

// RecordIterator reads the records of an uncompressed body. For a compressed
// one, decompress Body and call [NewRecordIterator].
func (b *Batch) RecordIterator() RecordIterator { return NewRecordIterator(b.Body, int(b.Records)) }

// DecodeBatch reads one batch of format 2 from the start of b and returns what
// follows it. Length, magic and checksum are checked, the records are not looked
// at. The error is a [*DecodeError] around ErrTruncated, ErrLength, ErrMagic or
// ErrCRC; rest is b then.
func DecodeBatch(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) <= batchAtMagic {
		return Batch{}, b, &DecodeError{"batch", 0, ErrTruncated}
	}
	get := binary.BigEndian
	// The magic is looked at before the length: the older formats keep it at the
	// same place, and "wrong format" says more than "wrong length".
	if b[batchAtMagic] != batchMagic {
		return Batch{}, b, &DecodeError{"batch.magic", batchAtMagic, ErrMagic}
	}
	length := int64(int32(get.Uint32(b[batchAtLength:])))
	if length < BatchHeaderSize-batchUncounted {
		return Batch{}, b, &DecodeError{"batch.length", batchAtLength, ErrLength}
	}
	if length > int64(len(b)-batchUncounted) {
		return Batch{}, b, &DecodeError{"batch.length", batchAtLength, ErrTruncated}
	}
	end := batchUncounted + int(length)
	crc := get.Uint32(b[batchAtCRC:])
	if crc != crc32.Checksum(b[batchAtAttributes:end], castagnoli) {
		return Batch{}, b, &DecodeError{"batch.crc", batchAtCRC, ErrCRC}
	}
	batch = Batch{
		BatchHeader: BatchHeader{
			Attributes:    int16(get.Uint16(b[batchAtAttributes:])),
			BaseTimestamp: int64(get.Uint64(b[batchAtBaseTimestamp:])),
			MaxTimestamp:  int64(get.Uint64(b[batchAtMaxTimestamp:])),
			ProducerID:    int64(get.Uint64(b[batchAtProducerID:])),
			ProducerEpoch: int16(get.Uint16(b[batchAtProducerEpoch:])),
			BaseSequence:  int32(get.Uint32(b[batchAtBaseSequence:])),
			Records:       int32(get.Uint32(b[batchAtRecordCount:])),
		},
		BaseOffset:      int64(get.Uint64(b[batchAtBaseOffset:])),
		LeaderEpoch:     int32(get.Uint32(b[batchAtLeaderEpoch:])),
		LastOffsetDelta: int32(get.Uint32(b[batchAtLastOffsetDelta:])),
		CRC:             crc,
		Body:            b[BatchHeaderSize:end:end],
	}
	if batch.Records < 0 {
		return Batch{}, b, &DecodeError{"batch.records_count", batchAtRecordCount, ErrLength}
	}
	return batch, b[end:], nil
}
