package codecs

import (
	"errors"
	"io"
	"math"
	"slices"
)

var errEmpty = errors.New("no input")

// growStep is what a decoder reads into at least: one lz4 block of the smallest
// size, which the library then decodes in place instead of by way of a buffer of
// its own.
const growStep = 64 << 10

// appendLimited appends all of r to dst, at most limit bytes; more is
// [ErrTooLarge]; id only names the codec in errors. guess is how much r probably holds:
// it decides the first allocation only. Memory grows with what was really read,
// never with a length that the input claims.
func appendLimited(id ID, dst []byte, r io.Reader, guess, limit int) ([]byte, error) {
	limit = max(limit, 0)
	start := len(dst)
	// One byte past the limit must fit, or the excess could not be seen.
	bound := math.MaxInt
	if limit < math.MaxInt-start {
		bound = start + limit + 1
	}
	if room := min(max(guess, 1), bound-start); cap(dst)-start < room {
		dst = slices.Grow(dst, room)
	}
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(1, min(max(growStep, len(dst)-start), bound-len(dst))))
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), bound)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst)-start > limit:
			return dst[:start], tooLarge(id, limit)
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst[:start], corrupt(id, err)
		}
	}
}
