// Package sequencer owns the producer's identity: its producer id and epoch.
//
// It asks a broker for an id when one is first needed, hands out a newer epoch
// to whoever has a gap in its sequence (KIP-360: the bump is local), and asks
// for a new id when the epochs are used up. An identity is never handed out
// twice as new. Numbering itself happens in the accumulators.
package sequencer
