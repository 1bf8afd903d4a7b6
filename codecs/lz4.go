package codecs

import (
	"bytes"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec writes the standard lz4 frame as Java's producer does: independent
// blocks of 64 KB, no checksum over blocks or content, because the batch has a
// CRC of its own. Java's reader refuses dependent blocks, so independence is not
// a matter of taste. It reads every frame the library reads.
type lz4Codec struct {
	encoders sync.Pool // *lz4Encoder
	decoders sync.Pool // *lz4Decoder
}

type lz4Encoder struct {
	w   *lz4.Writer
	out sink
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
	c := &lz4Codec{}
	c.encoders.New = func() any {
		e := &lz4Encoder{}
		e.w = lz4.NewWriter(&e.out)
		err := e.w.Apply(
			lz4.BlockSizeOption(lz4.Block64Kb),
			lz4.BlockChecksumOption(false),
			lz4.ChecksumOption(false),
			lz4.ConcurrencyOption(1), // otherwise it starts goroutines
			lz4.CompressionLevelOption(lz4Level(level)),
		)
		if err != nil {
			panic("codecs: lz4 refused a checked option: " + err.Error())
		}
		return e
	}
	c.decoders.New = func() any {
		d := &lz4Decoder{}
		d.r = lz4.NewReader(&d.src) // concurrency 1 is the library's default
		return d
	}
	return c
}

func (c *lz4Codec) Compress(dst, src []byte) ([]byte, error) {
	e := c.encoders.Get().(*lz4Encoder)
	out, err := compressStream(e.w, &e.out, dst, src)
	if err == nil {
		c.encoders.Put(e)
	}
	return out, err
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
