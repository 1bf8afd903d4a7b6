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

// TestCompressTakesTheBatchAtMost: a warm codec grows dst by no more than the batch,
// and takes no block of its own, so that a small batch stays cheap.
func TestCompressTakesTheBatchAtMost(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under -race")
	}
	for _, id := range []ID{LZ4, Snappy} {
		c := mustNew(t, id, DefaultLevel)
		for _, size := range []int{100, 4000, 100_000, xerialBlock} {
			plain := jsonish(size)
			const rounds = 50
			least := uint64(1 << 62)
			for range 3 { // a garbage collection may empty the pools
				var before, after runtime.MemStats
				_, _ = c.Compress(nil, plain)
				runtime.ReadMemStats(&before)
				for range rounds {
					_, _ = c.Compress(nil, plain)
				}
				runtime.ReadMemStats(&after)
				least = min(least, (after.TotalAlloc-before.TotalAlloc)/rounds)
			}
			if least > uint64(size+size/4+200) {
				t.Errorf("%s: %d bytes allocated for a batch of %d", id, least, size)
			}
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, id := range compressing {
		for _, size := range []int{2 << 10, 16 << 10, 200 << 10, 1 << 20} {
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
