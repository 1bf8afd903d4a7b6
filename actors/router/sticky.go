package router

import (
	"sync/atomic"
	"unsafe"
)

const (
	// stickyShardCount is how many sticky choices a topic has: producing
	// goroutines spread over them, so that they do not meet on one partition's
	// lock.
	stickyShardCount = 16
	// backlogUnitBytes is the step in which backlogs are compared: smaller
	// differences say nothing about a broker's speed.
	backlogUnitBytes = 64 << 10
	// freshDraws is how often a shard draws again to avoid a partition that
	// another shard is on.
	freshDraws = 3
	// staleMoves is after how many moves of a topic's shards one that did not
	// move itself holds its partition no longer: its goroutine is gone, or slow.
	staleMoves = 2 * stickyShardCount
)

// stickyShard is one sticky choice (KIP-480, KIP-794): records without a key go
// to one partition until a batch ends and enough bytes have gone in since.
type stickyShard struct {
	partition atomic.Int32 // id+1; 0: none yet
	bytes     atomic.Int64 // chunks taken since the last move
	moved     atomic.Int64 // the topic's count of moves at the last one
	_         [40]byte     // one cache line each
}

// sticky holds the shards of one topic and their randomness.
type sticky struct {
	shards [stickyShardCount]stickyShard
	random atomic.Uint64
	moves  atomic.Int64
}

// draw returns the next random number (splitmix64): seeded, lock-free, and the
// same sequence in every run in which the calls come in the same order.
func (s *sticky) draw() uint64 {
	z := s.random.Add(0x9e3779b97f4a7c15)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// shard returns the calling goroutine's shard. Goroutines are told apart by
// where their stacks are, which costs nothing and needs to be right only most of
// the time.
//
//go:noinline
func (t *Topic) shard() *stickyShard {
	if t.router.Settings.StickyShards == 1 {
		return &t.sticky.shards[0]
	}
	var here byte
	at := uint64(uintptr(unsafe.Pointer(&here))) >> 13
	return &t.sticky.shards[at*0x9e3779b97f4a7c15>>60]
}

// current returns the shard's partition, choosing one when it has none or lost
// its leader.
func (t *Topic) current(rt *routes) (int32, *stickyShard) {
	s := t.shard()
	id := s.partition.Load() - 1
	if id >= 0 && rt.has(id) && (rt.infos[id].Leader >= 0 || len(rt.available) == 0) {
		return id, s
	}
	return t.settleOn(rt, s), s
}

// settleOn gives the shard a new partition.
func (t *Topic) settleOn(rt *routes, s *stickyShard) int32 {
	id := t.pick(rt, s)
	s.moved.Store(t.sticky.moves.Add(1))
	s.partition.Store(id + 1)
	s.bytes.Store(0)
	return id
}

// move lets the shard choose anew at the edge of a batch, if enough bytes have
// gone in since it last did: moving with every batch makes small batches.
func (t *Topic) move(rt *routes, s *stickyShard, from int32) int32 {
	if s.bytes.Load() < int64(t.router.Settings.StickyBytes) {
		return from
	}
	return t.settleOn(rt, s)
}

// pick draws a partition with a leader: the more is waiting for a partition, the
// less likely it is (KIP-794).
func (t *Topic) pick(rt *routes, own *stickyShard) int32 {
	n := len(rt.available)
	if n == 0 {
		id := int32(t.sticky.draw() % uint64(len(rt.boxes)))
		for !rt.has(id) {
			id = (id + 1) % int32(len(rt.boxes)) // a number that the topic does not use
		}
		return id
	}
	var id int32
	for range freshDraws {
		id = t.drawWeighted(rt)
		if n <= 2 || !t.isTaken(id, own) {
			break
		}
	}
	return id
}

func (t *Topic) drawWeighted(rt *routes) int32 {
	// Two draws, and the one with the shorter backlog: as good as weighing all
	// of them, without asking a thousand partitions.
	n := uint64(len(rt.available))
	a, b := rt.available[t.sticky.draw()%n], rt.available[t.sticky.draw()%n]
	if rt.boxes[b].BacklogBytes()/backlogUnitBytes < rt.boxes[a].BacklogBytes()/backlogUnitBytes {
		return b
	}
	return a
}

func (t *Topic) isTaken(id int32, own *stickyShard) bool {
	since := t.sticky.moves.Load() - staleMoves
	for i := range t.sticky.shards {
		if s := &t.sticky.shards[i]; s != own && s.partition.Load() == id+1 && s.moved.Load() > since {
			return true
		}
	}
	return false
}
