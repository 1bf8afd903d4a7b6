package partitioners

import "hash/crc32"

// byHash places a key by a hash of Kafka's kind. The remainder is the partition's
// ID itself, leader or not, as in Java and KafkaJS: a key must not move because
// of an election.
func byHash(hash int32, in *Input) int32 {
	n := len(in.Partitions)
	if n == 0 {
		return Invalid
	}
	return positive(hash) % int32(n)
}

// Default is the choice of Java's producer (KIP-480, KIP-794): the [Murmur2] of
// the key over all partitions for a record with a key, an empty one included;
// [Unassigned], the sticky choice, for one without. It draws nothing from random.
func Default(Random) Partitioner {
	return Func(func(in *Input) int32 {
		if in.Message.Key == nil {
			return Unassigned
		}
		return byHash(Murmur2(in.Message.Key), in)
	})
}

// JavaCompatible is KafkaJS's partitioner of that name, its default since 2.0:
// keys as [Default] places them, records without a key one by one in rotation
// over the partitions that have a leader, per topic, from a random start. Rotation
// gives more and smaller batches than [Default] does.
func JavaCompatible(random Random) Partitioner {
	turns := newRotation(random)
	return Func(func(in *Input) int32 {
		if in.Message.Key == nil {
			return turns.choose(in)
		}
		return byHash(Murmur2(in.Message.Key), in)
	})
}

// Legacy is the default partitioner of KafkaJS 1.x, LegacyPartitioner in 2.x:
// [LegacyMurmur2] for keys, rotation as in [JavaCompatible] without. Choose it to
// keep the keys of topics that such a producer filled where they are.
func Legacy(random Random) Partitioner {
	turns := newRotation(random)
	return Func(func(in *Input) int32 {
		if in.Message.Key == nil {
			return turns.choose(in)
		}
		return byHash(LegacyMurmur2(in.Message.Key), in)
	})
}

// ConsistentCRC32 is librdkafka's default, consistent_random: the key's CRC-32
// (IEEE), unsigned, modulo the number of all partitions. A record whose key is
// nil or empty has no key to librdkafka and gets [Unassigned]: its spread is
// random or sticky there, by configuration, and the runtime's here. It draws
// nothing from random.
func ConsistentCRC32(Random) Partitioner {
	return Func(func(in *Input) int32 {
		if len(in.Message.Key) == 0 {
			return Unassigned
		}
		n := len(in.Partitions)
		if n == 0 {
			return Invalid
		}
		return int32(crc32.ChecksumIEEE(in.Message.Key) % uint32(n))
	})
}

// FNV1a is Sarama's default hash partitioner: the key's 32-bit FNV-1a, taken as a
// signed number, modulo the number of all partitions, without its sign. A record
// without a key, which Sarama places at random, gets [Unassigned]; an empty key
// is a key. It draws nothing from random.
func FNV1a(Random) Partitioner {
	return Func(func(in *Input) int32 {
		if in.Message.Key == nil {
			return Unassigned
		}
		n := int32(len(in.Partitions))
		if n == 0 {
			return Invalid
		}
		// The sign goes after the remainder, not before: for half of all hashes
		// that is another partition than Kafka's mask would give.
		p := int32(fnv1a(in.Message.Key)) % n
		if p < 0 {
			p = -p
		}
		return p
	})
}

// fnv1a is hash/fnv's New32a without its allocation.
func fnv1a(key []byte) uint32 {
	const (
		offset = 2166136261
		prime  = 16777619
	)
	h := uint32(offset)
	for _, b := range key {
		h = (h ^ uint32(b)) * prime
	}
	return h
}
