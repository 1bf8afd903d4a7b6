package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
)

func TestTopicNames(t *testing.T) {
	w := newWorld(t)
	for name, valid := range map[string]bool{
		"a": true, "a.b_c-D9": true, "...": true, strings.Repeat("n", MaxTopicNameBytes): true,
		"": false, ".": false, "..": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("n", MaxTopicNameBytes+1): false,
	} {
		topic, err := w.Topic(name)
		if valid != (err == nil) || (!valid && !errors.Is(err, messages.ErrInvalidRecord)) {
			t.Errorf("%.10q: %v", name, err)
		}
		if valid && topic.Name() != name {
			t.Errorf("%.10q is called %.10q", name, topic.Name())
		}
	}
	first := w.topic("a")
	w.root.clear()
	if w.topic("a") != first || len(got[*messages.TrackTopic](w.root)) != 0 {
		t.Error("a topic is made twice")
	}
}

// TestRefusedOnAdmission: nothing of it is sent, and no callback comes.
func TestRefusedOnAdmission(t *testing.T) {
	w := newWorld(t, func(s *messages.Settings, _ *Config) { s.RecordMaxBytes = 1000 })
	topic := w.topic("t")
	w.found(topicOf("t", 0))
	mine := errors.New("mine")
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(mine)
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(*messages.Record)
		want   error
	}{
		{"just small enough", context.Background(), func(r *messages.Record) { r.Value = make([]byte, 990) }, nil},
		{"too large", context.Background(), func(r *messages.Record) { r.Value = make([]byte, 1100) }, messages.ErrRecordTooLarge},
		{"too large by its headers", context.Background(), func(r *messages.Record) {
			r.Headers = []messages.Header{{Key: strings.Repeat("k", 600), Value: make([]byte, 600)}}
		}, messages.ErrRecordTooLarge},
		{"a negative partition", context.Background(), func(r *messages.Record) { r.Partition = messages.AtPartition(-1) }, messages.ErrInvalidRecord},
		{"before 1970", context.Background(), func(r *messages.Record) { r.Timestamp = time.Unix(-1, 0) }, messages.ErrInvalidRecord},
		{"an ended context", ended, func(*messages.Record) {}, mine},
	} {
		r := record("t", "v")
		c.change(r)
		err := topic.Produce(c.ctx, r, func(messages.Delivery) { t.Errorf("%s: called back", c.name) }, Options{Wait: true})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := len(w.boxes["t/0"].got); n != 1 {
		t.Errorf("%d records were admitted", n)
	}
}

// TestPartitioners: whatever a partitioner answers, or does, concerns the caller
// alone, and it is asked once.
func TestPartitioners(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func() int32
		want   error
	}{
		{"a partition", func() int32 { return 2 }, nil},
		{"no choice", func() int32 { return partitioners.Unassigned }, nil},
		{"one above", func() int32 { return 3 }, messages.ErrInvalidPartitioner},
		{"invalid", func() int32 { return partitioners.Invalid }, messages.ErrInvalidPartitioner},
		{"far below", func() int32 { return -1 << 31 }, messages.ErrInvalidPartitioner},
		{"a panic", func() int32 { panic("mine") }, messages.ErrInvalidPartitioner},
	} {
		for _, parked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, parked %v", c.name, parked), func(t *testing.T) {
				asked := 0
				w := newWorld(t, func(_ *messages.Settings, config *Config) {
					config.HashedByMurmur2 = false
					config.Partitioner = partitioners.Func(func(in *partitioners.Input) int32 {
						asked++
						if in.Topic != "t" || len(in.Partitions) != 3 || len(in.Available) != 3 || in.Message.Partition != -1 || string(in.Message.Value) != "v" {
							t.Errorf("asked for %+v", in)
						}
						return c.answer()
					})
				})
				w.topic("t")
				var o outcomes
				if !parked {
					w.found(topicOf("t", 0, 1, 2))
				}
				err := w.produce(record("t", "v"), &o)
				if parked {
					if err != nil {
						t.Fatal(err)
					}
					w.found(topicOf("t", 0, 1, 2))
					if list := o.all(); len(list) == 1 {
						err = list[0].Err
					}
				}
				if !errors.Is(err, c.want) || asked != 1 {
					t.Errorf("%v; asked %d times", err, asked)
				}
				if c.name == "a partition" && w.boxes["t/2"].values() != "v" {
					t.Error("the record is not there")
				}
			})
		}
	}
}

// TestGivenPartitionIsNotAskedFor: a partition of the record's own, and the hash
// of its key, need no partitioner.
func TestGivenPartitionIsNotAskedFor(t *testing.T) {
	w := newWorld(t, func(_ *messages.Settings, c *Config) {
		c.Partitioner = partitioners.Func(func(*partitioners.Input) int32 { t.Error("asked"); return 0 })
	})
	w.topic("t")
	w.found(topicOf("t", 0, 1, 2))
	var o outcomes
	w.must(at("t", 2, "given"), &o)
	keyed := record("t", "keyed")
	keyed.Key = []byte("key")
	w.must(keyed, &o)
	w.must(keyed, &o)
	want := fmt.Sprint("t/", partitioners.Murmur2(keyed.Key)&0x7fffffff%3)
	if b := w.boxes[want]; !strings.HasSuffix(b.values(), "keyed keyed") || !strings.HasPrefix(w.boxes["t/2"].values(), "given") {
		t.Errorf("%s got %q", want, b.values())
	}
}

// TestClosedPartition: a caller who finds its partition closed looks again; only
// when nothing has changed is it told so.
func TestClosedPartition(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("t")
	w.found(topicOf("t", 0))
	old := w.boxes["t/0"]
	old.closed = true
	var o outcomes
	if err := w.produce(record("t", "v"), &o); !errors.Is(err, messages.ErrClosed) {
		t.Errorf("a closed partition: %v", err)
	}
	old.onClosed = func() {
		topic.forget(&routes{})
		w.found(topicOf("t", 0))
	}
	w.must(record("t", "v"), &o)
	if got := w.boxes["t/0.2"].values(); got != "v" {
		t.Errorf("the successor got %q", got)
	}
}

// TestPartitionThatCrashes: the caller gets an error and no panic, the record has
// no outcome besides, and the memory comes back.
func TestPartitionThatCrashes(t *testing.T) {
	w := newWorld(t)
	w.found(topicOf("t", 0))
	w.topic("t")
	w.found(topicOf("t", 0))
	box := w.boxes["t/0"]
	box.crashing = true
	var o outcomes
	if err := w.produce(record("t", "v"), &o); !errors.Is(err, messages.ErrInternal) {
		t.Errorf("%v", err)
	}
	list := []messages.Admission{{Record: &messages.Record{Value: []byte("a")}, Bytes: 100}, {Record: &messages.Record{Value: []byte("b")}, Bytes: 100}}
	asked := 0
	rest, err := appendTogether(box, list, true, w.Budget, func(bytes int, _ bool) (*memory.Chunk, error) {
		asked++
		return w.Budget.TryAcquire(box.Account(), bytes)
	})
	if len(rest) != 2 || !errors.Is(err, messages.ErrInternal) || asked > 0 {
		t.Errorf("%d records are left, %v; chunks were asked for %d times", len(rest), err, asked)
	}
	box.crashing = false
	w.must(record("t", "w"), &o)
	if got := box.values(); got != "w" {
		t.Errorf("the partition has %q", got)
	}
}

// TestProduceWithoutRoom: who may not wait is told at once, who may is told
// within its bound, and the chunk of a record that was not admitted comes back.
func TestProduceWithoutRoom(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	topic := w.topic("t")
	w.found(topicOf("t", 0))
	value := strings.Repeat("x", 60_000)
	var o outcomes
	n := 0
	for ; w.produce(at("t", 0, value), &o) == nil; n++ {
	}
	if used := w.Budget.Used(); n == 0 || used > bufferBytes*3/4 {
		t.Errorf("%d records of one leader hold %d bytes", n, used)
	}
	if err := w.produce(at("t", 0, value), &o); !errors.Is(err, messages.ErrBufferFull) || !strings.Contains(err.Error(), "topic t") {
		t.Error(err)
	}
	err := topic.Produce(context.Background(), at("t", 0, value), o.add, Options{Wait: true, MaxBlock: time.Millisecond})
	if !errors.Is(err, messages.ErrBufferFull) || !strings.Contains(err.Error(), "max.block.ms") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := topic.Produce(ctx, at("t", 0, value), o.add, Options{Wait: true, MaxBlock: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline of the caller's own: %v", err)
	}
	ended := w.waiting(context.Background(), at("t", 0, value), &o, 0)
	w.boxes["t/0"].settle()
	if err := result(t, ended); err != nil {
		t.Error(err)
	}
	w.boxes["t/0"].settle()
	if len(w.boxes["t/0"].got) != n+1 || w.Budget.Used() != 0 {
		t.Errorf("%d records of %d, %d bytes are charged", len(w.boxes["t/0"].got), n+1, w.Budget.Used())
	}
}
