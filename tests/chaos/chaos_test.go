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
	minutes = flag.Float64("chaos.minutes", 2, "how long faults are injected; starting, healing and reading back come on top")
	seeded  = flag.Uint64("chaos.seed", 0, "seed of the plan; 0 draws one")
	folder  = flag.String("chaos.out", os.TempDir(), "folder for the history of a campaign that fails")
	spoiled = flag.Bool("chaos.spoiled", false, "run one producer without idempotence, and fail unless the checker finds duplicates and broken order")
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
	c := runCampaign(t, seed, length, *spoiled)

	_, missing := recoveries(c.faults, c.history.acknowledgements())
	c.history.Leftovers = append(c.history.Leftovers, missing...)
	verdict := check(c.history)
	fmt.Println(report(c, c.kafka.Config().Version, verdict))
	for _, v := range verdict.Violations {
		if expected := *spoiled && (v.Violation == duplicate || v.Violation == nonmonotonic); expected {
			t.Logf("%s: %s", v.Violation, v.Detail)
		} else {
			t.Errorf("%s: %s", v.Violation, v.Detail)
		}
	}
	if *spoiled && (verdict.Counts[duplicate] == 0 || verdict.Counts[nonmonotonic] == 0) {
		t.Errorf("a producer without idempotence, and the checker found %v", verdict.Counts)
	}
	if verdict.Outcomes[persisted] == 0 || verdict.Weak[persisted] == 0 || len(c.faults) == 0 {
		t.Errorf("a campaign of nothing: outcomes %v, %v, %d faults", verdict.Outcomes, verdict.Weak, len(c.faults))
	}
	if length >= completeAfter {
		c.wasHarmful(verdict)
	}
	if t.Failed() || *always {
		c.keep(seed, verdict)
	}
}

// completeAfter is how long a campaign must be for every fault to be asked of it.
const completeAfter = 5 * time.Minute

// wasHarmful fails a campaign whose faults did nothing. With acks 1 the same faults
// leave copies behind; if they do not, they would not find a fault of the rest.
func (c *campaign) wasHarmful(v *verdict) {
	found, _ := recoveries(c.faults, c.history.acknowledgements())
	for _, k := range kinds {
		if m := found[k]; m == nil || m.Done == 0 {
			c.t.Errorf("no fault %q had an effect", k)
		}
	}
	if v.WeakCopies == 0 || v.Outcomes[possibly] == 0 || v.Outcomes[notPersisted] == 0 {
		c.t.Errorf("%d copies with acks 1, outcomes %v: want some of each", v.WeakCopies, v.Outcomes)
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
