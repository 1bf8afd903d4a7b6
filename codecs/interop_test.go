package codecs

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFranzReadsOurs has another client's decoder read every codec and level.
func TestFranzReadsOurs(t *testing.T) {
	theirs := kgo.DefaultDecompressor()
	for _, id := range compressing {
		for _, level := range levelsOf(id) {
			c := mustNew(t, id, level)
			for name, plain := range inputs() {
				if id == Snappy && len(plain) == 0 {
					continue // franz-go wants at least one block after the header
				}
				packed, err := c.Compress(nil, plain)
				if err != nil {
					t.Fatal(err)
				}
				got, err := theirs.Decompress(packed, kgo.CompressionCodecType(id))
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s/%d/%s: %v, %d bytes, want %d", id, level, name, err, len(got), len(plain))
				}
			}
		}
	}
}

// TestWeReadFranz is the other direction. Its snappy is raw, without framing.
func TestWeReadFranz(t *testing.T) {
	for id, codec := range map[ID]kgo.CompressionCodec{
		Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(),
		LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
	} {
		theirs, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		for name, plain := range inputs() {
			packed, used := theirs.Compress(new(bytes.Buffer), plain)
			if ID(used) != id {
				t.Fatalf("franz-go used %d for %s", used, id)
			}
			got, err := mustNew(t, id, DefaultLevel).Decompress(nil, packed, len(plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s/%s: %v, %d bytes, want %d", id, name, err, len(got), len(plain))
			}
		}
	}
}

func TestStandardLibraryReadsOurGzip(t *testing.T) {
	plain := jsonish(100_000)
	packed, _ := mustNew(t, Gzip, DefaultLevel).Compress(nil, plain)
	r, err := stdgzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
}

// TestLZ4FrameIsJavas takes the frame apart bit by bit: a decoder of ours would be
// content with more than Java is. The block size is the smallest that holds the
// batch, up to 1 MB, since readers take a buffer of the size that is named.
func TestLZ4FrameIsJavas(t *testing.T) {
	const kb = 1 << 10
	for _, c := range []struct{ plain, block, blocks int }{
		{0, 64 * kb, 0}, {1, 64 * kb, 1}, {5000, 64 * kb, 1}, {64 * kb, 64 * kb, 1},
		{64*kb + 1, 256 * kb, 1}, {256 * kb, 256 * kb, 1},
		{256*kb + 1, 1024 * kb, 1}, {1_000_000, 1024 * kb, 1}, {1024 * kb, 1024 * kb, 1},
		{1024*kb + 1, 1024 * kb, 2}, {3*1024*kb - 1, 1024 * kb, 3}, {5 * 1024 * kb, 1024 * kb, 5},
	} {
		for name, plain := range map[string][]byte{"text": jsonish(c.plain), "noise": noise(c.plain)} {
			packed, err := mustNew(t, LZ4, DefaultLevel).Compress(nil, plain)
			if err != nil {
				t.Fatal(err)
			}
			if magic := binary.LittleEndian.Uint32(packed); magic != 0x184D2204 {
				t.Errorf("magic %#x", magic)
			}
			// Version 01, independent blocks, no block checksum, no size, no content checksum.
			if packed[4] != 0b0110_0000 {
				t.Errorf("flags %08b", packed[4])
			}
			id := map[int]byte{64 * kb: 4, 256 * kb: 5, 1024 * kb: 6}[c.block]
			if packed[5] != id<<4 {
				t.Errorf("%d bytes of %s: block descriptor %08b, want size %d", c.plain, name, packed[5], id)
			}
			blocks, rest := 0, packed[7:]
			for left := plain; ; blocks++ {
				n := binary.LittleEndian.Uint32(rest)
				rest = rest[4:]
				if n == 0 { // the end mark, and no checksum
					if len(left) != 0 || len(rest) != 0 {
						t.Errorf("%d bytes of %s: %d are missing, %d after the end", c.plain, name, len(left), len(rest))
					}
					break
				}
				stored := n>>31 == 1
				n &^= 1 << 31
				if int(n) > c.block {
					t.Errorf("%d bytes of %s: a block of %d", c.plain, name, n)
				}
				got := rest[:n:n]
				if !stored { // by itself: no block needs the one before it
					got = make([]byte, c.block)
					m, err := lz4.UncompressBlock(rest[:n], got)
					if err != nil {
						t.Fatal(err)
					}
					got = got[:m]
				}
				if len(got) != min(c.block, len(left)) || !bytes.HasPrefix(left, got) {
					t.Fatalf("%d bytes of %s: block %d holds something else", c.plain, name, blocks)
				}
				left, rest = left[len(got):], rest[n:]
			}
			if blocks != c.blocks {
				t.Errorf("%d bytes of %s: %d blocks, want %d", c.plain, name, blocks, c.blocks)
			}
		}
	}
}

// TestLZ4FrameIsTheLibrarys compares our frames with those of the library's own
// writer, byte by byte, at every level and block size.
func TestLZ4FrameIsTheLibrarys(t *testing.T) {
	plains := maps.Clone(inputs())
	plains["100 KB"], plains["60 KB"] = jsonish(100_000), jsonish(60_000)
	for _, level := range levelsOf(LZ4) {
		c := mustNew(t, LZ4, level)
		for name, plain := range plains {
			ours, err := c.Compress(nil, plain)
			if err != nil {
				t.Fatal(err)
			}
			size := lz4.Block1Mb
			switch {
			case len(plain) <= 64<<10:
				size = lz4.Block64Kb
			case len(plain) <= 256<<10:
				size = lz4.Block256Kb
			}
			if level == DefaultLevel {
				level = levels[LZ4].standard
			}
			var theirs bytes.Buffer
			w := lz4.NewWriter(&theirs)
			_ = w.Apply(lz4.BlockSizeOption(size), lz4.ChecksumOption(false), lz4.CompressionLevelOption(lz4Level(level)))
			_, _ = w.Write(plain)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours, theirs.Bytes()) {
				t.Errorf("level %d, %s: %d bytes, the library's writer makes %d", level, name, len(ours), theirs.Len())
			}
		}
	}
}

// TestLZ4AndSnappyFindWhatFranzFinds: blocks as large as the batch make it as small
// as franz-go makes it, which compresses a batch in one piece.
func TestLZ4AndSnappyFindWhatFranzFinds(t *testing.T) {
	for id, codec := range map[ID]kgo.CompressionCodec{Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression()} {
		theirs, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{2000, 30_000, 100_000, 400_000, 1_000_000} {
			plain := jsonish(size)
			packed, _ := mustNew(t, id, DefaultLevel).Compress(nil, plain)
			other, _ := theirs.Compress(new(bytes.Buffer), plain)
			if len(packed) > len(other)+len(other)/200+32 { // the framing is 20 bytes
				t.Errorf("%s: %d bytes became %d, franz-go makes %d", id, size, len(packed), len(other))
			}
		}
	}
}

func TestXerialFraming(t *testing.T) {
	plain := jsonish(2*xerialBlock + 100)
	packed, _ := snappyCodec{}.Compress(nil, plain)
	if !bytes.HasPrefix(packed, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")) {
		t.Fatalf("header % x", packed[:16])
	}
	rest := packed[16:]
	var sizes []int
	for len(rest) > 0 {
		n := binary.BigEndian.Uint32(rest)
		size, err := s2.DecodedLen(rest[4 : 4+n])
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, size)
		rest = rest[4+n:]
	}
	if fmt.Sprint(sizes) != fmt.Sprint([]int{xerialBlock, xerialBlock, 100}) {
		t.Errorf("blocks of %v", sizes)
	}

	for name, c := range map[string]struct {
		packed []byte
		want   []byte
	}{
		"header only":       {packed[:16], nil},
		"joined streams":    {append(bytes.Clone(packed), packed...), append(bytes.Clone(plain), plain...)},
		"raw block":         {s2.EncodeSnappy(nil, plain), plain},
		"raw block, 1 byte": {s2.EncodeSnappy(nil, []byte("x")), []byte("x")},
		"raw, nothing":      {[]byte{0}, nil},
	} {
		got, err := snappyCodec{}.Decompress(nil, c.packed, len(c.want))
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(c.want))
		}
	}

	for name, bad := range map[string]string{
		"length past the end": xerialHeader + "\x00\x00\x00\x09\x01\x00",
		"half a length":       xerialHeader + "\x00\x00",
		"negative length":     xerialHeader + "\xff\xff\xff\xff\x00",
		"lying raw claim":     "\xff\xff\xff\x7f\x00a",
		"lying block claim":   xerialHeader + "\x00\x00\x00\x06\xff\xff\xff\x7f\x00a",
		"magic, cut":          xerialMagic,
	} {
		if _, err := (snappyCodec{}).Decompress(nil, []byte(bad), 1<<30); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestZstdStreams reads what streaming encoders write, Java's among them: frames
// without a content size, with a window larger than the limit, and several in a
// row.
func TestZstdStreams(t *testing.T) {
	c := mustNew(t, Zstd, DefaultLevel)
	for name, plain := range inputs() {
		var out bytes.Buffer
		w, _ := zstd.NewWriter(&out, zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
		for rest := plain; len(rest) > 0; {
			n := min(10_000, len(rest))
			_, _ = w.Write(rest[:n])
			_ = w.Flush() // more than one block, so that the size stays unknown
			rest = rest[n:]
		}
		_ = w.Close()
		packed := out.Bytes()
		got, err := c.Decompress([]byte("kept"), packed, len(plain))
		if err != nil || !bytes.Equal(got, append([]byte("kept"), plain...)) {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(plain))
		}
		twice := append(bytes.Clone(packed), packed...)
		if got, err := c.Decompress(nil, twice, 2*len(plain)); err != nil || len(got) != 2*len(plain) {
			t.Errorf("%s twice: %v, %d bytes", name, err, len(got))
		}
		if len(plain) > 0 {
			if _, err := c.Decompress(nil, twice, 2*len(plain)-1); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s twice, one byte short: %v", name, err)
			}
		}
	}

	// A frame of 20 bytes that claims an exabyte.
	lie := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0}
	if _, err := c.Decompress(nil, lie, 1<<62); !errors.Is(err, ErrCorrupt) {
		t.Errorf("lying claim: %v", err)
	}
	honest, _ := c.Compress(nil, []byte("first"))
	if _, err := c.Decompress(nil, append(honest, lie...), 1<<62); !errors.Is(err, ErrCorrupt) {
		t.Errorf("lying claim of a second frame: %v", err)
	}
}

// TestLZ4OtherFrames reads what other producers may write: large blocks,
// checksums, a stated size, frames in a row.
func TestLZ4OtherFrames(t *testing.T) {
	plain := jsonish(300_000)
	var out bytes.Buffer
	for range 2 {
		w := lz4.NewWriter(&out)
		_ = w.Apply(lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(true), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(plain))))
		_, _ = w.Write(plain)
		_ = w.Close()
	}
	got, err := mustNew(t, LZ4, DefaultLevel).Decompress(nil, out.Bytes(), 2*len(plain))
	if err != nil || !bytes.Equal(got, append(bytes.Clone(plain), plain...)) {
		t.Fatalf("%v, %d bytes", err, len(got))
	}
}
