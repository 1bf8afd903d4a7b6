package model

import (
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// idBlocks is a broker's stock of producer ids: the block it hands out from, and
// the next one that it asks for when nine tenths of that are gone.
type idBlocks struct {
	next, end         int64
	nextStart         int64
	arrives           time.Duration // when the next block is there
	requested, loaded bool
}

// prefetchAt is the used part of a block, in hundredths, at which the next is
// asked for.
const prefetchAt = 90

// InitProducerID hands out a producer id with epoch 0 at a time. The controller
// gives ids to brokers in blocks, so they do not rise over all brokers.
// COORDINATOR_LOAD_IN_PROGRESS means that the block is still on its way.
func (c *Cluster) InitProducerID(now time.Duration, id int32) (producer int64, epoch int16, code protocol.ErrorCode) {
	c.advanceTo(now)
	b := c.broker(id)
	if !b.up {
		return -1, -1, protocol.CoordinatorNotAvailable
	}
	s := &b.ids
	s.request(c, b)
	if s.next == s.end {
		if !s.requested || c.now < s.arrives {
			return -1, -1, protocol.CoordinatorLoadInProgress
		}
		s.next, s.end = s.nextStart, s.nextStart+c.cfg.ProducerIDBlock
		s.requested, s.loaded = false, true
	}
	producer = s.next
	s.next++
	s.request(c, b)
	return producer, 0, protocol.None
}

// request asks for a block if it is time to. The controller sets it apart at once.
func (s *idBlocks) request(c *Cluster, b *broker) {
	if s.requested || b.isolated {
		return
	}
	used := c.cfg.ProducerIDBlock - (s.end - s.next)
	if !s.loaded || used*100 >= c.cfg.ProducerIDBlock*prefetchAt {
		s.requested, s.arrives = true, c.now+c.cfg.ProducerIDLatency
		s.nextStart = c.nextBlock
		c.nextBlock += c.cfg.ProducerIDBlock
	}
}
