package codecs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec writes the standard lz4 frame: independent blocks and no checksum over
// blocks or content, because the batch has a CRC of its own. Java's reader refuses
// dependent blocks, so independence is not a matter of taste, and a block that
// starts without what went before is the worse compressed the smaller it is
// (docs/adr/0013-blocks-as-large-as-the-batch.md). So a batch is one block, of the
// smallest size that holds it; above [lz4MaxBlock] it is several.
//
// The format knows blocks of 64 KB, 256 KB, 1 MB and 4 MB. A frame names one of
// them in its header, and readers take a buffer of that size for it, whatever the
// frame holds: Java's Lz4BlockInputStream at once, and it keeps it; librdkafka's
// lz4f and pierrec's reader when they need it. All read all four sizes. That is
// why a small batch names a small size.
//
// It writes the frame itself and has the library compress the blocks: the library's
// writer first copies into a buffer of the block's size, and out of a second one.
// It reads every frame that the library reads.
type lz4Codec struct {
	level    lz4.CompressionLevel
	encoders sync.Pool // *lz4.Compressor, or *lz4.CompressorHC for another level than Fast
	decoders sync.Pool // *lz4Decoder
}

const (
	lz4Magic = 0x184D2204
	// lz4Flags say: version 1, independent blocks, nothing else.
	lz4Flags = 0b0110_0000
	// lz4Stored marks a block that compression would not have made smaller.
	lz4Stored = 1 << 31
	// lz4MaxBlock bounds what a reader needs for one of our frames. It holds a batch
	// of the default size; the ratio gains less than 1 percent beyond it.
	lz4MaxBlock = 1 << 20
)

// lz4BlockSizes are the sizes that we write, with the number that a header has for
// each and the header's last byte, which is the second of an xxHash-32 of the two
// before it.
var lz4BlockSizes = [...]struct {
	bytes    int
	id, hash byte
}{
	{64 << 10, 4, 0x82},
	{256 << 10, 5, 0xfb},
	{lz4MaxBlock, 6, 0x51},
}

// lz4Blocks is an encoder of the library. n is 0 when dst is too small for what
// comes out, whether or not err says so.
type lz4Blocks interface {
	CompressBlock(src, dst []byte) (n int, err error)
}

type lz4Decoder struct {
	r   *lz4.Reader
	src bytes.Reader
}

// lz4Level maps Java's 1 to 17 to the library's. 9 is the fast compressor, out of
// order on purpose: it is Java's default, and its Lz4BlockOutputStream takes
// lz4's fast method for the default and the high-compression one for every other
// number, so a properties file that spells out the default keeps its speed. 1 to
// 8 are the library's high-compression levels of that number, 10 to 17 its
// highest.
func lz4Level(level int) lz4.CompressionLevel {
	switch {
	case level == levels[LZ4].standard:
		return lz4.Fast
	case level < 9:
		return lz4.Level1 << (level - 1)
	default:
		return lz4.Level9
	}
}

// newLZ4 trusts level: [New] checked it.
func newLZ4(level int) *lz4Codec {
	c := &lz4Codec{level: lz4Level(level)}
	c.encoders.New = func() any {
		if c.level == lz4.Fast {
			return new(lz4.Compressor)
		}
		return &lz4.CompressorHC{Level: c.level}
	}
	c.decoders.New = func() any {
		d := &lz4Decoder{}
		d.r = lz4.NewReader(&d.src) // concurrency 1 is the library's default
		return d
	}
	return c
}

// Compress never fails: a block that does not become smaller is stored.
func (c *lz4Codec) Compress(dst, src []byte) ([]byte, error) {
	size := 0
	for len(src) > lz4BlockSizes[size].bytes && size < len(lz4BlockSizes)-1 {
		size++
	}
	block := &lz4BlockSizes[size]
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, lz4Flags, block.id<<4, block.hash)
	encoder := c.encoders.Get().(lz4Blocks)
	for len(src) > 0 {
		plain := src[:min(block.bytes, len(src))]
		src = src[len(plain):]
		dst = appendLZ4Block(dst, plain, encoder)
	}
	c.encoders.Put(encoder)
	return binary.LittleEndian.AppendUint32(dst, 0), nil // the end mark
}

// appendLZ4Block compresses straight into the free part of dst. It offers as much
// room as plain has, so that the encoder gives up on what would grow.
func appendLZ4Block(dst, plain []byte, encoder lz4Blocks) []byte {
	dst = slices.Grow(dst, 4+len(plain))
	at := len(dst)
	room := dst[at+4 : at+4+len(plain)]
	n, _ := encoder.CompressBlock(plain, room)
	length := uint32(n)
	if n == 0 {
		n = copy(room, plain)
		length = uint32(n) | lz4Stored
	}
	dst = binary.LittleEndian.AppendUint32(dst, length)
	return dst[:at+4+n]
}

func (c *lz4Codec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	if len(src) == 0 { // the library calls that an empty stream
		return dst, corrupt(LZ4, errEmpty)
	}
	d := c.decoders.Get().(*lz4Decoder)
	defer func() {
		d.src.Reset(nil)
		d.r.Reset(&d.src) // gives block buffers back after an error
		c.decoders.Put(d)
	}()
	d.src.Reset(src)
	d.r.Reset(&d.src)
	return appendLimited(LZ4, dst, d.r, 4*len(src), limit)
}
