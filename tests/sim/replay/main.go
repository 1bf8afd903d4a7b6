// Replay makes one run of the simulation again, of a seed or of a plan, and writes
// its events to a file, one line of JSON each. With -shrink it looks for the
// smallest plan that still has the same violation. It exits with 1 if the run has
// a violation.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/troupe-kafka/troupe/simulation"
)

var (
	seed    = flag.Uint64("seed", 0, "the seed")
	records = flag.Int("records", 100, "its records")
	plan    = flag.String("plan", "", "a file with a plan, instead of a seed")
	events  = flag.String("events", "", "where to write the events")
	log     = flag.String("log", "", "where to write the runtime's log")
	export  = flag.String("export", "", "where to write the plan of the run")
	shrink  = flag.Bool("shrink", false, "look for the smallest plan that still fails, and print it")
)

func main() {
	flag.Parse()
	failed, err := run()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

func run() (failed bool, err error) {
	c := simulation.Campaign{Seed: *seed, Records: *records}
	if *plan != "" {
		f, err := os.Open(*plan)
		if err != nil {
			return false, err
		}
		defer func() { _ = f.Close() }()
		if c.Plan, err = simulation.ReadPlan(f); err != nil {
			return false, err
		}
	}
	for _, out := range []struct {
		name string
		to   *io.Writer
	}{{*events, &c.Trace}, {*log, &c.Log}} {
		if out.name == "" {
			continue
		}
		f, err := os.Create(out.name)
		if err != nil {
			return false, err
		}
		defer func() { _ = f.Close() }()
		*out.to = f
	}
	system := simulation.NewSystem()
	defer system.Shutdown()
	r := simulation.Run(system, c)
	fmt.Println(&r)
	for _, v := range r.Violations {
		fmt.Println("  ", v)
	}
	if *export != "" {
		if err := write(*export, &r.Plan); err != nil {
			return false, err
		}
	}
	if *shrink && len(r.Violations) > 0 {
		small := simulation.Shrink(system, r.Plan, r.Violations[0].Class)
		fmt.Printf("the smallest plan found, with %d of %d faults and %d of %d records:\n", len(small.Faults), len(r.Plan.Faults), small.Records, r.Plan.Records)
		if err := simulation.WritePlan(os.Stdout, &small); err != nil {
			return false, err
		}
	}
	return len(r.Violations) > 0, nil
}

func write(name string, p *simulation.Plan) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := simulation.WritePlan(f, p); err != nil {
		return err
	}
	return f.Close()
}
