package codecs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/klauspost/compress/s2"
)

// Java's producer writes snappy through the stream class of the library
// snappy-java, whose framing is known by its author's domain as "xerial" and is
// not the framing that Google later published:
//
//	magic     8 bytes  82 'S' 'N' 'A' 'P' 'P' 'Y' 00
//	version   int32    1
//	compat    int32    1, the oldest version that can read this
//	then blocks until the end:
//	length    int32    big endian, of the block
//	block     a raw snappy block
//
// snappy-java writes blocks of 32 KB of plain data, and we as much as the batch
// holds: what a block finds is bounded by its beginning
// (docs/adr/0013-blocks-as-large-as-the-batch.md). No reader bounds a block below
// what the batch may hold: snappy-java's SnappyInputStream takes 512 MB, and grows
// its two buffers to the largest block of a batch; librdkafka adds up what the
// blocks claim and takes it at once; sarama's and kafkajs's codecs and franz-go
// decode block by block into what each claims.
//
// Some clients write one raw block without any framing; Java reads that too, and
// so do we. The two cannot be confused: read as a raw block, the magic would
// begin with a copy ('N' = 0x4E) from before the first byte.
const (
	xerialMagic  = "\x82SNAPPY\x00"
	xerialHeader = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	// xerialBlock is how many bytes of plain data a block has at most. It holds a
	// batch of the default size, and bounds the arrays that Java takes for a larger
	// one; the ratio gains less than 1 percent beyond it.
	xerialBlock = 1 << 20

	// snappyMaxRatio bounds what a block can expand to: its densest element is a
	// copy of 64 bytes written in 3. A header that claims more is a lie, and is
	// refused before memory is taken for it.
	snappyMaxRatio = 22
)

var (
	errXerialFrame = errors.New("block length outside the input")
	errSnappyClaim = errors.New("claimed length is beyond what snappy can express")
)

// snappyCodec has no state: the library keeps its tables on the stack.
type snappyCodec struct{}

func (snappyCodec) Compress(dst, src []byte) ([]byte, error) {
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		plain := src[:min(xerialBlock, len(src))]
		src = src[len(plain):]
		// Encoding straight into the free part of dst saves a copy: with room for
		// the worst case the library never allocates.
		dst = slices.Grow(dst, 4+s2.MaxEncodedLen(len(plain)))
		at := len(dst)
		block := s2.EncodeSnappy(dst[at+4:cap(dst)], plain)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
		dst = dst[:at+4+len(block)]
	}
	return dst, nil
}

func (snappyCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	limit = max(limit, 0)
	if len(src) < len(xerialHeader) || !bytes.HasPrefix(src, []byte(xerialMagic)) {
		out, err := appendSnappy(dst, src, limit, limit)
		if err != nil {
			return dst, err
		}
		return out, nil
	}
	out := dst
	left := limit
	for len(src) > 0 {
		// Streams may be joined end to end: a header can stand before any block.
		// A block's length has its top bit clear, the magic has it set.
		if len(src) >= len(xerialHeader) && bytes.HasPrefix(src, []byte(xerialMagic)) {
			src = src[len(xerialHeader):]
			continue
		}
		if len(src) < 4 {
			return dst, corrupt(Snappy, errXerialFrame)
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst, corrupt(Snappy, errXerialFrame)
		}
		before := len(out)
		var err error
		if out, err = appendSnappy(out, src[:n], left, limit); err != nil {
			return dst, err
		}
		left -= len(out) - before
		src = src[n:]
	}
	return out, nil
}

// appendSnappy appends one raw block of at most left plain bytes; limit is only
// for the error's text.
func appendSnappy(dst, block []byte, left, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return dst, corrupt(Snappy, err)
	case n/snappyMaxRatio > len(block):
		return dst, corrupt(Snappy, errSnappyClaim)
	case n > left:
		return dst, tooLarge(Snappy, limit)
	}
	dst = slices.Grow(dst, n)
	// The third index keeps the decoder inside this block's own room.
	out, err := s2.Decode(dst[len(dst):len(dst)+n:len(dst)+n], block)
	if err != nil {
		return dst, corrupt(Snappy, err)
	}
	return dst[:len(dst)+len(out)], nil
}
