// Package metadata is the refresher: it knows which topics matter, keeps one
// Metadata request in flight at the most, and publishes an immutable view of the
// cluster after each answer.
//
// It has no connection of its own: it asks a broker by message, another one
// after a failure, and the bootstrap addresses when no known broker answers
// (KIP-899). One answer alone does not make a topic gone, a leader epoch older or a
// past id of a topic the present one. It never routes a record and never talks to an accumulator.
package metadata
