package simulation

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
)

// producing is a Produce request on its way through its broker.
type producing struct {
	cluster  *cluster
	broker   *node
	request  *request
	response kmsg.ProduceResponse
	asked    model.ProduceRequest
	parts    []part // of asked, in its order
	silent   bool
	wait     time.Duration
}

// part is one partition of a request.
type part struct {
	answer   *kmsg.ProduceResponseTopicPartition
	p        *partition // nil: there is none
	from, to int        // its records in what was sent
	// code and offset overrule the answer of the model, if it is no error.
	code     protocol.ErrorCode
	overrule bool
	offset   bool // the answer keeps its offset
	misplace bool
}

// blackHoleEnds is when a connection without answers ends by itself.
const blackHoleEnds = 10 * time.Second

// serveProduce serves a request: what goes wrong by plan is decided here, and all
// that is appended goes through the model.
func (c *cluster) serveProduce(b *node, r *request, q *kmsg.ProduceRequest) {
	at := place{broker: b.id}
	if c.faults.happens(CutBeforeAppend, at) != nil {
		r.cut(false)
		return
	}
	a := c.newProducing(b, r, q)
	if f := c.faults.happens(BlackHole, at); f != nil {
		a.silent = true
		if q.Acks == 0 {
			// Nobody waits for an answer: only the network can find out.
			c.later(blackHoleEnds, func() { r.cut(false) })
		}
		if f.chance(0, 2) {
			return // not even appended
		}
	}
	cutAfter := -1 // partitions; −1: all are served
	if f := c.faults.happens(CutMidAppend, at); f != nil {
		cutAfter = int(f.Pick>>8) % 3
	}
	bytes := 0
	topics := slices.Grow(a.response.Topics[:0], len(q.Topics))[:len(q.Topics)]
	a.response.Topics = topics
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := &topics[i]
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		rt.Partitions = slices.Grow(rt.Partitions[:0], len(t.Partitions))[:len(t.Partitions)]
		clear(rt.Partitions)
		for k := range t.Partitions {
			if cutAfter == 0 {
				break
			}
			cutAfter--
			bytes += len(t.Partitions[k].Records)
			a.take(t, &t.Partitions[k], &rt.Partitions[k])
		}
	}
	if f := c.faults.happens(Throttled, at); f != nil {
		a.response.ThrottleMillis = int32(time.Duration(f.For) / time.Millisecond)
	}
	a.wait = c.serviceTime(b, bytes)
	a.append(cutAfter == 0)
}

// newProducing uses what done has given back.
func (c *cluster) newProducing(b *node, r *request, q *kmsg.ProduceRequest) *producing {
	a := &producing{}
	if n := len(c.estate.producing); n > 0 {
		a = c.estate.producing[n-1]
		c.estate.producing = c.estate.producing[:n-1]
	}
	topics := a.response.Topics
	*a = producing{
		cluster: c, broker: b, request: r, response: kmsg.NewProduceResponse(), parts: a.parts[:0],
		asked: model.ProduceRequest{
			Version: q.Version, Acks: q.Acks, Timeout: time.Duration(q.TimeoutMillis) * time.Millisecond, Partitions: a.asked.Partitions[:0],
		},
	}
	a.response.Topics = topics
	return a
}

// take decides what happens to one partition of a request.
func (a *producing) take(t *kmsg.ProduceRequestTopic, from *kmsg.ProduceRequestTopicPartition, r *kmsg.ProduceResponseTopicPartition) {
	c := a.cluster
	*r = kmsg.NewProduceResponseTopicPartition()
	r.Partition, r.BaseOffset, r.LogAppendTime, r.LogStartOffset = from.Partition, -1, -1, -1
	name, life := t.Topic, c.life(t.Topic)
	if a.asked.Version >= topicIDs {
		for i := range c.topicsEver {
			if ever := &c.topicsEver[i]; ever.id == t.TopicID {
				name, life = ever.name, ever.life
			}
		}
	}
	before := len(c.estate.sent)
	d := model.PartitionData{Topic: t.Topic, TopicID: t.TopicID, Partition: from.Partition, Batch: c.decode(name, life, from.Partition, from.Records)}
	to := part{answer: r, p: c.partition(name, from.Partition), from: before, to: len(c.estate.sent)}
	if to.p != nil && c.model.Leads(to.p.TopicPartition, a.broker.id) && !c.broken(a.broker) {
		if !a.faults(&to, &d.Batch) {
			c.refused(&to)
			c.note("refuse", &to, a.broker, int64(r.ErrorCode), -1, &d.Batch)
			return
		}
	}
	a.parts = append(a.parts, to)
	a.asked.Partitions = append(a.asked.Partitions, d)
}

// refused notes that the records of a part were not appended.
func (c *cluster) refused(p *part) {
	for i := p.from; i < p.to; i++ {
		c.estate.sent[i].Refused = true
	}
}

// broken reports whether a broker is cut off from the others: then the answers
// are as wrong as they need to be.
func (c *cluster) broken(b *node) bool { return b.cutOff > 0 }

func (c *cluster) note(what string, to *part, b *node, code, offset int64, batch *model.Batch) {
	index := int64(-1)
	if to.p != nil {
		index = int64(to.p.index)
	}
	c.trace.note("cluster", what, index, int64(b.id), code, offset, batch.ProducerID, int64(batch.ProducerEpoch), int64(batch.BaseSequence), int64(len(batch.Records)))
}

// faults lets what is planned for a partition happen. It reports false when the
// batch is answered and goes nowhere.
func (a *producing) faults(to *part, batch *model.Batch) bool {
	c, f := a.cluster, a.cluster.faults
	at := place{broker: a.broker.id, topic: to.p.Topic, partition: to.p.Partition}
	refuse := func(code protocol.ErrorCode) bool {
		to.answer.ErrorCode = int16(code)
		return false
	}
	if f.happens(TooFewReplicas, at) != nil {
		return refuse(protocol.NotEnoughReplicas)
	}
	if f := f.happens(UnknownError, at); f != nil {
		if !f.chance(0, 2) {
			return refuse(protocol.UnknownServerError)
		}
		to.code, to.overrule = protocol.UnknownServerError, true
		return true
	}
	for _, kind := range [...]Kind{ErrorAnswer, FatalAnswer} {
		fault := f.happens(kind, at)
		if fault == nil {
			continue
		}
		f.counts.code(fault.Code)
		info := fault.Code.Info()
		if info.Action != protocol.Succeed && (info.Appended == protocol.AppendedNo || !fault.chance(0, 2)) {
			return refuse(fault.Code)
		}
		to.code, to.overrule, to.offset = fault.Code, true, info.Appended == protocol.AppendedNoIfNoOffset
		return true
	}
	switch {
	case f.happens(TimedOutAfter, at) != nil:
		a.wait = max(a.wait, a.asked.Timeout)
		to.code, to.overrule, to.offset = protocol.RequestTimedOut, true, true
	case f.happens(TooFewAfterAppend, at) != nil:
		to.code, to.overrule, to.offset = protocol.NotEnoughReplicasAfterAppend, true, true
	default:
		if f := f.happens(MovedAfterAppend, at); f != nil {
			to.code, to.overrule, to.offset = protocol.NotLeaderOrFollower, true, true
			p, pick := to.p, f.Pick
			c.scheduler.Schedule(func() { c.moveAfter(p, pick) })
		}
	}
	if c.lie != Honest && c.nature.IntN(10) == 0 {
		if c.lie == Misplaces {
			to.misplace = true
		} else if len(batch.Records) > 0 {
			c.tampered[batch.Records[0].Value] = true
		}
	}
	return true
}

// append gives the request to the model. The connection may end in the middle.
func (a *producing) append(cut bool) {
	c := a.cluster
	if len(a.parts) == 0 {
		if cut {
			a.request.cut(false)
			return
		}
		a.done()
		return
	}
	for i := range a.parts {
		c.note("produce", &a.parts[i], a.broker, int64(a.asked.Acks), int64(a.asked.Version), &a.asked.Partitions[i].Batch)
	}
	o := c.model.Produce(c.now(), a.broker.id, &a.asked)
	if a.repeatable() && c.faults.happens(RequestTwice, place{broker: a.broker.id}) != nil {
		c.trace.note("cluster", "again", int64(a.broker.id))
		o = c.model.Produce(c.now(), a.broker.id, &a.asked) // nobody waits for the answer to the first
	}
	for i := range a.parts {
		if p := a.parts[i].p; p != nil {
			c.follow(p)
			if o.Handle != 0 {
				c.watch(p)
			}
		}
	}
	switch {
	case cut:
		a.request.cut(false)
		a.silent = true
	case a.asked.Acks == 0:
		if o.Cut {
			a.request.cut(true)
			a.silent = true
		}
		a.done()
	case o.Answer != nil:
		a.answered(o.Answer)
	}
	if o.Handle != 0 {
		c.waiting[o.Handle] = a
		c.arm()
	}
	c.changed("", 0)
}

// repeatable reports whether brokers can tell the request from its repetition. It is
// repeated at once: what was appended cannot be refused a moment later, as a request
// that an answer names could be.
func (a *producing) repeatable() bool {
	if a.asked.Acks == 0 {
		return false
	}
	for i := range a.asked.Partitions {
		if a.asked.Partitions[i].Batch.ProducerID < 0 {
			return false
		}
	}
	return true
}

// answered fills in the answer of the model.
func (a *producing) answered(answer *model.ProduceAnswer) {
	c := a.cluster
	for i := range answer.Partitions {
		from, to := &answer.Partitions[i], &a.parts[i]
		r := to.answer
		r.ErrorCode, r.BaseOffset = int16(from.Code), from.BaseOffset
		r.LogAppendTime, r.LogStartOffset = from.LogAppendMillis, from.LogStartOffset
		r.CurrentLeader.LeaderID, r.CurrentLeader.LeaderEpoch = from.Leader, from.LeaderEpoch
		for _, e := range from.RecordErrors {
			blamed := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			blamed.RelativeOffset, blamed.ErrorMessage = e.Index, &e.Message
			r.ErrorRecords = append(r.ErrorRecords, blamed)
		}
		if from.Message != "" {
			r.ErrorMessage = &from.Message
		}
		if from.Code == protocol.None {
			if to.overrule {
				r.ErrorCode = int16(to.code)
				if !to.offset {
					r.BaseOffset = -1
				}
			}
			if to.misplace {
				r.BaseOffset++
			}
		} else {
			c.faults.counts.answered(from.Code)
			if from.BaseOffset < 0 {
				c.refused(to)
			}
		}
		if r.ErrorCode != 0 {
			c.note("answer", to, a.broker, int64(r.ErrorCode), r.BaseOffset, &a.asked.Partitions[i].Batch)
		}
	}
	for _, id := range answer.Nodes {
		n := kmsg.NewProduceResponseBroker()
		n.NodeID, n.Host, n.Port = id, host(c.broker(id).address), 9092
		a.response.Brokers = append(a.response.Brokers, n)
	}
	a.done()
}

// done sends the answer, if there is to be one.
func (a *producing) done() {
	if a.silent {
		return
	}
	f := a.cluster.faults.happens(CutAfterAppend, place{broker: a.broker.id})
	switch {
	case f != nil:
		a.request.cut(f.chance(0, 2))
	case a.asked.Acks == 0:
		a.request.respond(a.wait, nil)
	default:
		a.request.respond(a.wait, &a.response)
	}
	a.cluster.estate.producing = append(a.cluster.estate.producing, a)
}
