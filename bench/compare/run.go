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
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

// A Run is one run of one client.
type Run struct {
	Round  int    `json:"round"`
	Client string `json:"client"`
	Driver Report `json:"driver"`
	Broker Totals `json:"broker"`
	// Others is how many cores did other things meanwhile: the measure of noise.
	Others float64 `json:"others_cores"`
	// LinePass is how long it takes to pass a cache line between two cores, just
	// before the run. Virtual machines change it.
	LinePass float64 `json:"line_pass_ns"`
}

// Report is what the driver prints.
type Report struct {
	Records          int      `json:"records"`
	Warmup           int      `json:"warmup"`
	Seconds          float64  `json:"wall_s"`
	CPUSeconds       float64  `json:"cpu_s"`
	CPUPerMillion    float64  `json:"cpu_s_per_million"`
	RecordsPerSecond float64  `json:"records_per_s"`
	AllocsPerRecord  float64  `json:"allocs_per_record"`
	BytesPerRecord   float64  `json:"alloc_bytes_per_record"`
	GCs              uint32   `json:"gcs"`
	PeakRSS          int64    `json:"peak_rss_bytes"`
	Latency          *Summary `json:"latency_ms,omitempty"`
	Lag              *Summary `json:"generator_lag_ms,omitempty"`
}

// Summary describes latencies in milliseconds.
type Summary struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Totals is what the broker prints in the end.
type Totals struct {
	Requests   int64   `json:"requests"`
	Batches    int64   `json:"batches"`
	Records    int64   `json:"records"`
	Bytes      int64   `json:"bytes"`
	CPUSeconds float64 `json:"cpu_s"`
}

type bench struct {
	bin string // the folder of the commands
}

// run starts a broker, runs a client against it and stops it. It fails unless
// the broker took exactly the records that the client saw acknowledged.
func (b *bench) run(ctx context.Context, client string, r row, brokerFlags ...string) (_ *Run, err error) {
	run := &Run{Client: client, LinePass: linePass()}
	broker, err := b.startBroker(ctx, brokerFlags)
	if err != nil {
		return nil, err
	}
	defer broker.kill()

	busy, err := procstat.MachineBusy()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	driver := exec.CommandContext(ctx, filepath.Join(b.bin, "driver"), append(r.flags(), "-client", client, "-addr", broker.address)...)
	driver.Stderr = os.Stderr
	out, err := driver.Output()
	wall := time.Since(start)
	if err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	after, err := procstat.MachineBusy()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &run.Driver); err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	if run.Broker, err = broker.stop(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if sent := int64(run.Driver.Records + run.Driver.Warmup); run.Broker.Records != sent {
		return nil, fmt.Errorf("%d records acknowledged, %d received", sent, run.Broker.Records)
	}
	ours := driver.ProcessState.UserTime() + driver.ProcessState.SystemTime() +
		time.Duration(run.Broker.CPUSeconds*float64(time.Second))
	run.Others = max(0, (after-busy-ours).Seconds()/wall.Seconds())
	return run, nil
}

// A broker is a running nullbroker.
type broker struct {
	cmd     *exec.Cmd
	out     *bufio.Reader
	address string
}

func (b *bench) startBroker(ctx context.Context, flags []string) (*broker, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "nullbroker"), append(flags, "-topics", "bench:12")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &broker{cmd: cmd, out: bufio.NewReader(out)}
	line, err := k.out.ReadString('\n')
	if err != nil {
		k.kill()
		return nil, fmt.Errorf("broker printed no address: %w", err)
	}
	k.address = strings.TrimSpace(line)
	return k, nil
}

func (k *broker) stop() (totals Totals, err error) {
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

// kill ends a broker that may have ended before.
func (k *broker) kill() {
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
