package codecs

import (
	"fmt"
	"runtime"
	"testing"
)

// TestWarmCodecsDoNotAllocate counts over many calls and allows a few: a garbage
// collection empties the pools. It is of no use under the race detector, where
// sync.Pool drops items at random.
func TestWarmCodecsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under -race")
	}
	plain := jsonish(50_000)
	for id := None; id <= Zstd; id++ {
		c := mustNew(t, id, DefaultLevel)
		var packed, got []byte
		round := func() {
			packed, _ = c.Compress(packed[:0], plain)
			got, _ = c.Decompress(got[:0], packed, len(plain))
		}
		round()
		runtime.GC()
		round()
		if n := testing.AllocsPerRun(100, round); n > 0 {
			t.Errorf("%s: %v allocations per round trip", id, n)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, id := range compressing {
		for _, size := range []int{16 << 10, 200 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKB", id, size>>10), func(b *testing.B) {
				c, plain := mustNew(b, id, DefaultLevel), jsonish(size)
				var packed []byte
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					packed, _ = c.Compress(packed[:0], plain)
				}
				b.ReportMetric(float64(size)/float64(len(packed)), "ratio")
			})
		}
	}
}
