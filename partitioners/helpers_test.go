package partitioners

import (
	"math/rand/v2"
	"testing"
)

func seeded(seed uint64) Random { return rand.New(rand.NewPCG(seed, 1)) }

// topicOf describes a topic of n partitions, of which some have no leader.
func topicOf(topic string, n int, leaderless ...int32) *Input {
	in := &Input{Topic: topic, Message: &Message{Partition: -1}}
	for id := range int32(n) {
		p := Partition{ID: id, Leader: 1}
		for _, l := range leaderless {
			if l == id {
				p.Leader = -1
			}
		}
		in.Partitions = append(in.Partitions, p)
		if p.Leader >= 0 {
			in.Available = append(in.Available, id)
		}
	}
	return in
}

func withKey(in Input, key []byte) *Input {
	in.Message = &Message{Key: key, Partition: -1}
	return &in
}

// spread sends records without a key and counts where they went.
func spread(p Partitioner, in *Input, records int) map[int32]int {
	counts := map[int32]int{}
	for range records {
		counts[p.Partition(in)]++
	}
	return counts
}

func randomKeys(count, longest int) [][]byte {
	r := rand.New(rand.NewPCG(7, 7))
	keys := make([][]byte, count)
	for i := range keys {
		keys[i] = make([]byte, r.IntN(longest+1))
		for j := range keys[i] {
			keys[i][j] = byte(r.Uint32())
		}
	}
	return keys
}

var factories = map[string]Factory{
	"Default": Default, "JavaCompatible": JavaCompatible, "Legacy": Legacy, "RoundRobin": RoundRobin,
	"Sticky": Sticky, "ConsistentCRC32": ConsistentCRC32, "FNV1a": FNV1a, "Manual": Manual,
}

func wantCounts(t *testing.T, got, want map[int32]int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("spread %v, want %v", got, want)
	}
	for id, n := range want {
		if got[id] != n {
			t.Fatalf("spread %v, want %v", got, want)
		}
	}
}
