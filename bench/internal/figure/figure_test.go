package figure

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestSummarizeIsExact(t *testing.T) {
	thousand := make([]time.Duration, 1000)
	for i := range thousand {
		thousand[i] = time.Duration(i+1) * time.Millisecond
	}
	rand.Shuffle(len(thousand), func(i, j int) { thousand[i], thousand[j] = thousand[j], thousand[i] })
	for name, c := range map[string]struct {
		of   []time.Duration
		want Summary
	}{
		"1 to 1,000 ms":            {thousand, Summary{500, 990, 999, 1000}},
		"one":                      {[]time.Duration{3 * time.Millisecond}, Summary{3, 3, 3, 3}},
		"two":                      {[]time.Duration{4 * time.Millisecond, 2 * time.Millisecond}, Summary{2, 4, 4, 4}},
		"one of a hundred is slow": {append(make([]time.Duration, 99), time.Second), Summary{0, 0, 1000, 1000}},
		"two of a hundred are":     {append(make([]time.Duration, 98), time.Second, time.Second), Summary{0, 1000, 1000, 1000}},
	} {
		if got := *Summarize(c.of); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
