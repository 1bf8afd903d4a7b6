// Package codecs compresses and decompresses the records section of a batch.
//
// Here live
//
//   - [ID], the five numbers that a batch can name, and [Parse], their names;
//   - [Codec], the one interface a compression has to satisfy, and [New], which
//     makes Kafka's four at a level;
//   - [Registry], the immutable table from id to codec that a producer carries,
//     in which a user's own codec may stand in for any of the four.
//
// The work itself is done by github.com/klauspost/compress (gzip, snappy, zstd)
// and github.com/pierrec/lz4. What this package adds is what Kafka asks on top:
// the framing that Java reads, a bound on what a decoder may produce, levels with
// Java's numbers (KIP-390), and pools, so that a warm codec does not allocate.
//
// What will never live here: the layout of a batch (package protocol), the
// choice of when to compress or on which goroutine (the accumulator), a fifth
// codec (brokers know no other id), a goroutine, a clock, input or output.
//
// # How codecs are called
//
// Every method appends to the slice it is given and returns the result, as the
// builtin append does; source and destination must not overlap. Every codec of
// this package may be used by any number of goroutines at once. A decoder trusts
// nobody: any input gives bytes or an error, never a panic, and never more bytes
// than the caller allowed.
package codecs
