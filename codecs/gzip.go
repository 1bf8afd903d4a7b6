package codecs

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipCodec writes one plain gzip member (RFC 1952) without name, comment or
// time, and reads any number of members in a row, as Java does.
type gzipCodec struct {
	encoders sync.Pool // *gzipEncoder
	decoders sync.Pool // *gzipDecoder
}

type gzipEncoder struct {
	w   *gzip.Writer
	out sink
}

type gzipDecoder struct {
	r   gzip.Reader
	src bytes.Reader
}

// newGzip trusts level: [New] checked it against gzip's range, which is the
// library's range as well, -1 included.
func newGzip(level int) *gzipCodec {
	c := &gzipCodec{}
	c.encoders.New = func() any {
		w, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			panic("codecs: gzip refused a checked level: " + err.Error())
		}
		return &gzipEncoder{w: w}
	}
	c.decoders.New = func() any { return new(gzipDecoder) }
	return c
}

func (c *gzipCodec) Compress(dst, src []byte) ([]byte, error) {
	e := c.encoders.Get().(*gzipEncoder)
	out, err := compressStream(e.w, &e.out, dst, src)
	if err == nil {
		c.encoders.Put(e)
	}
	return out, err
}

func (c *gzipCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	d := c.decoders.Get().(*gzipDecoder)
	defer func() {
		d.src.Reset(nil)
		c.decoders.Put(d)
	}()
	d.src.Reset(src)
	if err := d.r.Reset(&d.src); err != nil {
		return dst, corrupt(Gzip, err)
	}
	return appendLimited(Gzip, dst, &d.r, 4*len(src), limit)
}
