package model

import (
	"math/bits"
	"time"
)

// Cluster is the whole: the controller's metadata, the brokers, what each of them
// believes, and their logs. Its methods are to be called by one goroutine. It is
// told the time by Advance, and every change happens at the time told last.
type Cluster struct {
	cfg     Config
	now     time.Duration
	brokers []*broker

	// The controller's side.
	topics    []*topic // in the order of creation; deleted ones stay, marked
	names     topicNames
	metadata  [][]change // every batch of changes, for brokers to apply in order
	open      []change   // the batch under way
	alive     brokerSet  // registered and not fenced
	nextBlock int64      // of producer ids

	pending    []*pending
	nextHandle Handle
	dirty      bool // a pending request may be ready
	effects    []Effect
}

// broker is one broker: its process, its disk and its beliefs.
type broker struct {
	cluster  *Cluster
	id       int32
	up       bool
	isolated bool
	starting bool // reads the metadata of before its start, and acts on none of it
	throttle time.Duration
	view     view
	ids      idBlocks
}

// brokerSet is a set of broker ids.
type brokerSet uint64

func setOf(ids []int32) (s brokerSet) {
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

func (s brokerSet) has(id int32) bool             { return id > 0 && s&(1<<id) != 0 }
func (s brokerSet) with(id int32) brokerSet       { return s | 1<<id }
func (s brokerSet) without(id int32) brokerSet    { return s &^ (1 << id) }
func (s brokerSet) size() int                     { return bits.OnesCount64(uint64(s)) }
func (s brokerSet) contains(other brokerSet) bool { return other&^s == 0 }

// ids lists the members, those in preferred first and in its order.
func (s brokerSet) ids(preferred []int32) []int32 {
	return s.appendTo(make([]int32, 0, s.size()), preferred)
}

func (s brokerSet) appendTo(list, preferred []int32) []int32 {
	for _, id := range preferred {
		if s.has(id) {
			list, s = append(list, id), s.without(id)
		}
	}
	for ; s != 0; s &= s - 1 {
		list = append(list, int32(bits.TrailingZeros64(uint64(s))))
	}
	return list
}

// New returns a cluster whose brokers are up and know each other, at instant 0.
// It panics on a configuration out of range.
func New(cfg Config) *Cluster {
	c := &Cluster{cfg: cfg.withDefaults(), names: topicNames{all: make(map[string]*topic)}}
	for i := range c.cfg.Brokers {
		b := &broker{cluster: c, id: int32(i + 1), up: true}
		b.view.names.all = make(map[string]*topic)
		c.brokers = append(c.brokers, b)
		c.alive = c.alive.with(b.id)
	}
	for _, b := range c.brokers {
		b.view.alive = c.alive
	}
	return c
}

// Config returns the configuration with its defaults filled in.
func (c *Cluster) Config() Config { return c.cfg }

// Now returns the time the cluster was told last.
func (c *Cluster) Now() time.Duration { return c.now }

func (c *Cluster) millis() int64 { return c.cfg.StartMillis + c.now.Milliseconds() }

// broker returns a broker, and panics for an id that is none: that is a mistake
// of the caller and not of the cluster it models.
func (c *Cluster) broker(id int32) *broker {
	if id < 1 || int(id) > len(c.brokers) {
		panic("model: no such broker")
	}
	return c.brokers[id-1]
}

// Up says whether a broker's process runs.
func (c *Cluster) Up(id int32) bool { return c.broker(id).up }

// Throttle makes a broker ask its clients to pause: every answer to a Produce
// request carries this time until it is set again.
func (c *Cluster) Throttle(id int32, d time.Duration) { c.broker(id).throttle = d }

// Isolate cuts a broker off from all others and from the controller, or joins it
// to them again; clients still reach it. It learns nothing, and neither fetches
// nor is fetched from.
func (c *Cluster) Isolate(id int32, isolated bool) { c.broker(id).isolated = isolated }

// Loss says what a crash takes with it.
type Loss uint8

// What a crash takes.
const (
	// LoseNothing is the end of a process: what it wrote is in the page cache.
	LoseNothing Loss = iota
	// LoseUnflushed is a loss of power.
	LoseUnflushed
)

// Crash ends a broker at once. The controller does not know before Fence. The
// requests that waited there are dropped, which the next Advance reports.
func (c *Cluster) Crash(id int32, loss Loss) {
	b := c.broker(id)
	if !b.up {
		return
	}
	b.up = false
	b.ids = idBlocks{}
	c.dropPending(b)
	b.eachReplica(func(r *replica) { r.crash(loss) })
	b.view.clean = false
}

// Fence is the controller's notice that a broker is gone: it leaves the replicas
// in sync, and what it led gets other leaders, or none. Fencing a broker that
// runs is what a lost heartbeat does.
func (c *Cluster) Fence(id int32) {
	b := c.broker(id)
	if !c.alive.has(b.id) {
		return
	}
	c.alive = c.alive.without(b.id)
	c.open = append(c.open, change{kind: brokerFenced, broker: b.id})
	c.leave(b.id)
	c.publish()
}

// Unfence is the first heartbeat of a fenced broker that runs.
func (c *Cluster) Unfence(id int32) {
	b := c.broker(id)
	if c.alive.has(b.id) || !b.up {
		return
	}
	c.alive = c.alive.with(b.id)
	c.open = append(c.open, change{kind: brokerUnfenced, broker: b.id})
	c.eachPartition(func(p *partition) {
		if p.state.leader == noLeader {
			c.elect(p)
		}
	})
	c.publish()
}

// Stop shuts a broker down cleanly: the controller moves its leaderships first,
// it hears of that, answers what waits, flushes, and writes its snapshots.
func (c *Cluster) Stop(id int32) {
	b := c.broker(id)
	if !b.up {
		return
	}
	if !b.isolated {
		c.Fence(id)
		c.LearnAll(id)
	}
	c.complete(false)
	b.up = false
	b.ids = idBlocks{}
	c.dropPending(b)
	b.eachReplica(func(r *replica) {
		r.takeSnapshot(r.end)
		r.flushed, r.producers = r.end, nil
		r.save()
	})
	b.view.clean = true
}

// Restart starts a broker again. It loads its logs, catches up with the
// controller's metadata and only then serves, as Kafka does. An earlier
// registration that was never fenced is fenced first.
func (c *Cluster) Restart(id int32) {
	b := c.broker(id)
	if b.up {
		return
	}
	c.Fence(id)
	b.up, b.starting = true, true
	b.eachReplica(func(r *replica) {
		r.state, r.followers = partitionState{leader: noLeader, leaderEpoch: -1, version: -1}, nil
		r.load(b.view.clean, c.millis())
	})
	c.LearnAll(id)
	b.starting = false
	for i := range b.view.topics {
		for k := range b.view.topics[i].partitions {
			if p := &b.view.topics[i].partitions[k]; p.replica != nil {
				b.act(p)
			}
		}
	}
	c.Unfence(id)
	c.LearnAll(id)
}

// Save makes a broker write its checkpoint files, as Kafka does every five seconds
// for high watermarks and every minute for the starts of logs: a crash sets both
// back to what was saved.
func (c *Cluster) Save(id int32) {
	if b := c.broker(id); b.up {
		b.eachReplica((*replica).save)
	}
}

// Expire makes every broker that runs forget the producers that have been quiet
// for Config.ProducerIDExpiration. Kafka does it every ten minutes.
func (c *Cluster) Expire() {
	for _, b := range c.brokers {
		if b.up {
			b.eachReplica(func(r *replica) { r.producers.expire(c.millis(), r.expiryMillis) })
		}
	}
}
