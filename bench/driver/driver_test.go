package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

func TestMurmur2IsFranzGos(t *testing.T) {
	const partitions = 12
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 200 {
		key := noise(random, n%40)
		if got, want := int(murmur2(key)&0x7fffffff)%partitions, theirs.Partition(&kgo.Record{Key: key}, partitions); got != want {
			t.Fatalf("key %x: partition %d, want %d", key, got, want)
		}
	}
}

func TestFloorBatchIsABatch(t *testing.T) {
	b := floorBatch{bytes: appendProduce(nil, "bench", 3)}
	records := [][2][]byte{{nil, []byte("v")}, {[]byte("key"), bytes.Repeat([]byte("x"), 300)}, {[]byte{}, []byte{}}}
	for i, r := range records {
		b.append(1000+int64(i)*100, r[0], r[1])
	}
	raw := b.bytes[b.start()+batchHeader:]
	for i, want := range records {
		// A Record's length is a signed varint before it.
		size, n := 0, 0
		for shift := 0; ; shift += 7 {
			size |= int(raw[n]&0x7f) << shift
			n++
			if raw[n-1] < 0x80 {
				break
			}
		}
		size = size>>1 ^ -(size & 1)
		var r kmsg.Record
		if err := r.ReadFrom(raw[:n+size]); err != nil {
			t.Fatal(err)
		}
		raw = raw[n+size:]
		if !bytes.Equal(r.Key, want[0]) || !bytes.Equal(r.Value, want[1]) || r.OffsetDelta != int32(i) || r.TimestampDelta64 != int64(i)*100 {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	if len(raw) != 0 {
		t.Errorf("%d bytes too many", len(raw))
	}
}

func TestTallyFindsWhatIsWrong(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		outcomes []error
		ok       bool
	}{
		"right":  {[]error{nil, nil, nil}, true},
		"lost":   {[]error{nil, nil}, false},
		"twice":  {[]error{nil, nil, nil, nil}, false},
		"failed": {[]error{nil, nil, nil, broken}, false},
	} {
		tally := newTally(2)
		for i, err := range c.outcomes {
			tally.done(int32(i%2), 0, err)
		}
		if err := tally.check(3); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	strange := newTally(2)
	strange.done(2, 0, nil)
	if strange.check(1) == nil {
		t.Error("a partition that is not there was accepted")
	}
}

func TestWorkersSendTheSameEveryTime(t *testing.T) {
	s := Settings{Size: 100, Goroutines: 3, Keyed: true, Codec: "lz4", Partitions: 1}
	a, b := newWorkers(s), newWorkers(s)
	for range 50_000 { // around the end of the corpus
		for i := range a {
			if !bytes.Equal(a[i].keys.next(), b[i].keys.next()) || !bytes.Equal(a[i].values.next(), b[i].values.next()) {
				t.Fatal("two runs differ")
			}
		}
	}
	unkeyed := newWorkers(Settings{Size: 0, Goroutines: 1, Codec: "none"})[0]
	if unkeyed.keys.next() != nil || len(unkeyed.values.next()) != 0 {
		t.Error("a key without -keyed, or a value with -size 0")
	}
}

// remember is a client that tells each record at once, after a pause.
type remember struct {
	at    []time.Duration
	pause time.Duration // of the first record
	*tally
}

func (r *remember) produce(_ context.Context, _ *worker, n int, at time.Duration) error {
	if len(r.at) == 0 {
		time.Sleep(r.pause)
	}
	r.at = append(r.at, at)
	r.done(0, at, nil)
	return nil
}
func (*remember) flush(context.Context) error { return nil }
func (*remember) close(context.Context) error { return nil }
func (*remember) settings() []string          { return nil }

func TestPacedSendsAtTheRate(t *testing.T) {
	s := Settings{Size: 1, Goroutines: 1, Codec: "none", Records: 20, Rate: 1000, Mode: figure.ModeStream}
	tally := newTally(1)
	c := &remember{tally: tally}
	begin := time.Now()
	if err := load(t.Context(), c, tally, newWorkers(s), s); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 19*time.Millisecond {
		t.Errorf("20 records at 1,000 per second took %v", took)
	}
	if !slices.IsSorted(c.at) || c.at[1] != time.Millisecond {
		t.Errorf("intended at %v", c.at)
	}
}

// A client that stalls must not make the generator wait with it: the records that
// should have been sent meanwhile have waited, too.
func TestStallCountsForAllRecordsBehindIt(t *testing.T) {
	const stall, n = 50 * time.Millisecond, 40
	s := Settings{Size: 1, Goroutines: 1, Codec: "none", Records: n, Rate: 1000, Mode: figure.ModeStream}
	tally := newTally(1)
	tally.latencies = make([]time.Duration, n)
	if err := load(t.Context(), &remember{tally: tally, pause: stall}, tally, newWorkers(s), s); err != nil {
		t.Fatal(err)
	}
	for i, latency := range tally.latencies {
		if least := stall - time.Duration(i)*time.Millisecond; latency < least {
			t.Errorf("record %d: %v from the time it should have been sent, want at least %v", i, latency, least)
		}
	}
}

func TestDueIsOneRowOfAllWorkers(t *testing.T) {
	var all []time.Duration
	const several, each = 3, 100
	for i := range several {
		for k := range each {
			all = append(all, due(k, i, several, 20_000))
		}
	}
	slices.Sort(all)
	for i, at := range all {
		if want := time.Duration(i) * 50 * time.Microsecond; at != want {
			t.Fatalf("record %d is due at %v, want %v", i, at, want)
		}
	}
}

func TestCallsAreAllTimed(t *testing.T) {
	c := &calling{}
	w := &worker{}
	if err := w.calls(t.Context(), c, 25, 10); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.calls, []int{10, 10, 5}) || len(w.times) != 3 {
		t.Errorf("calls of %v records, %d times", c.calls, len(w.times))
	}
}

type calling struct {
	remember
	calls []int
}

func (c *calling) call(_ context.Context, _ *worker, n int) error {
	c.calls = append(c.calls, n)
	return nil
}

func TestAwaitCountsFromTheStart(t *testing.T) {
	tally := newTally(1)
	tally.done(0, 0, nil)
	tally.reset()
	tally.done(0, 0, nil)
	soon, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if err := tally.await(soon, 2); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if tally.await(ended, 3) == nil {
		t.Error("two records were taken for three")
	}
	tally.done(0, 0, errors.New("broken"))
	if err := tally.await(ended, 3); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a failed record is told, too: %v", err)
	}
}

func TestOptionsAreOfTheirClients(t *testing.T) {
	s := Settings{Client: "franz", Codec: "none", Acks: "all", Options: map[string]string{"linger.ms": "3"}}
	for _, name := range []string{"franz", "sarama", "kafka-go"} {
		if _, err := clients[name].create(t.Context(), s, newTally(1)); err == nil {
			t.Errorf("%s took an option that it does not have", name)
		}
	}
	var o = options{}
	if o.Set("no value") == nil || o.Set("a=b=c") != nil || o["a"] != "b=c" {
		t.Errorf("options %v", o)
	}
}
