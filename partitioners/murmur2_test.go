package partitioners

import (
	"math/big"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// vectors are keys with KafkaJS's legacy hash and Java's. The rows up to
// "100:48069" are in KafkaJS's own tests (Java's in Apache Kafka's as well); the
// others were made by running both implementations of KafkaJS.
var vectors = []struct {
	key          string
	legacy, java int32
}{
	{"", 275646684, 275646681}, {"0", 272173970, 971027396}, {"1", 1311020360, -1993445489},
	{"128", 2053105854, -326012175}, {"2187", -2081355488, -1508407203}, {"16384", 204404061, -325739742},
	{"78125", -677491393, -1654490814}, {"279936", -622460209, 1462227128}, {"823543", 651276451, -2014198330},
	{"2097152", 944683677, 607668903}, {"4782969", -892695770, -1182699775}, {"10000000", -1778616326, -1830336757},
	{"19487171", -518311627, -1603849305}, {"35831808", 556972389, -857013643}, {"62748517", -233806557, -1167431028},
	{"105413504", -109398538, -381294639}, {"170859375", 102939717, -1658323481}, {"100:48069", 1713501762, 1009543857},
	{"21", -595812486, -973932308}, {"foobar", -309133275, -790332482}, {"abc", 1545667907, 479470107},
	{"a-little-bit-long-string", 2065008938, -985981536}, {"a-little-bit-longer-string", -1016907723, -1486304829},
	{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 1360862267, -58897971},
	{"key1", 1297210530, 28543940}, {"key2", -1444002338, 1674751211}, {"my-key", -975751251, 1748425209},
	{"test-key", 198649774, -1341026247}, {"héllo", -125169513, 614509002}, {"日本語", 511316724, 1431860170},
	{"😀", -395534246, 131881617},
}

// rows are keys with the number of partitions and both partitions.
var rows = []struct {
	key             string
	n, legacy, java int
}{
	{"key1", 3, 0, 2}, {"key1", 4, 2, 0}, {"key1", 6, 0, 2}, {"key1", 12, 6, 8},
	{"key2", 3, 0, 2}, {"key2", 4, 2, 3}, {"key2", 6, 0, 5}, {"key2", 12, 6, 11},
	{"foobar", 3, 2, 0}, {"foobar", 4, 1, 2}, {"foobar", 6, 5, 0}, {"foobar", 12, 5, 6},
	{"1", 3, 2, 0}, {"1", 4, 0, 3}, {"1", 6, 2, 3}, {"1", 12, 8, 3},
	{"0", 3, 2, 2}, {"0", 4, 2, 0}, {"0", 12, 2, 8},
	{"", 3, 0, 0}, {"", 4, 0, 1}, {"", 12, 0, 9},
}

func TestMurmur2Vectors(t *testing.T) {
	for _, v := range vectors {
		if got := Murmur2([]byte(v.key)); got != v.java {
			t.Errorf("Murmur2(%q) = %d, want %d", v.key, got, v.java)
		}
		if got := LegacyMurmur2([]byte(v.key)); got != v.legacy {
			t.Errorf("LegacyMurmur2(%q) = %d, want %d", v.key, got, v.legacy)
		}
	}
	if Murmur2(nil) != Murmur2([]byte{}) || LegacyMurmur2(nil) != LegacyMurmur2([]byte{}) {
		t.Error("nil does not hash as empty")
	}
}

func TestPartitionRows(t *testing.T) {
	legacy, java, def := Legacy(seeded(1)), JavaCompatible(seeded(1)), Default(seeded(1))
	for _, r := range rows {
		in := withKey(*topicOf("t", r.n), []byte(r.key))
		if got := legacy.Partition(in); got != int32(r.legacy) {
			t.Errorf("Legacy %q of %d = %d, want %d", r.key, r.n, got, r.legacy)
		}
		for name, p := range map[string]Partitioner{"JavaCompatible": java, "Default": def} {
			if got := p.Partition(in); got != int32(r.java) {
				t.Errorf("%s %q of %d = %d, want %d", name, r.key, r.n, got, r.java)
			}
		}
	}
}

// TestFranzPlacesKeysAlike asks another client where it would put random keys.
func TestFranzPlacesKeysAlike(t *testing.T) {
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	ours := Default(seeded(1))
	for _, n := range []int{1, 2, 3, 7, 12, 100} {
		in := topicOf("t", n)
		for _, key := range randomKeys(500, 70) {
			want := theirs.Partition(&kgo.Record{Key: key}, n)
			if got := ours.Partition(withKey(*in, key)); got != int32(want) {
				t.Fatalf("%x of %d: %d, franz-go says %d", key, n, got, want)
			}
		}
	}
}

// bigMurmur2 is MurmurHash2 in numbers without a width, cut to 32 bits after
// every step, one byte at a time: slow, and nothing like the code it checks.
func bigMurmur2(key []byte) int32 {
	modulus := new(big.Int).Lsh(big.NewInt(1), 32)
	mul := func(a *big.Int) *big.Int {
		return new(big.Int).Mod(new(big.Int).Mul(a, big.NewInt(1540483477)), modulus)
	}
	shiftXor := func(a *big.Int, by uint) *big.Int {
		return new(big.Int).Xor(a, new(big.Int).Rsh(a, by))
	}
	word := func(part []byte) *big.Int {
		sum := new(big.Int)
		for i, b := range part {
			sum.Add(sum, new(big.Int).Lsh(big.NewInt(int64(b)), uint(8*i)))
		}
		return sum
	}
	h := new(big.Int).Xor(big.NewInt(2538058380), big.NewInt(int64(len(key))))
	full := len(key) - len(key)%4
	for i := 0; i < full; i += 4 {
		k := mul(shiftXor(mul(word(key[i:i+4])), 24))
		h = new(big.Int).Xor(mul(h), k)
	}
	if full < len(key) {
		h = mul(new(big.Int).Xor(h, word(key[full:])))
	}
	h = shiftXor(mul(shiftXor(h, 13)), 15)
	return int32(uint32(h.Uint64()))
}

// bigLegacy is the recipe of KafkaJS 1.x: products rounded to 53 bits, by big's
// own rounding, and a main loop that runs on the padded tail too.
func bigLegacy(key []byte) int32 {
	mul := func(a int32) int32 {
		p := new(big.Float).SetPrec(53).SetMode(big.ToNearestEven)
		p.Mul(big.NewFloat(float64(a)), big.NewFloat(1540483477))
		whole, _ := p.Int(nil)
		return int32(uint32(new(big.Int).And(whole, big.NewInt(0xffffffff)).Uint64()))
	}
	shiftXor := func(a int32, by uint) int32 { return a ^ int32(uint32(a)>>by) }
	seed := uint32(2538058380)
	h := int32(seed ^ uint32(len(key)))
	at := func(i int) uint32 {
		if i < len(key) {
			return uint32(key[i])
		}
		return 0
	}
	for i := 0; i*4 < len(key); i++ {
		k := int32(at(4*i) | at(4*i+1)<<8 | at(4*i+2)<<16 | at(4*i+3)<<24)
		h = mul(h) ^ mul(shiftXor(mul(k), 24))
	}
	if tail := len(key) % 4; tail > 0 {
		base := len(key) - tail
		h = mul(h ^ int32(at(base)|at(base+1)<<8|at(base+2)<<16))
	}
	return shiftXor(mul(shiftXor(h, 13)), 15)
}

func FuzzMurmur2(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.key))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, key []byte) {
		if got, want := Murmur2(key), bigMurmur2(key); got != want {
			t.Errorf("Murmur2(%x) = %d, want %d", key, got, want)
		}
		if got, want := LegacyMurmur2(key), bigLegacy(key); got != want {
			t.Errorf("LegacyMurmur2(%x) = %d, want %d", key, got, want)
		}
	})
}

func TestMurmur2AgainstSlow(t *testing.T) {
	for _, key := range randomKeys(3000, 66) {
		if got, want := Murmur2(key), bigMurmur2(key); got != want {
			t.Fatalf("Murmur2(%x) = %d, want %d", key, got, want)
		}
		if got, want := LegacyMurmur2(key), bigLegacy(key); got != want {
			t.Fatalf("LegacyMurmur2(%x) = %d, want %d", key, got, want)
		}
	}
}

func BenchmarkMurmur2(b *testing.B) {
	key := []byte("user-0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		Murmur2(key)
	}
}
