// Package partitioners chooses the partition of a record.
//
// Here live
//
//   - what a partitioner sees and answers: [Input], [Partitioner], [Func],
//     [Factory], and the two answers that are not partitions, [Unassigned] and
//     [Invalid];
//   - the choices of Java, KafkaJS, librdkafka and Sarama, so that records with
//     the same key meet in the same partition whichever client wrote them:
//     [Default], [JavaCompatible], [Legacy], [ConsistentCRC32], [FNV1a];
//   - the choices without a key: [RoundRobin], [Sticky], [Manual];
//   - the two hashes of keys, [Murmur2] and [LegacyMurmur2].
//
// What will never live here: the sticky choice itself (KIP-480, KIP-794), which
// needs the queues and clocks of the router and is asked for with [Unassigned];
// metadata and how it is refreshed; a goroutine, a clock, input or output, or a
// source of randomness of its own.
//
// # The order of choices
//
// A record that names its partition keeps it: the runtime looks at
// Message.Partition first and does not ask the partitioner, as in KafkaJS.
// Otherwise the partitioner is asked once per record. KafkaJS asks again on every
// retry; here a retry goes where the first attempt went, because idempotence
// numbers records per partition.
//
// # How partitioners are called
//
// One [Partitioner] serves a whole producer, on the goroutines of whoever sends:
// it must be safe for concurrent use. Those of this package do not lock and do
// not allocate, except for a topic's first record.
package partitioners
