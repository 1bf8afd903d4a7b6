// Package accumulator is one topic-partition: the batch that grows, the batches
// that wait, the ones in flight, their sequence numbers, retries, deadlines and
// answers.
//
// It has three parts. State decides (state.go, take.go, settle.go, expiry.go,
// split.go, cut.go, pack.go, evacuate.go, unsettled.go, states.go): pure, told the time,
// leaving its effects in a value. Box holds the State under a lock and is also
// the actor's mailbox, so that it outlives every incarnation of the actor. Actor
// is the incarnation: stateless, woken by events, never by a record.
//
// Records come in on the caller's goroutine (Box.Append); batches go out in the
// broker's turn (Box.Take); answers come back as results that the actor's turn
// settles and hands to the completion lane, where the user's callbacks run. Lingers
// is one line and one timer for the open batches of all partitions.
//
// What never happens here: I/O, a choice of partition, a wait.
package accumulator
