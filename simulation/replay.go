package simulation

import (
	"fmt"

	"github.com/troupe-kafka/troupe/protocol"
)

// ReplayCommand is the command that makes the run of a plan again, from its
// seed, and writes its events to a file.
func ReplayCommand(p *Plan) string {
	return fmt.Sprintf("go run ./tests/sim/replay -seed=%d -records=%d -events=events.jsonl", p.Seed, p.Records)
}

// InjectedCodes is every code of the error table that a fault may answer with.
func InjectedCodes() []protocol.ErrorCode { return append(producible(), fatal()...) }
