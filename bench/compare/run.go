package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

// A target is a cluster that is ready for one run.
type target interface {
	address() string
	topic() string
	// totals ends the run and says what came.
	totals() (figure.Totals, error)
	// end gives up what the run used. It may be called at any time, twice.
	end()
}

type bench struct {
	bin     string // the folder of the commands
	profile string // file for the driver's CPU profile; none if empty
	// prepare makes a target; real clusters check everything anyway.
	prepare func(ctx context.Context, r row, check bool) (target, error)
}

// peerClients are in a binary of their own.
var peerClients = []string{"sarama", "kafka-go", "confluent"}

// split takes a client's name apart: name:option=value;option=value.
func split(client string) (name string, options []string) {
	name, rest, _ := strings.Cut(client, ":")
	for _, o := range strings.Split(rest, ";") {
		if o != "" {
			options = append(options, o)
		}
	}
	return name, options
}

// run runs a client against a fresh target. It fails unless the cluster took
// exactly the records that the client saw acknowledged.
func (b *bench) run(ctx context.Context, client string, r row, check bool) (*Run, error) {
	run := &Run{Client: client, LinePass: linePass()}
	t, err := b.prepare(ctx, r, check)
	if err != nil {
		return nil, err
	}
	defer t.end()

	busy, err := procstat.MachineBusy()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	name, options := split(client)
	var cpu time.Duration
	if name == javaClient {
		run.Driver, cpu, err = runJava(ctx, t.address(), t.topic(), r)
	} else {
		run.Driver, cpu, err = b.drive(ctx, name, options, t, r)
	}
	if err != nil {
		return nil, err
	}
	wall := time.Since(start)
	after, err := procstat.MachineBusy()
	if err != nil {
		return nil, err
	}
	if run.Broker, err = t.totals(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	sent := int64(run.Driver.Records + run.Driver.Warmup)
	if name == "generator" {
		sent = 0
	}
	if run.Broker.Records != sent {
		return nil, fmt.Errorf("%d records acknowledged, %d received", sent, run.Broker.Records)
	}
	known := cpu + time.Duration(run.Broker.CPUSeconds*float64(time.Second))
	run.Others = max(0, (after-busy-known).Seconds()/wall.Seconds())
	return run, nil
}

// drive runs the driver; cpu is what its whole process took.
func (b *bench) drive(ctx context.Context, name string, options []string, t target, r row) (report figure.Report, cpu time.Duration, err error) {
	binary := "driver"
	if slices.Contains(peerClients, name) {
		binary = "driver-peers"
	}
	args := append(r.flags(), "-client", name, "-addr", t.address(), "-topic", t.topic())
	if b.profile != "" {
		args = append(args, "-cpuprofile", b.profile)
	}
	for _, o := range options {
		args = append(args, "-option", o)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, binary), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return report, 0, fmt.Errorf("driver: %w", err)
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return report, 0, fmt.Errorf("driver: %w", err)
	}
	return report, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// nullTarget is a running nullbroker.
type nullTarget struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	addr string
}

// prepareNull starts a null broker in a process of its own.
func (b *bench) prepareNull(ctx context.Context, r row, check bool) (target, error) {
	topics := "bench:" + strconv.Itoa(r.partitions)
	if r.mode == figure.ModeIdle {
		topics = "few:1," + topics
	}
	args := []string{"-topics", topics, "-delay", r.delay.String()}
	if check {
		args = append(args, "-check")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "nullbroker"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &nullTarget{cmd: cmd, out: bufio.NewReader(out)}
	line, err := k.out.ReadString('\n')
	if err != nil {
		k.end()
		return nil, fmt.Errorf("broker printed no address: %w", err)
	}
	k.addr = strings.TrimSpace(line)
	return k, nil
}

func (k *nullTarget) address() string { return k.addr }
func (k *nullTarget) topic() string   { return "bench" }

func (k *nullTarget) totals() (totals figure.Totals, err error) {
	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return totals, err
	}
	line, err := io.ReadAll(k.out)
	if err != nil {
		return totals, err
	}
	if err := k.cmd.Wait(); err != nil {
		return totals, err
	}
	return totals, json.Unmarshal(bytes.TrimSpace(line), &totals)
}

func (k *nullTarget) end() {
	if k.cmd.ProcessState == nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
	}
}

// linePass measures nanoseconds to pass a cache line from one core to another:
// the least of some tries, because others run here, too.
func linePass() float64 {
	if runtime.GOMAXPROCS(0) < 2 {
		return 0
	}
	const tries, passes = 10, 5000
	var least time.Duration
	for try := range tries {
		var turn atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range int32(passes) {
				for turn.Load() != 2*i+1 {
				}
				turn.Store(2*i + 2)
			}
		}()
		start := time.Now()
		for i := range int32(passes) {
			for turn.Load() != 2*i {
			}
			turn.Store(2*i + 1)
		}
		<-done
		if took := time.Since(start); try == 0 || took < least {
			least = took
		}
	}
	return float64(least.Nanoseconds()) / (2 * passes)
}
