package codecs

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var compressing = []ID{Gzip, Snappy, LZ4, Zstd}

// jsonish is what batches hold: records that resemble their neighbours.
func jsonish(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, `{"id":%d,"user":"u-%d","page":"/products/%d"}`, i, r.IntN(5000), r.IntN(900))
	}
	return b[:n]
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// inputs are made once, since that takes longer than most codecs do; nobody writes
// to them.
var inputs = sync.OnceValue(func() map[string][]byte {
	return map[string][]byte{
		"empty":             {},
		"tiny":              []byte("a"),
		"a few KB":          jsonish(5000),
		"one block":         jsonish(xerialBlock),
		"2 MB, many blocks": jsonish(2*xerialBlock + 100),
		"1 MB zeros":        make([]byte, 1<<20),
		"random":            noise(300_001),
	}
})

func mustNew(t testing.TB, id ID, level int) Codec {
	t.Helper()
	c, err := New(id, level)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// levelsOf gives every level of the short ranges, and each side of every step of
// zstd's long one. Under the race detector, which slows codecs twentyfold and has
// nothing to find in a level, it is the default and the ends.
func levelsOf(id ID) []int {
	if lowest, highest, ok := LevelRange(id); ok && raceEnabled {
		return []int{DefaultLevel, lowest, highest}
	}
	switch id {
	case Gzip:
		return []int{DefaultLevel, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	case LZ4:
		out := []int{DefaultLevel}
		for level := 1; level <= 17; level++ {
			out = append(out, level)
		}
		return out
	case Zstd:
		return []int{DefaultLevel, -131072, 0, 2, 3, 5, 6, 9, 10, 22}
	}
	return []int{DefaultLevel}
}

func TestRoundTrip(t *testing.T) {
	prefix := []byte("kept")
	for id := None; id <= Zstd; id++ {
		for _, level := range levelsOf(id) {
			c := mustNew(t, id, level)
			for name, plain := range inputs() {
				t.Run(fmt.Sprintf("%s/%d/%s", id, level, name), func(t *testing.T) {
					packed, err := c.Compress(bytes.Clone(prefix), plain)
					if err != nil || !bytes.HasPrefix(packed, prefix) {
						t.Fatalf("compress: %v, prefix %q", err, packed[:min(4, len(packed))])
					}
					packed = packed[len(prefix):]
					if strings.Contains(name, " MB") && id != None && len(packed) > len(plain)/2 {
						t.Errorf("%d bytes from %d: not compressed", len(packed), len(plain))
					}
					// A limit of exactly the size must do.
					got, err := c.Decompress(bytes.Clone(prefix), packed, len(plain))
					if err != nil || !bytes.HasPrefix(got, prefix) || !bytes.Equal(got[len(prefix):], plain) {
						t.Fatalf("decompress: %v, %d bytes, want %d", err, len(got)-len(prefix), len(plain))
					}
				})
			}
		}
	}
}

func TestLevelOutOfRangeNamesTheRange(t *testing.T) {
	for _, c := range []struct {
		id    ID
		level int
		want  string
	}{
		{Gzip, 0, "1 to 9"}, {Gzip, 10, "1 to 9"}, {Gzip, -2, "1 to 9"},
		{LZ4, 0, "1 to 17"}, {LZ4, 18, "1 to 17"}, {LZ4, -1, "1 to 17"},
		{Zstd, 23, "-131072 to 22"}, {Zstd, -131073, "-131072 to 22"},
		{Snappy, 1, "no levels"}, {None, 1, "no levels"},
	} {
		_, err := New(c.id, c.level)
		if !errors.Is(err, ErrLevel) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%s, %d): %v, want %q", c.id, c.level, err, c.want)
		}
	}
	if lo, hi, ok := LevelRange(Zstd); lo != -131072 || hi != 22 || !ok {
		t.Errorf("LevelRange(zstd) = %d, %d, %t", lo, hi, ok)
	}
	if _, _, ok := LevelRange(Snappy); ok {
		t.Error("snappy has a level range")
	}
}

func TestUnknownIDs(t *testing.T) {
	for _, id := range []ID{-1, 5, 7, 127, -128} {
		if _, err := New(id, DefaultLevel); !errors.Is(err, ErrUnknownCodec) {
			t.Errorf("New(%d): %v", id, err)
		}
	}
	if got := ID(9).String(); got != "codec(9)" {
		t.Errorf("ID(9) is %q", got)
	}
}

func TestParse(t *testing.T) {
	for id := None; id <= Zstd; id++ {
		if got, err := Parse(id.String()); got != id || err != nil {
			t.Errorf("Parse(%q) = %d, %v", id.String(), got, err)
		}
	}
	if got, err := Parse("uncompressed"); got != None || err != nil {
		t.Errorf("uncompressed = %d, %v", got, err)
	}
	for _, name := range []string{"", "GZIP", "brotli", "codec(1)", " lz4"} {
		if _, err := Parse(name); !errors.Is(err, ErrUnknownCodec) || !strings.Contains(err.Error(), "zstd") {
			t.Errorf("Parse(%q): %v", name, err)
		}
	}
}

func TestBombIsRefused(t *testing.T) {
	bomb := make([]byte, 32<<20)
	for id := None; id <= Zstd; id++ {
		c := mustNew(t, id, DefaultLevel)
		packed, err := c.Compress(nil, bomb)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{-5, 0, 1, 1000, 1 << 20, len(bomb) - 1} {
			got, err := c.Decompress([]byte("kept"), packed, limit)
			if !errors.Is(err, ErrTooLarge) || string(got) != "kept" {
				t.Errorf("%s, limit %d: %v, %d bytes", id, limit, err, len(got))
			}
		}
		if got, err := c.Decompress(nil, packed, math.MaxInt); err != nil || len(got) != len(bomb) {
			t.Errorf("%s without a limit: %v, %d bytes", id, err, len(got))
		}
		if id == None {
			continue
		}
		// Refusing must not cost the memory that accepting would have.
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 4 {
			_, _ = c.Decompress(nil, packed, 1<<10)
		}
		runtime.ReadMemStats(&after)
		grown := (after.TotalAlloc - before.TotalAlloc) / 4
		if grown > 4<<20 {
			t.Errorf("%s: refusing at 1 KB took %d bytes", id, grown)
		}
	}
}

func TestCorruptInput(t *testing.T) {
	plain := jsonish(80_000)
	for _, id := range compressing {
		c := mustNew(t, id, DefaultLevel)
		packed, err := c.Compress(nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(id.String()+"/empty", func(t *testing.T) {
			if got, err := c.Decompress([]byte("kept"), nil, 1<<20); !errors.Is(err, ErrCorrupt) || string(got) != "kept" {
				t.Fatalf("%v, %q", err, got)
			}
		})
		t.Run(id.String()+"/another codec's", func(t *testing.T) {
			for _, other := range compressing {
				if other == id {
					continue
				}
				foreign, _ := mustNew(t, other, DefaultLevel).Compress(nil, plain)
				if _, err := c.Decompress(nil, foreign, 1<<20); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
					t.Errorf("%s read as %s: %v", other, id, err)
				}
			}
		})
		t.Run(id.String()+"/truncated", func(t *testing.T) {
			for cut := 0; cut < len(packed); cut += 1 + cut/7 {
				got, err := c.Decompress(nil, packed[:cut], 1<<20)
				// Xerial framing has no end: a cut between two blocks is a valid
				// stream of fewer blocks. The batch's CRC covers that.
				if err == nil && !(id == Snappy && bytes.HasPrefix(plain, got)) {
					t.Errorf("cut at %d of %d: no error, %d bytes", cut, len(packed), len(got))
				}
			}
		})
		t.Run(id.String()+"/flipped", func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, uint64(id)))
			for range 500 {
				bad := bytes.Clone(packed)
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
				got, err := c.Decompress(nil, bad, 1<<20)
				if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
					t.Fatalf("an error of no kind: %v", err)
				}
				if len(got) > 1<<20 {
					t.Fatalf("%d bytes over a limit of %d", len(got), 1<<20)
				}
			}
			// The pooled decoders must have survived all that.
			if got, err := c.Decompress(nil, packed, len(plain)); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("after corrupt inputs: %v", err)
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	plain := jsonish(100_000)
	for _, id := range compressing {
		c := mustNew(t, id, DefaultLevel)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				mine := plain[g*1000:]
				var packed, got []byte
				for range 20 {
					var err error
					if packed, err = c.Compress(packed[:0], mine); err != nil {
						t.Error(err)
					}
					if _, err = c.Decompress(nil, packed, 10); !errors.Is(err, ErrTooLarge) {
						t.Error(err)
					}
					if got, err = c.Decompress(got[:0], packed, len(plain)); err != nil || !bytes.Equal(got, mine) {
						t.Errorf("%s: %v", id, err)
					}
				}
			})
		}
		wg.Wait()
	}
}
