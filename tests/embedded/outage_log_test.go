package embedded_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// logLines is a log that can be read while it is written.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// about returns the lines with one of the messages.
func (l *logLines) about(t testing.TB, texts ...string) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := json.NewDecoder(bytes.NewReader(l.b.Bytes())); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(texts, fmt.Sprint(line["message"])) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestOneOutageOneLine: three brokers, which are the three bootstrap addresses
// as well, go away under load and come back.
func TestOneOutageOneLine(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 3, map[string]int32{"t": 3}, kfake.DefaultNumPartitions(3))
	place(t, cluster, "t", 3, 3)
	n, log := newNetwork(), &logLines{}
	p := newProducer(t, cluster, fast(n.option(), quietly(log))...)
	for part := range int32(3) {
		warm(t, p, "t", part)
	}
	n.setDown(true)
	var all outcomes
	for part := range int32(3) {
		must(t, p, to("t", part, "v"), all.add)
	}
	dials := n.dialed()
	eventually(t, "many attempts", func() bool { return n.dialed() > dials+40 })
	lines := log.about(t, "no connection; trying again", "still no connection", "connected again")
	if len(lines) != 1 || lines[0]["message"] != "no connection; trying again" || lines[0]["address"] == "" || lines[0]["error"] == "" {
		t.Fatalf("during the outage the log has %v", lines)
	}
	n.setDown(false)
	for _, d := range all.wait(t, 3) {
		if d.Err != nil {
			t.Error(d.Err)
		}
	}
	eventually(t, "the line with the count", func() bool { return len(log.about(t, "connected again")) == 1 })
	time.Sleep(50 * time.Millisecond)
	lines = log.about(t, "no connection; trying again", "still no connection", "connected again")
	if len(lines) != 2 {
		t.Fatalf("after the outage the log has %v", lines)
	}
	brokers, _ := lines[1]["brokers"].([]any)
	for _, b := range []any{"0", "1", "2"} {
		if !slices.Contains(brokers, b) {
			t.Errorf("broker %s is not among %s", b, brokers)
		}
	}
	if times, _ := lines[1]["times"].(float64); times < 30 {
		t.Errorf("%v times", lines[1]["times"])
	}
}
