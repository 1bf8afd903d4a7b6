// Package troupe is a Kafka producer built as a troupe of actors.
//
//	p, err := troupe.New(troupe.WithBrokers("localhost:9092"))
//	if err != nil {
//		return err
//	}
//	defer p.Close(ctx)
//	results, err := p.Send(ctx, troupe.Send{Topic: "orders", Messages: []troupe.Message{{Key: key, Value: value}}})
//
// Send and SendBatch wait for their outcomes. Produce returns when the record is
// admitted, and its callback has the outcome later; TryProduce never waits; Flush
// waits for everything before it. NewIn puts the same producer into a caller's
// actor system, where actors send messages.Produce to Producer.PID.
//
// # Guarantees
//
// Every admitted record has exactly one outcome: persisted, not persisted, or
// possibly persisted, when a broker may have appended it and nobody can tell.
// With acks=all and idempotence, the default, no acknowledged record is lost or
// stands twice, and a partition holds its records in the order of admission,
// through any retry. A record's context and delivery timeout end that record
// alone. The caller may reuse every slice when a call returns.
//
// # When Kafka is down
//
// New needs no network. Records wait in a bounded buffer; when it is full,
// callers wait within their context, or get ErrBufferFull. Connections are made
// again with a growing, jittered delay, and what was in flight goes out again
// under the same sequence numbers.
//
// This package is the only one that users need beside partitioners, codecs and sasl;
// messages has the types that actors exchange. DESIGN.md tells how it works.
package troupe
