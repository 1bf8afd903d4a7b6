package protocol

// ProduceResponse is the answer to one Produce request. Decode fills it again
// and again and allocates nothing once its slices are large enough; they and all
// byte slices inside are valid until the next Decode or Reset, and only as long
// as the input stays as it is, because strings alias it.
type ProduceResponse struct {
	// CorrelationID is that of the request.
	CorrelationID int32
	// ThrottleMs is for how long, in milliseconds, the broker mutes this
	// connection because of a quota (KIP-219); 0 if it does not.
	ThrottleMs int32
	// Partitions are the answers in the order of the response, over all topics.
	Partitions []PartitionResponse
	// NodeEndpoints are the brokers that CurrentLeaderID fields speak of, from
	// version 10 on and only if there was a leader to tell (KIP-951).
	NodeEndpoints []NodeEndpoint
}

// PartitionResponse is what became of the batch for one partition.
type PartitionResponse struct {
	// Topic is the topic's name in versions up to 12, and nil after that.
	Topic []byte
	// TopicID is the topic's id from version 13 on, and zero before that. It is
	// the id that was sent: the name belongs to the request, not to today's
	// metadata (KAFKA-19397).
	TopicID [16]byte
	// Partition is the partition's index.
	Partition int32
	// ErrorCode is 0 or a code for [LookupError].
	ErrorCode int16
	// BaseOffset is the offset of the batch's first record, or -1. An error with
	// a base offset was answered after the append ([ErrorInfo.WasAppended]).
	BaseOffset int64
	// LogAppendTimeMs is the timestamp of every record in milliseconds since
	// 1970 if the topic uses the broker's clock, else -1.
	LogAppendTimeMs int64
	// LogStartOffset is the first offset of the log, from version 5 on; else -1.
	LogStartOffset int64
	// RecordErrors name the records that made the broker refuse the batch, from
	// version 8 on (KIP-467).
	RecordErrors []RecordError
	// ErrorMessage is the broker's own text for the batch, from version 8 on; nil
	// is null.
	ErrorMessage []byte
	// CurrentLeaderID and CurrentLeaderEpoch tell the new leader when the error
	// is that of a moved one, from version 10 on (KIP-951); -1 when absent.
	CurrentLeaderID, CurrentLeaderEpoch int32
}

// RecordError says why one record was refused (KIP-467).
type RecordError struct {
	// BatchIndex is the record's index in the batch, from 0; a broker's word,
	// not checked against the number of records.
	BatchIndex int32
	// Message is the broker's own text; nil is null.
	Message []byte
}

// NodeEndpoint is the address of a broker (KIP-951).
type NodeEndpoint struct {
	NodeID int32
	Host   []byte
	Port   int32
	// Rack is nil if the broker has none.
	Rack []byte
}

// The smallest encodings of the elements of each array, over all versions. They
// turn a claimed count into a bound by the bytes that are really there.
const (
	minProduceTopic     = 2 + 1         // empty name, no partitions
	minProducePartition = 4 + 2 + 8 + 8 // index, error, offset, append time
	minRecordError      = 4 + 1         // index, null message
	minNodeEndpoint     = 4 + 1 + 4 + 1 + 1
)

// Decode reads a response to a request of the given version, MinProduceVersion
// to MaxProduceVersion. body is the frame without its size: it starts with the
// response header. The error is a [*DecodeError]; the fields then hold whatever
// was read before it, and nothing of it should be believed, since a response that
// cannot be read to its end may have been misread from the start.
func (r *ProduceResponse) Decode(version int16, body []byte) error {
	r.Reset()
	if version < MinProduceVersion || version > MaxProduceVersion {
		return &DecodeError{Field: "produce_response", Err: ErrVersion}
	}
	flexible := version >= produceFlexible
	c := newCursor(body)
	r.CorrelationID = responseHeader(&c, flexible)
	for n := c.count(flexible, minProduceTopic, "responses"); n > 0 && !c.failed(); n-- {
		r.decodeTopic(&c, version)
	}
	r.ThrottleMs = c.int32("throttle_time_ms")
	if flexible {
		r.decodeTags(&c, version)
	}
	c.finish("produce_response")
	return c.error()
}

// Reset empties the response and keeps its memory.
func (r *ProduceResponse) Reset() {
	// Partitions keep the memory of their record errors; the rest of them, and
	// with it the last input, is let go.
	for i := range r.Partitions {
		p := &r.Partitions[i]
		clear(p.RecordErrors)
		*p = PartitionResponse{RecordErrors: p.RecordErrors[:0]}
	}
	clear(r.NodeEndpoints)
	*r = ProduceResponse{Partitions: r.Partitions[:0], NodeEndpoints: r.NodeEndpoints[:0]}
}

func (r *ProduceResponse) decodeTopic(c *cursor, version int16) {
	flexible := version >= produceFlexible
	var name []byte
	var id [16]byte
	if version >= produceTopicIDs {
		id = c.uuid("responses.topic_id")
	} else {
		name = c.str(flexible, "responses.name")
	}
	n := c.count(flexible, minProducePartition, "responses.partition_responses")
	for ; n > 0 && !c.failed(); n-- {
		p := r.grow()
		p.Topic, p.TopicID = name, id
		p.decode(c, version)
	}
	if flexible {
		c.skipTags("responses.tags")
	}
}

// grow adds a partition, with the memory that an earlier response left in its
// place.
func (r *ProduceResponse) grow() *PartitionResponse {
	if n := len(r.Partitions); n < cap(r.Partitions) {
		r.Partitions = r.Partitions[:n+1]
	} else {
		r.Partitions = append(r.Partitions, PartitionResponse{})
	}
	return &r.Partitions[len(r.Partitions)-1]
}

func (p *PartitionResponse) decode(c *cursor, version int16) {
	flexible := version >= produceFlexible
	p.Partition = c.int32("partition_responses.index")
	p.ErrorCode = c.int16("partition_responses.error_code")
	p.BaseOffset = c.int64("partition_responses.base_offset")
	p.LogAppendTimeMs = c.int64("partition_responses.log_append_time_ms")
	p.LogStartOffset = -1
	p.CurrentLeaderID, p.CurrentLeaderEpoch = -1, -1
	if version >= 5 {
		p.LogStartOffset = c.int64("partition_responses.log_start_offset")
	}
	if version >= 8 {
		n := c.count(flexible, minRecordError, "partition_responses.record_errors")
		for ; n > 0 && !c.failed(); n-- {
			e := RecordError{BatchIndex: c.int32("record_errors.batch_index")}
			e.Message = c.nullableString(flexible, "record_errors.message")
			if flexible {
				c.skipTags("record_errors.tags")
			}
			p.RecordErrors = append(p.RecordErrors, e)
		}
		p.ErrorMessage = c.nullableString(flexible, "partition_responses.error_message")
	}
	if flexible {
		p.decodeTags(c, version)
	}
}

// decodeTags reads the tagged fields of a partition: field 0 is the current
// leader, from version 10 on.
func (p *PartitionResponse) decodeTags(c *cursor, version int16) {
	const field = "partition_responses.tags"
	for n := c.tags(field); n > 0 && !c.failed(); n-- {
		number, size := c.tag(field)
		if number != 0 || version < 10 || c.failed() {
			c.take(size, field)
			continue
		}
		outer := c.sub(size)
		p.CurrentLeaderID = c.int32("current_leader.leader_id")
		p.CurrentLeaderEpoch = c.int32("current_leader.leader_epoch")
		c.skipTags("current_leader.tags")
		c.leave(outer, "current_leader")
	}
}

// decodeTags reads the tagged fields of the response: field 0 are the node
// endpoints, from version 10 on.
func (r *ProduceResponse) decodeTags(c *cursor, version int16) {
	const field = "produce_response.tags"
	for n := c.tags(field); n > 0 && !c.failed(); n-- {
		number, size := c.tag(field)
		if number != 0 || version < 10 || c.failed() {
			c.take(size, field)
			continue
		}
		outer := c.sub(size)
		r.NodeEndpoints = r.NodeEndpoints[:0]
		for k := c.count(true, minNodeEndpoint, "node_endpoints"); k > 0 && !c.failed(); k-- {
			var e NodeEndpoint
			e.NodeID = c.int32("node_endpoints.node_id")
			e.Host = c.str(true, "node_endpoints.host")
			e.Port = c.int32("node_endpoints.port")
			e.Rack = c.nullableString(true, "node_endpoints.rack")
			c.skipTags("node_endpoints.tags")
			r.NodeEndpoints = append(r.NodeEndpoints, e)
		}
		c.leave(outer, "node_endpoints")
	}
}
