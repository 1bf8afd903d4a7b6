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

// sink lets a streaming encoder append to a slice. It is pooled with its
// encoder, because a fresh one would escape to the heap on every call.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
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
	e.out.b = dst
	e.w.Reset(&e.out)
	_, err := e.w.Write(src)
	if err == nil {
		err = e.w.Close()
	}
	compressed := e.out.b
	e.out.b = nil // a pool must not keep the caller's buffer alive
	if err != nil {
		return dst, err // e is in an unknown state, and is not used again
	}
	c.encoders.Put(e)
	return compressed, nil
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
