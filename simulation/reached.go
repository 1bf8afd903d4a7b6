package simulation

import (
	"fmt"
	"math/bits"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// point is one thing that the campaign must reach sometimes, besides every fault
// and every code.
type point int

// The points, in groups.
const (
	pointCaller       point = 0                                           // and the kind of caller
	pointFlushInside        = pointCaller + callers + 1                   // Flush in a callback
	pointAcks               = pointFlushInside + 1                        // and troupe.Acks, of a Send
	pointCompression        = pointAcks + point(troupe.AcksNone) + 1      // and troupe.Compression, of a Send
	pointClose              = pointCompression + point(compressionCount)  // and how the producer was ended
	pointCloseDrained       = pointClose + point(len(closeKinds))         // Close returned nil
	pointCloseCut           = pointCloseDrained + 1                       // Close was ended by its context
	pointAction             = pointCloseCut + 1                           // and protocol.Action, which an answer asked for
	pointEntered            = pointAction + point(protocol.Fatal) + 1     // and messages.PartitionState
	pointLeft               = pointEntered + point(messages.StateCount)   // and messages.PartitionState
	pointBatch              = pointLeft + point(messages.StateCount)      // and messages.BatchStep
	pointUnknown            = pointBatch + point(messages.BatchStepCount) // a record whose topic stayed unknown
	pointAppendTime         = pointUnknown + 1                            // a record with the broker's time
	pointTogether           = pointAppendTime + 1                         // records of one Send in one partition
	pointPartly             = pointTogether + 1                           // a Send of which a part failed
	pointEnded              = pointPartly + 1                             // a Send whose context ended
	pointParkingFull        = pointEnded + 1                              // no room for records of an unknown topic
	pointHandle             = pointParkingFull + 1                        // a record produced by a topic's handle
	pointSessionEnded       = pointHandle + 1                             // a connection given up before its session ends
	pointSessionCut         = pointSessionEnded + 1                       // a session that the broker ended
	pointProducer           = pointSessionCut + 1                         // and troupe.Acks of the producer
	pointCount              = pointProducer + point(troupe.AcksNone) + 1
)

const compressionCount = troupe.CompressionZstd + 1

// closeKinds are the ways in which a producer ends.
var closeKinds = [...]string{closeByCaller, closeByCallback, closeByTwo, "stop", "poison", "now", "abrupt"}

// String says what was reached.
func (p point) String() string {
	switch {
	case p < callers:
		return "caller " + callerNames[p]
	case p == callerInside:
		return "Send in a callback"
	case p == pointFlushInside:
		return "Flush in a callback"
	case p < pointCompression:
		return "a Send with acks " + troupe.Acks(p-pointAcks).String()
	case p < pointClose:
		return fmt.Sprintf("a Send with compression %d", p-pointCompression)
	case p < pointCloseDrained:
		return "closed: " + closeKinds[p-pointClose]
	case p == pointCloseDrained:
		return "Close that waited for all outcomes"
	case p == pointCloseCut:
		return "Close that its context ended"
	case p < pointEntered:
		return "action " + protocol.Action(p-pointAction).String()
	case p < pointLeft:
		return "a partition becomes " + messages.PartitionState(p-pointEntered).String()
	case p < pointBatch:
		return "a partition is no longer " + messages.PartitionState(p-pointLeft).String()
	case p < pointUnknown:
		return "a batch: " + messages.BatchStep(p-pointBatch).String()
	}
	if p >= pointProducer {
		return "a producer with acks " + troupe.Acks(p-pointProducer).String()
	}
	return [...]string{
		"a record whose topic stayed unknown", "a record with the broker's time", "records of one Send side by side", "a Send that failed in part",
		"a Send whose context ended", "a parking without room", "a record by a topic's handle",
		"a connection replaced before its session ended", "a session that the broker ended",
	}[p-pointUnknown]
}

// never reports whether no seed reaches a point, and says why.
func (p point) never() bool {
	switch p {
	case pointProducer + point(troupe.AcksDefault):
		return true // it stands for one of the others
	case pointLeft + point(messages.StateClosed):
		return true // nor does it open again
	case pointLeft + point(messages.StateSmall):
		return true // that takes some hundred full batches of one partition (split-learned.txt)
	}
	return false
}

// Unreached is what must be reached sometimes and was not.
func (c *Counts) Unreached() (missing []string) {
	for p, n := range c.Reached {
		if n == 0 && !point(p).never() {
			missing = append(missing, point(p).String())
		}
	}
	return missing
}

// MustReach is how many things there are that must be reached sometimes.
func MustReach() (n int) {
	for p := range point(pointCount) {
		if !p.never() {
			n++
		}
	}
	return n
}

// reach counts that the run has come to a point.
func (r *run) reach(p point) { r.faults.counts.Reached[p]++ }

// ending counts how the producer is ended.
func (r *run) ending() {
	kind := r.settings.Close
	switch l := r.settings.load(); {
	case r.closeCalled:
		kind = l.CloseBy
	case r.settings.Abrupt > 0:
		kind = "abrupt"
	}
	for i, name := range closeKinds {
		if name == kind {
			r.reach(pointClose + point(i))
		}
	}
}

// PartitionStepped implements messages.PartitionWatcher.
func (t *receiveTrace) PartitionStepped(before, after messages.PartitionStates, went messages.BatchSteps, took messages.Actions) {
	reached := &t.world.faults.counts.Reached
	count := func(first point, set uint32) {
		for ; set != 0; set &= set - 1 {
			reached[first+point(bits.TrailingZeros32(set))]++
		}
	}
	count(pointEntered, uint32(after&^before))
	count(pointLeft, uint32(before&^after))
	count(pointBatch, uint32(went))
	count(pointAction, uint32(took))
}
