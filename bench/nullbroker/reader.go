package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// minBuffer holds the longest thing that is read in one piece, a string with a
// 16 bit length.
const minBuffer = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFrame = errors.New("request is longer or shorter than its frame")

// A reader parses a stream of requests from one buffer that it uses again and
// again. What it returns is valid until the next call. Its first error sticks;
// after it every value is zero.
type reader struct {
	src      io.Reader
	buf      []byte
	pos, end int
	left     int // bytes of the frame not yet consumed
	err      error
}

// frame starts the next request. At the end of the stream it returns io.EOF.
func (r *reader) frame() error {
	if r.err == nil && r.left != 0 {
		r.err = errFrame
	}
	r.left = 4
	n := r.int32()
	if r.err == nil && n < 8 {
		r.err = fmt.Errorf("frame of %d bytes", n)
	}
	r.left = int(n)
	return r.err
}

// take returns the next n bytes, which must fit into the buffer.
func (r *reader) take(n int) []byte {
	if n < 0 || n > r.left || n > len(r.buf) {
		r.fail(errFrame)
	}
	if r.err == nil && r.end-r.pos < n {
		r.fill(n)
	}
	if r.err != nil {
		clear(r.buf[:64])
		return r.buf[:min(max(n, 0), 64)]
	}
	b := r.buf[r.pos : r.pos+n]
	r.pos += n
	r.left -= n
	return b
}

// fill reads until n bytes are there.
func (r *reader) fill(n int) {
	r.end = copy(r.buf, r.buf[r.pos:r.end])
	r.pos = 0
	for r.end < n {
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end < n {
			if err == io.EOF && r.end > 0 {
				err = io.ErrUnexpectedEOF
			}
			r.fail(err)
			return
		}
	}
}

// skip passes over n bytes of any number and adds them to the CRC-32C sum,
// unless that is nil.
func (r *reader) skip(n int, sum *uint32) {
	if n < 0 || n > r.left {
		r.fail(errFrame)
	}
	for n > 0 && r.err == nil {
		if r.pos == r.end {
			r.fill(1)
			continue
		}
		m := min(n, r.end-r.pos)
		if sum != nil {
			*sum = crc32.Update(*sum, castagnoli, r.buf[r.pos:r.pos+m])
		}
		r.pos += m
		r.left -= m
		n -= m
	}
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) int16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) int32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }

func (r *reader) uvarint() int {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.take(1)[0]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int(v)
		}
	}
	r.fail(errors.New("varint of more than five bytes"))
	return 0
}

// length reads the length of a string, of bytes or of an array; −1 is null.
func (r *reader) length(flexible bool) int {
	if flexible {
		return r.uvarint() - 1
	}
	return int(r.int32())
}

// text reads a string that may be null.
func (r *reader) text(flexible bool) []byte {
	n := 0
	if flexible {
		n = r.uvarint() - 1
	} else {
		n = int(r.int16())
	}
	return r.take(max(n, 0))
}

// tags passes over tagged fields.
func (r *reader) tags() {
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		r.uvarint()
		r.skip(r.uvarint(), nil)
	}
}
