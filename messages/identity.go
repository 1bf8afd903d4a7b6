package messages

// NoProducerID marks the absence of a producer id, as on the wire.
const NoProducerID int64 = -1

// Identity is who the broker thinks numbered batches come from: a producer id
// and an epoch (KIP-98, KIP-360).
type Identity struct {
	ProducerID int64
	Epoch      int16
	// Generation orders identities: the sequencer counts what it hands out, from
	// 1. It is local and never on the wire. Producer ids cannot say which of two
	// is newer, since each broker gives them out of a block of its own.
	Generation int64
}

// Known reports whether the sequencer has an identity at all. The zero value is
// none: producer id 0 with epoch 0 is somebody only with a generation.
func (i Identity) Known() bool { return i.ProducerID != NoProducerID && i != Identity{} }

// Newer reports whether i was handed out after o. Every identity is newer than
// none; none is newer than nothing.
func (i Identity) Newer(o Identity) bool {
	return i.Known() && (!o.Known() || i.Generation > o.Generation)
}

// NoIdentity is the identity of unnumbered batches.
var NoIdentity = Identity{ProducerID: NoProducerID, Epoch: -1}

// NeedIdentity asks the sequencer for a producer id; a broker sends it when a
// partition cannot be numbered without one.
type NeedIdentity struct{}

// BumpEpoch asks the sequencer for an identity newer than After: a partition
// has a gap in its sequence and nothing of it is in flight.
type BumpEpoch struct{ After Identity }

// IdentityChanged is the sequencer's answer to both, sent to every broker. An
// older one than the broker has changes nothing.
type IdentityChanged struct{ Identity Identity }

// ProducerFailed says that no record can be delivered any more: the cluster
// refuses this producer. Every record unanswered is answered with Err.
type ProducerFailed struct{ Err error }

// LastSequence is where a partition's numbering stood when its accumulator
// ended.
type LastSequence struct {
	Identity Identity
	// Next is the sequence of the next record.
	Next int32
	// Gap says that the numbering cannot go on under Identity.
	Gap bool
}

// Sequences is the sequencer's ledger: the last sequence of every partition that
// was ever numbered outlives its accumulator. It may be used from any actor.
type Sequences interface {
	Keep(topic string, id [16]byte, partition int32, last LastSequence)
	Recall(topic string, id [16]byte, partition int32) (LastSequence, bool)
}
