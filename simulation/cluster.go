package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafka is all that the harness asks of a model of a Kafka cluster. The model
// runs in turns of the world's scheduler; it must take every choice from its
// surroundings, and nothing from maps, the machine's clock or global randomness.
type kafka interface {
	// brokerAt is the number of the broker at an address; 0: nobody is there.
	brokerAt(address string) int32
	// up reports whether a broker takes connections and serves requests.
	up(broker int32) bool
	// oldest reports whether a broker knows no ApiVersions but the first.
	ancient(broker int32) bool
	// serve handles one request of one connection. The connection hands over the
	// next when this one is answered.
	serve(q *request)
	// strike makes a timed fault happen.
	strike(f *Fault)
	// logs is what stands in every partition, with what was cut off, as long as
	// the estate is not left to another.
	logs(e *estate) []Log
	// heal ends what is still wrong when the world ends.
	heal()
	// exists reports whether there is a topic, mostPartitions how many partitions
	// it ever had at the most.
	exists(topic string) bool
	mostPartitions(topic string) int
	// attempts is every record that a broker was ever sent.
	attempts() []Attempt
	// entries is one partition's log as a consumer reads it.
	entries(topic string, partition int32) []Entry
}

// request is one request at its broker, valid until it is answered. What the
// message holds is valid during the call of serve.
type request struct {
	socket       *socket
	broker       int32
	key, version int16
	correlation  uint32
	message      kmsg.Request
}

// surroundings is what the harness gives a model.
type surroundings struct {
	scheduler *scheduler
	faults    *injector
	trace     *trace
	// nature is the source of what is no fault: latencies, who is asked.
	nature *rand.Rand
	// wrong takes note of what no client may do.
	wrong func(class Class, format string, args ...any)
	// cut ends every connection to a broker; pick decides for each whether what
	// the broker has of it is still served.
	cut func(broker int32, pick uint32)
	// topics is what there is, or will be.
	topics   []Topic
	settings *ClusterSettings
	rate     int // bytes of batches per second that a broker takes; 0: any number
	lie      Lie
	estate   *estate
}

// Topic is one topic of a world.
type Topic struct {
	Name       string
	Partitions int
	// CreatedAt is the virtual time from which the topic exists.
	CreatedAt time.Duration
	// Compacted topics refuse records without a key; those with LogAppendTime give
	// the time of the append instead of the record's.
	Compacted, LogAppendTime bool
}

// ClusterSettings is what the brokers of a world are like.
type ClusterSettings struct {
	Brokers []BrokerSettings `json:"brokers"`
	// Epochs are the leader epochs that the partitions of a topic begin with, in
	// turn.
	Epochs []int32 `json:"epochs,omitempty"`
	// MinInSync is min.insync.replicas; 0: 2, if there are so many brokers.
	MinInSync int `json:"min_in_sync,omitempty"`
	// FetchEvery is the longest pause of a follower that is behind; 0: 1 ms.
	FetchEvery Duration `json:"fetch_every,omitempty"`
	// ReplicaLagMax is replica.lag.time.max.ms; 0: 1 s.
	ReplicaLagMax Duration `json:"replica_lag_max,omitempty"`
	// SegmentBytes is segment.bytes; 0: Kafka's own.
	SegmentBytes int `json:"segment_bytes,omitempty"`
	// ProducerIDLatency is how long a broker waits for a block of producer ids.
	ProducerIDLatency Duration `json:"producer_id_latency,omitempty"`
	// AutoCreate is auto.create.topics.enable.
	AutoCreate bool `json:"auto_create,omitempty"`
	// ForgetAfter is producer.id.expiration.ms; 0: 3 h.
	ForgetAfter Duration `json:"forget_after,omitempty"`
	// ServeAtOnce is the least time that a broker has to wait before it serves a
	// request for the wait to be a turn of its own; 0: it always is.
	ServeAtOnce Duration `json:"serve_at_once,omitempty"`
	// Brisk followers do not fetch once more only to find that there is nothing.
	Brisk bool `json:"brisk,omitempty"`
	// SASL is for brokers that want to know who speaks; nil: they do not.
	SASL *SASLSettings `json:"sasl,omitempty"`
	// Kafka3 is for brokers that behave as 3.9 does; else as 4.3.
	Kafka3 bool `json:"kafka_3,omitempty"`
}

// BrokerSettings is the age of a broker.
type BrokerSettings struct {
	// Produce and Metadata are the newest versions of these requests.
	Produce  int16 `json:"produce"`
	Metadata int16 `json:"metadata"`
	// Ancient brokers are from before KIP-511: they answer an ApiVersions newer
	// than 0 with an error.
	Ancient bool `json:"ancient,omitempty"`
}

// The newest versions that the model speaks, and the first with topic ids.
const (
	newestProduce  = 13
	newestMetadata = 12
	topicIDs       = 13

	topicIDsInMetadata = 10
)

// modern is a cluster of n brokers of the newest age.
func modern(n int) *ClusterSettings {
	c := &ClusterSettings{Brisk: true}
	for range n {
		c.Brokers = append(c.Brokers, BrokerSettings{Produce: newestProduce, Metadata: newestMetadata})
	}
	return c
}

// Lie is a way in which a cluster breaks its word, to prove that the checker
// sees.
type Lie int

// The lies. Each must be found by the checker.
const (
	Honest    Lie = iota
	Forgets       // acknowledges a batch and appends nothing
	Repeats       // appends a batch twice
	Reverses      // appends a batch's records in reverse
	Hides         // acknowledges records that no reader will see
	Misplaces     // acknowledges another offset than the record's
)
