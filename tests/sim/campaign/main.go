// Campaign runs many seeds of the simulation, on all processors, and ends with one
// line. It exits with 1 if a seed had a violation, with 2 if something that must
// happen sometimes never did: a fault, a code, a kind of caller or of Close, an
// action of the error table, a state of a partition entered or left.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-kafka/troupe/simulation"
)

var (
	seeds   = flag.Uint64("seeds", 1000, "how many seeds to run")
	first   = flag.Uint64("first", 1, "the first seed")
	records = flag.Int("records", 100, "records per seed")
	long    = flag.Uint64("long", 50, "every so many seeds, one has ten times the records; 0: none")
	workers = flag.Int("workers", runtime.GOMAXPROCS(0), "how many seeds run at once")
	profile = flag.String("profile", "", "where to write a CPU profile")
	least   = flag.Uint64("sometimes", 2000, "from so many seeds on, what must happen sometimes must have happened")
	show    = flag.Int("show", 10, "how many failing seeds to print")
)

// total is what the seeds of one worker, or all, add up to.
type total struct {
	seeds, records, failed, violations int
	turns                              int
	outcomes                           [3]int
	counts                             simulation.Counts
	classes                            map[simulation.Class]int
}

func (t *total) add(r *simulation.Result) {
	t.seeds++
	t.records += r.Records
	t.turns += r.Turns
	t.counts.Add(&r.Counts)
	for i, n := range r.Outcomes {
		t.outcomes[i] += n
	}
	if len(r.Violations) > 0 {
		t.failed++
		t.violations += len(r.Violations)
	}
	for _, v := range r.Violations {
		t.classes[v.Class]++
	}
}

func main() {
	flag.Parse()
	debug.SetGCPercent(1600) // the heap of a run is small, and all of it is left behind
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "campaign:", err)
			os.Exit(2)
		}
		defer pprof.StopCPUProfile()
	}
	began := time.Now()
	all := run()
	took := time.Since(began)
	missing := sometimes(all)
	for _, m := range missing {
		fmt.Println("never:", m)
	}
	fmt.Println(summary(all, took))
	pprof.StopCPUProfile()
	switch {
	case all.violations > 0:
		os.Exit(1)
	case len(missing) > 0 && *seeds >= *least:
		os.Exit(2)
	}
}

// run lets the workers take seed after seed.
func run() *total {
	all := &total{classes: make(map[simulation.Class]int)}
	var mu sync.Mutex
	var next atomic.Uint64
	var working sync.WaitGroup
	for range max(*workers, 1) {
		working.Go(func() {
			system := simulation.NewSystem()
			defer system.Shutdown()
			for i := next.Add(1) - 1; i < *seeds; i = next.Add(1) - 1 {
				c := simulation.Campaign{Seed: *first + i, Records: *records}
				if *long > 0 && i%*long == *long-1 {
					c.Records *= 10
				}
				endless := time.AfterFunc(longest, func() { stuck(&c) })
				r := simulation.Run(system, c)
				endless.Stop()
				mu.Lock()
				if all.add(&r); len(r.Violations) > 0 && all.failed <= *show {
					report(&r)
				}
				mu.Unlock()
			}
		})
	}
	working.Wait()
	return all
}

// longest is when a seed counts as endless: it takes milliseconds, or a few seconds
// with many records on a busy machine.
const longest = 2 * time.Minute

// stuck ends the campaign for a seed that never ends, which nobody else would name:
// a run that takes turns for ever is ended by the simulation, one that hangs inside
// a turn is not.
func stuck(c *simulation.Campaign) {
	fmt.Printf("seed %d, %d records: still in the same run after %v\n", c.Seed, c.Records, longest)
	fmt.Println("   replay:", simulation.ReplayCommand(&simulation.Plan{Seed: c.Seed, Records: c.Records}))
	_ = pprof.Lookup("goroutine").WriteTo(os.Stdout, 2)
	os.Exit(1)
}

func report(r *simulation.Result) {
	fmt.Println(r)
	for i, v := range r.Violations {
		if i == 0 || v.Class != r.Violations[i-1].Class {
			fmt.Println("  ", v) // the others of a class say the same
		}
	}
	fmt.Println("   replay:", simulation.ReplayCommand(&r.Plan))
}

// sometimes is what never happened, and should have.
func sometimes(t *total) (missing []string) {
	for k, n := range t.counts.Kinds {
		if n == 0 {
			missing = append(missing, "fault "+simulation.Kind(k).String())
		}
	}
	for _, code := range simulation.InjectedCodes() {
		if t.counts.Code(code) == 0 {
			missing = append(missing, "answer "+code.Info().Name)
		}
	}
	return append(missing, t.counts.Unreached()...)
}

func summary(t *total, took time.Duration) string {
	var kinds []string
	for k, n := range t.counts.Kinds {
		kinds = append(kinds, fmt.Sprintf("%v %d", simulation.Kind(k), n))
	}
	codes := 0
	for _, code := range simulation.InjectedCodes() {
		if t.counts.Code(code) > 0 {
			codes++
		}
	}
	return fmt.Sprintf("sim: %d seeds, %d records (%d persisted, %d possibly, %d not), faults: %s; %d of %d error codes, %d of %d other points; %d violations in %d seeds%s; %.0f seeds per second",
		t.seeds, t.records, t.outcomes[2], t.outcomes[1], t.outcomes[0], strings.Join(kinds, ", "), codes, len(simulation.InjectedCodes()), simulation.MustReach()-len(t.counts.Unreached()), simulation.MustReach(),
		t.violations, t.failed, classes(t), float64(t.seeds)/took.Seconds())
}

func classes(t *total) string {
	text := ""
	for c, n := range t.classes {
		text += fmt.Sprintf(" %s:%d", c, n)
	}
	return text
}
