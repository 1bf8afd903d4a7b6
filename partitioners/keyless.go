package partitioners

// RoundRobin ignores keys: every record goes to the next partition that has a
// leader, per topic, from a random start. Without any leader it rotates over all
// partitions. It is Java's RoundRobinPartitioner in effect.
func RoundRobin(random Random) Partitioner {
	return Func(newRotation(random).choose)
}

// Sticky ignores keys and leaves every record to the runtime's sticky choice
// (KIP-480, KIP-794; partitioner.ignore.keys=true in Java): the fullest batches,
// no order between the records of a key. It draws nothing from random.
func Sticky(Random) Partitioner {
	return Func(func(*Input) int32 { return Unassigned })
}

// Manual takes the partition that the record names, and only that: without one,
// or with one below 0, the answer is [Invalid] and the record fails. It guards a
// program that places every record itself against one it forgot. It draws nothing
// from random.
func Manual(Random) Partitioner {
	return Func(func(in *Input) int32 {
		if in.Message.Partition < 0 {
			return Invalid
		}
		return in.Message.Partition
	})
}
