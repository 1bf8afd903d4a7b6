package partitioners

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// rotation hands out turns per topic: each topic has one counter, so that the
// records of one never shift the rotation of another (KafkaJS 1.x had one
// counter for all topics; per topic since 1.16).
//
// Reading is one atomic load, one map lookup and one atomic add. A topic's first
// record copies one shard of the map, under that shard's lock; the shards keep
// ten thousand topics from copying ten thousand entries each.
type rotation struct {
	start  uint32 // drawn once; every topic's start position derives from it
	seed   maphash.Seed
	shards [rotationShards]rotationShard
}

const rotationShards = 64 // a power of two

type rotationShard struct {
	topics atomic.Pointer[map[string]*turnCounter]
	grow   sync.Mutex // held by who adds a topic
}

// turnCounter has two cache lines to itself: busy topics must not slow each
// other, and processors fetch lines in pairs.
type turnCounter struct {
	n atomic.Uint32
	_ [124]byte
}

func newRotation(random Random) *rotation {
	// maphash's seed differs between processes and is not drawn from random. It
	// decides the shard only, which nobody can observe.
	r := &rotation{start: random.Uint32(), seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].topics.Store(&map[string]*turnCounter{})
	}
	return r
}

// next returns the topic's next turn, 0 to 2^31-1, after which it starts over at
// 0. It is safe for concurrent use; every turn is handed out once per round.
func (r *rotation) next(topic string) int32 {
	shard := &r.shards[maphash.String(r.seed, topic)&(rotationShards-1)]
	counter := (*shard.topics.Load())[topic]
	if counter == nil {
		counter = r.add(shard, topic)
	}
	return positive(int32(counter.n.Add(1)))
}

// add makes the topic's counter, unless another goroutine was faster. The start
// depends on the one number drawn and the topic's name, not on which topic came
// first, so that a simulation repeats whatever the order.
func (r *rotation) add(shard *rotationShard, topic string) *turnCounter {
	shard.grow.Lock()
	defer shard.grow.Unlock()
	old := *shard.topics.Load()
	if counter := old[topic]; counter != nil {
		return counter
	}
	counter := &turnCounter{}
	counter.n.Store(r.start ^ uint32(Murmur2([]byte(topic))))
	grown := make(map[string]*turnCounter, len(old)+1)
	maps.Copy(grown, old)
	grown[topic] = counter
	shard.topics.Store(&grown)
	return counter
}

// choose gives the next partition in turn: of those with a leader, or of all
// when none has one, as KafkaJS does. Without any partition it is [Invalid].
func (r *rotation) choose(in *Input) int32 {
	if n := len(in.Available); n > 0 {
		return in.Available[int(r.next(in.Topic))%n]
	}
	if n := len(in.Partitions); n > 0 {
		return in.Partitions[int(r.next(in.Topic))%n].ID
	}
	return Invalid
}
