package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
)

// rejections are the records that SendAll did not admit, by their tag.
type rejections map[uint64]error

func (w *world) sendAll(ctx context.Context, records []messages.Record, o *outcomes, options Options) rejections {
	rejected := make(rejections)
	w.SendAll(ctx, records, o.add, nil, options, func(r *messages.Record, err error) {
		if rejected[r.Tag] != nil {
			w.Errorf("record %d is rejected twice", r.Tag)
		}
		rejected[r.Tag] = err
	})
	return rejected
}

var urgent = Options{Acks: messages.AcksAll, Wait: true, Urgent: true}

// sequence is n records of a topic, with partitions in turn and tags from 1 on.
func sequence(topic string, n, partitions int) []messages.Record {
	var list []messages.Record
	for i := range n {
		r := at(topic, int32(i%partitions), fmt.Sprint(i))
		r.Tag = uint64(i + 1)
		list = append(list, *r)
	}
	return list
}

// one reports whether a partition got everything in one call, and only the last
// record ends the linger.
func (b *fakeBox) one() bool {
	return len(b.calls) == 1 && b.urgent[len(b.urgent)-1] && !slices.Contains(b.urgent[:len(b.urgent)-1], true)
}

// TestSendIsTogether: the records of one call for one partition are appended
// under one lock, whether the topic was known, is discovered later, or has the
// partition by then.
func TestSendIsTogether(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []int32 // the partitions known before, if any
		hungry bool
	}{
		{"a known topic", []int32{0, 1, 2}, false},
		{"a known topic, with chunks", []int32{0, 1, 2}, true},
		{"an unknown topic", nil, false},
		{"an unknown topic, with chunks", nil, true},
		{"partitions beyond the known ones", []int32{0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.hungry = c.hungry
			w.topic("t")
			if c.before != nil {
				w.found(topicOf("t", c.before...))
			}
			var o outcomes
			if rejected := w.sendAll(context.Background(), sequence("t", 60, 3), &o, urgent); len(rejected) != 0 {
				t.Fatal(rejected)
			}
			w.found(topicOf("t", 0, 1, 2))
			for part := range 3 {
				b := w.boxes[fmt.Sprint("t/", part)]
				var want []string
				for i := part; i < 60; i += 3 {
					want = append(want, fmt.Sprint(i))
				}
				if !b.one() || !slices.Equal(b.got, want) {
					t.Errorf("partition %d got %v, urgent %v", part, b.calls, b.urgent)
				}
				b.settle()
			}
			if w.Budget.Used() != 0 {
				t.Errorf("%d bytes are charged", w.Budget.Used())
			}
		})
	}
}

// TestTwoSendsToAnUnknownTopic stay apart from each other and from single
// records, and in order.
func TestTwoSendsToAnUnknownTopic(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	w.must(at("t", 0, "first"), &o)
	w.sendAll(context.Background(), sequence("t", 4, 2), &o, urgent)
	w.sendAll(context.Background(), sequence("t", 4, 2), &o, urgent)
	w.must(at("t", 0, "last"), &o)
	w.found(topicOf("t", 0, 1))
	if got := fmt.Sprint(w.boxes["t/0"].calls); got != "[[first] [0 2] [0 2] [last]]" {
		t.Errorf("partition 0 got %s", got)
	}
	if got := fmt.Sprint(w.boxes["t/1"].calls, w.boxes["t/1"].urgent); got != "[[1 3] [1 3]] [false true false true]" {
		t.Errorf("partition 1 got %s", got)
	}
}

// TestSendLargerThanTheParking: what finds no room waits, and goes the direct way
// when the topic is known, behind what was parked.
func TestSendLargerThanTheParking(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	records := sequence("t", 300, 1)
	for i := range records {
		records[i].Value = fmt.Appendf(nil, "%03d%s", i, strings.Repeat("x", 500))
	}
	sent := make(chan rejections, 1)
	go func() { sent <- w.sendAll(context.Background(), records, &o, urgent) }()
	eventually(t, "the call to wait", func() bool { return w.Budget.Waiting() == 1 })
	if n := w.Unanswered(); n == 0 || n == 300 {
		t.Fatalf("%d records are parked", n)
	}
	w.found(topicOf("t", 0))
	if rejected := <-sent; len(rejected) != 0 {
		t.Fatal(rejected)
	}
	b := w.boxes["t/0"]
	if len(b.got) != 300 || !slices.IsSorted(b.got) || len(b.calls) != 2 {
		t.Errorf("%d records in %d calls, in order %v", len(b.got), len(b.calls), slices.IsSorted(b.got))
	}
}

// TestSendDrainsAsTheBudgetAllows: what has no room stays, in order, and keeps
// the partition that was chosen for it.
func TestSendDrainsAsTheBudgetAllows(t *testing.T) {
	asked := 0
	w := newWorld(t, func(_ *messages.Settings, c *Config) {
		c.HashedByMurmur2 = false
		c.Partitioner = partitioners.Func(func(*partitioners.Input) int32 { asked++; return int32(asked % 2) })
	})
	w.hungry = true
	var o outcomes
	records := make([]messages.Record, 20)
	for i := range records {
		records[i] = *record("t", fmt.Sprintf("%02d", i))
	}
	w.sendAll(context.Background(), records, &o, urgent)
	other := w.Budget.NewAccount("another", 1)
	held, err := w.Budget.TryAcquire(other, bufferBytes-w.Budget.Used()-memory.LeastChunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	w.found(topicOf("t", 0, 1))
	first, second := w.boxes["t/1"], w.boxes["t/0"]
	if len(first.got) != 10 || len(second.got) != 0 {
		t.Fatalf("with room for one chunk, the partitions got %v and %v", first.got, second.got)
	}
	w.Budget.Release(held)
	if len(second.got) != 10 || !slices.IsSorted(second.got) || asked != 20 {
		t.Errorf("then the other got %v; the partitioner was asked %d times", second.got, asked)
	}
}

// TestPartOfASendDoesNotLinger: what a drain appended before the room ran out is
// ready.
func TestPartOfASendDoesNotLinger(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.ParkedTopicPercent = 100 })
	w.hungry = true
	w.topic("t")
	var o outcomes
	const n = 27
	records := sequence("t", n, 1)
	for i := range records {
		records[i].Value = fmt.Appendf(nil, "%02d%s", i, strings.Repeat("x", 3000))
	}
	noWait := urgent
	noWait.Wait = false
	if rejected := w.sendAll(context.Background(), records, &o, noWait); len(rejected) != 0 {
		t.Fatalf("%d rejected", len(rejected))
	}
	held, err := w.Budget.TryAcquire(w.Budget.NewAccount("another", 1), bufferBytes-w.Budget.Used()-memory.ChunkBytes)
	if err != nil {
		t.Fatal(err)
	}
	w.found(topicOf("t", 0))
	b := w.boxes["t/0"]
	if len(b.got) == 0 || len(b.got) == n || b.urged.Load() != 1 || slices.Contains(b.urgent, true) {
		t.Errorf("%d records appended, urged %d times", len(b.got), b.urged.Load())
	}
	w.Budget.Release(held)
	if len(b.got) != n || !slices.IsSorted(b.got) || !b.urgent[n-1] {
		t.Errorf("%d appended in the end", len(b.got))
	}
}

// TestSendOfSmallAndLarge: a record above the size of a chunk follows others.
func TestSendOfSmallAndLarge(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0))
	records := sequence("t", 5, 1)
	records[1].Value, records[3].Value = make([]byte, 100_000), make([]byte, 200_000)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var o outcomes
	if rejected := w.sendAll(ctx, records, &o, urgent); len(rejected) != 0 || !slices.Equal(w.boxes["t/0"].tags, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("%v; the partition got %v", rejected, w.boxes["t/0"].tags)
	}
	w.boxes["t/0"].settle()
	if w.Budget.Used() != 0 {
		t.Errorf("%d bytes are charged", w.Budget.Used())
	}
}

// TestSendSurvivesARetirement: a topic whose accumulators end while a Send is
// under way is found anew, together and in order; the producer is not closed, so
// nothing is refused.
func TestSendSurvivesARetirement(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("known at once ", known), func(t *testing.T) {
			w := newWorld(t)
			topic := w.topic("t")
			w.found(topicOf("t", 0))
			old := w.boxes["t/0"]
			old.closed = true
			old.onClosed = func() {
				old.onClosed = nil
				topic.forget(&routes{})
				if known {
					w.found(topicOf("t", 0))
				}
			}
			var o outcomes
			if rejected := w.sendAll(context.Background(), sequence("t", 5, 1), &o, urgent); len(rejected) != 0 {
				t.Fatal(rejected)
			}
			w.found(topicOf("t", 0))
			if b := w.boxes["t/0.2"]; b.values() != "0 1 2 3 4" || !b.one() {
				t.Errorf("the new partition got %v", b.calls)
			}
		})
	}
}

// TestSendKeepsItsOrderWhenItsTopicMoves: the records that are left of a call when
// their topic is created again go to the partitions that were chosen for them, as
// those do that had been taken in.
func TestSendKeepsItsOrderWhenItsTopicMoves(t *testing.T) {
	free := int32(0)
	w := newWorld(t, func(_ *messages.Settings, c *Config) {
		c.HashedByMurmur2 = false
		c.Partitioner = partitioners.Func(func(*partitioners.Input) int32 { return free })
	})
	topic := w.topic("t")
	w.found(topicOf("t", 0, 1))
	for _, name := range []string{"t/0", "t/1"} {
		w.boxes[name].closed = true
	}
	w.boxes["t/0"].onClosed = func() {
		w.boxes["t/0"].onClosed = nil
		free = 1
		topic.forget(&routes{})
		w.found(topicOf("t", 0, 1))
	}
	records := []messages.Record{
		{Topic: "t", Tag: 1, Value: []byte("free")},
		{Topic: "t", Tag: 2, Value: []byte("placed"), Partition: messages.AtPartition(1)},
		{Topic: "t", Tag: 3, Value: []byte("free as well")},
	}
	var o outcomes
	if rejected := w.sendAll(context.Background(), records, &o, urgent); len(rejected) != 0 {
		t.Fatal(rejected)
	}
	first, second := w.boxes["t/0.2"], w.boxes["t/1.2"]
	if first.values() != "free free as well" || !first.one() || second.values() != "placed" {
		t.Errorf("the partitions got %v and %v", first.calls, second.calls)
	}
}

// TestSendRejects each record that cannot be admitted, and no other.
func TestSendRejects(t *testing.T) {
	w := newWorld(t, func(_ *messages.Settings, c *Config) {
		c.HashedByMurmur2 = false
		c.Partitioner = partitioners.Func(func(in *partitioners.Input) int32 {
			if string(in.Message.Value) == "out of range" {
				return 9
			}
			return 0
		})
	})
	w.topic("t")
	w.found(topicOf("t", 0))
	var o outcomes
	records := []messages.Record{
		{Topic: "t", Tag: 1, Value: []byte("good")},
		{Topic: "", Tag: 2},
		{Topic: "t", Tag: 3, Value: make([]byte, 2<<20)},
		{Topic: "t", Tag: 4, Value: []byte("out of range")},
		{Topic: "t", Tag: 5, Value: []byte("as good")},
	}
	rejected := w.sendAll(context.Background(), records, &o, urgent)
	for tag, want := range (rejections{2: messages.ErrInvalidRecord, 3: messages.ErrRecordTooLarge, 4: messages.ErrInvalidPartitioner}) {
		if !errors.Is(rejected[tag], want) {
			t.Errorf("record %d: %v", tag, rejected[tag])
		}
	}
	if b := w.boxes["t/0"]; len(rejected) != 3 || b.values() != "good as good" || !b.one() {
		t.Errorf("%d rejected, the partition got %v", len(rejected), b.calls)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	mine := errors.New("mine")
	cancel(mine)
	if rejected := w.sendAll(ctx, sequence("t", 2, 1), &o, urgent); !errors.Is(rejected[1], mine) || !errors.Is(rejected[2], mine) {
		t.Errorf("after the context's end: %v", rejected)
	}
	w.Refuse(messages.ErrClosed)
	if rejected := w.sendAll(context.Background(), sequence("t", 2, 1), &o, urgent); !errors.Is(rejected[1], messages.ErrClosed) || len(rejected) != 2 {
		t.Errorf("after the end: %v", rejected)
	}
}

// TestSendThatRunsOutOfRoom ends the linger of what it appended.
func TestSendThatRunsOutOfRoom(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0))
	var records []messages.Record
	for i := range 30 {
		r := at("t", 0, strings.Repeat("x", 60_000))
		r.Tag = uint64(i + 1)
		records = append(records, *r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	var o outcomes
	rejected := w.sendAll(ctx, records, &o, urgent)
	b := w.boxes["t/0"]
	if len(rejected)+len(b.got) != 30 || len(b.got) == 0 || len(rejected) == 0 || b.urged.Load() == 0 {
		t.Errorf("%d rejected, %d appended, urged %d times", len(rejected), len(b.got), b.urged.Load())
	}
	for tag, err := range rejected {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("record %d: %v", tag, err)
		}
	}
	b.settle()
	if w.Budget.Used() != 0 {
		t.Errorf("%d bytes are charged", w.Budget.Used())
	}
}

// hastyClock lets the time of a wait pass at once.
type hastyClock struct {
	*actortest.Clock
	waited time.Duration
}

func (c *hastyClock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c.waited += d
	c.Advance(d)
	return context.WithDeadline(parent, time.Unix(1, 0))
}

// TestSendWaitsOnceForRoom: all the waits of a call together take as long as one,
// for partitions and for a topic that nobody knows.
func TestSendWaitsOnceForRoom(t *testing.T) {
	const partitions = 8
	var clock *hastyClock
	w := newWorld(t, func(s *messages.Settings, _ *Config) {
		clock = &hastyClock{Clock: s.Clock.(*actortest.Clock)}
		s.Clock = clock
	})
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0, 1, 2, 3, 4, 5, 6, 7))
	all, err := w.Budget.TryAcquire(w.Budget.NewAccount("others", 1), bufferBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Budget.Release(all)
	o := urgent
	o.MaxBlock = time.Minute
	records := sequence("t", 2*partitions, partitions)
	for _, unknown := range []string{"some", "other"} {
		records = append(records, messages.Record{Topic: unknown, Tag: uint64(len(records) + 1)})
	}
	var answers outcomes
	rejected := w.sendAll(context.Background(), records, &answers, o)
	if clock.waited != o.MaxBlock {
		t.Errorf("waited for %v", clock.waited)
	}
	for _, r := range records {
		if !errors.Is(rejected[r.Tag], messages.ErrBufferFull) {
			t.Errorf("record %d: %v", r.Tag, rejected[r.Tag])
		}
	}
}

func TestChunksFor(t *testing.T) {
	const chunk = memory.ChunkBytes
	for _, c := range []struct {
		name         string
		bytes        []int
		first, ahead int
	}{
		{"one", []int{100}, 100 + smallSlack, 0},
		{"a few", []int{100, 200, 300}, 600 + smallSlack, 0},
		{"just full", []int{chunk - smallSlack - 1, 1}, chunk, 0},
		{"one byte more", []int{chunk - smallSlack, 1}, chunk, 1},
		{"nothing is cut in two", []int{40_000, 40_000, 40_000}, 40_000 + smallSlack, 2},
		{"larger than a chunk", []int{100_000}, chunk, 0},
		{"larger than a chunk, later", []int{10, 100_000, 10}, 10 + smallSlack, 2},
		{"very many", slices.Repeat([]int{chunk}, 100), chunk, maxChunksAhead},
	} {
		list := make([]messages.Admission, len(c.bytes))
		for i, n := range c.bytes {
			list[i].Bytes = n
		}
		if first, ahead := chunksFor(list); first != c.first || ahead != c.ahead {
			t.Errorf("%s: %d bytes and %d chunks, expected %d and %d", c.name, first, ahead, c.first, c.ahead)
		}
	}
}

// TestFlushAndFailAll reach every partition of every topic, and Unanswered counts
// them all.
func TestFlushAndFailAll(t *testing.T) {
	w := newWorld(t)
	var o outcomes
	for _, topic := range []string{"a", "b"} {
		w.topic(topic)
	}
	w.found(topicOf("a", 0, 1), topicOf("b", 2))
	w.must(at("a", 0, "v"), &o)
	w.must(at("b", 2, "v"), &o)
	w.must(at("b", 3, "beyond"), &o)
	w.must(record("unknown", "v"), &o)
	if n := w.Unanswered(); n != 4 {
		t.Errorf("%d records are counted", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.FailAll(messages.ErrClosed)
	for name, b := range w.boxes {
		if len(b.flushes) == 0 || !errors.Is(b.failed, messages.ErrClosed) {
			t.Errorf("%s: %d flushes, failed with %v", name, len(b.flushes), b.failed)
		}
	}
	if n := len(o.all()); n != 2 {
		t.Errorf("%d parked records have an outcome", n)
	}
}
