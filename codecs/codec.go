package codecs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// ID is a codec's number on the wire: bits 0 to 2 of the attributes of a record
// batch. Brokers know the values 0 to 4 and reject a batch with any other.
type ID int8

// The ids of Kafka's codecs. Zstd needs Produce version 7 or newer (KIP-110);
// the others every broker that knows record batches.
const (
	None   ID = 0
	Gzip   ID = 1
	Snappy ID = 2
	LZ4    ID = 3
	Zstd   ID = 4
)

// DefaultLevel asks [New] for the level that Java's producer uses when it is
// told none: gzip -1 (zlib's own choice, about 6), lz4 9, zstd 3.
const DefaultLevel = math.MinInt

var (
	// ErrUnknownCodec means an id outside 0 to 4, or a name that [Parse] does
	// not know.
	ErrUnknownCodec = errors.New("unknown compression codec")

	// ErrLevel means a level outside the codec's range; the message names the
	// range.
	ErrLevel = errors.New("compression level out of range")

	// ErrTooLarge means that the input would decompress to more bytes than the
	// caller's limit. Nothing says that the input is damaged: a larger limit may
	// succeed.
	ErrTooLarge = errors.New("decompressed data exceeds the limit")

	// ErrCorrupt means that the input is not what the codec writes: damaged,
	// truncated or of another codec.
	ErrCorrupt = errors.New("corrupt compressed data")
)

// Codec compresses and decompresses whole records sections. An implementation
// must be safe for concurrent use, must not keep dst or src, and must not modify
// src. The two slices never overlap.
type Codec interface {
	// Compress appends the compressed form of src to dst. An empty src is legal.
	// On an error the batch goes out uncompressed; dst's own bytes are
	// unchanged either way.
	Compress(dst, src []byte) ([]byte, error)

	// Decompress appends the plain form of src to dst. It appends at most limit
	// bytes: input that holds more is refused with [ErrTooLarge], before memory
	// for it is taken where the format tells, so that a small input cannot
	// exhaust the process. A limit below 0 counts as 0. Input that the codec
	// cannot read, an empty one included, is [ErrCorrupt].
	Decompress(dst, src []byte, limit int) ([]byte, error)
}

// levelRange is what a codec accepts, in Java's numbers (KIP-390).
type levelRange struct{ min, max, standard int }

// levels has no row for none and snappy: those have no level.
var levels = map[ID]levelRange{
	Gzip: {1, 9, -1},
	LZ4:  {1, 17, 9},
	Zstd: {-131072, 22, 3},
}

// LevelRange returns the lowest and highest level of a codec, both inclusive, in
// the numbers of the properties compression.gzip.level, compression.lz4.level
// and compression.zstd.level (KIP-390). ok is false for a codec without levels.
func LevelRange(id ID) (lowest, highest int, ok bool) {
	r, ok := levels[id]
	return r.min, r.max, ok
}

// New returns Kafka's own codec for id. level is [DefaultLevel], or within
// [LevelRange]; outside it the error is [ErrLevel] and names the range. Snappy
// and none take DefaultLevel only. Gzip also takes -1, which is how Java writes
// its default. An id outside 0 to 4 is [ErrUnknownCodec].
//
// None is a codec too: it copies.
func New(id ID, level int) (Codec, error) {
	if id < None || id > Zstd {
		return nil, fmt.Errorf("codecs: %w: id %d, want 0 to 4", ErrUnknownCodec, int8(id))
	}
	r, leveled := levels[id]
	switch {
	case !leveled && level != DefaultLevel:
		return nil, fmt.Errorf("codecs: %w: %s has no levels, got %d", ErrLevel, id, level)
	case level == DefaultLevel:
		level = r.standard
	case level != r.standard && (level < r.min || level > r.max):
		return nil, fmt.Errorf("codecs: %w: %s takes %d to %d, got %d", ErrLevel, id, r.min, r.max, level)
	}
	switch id {
	case Gzip:
		return newGzip(level), nil
	case Snappy:
		return snappyCodec{}, nil
	case LZ4:
		return newLZ4(level), nil
	case Zstd:
		return newZstd(level), nil
	default:
		return noneCodec{}, nil
	}
}

// Parse reads a codec's name as the property compression.type spells it: none,
// gzip, snappy, lz4, zstd, in lower case. "uncompressed", the broker's word for
// none, is accepted. Anything else is [ErrUnknownCodec] and lists the names.
func Parse(name string) (ID, error) {
	switch name {
	case "none", "uncompressed":
		return None, nil
	case "gzip":
		return Gzip, nil
	case "snappy":
		return Snappy, nil
	case "lz4":
		return LZ4, nil
	case "zstd":
		return Zstd, nil
	}
	return None, fmt.Errorf("codecs: %w: %q, want none, gzip, snappy, lz4 or zstd", ErrUnknownCodec, name)
}

// String returns the name that [Parse] reads, or "codec(n)" for an id that does
// not exist.
func (id ID) String() string {
	switch id {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return "codec(" + strconv.Itoa(int(id)) + ")"
}

// corrupt says which decoder refused, and keeps the library's reason.
func corrupt(id ID, reason error) error {
	return fmt.Errorf("codecs: %s: %w: %w", id, ErrCorrupt, reason)
}

// tooLarge says which decoder stopped, and at which bound.
func tooLarge(id ID, limit int) error {
	return fmt.Errorf("codecs: %s: %w of %d bytes", id, ErrTooLarge, limit)
}

// noneCodec copies, so that code which holds a Codec needs no special case.
type noneCodec struct{}

func (noneCodec) Compress(dst, src []byte) ([]byte, error) { return append(dst, src...), nil }

// Decompress differs from its siblings in one way: no bytes are none's form of
// no bytes, so an empty src is not corrupt.
func (noneCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	if len(src) > max(limit, 0) {
		return dst, tooLarge(None, limit)
	}
	return append(dst, src...), nil
}
