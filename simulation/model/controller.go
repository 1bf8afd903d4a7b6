package model

import (
	"encoding/binary"
	"slices"

	"github.com/troupe-kafka/troupe/protocol"
)

const noLeader int32 = -1

// topic is one life of a topic: created again, it is another topic.
type topic struct {
	index      int
	name       string
	id         TopicID
	config     TopicConfig
	deleted    bool
	partitions []*partition
}

// topicNames finds topics by name: most often the same as the last time.
type topicNames struct {
	all  map[string]*topic
	last *topic
}

func (n *topicNames) get(name string) *topic {
	if n.last == nil || n.last.name != name {
		n.last = n.all[name]
	}
	return n.last
}

func (n *topicNames) put(t *topic) { n.all[t.name], n.last = t, nil }

// drop forgets a topic, unless another has its name by now.
func (n *topicNames) drop(t *topic) {
	if n.all[t.name] == t {
		delete(n.all, t.name)
	}
	n.last = nil
}

// partition is the controller's registration of a partition.
type partition struct {
	topic *topic
	id    int32
	state partitionState
	// target is the assignment that a reassignment moves to, nil for none.
	target []int32

	// ever is every batch that a leader appended, and last what remained when
	// the topic was deleted: both for Histories.
	ever []*stored
	last *replica
}

// partitionState is what a partition's registration says. Slices in it are never
// changed.
type partitionState struct {
	leader, leaderEpoch, version int32
	replicas                     []int32
	isr                          brokerSet
}

type changeKind uint8

const (
	topicCreated changeKind = iota
	topicDeleted
	partitionChanged
	brokerFenced
	brokerUnfenced
)

// change is one record of the controller's log.
type change struct {
	kind      changeKind
	broker    int32
	topic     *topic
	partition int32
	state     partitionState
}

// publish ends a batch of changes.
func (c *Cluster) publish() {
	if len(c.open) > 0 {
		c.metadata = append(c.metadata, c.open)
		c.open = nil
	}
}

func (c *Cluster) eachPartition(do func(*partition)) {
	for _, t := range c.topics {
		if !t.deleted {
			for _, p := range t.partitions {
				do(p)
			}
		}
	}
}

// find returns the controller's registration of a partition, nil if there is none.
func (c *Cluster) find(tp TopicPartition) *partition {
	t := c.names.get(tp.Topic)
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.partitions) {
		return nil
	}
	return t.partitions[tp.Partition]
}

// set writes a registration. Another leader, no leader included, begins a new
// leader epoch, and so does the removal of a replica.
func (c *Cluster) set(p *partition, s partitionState) {
	s.version = p.state.version + 1
	s.leaderEpoch = p.state.leaderEpoch
	if s.leader != p.state.leader || !setOf(s.replicas).contains(setOf(p.state.replicas)) {
		s.leaderEpoch++
	}
	p.state = s
	c.open = append(c.open, change{kind: partitionChanged, topic: p.topic, partition: p.id, state: s})
}

// elect gives a partition the first of its replicas that is alive and in sync as
// its leader, or none.
func (c *Cluster) elect(p *partition) {
	s := p.state
	s.leader = noLeader
	for _, id := range s.replicas {
		if c.alive.has(id) && s.isr.has(id) {
			s.leader = id
			break
		}
	}
	if s.leader != p.state.leader {
		c.set(p, s)
	}
}

// leave takes a broker out of everything that it leads and is in sync with. The
// last replica in sync stays one: nobody else may lead.
func (c *Cluster) leave(id int32) {
	c.eachPartition(func(p *partition) {
		s := p.state
		if s.isr.has(id) && s.isr.size() > 1 {
			s.isr = s.isr.without(id)
		}
		if s.leader == id {
			s.leader = noLeader
			for _, other := range s.replicas {
				if c.alive.has(other) && s.isr.has(other) {
					s.leader = other
					break
				}
			}
		}
		if s.leader != p.state.leader || s.isr != p.state.isr {
			c.set(p, s)
		}
	})
}

// CreateTopic creates a topic; the brokers hear of it by Learn. Replicas are
// given to brokers in turn.
func (c *Cluster) CreateTopic(name string, partitions, replication int, cfg TopicConfig) protocol.ErrorCode {
	if replication > len(c.brokers) || replication < 1 {
		return protocol.InvalidReplicationFactor
	}
	if partitions < 1 {
		return protocol.InvalidPartitions
	}
	assignment := make([][]int32, partitions)
	for i := range assignment {
		assignment[i] = c.inTurn(i+len(c.topics), replication)
	}
	return c.CreateAssigned(name, assignment, cfg)
}

func (c *Cluster) inTurn(from, replication int) []int32 {
	ids := make([]int32, replication)
	for k := range ids {
		ids[k] = int32((from+k)%len(c.brokers)) + 1
	}
	return ids
}

// CreateAssigned creates a topic with given replicas for each partition, the
// preferred leader first.
func (c *Cluster) CreateAssigned(name string, assignment [][]int32, cfg TopicConfig) protocol.ErrorCode {
	if name == "" || len(name) > 249 {
		return protocol.InvalidTopicException
	}
	if c.names.get(name) != nil {
		return protocol.TopicAlreadyExists
	}
	t := &topic{index: len(c.topics), name: name, config: cfg.withDefaults(c.cfg.Version)}
	// The id is unique and not zero, which is all that an id says.
	binary.BigEndian.PutUint64(t.id[:], 0x5472_6f75_7065_4000)
	binary.BigEndian.PutUint64(t.id[8:], uint64(t.index)+1)
	c.topics = append(c.topics, t)
	c.names.put(t)
	c.open = append(c.open, change{kind: topicCreated, topic: t})
	for _, replicas := range assignment {
		c.addPartition(t, replicas)
	}
	c.publish()
	return protocol.None
}

func (c *Cluster) addPartition(t *topic, replicas []int32) {
	for _, id := range replicas {
		c.broker(id)
	}
	p := &partition{topic: t, id: int32(len(t.partitions)), state: partitionState{leader: noLeader, leaderEpoch: -1, version: -1}}
	t.partitions = append(t.partitions, p)
	s := p.state
	s.replicas = slices.Clone(replicas)
	s.isr = setOf(replicas) & c.alive
	if s.isr == 0 {
		s.isr = setOf(replicas)
	}
	for _, id := range replicas {
		if c.alive.has(id) {
			s.leader = id
			break
		}
	}
	if s.leader == noLeader {
		p.state.leaderEpoch = 0 // set raises it only for a leader
	}
	c.set(p, s)
}

// DeleteTopic deletes a topic; brokers drop its logs when they hear of it.
func (c *Cluster) DeleteTopic(name string) protocol.ErrorCode {
	t := c.names.get(name)
	if t == nil {
		return protocol.UnknownTopicOrPartition
	}
	t.deleted = true
	c.names.drop(t)
	c.open = append(c.open, change{kind: topicDeleted, topic: t})
	c.publish()
	return protocol.None
}

// Grow adds partitions to a topic, up to a total.
func (c *Cluster) Grow(name string, total int) protocol.ErrorCode {
	t := c.names.get(name)
	if t == nil {
		return protocol.UnknownTopicOrPartition
	}
	if total <= len(t.partitions) {
		return protocol.InvalidPartitions
	}
	replication := len(t.partitions[0].state.replicas)
	for len(t.partitions) < total {
		c.addPartition(t, c.inTurn(t.index+len(t.partitions), replication))
	}
	c.publish()
	return protocol.None
}

// Elect makes a replica the leader. Unless unclean it must be alive and in sync;
// an unclean election makes it the only one in sync, and what only others had
// appended is lost.
func (c *Cluster) Elect(tp TopicPartition, id int32, unclean bool) protocol.ErrorCode {
	p := c.find(tp)
	if p == nil {
		return protocol.UnknownTopicOrPartition
	}
	s := p.state
	if !c.alive.has(id) || !slices.Contains(s.replicas, id) {
		return protocol.PreferredLeaderNotAvailable
	}
	switch {
	case s.leader == id:
		return protocol.ElectionNotNeeded
	case !s.isr.has(id) && !unclean:
		return protocol.EligibleLeadersNotAvailable
	case !s.isr.has(id):
		s.isr = setOf([]int32{id})
	}
	s.leader = id
	c.set(p, s)
	c.publish()
	return protocol.None
}

// Vacate takes a partition's leader away and gives it no other, as when every
// replica in sync has to come back first. The next Elect or Unfence ends it.
func (c *Cluster) Vacate(tp TopicPartition) protocol.ErrorCode {
	p := c.find(tp)
	if p == nil {
		return protocol.UnknownTopicOrPartition
	}
	if s := p.state; s.leader != noLeader {
		s.leader = noLeader
		c.set(p, s)
		c.publish()
	}
	return protocol.None
}

// StartEpochs lets the partitions of a topic go on under given leader epochs, in
// turn, as if there had been elections before.
func (c *Cluster) StartEpochs(name string, epochs []int32) {
	t := c.names.get(name)
	if t == nil || len(epochs) == 0 {
		return
	}
	for i, p := range t.partitions {
		if e := epochs[i%len(epochs)]; e > p.state.leaderEpoch {
			p.state.leaderEpoch = e
			p.state.version++
			c.open = append(c.open, change{kind: partitionChanged, topic: t, partition: p.id, state: p.state})
		}
	}
	c.publish()
}

// AppendTopics appends the names of the topics that there are, in the order of
// their creation.
func (c *Cluster) AppendTopics(names []string) []string {
	for _, t := range c.topics {
		if !t.deleted {
			names = append(names, t.name)
		}
	}
	return names
}

// RegistrationVersion counts the changes of a partition's registration. It begins
// anew with every topic; 0 and less: there is no such partition.
func (c *Cluster) RegistrationVersion(tp TopicPartition) int32 {
	if p := c.find(tp); p != nil {
		return p.state.version + 1 + int32(p.topic.index)<<16
	}
	return 0
}

// Configure changes a topic's max.message.bytes; 0 is the default. All brokers
// act on it at once.
func (c *Cluster) Configure(name string, maxMessageBytes int) protocol.ErrorCode {
	t := c.names.get(name)
	if t == nil {
		return protocol.UnknownTopicOrPartition
	}
	orDefault(&maxMessageBytes, DefaultMaxMessageBytes)
	t.config.MaxMessageBytes = maxMessageBytes
	return protocol.None
}

// Reassign moves a partition to other brokers, the preferred leader first. New
// replicas fetch until they are in sync; then the old ones go, and if the leader
// is among them another one leads.
func (c *Cluster) Reassign(tp TopicPartition, replicas []int32) protocol.ErrorCode {
	p := c.find(tp)
	if p == nil {
		return protocol.UnknownTopicOrPartition
	}
	if len(replicas) == 0 || setOf(replicas).size() != len(replicas) {
		return protocol.InvalidReplicaAssignment
	}
	for _, id := range replicas {
		c.broker(id)
	}
	p.target = slices.Clone(replicas)
	s := p.state
	s.replicas = slices.Clone(replicas)
	for _, id := range p.state.replicas {
		if !slices.Contains(replicas, id) {
			s.replicas = append(s.replicas, id)
		}
	}
	c.set(p, s)
	c.finishReassignment(p)
	c.publish()
	return protocol.None
}

func (c *Cluster) finishReassignment(p *partition) {
	target := setOf(p.target)
	if p.target == nil || !p.state.isr.contains(target) {
		return
	}
	s := p.state
	s.replicas, s.isr, p.target = p.target, s.isr&target, nil
	if !target.has(s.leader) {
		s.leader = noLeader
		for _, id := range s.replicas {
			if c.alive.has(id) && s.isr.has(id) {
				s.leader = id
				break
			}
		}
	}
	c.set(p, s)
}

// alterISR is a leader's request to change the replicas in sync (AlterPartition).
// The controller refuses a leader that is none any more. The leader acts on the
// answer at once, before it reads it in the log.
func (c *Cluster) alterISR(r *replica, isr brokerSet) bool {
	p := r.topic.partitions[r.partition]
	if r.broker.isolated || r.topic.deleted || p.state.leader != r.broker.id ||
		p.state.leaderEpoch != r.state.leaderEpoch || p.state.version != r.state.version {
		return false
	}
	s := p.state
	s.isr = isr
	c.set(p, s)
	c.finishReassignment(p)
	c.publish()
	if now := p.state; now.leaderEpoch == r.state.leaderEpoch && slices.Contains(now.replicas, r.broker.id) {
		r.assign(now)
		r.broker.view.topics[r.topic.index].partitions[r.partition].state = now
	}
	return true
}
