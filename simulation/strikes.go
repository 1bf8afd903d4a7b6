package simulation

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
)

// strike implements kafka.
func (c *cluster) strike(f *Fault) {
	c.now()
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
	}
	if p := c.aimedPartition(f); p != nil {
		c.strikePartition(f, p, d)
	}
	c.changed("", 0)
}

// strikePartition is for what happens to one partition, or to its topic.
func (c *cluster) strikePartition(f *Fault, p *partition, d time.Duration) {
	switch f.Kind {
	case LeaderMoves:
		c.move(p, f.Pick>>8)
	case LeaderIsolated:
		c.isolate(p, d, d)
	case ZombieLeader:
		c.isolate(p, 0, d)
	case LeaderLost:
		c.loseLeader(p, d, f.Pick>>8)
	case LeaderRestarts:
		c.restartLeader(p, d, f.Pick>>8)
	case UncleanElection:
		c.electUnclean(p, d, f.Pick>>8)
	case FollowerLags:
		if to := c.follower(p, f.Pick>>8); to != 0 {
			c.lag(p, to, d)
		}
	case RecordsDeleted:
		c.deleteRecords(p, f)
	case ProducersForgotten:
		c.model.Expire()
		c.trace.note("cluster", "expire")
	case BatchesLimited:
		c.limit(p.Topic, d, f.Pick)
	case PartitionsAdded:
		c.grow(p.Topic, f.Pick)
	case TopicRecreated:
		c.recreate(p.Topic, d)
	case TopicDeleted:
		c.deleteTopic(c.aimedTopic(f, p))
	}
}

func (c *cluster) aimedBroker(f *Fault) *node {
	if n, err := strconv.Atoi(strings.TrimPrefix(f.Target, "broker-")); err == nil && n >= 1 && n <= len(c.brokers) {
		return c.brokers[n-1]
	}
	return c.brokers[int(f.Pick)%len(c.brokers)]
}

// aimedPartition is nil if there are none.
func (c *cluster) aimedPartition(f *Fault) *partition {
	for _, p := range c.partitions {
		if (place{topic: p.Topic, partition: p.Partition}).is(f.Target) {
			return p
		}
	}
	if len(c.partitions) == 0 {
		return nil
	}
	return c.partitions[int(f.Pick)%len(c.partitions)]
}

// move gives a partition another leader, among the replicas in sync.
func (c *cluster) move(p *partition, pick uint32) bool {
	leader, _ := c.model.Leader(p.TopicPartition)
	for i := range c.brokers {
		id := c.brokers[(int(pick&0xffff)+i)%len(c.brokers)].id
		if id != leader && c.model.Up(id) && c.model.Elect(p.TopicPartition, id, false) == protocol.None {
			c.leads(p)
			return true
		}
	}
	return false
}

func (c *cluster) leads(p *partition) {
	leader, epoch := c.model.Leader(p.TopicPartition)
	c.trace.note("cluster", "leader", int64(p.index), int64(leader), int64(epoch))
	c.changed(p.Topic, p.Partition)
}

// moveAfter moves a partition whose leader has just appended something, with or
// without it.
func (c *cluster) moveAfter(p *partition, pick uint32) {
	c.now()
	if pick>>4&1 == 0 {
		for _, b := range c.brokers {
			_, _, _ = c.model.Fetch(p.TopicPartition, b.id, 1<<20)
		}
	}
	old, _ := c.model.Leader(p.TopicPartition)
	if c.move(p, pick>>8) && old > 0 {
		c.model.LearnAll(old)
		c.changed(p.Topic, p.Partition)
	}
}

// loseLeader leaves a partition without a leader for d.
func (c *cluster) loseLeader(p *partition, d time.Duration, pick uint32) {
	_ = c.model.Vacate(p.TopicPartition)
	c.leads(p)
	c.later(d, func() {
		c.now()
		if leader, _ := c.model.Leader(p.TopicPartition); leader < 0 {
			c.move(p, pick)
		}
		c.changed("", 0)
	})
}

// isolate cuts the broker that leads a partition off from the others for d. The
// controller misses it after a while: until then it takes records and cannot
// commit them, and from then on it leads and does not know that others do.
func (c *cluster) isolate(p *partition, missed, d time.Duration) {
	leader, _ := c.model.Leader(p.TopicPartition)
	if leader < 0 || !c.model.Up(leader) {
		return
	}
	b := c.broker(leader)
	b.cutOff++
	life := b.away
	c.model.Isolate(b.id, true)
	c.trace.note("cluster", "isolated", int64(b.id))
	c.later(missed, func() {
		c.now()
		if b.away == life && b.cutOff > 0 {
			c.model.Fence(b.id)
			c.changed("", 0)
		}
	})
	c.later(d+time.Millisecond, func() {
		c.now()
		if b.cutOff--; b.cutOff > 0 {
			return
		}
		c.model.Isolate(b.id, false)
		c.model.Unfence(b.id)
		c.trace.note("cluster", "joined", int64(b.id))
		c.followAll()
		c.changed("", 0)
	})
}

func (c *cluster) followAll() {
	for _, p := range c.partitions {
		c.follow(p)
	}
}

// down ends a broker, and starts it again after d. The controller misses it soon,
// or not before it is back.
func (c *cluster) down(b *node, d time.Duration, missed bool, pick uint32) {
	c.end(b, pick)
	life := b.away
	if missed {
		c.later(between(c.nature, 0, fencedWithin), func() {
			c.now()
			if b.away == life && !c.model.Up(b.id) {
				c.model.Fence(b.id)
				c.changed("", 0)
			}
		})
	}
	c.later(d, func() { c.start(b, life) })
}

// end ends a broker: half of the time it is told to, half of the time it is killed.
func (c *cluster) end(b *node, pick uint32) {
	if !c.model.Up(b.id) {
		return
	}
	b.away++
	c.trace.note("cluster", "down", int64(b.id))
	if pick>>3&1 == 0 {
		c.model.Save(b.id)
		c.model.Crash(b.id, model.LoseNothing)
	} else {
		c.model.Stop(b.id)
	}
	c.look()
	c.cut(b.id, pick)
}

// start starts a broker that has ended, unless somebody else has.
func (c *cluster) start(b *node, life int) {
	c.now()
	if b.away != life || c.model.Up(b.id) {
		return
	}
	if b.cutOff > 0 {
		// It does not serve before it has heard from the controller.
		c.later(10*time.Millisecond, func() { c.start(b, life) })
		return
	}
	c.model.Restart(b.id)
	c.trace.note("cluster", "up", int64(b.id))
	c.take()
	c.followAll()
	c.changed("", 0)
}

// upgrade restarts one broker after the other, with newer versions than before.
func (c *cluster) upgrade(at int, d time.Duration, pick uint32) {
	if at == len(c.brokers) {
		return
	}
	c.now()
	b := c.brokers[at]
	c.down(b, d, true, pick)
	b.Metadata = newestMetadata
	b.Produce, b.Ancient = newestProduce, false
	c.later(2*d, func() { c.upgrade(at+1, d, pick>>1) })
}

// restartLeader ends the broker that leads a partition and lets it lead again
// when it is back and in sync: it then remembers of each producer the last batch.
func (c *cluster) restartLeader(p *partition, d time.Duration, pick uint32) {
	leader, _ := c.model.Leader(p.TopicPartition)
	if leader < 0 || !c.model.Up(leader) {
		return
	}
	b := c.broker(leader)
	c.down(b, d, false, pick)
	tries := 0
	var again func()
	again = func() {
		c.now()
		if c.model.Up(b.id) && c.model.Elect(p.TopicPartition, b.id, false) == protocol.None {
			c.leads(p)
			return
		}
		if tries++; tries < 10 {
			c.later(50*time.Millisecond, again)
		}
	}
	c.later(d+5*time.Millisecond, again)
}

// follower picks one of the followers of a partition that run; 0: there is none.
func (c *cluster) follower(p *partition, pick uint32) int32 {
	leader, _ := c.model.Leader(p.TopicPartition)
	for i := range c.brokers {
		id := c.brokers[(int(pick&0xffff)+i)%len(c.brokers)].id
		if id != leader && c.model.Follows(p.TopicPartition, id) {
			return id
		}
	}
	return 0
}

// electUnclean lets a follower fall behind for d, longer than the replicas in sync
// put up with, and then makes it the leader all the same. What it had not fetched
// is lost.
func (c *cluster) electUnclean(p *partition, d time.Duration, pick uint32) {
	to := c.follower(p, pick)
	if to == 0 {
		return
	}
	d = max(d, c.lagMax()+c.lagMax()/2)
	c.lag(p, to, d)
	c.later(d-time.Millisecond, func() {
		c.shrink(p)
		if c.model.Up(to) && slices.Contains(c.model.InSync(p.TopicPartition), to) {
			return // there was nothing to fall behind
		}
		if c.model.Elect(p.TopicPartition, to, true) == protocol.None {
			c.trace.note("cluster", "unclean", int64(p.index), int64(to))
			c.leads(p)
		}
	})
}

// deleteRecords is DeleteRecords, or retention: the beginning of a log goes.
func (c *cluster) deleteRecords(p *partition, f *Fault) {
	before := int64(-1)
	if f.chance(0, 2) {
		before = int64(f.Pick >> 8 % 40)
	}
	if !c.model.DeleteRecords(p.TopicPartition, before) {
		return
	}
	c.trace.note("cluster", "delete-records", int64(p.index), before)
	for _, b := range c.brokers {
		if f.chance(1, 2) {
			c.model.Roll(p.TopicPartition, b.id)
		}
		c.model.DeleteSegments(p.TopicPartition, b.id)
	}
	c.follow(p)
}

// limit lowers max.message.bytes of a topic for d.
func (c *cluster) limit(topic string, d time.Duration, pick uint32) {
	_ = c.model.Configure(topic, [...]int{200, 400, 1000, 5000}[pick%4])
	c.later(d, func() { _ = c.model.Configure(topic, 0) })
}

// grow adds partitions to a topic.
func (c *cluster) grow(topic string, pick uint32) {
	n := c.model.Partitions(topic)
	if n == 0 || n >= maxGrown {
		return
	}
	_ = c.model.Grow(topic, n+1+int(pick>>8%2))
	c.take()
	c.trace.note("cluster", "grow", int64(c.model.Partitions(topic)))
}

// maxGrown is where topics stop to grow.
const maxGrown = 12

// recreate deletes a topic and creates it again after d, with another id and
// empty logs. Nothing of the producers is remembered.
func (c *cluster) recreate(topic string, d time.Duration) {
	i := slices.IndexFunc(c.topics, func(t Topic) bool { return t.Name == topic })
	if !c.deleteTopic(topic) || i < 0 {
		return
	}
	c.later(d, func() {
		c.now()
		c.create(&c.topics[i])
		c.changed("", 0)
	})
}

// deleteTopic deletes a topic. Without topic ids nobody could tell it from
// another of its name, and whoever learns of that one late may not have seen the
// first: then it stays.
func (c *cluster) deleteTopic(topic string) bool {
	if !c.topicIDs || c.model.DeleteTopic(topic) != protocol.None {
		return false
	}
	c.trace.note("cluster", "delete-topic")
	return true
}

// aimedTopic is the topic of a plan's target, or else the last one of the world:
// the first is needed to the end.
func (c *cluster) aimedTopic(f *Fault, p *partition) string {
	if f.Target != "" || len(c.topics) == 0 {
		return p.Topic
	}
	return c.topics[len(c.topics)-1].Name
}
