package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/internal/actortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(actortest.Patient{M: m}) }

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
	if code := j.run(context.Background(), strings.NewReader("a:1\nb:2:3\r\nplain\n\nlast"), &out, &complaints); code != exitAll || complaints.Len() > 0 {
		t.Fatalf("%d, %s", code, &complaints)
	}
	if got := strings.Join(read(t, cluster, 5), " "); got != "a|1 b|2:3 |plain | |last" {
		t.Errorf("read %q", got)
	}
	if !strings.HasPrefix(out.String(), "5 records acknowledged, 0 not persisted, 0 possibly persisted, 0 refused") || strings.Contains(out.String(), "compressed") {
		t.Errorf("said %q", &out)
	}
}

// TestGenerate: so many records, no faster than the rate.
func TestGenerate(t *testing.T) {
	cluster := start(t)
	var out, complaints bytes.Buffer
	j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), generate: 100, size: 10, rate: 500, every: 20 * time.Millisecond, wait: 10 * time.Second}
	began := time.Now()
	code := j.run(context.Background(), nil, &out, &complaints)
	if took := time.Since(began); code != exitAll || took < 180*time.Millisecond {
		t.Errorf("%d within %v: %s", code, took, &complaints)
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
	brokers := strings.Join(cluster.ListenAddrs(), ",")
	var out, complaints bytes.Buffer
	j := job{topic: "nowhere", brokers: brokers, named: map[string]string{"topic.wait.ms": "100", "allow.auto.create.topics": "false"}, wait: 10 * time.Second}
	code := j.run(context.Background(), strings.NewReader(strings.Repeat("line\n", 30)), &out, &complaints)
	if code != exitNotAll || strings.Count(complaints.String(), "troupe: nowhere") != mostErrors || strings.Count(complaints.String(), "only counted") != 1 || !strings.Contains(out.String(), "30 not persisted") {
		t.Errorf("%d: %s%s", code, &complaints, &out)
	}
	// Why the end came before the outcomes is said after however many errors.
	complaints.Reset()
	j.named["topic.wait.ms"], j.wait = "60000", 10*time.Millisecond
	if code := j.run(context.Background(), strings.NewReader(strings.Repeat("line\n", 30)), &out, &complaints); code != exitNotAll || !strings.Contains(complaints.String(), "with 30 records or callbacks left") {
		t.Errorf("%d: %s", code, &complaints)
	}
	for _, j := range []job{{}, {topic: "t"}, {topic: "t", brokers: "x"}, {topic: "t", brokers: brokers, rate: math.NaN()}, {topic: "t", file: "/does/not/exist"}, {topic: "t", named: map[string]string{"no.such.property": "1"}}} {
		complaints.Reset()
		if code := j.run(context.Background(), strings.NewReader(""), &out, &complaints); code != exitNotBegun || complaints.Len() == 0 || strings.Contains(complaints.String(), "troupe: troupe") {
			t.Errorf("%+v: %d, %s", j, code, &complaints)
		}
	}
}

// TestWhereTo: the brokers of the command line are instead of those of the file.
func TestWhereTo(t *testing.T) {
	cluster := start(t)
	file := filepath.Join(t.TempDir(), "client.properties")
	if err := os.WriteFile(file, []byte("bootstrap.servers=127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	brokers := strings.Join(cluster.ListenAddrs(), ",")
	for _, j := range []job{{brokers: brokers}, {named: map[string]string{"bootstrap.servers": brokers}}} {
		j.topic, j.file, j.wait = "t", file, 10*time.Second
		var out, complaints bytes.Buffer
		if code := j.run(context.Background(), strings.NewReader("v\n"), &out, &complaints); code != exitAll || strings.Contains(out.String(), "not made") {
			t.Errorf("%d: %s%s", code, &complaints, &out)
		}
	}
}

// TestLongLine: what stands before it is sent, and where it is is said.
func TestLongLine(t *testing.T) {
	cluster := start(t)
	for tooLong, input := range map[bool]io.Reader{
		true:  strings.NewReader("1\n2\n" + strings.Repeat("l", longestLine+1) + "\n4\n"),
		false: io.MultiReader(strings.NewReader("1\n2\nhalf a li"), iotest.ErrReader(os.ErrPermission)),
	} {
		var out, complaints bytes.Buffer
		j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), wait: 10 * time.Second}
		code := j.run(context.Background(), input, &out, &complaints)
		if code != exitNotAll || !strings.Contains(complaints.String(), "line 3") || strings.Contains(complaints.String(), "bytes") != tooLong || !strings.HasPrefix(out.String(), "2 records acknowledged") {
			t.Errorf("%d: %s%s", code, &complaints, &out)
		}
	}
	var longest int
	j := job{}
	if err := j.each(context.Background(), strings.NewReader(strings.Repeat("l", longestLine)+"\r\n"), func(_, value []byte) { longest = len(value) }); err != nil || longest != longestLine {
		t.Errorf("%d bytes, %v", longest, err)
	}
}

// TestRate: what a pause has left out is not caught up with.
func TestRate(t *testing.T) {
	j := job{generate: 21, size: 1, rate: 1000}
	var last time.Time
	n := 0
	_ = j.each(context.Background(), nil, func(_, _ []byte) {
		switch n++; n {
		case 1:
			time.Sleep(200 * time.Millisecond)
			last = time.Now()
		case 21:
			if took := time.Since(last); took < 7*time.Millisecond { // 20, of which 10 may be late
				t.Errorf("20 records within %v", took)
			}
		}
	})
	if n != 21 {
		t.Errorf("%d records", n)
	}
}

// TestInterrupt: what was read has its outcome, also what waits for room, and the rest
// is not read.
func TestInterrupt(t *testing.T) {
	cluster := start(t)
	slow := func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		time.Sleep(50 * time.Millisecond)
		return nil, nil, false
	}
	for what, named := range map[string]map[string]string{
		"lingers":        {"linger.ms": "300"},
		"waits for room": {"buffer.memory": "3000000", "batch.size": "100000", "compression.type": "none"},
	} {
		j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), generate: 100_000_000, size: 10, rate: 1000, named: named, wait: 10 * time.Second}
		if what == "waits for room" {
			j.size, j.rate = 1000, 0
			cluster.ControlKey(int16(kmsg.Produce), slow)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var out, complaints bytes.Buffer
		time.AfterFunc(300*time.Millisecond, cancel)
		code := j.run(ctx, nil, &out, &complaints)
		if code != exitNotAll || complaints.String() != "troupe: interrupted\n" || strings.HasPrefix(out.String(), "0 records") ||
			!strings.Contains(out.String(), " records acknowledged, 0 not persisted, 0 possibly persisted, 0 refused") {
			t.Errorf("%s: %d: %s%s", what, code, &complaints, &out)
		}
	}

	// An input that says nothing does not hold the end up.
	in, silent := io.Pipe()
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, complaints bytes.Buffer
	j := job{topic: "t", brokers: strings.Join(cluster.ListenAddrs(), ","), wait: 10 * time.Second}
	if code := j.run(ctx, in, &out, &complaints); code != exitNotAll {
		t.Errorf("%d: %s", code, &complaints)
	}
}

// TestQuantile of requests that were counted by how long they took.
func TestQuantile(t *testing.T) {
	var s troupe.Stats
	s.RequestTimes[0], s.RequestTimes[3], s.RequestTimes[5] = 90, 9, 1
	for part, want := range map[float64]string{0.5: "up to 1ms", 0.9: "up to 1ms", 0.99: "up to 8ms", 1: "up to 32ms"} {
		if got := quantile(s, part); got != want {
			t.Errorf("%v: %v, expected %v", part, got, want)
		}
	}
	one := troupe.Stats{}
	one.RequestTimes[9] = 1
	if got := quantile(one, 0.99); got != "up to 512ms" {
		t.Errorf("of one request: %v", got)
	}
	long := troupe.Stats{}
	long.RequestTimes[len(long.RequestTimes)-1] = 1
	if got := quantile(long, 0.99); !strings.HasPrefix(got, "over ") {
		t.Errorf("of a request that took very long: %v", got)
	}
	if got := summary(troupe.Stats{}, 0, time.Second); strings.Contains(got, "99") {
		t.Errorf("of none: %s", got)
	}
}
