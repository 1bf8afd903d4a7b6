package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

const (
	brokerCount    = 3
	partitionCount = 6
	topicName      = "orders"
)

// Cluster is a model of a Kafka cluster: who leads what, what each broker knows
// of it, the logs, and what the brokers remember of producers.
type Cluster struct {
	scheduler  *Scheduler
	faults     *faults
	trace      *Trace
	brokers    []*modelBroker
	partitions []*modelPartition
	topicID    [16]byte
	topicKnown bool
	producerID int64
	wrong      func(format string, args ...any)
	// lies make the cluster break its word, to prove that the checker sees.
	lies Lie
	cut  func(*modelBroker)
}

type modelBroker struct {
	id      int32
	address string
	up      bool
	view    []leadership // by partition: what this broker believes
	newest  int16        // of Produce
	ancient bool         // knows ApiVersions 0 only
}

type leadership struct {
	leader int32
	epoch  int32
}

type modelPartition struct {
	leadership
	id        int32
	log       []entry
	before    []entry // the log of the topic's last life
	producers map[int64]*producerState
	isolated  bool
	waiting   []func() // for the end of the isolation
	seen      map[sequenceKey]uint32
}

// entry is one record in a log.
type entry struct {
	value    string
	producer int64
	epoch    int16
	sequence int32
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

// sequenceKey names what a batch claims to be; it must never be claimed for
// other bytes.
type sequenceKey struct {
	producer int64
	epoch    int16
	first    int32
}

// topicIDs is the first version of Produce that names topics by their id.
const topicIDs = 13

// remembered is how many batches of a producer a broker recognises.
const remembered = 5

func newCluster(s *Scheduler, f *faults, trace *Trace) *Cluster {
	c := &Cluster{scheduler: s, faults: f, trace: trace, producerID: 4000}
	c.topicID = [16]byte{1, 2, 3, byte(partitionCount)}
	newest := int16(3 + f.random.IntN(11))
	if f.random.IntN(2) == 0 {
		newest = topicIDs
	}
	ancient := f.random.IntN(8) == 0
	for i := range brokerCount {
		b := &modelBroker{id: int32(i + 1), address: fmt.Sprintf("broker-%d:9092", i+1), up: true, newest: newest, ancient: ancient}
		c.brokers = append(c.brokers, b)
	}
	for i := range partitionCount {
		p := &modelPartition{id: int32(i), producers: make(map[int64]*producerState), seen: make(map[sequenceKey]uint32)}
		p.leader, p.epoch = int32(i%brokerCount+1), int32(f.random.IntN(4))
		c.partitions = append(c.partitions, p)
		for _, b := range c.brokers {
			b.view = append(b.view, p.leadership)
		}
	}
	// The topic may be younger than the producer.
	if f.random.IntN(2) == 0 {
		c.topicKnown = true
	} else {
		s.clock.after(f.between(0, 2*time.Second), func() { c.topicKnown = true })
	}
	return c
}

func (c *Cluster) at(address string) *modelBroker {
	for _, b := range c.brokers {
		if b.address == address {
			return b
		}
	}
	return nil
}

func (c *Cluster) anyBroker(r *rand.Rand) *modelBroker { return c.brokers[r.IntN(len(c.brokers))] }
func (c *Cluster) anyPartition(r *rand.Rand) *modelPartition {
	return c.partitions[r.IntN(len(c.partitions))]
}

// lead makes a broker the leader of a partition, under a new epoch. The old and
// the new leader hear of it first; the others in their own time.
func (c *Cluster) lead(p *modelPartition, leader int32) {
	old := p.leader
	p.leader, p.epoch = leader, p.epoch+1
	now := p.leadership
	c.trace.note("cluster", "leader", int64(p.id), int64(now.leader), int64(now.epoch))
	for _, b := range c.brokers {
		delay := c.faults.between(0, 20*time.Millisecond)
		if b.id != old && c.faults.happens(StaleView) {
			delay = c.faults.between(100*time.Millisecond, 3*time.Second)
		}
		learn := func() {
			if v := &b.view[p.id]; v.epoch < now.epoch {
				*v = now
			}
		}
		if b.id == old {
			learn()
			continue
		}
		c.scheduler.clock.after(delay, learn)
	}
}

// move gives a partition another leader, among the brokers that are up.
func (c *Cluster) move(p *modelPartition) {
	for range 8 {
		if b := c.anyBroker(c.faults.random); b.up && b.id != p.leader {
			c.lead(p, b.id)
			return
		}
	}
	if p.leader < 0 {
		// Nobody is there to lead it. Somebody will be.
		c.scheduler.clock.after(100*time.Millisecond, func() {
			if p.leader < 0 {
				c.move(p)
			}
		})
	}
}

// loseLeader leaves a partition without a leader for d.
func (c *Cluster) loseLeader(p *modelPartition, d time.Duration) {
	c.lead(p, -1)
	epoch := p.epoch
	c.scheduler.clock.after(d, func() {
		if p.epoch == epoch {
			c.move(p)
		}
	})
}

// isolate cuts a leader off from its followers for d. It does not know, takes
// records, and cannot acknowledge them; then somebody else leads, without them.
func (c *Cluster) isolate(p *modelPartition, d time.Duration) {
	if p.isolated || p.leader < 0 {
		return
	}
	p.isolated = true
	c.scheduler.clock.after(d, func() {
		p.isolated = false
		c.move(p)
		waiting := p.waiting
		p.waiting = nil
		for _, fn := range waiting {
			fn()
		}
	})
}

// recreate deletes the topic and creates it again after d, with another id and
// empty logs. Nothing of the producers is remembered.
func (c *Cluster) recreate(d time.Duration) {
	c.topicKnown = false
	c.topicID[0]++
	c.trace.note("cluster", "recreate")
	for _, p := range c.partitions {
		p.before, p.log = append(p.before, p.log...), nil
		p.producers, p.seen = make(map[int64]*producerState), make(map[sequenceKey]uint32)
	}
	c.scheduler.clock.after(d, func() { c.topicKnown = true })
}

// down takes a broker away for d. Its partitions get other leaders, or wait.
func (c *Cluster) down(b *modelBroker, d time.Duration, moves bool) {
	if !b.up {
		return
	}
	b.up = false
	c.trace.note("cluster", "down", int64(b.id))
	c.cut(b)
	for _, p := range c.partitions {
		if p.leader == b.id && moves {
			c.scheduler.clock.after(c.faults.between(0, 500*time.Millisecond), func() {
				if p.leader == b.id && !b.up {
					c.move(p)
				}
			})
		}
	}
	c.scheduler.clock.after(d, func() {
		b.up = true
		c.trace.note("cluster", "up", int64(b.id))
		for _, p := range c.partitions {
			// It catches up before it serves, if it led nothing meanwhile.
			b.view[p.id] = p.leadership
		}
	})
}

// append applies the rules of the idempotent producer and appends a batch. It
// returns the offset of its first record.
func (c *Cluster) append(p *modelPartition, b *protocol.Batch, values []string) (int64, protocol.ErrorCode) {
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
	for i, v := range c.lie(values) {
		p.log = append(p.log, entry{v, b.ProducerID, b.ProducerEpoch, protocol.AddSequence(b.BaseSequence, int32(i))})
	}
	c.trace.note("cluster", "append", int64(p.id), offset, int64(len(values)), b.ProducerID, int64(b.ProducerEpoch), int64(b.BaseSequence))
	return offset, 0
}

// Lie is a way in which the cluster breaks its word.
type Lie int

// The lies. Each must be found by the checker.
const (
	Honest   Lie = iota
	Forgets      // acknowledges a batch and appends nothing
	Repeats      // appends a batch twice
	Reverses     // appends a batch's records in reverse
)

// lie returns what is really appended.
func (c *Cluster) lie(values []string) []string {
	if c.lies == Honest || c.faults.random.IntN(10) > 0 {
		return values
	}
	switch c.lies {
	case Forgets:
		return nil
	case Repeats:
		return append(append([]string(nil), values...), values...)
	default:
		reversed := make([]string, 0, len(values))
		for i := len(values) - 1; i >= 0; i-- {
			reversed = append(reversed, values[i])
		}
		return reversed
	}
}
