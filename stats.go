package troupe

import (
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// Stats is what a producer has done since it was made. All but the gauges at the end
// only grow, so that two of them have a rate between them; they are read one after the
// other, not at one moment. They say nothing of records that were refused: the caller
// has had an error for those.
//
//	expvar.Publish("troupe", expvar.Func(func() any { return p.Stats() }))
type Stats struct {
	// Records by outcome. RecordTime is from admission to acknowledgement, over all of
	// those persisted.
	RecordsPersisted, RecordsNotPersisted, RecordsPossiblyPersisted uint64
	RecordTime                                                      time.Duration
	// Batches were acknowledged. BatchBytes is their size before compression, WireBytes as
	// they were sent.
	Batches, BatchBytes, WireBytes uint64
	// BatchRetries is how often a batch was handed over again, BatchSplits how many were
	// too large for the broker and cut in two.
	BatchRetries, BatchSplits uint64
	// Requests to produce were answered, or written with acks=0; RequestsLost were not, and
	// bytes of them may have left. RequestTime is from write to answer.
	Requests, RequestsLost uint64
	RequestTime            time.Duration
	// RequestTimes is how many took how long: the nth of them up to RequestTimeLimit(n), and
	// longer than those before.
	RequestTimes [messages.RequestTimeBuckets]uint64
	// Throttled is for how long brokers have asked to be left alone (KIP-219).
	Throttled time.Duration
	// ConnectionsFailed never came up, ConnectionsLost ended when they were needed.
	ConnectionsOpened, ConnectionsFailed, ConnectionsLost uint64
	// MetadataRefreshes brought a view of the cluster, MetadataFailures did not.
	MetadataRefreshes, MetadataFailures uint64
	// CallbackPanics counts callbacks that panicked or ended their goroutine.
	CallbackPanics uint64

	// Unanswered is how many records have no outcome yet; BufferedBytes of BufferBytes are
	// in use.
	Unanswered                 int
	BufferedBytes, BufferBytes int
}

// RequestTimeLimit is the longest time of the nth of Stats.RequestTimes: 1 ms for n = 0,
// and twice that of the one before. The last has none.
func RequestTimeLimit(n int) time.Duration {
	if n >= messages.RequestTimeBuckets-1 {
		return 1<<63 - 1
	}
	return time.Millisecond << n
}

// Stats is what the producer has done so far. It looks at every partition for a moment,
// and may be called from anywhere, also after Close.
func (p *Producer) Stats() Stats {
	p.troupe.Router.Count()
	c := p.config.Counters
	return Stats{
		RecordsPersisted: c.Sum(messages.CountPersisted), RecordsNotPersisted: c.Sum(messages.CountNotPersisted),
		RecordsPossiblyPersisted: c.Sum(messages.CountPossiblyPersisted), RecordTime: time.Duration(c.Sum(messages.CountRecordTime)),
		Batches: c.Sum(messages.CountBatches), BatchBytes: c.Sum(messages.CountBatchBytes), WireBytes: c.Sum(messages.CountWireBytes),
		BatchRetries: c.Sum(messages.CountRetries), BatchSplits: c.Sum(messages.CountSplits),
		Requests: c.Sum(messages.CountRequests), RequestsLost: c.Sum(messages.CountRequestsLost), RequestTime: time.Duration(c.Sum(messages.CountRequestTime)),
		RequestTimes: c.RequestTimes(), Throttled: time.Duration(c.Sum(messages.CountThrottled)),
		ConnectionsOpened: c.Sum(messages.CountConnectionsOpened), ConnectionsFailed: c.Sum(messages.CountConnectionsFailed), ConnectionsLost: c.Sum(messages.CountConnectionsLost),
		MetadataRefreshes: c.Sum(messages.CountRefreshes), MetadataFailures: c.Sum(messages.CountRefreshesFailed), CallbackPanics: c.Sum(messages.CountCallbackPanics),
		Unanswered: p.Unanswered(), BufferedBytes: p.BufferedBytes(), BufferBytes: p.config.BufferBytes,
	}
}
