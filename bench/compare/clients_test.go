package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// build makes the commands that compare looks for.
func build(t *testing.T) *bench {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the drivers, librdkafka included")
	}
	b := &bench{bin: t.TempDir()}
	for _, args := range [][]string{
		{"-tags", "troupe", "-o", b.bin + "/", "../nullbroker", "../driver"},
		{"-tags", "troupe,peers", "-o", filepath.Join(b.bin, "driver-peers"), "../driver"},
	} {
		if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	b.prepare = b.prepareNull
	return b
}

// lying is a broker that lost a record.
type lying struct{ target }

func (l lying) totals() (figure.Totals, error) {
	totals, err := l.target.totals()
	totals.Records--
	return totals, err
}

// TestEveryClientDoesItsWork runs each client through each kind of work that it
// is asked for, against a broker that checks CRC, record numbers and sequences.
func TestEveryClientDoesItsWork(t *testing.T) {
	b := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	works := map[string]row{}
	for _, r := range allRows() {
		kind := strings.Join([]string{r.group, r.mode, r.codec}, "/")
		if r.keyed {
			kind += "/keyed"
		}
		if old, seen := works[kind]; seen {
			r.clients = append(r.clients, old.clients...)
		}
		works[kind] = r
	}
	for kind, r := range works {
		r.count, r.delay = 2000, min(r.delay, time.Millisecond)
		switch r.mode {
		case figure.ModeStart:
			r.count = 2
		case figure.ModeIdle:
			r.partitions, r.count = 50, 50
		}
		done := map[string]bool{}
		for _, client := range r.clients {
			if done[client] {
				continue
			}
			done[client] = true
			t.Run(kind+"/"+client, func(t *testing.T) {
				run, err := b.run(ctx, client, r, true)
				if err != nil {
					t.Fatal(err)
				}
				d := &run.Driver
				if d.Records != r.count || d.CPUSeconds <= 0 || d.PeakRSS <= 0 {
					t.Errorf("%+v", d)
				}
				if (r.rate > 0 || r.mode == figure.ModeCall || r.mode == figure.ModeStart) != (d.Latency != nil) {
					t.Errorf("latency %+v", d.Latency)
				}
				if ratio, ok := compression(run); ok != (r.codec != "") || ok && ratio < 1.2 {
					t.Errorf("compressed %v", ratio)
				}
			})
		}
	}
}

func TestRunNoticesALostRecord(t *testing.T) {
	b := build(t)
	b.prepare = func(ctx context.Context, r row, check bool) (target, error) {
		honest, err := b.prepareNull(ctx, r, check)
		return lying{honest}, err
	}
	r := row{group: "flat", size: 10, goroutines: 1, partitions: 2, count: 1000}
	if _, err := b.run(t.Context(), "floor", r, false); err == nil || !strings.Contains(err.Error(), "received") {
		t.Errorf("a lost record passed: %v", err)
	}
}

// TestProfile looks for what -profiles writes.
func TestProfile(t *testing.T) {
	b := build(t)
	b.profile = filepath.Join(t.TempDir(), "cpu.out")
	r := row{group: "flat", size: 10, goroutines: 1, partitions: 2, count: 1000}
	if _, err := b.run(t.Context(), "floor", r, false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(b.profile); err != nil || info.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
}
