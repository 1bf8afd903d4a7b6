// Package protocol is the hot half of the Kafka wire protocol: what is written
// and read for every batch of records.
//
// Here live
//
//   - the record batch, format 2: [AppendRecord], [PutBatchHeader],
//     [SealBatchCRC] to write one, [DecodeBatch] and [RecordIterator] to read it;
//   - Produce, versions 3 to 13: [ProduceEncoder] for the request, as a chain of
//     slices that never copies a batch, and [ProduceResponse] for the answer;
//   - the headers of requests and responses, for requests of any kind:
//     [AppendRequestHeader], [ResponseHeader];
//   - a check of the answers that kmsg decodes, which trusts what it reads:
//     [CheckControlResponse];
//   - the one table of Kafka's error codes and what each means for a producer:
//     [LookupError].
//
// What will never live here: input and output, a clock, a goroutine, a
// compression codec, a decision about retries. Functions take bytes and numbers
// and give back bytes and numbers, so a test needs no fake and a simulation
// needs no seam. Requests off the hot path (Metadata, InitProducerId, ...) are
// made with the kmsg module by the actors that send them; this package imports
// nothing but the standard library, and kmsg only in its tests, as the second
// opinion.
//
// # Two rules for readers of this code
//
// Encoders trust their caller: sizes, counts and versions come from our own
// code, and a violated precondition panics instead of producing a frame that a
// broker would misread. Decoders trust nobody: every length is checked against
// the bytes that are there before it is used, no memory is taken in proportion
// to a length that was only claimed, and all they can answer is a value or a
// [*DecodeError].
//
// Nothing here allocates once its buffers have grown to their working size;
// tests hold that at exactly zero.
package protocol
