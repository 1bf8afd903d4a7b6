package simulation

import (
	"reflect"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// Known bugs of the runtime: the campaign goes round them, unless a plan is
// strict. For each there is a strict plan in tests/sim/testdata/open, which must
// fail as long as the bug is there. Whoever mends one strikes it out here and
// moves its plan to the corpus.
//
//   - What openCrashes lists: a panic at these messages ends the producer or
//     leaves records without an outcome.
//   - Flush does not wait for parked records whose callbacks are under way
//     (workload.flush leaves parked records out).
//   - A topic whose id becomes known after its accumulators have ended begins
//     again at sequence 0 (drawCluster and RollingUpgrade do not cross the
//     version of Metadata from which topics have ids).

// openCrashes are messages that an actor must not lose by a panic yet, by kind of
// actor and type of message. No type means all of them.
var openCrashes = map[string][]string{
	"accumulator": {"*messages.AssignLeader"},
	"broker":      {"*messages.PartitionReady"},
	"connection":  {"*broker.linkClosed"},
	"root":        nil,
	"router":      nil,
}

// openCrash reports whether a panic instead of handling the message is known not
// to be survived.
func openCrash(kind string, message any) bool {
	list, ok := openCrashes[kind]
	return ok && (len(list) == 0 || slices.Contains(list, reflect.TypeOf(message).String()))
}

// crashable reports whether the loss of a message by a panic must be survived:
// each but those that protoactor gives an actor in its life, and those to stop it.
func crashable(message any) bool {
	switch message.(type) {
	case *actor.Started, *actor.Stop, *actor.Stopping, *actor.Stopped, *actor.Restart, *actor.Restarting, *actor.Watch, *actor.Unwatch,
		*actor.Terminated, *actor.Failure, *actor.PoisonPill, *messages.BeginClose, *messages.CloseNow, *messages.WatchProducer:
		return false
	}
	return true
}
