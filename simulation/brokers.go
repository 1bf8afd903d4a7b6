package simulation

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
	"github.com/troupe-kafka/troupe/simulation/model"
)

// cluster is the model of package model in a world: it decides when brokers hear
// of things, when followers fetch, and when answers that are due are looked for,
// all of it drawn from the seed.
type cluster struct {
	surroundings
	model      *model.Cluster
	brokers    []*node
	partitions []*partition                // of all topics that exist, or did
	waiting    map[model.Handle]*producing // for lookup only
	due        *timer                      // the first request to time out
	dueAt      seams.Instant
	looking    bool // a turn that looks for answers is on its way
	topicIDs   bool // every broker has known them from the beginning
	tampered   map[string]bool
	most       map[string]int // the most partitions that a topic ever had
	topicsEver []topicLife    // in the order of creation
	names      []string       // scratch
}

// node is one broker as the harness sees it.
type node struct {
	BrokerSettings
	id      int32
	address string
	hears   bool // a turn in which it hears of changes is on its way
	cutOff  int  // faults that isolate it now
	away    int  // counts its ends, so that late events know whether they mean it
	// fetches are the partitions that its fetcher looks at in its next turn.
	fetches []*partition
	fetcher *timer
	armed   bool
	busy    seams.Instant // with a finite service rate, until then
}

// partition is one partition of the topic that has the name.
type partition struct {
	model.TopicPartition
	index   int
	seen    []int32         // by broker: the version of the registration it has heard of
	fetched []bool          // by broker: it is in the fetcher's line
	lags    []seams.Instant // by broker: it does not fetch before
	watched bool            // somebody looks at whether followers keep up
}

// The pace of a cluster, where its settings do not say.
const (
	fetchEvery  = time.Millisecond
	hearsWithin = 20 * time.Millisecond
	lagMax      = time.Second
	inSync      = 2
	replicas    = 3
	// forgetAfter is longer than a clock may jump.
	forgetAfter = 3 * time.Hour
	// fencedWithin is how long the controller takes to miss a broker.
	fencedWithin = 500 * time.Millisecond
)

// newCluster makes a cluster as the surroundings say.
func newCluster(s surroundings) *cluster {
	c := &cluster{
		surroundings: s, topicIDs: true, waiting: make(map[model.Handle]*producing), tampered: make(map[string]bool),
		most: make(map[string]int), dueAt: seams.Never,
	}
	version := model.V4
	if s.settings.Kafka3 {
		version = model.V3
	}
	var byDefault model.TopicConfig
	if len(s.topics) > 0 {
		byDefault = c.configOf(&s.topics[0])
	}
	c.model = model.New(model.Config{
		DefaultTopic: byDefault,
		Version:      version, Brokers: len(s.settings.Brokers), StartMillis: epochMs, ReplicaLagMax: c.lagMax(), ProducerIDExpiration: c.forgetAfter(),
		AutoCreate: s.settings.AutoCreate, DefaultPartitions: c.defaultPartitions(), DefaultReplication: c.replication(),
		ProducerIDLatency: time.Duration(s.settings.ProducerIDLatency),
	})
	for i, b := range s.settings.Brokers {
		c.topicIDs = c.topicIDs && b.Produce >= topicIDs && b.Metadata >= topicIDsInMetadata
		n := &node{BrokerSettings: b, id: int32(i + 1), address: BrokerAddress(i + 1)}
		n.fetcher = c.scheduler.clock.newTimer(func() { c.fetch(n) })
		c.brokers = append(c.brokers, n)
	}
	c.due = c.scheduler.clock.newTimer(func() {
		c.dueAt = seams.Never
		c.look()
	})
	for i := range s.topics {
		t := &s.topics[i]
		if t.CreatedAt <= 0 {
			c.create(t)
			continue
		}
		c.later(t.CreatedAt, func() { c.create(t); c.changed("", 0) })
	}
	c.model.Settle() // what is there from the beginning is known to all
	for _, p := range c.partitions {
		for i := range c.brokers {
			p.seen[i] = c.model.RegistrationVersion(p.TopicPartition)
		}
	}
	return c
}

func (c *cluster) lagMax() time.Duration {
	if d := time.Duration(c.settings.ReplicaLagMax); d > 0 {
		return d
	}
	return lagMax
}

func (c *cluster) forgetAfter() time.Duration {
	if d := time.Duration(c.settings.ForgetAfter); d > 0 {
		return d
	}
	return forgetAfter
}

func (c *cluster) replication() int { return min(replicas, len(c.settings.Brokers)) }

// defaultPartitions is num.partitions: a topic that a request creates is like one
// that was created on purpose.
func (c *cluster) defaultPartitions() int {
	if len(c.topics) > 0 {
		return c.topics[0].Partitions
	}
	return 1
}

// configOf is how a topic is configured, and one that a request creates like it.
func (c *cluster) configOf(t *Topic) model.TopicConfig {
	cfg := model.TopicConfig{
		MinInSync: c.settings.MinInSync, Compacted: t.Compacted, LogAppendTime: t.LogAppendTime, TimestampAfter: -1, SegmentBytes: c.settings.SegmentBytes,
	}
	if cfg.MinInSync == 0 {
		cfg.MinInSync = min(inSync, c.replication())
	}
	return cfg
}

// create creates a topic that the world has been promised.
func (c *cluster) create(t *Topic) {
	code := c.model.CreateTopic(t.Name, t.Partitions, c.replication(), c.configOf(t)) // it may be there: auto-created
	if code == protocol.None && c.life(t.Name) < 0 {
		c.model.StartEpochs(t.Name, c.settings.Epochs)
	}
	c.take()
}

// topicLife is one topic that there is or was.
type topicLife struct {
	name string
	id   model.TopicID
	life int
}

// life is the number of the topic that has, or had last, a name; −1 if none had.
func (c *cluster) life(name string) int {
	for i := len(c.topicsEver) - 1; i >= 0; i-- {
		if c.topicsEver[i].name == name {
			return c.topicsEver[i].life
		}
	}
	return -1
}

// take makes partitions of whatever the model has created.
func (c *cluster) take() {
	c.names = c.model.AppendTopics(c.names[:0])
	for _, name := range c.names {
		if id := c.model.TopicID(name); !slices.ContainsFunc(c.topicsEver, func(t topicLife) bool { return t.id == id }) {
			c.topicsEver = append(c.topicsEver, topicLife{name, id, c.life(name) + 1})
		}
		for n := c.most[name]; n < c.model.Partitions(name); n++ {
			p := &partition{TopicPartition: model.TopicPartition{Topic: name, Partition: int32(n)}, index: len(c.partitions)}
			p.seen, p.fetched = make([]int32, len(c.brokers)), make([]bool, len(c.brokers))
			p.lags = make([]seams.Instant, len(c.brokers))
			c.partitions = append(c.partitions, p)
		}
		c.most[name] = max(c.most[name], c.model.Partitions(name))
	}
}

func (c *cluster) later(d time.Duration, fn func()) { c.scheduler.clock.after(d, fn) }

func (c *cluster) broker(id int32) *node       { return c.brokers[id-1] }
func (c *cluster) up(broker int32) bool        { return c.model.Up(broker) }
func (c *cluster) ancient(broker int32) bool   { return c.broker(broker).Ancient }
func (c *cluster) attempts() []Attempt         { return c.estate.sent }
func (c *cluster) mostPartitions(t string) int { return c.most[t] }
func (c *cluster) exists(topic string) bool    { return c.model.Partitions(topic) > 0 }
func (c *cluster) partition(t string, n int32) *partition {
	for _, p := range c.partitions {
		if p.Partition == n && p.Topic == t {
			return p
		}
	}
	return nil
}

func (c *cluster) brokerAt(address string) int32 {
	for _, b := range c.brokers {
		if b.address == address {
			return b.id
		}
	}
	return 0
}

// now tells the model the time.
func (c *cluster) now() time.Duration {
	now := time.Duration(c.scheduler.clock.now)
	c.model.Tell(now)
	return now
}

// changed lets what has happened take its course: brokers hear of changes, and
// requests that wait are looked at. The topic and partition, if any, are what it
// was about.
func (c *cluster) changed(topic string, n int32) {
	for _, b := range c.brokers {
		if !b.hears && c.model.Up(b.id) && b.cutOff == 0 && c.model.Behind(b.id) > 0 {
			delay := between(c.nature, 0, hearsWithin)
			if f := c.faults.happens(StaleView, place{broker: b.id, topic: topic, partition: n}); f != nil {
				delay = time.Duration(f.For)
			}
			b.hears = true
			c.later(delay, func() { c.hear(b) })
		}
	}
	c.answers()
}

// hear is the turn in which a broker hears of all changes.
func (c *cluster) hear(b *node) {
	b.hears = false
	c.now()
	if c.model.Behind(b.id) == 0 || b.cutOff > 0 {
		return
	}
	c.model.LearnAll(b.id)
	c.take()
	for _, p := range c.partitions {
		if v := c.model.RegistrationVersion(p.TopicPartition); p.seen[b.id-1] != v {
			p.seen[b.id-1] = v
			c.follow(p)
		}
	}
	c.changed("", 0)
}

// answers looks for answers that are due, now or a moment later: what happens in
// between may still turn them.
func (c *cluster) answers() {
	if len(c.waiting) == 0 || c.looking {
		return
	}
	if c.model.Dirty() {
		if c.nature.IntN(4) > 0 {
			c.look()
			return
		}
		c.looking = true
		c.later(between(c.nature, 0, 3*time.Millisecond), func() {
			c.looking = false
			c.look()
		})
	}
	c.arm()
}

// arm sets the timer for the first request that times out.
func (c *cluster) arm() {
	if at, ok := c.model.Deadline(); ok && seams.Instant(at) != c.dueAt {
		c.dueAt = seams.Instant(at)
		c.due.Reset(c.dueAt)
	}
}

// look takes the answers that are due.
func (c *cluster) look() {
	for _, e := range c.model.Advance(c.now()) {
		a := c.waiting[e.Handle]
		delete(c.waiting, e.Handle)
		if a != nil && e.Answer != nil {
			a.answered(e.Answer)
		}
	}
	c.arm()
}

// BrokerAddress is where the nth broker of a world listens, from 1.
func BrokerAddress(n int) string { return "broker-" + strconv.Itoa(n) + ":9092" }

func host(address string) string { return strings.TrimSuffix(address, ":9092") }

// serviceTime is how long a broker with a finite rate takes for a request.
func (c *cluster) serviceTime(b *node, bytes int) time.Duration {
	if c.rate == 0 {
		return 0
	}
	now := c.scheduler.clock.now
	b.busy = max(b.busy, now).Add(time.Duration(math.Ceil(float64(bytes) / float64(c.rate) * float64(time.Second))))
	return b.busy.Sub(now)
}
