package messages

// BeginClose starts the end of the producer: no record is admitted any more,
// what is admitted gets its outcome, and then the tree stops.
type BeginClose struct{}

// CloseNow answers what is left and stops the tree at once.
type CloseNow struct{}

// Crashed tells an actor whose state outlives its crashes that it crashed over a
// message, which is lost. It derives again whatever the message may have been
// about.
type Crashed struct{ Reason, Message any }

// ForRouter carries the router's own messages to its actor through the root,
// which exists before it.
type ForRouter struct{ Message any }
