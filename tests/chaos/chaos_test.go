package chaos

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

var (
	minutes = flag.Float64("chaos.minutes", 2, "how long faults are injected")
	seeded  = flag.Uint64("chaos.seed", 0, "seed of the plan; 0 draws one")
	folder  = flag.String("chaos.out", os.TempDir(), "folder for the history of a campaign that fails")
	always  = flag.Bool("chaos.keep", false, "write the history even if nothing failed")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestChaos is one campaign: three brokers under faults, several producers, and
// the verdict on everything they said.
func TestChaos(t *testing.T) {
	kafkacluster.Require(t)
	seed := *seeded
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	length := time.Duration(*minutes * float64(time.Minute))
	if length <= 0 {
		t.Fatalf("-chaos.minutes=%v", *minutes)
	}
	again := fmt.Sprintf("make chaos MINUTES=%v SEED=%d", *minutes, seed)
	t.Logf("the same plan again: %s", again)
	defer func() {
		if t.Failed() {
			fmt.Printf("chaos: seed %d failed; the same plan again: %s\n", seed, again)
		}
	}()
	c := runCampaign(t, seed, length)

	_, missing := recoveries(c.faults, c.history.acknowledgements())
	c.history.Leftovers = append(c.history.Leftovers, missing...)
	verdict := check(c.history)
	fmt.Println(report(c, verdict))
	for _, v := range verdict.Violations {
		t.Errorf("%s: %s", v.Violation, v.Detail)
	}
	if verdict.Outcomes[persisted] == 0 || verdict.Weak[persisted] == 0 || len(c.faults) == 0 {
		t.Errorf("a campaign of nothing: outcomes %v, %v, %d faults", verdict.Outcomes, verdict.Weak, len(c.faults))
	}
	if t.Failed() || *always {
		c.keep(seed, verdict)
	}
}

// keep writes everything that is known into a file.
func (c *campaign) keep(seed uint64, v *verdict) {
	file := filepath.Join(*folder, fmt.Sprintf("troupe-chaos-%d.jsonl", seed))
	extras := []any{c.plan, v}
	for _, f := range c.faults {
		extras = append(extras, f)
	}
	for _, line := range c.log.lines() {
		extras = append(extras, map[string]string{"Log": line})
	}
	if err := c.history.write(file, extras...); err != nil {
		c.t.Errorf("the history cannot be written: %v", err)
		return
	}
	fmt.Printf("chaos: the history is in %s\n", file)
}
