// Package broker is one Kafka node: the broker actor, which owns everything that
// must survive a network failure (which partitions are ready, what is in
// flight), and its connection children, which own a socket each and fail at any
// time (the error kernel).
//
// A partition announces itself once (PartitionReady); a broker with a free slot
// takes the batches of the ready partitions in its own turn and writes one
// request for all of them. Answers are matched by correlation id and settled per
// batch. A request that is open for long has the leaders looked up, again and again.
// Beyond two requests in flight what becomes ready is gathered for a moment
// (turns.go). When a connection is lost, everything in flight on it is settled as
// lost; the supervision strategy only decides when to try again.
//
// What never happens here: a decision about a batch's fate (the accumulator's),
// a choice of partition, a wait.
package broker
