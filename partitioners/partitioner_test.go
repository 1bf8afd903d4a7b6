package partitioners

import (
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestWithoutAKey(t *testing.T) {
	in := topicOf("t", 3)
	for _, name := range []string{"Default", "Sticky", "ConsistentCRC32", "FNV1a"} {
		if got := factories[name](seeded(1)).Partition(in); got != Unassigned {
			t.Errorf("%s = %d, want Unassigned", name, got)
		}
	}
}

func TestAnEmptyKeyIsAKey(t *testing.T) {
	in := withKey(*topicOf("t", 7), []byte{})
	for name, want := range map[string]int32{
		"Default":        275646681 % 7,
		"JavaCompatible": 275646681 % 7,
		"Legacy":         275646684 % 7,
		// FNV-1a of nothing is its offset basis, which is negative as an int32.
		"FNV1a": (1<<32 - 2166136261) % 7,
		// To librdkafka it is none.
		"ConsistentCRC32": Unassigned,
		"Sticky":          Unassigned,
	} {
		if got := factories[name](seeded(1)).Partition(in); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

func TestNoPartitions(t *testing.T) {
	keyed := withKey(Input{Topic: "t"}, []byte("k"))
	for name, factory := range factories {
		want := Invalid
		if name == "Sticky" {
			want = Unassigned
		}
		if got := factory(seeded(1)).Partition(keyed); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

// TestConsistentCRC32 uses CRC-32's published check values, then franz-go's own
// imitation of librdkafka.
func TestConsistentCRC32(t *testing.T) {
	p := ConsistentCRC32(seeded(1))
	for key, hash := range map[string]uint32{
		"123456789": 0xcbf43926, "a": 0xe8b7be43, "abc": 0x352441c2,
		"The quick brown fox jumps over the lazy dog": 0x414fa339,
	} {
		for _, n := range []uint32{1, 3, 16, 100} {
			if got := p.Partition(withKey(*topicOf("t", int(n)), []byte(key))); got != int32(hash%n) {
				t.Errorf("%q of %d = %d, want %d", key, n, got, hash%n)
			}
		}
	}
	// franz-go calls int(hash) % n, on 64 bits, SaramaHasher; with CRC-32 that is
	// librdkafka's formula.
	theirs := kgo.SaramaHasher(crc32.ChecksumIEEE)
	for _, key := range randomKeys(1000, 40) {
		if len(key) == 0 {
			continue
		}
		if got, want := p.Partition(withKey(*topicOf("t", 13), key)), theirs(key, 13); got != int32(want) {
			t.Fatalf("%x: %d, want %d", key, got, want)
		}
	}
}

func TestFNV1a(t *testing.T) {
	p := FNV1a(seeded(1))
	// Published FNV-1a values; the first two are negative as an int32.
	for key, hash := range map[string]uint32{"a": 0xe40c292c, "foobar": 0xbf9cf968, "b": 0xe70c2de5} {
		if got := fnv1a([]byte(key)); got != hash {
			t.Errorf("fnv1a(%q) = %#x, want %#x", key, got, hash)
		}
	}
	theirs := kgo.SaramaCompatHasher(func(key []byte) uint32 {
		h := fnv.New32a()
		_, _ = h.Write(key)
		return h.Sum32()
	})
	masked := 0
	for _, n := range []int{1, 2, 3, 12, 50} {
		for _, key := range randomKeys(500, 40) {
			got := p.Partition(withKey(*topicOf("t", n), key))
			if want := theirs(key, n); got != int32(want) {
				t.Fatalf("%x of %d: %d, want %d", key, n, got, want)
			}
			if got != positive(int32(fnv1a(key)))%int32(n) {
				masked++
			}
		}
	}
	if masked == 0 {
		t.Error("no key tells Sarama's sign rule from Kafka's: the test is blind")
	}
}

func TestRoundRobinIgnoresKeys(t *testing.T) {
	in := withKey(*topicOf("t", 4, 2), []byte("same"))
	wantCounts(t, spread(RoundRobin(seeded(1)), in, 30), map[int32]int{0: 10, 1: 10, 3: 10})
}

func TestStickyIgnoresKeys(t *testing.T) {
	if got := Sticky(seeded(1)).Partition(withKey(*topicOf("t", 4), []byte("k"))); got != Unassigned {
		t.Errorf("got %d", got)
	}
}

func TestManual(t *testing.T) {
	p, in := Manual(seeded(1)), topicOf("t", 4)
	for named, want := range map[int32]int32{0: 0, 3: 3, 99: 99, -1: Invalid, -2: Invalid, -9: Invalid} {
		in.Message.Partition = named
		if got := p.Partition(in); got != want {
			t.Errorf("named %d = %d, want %d", named, got, want)
		}
	}
}

func TestFunc(t *testing.T) {
	var p Partitioner = Func(func(in *Input) int32 { return in.Partitions[1].ID })
	if got := p.Partition(topicOf("t", 2)); got != 1 {
		t.Errorf("got %d", got)
	}
}

// TestRotationRepeats: the same seed gives the same choices, whatever the order in
// which topics appear; another seed starts elsewhere.
func TestRotationRepeats(t *testing.T) {
	first := func(seed uint64, topics ...string) map[string]int32 {
		p, starts := RoundRobin(seeded(seed)), map[string]int32{}
		for _, topic := range topics {
			starts[topic] = p.Partition(topicOf(topic, 1000))
		}
		return starts
	}
	a, b, other := first(1, "x", "y", "z"), first(1, "z", "x", "y"), first(2, "x", "y", "z")
	same := 0
	for topic := range a {
		if a[topic] != b[topic] {
			t.Errorf("%s starts at %d and at %d", topic, a[topic], b[topic])
		}
		if a[topic] == other[topic] {
			same++
		}
	}
	if same == len(a) {
		t.Error("another seed made the same choices")
	}
	if a["x"] == a["y"] && a["y"] == a["z"] {
		t.Error("all topics start at the same place")
	}
}

type fixed uint32

func (f fixed) Uint32() uint32 { return uint32(f) }

// TestRotationWraps passes the counter's end: the sign bit must never show.
func TestRotationWraps(t *testing.T) {
	for _, end := range []uint32{1<<31 - 3, 1<<32 - 3} {
		p := RoundRobin(fixed(end ^ uint32(Murmur2([]byte("t")))))
		in := topicOf("t", 4) // 4 divides 2^31, so the rotation stays even
		wantCounts(t, spread(p, in, 40), map[int32]int{0: 10, 1: 10, 2: 10, 3: 10})
	}
}

// TestRotationIsExactUnderConcurrency: no turn is lost or given twice, and topics
// that appear at the same moment do not lose each other.
func TestRotationIsExactUnderConcurrency(t *testing.T) {
	const goroutines, topics, rounds = 8, 300, 30
	p := RoundRobin(seeded(1))
	ins := make([]*Input, topics)
	for i := range ins {
		ins[i] = topicOf(fmt.Sprint("topic-", i), 3)
	}
	counts := make([][topics][3]int, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range rounds {
				for i := range ins {
					counts[g][i][p.Partition(ins[i])]++
				}
			}
		})
	}
	wg.Wait()
	for i := range topics {
		for id := range 3 {
			sum := 0
			for g := range goroutines {
				sum += counts[g][i][id]
			}
			if sum != goroutines*rounds/3 {
				t.Fatalf("topic %d partition %d got %d of %d", i, id, sum, goroutines*rounds)
			}
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	for name, factory := range factories {
		p := factory(seeded(1))
		keyed, plain := withKey(*topicOf("t", 12), []byte("user-0123456789")), topicOf("t", 12)
		p.Partition(plain) // a topic's first record may
		if n := testing.AllocsPerRun(100, func() { p.Partition(keyed); p.Partition(plain) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkPartition(b *testing.B) {
	for _, name := range []string{"Default", "Legacy", "RoundRobin"} {
		p := factories[name](seeded(1))
		in := withKey(*topicOf("topic", 12), []byte("user-0123456789"))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Partition(in)
			}
		})
	}
}
