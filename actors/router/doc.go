// Package router is the way in: the protoactor Process that users send records
// to, and the actor that keeps its routing table.
//
// A record is routed on the caller's goroutine: topic and partition are looked
// up in an immutable table, the partition is chosen once, and the record is
// encoded straight into that partition's open batch. The actor changes the table
// when metadata changes, starts accumulators, and looks after the records of
// topics that nobody knows yet (parked, bounded, in order).
//
//	process.go  the Process: Produce and Delivered, Stop, Watch, and the tombstone
//	produce.go  the caller's path
//	sticky.go   the partition of records without a key
//	parking.go  records of unknown topics and partitions
//	drain.go    their way into partitions, when these are known
//	send.go     many records at once
//	state.go    what an answer of metadata makes of a topic's partitions
//	actor.go    the routing table
package router
