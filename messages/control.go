package messages

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AnyBroker lets the root choose a broker for a control request.
const AnyBroker int32 = -1

// SeedID returns the broker id that stands for the i-th bootstrap address until
// metadata names the real node.
func SeedID(i int) int32 { return -2 - int32(i) }

// IsSeed reports whether the id stands for a bootstrap address.
func IsSeed(id int32) bool { return id <= -2 }

// ControlRequest is a request off the hot path: metadata, producer ids. It
// travels on a connection of its own.
type ControlRequest struct {
	// Broker is a node id, a seed id, or AnyBroker.
	Broker  int32
	Request kmsg.Request
	ReplyTo *actor.PID
	// Ticket comes back in the response, so that a late one is recognised.
	Ticket int
}

// ControlResponse answers a ControlRequest exactly once.
type ControlResponse struct {
	Ticket int
	Broker int32
	// Response is nil when Err is set.
	Response kmsg.Response
	Err      error
}
