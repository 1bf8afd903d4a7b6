// Package model is a Kafka cluster as a pure state machine: brokers, a controller,
// logs with replicas, and what brokers know of producers. It is told the time, it
// starts nothing, it chooses nothing at random, and it moves only when a caller
// tells it to; the caller decides what happens when, and acts on the answers.
//
//	c := model.New(model.Config{Brokers: 3})
//	c.CreateTopic("orders", 6, 3, model.TopicConfig{MinInSync: 2})
//	c.Settle()                                // all brokers hear of it, all followers fetch
//	o := c.Produce(now, leader, &request)     // an answer, or a handle
//	c.Replicate(partition, follower, 1)       // the follower fetches a batch
//	for _, e := range c.Advance(now) { … }    // the answers that are due
//
// # What moves by itself, and what does not
//
// Nothing. The controller's changes (CreateTopic, Elect, Fence, …) stand in its log
// at once, and each broker acts on them when Learn lets it hear of them, in order:
// until then two brokers may both lead. Followers fetch by Replicate, one fetch a
// call; the leader learns what a fetch brought only by the next one. A fetch whose
// answer is long on its way is a Replicate at the time the leader served it. Leaders
// shrink the replicas in sync by ShrinkISR; replicas join by fetching. Requests
// time out by Advance. Expire, Save, Roll, Flush and DeleteSegments are the tasks
// that a broker runs now and then. Settle is for callers that do not care.
//
// # What is modelled
//
//   - the controller's metadata and every broker's belief of it; topic ids; creation,
//     also by a metadata request, deletion, creation again, more partitions,
//     reassignment; elections clean and unclean; fencing, controlled shutdown
//   - a log per replica: leader epochs, high watermark, start, segments, truncation
//     to where it parts from the leader's log, loss of what was not flushed
//   - Produce 3 to 13 with acks 0, 1 and all, requests that wait, their timeouts,
//     min.insync.replicas before and after the append, loss of leadership under a
//     request, leader hints (KIP-951), record errors (KIP-467), throttle time
//   - producers per replica: epoch, the last five batches, expiry, snapshots with the
//     last batch only, the state made anew after truncation, restart and crash
//   - the checks of a batch, in Kafka's order
//   - producer ids in blocks per broker
//
// # What is not
//
//   - transactions, quotas by rate, authorisation, several log directories (so no
//     KAFKA_STORAGE_ERROR), compaction, tiered storage
//   - eligible leader replicas (KIP-966): the last replica in sync stays in sync
//     when it is away, as before 4.1. It makes a difference only when all are away
//   - the content of a batch, but for what Batch says of it; a batch that a broker
//     compresses anew and that grows too large by it
//   - two parts of one request for the same partition: both are served here, in order
//
// # Where Kafka surprises
//
// The scripts in testdata run against this model and, by tests/kafka, against
// Kafka 4.3.1 and 3.9.2 in lockstep. What they agree on and few would guess:
//
//   - The two versions treat producers alike: a producer that nobody knows may begin
//     at any sequence. 4.5 will differ (V45).
//   - After a restart only the last batch of each producer is recognised, and a
//     kill -9 is no different from a clean stop: recovery writes a snapshot at the
//     log's end and then loads that. A follower that becomes leader without a
//     restart recognises all five.
//   - A duplicate passes every other check first. It is NOT_ENOUGH_REPLICAS,
//     CORRUPT_MESSAGE or MESSAGE_TOO_LARGE before it is a duplicate; only the range
//     of its sequences is compared, not its records; and with acks all it waits for
//     the replicas like a new one.
//   - The answer to a duplicate has the batch's own time as its log append time,
//     although the topic keeps the client's times.
//   - min.insync.replicas is looked at before anything in the batch.
//   - With fewer replicas in sync than that, the high watermark stays: what acks 1
//     appends then is not committed.
//   - Expiry counts from the time that the client gave to its last batch: records
//     that are old already are forgotten at the next check.
//   - DeleteRecords does not take producers from a running broker. A restart with an
//     empty log does. After a kill the log starts where the checkpoint file says, so
//     the deleted records are back.
//   - A batch that claims LogAppendTime is refused only by topics that are
//     LogAppendTime themselves.
//   - Produce by name finds the new topic of the name, which takes any sequence.
//
// The files: types.go what goes in and out; cluster.go brokers and their ends;
// controller.go who leads what; view.go what brokers believe; replica.go the log;
// producers.go what it remembers; validate.go and produce.go a request's way;
// replicate.go a follower's; ids.go producer ids; invariant.go what tests look at;
// history.go what was appended and what became of it;
// script.go and scripted.go the conformance scripts.
package model
