package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// brokerTrack does one fault of brokers after the other. Each waits until the one
// before it is mended, so that a partition is short of one replica at the most.
// It runs on the test's goroutine: the cluster's methods may end the test.
func (c *campaign) brokerTrack(ctx context.Context, steps []step) {
	do := map[kind]func(context.Context, step) fault{
		killLeader: c.kill, pauseBroker: c.pause, rolling: c.roll,
		reassign: c.reassign, electLeaders: c.elect, addPartitions: c.grow,
	}
	for _, s := range steps {
		pause(ctx, s.Quiet)
		if ctx.Err() != nil {
			return
		}
		c.done(do[s.Kind](ctx, s))
		c.mend()
		c.balance()
	}
}

// balance gives every broker its leaderships back, so that the faults of the
// network find one to strike. It is an election under load, too.
func (c *campaign) balance() {
	for _, t := range topics {
		if err := c.kafka.ElectPreferred(t.Name); err != nil {
			c.notef("leaders stay where they are: %v", err)
		}
	}
}

// networkTrack does one fault of the network after the other.
func (c *campaign) networkTrack(ctx context.Context, steps []step) {
	for _, s := range steps {
		pause(ctx, s.Quiet)
		if ctx.Err() != nil {
			return
		}
		c.done(c.disturb(ctx, s))
	}
}

func (c *campaign) done(f fault) {
	if f.Kind == "" { // there was nobody to harm
		return
	}
	c.mu.Lock()
	c.faults = append(c.faults, f)
	c.mu.Unlock()
	if f.Err != "" {
		c.notef("%s, since %.3f s, failed: %s", f.Kind, f.From.Seconds(), f.Err)
		return
	}
	on := ""
	if f.Broker > 0 {
		on = fmt.Sprintf(" (broker %d)", f.Broker)
	}
	c.notef("%s%s, since %.3f s: %d hits, %d partitions", f.Kind, on, f.From.Seconds(), f.Hits, len(f.Affected))
}

// ledBy returns the partitions that a broker leads; 0 stands for every broker.
func (c *campaign) ledBy(broker int) (list []place) {
	for number, t := range topics {
		found, err := c.kafka.Partitions(t.Name)
		if err != nil {
			continue // it counts the fault for fewer partitions
		}
		for _, p := range found {
			if broker == 0 || p.Leader == broker {
				list = append(list, place{uint8(number), int32(p.Number)})
			}
		}
	}
	return list
}

// mend waits until every replica is in sync again.
func (c *campaign) mend() {
	for end := time.Now().Add(inSyncWithin); ; time.Sleep(100 * time.Millisecond) {
		missing := ""
		for _, t := range topics {
			found, err := c.kafka.Partitions(t.Name)
			if err != nil {
				missing = err.Error()
			}
			for _, p := range found {
				if p.Leader < 0 || len(p.InSync) < brokerCount {
					missing = fmt.Sprintf("%s-%d: leader %d, in sync %v", t.Name, p.Number, p.Leader, p.InSync)
				}
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			c.notef("not in sync %v after a fault: %s", inSyncWithin, missing)
			return
		}
	}
}

// leader returns the leader of a partition of the numbered topic.
func (c *campaign) leader(partition int) int {
	found, err := c.kafka.Partitions(topics[numberedTopic].Name)
	if err != nil || partition >= len(found) {
		return -1
	}
	return found[partition].Leader
}

func (c *campaign) kill(ctx context.Context, s step) fault {
	victim := c.leader(s.Chosen)
	if victim < 1 {
		return fault{}
	}
	f := fault{Kind: s.Kind, Broker: victim, Affected: c.ledBy(victim), Hits: 1, From: c.load.now()}
	c.kafka.Kill(victim)
	pause(ctx, s.For)
	c.kafka.Restart(victim)
	f.To = c.load.now()
	return f
}

func (c *campaign) pause(ctx context.Context, s step) fault {
	f := fault{Kind: s.Kind, Broker: s.Broker, Affected: c.ledBy(s.Broker), Hits: 1, From: c.load.now()}
	c.kafka.Pause(s.Broker)
	pause(ctx, s.For)
	c.kafka.Resume(s.Broker)
	f.To = c.load.now()
	return f
}

func (c *campaign) roll(ctx context.Context, s step) fault {
	f := fault{Kind: s.Kind, Affected: c.ledBy(0), From: c.load.now()}
	for _, at := range rand.New(rand.NewPCG(s.Order, 0)).Perm(brokerCount) {
		if f.Hits > 0 && ctx.Err() != nil { // the campaign's time is over
			break
		}
		c.kafka.Stop(at + 1)
		c.kafka.Restart(at + 1)
		f.Hits++
		c.mend() // as an administrator would
	}
	f.To = c.load.now()
	return f
}

// reassign takes half of the partitions from their leaders, which then are no
// replicas any more, and gives all three back in another order.
func (c *campaign) reassign(_ context.Context, s step) fault {
	r := rand.New(rand.NewPCG(s.Order, 0))
	f := fault{Kind: s.Kind, From: c.load.now()}
	found, err := c.kafka.Partitions(topics[numberedTopic].Name)
	without, back := map[int][]int{}, map[int][]int{}
	for _, i := range r.Perm(len(found))[:len(found)/2] {
		p := found[i]
		for _, id := range mixed(r) {
			if id != p.Leader {
				without[p.Number] = append(without[p.Number], id)
			}
		}
		back[p.Number] = mixed(r)
		f.Affected = append(f.Affected, place{numberedTopic, int32(p.Number)})
	}
	if err == nil {
		err = c.kafka.Reassign(topics[numberedTopic].Name, without)
	}
	if err == nil {
		err = c.kafka.Reassign(topics[numberedTopic].Name, back)
	}
	return c.ended(f, len(back), err)
}

// elect changes which replica of every partition is preferred and has the
// preferred ones elected.
func (c *campaign) elect(_ context.Context, s step) fault {
	r := rand.New(rand.NewPCG(s.Order, 0))
	f := fault{Kind: s.Kind, From: c.load.now()}
	before, err := c.kafka.Partitions(topics[numberedTopic].Name)
	order := map[int][]int{}
	for _, p := range before {
		order[p.Number] = mixed(r)
	}
	if err == nil {
		err = c.kafka.Reassign(topics[numberedTopic].Name, order)
	}
	if err == nil {
		err = c.kafka.ElectPreferred(topics[numberedTopic].Name)
	}
	for _, p := range before {
		if order[p.Number][0] != p.Leader {
			f.Affected = append(f.Affected, place{numberedTopic, int32(p.Number)})
		}
	}
	return c.ended(f, len(f.Affected), err)
}

func (c *campaign) grow(context.Context, step) fault {
	f := fault{Kind: addPartitions, From: c.load.now()}
	var found []kafkacluster.Partition
	found, err := c.kafka.Partitions(topics[growingTopic].Name)
	for _, p := range found {
		f.Affected = append(f.Affected, place{growingTopic, int32(p.Number)})
	}
	if err == nil {
		err = c.kafka.AddPartitions(topics[growingTopic].Name, len(found)+1)
	}
	return c.ended(f, 1, err)
}

func (c *campaign) ended(f fault, hits int, err error) fault {
	f.To, f.Hits = c.load.now(), hits
	if err != nil {
		f.Hits, f.Err = 0, err.Error()
	}
	return f
}

// mixed are the brokers in any order.
func mixed(r *rand.Rand) []int {
	ids := r.Perm(brokerCount)
	for i := range ids {
		ids[i]++
	}
	return ids
}

// disturb does one fault of the network. Every one is over when it returns.
func (c *campaign) disturb(ctx context.Context, s step) fault {
	p := c.proxies[s.Broker-1]
	f := fault{Kind: s.Kind, Broker: s.Broker, Affected: c.ledBy(s.Broker), From: c.load.now()}
	defer p.heal()
	switch s.Kind {
	case loseResponse, cutResponse, cutRequest, cutBefore:
		p.strike(s.Kind, s.Hits)
		for end := time.Now().Add(frameLimit); p.struck() < s.Hits && time.Now().Before(end) && ctx.Err() == nil; {
			pause(ctx, 5*time.Millisecond)
		}
		f.Hits = p.struck()
	case delayResponse:
		p.setDelay(s.Delay)
		pause(ctx, s.For)
		f.Hits = p.struck()
	case reset:
		f.Hits = p.setReset(true)
		pause(ctx, s.For)
	case blackHole:
		p.hold()
		pause(ctx, s.For)
		f.Hits = p.struck()
	}
	p.heal()
	f.To = c.load.now()
	if f.Hits == 0 { // no request came that way: its broker was down
		f.Affected = nil
	}
	return f
}
