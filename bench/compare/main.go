// Command compare runs two clients alternately over the same work, each run
// against a fresh null broker in a process of its own, and prints a Markdown
// table. A ratio is the first client's figure over the second's in the same
// round; of all rounds it shows the median, and the least and the greatest.
//
//	compare -rounds 5 -clients troupe,franz -rows flat
//
// It looks for the commands nullbroker and driver beside itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Results is what -json writes.
type Results struct {
	Started string    `json:"started"`
	Go      string    `json:"go"`
	Cores   int       `json:"cores"`
	Clients []string  `json:"clients"`
	Rounds  int       `json:"rounds"`
	Rows    []*Result `json:"rows"`
}

// A Result is all runs of one row.
type Result struct {
	Row string `json:"row"`
	// Runs are in the order in which they ran; every round is a run of each client.
	Runs []*Run `json:"runs"`
	row  row
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	rows := flag.String("rows", "flat", "rows to run, comma separated: all, or parts of names, like flat or flat/100B/8")
	rounds := flag.Int("rounds", 5, "rounds per row")
	names := flag.String("clients", "troupe,franz", "one client of the driver, or two to compare")
	scale := flag.Float64("scale", 1, "factor for the number of records of a run")
	out := flag.String("json", "", "write all runs to this file")
	check := flag.Bool("check", true, "first run each client once against a broker that checks CRC, record numbers and sequences")
	list := flag.Bool("list", false, "list the rows and end")
	flag.Parse()

	if *list {
		for _, r := range allRows() {
			fmt.Println(r.name())
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop() // until then a signal ends what was started, too
	clients := strings.Split(*names, ",")
	if err := run(ctx, clients, *rows, *rounds, *scale, *check, *out); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, clients []string, rows string, rounds int, scale float64, check bool, out string) error {
	if len(clients) > 2 || rounds < 1 || scale <= 0 {
		return errors.New("-clients takes one or two, -rounds and -scale must be positive")
	}
	chosen := choose(allRows(), rows)
	if len(chosen) == 0 {
		return fmt.Errorf("-rows %q fits none; -list shows them", rows)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bench := &bench{bin: filepath.Dir(self)}
	results := &Results{
		Started: time.Now().UTC().Format(time.RFC3339),
		Go:      runtime.Version(),
		Cores:   runtime.NumCPU(),
		Clients: clients,
		Rounds:  rounds,
	}
	if check {
		for _, client := range clients {
			// Small: the rows are run to be timed, this to be believed.
			for _, r := range distinctCodecs(chosen) {
				if _, err := bench.run(ctx, client, r.records(0.1), "-check"); err != nil {
					return fmt.Errorf("check of %s, %s: %w", client, r.name(), err)
				}
			}
		}
	}
	for _, r := range chosen {
		result := &Result{Row: r.name(), row: r}
		results.Rows = append(results.Rows, result)
		for round := range rounds {
			order := slices.Clone(clients)
			if round%2 == 1 { // neither is always second
				slices.Reverse(order)
			}
			for _, client := range order {
				one, err := bench.run(ctx, client, r.records(scale))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", client, r.name(), err)
				}
				one.Round = round
				result.Runs = append(result.Runs, one)
			}
		}
		log.Printf("%s done", r.name())
	}
	if err := printTables(os.Stdout, results); err != nil {
		return err
	}
	if out == "" {
		return nil
	}
	b, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}
