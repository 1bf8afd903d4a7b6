package messages

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/seams"
)

// Lane is one connection to a broker and what travels on it.
type Lane int8

// The lanes of a broker. What can delay or end a connection for reasons of its
// own never shares one with the rest (DESIGN 4.5, 4.6).
const (
	// LaneProduce carries Produce requests.
	LaneProduce Lane = iota
	// LaneSlow carries partitions that answer late or not in full.
	LaneSlow
	// LaneNoAcks carries Produce requests with acks 0: the broker closes the
	// connection when one of them fails.
	LaneNoAcks
	// LaneControl carries everything else.
	LaneControl
	// Lanes is how many there are.
	Lanes
)

// String returns the lane's name in actor paths.
func (l Lane) String() string {
	return [...]string{"produce", "slow", "noacks", "control"}[l]
}

// Versions is what a broker can do, learned by ApiVersions on each connection
// (KIP-511).
type Versions struct {
	// The highest version of each api that both sides know, −1 for one the broker
	// lacks.
	Produce, Metadata, InitProducerID int16
}

// Of is the version of an api, by its key; −1 also for those that nobody asks for.
func (v *Versions) Of(key int16) int16 {
	switch kmsg.Key(key) {
	case kmsg.Produce:
		return v.Produce
	case kmsg.Metadata:
		return v.Metadata
	case kmsg.InitProducerID:
		return v.InitProducerID
	default:
		return -1
	}
}

// ConnectionUp tells the broker that a lane is open and negotiated.
type ConnectionUp struct {
	Lane       Lane
	Generation int
	Connection seams.Connection
	Versions   Versions
	// Until is when the session is given up, before the broker ends it; 0: never.
	Until seams.Instant
}

// ConnectionLost tells the broker that a lane has ended, or could not be
// opened. It comes after every answer that arrived on the lane.
type ConnectionLost struct {
	Lane       Lane
	Generation int
	Reason     error
	// WasUp says whether ConnectionUp came before.
	WasUp bool
}

// ResponseReceived brings one answer, without its length prefix. Frame is a
// buffer of the receiver's.
type ResponseReceived struct {
	Lane       Lane
	Generation int
	Frame      []byte
}

// ConnectionFailure is what a connection actor fails with: an ordinary event of
// the network, which the supervision strategy answers with a delayed restart.
type ConnectionFailure struct {
	Broker  int32
	Address string
	Reason  error
	// WasUp says that the connection had been negotiated before it ended.
	WasUp bool
}

// Error implements error.
func (f *ConnectionFailure) Error() string {
	return fmt.Sprintf("connection to %s: %v", f.Address, f.Reason)
}

// Unwrap returns the reason.
func (f *ConnectionFailure) Unwrap() error { return f.Reason }

// ExpectedFailure implements seams.Expected.
func (f *ConnectionFailure) ExpectedFailure() {}

// BrokerMoved tells a broker that its node has another address now.
type BrokerMoved struct{ Address string }
