package partitioners

import "encoding/binary"

// The constants of Austin Appleby's MurmurHash2, with the seed that Kafka's Java
// client fixed and every compatible client repeats.
const (
	murmurSeed  = 0x9747b28c
	murmurMul   = 0x5bd1e995
	murmurShift = 24
)

// Murmur2 hashes a key as Kafka's Java client does (Utils.murmur2): 32-bit
// MurmurHash2 over little-endian words. The partition of a key is the hash
// without its sign bit, modulo the number of partitions. A nil key hashes as an
// empty one. It does not allocate.
func Murmur2(key []byte) int32 {
	h := uint32(murmurSeed) ^ uint32(len(key))
	for len(key) >= 4 {
		k := binary.LittleEndian.Uint32(key) * murmurMul
		k ^= k >> murmurShift
		h = h*murmurMul ^ k*murmurMul
		key = key[4:]
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= murmurMul
	}
	h ^= h >> 13
	h *= murmurMul
	h ^= h >> 15
	return int32(h)
}

// LegacyMurmur2 hashes a key as the default partitioner of KafkaJS 1.x does,
// which KafkaJS 2.x keeps as LegacyPartitioner. It was meant to be [Murmur2] and
// differs in two ways, both kept here because topics were filled with them:
//
//   - its products are made in float64, which has 53 bits, so the low bits of a
//     large product are rounded away before the rest is cut to 32 bits;
//   - a key whose length is no multiple of 4 has its last 1 to 3 bytes mixed in
//     twice, first as a word padded with zeros and then as the tail.
//
// A nil key hashes as an empty one. It does not allocate.
func LegacyMurmur2(key []byte) int32 {
	seed := uint32(murmurSeed) // a variable, since the constant exceeds an int32
	h := int32(seed) ^ int32(len(key))
	words := key
	for len(words) >= 4 {
		h = legacyMix(h, binary.LittleEndian.Uint32(words))
		words = words[4:]
	}
	if len(words) > 0 {
		var padded [4]byte
		copy(padded[:], words)
		h = legacyMix(h, binary.LittleEndian.Uint32(padded[:]))
	}
	switch len(words) {
	case 3:
		h ^= int32(words[2]) << 16
		fallthrough
	case 2:
		h ^= int32(words[1]) << 8
		fallthrough
	case 1:
		h ^= int32(words[0])
		h = legacyMul(h)
	}
	h ^= int32(uint32(h) >> 13)
	h = legacyMul(h)
	h ^= int32(uint32(h) >> 15)
	return h
}

// legacyMix is one round of the main loop.
func legacyMix(h int32, word uint32) int32 {
	k := legacyMul(int32(word))
	k ^= int32(uint32(k) >> murmurShift)
	return legacyMul(h) ^ legacyMul(k)
}

// legacyMul is JavaScript's product of two 32-bit numbers followed by a bitwise
// operation: a float64, then its integer part modulo 2^32. The product stays
// below 2^62, so the conversion to int64 is exact.
func legacyMul(x int32) int32 {
	return int32(int64(float64(x) * float64(murmurMul)))
}
