package simulation

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind Kind `json:"kind"`
	// At is the virtual time of a kind that is timed.
	At Duration `json:"at,omitempty"`
	// Nth is the occurrence, from 1, of what a kind that is not timed happens to:
	// the nth request, write, connection or message of this world, or of Target.
	Nth int `json:"nth,omitempty"`
	// Target narrows the fault down: "broker-2", "orders/3" for a partition, or for
	// an ActorCrash "broker" and "broker/*messages.ConnectionLost", for a DecisionCrash
	// "broker/encodes a request" or "accumulator/split".
	// Empty, it happens to whatever comes up, or to what Pick chooses.
	Target string `json:"target,omitempty"`
	// For is how long it lasts, or by how much the wall clock jumps.
	For Duration `json:"for,omitempty"`
	// Code is what an ErrorAnswer says.
	Code protocol.ErrorCode `json:"code,omitempty"`
	// Pick settles whatever else is open: which broker, appended or not.
	Pick uint32 `json:"pick,omitempty"`
}

// chance settles the nth open question of a fault, with a chance of one in of.
func (f *Fault) chance(question, of int) bool {
	return int(f.Pick>>(4*question)&0xffff)%of == 0
}

// Plan is a run of the campaign, written down: what the seed would draw is
// listed, so that it stays the same run when the drawing changes.
type Plan struct {
	// Harness is the version of the harness that wrote the plan (HarnessVersion).
	Harness int `json:"harness"`
	// Seed decides the order of turns, the workload and the latencies.
	Seed    uint64 `json:"seed"`
	Records int    `json:"records"`
	// Callers are the kinds of callers that take part; empty: all.
	Callers []string `json:"callers,omitempty"`
	// Found says what the plan found when it was written.
	Found    string   `json:"found,omitempty"`
	Settings Settings `json:"settings"`
	// Heal is when the faults end.
	Heal   Duration `json:"heal"`
	Faults []Fault  `json:"faults"`
}

// HarnessVersion changes when a seed means another run than before.
const HarnessVersion = 9

// WritePlan writes a plan as JSON.
func WritePlan(w io.Writer, p *Plan) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(p)
}

// ReadPlan reads a plan that WritePlan wrote.
func ReadPlan(r io.Reader) (*Plan, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	p := &Plan{}
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("simulation: not a plan: %w", err)
	}
	return p, checkFaults(p.Faults)
}

// checkFaults refuses faults that could not happen.
func checkFaults(faults []Fault) error {
	for i, f := range faults {
		switch {
		case f.Kind < 0 || f.Kind >= Kinds:
			return fmt.Errorf("simulation: fault %d is of no kind", i)
		case f.Kind.Timed() && f.Nth != 0:
			return fmt.Errorf("simulation: fault %d: %v happens at a time, not to an nth occurrence", i, f.Kind)
		case !f.Kind.Timed() && f.Nth < 1:
			return fmt.Errorf("simulation: fault %d: %v happens to an nth occurrence, from 1", i, f.Kind)
		}
	}
	return nil
}

// Duration is a time.Duration that JSON shows as Go writes it.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
