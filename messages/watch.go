package messages

import (
	"strconv"

	"github.com/troupe-kafka/troupe/protocol"
)

// PartitionWatcher is a seams.Tracer that also wants to know what partitions go
// through. A simulation counts what it has reached.
type PartitionWatcher interface {
	// PartitionStepped says in which states a partition was before a step and is after
	// it, what became of its batches, and what the answers to them asked for.
	PartitionStepped(before, after PartitionStates, went BatchSteps, took Actions)
}

// DecisionWatcher is a seams.Tracer that hears of steps in the middle of a decision of
// the actor at path: of a partition's under its lock, and in whoever's turn that is. It
// may panic there, as a bug would, and must do nothing else.
type DecisionWatcher interface {
	Decides(path, step string)
}

// Decisions is what an actor tells of its steps; nil: nobody hears it.
type Decisions func(step string)

// At says that a decision is half-way through, and may panic.
func (d Decisions) At(step string) {
	if d != nil {
		d(step)
	}
}

// DecisionsOf returns who hears of the decisions of the actor at path.
func (s *Settings) DecisionsOf(path string) Decisions {
	if w, ok := s.Tracer.(DecisionWatcher); ok {
		return func(step string) { w.Decides(path, step) }
	}
	return nil
}

// PartitionState is one of the states of a partition, of which several can hold at
// once (DESIGN.md, The states of a partition).
type PartitionState uint8

// The states.
const (
	StateEmpty PartitionState = iota
	StateFilling
	StateCompressing
	StateReady
	StateLeaderless
	StateWaiting
	StateOneInFlight
	StateForgotten // one in flight, since a broker may have forgotten the producer
	StatePipelined
	StateInDoubt
	StateGap
	StateSlow
	StateSmall
	StateSuspect
	StateRetired
	StateClosed
	StateCount
)

var partitionStates = [StateCount]string{
	"empty", "filling", "compressing", "ready", "leaderless", "waiting", "one in flight", "forgotten", "pipelined", "in doubt", "gap", "slow",
	"small", "suspect", "retired", "closed",
}

// String returns the state as DESIGN.md has it.
func (s PartitionState) String() string {
	if s >= StateCount {
		return "PartitionState(" + strconv.Itoa(int(s)) + ")"
	}
	return partitionStates[s]
}

// PartitionStates is a set of states.
type PartitionStates uint32

// With returns the set with a state, if that holds.
func (s PartitionStates) With(state PartitionState, holds bool) PartitionStates {
	if holds {
		return s | 1<<state
	}
	return s
}

// Has reports whether a state is in the set.
func (s PartitionStates) Has(state PartitionState) bool { return s>>state&1 != 0 }

// BatchStep is what can become of a batch between its first record and its
// settlement.
type BatchStep uint8

// The steps.
const (
	BatchSealed      BatchStep = iota
	BatchCut                   // records were taken out before the hand-over
	BatchNumbered              // it was given its sequence
	BatchHandedOver            // to a broker
	BatchTakenBack             // the leader moved
	BatchLost                  // no answer came
	BatchAgain                 // back in line under its number
	BatchLostNumber            // its sequence broke
	BatchSplit                 // too large
	BatchCarved                // without the records that the broker named
	BatchOrphaned              // it travels on without a record that waits for it
	BatchEvacuated             // its records go to the topic that was created again
	BatchNewIdentity           // its partition begins a new epoch with it
	BatchSucceeded
	BatchRecognised // a success of which the offset is not known
	BatchFailed
	BatchStepCount
)

var batchSteps = [BatchStepCount]string{
	"sealed", "cut", "numbered", "handed over", "taken back", "lost", "again", "lost its number", "split", "carved", "orphaned", "evacuated",
	"new identity", "succeeded", "recognised", "failed",
}

// String returns the step's name.
func (s BatchStep) String() string {
	if s >= BatchStepCount {
		return "BatchStep(" + strconv.Itoa(int(s)) + ")"
	}
	return batchSteps[s]
}

// BatchSteps is a set of steps.
type BatchSteps uint32

// Actions is a set of what answers asked for.
type Actions uint32

// Note adds a step to the set.
func (s *BatchSteps) Note(step BatchStep) { *s |= 1 << step }

// Has reports whether a step is in the set.
func (s BatchSteps) Has(step BatchStep) bool { return s>>step&1 != 0 }

// Note adds an action to the set.
func (a *Actions) Note(action protocol.Action) { *a |= 1 << action }

// Has reports whether an action is in the set.
func (a Actions) Has(action protocol.Action) bool { return a>>action&1 != 0 }
