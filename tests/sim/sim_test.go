package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

var (
	seeds     = flag.Int("seeds", 0, "how many seeds TestSeeds runs; 0: 200, or 25 with -short")
	firstSeed = flag.Uint64("first", 1, "the first seed of TestSeeds")
	seed      = flag.Uint64("seed", 0, "the seed that TestSeed runs")
	// Not -trace: go test has a flag of that name.
	traceFile = flag.String("events", "", "where TestSeed writes its events, as lines of JSON")
	logFile   = flag.String("runtimelog", "", "where TestSeed writes the runtime's log")
)

const recordsPerSeed = 1000

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if code == 0 {
		code = checkGoroutines()
	}
	os.Exit(code)
}

// checkGoroutines fails when goroutines of the runs are left. A few belong to
// the testing package and to an actor system's own dead-letter throttle, which
// ends by itself.
func checkGoroutines() int {
	var dump strings.Builder
	for range 50 {
		dump.Reset()
		_ = pprof.Lookup("goroutine").WriteTo(&dump, 2)
		if !strings.Contains(dump.String(), "troupe-kafka/troupe/seams") && !strings.Contains(dump.String(), "iter.Pull") && runtime.NumGoroutine() <= 4 {
			return 0
		}
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "%d goroutines are left:\n%s\n", runtime.NumGoroutine(), dump.String())
	return 1
}

func replay(seed uint64) string {
	return fmt.Sprintf("go test ./tests/sim -run 'TestSeed$' -seed=%d -events=file.jsonl", seed)
}

// TestSeeds runs many seeds and reports on one line.
func TestSeeds(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 200
		if testing.Short() {
			n = 25
		}
	}
	system := NewSystem()
	defer system.Shutdown()
	began := time.Now()
	var faults [Faults]int
	var outcomes [3]int
	records, violations, refused, turns := 0, 0, 0, 0
	for i := range n {
		r := Run(system, i, Config{Seed: *firstSeed + uint64(i), Records: recordsPerSeed})
		records += r.Records
		refused += r.Refused
		turns += r.Turns
		for k, c := range r.Faults {
			faults[k] += c
		}
		for k, c := range r.Outcomes {
			outcomes[k] += c
		}
		if len(r.Violations) > 0 {
			violations += len(r.Violations)
			t.Errorf("seed %d (%d turns, %v): %s\nreplay: %s", r.Seed, r.Turns, r.Virtual, strings.Join(r.Violations, "\n  "), replay(r.Seed))
		}
	}
	var kinds []string
	for k, c := range faults {
		if c == 0 && n >= 200 {
			// What never happens is not tested.
			t.Errorf("no seed had the fault %v", Fault(k))
		}
		kinds = append(kinds, fmt.Sprintf("%v %d", Fault(k), c))
	}
	fmt.Printf("sim: %d seeds, %d records (%d persisted, %d possibly, %d not; %d refusals), %d turns, faults: %s; %d violations, %.1f seeds/s\n",
		n, records, outcomes[2], outcomes[1], outcomes[0], refused, turns, strings.Join(kinds, ", "), violations, float64(n)/time.Since(began).Seconds())
}

// TestSeed replays one seed.
func TestSeed(t *testing.T) {
	if *seed == 0 {
		t.Skip("no -seed")
	}
	c := Config{Seed: *seed, Records: recordsPerSeed}
	if *traceFile != "" {
		f, err := os.Create(*traceFile)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		c.Trace = f
	}
	if *logFile != "" {
		f, err := os.Create(*logFile)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		c.Log = f
	}
	system := NewSystem()
	defer system.Shutdown()
	r := Run(system, 0, c)
	t.Logf("seed %d: hash %016x, %d events, %d turns, %v of virtual time, outcomes %v, refused %d", r.Seed, r.Hash, r.Events, r.Turns, r.Virtual, r.Outcomes, r.Refused)
	for _, v := range r.Violations {
		t.Error(v)
	}
}
