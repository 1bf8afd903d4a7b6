package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func read(t *testing.T, cluster *kfake.Cluster, n int) (lines []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for len(lines) < n && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { lines = append(lines, fmt.Sprintf("%s|%s", r.Key, r.Value)) })
	}
	return lines
}

// TestLines: each line is a record, with a key if there is a separator in it.
func TestLines(t *testing.T) {
	cluster := start(t)
	file := filepath.Join(t.TempDir(), "client.properties")
	text := "bootstrap.servers=" + strings.Join(cluster.ListenAddrs(), ",") + "\nlinger.ms=1\ncompression.type=gzip\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	j := job{topic: "t", file: file, separator: ":", named: map[string]string{"compression.type": "none"}, wait: 10 * time.Second}
	failed, err := j.run(context.Background(), strings.NewReader("a:1\nb:2:3\nplain\n\n"), &out, &complaints)
	if err != nil || failed != 0 || complaints.Len() > 0 {
		t.Fatalf("%d failed, %v, %s", failed, err, &complaints)
	}
	if got := strings.Join(read(t, cluster, 4), " "); got != "a|1 b|2:3 |plain |" {
		t.Errorf("read %q", got)
	}
	if !strings.HasPrefix(out.String(), "4 records acknowledged, 0 not persisted, 0 possibly persisted, 0 refused") || strings.Contains(out.String(), "compressed") {
		t.Errorf("said %q", &out)
	}
}

// TestGenerate: so many records, no faster than the rate.
func TestGenerate(t *testing.T) {
	cluster := start(t)
	var out, complaints bytes.Buffer
	j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), generate: 100, size: 10, rate: 500, every: 20 * time.Millisecond, wait: 10 * time.Second}
	began := time.Now()
	failed, err := j.run(context.Background(), nil, &out, &complaints)
	if took := time.Since(began); err != nil || failed != 0 || took < 190*time.Millisecond {
		t.Errorf("%d failed, %v, within %v", failed, err, took)
	}
	if got := read(t, cluster, 100); len(got) != 100 || len(got[0]) != 11 || got[0] == got[1] {
		t.Errorf("read %d records, %q", len(got), got[:min(len(got), 2)])
	}
	if !strings.Contains(complaints.String(), "bytes of the buffer in use") {
		t.Errorf("said nothing meanwhile: %q", &complaints)
	}
}

// TestWhatFails is told, and counted.
func TestWhatFails(t *testing.T) {
	cluster := start(t)
	var out, complaints bytes.Buffer
	j := job{topic: "nowhere", brokers: strings.Join(cluster.ListenAddrs(), ","), named: map[string]string{"topic.wait.ms": "100", "allow.auto.create.topics": "false"}, wait: 10 * time.Second}
	failed, err := j.run(context.Background(), strings.NewReader(strings.Repeat("line\n", 30)), &out, &complaints)
	if err != nil || failed != 30 || strings.Count(complaints.String(), "troupe: nowhere") != mostErrors {
		t.Errorf("%d failed, %v: %s", failed, err, &complaints)
	}
	for _, j := range []job{{}, {topic: "t"}, {topic: "t", brokers: "x"}, {topic: "t", file: "/does/not/exist"}, {topic: "t", named: map[string]string{"no.such.property": "1"}}} {
		if _, err := j.run(context.Background(), strings.NewReader(""), &out, &complaints); err == nil {
			t.Errorf("%+v is accepted", j)
		}
	}
}

// TestLongLine: what stands before it is sent, and where it is is said.
func TestLongLine(t *testing.T) {
	cluster := start(t)
	var out, complaints bytes.Buffer
	j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), wait: 10 * time.Second}
	_, err := j.run(context.Background(), strings.NewReader("1\n2\n"+strings.Repeat("l", longestLine+1)+"\n4\n"), &out, &complaints)
	if !errors.Is(err, bufio.ErrTooLong) || !strings.Contains(err.Error(), "after line 2") || !strings.HasPrefix(out.String(), "2 records acknowledged") {
		t.Errorf("%v; %s", err, &out)
	}
}

// TestInterrupt: what was read has its outcome, and the rest is not read.
func TestInterrupt(t *testing.T) {
	cluster := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var out, complaints bytes.Buffer
	j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), generate: 1_000_000, size: 10, rate: 1000, named: map[string]string{"linger.ms": "300"}, wait: 10 * time.Second}
	began := time.Now()
	if _, err := j.run(ctx, nil, &out, &complaints); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if strings.HasPrefix(out.String(), "0 records") || !strings.Contains(out.String(), " records acknowledged, 0 not persisted, 0 possibly") {
		t.Errorf("said %q", &out)
	}

	// An input that says nothing does not hold the end up.
	in, silent := io.Pipe()
	defer func() { _ = silent.Close() }()
	j.generate = 0
	if _, err := j.run(ctx, in, &out, &complaints); err != nil {
		t.Error(err)
	}
}

// TestQuantile of requests that were counted by how long they took.
func TestQuantile(t *testing.T) {
	var s troupe.Stats
	s.RequestTimes[0], s.RequestTimes[3], s.RequestTimes[5] = 90, 9, 1
	for part, want := range map[float64]time.Duration{0.5: time.Millisecond, 0.9: time.Millisecond, 0.99: 8 * time.Millisecond, 1: 32 * time.Millisecond} {
		if got := quantile(s, part); got != want {
			t.Errorf("%v: %v, expected %v", part, got, want)
		}
	}
	if quantile(troupe.Stats{}, 0.99) != time.Millisecond {
		t.Error("of none")
	}
}
