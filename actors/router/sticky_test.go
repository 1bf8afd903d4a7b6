package router

import (
	"fmt"
	"slices"
	"testing"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// sticks makes a topic of led partitions and returns it.
func (w *world) sticks(ids ...int32) *Topic {
	topic := w.topic("t")
	w.found(topicOf("t", ids...))
	return topic
}

func (w *world) box(partition int32) *fakeBox { return w.boxes[fmt.Sprint("t/", partition)] }

// TestStickyChoice: records without a key stay on a partition until a batch ends
// and enough bytes have gone in.
func TestStickyChoice(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.StickyBytes = 3 * memory.LeastChunkBytes })
	w.hungry = true
	topic := w.sticks(0, 1, 2, 3)
	shard := &topic.sticky.shards[0]
	var o outcomes
	for range 80 {
		w.must(record("t", "0123456789"), &o)
		for i := range int32(4) {
			if b := w.box(i); len(b.held) > 0 && len(b.got)%20 == 0 {
				b.settle() // the next record begins a batch
			}
		}
	}
	// Four batches of a chunk each: the first choice, and one after three chunks.
	if n := topic.sticky.moves.Load(); n != 2 {
		t.Errorf("%d choices", n)
	}

	// Not in the middle of a batch, however many bytes have gone in.
	before := shard.partition.Load()
	shard.bytes.Store(1 << 30)
	b := w.box(before - 1)
	b.room = 1 << 20
	w.must(record("t", "v"), &o)
	if shard.partition.Load() != before {
		t.Error("moved in the middle of a batch")
	}
	// At its edge it does, and counts anew.
	moved := shard.moved.Load()
	b.settle()
	w.must(record("t", "v"), &o)
	if shard.moved.Load() == moved || shard.bytes.Load() >= 1<<30 {
		t.Errorf("at the edge of a batch: moved at %d, %d bytes", shard.moved.Load(), shard.bytes.Load())
	}
}

// TestStickyChoiceMovesOnceAtTheEdge: a record whose new partition has a batch
// open, or not, stays there.
func TestStickyChoiceMovesOnceAtTheEdge(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	topic := w.sticks(0, 1)
	shard := &topic.sticky.shards[0]
	var o outcomes
	for range 50 {
		shard.bytes.Store(1 << 30)
		moves := topic.sticky.moves.Load()
		w.must(record("t", "v"), &o)
		if n := topic.sticky.moves.Load() - moves; n > 2 {
			t.Fatalf("one record moved the choice %d times", n)
		}
		w.box(0).settle()
		w.box(1).settle()
	}
	if a, b := len(w.box(0).got), len(w.box(1).got); a+b != 50 || a == 0 || b == 0 {
		t.Errorf("%d and %d records", a, b)
	}
}

// TestStickyChoiceNeedsALeader: a partition that lost its leader is left, and
// without any leader all of them will do.
func TestStickyChoiceNeedsALeader(t *testing.T) {
	for _, c := range []struct {
		name    string
		leaders []int32
		want    []int32 // partitions that may be chosen
	}{
		{"all are led", []int32{0, 1, 2, 0}, []int32{0, 1, 2, 3}},
		{"one is led", []int32{-1, -1, 2, -1}, []int32{2}},
		{"some are led", []int32{0, -1, 2, -1}, []int32{0, 2}},
		{"none is led", []int32{-1, -1, -1, -1}, []int32{0, 1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			topic := w.topic("t")
			info := topicOf("t", 0, 1, 2, 3)
			for i, leader := range c.leaders {
				info.Partitions[i].Leader = leader
			}
			w.found(info)
			rt := topic.routes.Load()
			used := make(map[int32]bool)
			for range 200 {
				topic.sticky.shards[0].partition.Store(0)
				id, _ := topic.current(rt)
				used[id] = true
			}
			for id := range int32(4) {
				if used[id] != slices.Contains(c.want, id) {
					t.Errorf("partition %d was chosen: %v", id, used[id])
				}
			}
			for id := range int32(4) { // who sticks to a partition without a leader leaves it
				topic.sticky.shards[0].partition.Store(id + 1)
				now, _ := topic.current(rt)
				if stays := now == id; stays != slices.Contains(c.want, id) {
					t.Errorf("the choice of partition %d stays: %v", id, stays)
				}
			}
		})
	}
}

// TestStickyChoiceAvoidsBacklogs: of two partitions the one with less waiting is
// the likelier.
func TestStickyChoiceAvoidsBacklogs(t *testing.T) {
	w := newWorld(t)
	topic := w.sticks(0, 1)
	rt := topic.routes.Load()
	count := func() (n [2]int) {
		for range 4000 {
			n[topic.pick(rt, &topic.sticky.shards[0])]++
		}
		return n
	}
	if n := count(); n[0] < 1600 || n[1] < 1600 {
		t.Errorf("without backlogs: %v", n)
	}
	w.box(0).backlog = backlogUnitBytes - 1
	if n := count(); n[0] < 1600 || n[1] < 1600 {
		t.Errorf("with a small backlog: %v", n)
	}
	w.box(0).backlog = 10 * backlogUnitBytes
	if n := count(); n[0] > 1300 || n[0] < 700 {
		t.Errorf("with a large one, a quarter is expected to draw it twice: %v", n)
	}
}

// TestStickyShardsSpread: one avoids the partitions that others are on, as long
// as these have moved lately.
func TestStickyShardsSpread(t *testing.T) {
	w := newWorld(t)
	topic := w.sticks(0, 1, 2, 3)
	rt := topic.routes.Load()
	own, other := &topic.sticky.shards[0], &topic.sticky.shards[1]
	count := func() (n int) {
		for range 1000 {
			if topic.pick(rt, own) == 2 {
				n++
			}
		}
		return n
	}
	free := count()
	other.partition.Store(2 + 1)
	other.moved.Store(topic.sticky.moves.Add(1))
	taken := count()
	topic.sticky.moves.Add(staleMoves)
	stale := count()
	if free < 150 || stale < 150 || taken > free/4 {
		t.Errorf("chosen %d times of 1000 when free, %d when taken, %d when its shard is stale", free, taken, stale)
	}
}

// TestStickyDrawsAreSeeded: the same seed and name draw the same numbers, another
// name others; with one shard everybody has the same.
func TestStickyDrawsAreSeeded(t *testing.T) {
	draws := func(seedName, topic string) (list []uint64) {
		w := newWorld(t, func(s *messages.Settings, _ *Config) { s.Name = seedName })
		for range 5 {
			list = append(list, w.topic(topic).sticky.draw())
		}
		if w.topic(topic).shard() != &w.topic(topic).sticky.shards[0] {
			t.Error("not the first shard")
		}
		_ = system.Root.StopFuture(w.keeper).Wait()
		return list
	}
	a, again, other := draws("troupe/seeded", "t"), draws("troupe/seeded", "t"), draws("troupe/seeded", "u")
	if !slices.Equal(a, again) || slices.Equal(a, other) {
		t.Errorf("%v, %v, %v", a, again, other)
	}
}

// TestShardsTellGoroutinesApart most of the time.
func TestShardsTellGoroutinesApart(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.StickyShards = 0 })
	topic := w.topic("t")
	shards := make(chan *stickyShard)
	hold := make(chan struct{})
	const goroutines = 64
	for range goroutines {
		go func() {
			shards <- topic.shard()
			<-hold
		}()
	}
	seen := make(map[*stickyShard]bool)
	for range goroutines {
		seen[<-shards] = true
	}
	close(hold)
	if len(seen) < 3 {
		t.Errorf("%d goroutines share %d shards", goroutines, len(seen))
	}
}
