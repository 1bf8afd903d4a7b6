package codecs

import (
	"bytes"
	"errors"
	"testing"
)

const fuzzLimit = 1 << 20

// fuzzDecoder holds what every decoder promises: bytes within the limit, or an
// error of a known kind; and that what it read, written again, reads the same.
func fuzzDecoder(f *testing.F, id ID, more ...[]byte) {
	c := mustNew(f, id, DefaultLevel)
	for _, plain := range [][]byte{nil, []byte("a"), jsonish(5000), make([]byte, 70_000), noise(500)} {
		packed, err := c.Compress(nil, plain)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
		f.Add(packed[:len(packed)/2])
		f.Add(append(packed, packed...))
	}
	for _, seed := range more {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		untouched := bytes.Clone(src)
		got, err := c.Decompress([]byte("kept"), src, fuzzLimit)
		if !bytes.HasPrefix(got, []byte("kept")) || len(got) > fuzzLimit+4 {
			t.Fatalf("%d bytes, prefix lost or limit passed", len(got))
		}
		if !bytes.Equal(src, untouched) {
			t.Fatal("the input was modified")
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) || len(got) != 4 {
				t.Fatalf("%v, %d bytes", err, len(got))
			}
			return
		}
		packed, err := c.Compress(nil, got[4:])
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Decompress(nil, packed, fuzzLimit)
		if err != nil || !bytes.Equal(again, got[4:]) {
			t.Fatalf("round trip: %v", err)
		}
	})
}

func FuzzDecompressGzip(f *testing.F) { fuzzDecoder(f, Gzip) }

func FuzzDecompressSnappy(f *testing.F) {
	fuzzDecoder(f, Snappy, []byte("\x05\x10hello"), []byte(xerialMagic), []byte("\xff\xff\xff\x7f\x00a"))
}

func FuzzDecompressLZ4(f *testing.F) { fuzzDecoder(f, LZ4) }

func FuzzDecompressZstd(f *testing.F) {
	fuzzDecoder(f, Zstd, []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"))
}
