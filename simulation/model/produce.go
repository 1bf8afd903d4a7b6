package model

import (
	"slices"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// pending is a Produce request with acks all that waits for its replicas
// (DelayedProduce).
type pending struct {
	handle   Handle
	broker   *broker
	version  int16
	deadline time.Duration
	answer   *ProduceAnswer
	waits    []wait // by partition of the request
	open     int    // waits that are not done
}

// wait is what one partition of a request waits for: that the high watermark
// passes required. A nil replica waits for nothing.
type wait struct {
	replica  *replica
	required int64
}

// Produce gives a request to a broker at a time. A broker that is down cuts the
// connection.
func (c *Cluster) Produce(now time.Duration, id int32, q *ProduceRequest) Outcome {
	c.advanceTo(now)
	b := c.broker(id)
	if !b.up {
		return Outcome{Cut: true}
	}
	a, p := newAnswer(b, q)
	waits := p.waits
	failed, waiting := false, 0
	for i := range q.Partitions {
		d, pa := &q.Partitions[i], &a.Partitions[i]
		*pa = PartitionAnswer{
			Topic: d.Topic, TopicID: d.TopicID, Partition: d.Partition,
			BaseOffset: -1, LogAppendMillis: -1, LogStartOffset: -1, Leader: noLeader, LeaderEpoch: -1,
		}
		r, required := b.produce(q, d, pa)
		if pa.Code != protocol.None {
			failed = true
		} else if q.Acks == -1 {
			waits[i] = wait{r, required}
			waiting++
		}
	}
	if q.Acks == 0 {
		return Outcome{Cut: failed}
	}
	if waiting == 0 {
		b.finish(a, q.Version)
		return Outcome{Answer: a}
	}
	p.deadline, p.open = now+q.Timeout, waiting
	// Kafka looks once before it lets a request wait; and until it is done, an
	// answer without an error is one that has timed out.
	for i := range waits {
		if waits[i].replica != nil {
			a.Partitions[i].Code = protocol.RequestTimedOut
		}
	}
	if p.try() {
		b.finish(a, q.Version)
		return Outcome{Answer: a}
	}
	c.nextHandle++
	p.handle = c.nextHandle
	c.pending = append(c.pending, p)
	return Outcome{Handle: p.handle}
}

// newAnswer is an answer to a request, and what waits for it if acks are all. Most
// requests are about one partition, and take one piece of memory.
func newAnswer(b *broker, q *ProduceRequest) (*ProduceAnswer, *pending) {
	n := len(q.Partitions)
	all := &struct {
		answer ProduceAnswer
		pending
		partition [1]PartitionAnswer
		wait      [1]wait
	}{}
	a, p := &all.answer, &all.pending
	*p = pending{broker: b, version: q.Version, answer: a}
	a.Throttle = b.throttle
	if n == 1 {
		a.Partitions, p.waits = all.partition[:], all.wait[:]
	} else {
		a.Partitions, p.waits = make([]PartitionAnswer, n), make([]wait, n)
	}
	return a, p
}

// produce serves one partition of a request. If it was appended, or was there
// already, it returns the replica and the offset behind the batch.
func (b *broker) produce(q *ProduceRequest, d *PartitionData, a *PartitionAnswer) (*replica, int64) {
	v, code := b.lookUp(q, d, a)
	if code == protocol.None {
		code = validateRequest(q.Version, &d.Batch)
	}
	switch {
	case code != protocol.None:
	case q.Acks < -1 || q.Acks > 1:
		code = protocol.InvalidRequiredAcks
	case v.replica == nil || !v.replica.leads():
		code = protocol.NotLeaderOrFollower
	case q.Acks == -1 && v.replica.underMin():
		a.LogStartOffset = v.replica.start
		code = protocol.NotEnoughReplicas
	}
	if code != protocol.None {
		a.Code = code
		return nil, 0
	}
	return v.replica, v.replica.produce(&d.Batch, a)
}

// lookUp finds a partition by what the broker believes, and fills in the part of
// its topic's name that the request left out.
func (b *broker) lookUp(q *ProduceRequest, d *PartitionData, a *PartitionAnswer) (*partitionView, protocol.ErrorCode) {
	var t *topic
	if q.Version <= namesUntil {
		t = b.view.names.get(d.Topic)
	} else {
		for _, known := range b.cluster.topics {
			if known.id == d.TopicID && b.view.topic(known) != nil {
				t = known
			}
		}
		if t == nil {
			return nil, protocol.UnknownTopicID
		}
		a.Topic = t.name
	}
	v := b.view.topic(t)
	if v == nil || d.Partition < 0 || int(d.Partition) >= len(v.partitions) {
		return nil, protocol.UnknownTopicOrPartition
	}
	return &v.partitions[d.Partition], protocol.None
}

// produce appends a client's batch to a leader's log.
func (r *replica) produce(b *Batch, a *PartitionAnswer) (required int64) {
	c := r.broker.cluster
	nowMillis := c.millis()
	refused := r.validate(b, nowMillis)
	var duplicate *appended
	if refused.code == protocol.None && b.ProducerID >= 0 {
		first := c.cfg.Version == V45 && r.end == 0
		duplicate, refused.code = r.producers.check(b, first)
		refused.withStart = true
	}
	if refused.code != protocol.None {
		a.Code, a.RecordErrors = refused.code, refused.errors
		if refused.withStart {
			a.LogStartOffset = r.start
		}
		if refused.errors != nil {
			a.Message = "one or more records have been rejected"
		}
		return 0
	}
	a.LogStartOffset = r.start
	if duplicate != nil {
		// The time of a duplicate is that of the batch, whatever the topic's type.
		a.BaseOffset, a.LogAppendMillis = duplicate.base, duplicate.timestamp
		return duplicate.end
	}
	s := &stored{Batch: *b, base: r.end, epoch: r.state.leaderEpoch, start: r.start}
	if b.ProducerID >= 0 {
		_, known := r.producers.find(b.ProducerID)
		s.first = !known
	}
	if r.topic.config.LogAppendTime {
		s.timestamp, a.LogAppendMillis = nowMillis, nowMillis
	} else {
		s.timestamp = b.maxTimestamp()
	}
	r.append(s)
	p := r.topic.partitions[r.partition]
	s.nth, s.late = len(p.ever), r.topic.deleted
	p.ever = append(p.ever, s)
	r.advanceHW()
	a.BaseOffset = s.base
	return s.end()
}

// try looks whether the partitions of a waiting request have what they wait for,
// and says whether all are done.
func (p *pending) try() bool {
	for i := range p.waits {
		w, a := &p.waits[i], &p.answer.Partitions[i]
		if w.replica == nil || w.replica.hw < w.required {
			continue
		}
		a.Code = protocol.None
		if w.replica.underMin() {
			a.Code = protocol.NotEnoughReplicasAfterAppend
		}
		w.replica = nil
		p.open--
	}
	return p.open == 0
}

// resign answers the waiting requests at a broker for a partition, or for a whole
// topic if partition is -1, that it does not lead any more. Their batches may
// live on in the log of another replica, and the answers keep their offsets.
func (c *Cluster) resign(b *broker, t *topic, partition int32, code protocol.ErrorCode) {
	for _, p := range c.pending {
		if p.broker != b {
			continue
		}
		for i := range p.waits {
			if w := &p.waits[i]; w.replica != nil && w.replica.topic == t && (partition < 0 || w.replica.partition == partition) {
				p.answer.Partitions[i].Code = code
				w.replica = nil
				p.open--
				c.dirty = true
			}
		}
	}
}

// dropPending forgets the requests that wait at a broker.
func (c *Cluster) dropPending(b *broker) {
	c.pending = slices.DeleteFunc(c.pending, func(p *pending) bool {
		if p.broker == b {
			c.effects = append(c.effects, Effect{Broker: b.id, Handle: p.handle})
		}
		return p.broker == b
	})
}

// complete answers the waiting requests that are done, or whose time is up.
func (c *Cluster) complete(expire bool) {
	c.dirty = false
	c.pending = slices.DeleteFunc(c.pending, func(p *pending) bool {
		done := p.try() || (expire && p.deadline <= c.now)
		if done {
			p.broker.finish(p.answer, p.version)
			c.effects = append(c.effects, Effect{Broker: p.broker.id, Handle: p.handle, Answer: p.answer})
		}
		return done
	})
}

// Advance tells the cluster the time and returns what has to be done: answers
// that are due, and requests that were lost with their broker. The slice is
// valid until the next call.
//
// A request whose replicas have caught up is answered here and not before. What
// changes between the two may still turn its answer, as in a broker: too few
// replicas in sync make it NOT_ENOUGH_REPLICAS_AFTER_APPEND, and a loss of
// leadership NOT_LEADER_OR_FOLLOWER although the batch is committed.
func (c *Cluster) Advance(now time.Duration) []Effect {
	c.advanceTo(now)
	if due, waiting := c.Deadline(); c.dirty || (waiting && due <= now) {
		c.complete(true)
	}
	effects := c.effects
	c.effects = c.effects[len(c.effects):]
	return effects
}

// Dirty says whether a waiting request may have its answer, so that Advance is
// worth a call.
func (c *Cluster) Dirty() bool { return c.dirty }

// Tell tells the cluster the time, and lets nothing happen by it.
func (c *Cluster) Tell(now time.Duration) { c.advanceTo(now) }

// Deadline is when the first waiting request times out; false if none waits. The
// caller calls Advance then, and after whatever may have raised a high watermark
// or moved a leader.
func (c *Cluster) Deadline() (time.Duration, bool) {
	first, waiting := time.Duration(0), false
	for _, p := range c.pending {
		if !waiting || p.deadline < first {
			first, waiting = p.deadline, true
		}
	}
	return first, waiting
}

func (c *Cluster) advanceTo(now time.Duration) {
	if now > c.now {
		c.now = now
	}
}

// finish puts into an answer what depends on the moment it is sent, and takes out
// what its version does not have.
func (b *broker) finish(a *ProduceAnswer, version int16) {
	var named brokerSet
	for i := range a.Partitions {
		p := &a.Partitions[i]
		if version < startSince {
			p.LogStartOffset = -1
		}
		if version < blameSince {
			p.RecordErrors, p.Message = nil, ""
		}
		if p.Code == protocol.NotLeaderOrFollower && version >= hintsSince {
			if v := b.view.topic(b.view.names.get(p.Topic)); v != nil && int(p.Partition) < len(v.partitions) {
				s := v.partitions[p.Partition].state
				p.Leader, p.LeaderEpoch = s.leader, s.leaderEpoch
				if b.view.alive.has(s.leader) {
					named = named.with(s.leader)
				}
			}
		}
	}
	if named != 0 {
		a.Nodes = named.ids(nil)
	}
}
