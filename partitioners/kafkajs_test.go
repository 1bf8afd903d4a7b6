package partitioners

import (
	"slices"
	"testing"
)

// TestKafkaJSChecklist has one subtest per line of KafkaJS's partitioner tests,
// by its text. Not here: "explicit partition 99 returned" and "explicit 0 returned
// over key" are the runtime's, which honours Message.Partition before it asks;
// "numeric key" has no counterpart, because a key is bytes ("0" stands in the
// vectors); "randomBytes" is JavaScript's own.
func TestKafkaJSChecklist(t *testing.T) {
	for name, factory := range map[string]Factory{"JavaCompatible": JavaCompatible, "Legacy": Legacy} {
		t.Run(name, func(t *testing.T) {
			t.Run("same key same partition", func(t *testing.T) {
				p := factory(seeded(1))
				for _, in := range []*Input{topicOf("t", 3), topicOf("t", 3, 1), topicOf("u", 3)} {
					for _, key := range []string{"test-key", "", "1"} {
						want := p.Partition(withKey(*topicOf("t", 3), []byte(key)))
						for range 5 {
							if got := p.Partition(withKey(*in, []byte(key))); got != want {
								t.Fatalf("key %q went to %d, then to %d", key, want, got)
							}
						}
					}
				}
			})
			t.Run("round-robin with an unavailable partition: 100 messages split exactly 50/50 over the other two", func(t *testing.T) {
				wantCounts(t, spread(factory(seeded(2)), topicOf("t", 3, 1), 100), map[int32]int{0: 50, 2: 50})
			})
			t.Run("round-robin 30 over 3 = 10 each", func(t *testing.T) {
				wantCounts(t, spread(factory(seeded(3)), topicOf("t", 3), 30), map[int32]int{0: 10, 1: 10, 2: 10})
			})
			t.Run("per-topic round robin 15/15", func(t *testing.T) {
				// With one counter for both, every topic would see one partition only.
				p := factory(seeded(4))
				a, b := topicOf("a", 2), topicOf("b", 2)
				got := map[string]map[int32]int{"a": {}, "b": {}}
				for range 30 {
					got["a"][p.Partition(a)]++
					got["b"][p.Partition(b)]++
				}
				wantCounts(t, got["a"], map[int32]int{0: 15, 1: 15})
				wantCounts(t, got["b"], map[int32]int{0: 15, 1: 15})
			})
			t.Run("murmur2 vectors", func(t *testing.T) {
				p := factory(seeded(5))
				for _, v := range vectors {
					want := v.java
					if name == "Legacy" {
						want = v.legacy
					}
					if got := p.Partition(withKey(*topicOf("t", 1000), []byte(v.key))); got != (want&0x7fffffff)%1000 {
						t.Errorf("%q went to %d", v.key, got)
					}
				}
			})
			t.Run("Buffer key", func(t *testing.T) {
				p, raw := factory(seeded(6)), []byte{0xff, 0xfe, 0x00, 0x80}
				in := withKey(*topicOf("t", 12), raw)
				if a, b := p.Partition(in), p.Partition(withKey(*in, slices.Clone(raw))); a != b {
					t.Errorf("equal bytes went to %d and %d", a, b)
				}
				if string(raw) != "\xff\xfe\x00\x80" {
					t.Error("the key was changed")
				}
			})
			t.Run("key to a leaderless partition stays there", func(t *testing.T) {
				p := factory(seeded(7))
				in := withKey(*topicOf("t", 3), []byte("key1"))
				want := p.Partition(in)
				if got := p.Partition(withKey(*topicOf("t", 3, want), []byte("key1"))); got != want {
					t.Errorf("moved from %d to %d", want, got)
				}
			})
			t.Run("no leader at all: rotates over all", func(t *testing.T) {
				wantCounts(t, spread(factory(seeded(8)), topicOf("t", 3, 0, 1, 2), 30), map[int32]int{0: 10, 1: 10, 2: 10})
			})
		})
	}
}
