package protocol

import "math/bits"

// Two families of variable-length integers meet here. Records use zigzag
// integers, which may be negative; flexible request versions (KIP-482) use
// plain unsigned ones. Both are little-endian groups of seven bits.

// maxVarint32Len and maxVarint64Len bound the encoded size in bytes.
const (
	maxVarint32Len = 5
	maxVarint64Len = 10
)

// zigzag maps small numbers of either sign to small unsigned numbers. A 32-bit
// value widened to 64 bits gives the same bytes as Kafka's 32-bit varint.
func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

// unzigzag is the inverse of zigzag.
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// uvarintLen is the encoded size of u in bytes, 1 to 10. It is
// ceil(bits / 7) without a division: 9/64 is close enough to 1/7 up to 64 bits.
func uvarintLen(u uint64) int { return (bits.Len64(u|1)*9 + 64) >> 6 }

// varintLen is the encoded size of the zigzag form of v in bytes.
func varintLen(v int64) int { return uvarintLen(zigzag(v)) }

// putVarint writes the zigzag form of v at b[i:] and returns the index after it.
// The one-byte case is small enough to be inlined, and covers most fields of
// most records.
func putVarint(b []byte, i int, v int64) int {
	u := zigzag(v)
	if u < 1<<7 {
		b[i] = byte(u)
		return i + 1
	}
	return putUvarintLong(b, i, u)
}

// putUvarintLong writes u, which takes two bytes or more, at b[i:].
func putUvarintLong(b []byte, i int, u uint64) int {
	if u < 1<<14 {
		_ = b[i+1]
		b[i] = byte(u) | 0x80
		b[i+1] = byte(u >> 7)
		return i + 2
	}
	for u >= 1<<7 {
		b[i] = byte(u) | 0x80
		u >>= 7
		i++
	}
	b[i] = byte(u)
	return i + 1
}

// appendUvarint appends u, for the compact lengths and tags of KIP-482.
func appendUvarint(dst []byte, u uint32) []byte {
	for u >= 1<<7 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// readUvarint reads an unsigned integer from the start of b. The second result
// is its size in bytes: 0 when b ends inside it, negative when it is longer or
// larger than a value of the given number of bits (32 or 64) can be.
func readUvarint(b []byte, valueBits uint) (uint64, int) {
	if len(b) > 0 && b[0] < 1<<7 {
		return uint64(b[0]), 1
	}
	var u uint64
	for i, c := range b {
		shift := uint(i) * 7
		if shift >= valueBits {
			return 0, -1
		}
		// The last group holds only what is left of the value; a bit above that
		// would be lost by the shift, so a second spelling of a number.
		if left := valueBits - shift; left < 7 && c>>left != 0 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << shift
		if c < 1<<7 {
			return u, i + 1
		}
	}
	return 0, 0
}

// readVarint is readUvarint for zigzag integers.
func readVarint(b []byte, valueBits uint) (int64, int) {
	u, n := readUvarint(b, valueBits)
	return unzigzag(u), n
}
