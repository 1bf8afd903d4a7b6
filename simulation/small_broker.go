package simulation

import (
	"bytes"
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

// unpacked are buffers to unpack into.
var unpacked = sync.Pool{New: func() any { return new([]byte) }}

// serve implements kafka.
func (c *smallCluster) serve(q *request) {
	b := c.broker(q.broker)
	switch r := q.message.(type) {
	case *kmsg.ApiVersionsRequest:
		q.respond(0, b.apiVersions())
	case *kmsg.MetadataRequest:
		if c.faults.happens(MetadataFails, place{broker: b.id}) != nil {
			q.cut(false)
			return
		}
		q.respond(0, c.metadata(b, r))
	case *kmsg.InitProducerIDRequest:
		q.respond(0, c.initProducer(b))
	case *kmsg.ProduceRequest:
		c.serveProduce(b, q, r)
	default:
		c.wrong(Protocol, "broker %d: unexpected request %s", b.id, kmsg.NameForKey(q.message.Key()))
	}
}

func (b *modelBroker) apiVersions() kmsg.Response {
	r := kmsg.NewPtrApiVersionsResponse()
	r.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, 0, 4)
	for _, k := range [...]struct{ key, newest int16 }{
		{int16(kmsg.Produce), b.Produce}, {int16(kmsg.Metadata), b.Metadata}, {int16(kmsg.InitProducerID), 4}, {int16(kmsg.ApiVersions), 3},
	} {
		a := kmsg.NewApiVersionsResponseApiKey()
		a.ApiKey, a.MinVersion, a.MaxVersion = k.key, 0, k.newest
		if b.Ancient && k.key == int16(kmsg.ApiVersions) {
			a.MaxVersion = 0
		}
		r.ApiKeys = append(r.ApiKeys, a)
	}
	return r
}

// topic finds a topic by what a request calls it.
func (c *smallCluster) topic(name string, id [16]byte, byID bool) *modelTopic {
	for _, t := range c.topics {
		if t.known && (byID && t.id == id || !byID && t.name == name) {
			return t
		}
	}
	return nil
}

// everyBroker is the replicas of every partition.
func (c *smallCluster) everyBroker() []int32 {
	ids := make([]int32, len(c.brokers))
	for i := range ids {
		ids[i] = int32(i + 1)
	}
	return ids
}

// metadata is what a broker believes of the cluster.
func (c *smallCluster) metadata(b *modelBroker, q *kmsg.MetadataRequest) kmsg.Response {
	r := kmsg.NewPtrMetadataResponse()
	r.ClusterID = kmsg.StringPtr("simulated")
	r.Brokers = make([]kmsg.MetadataResponseBroker, 0, len(c.brokers))
	for _, other := range c.brokers {
		if !other.isUp {
			continue
		}
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port = other.id, other.address[:len(other.address)-len(":9092")], 9092
		r.Brokers = append(r.Brokers, m)
	}
	replicas := c.everyBroker()
	for _, t := range q.Topics {
		m := kmsg.NewMetadataResponseTopic()
		m.Topic = t.Topic
		topic := c.topic(*t.Topic, [16]byte{}, false)
		if topic == nil {
			m.ErrorCode = int16(protocol.UnknownTopicOrPartition)
			r.Topics = append(r.Topics, m)
			continue
		}
		m.TopicID = topic.id
		m.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(topic.partitions))
		for i, mp := range topic.partitions {
			v := b.view[mp.index]
			p := &m.Partitions[i]
			*p = kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch = mp.id, v.leader, v.epoch
			p.Replicas, p.ISR = replicas, replicas
			if v.leader < 0 {
				p.ErrorCode = int16(protocol.LeaderNotAvailable)
			}
		}
		r.Topics = append(r.Topics, m)
	}
	return r
}

func (c *smallCluster) initProducer(b *modelBroker) kmsg.Response {
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ProducerID, r.ProducerEpoch = -1, -1
	if c.faults.happens(NoProducerIDYet, place{broker: b.id}) != nil {
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
	cluster  *smallCluster
	broker   *modelBroker
	request  *request
	response *kmsg.ProduceResponse
	open     int
	wait     time.Duration
	silent   bool
	acks     int16
	timeout  time.Duration
	version  int16
	cutAfter int // partitions; −1: all are served
}

func (c *smallCluster) serveProduce(b *modelBroker, r *request, q *kmsg.ProduceRequest) {
	at := place{broker: b.id}
	if c.faults.happens(CutBeforeAppend, at) != nil {
		r.cut(false)
		return
	}
	a := &produceAnswer{
		cluster: c, broker: b, request: r, response: kmsg.NewPtrProduceResponse(), acks: q.Acks, open: 1, cutAfter: -1,
		timeout: time.Duration(q.TimeoutMillis) * time.Millisecond, version: q.Version,
	}
	if f := c.faults.happens(BlackHole, at); f != nil {
		a.silent = true
		if f.chance(0, 2) {
			return // not even appended
		}
	}
	if f := c.faults.happens(CutMidAppend, at); f != nil {
		a.cutAfter = int(f.Pick>>8) % 3
	}
	a.response.Topics = make([]kmsg.ProduceResponseTopic, 0, len(q.Topics))
	for _, t := range q.Topics {
		if !a.topic(&t) {
			r.cut(false)
			return
		}
	}
	if f := c.faults.happens(Throttled, at); f != nil {
		a.response.ThrottleMillis = int32(time.Duration(f.For) / time.Millisecond)
	}
	a.done()
}

// topic serves the partitions of one topic. It reports false when the connection
// ends in the middle of it.
func (a *produceAnswer) topic(t *kmsg.ProduceRequestTopic) bool {
	rt := kmsg.NewProduceResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	rt.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
	topic := a.cluster.topic(t.Topic, t.TopicID, a.version >= topicIDs)
	unknown := protocol.UnknownTopicOrPartition
	if a.version >= topicIDs {
		unknown = protocol.UnknownTopicID
	}
	for i := range t.Partitions {
		if a.cutAfter == 0 {
			return false
		}
		a.cutAfter--
		rp := &rt.Partitions[i]
		*rp = kmsg.NewProduceResponseTopicPartition()
		rp.Partition, rp.BaseOffset, rp.LogAppendTime, rp.LogStartOffset = t.Partitions[i].Partition, -1, -1, -1
		if topic == nil || int(rp.Partition) >= len(topic.partitions) {
			rp.ErrorCode = int16(unknown)
			continue
		}
		a.open++
		a.partition(topic.partitions[rp.Partition], rp, t.Partitions[i].Records)
	}
	a.response.Topics = append(a.response.Topics, rt)
	return true
}

func (a *produceAnswer) done() {
	a.open--
	if a.open > 0 || a.silent {
		return
	}
	if f := a.cluster.faults.happens(CutAfterAppend, place{broker: a.broker.id}); f != nil {
		a.request.cut(f.chance(0, 2))
		return
	}
	if a.acks == 0 {
		a.request.respond(a.wait, nil)
		return
	}
	a.request.respond(a.wait, a.response)
}

// partition serves one partition of a request: it checks the batch, decides what
// goes wrong, appends, and fills in the answer.
func (a *produceAnswer) partition(p *modelPartition, r *kmsg.ProduceResponseTopicPartition, records []byte) {
	c, f := a.cluster, a.cluster.faults
	batch, values := c.decode(p, records)
	at := place{broker: a.broker.id, topic: p.topic.name, partition: p.id}
	fail := func(code protocol.ErrorCode, offset int64) {
		r.ErrorCode, r.BaseOffset = int16(code), offset
		c.trace.note("cluster", "refuse", int64(p.index), int64(a.broker.id), int64(code), offset, int64(batch.ProducerEpoch), int64(batch.BaseSequence), int64(len(values)))
		a.done()
	}
	if p.zombie == a.broker.id {
		a.zombie(p, batch, values, r, fail)
		return
	}
	if v := a.broker.view[p.index]; p.leader != a.broker.id || v != p.leadership {
		if a.version >= 10 && v.leader >= 0 && v.leader != a.broker.id {
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
	if f.happens(TooFewReplicas, at) != nil {
		fail(protocol.NotEnoughReplicas, -1)
		return
	}
	if f := f.happens(UnknownError, at); f != nil {
		if f.chance(0, 2) {
			_, _ = c.append(p, batch, values)
		}
		fail(protocol.UnknownServerError, -1)
		return
	}
	for _, kind := range [...]Kind{ErrorAnswer, FatalAnswer} {
		if f := f.happens(kind, at); f != nil {
			code, offset := c.answerWith(p, f, batch, values)
			fail(code, offset)
			return
		}
	}
	offset, code := c.append(p, batch, values)
	if code != 0 {
		fail(code, -1)
		return
	}
	switch {
	case f.happens(TimedOutAfter, at) != nil:
		a.wait = max(a.wait, a.timeout)
		fail(protocol.RequestTimedOut, offset)
	case f.happens(TooFewAfterAppend, at) != nil:
		fail(protocol.NotEnoughReplicasAfterAppend, offset)
	default:
		if f := f.happens(MovedAfterAppend, at); f != nil {
			c.move(p, f.Pick>>8)
			fail(protocol.NotLeaderOrFollower, offset)
			return
		}
		r.BaseOffset, r.LogStartOffset = offset, 0
		if c.lie == Misplaces && c.nature.IntN(10) == 0 {
			r.BaseOffset++
		}
		a.done()
	}
}

// zombie is a leader that was deposed and does not know. It appends what it is
// sent; nobody follows. Whoever waits for all replicas waits until it learns.
func (a *produceAnswer) zombie(p *modelPartition, b *protocol.Batch, values [][]byte, r *kmsg.ProduceResponseTopicPartition, fail func(protocol.ErrorCode, int64)) {
	offset := int64(len(p.log) + len(p.zombieEntries))
	for i, v := range values {
		p.zombieEntries = append(p.zombieEntries, entryOf(b, i, v))
	}
	if a.acks == -1 {
		p.waiting = append(p.waiting, func() { fail(protocol.NotLeaderOrFollower, offset) })
		return
	}
	r.BaseOffset = offset
	a.done()
}

// answerWith gives an answer with a code of the table, before or after the
// append as the meaning of the code allows.
func (c *smallCluster) answerWith(p *modelPartition, f *Fault, b *protocol.Batch, values [][]byte) (protocol.ErrorCode, int64) {
	info := f.Code.Info()
	append := info.Action == protocol.Succeed || info.Appended != protocol.AppendedNo && f.chance(0, 2)
	offset := int64(-1)
	if append {
		at, code := c.append(p, b, values)
		if code != 0 {
			return code, -1
		}
		if info.Appended == protocol.AppendedNoIfNoOffset {
			offset = at
		}
	}
	c.faults.counts.code(f.Code)
	return f.Code, offset
}

// decode reads a batch as a broker and a consumer would.
func (c *smallCluster) decode(p *modelPartition, records []byte) (*protocol.Batch, [][]byte) {
	b, rest, err := protocol.DecodeBatch(records)
	if err != nil || len(rest) > 0 {
		c.wrong(Protocol, "partition %d: a batch that no broker takes: %v, %d bytes behind it", p.id, err, len(rest))
		return &protocol.Batch{BatchHeader: protocol.BatchHeader{ProducerID: -1}}, nil
	}
	body := b.Body
	if id := codecs.ID(b.Codec()); id != codecs.None {
		codec, err := unpackers().Lookup(id)
		if err == nil {
			// Codecs grow what they are given by much; entries keep what is needed.
			scratch := unpacked.Get().(*[]byte)
			*scratch, err = codec.Decompress((*scratch)[:0], body, decompressed)
			body = bytes.Clone(*scratch)
			unpacked.Put(scratch)
		}
		if err != nil {
			c.wrong(Protocol, "partition %d: a batch does not decompress: %v", p.id, err)
			return &b, nil
		}
	}
	values := make([][]byte, 0, b.Records)
	it := protocol.NewRecordIterator(body, int(b.Records))
	for r, ok := it.Next(); ok; r, ok = it.Next() {
		if int(r.OffsetDelta) != len(values) {
			c.wrong(Protocol, "partition %d: record %d of a batch has offset delta %d", p.id, len(values), r.OffsetDelta)
		}
		e := entryOf(&b, len(values), r.Value)
		c.sent = append(c.sent, Attempt{p.topic.name, p.id, p.topic.life, e})
		values = append(values, r.Value)
	}
	if it.Err() != nil {
		c.wrong(Protocol, "partition %d: the records of a batch cannot be read: %v", p.id, it.Err())
	}
	return &b, values
}
