package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// smallCluster is a model of a Kafka cluster: who leads what, what each broker
// knows of it, the logs, and what the brokers remember of producers. Replicas do
// not lag: a record is in the one log of its partition, or at a leader that is
// cut off from the others, or nowhere.
type smallCluster struct {
	surroundings
	brokers    []*modelBroker
	topics     []*modelTopic
	partitions []*modelPartition // of all topics
	producerID int64
	sent       []Attempt
	topicIDs   bool // every broker has known them from the beginning
}

type modelBroker struct {
	BrokerSettings
	id      int32
	address string
	isUp    bool
	view    []leadership // by partition: what this broker believes
}

type modelTopic struct {
	name       string
	id         [16]byte
	known      bool
	life       int
	partitions []*modelPartition
}

type leadership struct {
	leader int32
	epoch  int32
}

type modelPartition struct {
	leadership
	topic     *modelTopic
	id        int32
	index     int // in the broker's views
	log       []Entry
	before    []Log // the logs of the topic's earlier lives, and what was cut off
	producers map[int64]*producerState
	isolated  bool
	waiting   []func() // for the end of the isolation
	// zombie is a broker that believes it leads, and what it has appended.
	zombie        int32
	zombieEntries []Entry
	hidden        int // entries at the end that no reader sees
}

// producerState is what a partition's leader remembers of a producer: its epoch
// and its last five batches.
type producerState struct {
	epoch int16
	last  []appended
}

type appended struct {
	first, last int32
	offset      int64
}

// remembered is how many batches of a producer a broker recognises.
const remembered = 5

// newSmallCluster makes a cluster as the surroundings say.
func newSmallCluster(s surroundings) *smallCluster {
	c := &smallCluster{surroundings: s, producerID: 4000, topicIDs: true}
	for i, b := range s.settings.Brokers {
		c.topicIDs = c.topicIDs && b.Produce >= topicIDs && b.Metadata >= topicIDsInMetadata
		c.brokers = append(c.brokers, &modelBroker{BrokerSettings: b, id: int32(i + 1), address: BrokerAddress(i + 1), isUp: true})
	}
	for i, t := range s.topics {
		topic := &modelTopic{name: t.Name, id: [16]byte{1, 2, 3, byte(i)}}
		c.topics = append(c.topics, topic)
		for n := range t.Partitions {
			p := &modelPartition{topic: topic, id: int32(n), index: len(c.partitions), producers: make(map[int64]*producerState)}
			p.leader = int32(p.index%len(c.brokers) + 1)
			if e := s.settings.Epochs; len(e) > 0 {
				p.epoch = e[p.index%len(e)]
			}
			topic.partitions = append(topic.partitions, p)
			c.partitions = append(c.partitions, p)
			for _, b := range c.brokers {
				b.view = append(b.view, p.leadership)
			}
		}
		topic.known = t.CreatedAt <= 0
		if !topic.known {
			c.later(t.CreatedAt, func() { topic.known = true })
		}
	}
	return c
}

func (c *smallCluster) later(d time.Duration, fn func()) { c.scheduler.clock.after(d, fn) }

func (c *smallCluster) brokerAt(address string) int32 {
	for _, b := range c.brokers {
		if b.address == address {
			return b.id
		}
	}
	return 0
}

func (c *smallCluster) broker(id int32) *modelBroker { return c.brokers[id-1] }
func (c *smallCluster) up(broker int32) bool         { return c.broker(broker).isUp }
func (c *smallCluster) ancient(broker int32) bool    { return c.broker(broker).Ancient }
func (c *smallCluster) attempts() []Attempt          { return c.sent }

func (c *smallCluster) logs() []Log {
	var all []Log
	for _, p := range c.partitions {
		all = append(all, p.before...)
		if len(p.zombieEntries) > 0 {
			all = append(all, p.lost(p.zombieEntries))
		}
		all = append(all, Log{Topic: p.topic.name, Partition: p.id, Life: p.topic.life, Entries: p.log, Visible: int64(len(p.log) - p.hidden)})
	}
	return all
}

func (c *smallCluster) entries(topic string, partition int32) []Entry {
	for _, p := range c.partitions {
		if p.topic.name == topic && p.id == partition {
			return p.log[:len(p.log)-p.hidden]
		}
	}
	return nil
}

// lost is a log that was cut off.
func (p *modelPartition) lost(entries []Entry) Log {
	return Log{Topic: p.topic.name, Partition: p.id, Life: p.topic.life, Lost: true, Entries: entries}
}

// strike implements kafka.
func (c *smallCluster) strike(f *Fault) {
	d := time.Duration(f.For)
	switch f.Kind {
	case CutAnyTime:
		c.cut(c.aimedBroker(f).id, f.Pick>>8)
	case BrokerDown:
		c.down(c.aimedBroker(f), d, !f.chance(2, 3), f.Pick>>8)
	case ClusterDown:
		for i, b := range c.brokers {
			c.down(b, d, false, f.Pick>>i)
		}
	case RollingUpgrade:
		c.upgrade(0, d, f.Pick)
	case LeaderMoves:
		c.move(c.aimedPartition(f), f.Pick>>8)
	case LeaderIsolated:
		c.isolate(c.aimedPartition(f), d, f.Pick>>8)
	case LeaderLost:
		c.loseLeader(c.aimedPartition(f), d, f.Pick>>8)
	case ZombieLeader:
		c.raise(c.aimedPartition(f), d, f.Pick>>8)
	case TopicRecreated:
		c.recreate(c.aimedPartition(f).topic, d)
	}
}

func (c *smallCluster) aimedBroker(f *Fault) *modelBroker {
	if n, err := strconv.Atoi(strings.TrimPrefix(f.Target, "broker-")); err == nil && n >= 1 && n <= len(c.brokers) {
		return c.brokers[n-1]
	}
	return c.brokers[int(f.Pick)%len(c.brokers)]
}

func (c *smallCluster) aimedPartition(f *Fault) *modelPartition {
	for _, p := range c.partitions {
		if (place{topic: p.topic.name, partition: p.id}).is(f.Target) {
			return p
		}
	}
	return c.partitions[int(f.Pick)%len(c.partitions)]
}

// lead makes a broker the leader of a partition, under a new epoch. The old and
// the new leader hear of it first; the others in their own time.
func (c *smallCluster) lead(p *modelPartition, leader int32, unaware int32) {
	old := p.leader
	p.leader, p.epoch = leader, p.epoch+1
	now := p.leadership
	c.trace.note("cluster", "leader", int64(p.index), int64(now.leader), int64(now.epoch))
	for _, b := range c.brokers {
		if b.id == unaware {
			continue
		}
		learn := func() {
			if v := &b.view[p.index]; v.epoch < now.epoch {
				*v = now
			}
		}
		if b.id == old {
			learn()
			continue
		}
		delay := between(c.nature, 0, 20*time.Millisecond)
		if f := c.faults.happens(StaleView, place{broker: b.id, topic: p.topic.name, partition: p.id}); f != nil {
			delay = time.Duration(f.For)
		}
		c.later(delay, learn)
	}
}

// move gives a partition another leader, among the brokers that are up.
func (c *smallCluster) move(p *modelPartition, pick uint32) { c.moveUnaware(p, pick, 0) }

func (c *smallCluster) moveUnaware(p *modelPartition, pick uint32, unaware int32) bool {
	for i := range c.brokers {
		b := c.brokers[(int(pick&0xffff)+i)%len(c.brokers)]
		if b.isUp && b.id != p.leader && b.id != unaware {
			c.lead(p, b.id, unaware)
			return true
		}
	}
	if p.leader < 0 {
		// Nobody is there to lead it. Somebody will be.
		c.later(100*time.Millisecond, func() {
			if p.leader < 0 {
				c.move(p, pick)
			}
		})
	}
	return false
}

// loseLeader leaves a partition without a leader for d.
func (c *smallCluster) loseLeader(p *modelPartition, d time.Duration, pick uint32) {
	c.lead(p, -1, 0)
	epoch := p.epoch
	c.later(d, func() {
		if p.epoch == epoch {
			c.move(p, pick)
		}
	})
}

// isolate cuts a leader off from its followers for d. It does not know, takes
// records, and cannot acknowledge them; then somebody else leads, without them.
func (c *smallCluster) isolate(p *modelPartition, d time.Duration, pick uint32) {
	if p.isolated || p.leader < 0 {
		return
	}
	p.isolated = true
	c.later(d, func() {
		p.isolated = false
		c.move(p, pick)
		waiting := p.waiting
		p.waiting = nil
		for _, fn := range waiting {
			fn()
		}
	})
}

// raise makes a leader a zombie for d: another broker leads from now on, and the
// old one does not know. What it takes meanwhile is lost.
func (c *smallCluster) raise(p *modelPartition, d time.Duration, pick uint32) {
	old := p.leader
	if old < 0 || p.zombie != 0 || p.isolated || !c.broker(old).isUp || !c.moveUnaware(p, pick, old) {
		return
	}
	p.zombie = old
	c.later(d, func() {
		p.zombie = 0
		if len(p.zombieEntries) > 0 {
			p.before = append(p.before, p.lost(p.zombieEntries))
			p.zombieEntries = nil
		}
		c.broker(old).view[p.index] = p.leadership
		waiting := p.waiting
		p.waiting = nil
		for _, fn := range waiting {
			fn()
		}
	})
}

// recreate deletes a topic and creates it again after d, with another id and
// empty logs. Nothing of the producers is remembered.
func (c *smallCluster) recreate(t *modelTopic, d time.Duration) {
	if !c.topicIDs {
		// Without topic ids nobody can tell the two topics apart, and whoever
		// learns them late may not have seen the first.
		return
	}
	t.known = false
	t.id[0]++
	c.trace.note("cluster", "recreate")
	for _, p := range t.partitions {
		if len(p.zombieEntries) > 0 {
			p.before = append(p.before, p.lost(p.zombieEntries))
			p.zombieEntries = nil
		}
		p.before = append(p.before, Log{Topic: t.name, Partition: p.id, Life: t.life, Entries: p.log, Visible: int64(len(p.log) - p.hidden)})
		p.log, p.hidden = nil, 0
		p.producers = make(map[int64]*producerState)
	}
	t.life++
	c.later(d, func() { t.known = true })
}

// down takes a broker away for d. Its partitions get other leaders, or wait.
func (c *smallCluster) down(b *modelBroker, d time.Duration, moves bool, pick uint32) {
	if !b.isUp {
		return
	}
	b.isUp = false
	c.trace.note("cluster", "down", int64(b.id))
	c.cut(b.id, pick)
	for _, p := range c.partitions {
		if p.leader == b.id && moves {
			c.later(between(c.nature, 0, 500*time.Millisecond), func() {
				if p.leader == b.id && !b.isUp {
					c.move(p, pick)
				}
			})
		}
	}
	c.later(d, func() {
		b.isUp = true
		c.trace.note("cluster", "up", int64(b.id))
		for _, p := range c.partitions {
			// It catches up before it serves, if it led nothing meanwhile.
			if p.zombie != b.id {
				b.view[p.index] = p.leadership
			}
		}
	})
}

// upgrade restarts one broker after the other, with newer versions than before.
func (c *smallCluster) upgrade(at int, d time.Duration, pick uint32) {
	if at == len(c.brokers) {
		return
	}
	b := c.brokers[at]
	c.down(b, d, true, pick)
	b.Metadata = newestMetadata
	b.Produce, b.Ancient = newestProduce, false
	c.later(2*d, func() { c.upgrade(at+1, d, pick>>1) })
}

// append applies the rules of the idempotent producer and appends a batch. It
// returns the offset of its first record.
func (c *smallCluster) append(p *modelPartition, b *protocol.Batch, values [][]byte) (int64, protocol.ErrorCode) {
	last := protocol.AddSequence(b.BaseSequence, b.Records-1)
	if b.ProducerID >= 0 {
		state := p.producers[b.ProducerID]
		if state != nil {
			switch {
			case b.ProducerEpoch < state.epoch:
				return -1, protocol.InvalidProducerEpoch
			case b.ProducerEpoch > state.epoch:
				if b.BaseSequence != 0 {
					return -1, protocol.OutOfOrderSequenceNumber
				}
				state.epoch, state.last = b.ProducerEpoch, nil
			default:
				for _, a := range state.last {
					if a.first == b.BaseSequence && a.last == last {
						return a.offset, 0
					}
				}
				if n := len(state.last); n > 0 && b.BaseSequence != protocol.AddSequence(state.last[n-1].last, 1) {
					return -1, protocol.OutOfOrderSequenceNumber
				}
			}
		} else {
			// A broker that knows nothing of a producer takes any sequence.
			state = &producerState{epoch: b.ProducerEpoch}
			p.producers[b.ProducerID] = state
		}
		state.last = append(state.last, appended{b.BaseSequence, last, int64(len(p.log))})
		if len(state.last) > remembered {
			state.last = state.last[1:]
		}
	}
	offset := int64(len(p.log))
	p.hidden = 0
	for i, v := range c.tell(p, values) {
		p.log = append(p.log, entryOf(b, i, v))
	}
	c.trace.note("cluster", "append", int64(p.index), offset, int64(len(values)), b.ProducerID, int64(b.ProducerEpoch), int64(b.BaseSequence))
	return offset, 0
}

func entryOf(b *protocol.Batch, i int, value []byte) Entry {
	e := Entry{Value: value, ProducerID: b.ProducerID, Epoch: b.ProducerEpoch, Sequence: -1}
	if b.ProducerID >= 0 {
		e.Sequence = protocol.AddSequence(b.BaseSequence, int32(i))
	}
	return e
}

// tell returns what is really appended.
func (c *smallCluster) tell(p *modelPartition, values [][]byte) [][]byte {
	if c.lie == Honest || c.nature.IntN(10) > 0 {
		return values
	}
	switch c.lie {
	case Forgets:
		return nil
	case Repeats:
		return append(slices.Clone(values), values...)
	case Reverses:
		reversed := slices.Clone(values)
		slices.Reverse(reversed)
		return reversed
	case Hides:
		p.hidden = len(values)
	}
	return values
}

// BrokerAddress is where the nth broker of a world listens, from 1.
func BrokerAddress(n int) string { return fmt.Sprintf("broker-%d:9092", n) }
