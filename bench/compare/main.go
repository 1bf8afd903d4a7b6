// Command compare runs clients alternately over the same work and prints what it
// found as Markdown. Each run is against a fresh null broker in a process of its
// own, or with -real against a topic of its own on one broker of Apache Kafka. A
// ratio is of two runs of the same round; of all rounds it shows the median, and
// the least and the greatest.
//
//	compare -rounds 5 -clients troupe,franz -rows flat
//	compare -report docs/            # every row, then the tables and plots
//
// It looks for the commands nullbroker, driver and driver-peers beside itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// A plan is what the flags say.
type plan struct {
	rows    string
	clients string
	rounds  int
	scale   float64
	check   bool
	real    bool
	out     string // JSON; rows of it that are not run again are kept
	commit  string
	// profiles is a folder for CPU profiles of one more run of each client.
	profiles string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("compare: ")
	var p plan
	flag.StringVar(&p.rows, "rows", "", "rows to run, comma separated: all, or parts of names, like flat or flat/100B/8; flat by default, with -report all")
	flag.StringVar(&p.clients, "clients", "", "clients, instead of those that each row is for; name:option=value;option=value sets options of a client's own")
	flag.IntVar(&p.rounds, "rounds", 5, "rounds per row")
	flag.Float64Var(&p.scale, "scale", 1, "factor for the number of records of a run")
	flag.BoolVar(&p.check, "check", true, "first run each client against a broker that checks CRC, record numbers and sequences")
	flag.BoolVar(&p.real, "real", false, "run against Apache Kafka; its log is in memory")
	flag.StringVar(&p.out, "json", "", "write all runs to this file; rows that it has and that are not run again are kept")
	flag.StringVar(&p.commit, "commit", "unknown", "commit that the binaries were built from")
	flag.StringVar(&p.profiles, "profiles", "", "folder for a CPU profile of each row and client, of one more run that is not counted")
	report := flag.String("report", "", "folder with benchmarks.md, whose tables and plots are made anew, from all rows that were ever run there")
	render := flag.Bool("render", false, "with -report: run nothing, only make tables and plots")
	list := flag.Bool("list", false, "list the rows and their clients and end")
	flag.Parse()

	if *list {
		for _, r := range slices.Concat(allRows(), realRows()) {
			fmt.Printf("%-34s %s\n", r.name(), strings.Join(r.clients, ", "))
		}
		return
	}
	if *report != "" {
		if p.rows == "" {
			p.rows = "all"
		}
		p.out = filepath.Join(*report, figuresFolder, nullFile)
		if p.real {
			p.out = filepath.Join(*report, figuresFolder, realFile)
		}
	}
	if p.rows == "" {
		p.rows = "flat"
		if p.real {
			p.rows = "real"
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop() // until then a signal ends what was started, too
	var err error
	if !*render {
		err = p.run(ctx)
	}
	if *report != "" { // also after a failure: what was measured is there
		err = errors.Join(err, writeReport(*report))
	}
	if err != nil {
		stop()
		log.Fatal(err)
	}
}

// clientsOf returns who runs in a row.
func (p *plan) clientsOf(r row) []string {
	if p.clients != "" {
		return strings.Split(p.clients, ",")
	}
	return r.clients
}

func (p *plan) validate() ([]row, error) {
	if p.rounds < 1 || p.scale <= 0 {
		return nil, errors.New("-rounds and -scale must be positive")
	}
	all := allRows()
	if p.real {
		all = realRows()
	}
	chosen := choose(all, p.rows)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-rows %q fits none; -list shows them", p.rows)
	}
	return chosen, nil
}

func (p *plan) run(ctx context.Context) error {
	chosen, err := p.validate()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{bin: filepath.Dir(self)}
	b.prepare = b.prepareNull
	results, order := &Results{Against: "a null broker in a process of its own"}, allRows()
	if p.real {
		cluster, err := startReal(ctx)
		if err != nil {
			return err
		}
		defer cluster.close()
		b.prepare = cluster.prepare
		results.Against, order = "Apache Kafka, one broker, its log in memory", realRows()
	}
	if p.out != "" {
		if err := os.MkdirAll(filepath.Dir(p.out), 0o755); err != nil {
			return err
		}
		old, err := readResults(p.out)
		if err != nil {
			return err
		}
		if old != nil {
			results.Rows = old.Rows
		}
	}
	if p.check {
		if err := p.believe(ctx, b, chosen); err != nil {
			return err
		}
	}
	if p.real {
		// A broker's JVM compiles what it does often; the first client would pay.
		if _, err := b.run(ctx, baseline, chosen[0].records(p.scale), false); err != nil {
			return fmt.Errorf("warming the broker: %w", err)
		}
	}
	fresh := &Results{Against: results.Against}
	begin := time.Now()
	failed := 0
	for i, r := range chosen {
		one, err := p.measure(ctx, b, r.records(p.scale))
		if err != nil {
			return err
		}
		results.put(one, order)
		fresh.put(one, order)
		if p.out != "" { // after each row, so that an interruption costs one row
			if err := results.write(p.out); err != nil {
				return err
			}
		}
		failed += len(one.Failed)
		log.Printf("%s done, %d of %d after %v", r.name(), i+1, len(chosen), time.Since(begin).Round(time.Second))
	}
	if _, err = fmt.Print(tables(fresh)); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d clients failed in a row; the tables say which and why", failed)
	}
	return nil
}

// believe runs each client against a broker that checks everything: the rows are
// run to be timed, this to be believed.
func (p *plan) believe(ctx context.Context, b *bench, chosen []row) error {
	list := checks(chosen, p.clientsOf)
	for _, client := range slices.Sorted(maps.Keys(list)) {
		if client == "generator" {
			continue
		}
		for _, r := range list[client] {
			if _, err := b.run(ctx, client, r.records(0.02*p.scale), true); err != nil {
				return fmt.Errorf("check of %s, %s: %w", client, r.name(), err)
			}
		}
	}
	return nil
}

// measure runs all clients of a row, in another order in every round.
func (p *plan) measure(ctx context.Context, b *bench, r row) (*Result, error) {
	clients := p.clientsOf(r)
	result := &Result{
		Row: r.name(), Work: r.describe(), Group: r.group, Clients: clients, Rounds: p.rounds,
		Started: time.Now().UTC().Format(time.RFC3339), Commit: p.commit, Machine: thisMachine(),
	}
	for round := range p.rounds {
		for _, client := range order(clients, round) {
			if result.Failed[client] != "" {
				continue
			}
			one, err := b.run(ctx, client, r, false)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				// One client that cannot do one work must not cost hours of all others.
				log.Printf("FAILED: %s, %s: %v", client, r.name(), err)
				if result.Failed == nil {
					result.Failed = map[string]string{}
				}
				result.Failed[client] = err.Error()
				continue
			}
			one.Round = round
			if round > 0 {
				one.Driver.Configured = nil // the same in every round
			}
			result.Runs = append(result.Runs, one)
		}
	}
	return result, p.profile(ctx, b, r)
}

// profile runs each client of a row once more, with a profile.
func (p *plan) profile(ctx context.Context, b *bench, r row) error {
	if p.profiles == "" {
		return nil
	}
	if err := os.MkdirAll(p.profiles, 0o755); err != nil {
		return err
	}
	defer func() { b.profile = "" }()
	for _, client := range p.clientsOf(r) {
		name := strings.NewReplacer("/", "-", ":", "-", ";", "-", "=", "-").Replace(r.name() + "-" + client)
		b.profile = filepath.Join(p.profiles, name+".pprof")
		if client == javaClient || r.mode == figure.ModeIdle || r.mode == figure.ModeStart {
			continue // has none
		}
		if _, err := b.run(ctx, client, r, false); err != nil {
			return fmt.Errorf("profile of %s, %s: %w", client, r.name(), err)
		}
	}
	return nil
}

// order turns the row of clients by one place in every round, and turns it around
// in every second: nobody always runs after the same one.
func order(clients []string, round int) []string {
	at := round / 2 % len(clients)
	turned := slices.Concat(clients[at:], clients[:at])
	if round%2 == 1 {
		slices.Reverse(turned)
	}
	return turned
}
