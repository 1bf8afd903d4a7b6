package sim

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
)

// decompressed bounds what a batch may unpack to.
const decompressed = 16 << 20

// unpackers are the codecs of all model brokers; they keep nothing of a run.
var unpackers = sync.OnceValue(func() *codecs.Registry {
	r, err := codecs.NewRegistry()
	if err != nil {
		panic(err)
	}
	return r
})

// serve handles one request. then is called exactly once unless the connection
// ends or stays silent: with the time until the answer and the answer itself,
// nil when there is none.
func (c *socket) serve(frame []byte, then func(wait time.Duration, answer []byte)) {
	n := c.network
	if len(frame) < 12 || int(binary.BigEndian.Uint32(frame)) != len(frame)-4 {
		n.wrong("connection %d: a frame of %d bytes announces another size", c.number, len(frame))
		return
	}
	body := frame[4:]
	key, version := int16(binary.BigEndian.Uint16(body)), int16(binary.BigEndian.Uint16(body[2:]))
	correlation := binary.BigEndian.Uint32(body[4:])
	body = body[8:]
	client := int(int16(binary.BigEndian.Uint16(body)))
	body = body[2+client:]
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	if request.IsFlexible() {
		body = body[1:]
	}
	if key == int16(kmsg.ApiVersions) && c.broker.ancient && version > 0 {
		then(0, unsupported(correlation))
		return
	}
	if err := request.ReadFrom(body); err != nil {
		n.wrong("connection %d: request %s v%d: %v", c.number, kmsg.NameForKey(key), version, err)
		return
	}
	respond := func(wait time.Duration, r kmsg.Response) {
		r.SetVersion(version)
		out := binary.BigEndian.AppendUint32(nil, correlation)
		if r.IsFlexible() && key != int16(kmsg.ApiVersions) {
			out = append(out, 0)
		}
		then(wait, r.AppendTo(out))
	}
	switch r := request.(type) {
	case *kmsg.ApiVersionsRequest:
		respond(0, c.broker.apiVersions())
	case *kmsg.MetadataRequest:
		if n.faults.happens(MetadataFails) {
			c.cut(false)
			return
		}
		respond(0, n.cluster.metadata(c.broker, r))
	case *kmsg.InitProducerIDRequest:
		respond(0, n.cluster.initProducer())
	case *kmsg.ProduceRequest:
		c.serveProduce(r, respond)
	default:
		n.wrong("connection %d: unexpected request %s", c.number, kmsg.NameForKey(key))
	}
}

// unsupported is how a broker of before KIP-511 answers an ApiVersions request
// that is newer than itself.
func unsupported(correlation uint32) []byte {
	r := kmsg.NewPtrApiVersionsResponse()
	r.ErrorCode = int16(protocol.UnsupportedVersion)
	return r.AppendTo(binary.BigEndian.AppendUint32(nil, correlation))
}

func (b *modelBroker) apiVersions() kmsg.Response {
	r := kmsg.NewPtrApiVersionsResponse()
	for _, k := range []struct{ key, newest int16 }{
		{int16(kmsg.Produce), b.newest}, {int16(kmsg.Metadata), 12}, {int16(kmsg.InitProducerID), 4}, {int16(kmsg.ApiVersions), 3},
	} {
		a := kmsg.NewApiVersionsResponseApiKey()
		a.ApiKey, a.MinVersion, a.MaxVersion = k.key, 0, k.newest
		r.ApiKeys = append(r.ApiKeys, a)
	}
	return r
}

// metadata is what a broker believes of the cluster.
func (c *Cluster) metadata(b *modelBroker, q *kmsg.MetadataRequest) kmsg.Response {
	r := kmsg.NewPtrMetadataResponse()
	r.ClusterID = kmsg.StringPtr("simulated")
	for _, other := range c.brokers {
		if !other.up {
			continue
		}
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port = other.id, other.address[:len(other.address)-len(":9092")], 9092
		r.Brokers = append(r.Brokers, m)
	}
	for _, t := range q.Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = t.Topic
		if !c.topicKnown || *t.Topic != topicName {
			topic.ErrorCode = int16(protocol.UnknownTopicOrPartition)
			r.Topics = append(r.Topics, topic)
			continue
		}
		topic.TopicID = c.topicID
		for i, v := range b.view {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch = int32(i), v.leader, v.epoch
			p.Replicas, p.ISR = []int32{1, 2, 3}, []int32{1, 2, 3}
			if v.leader < 0 {
				p.ErrorCode = int16(protocol.LeaderNotAvailable)
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		r.Topics = append(r.Topics, topic)
	}
	return r
}

func (c *Cluster) initProducer() kmsg.Response {
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ProducerID, r.ProducerEpoch = -1, -1
	if c.faults.happens(NoProducerIDYet) {
		r.ErrorCode = int16(protocol.CoordinatorLoadInProgress)
		return r
	}
	c.producerID++
	r.ProducerID, r.ProducerEpoch = c.producerID, 0
	return r
}

// produceAnswer gathers what the partitions of one request answer. The request
// is answered when its slowest partition is done.
type produceAnswer struct {
	socket   *socket
	response *kmsg.ProduceResponse
	open     int
	wait     time.Duration
	silent   bool
	respond  func(time.Duration, kmsg.Response)
	acks     int16
}

func (c *socket) serveProduce(q *kmsg.ProduceRequest, respond func(time.Duration, kmsg.Response)) {
	f := c.network.faults
	if f.happens(CutBeforeAppend) {
		c.cut(false)
		return
	}
	a := &produceAnswer{socket: c, response: kmsg.NewPtrProduceResponse(), respond: respond, acks: q.Acks, open: 1}
	if f.happens(BlackHole) {
		a.silent = true
		if f.random.IntN(2) == 0 {
			return // not even appended
		}
	}
	for _, t := range q.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
		unknown := protocol.UnknownTopicOrPartition
		known := t.Topic == topicName
		if q.Version >= 13 {
			known, unknown = t.TopicID == c.network.cluster.topicID, protocol.UnknownTopicID
		}
		known = known && c.network.cluster.topicKnown
		for i := range t.Partitions {
			rp := &rt.Partitions[i]
			*rp = kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = t.Partitions[i].Partition, -1, -1, -1
			if !known || int(rp.Partition) >= partitionCount {
				rp.ErrorCode = int16(unknown)
				continue
			}
			a.open++
			a.partition(rp, t.Partitions[i].Records, time.Duration(q.TimeoutMillis)*time.Millisecond, q.Version)
		}
		a.response.Topics = append(a.response.Topics, rt)
	}
	if f.happens(Throttled) {
		a.response.ThrottleMillis = int32(f.random.IntN(400))
	}
	a.done()
}

func (a *produceAnswer) done() {
	a.open--
	if a.open > 0 || a.silent {
		return
	}
	if a.socket.network.faults.happens(CutAfterAppend) {
		a.socket.cut(a.socket.network.faults.random.IntN(2) == 0)
		return
	}
	a.respond(a.wait, a.response)
}

// partition serves one partition of a request: it checks the batch, decides what
// goes wrong, appends, and fills in the answer.
func (a *produceAnswer) partition(r *kmsg.ProduceResponseTopicPartition, records []byte, timeout time.Duration, version int16) {
	n := a.socket.network
	c, f := n.cluster, n.faults
	p := c.partitions[r.Partition]
	batch, values := c.decode(p, records)
	broker := a.socket.broker
	fail := func(code protocol.ErrorCode, offset int64) {
		r.ErrorCode, r.BaseOffset = int16(code), offset
		n.trace.note("cluster", "refuse", int64(p.id), int64(broker.id), int64(code), offset, int64(batch.ProducerEpoch), int64(batch.BaseSequence), int64(len(values)))
		a.done()
	}
	if p.leader != broker.id || broker.view[p.id] != p.leadership {
		if v := broker.view[p.id]; version >= 10 && v.leader >= 0 && v.leader != broker.id {
			r.CurrentLeader.LeaderID, r.CurrentLeader.LeaderEpoch = v.leader, v.epoch
		}
		fail(protocol.NotLeaderOrFollower, -1)
		return
	}
	if p.isolated {
		// Appended here and nowhere else; answered when somebody else leads.
		offset := int64(len(p.log))
		p.waiting = append(p.waiting, func() { fail(protocol.NotLeaderOrFollower, offset) })
		return
	}
	switch {
	case f.happens(TooFewReplicas):
		fail(protocol.NotEnoughReplicas, -1)
		return
	case f.happens(StorageError):
		fail(protocol.KafkaStorageError, -1)
		return
	case f.happens(CorruptOnArrival):
		fail(protocol.CorruptMessage, -1)
		return
	case f.happens(UnknownError):
		if f.random.IntN(2) == 0 {
			_, _ = c.append(p, batch, values)
		}
		fail(protocol.UnknownServerError, -1)
		return
	}
	offset, code := c.append(p, batch, values)
	if code != 0 {
		fail(code, -1)
		return
	}
	switch {
	case f.happens(TimedOutAfter):
		a.wait = max(a.wait, timeout)
		fail(protocol.RequestTimedOut, offset)
	case f.happens(TooFewAfterAppend):
		fail(protocol.NotEnoughReplicasAfterAppend, offset)
	case f.happens(MovedAfterAppend):
		c.move(p)
		fail(protocol.NotLeaderOrFollower, offset)
	default:
		r.BaseOffset, r.LogStartOffset = offset, 0
		a.done()
	}
}

// decode reads a batch as a broker and a consumer would.
func (c *Cluster) decode(p *modelPartition, records []byte) (*protocol.Batch, []string) {
	b, rest, err := protocol.DecodeBatch(records)
	if err != nil || len(rest) > 0 {
		c.wrong("partition %d: a batch that no broker takes: %v, %d bytes behind it", p.id, err, len(rest))
		return &protocol.Batch{BatchHeader: protocol.BatchHeader{ProducerID: -1}}, nil
	}
	body := b.Body
	if id := codecs.ID(b.Codec()); id != codecs.None {
		codec, err := unpackers().Lookup(id)
		if err == nil {
			body, err = codec.Decompress(nil, body, decompressed)
		}
		if err != nil {
			c.wrong("partition %d: a batch does not decompress: %v", p.id, err)
			return &b, nil
		}
	}
	var values []string
	it := protocol.NewRecordIterator(body, int(b.Records))
	for r, ok := it.Next(); ok; r, ok = it.Next() {
		if int(r.OffsetDelta) != len(values) {
			c.wrong("partition %d: record %d of a batch has offset delta %d", p.id, len(values), r.OffsetDelta)
		}
		values = append(values, string(r.Value))
	}
	if it.Err() != nil {
		c.wrong("partition %d: the records of a batch cannot be read: %v", p.id, it.Err())
	}
	if b.ProducerID >= 0 {
		key := sequenceKey{b.ProducerID, b.ProducerEpoch, b.BaseSequence}
		sum := checksum(body)
		if before, ok := p.seen[key]; ok && before != sum {
			c.wrong("partition %d: producer %d, epoch %d, sequence %d names two different batches", p.id, key.producer, key.epoch, key.first)
		}
		p.seen[key] = sum
	}
	return &b, values
}
