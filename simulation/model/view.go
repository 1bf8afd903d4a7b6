package model

import (
	"slices"

	"github.com/troupe-kafka/troupe/protocol"
)

// view is what a broker believes: the controller's log, up to a place.
type view struct {
	applied int // batches of changes
	alive   brokerSet
	names   topicNames
	topics  []topicView // by the index of the topic
	clean   bool        // the last end of the process was a clean one
}

type topicView struct {
	known      bool
	partitions []partitionView
}

// partitionView is what a broker believes of a partition, and its own replica.
type partitionView struct {
	state   partitionState
	replica *replica // nil if it has none
}

func (v *view) topic(t *topic) *topicView {
	if t == nil || t.index >= len(v.topics) || !v.topics[t.index].known {
		return nil
	}
	return &v.topics[t.index]
}

func (b *broker) eachReplica(do func(*replica)) {
	for i := range b.view.topics {
		for k := range b.view.topics[i].partitions {
			if r := b.view.topics[i].partitions[k].replica; r != nil {
				do(r)
			}
		}
	}
}

// Behind returns how many batches of changes a broker has not heard of.
func (c *Cluster) Behind(id int32) int { return len(c.metadata) - c.broker(id).view.applied }

// Learn lets a broker hear of up to n more batches of the controller's changes,
// in order: until then it acts on what it knows. It returns how many it heard.
func (c *Cluster) Learn(id int32, n int) int {
	b := c.broker(id)
	if !b.up || b.isolated {
		return 0
	}
	n = min(n, len(c.metadata)-b.view.applied)
	for range n {
		batch := c.metadata[b.view.applied]
		b.view.applied++
		for i := range batch {
			b.apply(&batch[i])
		}
	}
	return n
}

// LearnAll lets a broker hear of everything.
func (c *Cluster) LearnAll(id int32) { c.Learn(id, len(c.metadata)) }

func (b *broker) apply(ch *change) {
	v := &b.view
	switch ch.kind {
	case brokerFenced:
		v.alive = v.alive.without(ch.broker)
	case brokerUnfenced:
		v.alive = v.alive.with(ch.broker)
	case topicCreated:
		for len(v.topics) <= ch.topic.index {
			v.topics = append(v.topics, topicView{})
		}
		v.topics[ch.topic.index].known = true
		v.names.put(ch.topic)
	case topicDeleted:
		for i := range v.topics[ch.topic.index].partitions {
			if r := v.topics[ch.topic.index].partitions[i].replica; r != nil {
				ch.topic.partitions[i].drop(r)
			}
		}
		v.topics[ch.topic.index] = topicView{}
		v.names.drop(ch.topic)
		b.cluster.resign(b, ch.topic, -1, protocol.UnknownTopicOrPartition)
	case partitionChanged:
		b.applyPartition(ch)
	}
}

// applyPartition takes over a partition's registration.
func (b *broker) applyPartition(ch *change) {
	v := &b.view.topics[ch.topic.index]
	for len(v.partitions) <= int(ch.partition) {
		v.partitions = append(v.partitions, partitionView{state: partitionState{version: -1}})
	}
	p := &v.partitions[ch.partition]
	if ch.state.version <= p.state.version {
		return // the answer to an AlterPartition was there first
	}
	p.state = ch.state
	if !slices.Contains(ch.state.replicas, b.id) {
		if p.replica != nil {
			p.replica = nil
			b.cluster.resign(b, ch.topic, ch.partition, protocol.NotLeaderOrFollower)
		}
		return
	}
	if p.replica == nil {
		p.replica = newReplica(ch.topic, ch.partition, b)
	}
	if !b.starting {
		b.act(p)
	}
}

// act is how a replica becomes leader or follower.
func (b *broker) act(p *partitionView) {
	r, wasLeader := p.replica, p.replica.leads()
	switch {
	case p.state.leader == b.id && (!wasLeader || p.state.leaderEpoch > r.state.leaderEpoch):
		r.lead(p.state, wasLeader, b.cluster.now)
	case p.state.leader == b.id:
		r.assign(p.state)
	default:
		r.state, r.followers = p.state, nil
		if wasLeader {
			b.cluster.resign(b, r.topic, r.partition, protocol.NotLeaderOrFollower)
		}
	}
	b.cluster.dirty = true
}

// Metadata is a broker's answer to a Metadata request: what it believes.
type Metadata struct {
	Brokers []int32 // that it believes to be up, in order
	Topics  []TopicMetadata
}

// TopicMetadata is what a broker believes of a topic.
type TopicMetadata struct {
	Name       string
	ID         TopicID
	Code       protocol.ErrorCode
	Partitions []PartitionMetadata
	inSync     []int32 // of all partitions, one after the other
}

// PartitionMetadata is what a broker believes of a partition. Leader is -1, with
// LEADER_NOT_AVAILABLE, if nobody leads or the leader is not up.
type PartitionMetadata struct {
	Partition           int32
	Code                protocol.ErrorCode
	Leader, LeaderEpoch int32
	Replicas, InSync    []int32
}

// Metadata asks a broker what it knows of topics, all of them if names is nil. If
// autoCreate is set and Config.AutoCreate too, an unknown topic is created: this
// answer still says UNKNOWN_TOPIC_OR_PARTITION.
func (c *Cluster) Metadata(id int32, names []string, autoCreate bool) Metadata {
	var answer Metadata
	c.MetadataInto(&answer, id, names, autoCreate)
	return answer
}

// MetadataInto is Metadata, in the memory of an answer that nobody reads any more.
func (c *Cluster) MetadataInto(answer *Metadata, id int32, names []string, autoCreate bool) {
	b := c.broker(id)
	answer.Brokers = b.view.alive.appendTo(answer.Brokers[:0], nil)
	answer.Topics = answer.Topics[:0]
	if names == nil {
		for _, t := range c.topics {
			if b.view.topic(t) != nil && b.view.names.get(t.name) == t {
				b.topicMetadata(answer.another(), t)
			}
		}
		return
	}
	for _, name := range names {
		if t := b.view.names.get(name); t != nil {
			b.topicMetadata(answer.another(), t)
			continue
		}
		code := protocol.UnknownTopicOrPartition
		if autoCreate && c.cfg.AutoCreate && !b.isolated {
			made := c.CreateTopic(name, c.cfg.DefaultPartitions, c.cfg.DefaultReplication, c.cfg.DefaultTopic)
			if made == protocol.InvalidTopicException || made == protocol.InvalidReplicationFactor {
				code = made
			}
		}
		a := answer.another()
		a.Name, a.Code = name, code
	}
}

// another is the next topic of an answer, empty but for the memory of one before.
func (m *Metadata) another() *TopicMetadata {
	n := len(m.Topics)
	if n == cap(m.Topics) {
		m.Topics = append(m.Topics, TopicMetadata{})
	}
	m.Topics = m.Topics[:n+1]
	a := &m.Topics[n]
	*a = TopicMetadata{Partitions: a.Partitions[:0], inSync: a.inSync[:0]}
	return a
}

func (b *broker) topicMetadata(answer *TopicMetadata, t *topic) {
	partitions := b.view.topics[t.index].partitions
	answer.Name, answer.ID = t.name, t.id
	answer.Partitions = slices.Grow(answer.Partitions, len(partitions))
	answer.inSync = slices.Grow(answer.inSync, len(partitions)*len(b.cluster.brokers))
	for i := range partitions {
		p, from := &partitions[i], len(answer.inSync)
		answer.inSync = p.state.isr.appendTo(answer.inSync, p.state.replicas)
		m := PartitionMetadata{
			Partition: int32(i), Leader: p.state.leader, LeaderEpoch: p.state.leaderEpoch,
			Replicas: p.state.replicas, InSync: slices.Clip(answer.inSync[from:]),
		}
		if !b.view.alive.has(m.Leader) {
			m.Leader, m.Code = noLeader, protocol.LeaderNotAvailable
		}
		answer.Partitions = append(answer.Partitions, m)
	}
}
