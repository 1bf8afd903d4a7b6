package simulation

import (
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// follow lets all followers of a partition fetch.
func (c *cluster) follow(p *partition) {
	for _, b := range c.brokers {
		c.followBy(p, b)
	}
}

// followBy puts a partition in a broker's line of fetches.
func (c *cluster) followBy(p *partition, b *node) {
	if p.fetched[b.id-1] || !c.model.Follows(p.TopicPartition, b.id) {
		return
	}
	p.fetched[b.id-1] = true
	b.fetches = append(b.fetches, p)
	if !b.armed {
		c.armFetcher(b)
	}
}

func (c *cluster) armFetcher(b *node) {
	b.armed = true
	every := time.Duration(c.settings.FetchEvery)
	if every == 0 {
		every = fetchEvery
	}
	b.fetcher.Reset(c.scheduler.clock.now.Add(between(c.nature, every/8, every)))
}

// fetch is a turn of a broker's fetcher: one fetch for each partition in line.
// Those that brought something stay in line, or with Brisk followers those that may
// bring more.
func (c *cluster) fetch(b *node) {
	b.armed = false
	now := c.now()
	line := b.fetches
	b.fetches = b.fetches[:0]
	for _, p := range line {
		again := false
		if p.lags[b.id-1] <= seams.Instant(now) {
			_, moved, more := c.model.Fetch(p.TopicPartition, b.id, 1+c.nature.IntN(8))
			again = more || moved && !c.settings.Brisk
		}
		if p.fetched[b.id-1] = again; again {
			b.fetches = append(b.fetches, p)
		}
	}
	if len(b.fetches) > 0 {
		c.armFetcher(b)
	}
	c.changed("", 0)
}

// watch looks, as long as anybody waits, at whether the followers of a partition
// keep up, and takes those that do not out of the replicas in sync.
func (c *cluster) watch(p *partition) {
	if p.watched {
		return
	}
	p.watched = true
	c.later(c.lagMax()+time.Millisecond, func() {
		p.watched = false
		c.shrink(p)
		c.follow(p) // as a fetch that waited in vain does
		if len(c.waiting) > 0 {
			c.watch(p)
		}
	})
}

func (c *cluster) shrink(p *partition) {
	c.now()
	if c.model.ShrinkISR(p.TopicPartition) {
		c.trace.note("cluster", "shrink", int64(p.index))
		c.follow(p)
	}
	c.changed(p.Topic, p.Partition)
}

// lag keeps one follower of a partition from fetching for a while.
func (c *cluster) lag(p *partition, follower int32, d time.Duration) {
	until := c.scheduler.clock.now.Add(d)
	p.lags[follower-1] = max(p.lags[follower-1], until)
	c.watch(p)
	c.later(d, func() { c.followBy(p, c.broker(follower)) })
}
