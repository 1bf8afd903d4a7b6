package sim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe/simulation"
)

// The campaign's size: it runs without the race detector, which would see
// nothing on one goroutine and take ten times as long. The seeds of TestSeeds
// run under whatever this test does.
const (
	campaignSeeds      = 20_000
	campaignSeedsShort = 2_000
	seedsHere          = 300
	seedsHereShort     = 50
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCampaign builds the campaign and runs it: no violation, and everything
// that must happen sometimes did.
func TestCampaign(t *testing.T) {
	seeds := campaignSeeds
	if testing.Short() {
		seeds = campaignSeedsShort
	}
	program := filepath.Join(t.TempDir(), "campaign")
	if out, err := exec.Command("go", "build", "-o", program, "./campaign").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, "-seeds="+strconv.Itoa(seeds)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

// TestSameHashInAnotherProcess runs seeds in a program that is built without the
// race detector, whatever this test does, and on one processor and two.
func TestSameHashInAnotherProcess(t *testing.T) {
	program := filepath.Join(t.TempDir(), "replay")
	if out, err := exec.Command("go", "build", "-o", program, "./replay").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	system := simulation.NewSystem()
	defer system.Shutdown()
	for seed := uint64(50); seed < 55; seed++ {
		r := simulation.Run(system, simulation.Campaign{Seed: seed, Records: 100})
		for _, processors := range []string{"1", "2"} {
			c := exec.Command(program, fmt.Sprintf("-seed=%d", seed))
			c.Env = append(os.Environ(), "GOMAXPROCS="+processors)
			out, err := c.CombinedOutput()
			if want := fmt.Sprintf("hash %016x, %d events", r.Hash, r.Events); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("seed %d on %s processors: want %s, got %v\n%s", seed, processors, want, err, out)
			}
		}
	}
}

// TestSeeds runs some seeds in this process, under the race detector if the test
// does.
func TestSeeds(t *testing.T) {
	seeds := seedsHere
	if testing.Short() {
		seeds = seedsHereShort
	}
	system := simulation.NewSystem()
	defer system.Shutdown()
	for i := range seeds {
		// Other seeds than the campaign's.
		c := simulation.Campaign{Seed: 1_000_000 + uint64(i), Records: 100}
		if i%50 == 49 {
			c.Records = 1000
		}
		if r := simulation.Run(system, c); len(r.Violations) > 0 {
			t.Errorf("%v\n%v\nreplay: %s", &r, r.Violations, simulation.ReplayCommand(&r.Plan))
		}
	}
}

// TestLiesAreSeen lets the cluster break its word in every way it knows. A
// checker that has nothing to say then is worth nothing.
func TestLiesAreSeen(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	for _, c := range []struct {
		name string
		lie  simulation.Lie
		want simulation.Class
	}{
		{"honest", simulation.Honest, ""},
		{"forgets", simulation.Forgets, simulation.LostWrite},
		{"repeats", simulation.Repeats, simulation.Duplicate},
		{"reverses", simulation.Reverses, simulation.NonmonotonicSend},
		{"misplaces", simulation.Misplaces, simulation.InconsistentOffsets},
		{"hides", simulation.Hides, simulation.Unseen},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(map[simulation.Class]bool)
			for seed := range uint64(10) {
				r := simulation.Run(system, simulation.Campaign{Seed: seed, Records: 1000, Lie: c.lie})
				for _, v := range r.Violations {
					seen[v.Class] = true
				}
			}
			if c.lie == simulation.Honest && len(seen) > 0 || c.lie != simulation.Honest && !seen[c.want] {
				t.Errorf("want %q, saw %v", c.want, seen)
			}
		})
	}
}

// plans are the plans of a folder of testdata, by name.
func plans(t *testing.T, folder string) map[string]*simulation.Plan {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 && folder != "open" { // nothing may be open
		t.Fatalf("testdata/%s has no plans", folder)
	}
	all := make(map[string]*simulation.Plan)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := simulation.ReadPlan(f)
		_ = f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".json")] = p
	}
	return all
}

// TestCorpus makes every run again that once failed.
func TestCorpus(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	for name, p := range plans(t, "corpus") {
		t.Run(name, func(t *testing.T) {
			if r := simulation.Run(system, simulation.Campaign{Plan: p}); len(r.Violations) > 0 {
				t.Errorf("once it found %s\nand now %v", p.Found, r.Violations)
			}
		})
	}
}

// TestOpen makes the runs of bugs that are known and not mended. One that passes
// is news: move its plan to the corpus.
func TestOpen(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	for name, p := range plans(t, "open") {
		t.Run(name, func(t *testing.T) {
			class, _, _ := strings.Cut(p.Found, ":")
			r := simulation.Run(system, simulation.Campaign{Plan: p})
			for _, v := range r.Violations {
				if string(v.Class) == class {
					return
				}
			}
			t.Errorf("it no longer finds %s\nbut %v: move it to the corpus", p.Found, r.Violations)
		})
	}
}
