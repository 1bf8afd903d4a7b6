package messages

import "sync/atomic"

// Counter is one thing that a producer counts. Times are in nanoseconds.
type Counter int

// The counters.
const (
	CountPersisted         Counter = iota     // records, by outcome
	CountNotPersisted                         //
	CountPossiblyPersisted                    //
	CountRecordTime                           // from admission to acknowledgement, over all records persisted
	CountBatches                              // acknowledged
	CountBatchBytes                           // of those, before compression
	CountWireBytes                            // of those, as they were sent
	CountRetries                              // batches handed over again
	CountSplits                               // batches that were cut in two
	tallied                        = iota     // those before are counted by partitions
	CountRequests          Counter = iota - 1 // Produce requests that were answered, or written with acks 0
	CountRequestsLost                         // that were not, and of which bytes may have left
	CountRequestTime                          // from write to answer
	CountThrottled                            // by answers to Produce (KIP-219)
	CountConnectionsOpened                    //
	CountConnectionsFailed                    // that never came up
	CountConnectionsLost                      // that ended with something in flight, or waiting
	CountRefreshes                            // of metadata
	CountRefreshesFailed                      //
	CountCallbackPanics                       // and callbacks that ended their goroutine
	countRequestTimes                         // and RequestTimeBuckets−1 more: by how long they took
	counterCount           = countRequestTimes + RequestTimeBuckets
)

// RequestTimeBuckets is how many classes of request times are counted: the nth holds
// those up to 1 ms shifted left by n, and the last what is above.
const RequestTimeBuckets = 16

// counterShards keep counters apart that are counted up on different processors.
const counterShards = 8

// Tally is what a partition has counted since it last told the producer's counters:
// there may be as many partitions as records in a batch, and what several processors
// count up together costs each of them more than the rest of settling a batch.
type Tally [tallied]uint64

// Add counts; k is one of those up to CountSplits.
func (t *Tally) Add(k Counter, n uint64) { t[k] += n }

// Outcome counts records with an outcome.
func (t *Tally) Outcome(status Status, records int) { t[outcomes[status]] += uint64(records) }

var outcomes = [...]Counter{NotPersisted: CountNotPersisted, PossiblyPersisted: CountPossiblyPersisted, Persisted: CountPersisted}

// Take takes in what was counted, and leaves nothing of it.
func (c *Counters) Take(t *Tally) {
	if c == nil {
		return
	}
	for k, n := range t {
		c.shards[0].Add(Counter(k), n)
	}
	*t = Tally{}
}

// Counters are a producer's, or nil for none. They only grow.
type Counters struct{ shards [counterShards]CounterShard }

// CounterShard is a part of the counters; nil counts nothing.
type CounterShard struct {
	n [counterCount]atomic.Uint64
	_ [128 - counterCount*8%128]byte // lines of their own
}

// Shard is the part for somebody with a number.
func (c *Counters) Shard(number int) *CounterShard {
	if c == nil {
		return nil
	}
	return &c.shards[uint(number)%counterShards]
}

// Add counts.
func (s *CounterShard) Add(k Counter, n uint64) {
	if s != nil && n > 0 {
		s.n[k].Add(n)
	}
}

// Outcome counts records with an outcome.
func (s *CounterShard) Outcome(status Status, records int) {
	s.Add(outcomes[status], uint64(records))
}

// RequestTook counts an answer, and how long it took in nanoseconds.
func (s *CounterShard) RequestTook(ns uint64) {
	bucket := Counter(0)
	for limit := uint64(1_000_000); ns > limit && bucket < RequestTimeBuckets-1; limit <<= 1 {
		bucket++
	}
	s.Add(CountRequests, 1)
	s.Add(CountRequestTime, ns)
	s.Add(countRequestTimes+bucket, 1)
}

// Sum is a counter's value. Several are not read at the same moment.
func (c *Counters) Sum(k Counter) (n uint64) {
	if c == nil {
		return 0
	}
	for i := range c.shards {
		n += c.shards[i].n[k].Load()
	}
	return n
}

// RequestTimes is how many requests took how long, by bucket.
func (c *Counters) RequestTimes() (times [RequestTimeBuckets]uint64) {
	for i := range times {
		times[i] = c.Sum(countRequestTimes + Counter(i))
	}
	return times
}
