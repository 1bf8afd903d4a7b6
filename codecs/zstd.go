package codecs

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow is how far back, in bytes, the encoder looks for repetitions. The
// library's own choice is 4 or 8 MB, which costs each pooled encoder twice that
// in memory and gains nothing on batches, whose records repeat their neighbours:
// on JSON records 64 KB to 1 MB gave the same ratio within 8 percent, the small
// windows the better one. 128 KB is one whole zstd block.
const zstdWindow = 128 << 10

// zstdReadWindow is the largest window, in bytes, of a frame that does not state
// its size: reading one takes that much memory, whatever it holds. 8 MB is what
// RFC 8878 asks every decoder to support, and covers zstd's levels up to 19.
const zstdReadWindow = 8 << 20

// A zstd block holds at most 128 KB of plain data and takes at least 4 bytes, so
// input of n bytes cannot hold more than about n/4 such blocks. A claim beyond
// that is a lie, whatever limit the caller allows.
const (
	zstdMaxBlock = 128 << 10
	zstdMinBlock = 4
)

var errZstdClaim = errors.New("claimed length is beyond what zstd can express")

// zstdCodec writes one plain zstd frame (RFC 8878) that states its content's
// size and carries no checksum, because the batch has a CRC of its own. It reads
// any number of frames in a row.
type zstdCodec struct {
	encoders sync.Pool // *zstd.Encoder
	decoders sync.Pool // *zstdDecoder
}

// newZstd trusts level: [New] checked it. The library has four speeds; each of
// zstd's levels takes the one that comes closest: below 3, 3 to 5, 6 to 9, from
// 10.
func newZstd(level int) *zstdCodec {
	c := &zstdCodec{}
	c.encoders.New = func() any {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
			zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderConcurrency(1), // one pooled encoder serves one caller
			zstd.WithEncoderCRC(false),
			zstd.WithZeroFrames(true), // no input is a frame too, or Java could not read it
		)
		if err != nil {
			panic("codecs: zstd refused a checked option: " + err.Error())
		}
		return e
	}
	c.decoders.New = func() any { return new(zstdDecoder) }
	return c
}

func (c *zstdCodec) Compress(dst, src []byte) ([]byte, error) {
	e := c.encoders.Get().(*zstd.Encoder)
	dst = e.EncodeAll(src, dst)
	c.encoders.Put(e)
	return dst, nil
}

func (c *zstdCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	limit = max(limit, 0)
	if len(src) == 0 { // the library calls that no frames
		return dst, corrupt(Zstd, errEmpty)
	}
	var header zstd.Header
	if err := header.Decode(src); err != nil {
		return dst, corrupt(Zstd, err)
	}
	d := c.decoders.Get().(*zstdDecoder)
	defer c.decoders.Put(d)
	if header.HasFCS {
		switch size := header.FrameContentSize; {
		case size > uint64(limit):
			return dst, tooLarge(Zstd, limit)
		case size > uint64((len(src)/zstdMinBlock+1)*zstdMaxBlock):
			return dst, corrupt(Zstd, errZstdClaim)
		default:
			if out, ok := d.known(dst, src, int(size)); ok {
				return out, nil
			}
		}
	}
	return d.unknown(dst, src, limit)
}

// zstdDecoder has two ways to read, because each of the library's alone falls
// short: decoding in one call cannot be bounded reliably unless the size is
// known, and streaming takes a window's worth of memory and a copy.
type zstdDecoder struct {
	whole  *zstd.Decoder
	stream *zstd.Decoder // made when first needed
	src    bytes.Reader
}

func newZstdDecoder(options ...zstd.DOption) *zstd.Decoder {
	// Concurrency 1 decodes on the caller's goroutine and starts none.
	d, err := zstd.NewReader(nil, append(options, zstd.WithDecoderConcurrency(1))...)
	if err != nil {
		panic("codecs: zstd refused a checked option: " + err.Error())
	}
	return d
}

// known reads input that is one frame of a stated size, the form that
// Compress writes. Not ok means that it is something else, or corrupt: the other
// way then tells which.
func (d *zstdDecoder) known(dst, src []byte, size int) ([]byte, bool) {
	if d.whole == nil {
		d.whole = newZstdDecoder(zstd.WithDecodeAllCapLimit(true))
	}
	start := len(dst)
	grown := slices.Grow(dst, size)
	out, err := d.whole.DecodeAll(src, grown[start:start:start+size])
	switch {
	case err != nil || len(out) != size:
		return nil, false
	case size > 0 && &out[0] != &grown[:start+1][start]:
		return append(dst, out...), true // the library moved to a buffer of its own
	}
	return grown[:start+size], true
}

// unknown reads anything: frames without a size, frames in a row.
func (d *zstdDecoder) unknown(dst, src []byte, limit int) ([]byte, error) {
	if d.stream == nil {
		d.stream = newZstdDecoder(zstd.WithDecoderMaxWindow(zstdReadWindow))
	}
	d.src.Reset(src)
	defer d.src.Reset(nil)
	if err := d.stream.Reset(&d.src); err != nil {
		return dst, corrupt(Zstd, err)
	}
	return appendLimited(Zstd, dst, d.stream, 4*len(src), limit)
}
