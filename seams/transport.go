package seams

import "errors"

// ErrFrameTooLarge ends a connection whose peer announced a frame above the
// limit: most often it does not speak Kafka's protocol at all.
var ErrFrameTooLarge = errors.New("frame is larger than the response limit")

// ErrClosedLocally is the reason of a connection that its owner closed.
var ErrClosedLocally = errors.New("connection closed by this producer")

// Transport opens connections to brokers.
type Transport interface {
	// Dial starts to connect and returns at once. The events arrive one after
	// the other, each in a turn of its own; Closed is always the last.
	Dial(address string, events ConnectionEvents) Connection
}

// Connection is one connection to a broker.
type Connection interface {
	// Write queues the slices of one frame, in order with those before it, and
	// returns at once. The slices must stay untouched until write.Written.
	Write(frame [][]byte, write Write)
	// Close ends the connection; queued writes end with the reason.
	Close(reason error)
}

// Write is told how a write ended.
type Write interface {
	// Written is called exactly once per write. A nil error means that all bytes
	// were given to the operating system, not that anybody received them. With
	// an error, started says whether any byte may have left.
	Written(err error, started bool)
}

// ConnectionEvents is who hears of a connection.
type ConnectionEvents interface {
	// Opened says that the connection is up.
	Opened()
	// Received brings one frame without its length prefix. The slice belongs to
	// the transport and is overwritten after the call.
	Received(frame []byte)
	// Closed says that the connection has ended, or never came up.
	Closed(reason error)
}
