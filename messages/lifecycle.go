package messages

// BeginClose starts the end of the producer: no record is admitted any more,
// what is admitted gets its outcome, and then the tree stops.
type BeginClose struct{}

// CloseNow answers what is left and stops the tree at once.
type CloseNow struct{}

// ForRouter carries the router's own messages to its actor through the root,
// which exists before it.
type ForRouter struct{ Message any }
