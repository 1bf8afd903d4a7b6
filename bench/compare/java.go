package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// javaClient is Kafka's own producer, driven by Kafka's own ProducerPerformance.
const javaClient = "java"

// javaProperties are the producer's, beside what the others have, too: batches as
// large as theirs, and the rest at its default.
func javaProperties(r row) []string {
	linger := 5 * time.Millisecond
	if r.rate > 0 {
		linger = r.linger
	}
	p := []string{
		"acks=all", "enable.idempotence=true", fmt.Sprintf("linger.ms=%d", linger.Milliseconds()), "batch.size=1000000",
		"max.request.size=2097152",
	}
	if r.codec != "" {
		p = append(p, "compression.type="+r.codec)
	}
	return p
}

// runJava runs ProducerPerformance twice: with one record, which tells what a JVM
// and a client cost before they do anything, and with the row's. What the
// difference is divided by includes the warm-up, since it is in the difference.
func runJava(ctx context.Context, address, topic string, r row) (report figure.Report, cpu time.Duration, err error) {
	if r.keyed || r.goroutines != 1 || r.mode != "" {
		return report, 0, fmt.Errorf("ProducerPerformance knows no keys, one goroutine and no calls")
	}
	_, idle, err := performance(ctx, address, topic, r, 1, 0)
	if err != nil {
		return report, 0, err
	}
	out, whole, err := performance(ctx, address, topic, r, r.count, r.warmup())
	if err != nil {
		return report, 0, err
	}
	report, err = parsePerformance(out)
	if err != nil {
		return report, 0, err
	}
	cost := max(0, (whole.cpu - idle.cpu).Seconds())
	n := float64(r.count + r.warmup())
	report.Settings = figure.Settings{
		// The record of the first run was acknowledged, too.
		Client: javaClient, Topic: topic, Partitions: r.partitions, Records: r.count, Warmup: r.warmup() + 1, Size: r.size, Goroutines: 1,
		Codec: "none", Acks: "all", Rate: float64(r.rate), Mode: figure.ModeStream,
	}
	if r.codec != "" {
		report.Codec = r.codec
	}
	report.Version = string(kafkacluster.V4)
	report.Configured = append(javaProperties(r),
		"latency: from send() to the callback, whole milliseconds; not from the time a record should have been sent",
		"CPU: of the JVM, less that of a run with one record; JIT included")
	report.CPUSeconds, report.CPUPerMillion = cost, cost/n*1e6
	report.Seconds = float64(r.count) / report.RecordsPerSecond
	report.PeakRSS = whole.rss
	if r.rate == 0 {
		report.Latency = nil // of a queue that is always full
	}
	return report, whole.cpu + idle.cpu, nil
}

type spent struct {
	cpu time.Duration
	rss int64
}

func performance(ctx context.Context, address, topic string, r row, count, warmup int) (string, spent, error) {
	jars, err := kafkacluster.Jars(kafkacluster.V4)
	if err != nil {
		return "", spent{}, err
	}
	throughput := -1
	if r.rate > 0 {
		throughput = r.rate
	}
	args := []string{
		"-Xms512m", "-Xmx512m", "org.apache.kafka.tools.ProducerPerformance",
		"--bootstrap-server", address, "--topic", topic, "--num-records", strconv.Itoa(count + warmup),
		"--record-size", strconv.Itoa(r.size), "--throughput", strconv.Itoa(throughput),
	}
	if warmup > 0 {
		args = append(args, "--warmup-records", strconv.Itoa(warmup))
	}
	args = append(append(args, "--command-property"), javaProperties(r)...)
	cmd := exec.CommandContext(ctx, "java", args...)
	cmd.Env = append(os.Environ(), "CLASSPATH="+filepath.Join(jars, "*"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", spent{}, fmt.Errorf("ProducerPerformance: %w\n%s%s", err, out, errs.String())
	}
	s := spent{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.rss = usage.Maxrss << 10
	}
	return string(out), s, nil
}

// javaSummary is the last line that ProducerPerformance prints.
var javaSummary = regexp.MustCompile(`(\d+)(?: steady state)? records sent, ([\d.,]+) records/sec \([^)]*\), ` +
	`[\d.,]+ ms avg latency, ([\d.,]+) ms max latency, (\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th, (\d+) ms 99\.9th`)

func parsePerformance(out string) (r figure.Report, err error) {
	all := javaSummary.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return r, fmt.Errorf("ProducerPerformance printed no summary:\n%s", out)
	}
	found := all[len(all)-1]
	var n [5]float64
	for i, text := range found[2:] {
		if n[i], err = strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64); err != nil {
			return r, err
		}
	}
	r.RecordsPerSecond = n[0]
	r.Latency = &figure.Summary{Max: n[1], P50: n[2], P99: n[3], P999: n[4]}
	return r, nil
}
