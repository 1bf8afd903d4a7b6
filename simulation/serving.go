package simulation

import (
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
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
func (c *cluster) serve(q *request) {
	b := c.broker(q.broker)
	c.now()
	if !c.authenticates(q) {
		return
	}
	switch r := q.message.(type) {
	case *kmsg.ApiVersionsRequest:
		q.respond(0, b.apiVersions(&c.estate.versionsAnswer, c.settings.SASL != nil))
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

func (b *node) apiVersions(r *kmsg.ApiVersionsResponse, sasl bool) kmsg.Response {
	keys := r.ApiKeys[:0]
	*r = kmsg.NewApiVersionsResponse()
	r.ApiKeys = keys
	for _, k := range [...]struct{ key, newest int16 }{
		{int16(kmsg.Produce), b.Produce}, {int16(kmsg.Metadata), b.Metadata}, {int16(kmsg.InitProducerID), 4}, {int16(kmsg.ApiVersions), 3},
		{int16(kmsg.SASLHandshake), 1}, {int16(kmsg.SASLAuthenticate), 2},
	} {
		if !sasl && (k.key == int16(kmsg.SASLHandshake) || k.key == int16(kmsg.SASLAuthenticate)) {
			continue
		}
		a := kmsg.NewApiVersionsResponseApiKey()
		a.ApiKey, a.MinVersion, a.MaxVersion = k.key, 0, k.newest
		if b.Ancient && k.key == int16(kmsg.ApiVersions) {
			a.MaxVersion = 0
		}
		r.ApiKeys = append(r.ApiKeys, a)
	}
	return r
}

var clusterID = "simulated"

// metadata is what a broker believes of the cluster, valid until the next call.
func (c *cluster) metadata(b *node, q *kmsg.MetadataRequest) kmsg.Response {
	var names []string
	if q.Topics != nil {
		names = append(c.estate.names[:0], make([]string, len(q.Topics))...) // not nil, which asks for all there are
		for i := range q.Topics {
			if q.Topics[i].Topic != nil {
				names[i] = *q.Topics[i].Topic
			}
		}
		c.estate.names = names
	}
	known := &c.estate.known
	c.model.MetadataInto(known, b.id, names, q.Version < 4 || q.AllowAutoTopicCreation)
	if c.settings.AutoCreate {
		c.take()
		c.changed("", 0)
	}
	r := &c.estate.metadataAnswer
	brokers, topics := r.Brokers[:0], r.Topics
	*r = kmsg.NewMetadataResponse()
	r.ClusterID, r.Brokers = &clusterID, brokers
	for _, id := range known.Brokers {
		m := kmsg.NewMetadataResponseBroker()
		m.NodeID, m.Host, m.Port = id, host(c.broker(id).address), 9092
		r.Brokers = append(r.Brokers, m)
	}
	r.Topics = slices.Grow(topics[:0], len(known.Topics))[:len(known.Topics)]
	for i := range known.Topics {
		t, m := &known.Topics[i], &r.Topics[i]
		partitions := m.Partitions
		*m = kmsg.NewMetadataResponseTopic()
		m.Topic, m.TopicID, m.ErrorCode = &t.Name, t.ID, int16(t.Code)
		m.Partitions = slices.Grow(partitions[:0], len(t.Partitions))[:len(t.Partitions)]
		for k := range t.Partitions {
			p, from := &m.Partitions[k], &t.Partitions[k]
			*p = kmsg.NewMetadataResponseTopicPartition()
			p.Partition, p.Leader, p.LeaderEpoch, p.ErrorCode = from.Partition, from.Leader, from.LeaderEpoch, int16(from.Code)
			p.Replicas, p.ISR = from.Replicas, from.InSync
		}
	}
	return r
}

func (c *cluster) initProducer(b *node) kmsg.Response {
	r := kmsg.NewPtrInitProducerIDResponse()
	r.ProducerID, r.ProducerEpoch = -1, -1
	if c.faults.happens(NoProducerIDYet, place{broker: b.id}) != nil {
		r.ErrorCode = int16(protocol.CoordinatorLoadInProgress)
		return r
	}
	id, epoch, code := c.model.InitProducerID(c.now(), b.id)
	r.ProducerID, r.ProducerEpoch, r.ErrorCode = id, epoch, int16(code)
	return r
}

// decode reads a batch as a broker and a consumer would.
func (c *cluster) decode(topic string, life int, n int32, records []byte) model.Batch {
	b, rest, err := protocol.DecodeBatch(records)
	if err != nil || len(rest) > 0 {
		c.wrong(Protocol, "%s/%d: a batch that no broker takes: %v, %d bytes behind it", topic, n, err, len(rest))
		return model.Batch{ProducerID: -1, Corrupt: true, Size: len(records)}
	}
	body := b.Body
	if id := codecs.ID(b.Codec()); id != codecs.None {
		codec, err := unpackers().Lookup(id)
		if err == nil {
			// Codecs grow what they are given by much; entries keep what is needed.
			scratch := unpacked.Get().(*[]byte)
			*scratch, err = codec.Decompress((*scratch)[:0], body, decompressed)
			body = append(c.estate.bytes.take(len(*scratch)), *scratch...)
			unpacked.Put(scratch)
		}
		if err != nil {
			c.wrong(Protocol, "%s/%d: a batch does not decompress: %v", topic, n, err)
			return model.Batch{ProducerID: -1, Corrupt: true, Size: len(records)}
		}
	}
	list := c.estate.records.take(min(int(max(b.Records, 0)), len(body)))
	values := c.estate.copies.take()
	first := len(c.estate.sent)
	it := protocol.NewRecordIterator(body, int(b.Records))
	for r, ok := it.Next(); ok; r, ok = it.Next() {
		if int(r.OffsetDelta) != len(list) {
			c.wrong(Protocol, "%s/%d: record %d of a batch has offset delta %d", topic, n, len(list), r.OffsetDelta)
		}
		c.estate.sent = append(c.estate.sent, Attempt{Topic: topic, Partition: n, Life: life, Entry: entryOf(&b, len(list), r.Value)})
		list = append(list, model.Record{TimestampMillis: b.BaseTimestamp + r.TimestampDelta, Keyless: r.Key == nil})
		values = append(values, r.Value...)
	}
	all := c.estate.text(values) // one piece of memory for the values of a batch
	c.estate.copies.give(values)
	for i := range list {
		size := len(c.estate.sent[first+i].Entry.Value)
		list[i].Value, all = all[:size], all[size:]
	}
	if it.Err() != nil {
		c.wrong(Protocol, "%s/%d: the records of a batch cannot be read: %v", topic, n, it.Err())
	}
	return model.BatchOf(&b, len(records), list)
}

func entryOf(b *protocol.Batch, i int, value []byte) Entry {
	e := Entry{Value: value, ProducerID: b.ProducerID, Epoch: b.ProducerEpoch, Sequence: -1}
	if b.ProducerID >= 0 {
		e.Sequence = protocol.AddSequence(b.BaseSequence, int32(i))
	}
	return e
}
