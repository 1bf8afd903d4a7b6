// Package sim runs the whole producer on one goroutine, from one seed.
//
// The runtime is the real one: the same actors, mailboxes, boxes and budget that
// troupe.New starts, behind simulated seams. A seeded scheduler decides which
// runnable turn comes next, a virtual clock moves only when nothing can run, and
// an in-memory network connects the producer to a small model of a Kafka cluster
// that misbehaves as the seed tells it to. What happened is hashed message by
// message, so two runs of a seed can be compared: they must be the same run.
//
// What is simulated:
//
//   - the order of turns of all actors, timers, codecs, callbacks and sockets
//   - callers of all three kinds: TryProduce from a turn, messages.Produce from
//     an actor, and the blocking Produce from a coroutine
//   - sockets that are slow, cut, refused, that hang, that fail half-way through
//     a write, and whose last requests reach the broker after the client has
//     given them up
//   - three brokers with leaders that move, each with its own idea of who leads;
//     stale metadata, brokers that are down, leaders cut off from their
//     followers, whose appends are lost, slow brokers, brokers that never answer
//   - a topic that is deleted and created again
//   - actors that panic, and producers that are ended in the middle of it all
//   - the rules of the idempotent producer as a broker applies them: epoch, base
//     sequence, recognition of the last five batches
//   - Produce 3 to 13 and what belongs to them, through kmsg, which is written by
//     others
//
// What is not:
//
//   - replicas that lag or diverge: a record is in the one log of its partition
//     or it is not, and a follower that becomes leader knows all of it
//   - brokers that forget their producers, truncation of what was acknowledged
//   - sends that change acks or codec from one record to the next, acks 0, Flush
//     and Send, which are tested elsewhere
//   - partitions that are added
//   - the memory model: turns run one after the other. What two processors can do
//     to each other is for the race detector and the tests against real brokers
//   - TLS, SASL, and real sockets
//
// TestSeeds prints the command that replays a seed with a violation; its events
// then stand in a file, one line of JSON each:
//
//	go test ./tests/sim -run 'TestSeed$' -seed=7 -events=file.jsonl -runtimelog=log.txt
//
// The files: scheduler.go, clock.go and parking.go are the seams; network.go the
// transport; cluster.go and broker.go the model of Kafka; faults.go what goes
// wrong; workload.go who produces what; checker.go what must hold; trace.go the hash;
// world.go puts a run together.
package simulation
