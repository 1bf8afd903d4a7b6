//go:build unix

package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
)

// The process that is stopped is this test's binary, run again.
const (
	frozenAddresses  = "TROUPE_TEST_FROZEN"
	frozenTopic      = "frozen"
	frozenPartitions = 300
	frozenCallers    = 4
	frozenRecords    = 12_000 // of each caller
)

func init() {
	if addresses := os.Getenv(frozenAddresses); addresses != "" {
		if err := produceFrozen(strings.Split(addresses, ",")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// produceFrozen sends the records of all callers. It fails if one has not exactly
// one good outcome.
func produceFrozen(brokers []string) error {
	p, err := troupe.New(troupe.WithBrokers(brokers...), troupe.WithLinger(300*time.Microsecond))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	var all outcomes
	var callers sync.WaitGroup
	refused := make(chan error, frozenCallers)
	for caller := range frozenCallers {
		callers.Go(func() {
			for n := range frozenRecords {
				r := to(frozenTopic, int32(n%frozenPartitions), fmt.Sprintf("%d/%06d", caller, n))
				if err := p.Produce(ctx, r, all.add); err != nil {
					refused <- err
					return
				}
			}
		})
	}
	callers.Wait()
	close(refused)
	if err := <-refused; err != nil {
		return err
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	if n := all.count(); n != frozenCallers*frozenRecords {
		return fmt.Errorf("%d outcomes of %d records", n, frozenCallers*frozenRecords)
	}
	for _, d := range all.list {
		if d.Err != nil {
			return d.Err
		}
	}
	return nil
}

// TestFrozenProcess: a process that is stopped for moments, as containers and
// virtual machines are, finds every timer late when it goes on, and some at once.
func TestFrozenProcess(t *testing.T) {
	cluster := startCluster(t, 2, map[string]int32{frozenTopic: frozenPartitions})
	var said bytes.Buffer
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), frozenAddresses+"="+strings.Join(cluster.ListenAddrs(), ","))
	child.Stdout, child.Stderr = &said, &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	random := rand.New(rand.NewPCG(1, 2))
	pause := func(least, most time.Duration) <-chan time.Time {
		return time.After(least + time.Duration(random.Int64N(int64(most-least))))
	}
	for frozen, running := 0, true; running; frozen++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v\n%s", err, said.String())
			}
			if frozen == 0 {
				t.Error("it was never stopped")
			}
			running = false
		case <-pause(time.Millisecond, 20*time.Millisecond):
			_ = child.Process.Signal(syscall.SIGSTOP)
			<-pause(200*time.Microsecond, 30*time.Millisecond)
			_ = child.Process.Signal(syscall.SIGCONT)
		}
	}
	seen := make(map[string]int)
	for _, r := range consumeAll(t, cluster, frozenTopic, frozenCallers*frozenRecords) {
		var caller, n int
		if _, err := fmt.Sscanf(string(r.Value), "%d/%d", &caller, &n); err != nil {
			t.Fatalf("%q: %v", r.Value, err)
		}
		if int32(n%frozenPartitions) != r.Partition {
			t.Fatalf("%q is in partition %d", r.Value, r.Partition)
		}
		at := fmt.Sprint(caller, "/", r.Partition)
		if want := seen[at]*frozenPartitions + int(r.Partition); n != want {
			t.Fatalf("caller %d, partition %d: record %d where %d was to come", caller, r.Partition, n, want)
		}
		seen[at]++
	}
}
