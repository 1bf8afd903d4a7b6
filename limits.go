package troupe

import "time"

// Every limit of the runtime that a user can meet. The README's table has the
// same rows, and a test compares the two.
const (
	// DefaultLinger is how long a batch that is not full waits for more records
	// (linger.ms; KIP-1030). At the limit it is sent.
	DefaultLinger = 5 * time.Millisecond
	// DefaultBatchMaxBytes bounds one batch before compression (batch.size). It
	// is a bound, not a reservation: batches grow by chunks. At the limit the
	// batch is sent and another begins.
	DefaultBatchMaxBytes = 1_000_000
	// DefaultRecordMaxBytes bounds one encoded record (max.request.size). Above
	// it the record is refused with ErrRecordTooLarge.
	DefaultRecordMaxBytes = 1 << 20
	// DefaultRequestMaxBytes bounds one Produce request, unless a single batch is
	// larger (request.max.bytes). At the limit the rest goes into the next.
	DefaultRequestMaxBytes = 2 << 20
	// DefaultResponseMaxBytes bounds one answer (receive.message.max.bytes). A
	// larger one ends the connection.
	DefaultResponseMaxBytes = 64 << 20
	// DefaultBufferBytes bounds everything admitted and unanswered
	// (buffer.memory). At the limit callers wait, or get ErrBufferFull.
	DefaultBufferBytes = 32 << 20
	// DefaultPaceBytes is how much the partitions of one leader hold while it
	// keeps up (buffer.pace.bytes). At the limit a caller waits for the next
	// answer, as long as answers come; nothing is refused for it. Running further
	// ahead gains nothing and costs cache misses: see docs/adr.
	DefaultPaceBytes = 8 << 20
	// DefaultMaxInFlight bounds the Produce requests in flight to one broker, and
	// the batches of one numbered partition
	// (max.in.flight.requests.per.connection). At the limit batches keep growing.
	DefaultMaxInFlight = 5
	// DefaultDeliveryTimeout bounds the time from admission to outcome
	// (delivery.timeout.ms; KIP-91). After it the record fails with
	// ErrDeliveryTimeout.
	DefaultDeliveryTimeout = 2 * time.Minute
	// DefaultRequestTimeout is how long a broker may wait for its replicas
	// (request.timeout.ms).
	DefaultRequestTimeout = 30 * time.Second
	// RequestTimeoutSlack is how much longer the client waits for the answer;
	// then the connection is given up.
	RequestTimeoutSlack = 10 * time.Second
	// DefaultMaxBlock bounds the wait for room in the buffer when the call's
	// context has no deadline (max.block.ms). After it the call returns
	// ErrBufferFull.
	DefaultMaxBlock = time.Minute
	// DefaultConnectionTimeout bounds one attempt to connect, with the broker's
	// answer to ApiVersions (socket.connection.setup.timeout.ms). At the limit the
	// attempt has failed, and the next address or broker is tried.
	DefaultConnectionTimeout = 10 * time.Second
	// DefaultConnectionIdle closes a connection that nobody used
	// (connections.max.idle.ms), before the broker's own ten minutes do.
	DefaultConnectionIdle = 9 * time.Minute
	// DefaultSlowRequest is how long a request may be open before its partitions
	// travel on a lane of their own (slow.request.ms).
	DefaultSlowRequest = 2 * time.Second
	// DefaultMetadataMaxAge forces a refresh (metadata.max.age.ms).
	DefaultMetadataMaxAge = 5 * time.Minute
	// DefaultMetadataMinAge is the least time between two refreshes
	// (metadata.min.age.ms).
	DefaultMetadataMinAge = 100 * time.Millisecond
	// DefaultMetadataHedge is how long the broker asked for metadata, or for a
	// producer id, may be silent (metadata.hedge.ms). At the limit another is asked
	// as well, and the first answer counts.
	DefaultMetadataHedge = 2 * time.Second
	// DefaultMetadataIdle ends the accumulators of a topic that got no record for
	// so long, and its metadata is no longer asked for (metadata.max.idle.ms;
	// KIP-526). Its sequences are kept.
	DefaultMetadataIdle = 5 * time.Minute
	// DefaultMaxTopicWait is how long records of an unknown topic wait for it
	// (topic.wait.ms). After it they fail with ErrUnknownTopic.
	DefaultMaxTopicWait = time.Minute
	// DefaultStickyBytes is the least that goes to one partition before records
	// without a key move on (partitioner.sticky.bytes; KIP-794).
	DefaultStickyBytes = 256 << 10
	// MaxTopicPartitions bounds the partition numbers of one topic. Tables are as
	// long as the highest, so above it the cluster's answer is not believed:
	// records of a topic not yet known fail with ErrTooManyPartitions, a known one
	// stays as it was.
	MaxTopicPartitions = 100_000
	// CodecsPerProcessor is how many batches are compressed at once for each of the
	// GOMAXPROCS processors. Others wait their turn, first come first served. With
	// an executor of WithSeams it is one at a time.
	CodecsPerProcessor = 1
	// CallbacksPerProcessor is how many partitions with up to 128 answers have their
	// callbacks called at once for each of the GOMAXPROCS processors; others wait
	// their turn, first come first served. One that takes longer than about two
	// milliseconds does not count, and others get twice as many goroutines as are
	// late; when one has stood in line for some four milliseconds, they get as many
	// more as there are. At the most there is one for each partition.
	CallbacksPerProcessor = 1
	// LeaderPercent of the buffer is what the partitions of one leader hold at the
	// most. At the limit only their callers wait.
	LeaderPercent = 75
	// ParkedPercent of the buffer is what records of unknown topics hold together.
	// At the limit their callers wait until there is room or the topic is known;
	// only a topic that holds nothing may take one chunk of 4 KiB all the same, as
	// long as all of them hold less than LeaderPercent.
	ParkedPercent = 10
	// ParkedTopicPercent of that is what the records of one unknown topic hold, or
	// one record that needs more. At the limit that topic's callers wait.
	ParkedTopicPercent = 25
)
