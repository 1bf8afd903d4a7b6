// Package simulation runs producers, and whatever is built on them, on one
// goroutine, in virtual time, from one seed.
//
// The runtime is the real one: the same actors, mailboxes, boxes and budget that
// troupe.New starts, behind simulated seams. A seeded scheduler decides which
// runnable turn comes next, a virtual clock moves when nothing can run, and an
// in-memory network connects everything to a model of a Kafka cluster. What
// happens is hashed event by event: two runs of a seed are the same run.
//
// # A world of your own
//
//	w, err := simulation.NewWorld(simulation.Config{
//		Seed:   7,
//		Topics: []simulation.Topic{{Name: "orders", Partitions: 4}},
//		Faults: []simulation.Fault{{Kind: simulation.BrokerDown, At: simulation.Duration(time.Second), Target: "broker-2", For: simulation.Duration(time.Minute)}},
//	})
//	producer, err := w.Start("", troupe.WithDeliveryTimeout(5*time.Second))
//	w.Go(func() { meta, err := producer.Send(ctx, ...) })  // a caller that waits
//	pid, err := w.Spawn("service", ...)                    // an actor of yours
//	done, err := w.Until(time.Minute, func() bool { ... }) // runs it all
//	wrong := w.Close()
//
// Code in a world must not wait for the real one: no channels and no time.Sleep
// between turns, but Go, Sleep, After and messages; contexts with deadlines come
// from WithTimeout; chance comes from a source with a seed; and nothing may depend
// on the order of a map. Then Hash is the same for the same seed. Close a producer
// with World.Close or by stopping its PID. examples/simulation is a whole service.
//
// # The campaign
//
// Run makes one run of Troupe's own campaign: five kinds of callers, settings,
// cluster and faults drawn from a seed, or listed by a Plan. A run writes down its
// plan, and a run of the plan has the same hash. Shrink makes a failing plan small.
//
// What it does:
//
//   - the order of turns of all actors, timers, codecs, callbacks and sockets
//   - TryProduce from a turn, messages.Produce from an actor, Produce and Flush
//     from a caller that waits, Send and SendBatch with acks, codec and timeout of
//     their own; callbacks that are slow or panic, or call Send, Flush or Close;
//     contexts that end, are cancelled, or panic when they are asked; codecs that
//     take their time
//   - now and then, records of which a hundred do not fit into the buffer
//   - two topics, with the record's time or the broker's, and one that never exists
//   - a runtime that looks and tries again at once, or takes its time, or tries once
//     more and no more, and brokers that serve a request at once, or in a turn of
//     their own
//   - an hour without records, after which brokers have forgotten the producer
//   - sockets that are slow, cut, refused, that hang, that fail half-way through
//     a write, and whose last requests reach the broker after the client has sent
//     them again elsewhere; answers that arrive twice, and numbered requests that are
//     served twice
//   - followers that lag, leaders that wait for them, brokers that restart and
//     remember a producer's last batch, or nothing; unclean elections, which lose
//     what was acknowledged: of that is excused what the model says it has lost, at
//     the offset of its acknowledgement, and no more (order.go, numbers.go)
//   - records deleted from a log's beginning, batches that become too large,
//     partitions that are added, topics that are deleted or created by a request
//   - brokers with leaders that move, are isolated or are deposed and do not know;
//     stale metadata, brokers of different ages, upgrades one by one, outages, every
//     code of the error table as an answer
//   - topics that are deleted and created again; a wall clock that is set
//   - actors that panic, and producers that are ended in the middle of it all: by
//     their PID, or by Close with and without a deadline while callers go on
//
// What it does not:
//
//   - a crash under a partition's lock, in the middle of a change: the tests of
//     package accumulator tear states apart
//   - the memory model: turns run one after the other. What two processors can do
//     to each other is for the race detector and the tests against real brokers
//   - TLS, SASL, and real sockets
//
// # The files
//
// world.go puts a world together; scheduler.go, clock.go and parking.go are the
// seams, network.go the transport, trace.go the hash and the lines; cluster.go is
// all that the harness asks of a model of Kafka, and package model is that model:
// brokers.go says when brokers hear of things, followers.go when they fetch,
// serving.go and producing.go serve requests, strikes.go does what goes wrong, and
// reading.go reads the logs; fault.go, plan.go and injector.go are what goes
// wrong, shrink.go makes less of it; campaign.go, settings.go, load.go, workload.go
// and calls.go are the campaign, and reached.go what it must come to sometimes;
// checker.go, order.go and numbers.go judge a history, as a function of it, and so
// does judge_calls.go for the most part. estate.go is the memory that one run of
// the campaign leaves to the next.
package simulation
