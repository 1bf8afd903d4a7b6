// Package messages is where the actors of the troupe meet: every message that
// one of them sends to another, the types that users and actors share (Record,
// Delivery, errors), and the narrow interfaces through which a partition's box
// is seen from the router and from its broker.
//
// Commands are named in the imperative (RefreshMetadata), events in the past
// tense (ConnectionLost). One file per conversation:
//
//	record.go    user ↔ router: Produce, Delivered, Writable; Record, Delivery
//	errors.go    the errors a user can meet, and whether a record was persisted
//	route.go     router → accumulator: Admission, Appender; starting one
//	flush.go     whoever waits for batches: FlushWaiter
//	batch.go     accumulator ↔ broker: PartitionReady, Take, Settle
//	cluster.go   metadata → root → router: ClusterView, RoutesChanged
//	control.go   metadata, sequencer → root → broker: ControlRequest, ControlResponse
//	question.go  what any broker can answer, and the hedge of whoever asks
//	identity.go  sequencer ↔ everyone: producer id and epoch
//	connection.go  connection → broker: ConnectionUp, ConnectionLost
//	lifecycle.go the end of a producer: BeginClose, CloseNow; Crashed; ForRouter
//	settings.go  what every actor is configured with, checked before it gets here
//	retry.go     the one retry policy
//	watch.go     accumulator → whoever watches: states of a partition, steps of a batch
//	log_gate.go  one line of one cause, however often and wherever it happens
//
// Nothing here acts: no goroutine, no I/O, no clock. The gate alone has a timer and
// writes, by way of what it is given.
package messages
