package messages

import (
	"sync"
	"testing"
	"time"
)

// TestCounters: shards add up, also when they are counted up together; nil counts nothing.
func TestCounters(t *testing.T) {
	var c Counters
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			s := c.Shard(i - 50)
			s.Outcome(Persisted, 3)
			s.Outcome(PossiblyPersisted, 2)
			s.Outcome(NotPersisted, 1)
			s.Add(CountRetries, 0)
		})
	}
	all.Wait()
	if p, q, n := c.Sum(CountPersisted), c.Sum(CountPossiblyPersisted), c.Sum(CountNotPersisted); p != 300 || q != 200 || n != 100 || c.Sum(CountRetries) != 0 {
		t.Errorf("%d, %d and %d", p, q, n)
	}
	var none *Counters
	none.Shard(1).Outcome(Persisted, 1)
	if none.Sum(CountPersisted) != 0 {
		t.Error("nil counts")
	}
}

// TestRequestTimes: each class holds times up to its limit, and the last all above.
func TestRequestTimes(t *testing.T) {
	var c Counters
	s := c.Shard(0)
	for ms, bucket := range map[time.Duration]int{
		0: 0, time.Millisecond: 0, time.Millisecond + 1: 1, 2 * time.Millisecond: 1, 3 * time.Millisecond: 2, 16384 * time.Millisecond: 14, 16385 * time.Millisecond: 15, time.Hour: 15,
	} {
		before := c.RequestTimes()
		s.RequestTook(uint64(ms))
		after := c.RequestTimes()
		for i := range after {
			if grew := after[i] - before[i]; (i == bucket) != (grew == 1) {
				t.Errorf("%v: bucket %d grew by %d", ms, i, grew)
			}
		}
	}
	if c.Sum(CountRequests) != 8 || c.Sum(CountRequestTime) == 0 {
		t.Errorf("%d requests", c.Sum(CountRequests))
	}
}
