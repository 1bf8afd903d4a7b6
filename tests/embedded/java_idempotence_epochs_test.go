package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// identities answers InitProducerId in a cluster's place, as long as there is
// something in the list, and counts all such requests.
type identities struct {
	mu    sync.Mutex
	give  []messages.Identity
	asked int
	hold  chan struct{} // the requests that come then wait for its end
}

func (ids *identities) attach(cluster interface {
	ControlKey(int16, func(kmsg.Request) (kmsg.Response, error, bool))
	KeepControl()
	SleepControl(func())
}) {
	cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		ids.mu.Lock()
		ids.asked++
		hold := ids.hold
		var next *messages.Identity
		if len(ids.give) > 0 {
			next, ids.give = &ids.give[0], ids.give[1:]
		}
		ids.mu.Unlock()
		if hold != nil {
			cluster.SleepControl(func() { <-hold })
		}
		if next == nil {
			return nil, nil, false
		}
		response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ProducerID, response.ProducerEpoch = next.ProducerID, next.Epoch
		return response, nil, true
	})
}

func (ids *identities) count() int {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	return ids.asked
}

// TestJavaEpochs is rows 21 to 23 of Java's checklist, and what fences.
func TestJavaEpochs(t *testing.T) {
	t.Parallel()

	for _, code := range []protocol.ErrorCode{protocol.OutOfOrderSequenceNumber, protocol.UnknownProducerID, protocol.InvalidProducerEpoch} {
		t.Run("java 21: "+code.Info().Name+" for the next of five in flight: a new epoch, nothing lost, nothing twice, in order", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 2})
			w := watch(cluster)
			var ids identities
			ids.attach(cluster)
			p := newProducer(t, cluster, oneEach()...)
			warm(t, p, "t", 0)
			warm(t, p, "t", 1)
			release := w.hold(t, anyRequest)
			w.refuseOnce(0, "m-001", int16(code), nil)
			var got outcomes
			want := wave(t, p, 0, "m", 30, got.add)
			eventually(t, "a request", func() bool { return len(w.of("t", 0)) > 1 })
			time.Sleep(20 * time.Millisecond)
			release()
			persistedAll(t, got.wait(t, len(want)))
			warm(t, p, "t", 1)
			log := perPartition(consumeAll(t, cluster, "t", len(want)+3))
			expect(t, log[0][1:], want)
			assertSequences(t, w.of("t", 0))
			assertSequences(t, w.of("t", 1))
			if e := epochsOf(w.of("t", 0), want[1]); !slices.Equal(e, []int16{0, 1}) {
				t.Errorf("the refused batch went out under the epochs %v", e)
			}
			// Kafka knows an epoch per partition, kfake one per producer: it refuses
			// what Kafka takes, and then there is a third attempt.
			if e := epochsOf(w.of("t", 1), "warm"); len(e) < 2 || e[1] != 0 {
				t.Errorf("the other partition went out under the epochs %v", e)
			}
			if n := ids.count(); n != 1 {
				t.Errorf("%d requests for a producer id: a bump is local", n)
			}
		})
	}

	for _, c := range []struct {
		name  string
		start int64 // the log's
	}{{"retention: the log starts behind our last record", 3}, {"true loss: the log starts before it", 0}, {"the log's start is not known", -1}} {
		t.Run("java 22: UNKNOWN_PRODUCER_ID, "+c.name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, oneEach()...)
			for range 3 {
				warm(t, p, "t", 0)
			}
			if c.start > 0 {
				if err := cluster.DeleteRecords("t", 0, c.start); err != nil {
					t.Fatal(err)
				}
			}
			w.refuseOnce(0, "m-000", int16(protocol.UnknownProducerID), func(r *kmsg.ProduceResponseTopicPartition) { r.LogStartOffset = c.start })
			var got outcomes
			want := wave(t, p, 0, "m", 10, got.add)
			list := got.wait(t, len(want))
			persistedAll(t, list)
			if list[0].Offset != 3 || list[0].Attempts != 2 || !errors.Is(list[0].LastBrokerError, protocol.UnknownProducerID) {
				t.Errorf("%+v", list[0])
			}
			n := len(want)
			if c.start <= 0 {
				n += 3
			}
			log := values(consumeAll(t, cluster, "t", n))
			expect(t, log[len(log)-len(want):], want)
			assertSequences(t, w.of("t", 0))
		})
	}

	t.Run("java 23: close while the next producer id is awaited answers all, once", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		ids := identities{give: []messages.Identity{{ProducerID: 900, Epoch: math.MaxInt16}}}
		ids.attach(cluster)
		p := newProducer(t, cluster, oneEach()...)
		warm(t, p, "t", 0)
		gate := make(chan struct{})
		defer close(gate)
		ids.mu.Lock()
		ids.hold = gate
		ids.mu.Unlock()
		w.refuseOnce(0, "m-000", int16(protocol.OutOfOrderSequenceNumber), nil)
		var got outcomes
		want := wave(t, p, 0, "m", 10, got.add)
		eventually(t, "the request for an id", func() bool { return ids.count() == 2 })
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		for _, d := range got.wait(t, len(want)) {
			if !errors.Is(d.Err, troupe.ErrClosed) || (d.Tag == 0 && d.Status != troupe.NotPersisted) {
				t.Errorf("record %d: %v, %v", d.Tag, d.Status, d.Err)
			}
		}
		if got.count() != len(want) {
			t.Errorf("%d outcomes", got.count())
		}
		eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 })
	})

	t.Run("java 23: batches that have numbers keep their producer id when a new one comes", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w, n := watch(cluster), newNetwork()
		ids := identities{give: []messages.Identity{{ProducerID: 900, Epoch: math.MaxInt16}, {ProducerID: 800}}}
		ids.attach(cluster)
		p := newProducer(t, cluster, oneEach(n.option())...)
		warm(t, p, "t", 0)
		warm(t, p, "t", 1)
		// Partition 1 uses the last epoch up while partition 0 is in doubt.
		w.refuseOnce(1, "m-000", int16(protocol.OutOfOrderSequenceNumber), nil)
		release := w.hold(t, onNode(0))
		var zero, one outcomes
		want := wave(t, p, 0, "k", 10, zero.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) > 1 })
		n.setDown(true)
		n.setDown(false)
		wave(t, p, 1, "m", 10, one.add)
		persistedAll(t, one.wait(t, 10))
		if zero.count() > 0 {
			t.Fatal("partition 0 is not in doubt")
		}
		release()
		persistedAll(t, zero.wait(t, 10))
		for _, s := range w.of("t", 0) {
			if s.batch.ProducerID != 900 {
				t.Errorf("%v went out under the producer id %d", s.values, s.batch.ProducerID)
			}
		}
		if s := w.of("t", 1); s[len(s)-1].batch.ProducerID != 800 {
			t.Errorf("partition 1 goes on under %d", s[len(s)-1].batch.ProducerID)
		}
		expect(t, perPartition(consumeAll(t, cluster, "t", 22))[0][1:], want)
		assertSequences(t, w.of("t", 0))
	})

	for _, code := range []protocol.ErrorCode{protocol.ProducerFenced, protocol.InvalidProducerIDMapping, protocol.ClusterAuthorizationFailed} {
		t.Run("java 27: "+code.Info().Name+" in an answer ends the producer: every record is answered, close works, no leak", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 2})
			w := watch(cluster)
			p := newProducer(t, cluster, oneEach()...)
			warm(t, p, "t", 0)
			warm(t, p, "t", 1)
			w.refuseOnce(0, "m-000", int16(code), nil)
			var got outcomes
			admitted := 0
			for i := range 20 {
				if p.Produce(within(t, patience), to("t", int32(i%2), padded(fmt.Sprintf("m-%03d", i/2))), got.add) == nil {
					admitted++
				}
			}
			list := got.wait(t, admitted)
			if !slices.ContainsFunc(list, func(d troupe.Delivery) bool { return errors.Is(d.Err, code) && d.Status == troupe.NotPersisted }) {
				t.Errorf("nobody was told of %v", code)
			}
			eventually(t, "refusal", func() bool {
				return errors.Is(p.Produce(within(t, patience), to("t", 1, "v"), nil), troupe.ErrFatal)
			})
			if err := p.Close(within(t, patience)); err != nil {
				t.Error(err)
			}
			if got.count() != admitted {
				t.Errorf("%d outcomes of %d", got.count(), admitted)
			}
			eventually(t, "all memory back", func() bool { return p.BufferedBytes() == 0 }) // a write may end later
		})
	}
}

// TestEpochsUsedUp lets the epochs of an id come to an end (librdkafka #3720):
// another id is asked for, once, and nothing is lost or stands twice.
func TestEpochsUsedUp(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	w := watch(cluster)
	ids := identities{give: []messages.Identity{{ProducerID: 900, Epoch: math.MaxInt16 - 1}}}
	ids.attach(cluster)
	p := newProducer(t, cluster, oneEach()...)
	for _, name := range []string{"a-003", "b-003", "c-003"} {
		w.refuseOnce(0, name, int16(protocol.OutOfOrderSequenceNumber), nil)
	}
	var got outcomes
	var want []string
	for _, name := range []string{"a", "b", "c", "d"} {
		want = append(want, wave(t, p, 0, name, 10, got.add)...)
		persistedAll(t, got.wait(t, len(want)))
	}
	expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
	if n := ids.count(); n != 2 {
		t.Errorf("%d requests for a producer id", n)
	}
	var under []string
	for _, s := range w.of("t", 0) {
		u := fmt.Sprint(s.batch.ProducerID == 900, s.batch.ProducerEpoch)
		if len(under) == 0 || under[len(under)-1] != u {
			under = append(under, u)
		}
		if s.batch.ProducerID < 0 || s.batch.ProducerEpoch < 0 || s.batch.FirstSequence < 0 {
			t.Errorf("%v went out as %d/%d, sequence %d", s.values, s.batch.ProducerID, s.batch.ProducerEpoch, s.batch.FirstSequence)
		}
	}
	if !slices.Equal(under, []string{"true 32766", "true 32767", "false 0", "false 1"}) {
		t.Errorf("went out under %v", under)
	}
}

// ledgerOf is a producer's memory of last sequences, which has no public door: a
// test cannot send 2^31 records to come to the end of the numbers.
func ledgerOf(p *troupe.Producer) messages.Sequences {
	f := reflect.ValueOf(p).Elem().FieldByName("config").Elem().FieldByName("Sequences")
	return *(*messages.Sequences)(unsafe.Pointer(f.UnsafeAddr()))
}

// numberLog is a partition's log that holds one producer to Kafka's rule to the
// letter: an epoch for each partition, the last five batches, and after 2^31−1
// comes 0. kfake has one epoch for all partitions, and its numbers wrap one early.
type numberLog struct {
	partition int32

	mu     sync.Mutex
	values []string
	id     int64
	epoch  int16
	next   int32 // −1: nothing is known of the producer, anything goes
	last   []numberedBatch
	odd    []string // what was refused and is not in the log
}

type numberedBatch struct {
	first  int32
	values []string
	offset int64
}

func newNumberLog(partition int32) *numberLog { return &numberLog{partition: partition, next: -1} }

func (l *numberLog) rule(p *produced) (kmsg.Response, error, bool) { //nolint:revive // kfake's order
	if len(p.batches) != 1 || p.batches[0].partition != l.partition {
		return nil, nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	code, offset := l.take(&p.batches[0])
	return answer(p.ProduceRequest, int16(code), offset), nil, true
}

func (l *numberLog) take(s *sent) (protocol.ErrorCode, int64) {
	b := &s.batch
	fresh := l.next < 0 || b.ProducerID != l.id || b.ProducerEpoch > l.epoch
	refuse := func(code protocol.ErrorCode) (protocol.ErrorCode, int64) {
		if slices.Contains(l.values, s.values[0]) {
			// A request of a lost connection that is read long after its repetition.
			return code, -1
		}
		l.odd = append(l.odd, fmt.Sprintf("%v: %d/%d at %d, expected %d/%d at %d", code, b.ProducerID, b.ProducerEpoch, b.FirstSequence, l.id, l.epoch, l.next))
		return code, -1
	}
	switch {
	case b.FirstSequence < 0:
		return refuse(protocol.InvalidRecord)
	case !fresh && b.ProducerEpoch < l.epoch:
		return refuse(protocol.InvalidProducerEpoch)
	case fresh && l.next >= 0 && b.FirstSequence != 0:
		return refuse(protocol.OutOfOrderSequenceNumber)
	case fresh:
		l.last = nil
	default:
		for _, before := range l.last {
			if before.first == b.FirstSequence && len(before.values) == len(s.values) {
				return 0, before.offset
			}
		}
		if b.FirstSequence != l.next {
			return refuse(protocol.OutOfOrderSequenceNumber)
		}
	}
	l.id, l.epoch = b.ProducerID, b.ProducerEpoch
	l.next = int32((int64(b.FirstSequence) + int64(len(s.values))) & math.MaxInt32)
	offset := int64(len(l.values))
	l.values = append(l.values, s.values...)
	l.last = append(l.last, numberedBatch{b.FirstSequence, s.values, offset})
	l.last = l.last[max(0, len(l.last)-5):]
	return 0, offset
}

func (l *numberLog) read() (values, refused []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.values), slices.Clone(l.odd)
}

// TestSequenceWrap is museum 7 and java 24 (franz-go #216) with a whole producer:
// after 2^31−1 comes 0, also within a batch, with answers lost on the way.
func TestSequenceWrap(t *testing.T) {
	t.Parallel()
	for _, perBatch := range []int{1, 7} {
		t.Run(fmt.Sprintf("museum 7: the sequence wraps at 2^31, %d records per batch", perBatch), func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			broker := newNumberLog(0)
			w.add(broker.rule)
			p := newProducer(t, cluster, fast(n.option(), troupe.WithLinger(2*time.Millisecond), troupe.WithBatchMaxBytes(90*perBatch))...)
			ledgerOf(p).Keep("t", cluster.TopicInfo("t").TopicID, 0, messages.LastSequence{
				Identity: messages.Identity{ProducerID: 4711, Generation: 1}, Next: math.MaxInt32 - 45,
			})
			var got outcomes
			var want []string
			for round := range 4 {
				if round == 1 || round == 2 {
					n.lose(1)
				}
				want = append(want, wave(t, p, 0, fmt.Sprint("r", round), 25, got.add)...)
				persistedAll(t, got.wait(t, len(want)))
			}
			log, refused := broker.read()
			expect(t, log, want)
			if len(refused) > 0 {
				t.Errorf("refused, and in no log: %v", refused)
			}
			if broker.next != 100-46 {
				t.Errorf("the next number is %d", broker.next)
			}
			for _, s := range w.of("t", 0) {
				if s.batch.ProducerID != 4711 || s.batch.ProducerEpoch != 0 {
					t.Fatalf("%v went out as %d/%d", s.values, s.batch.ProducerID, s.batch.ProducerEpoch)
				}
			}
		})
	}
}

// crashing makes accumulators panic at the beginning of a turn.
type crashing struct {
	left atomic.Int64
	done atomic.Int64
}

func (c *crashing) Received(path string, message any) {
	if _, turn := message.(*seams.Woken); turn && strings.Contains(path, "/topic/") && c.left.Load() > 0 && c.left.Add(-1) >= 0 {
		c.done.Add(1)
		panic("the test wants a crash")
	}
}

// TestIdentityNeverStartsTwice: an identity never starts a partition at 0 a second
// time: a broker would answer the repeated numbers with success, and drop the
// records. Idle accumulators are in TestPartitionGrowth's file, under java 28.
func TestIdentityNeverStartsTwice(t *testing.T) {
	t.Parallel()

	t.Run("identity: after crashes of the accumulator its numbering goes on", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		c := &crashing{}
		p := newProducer(t, cluster, oneEach(troupe.WithSeams(troupe.Seams{Tracer: c}), quietly(io.Discard))...)
		var got outcomes
		var want []string
		for round := range 8 {
			want = append(want, wave(t, p, 0, fmt.Sprint("r", round), 20, got.add)...)
			if round < 6 {
				c.left.Store(1)
			}
			persistedAll(t, got.wait(t, len(want)))
		}
		if c.done.Load() < 3 {
			t.Fatalf("%d crashes", c.done.Load())
		}
		expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
		assertSequences(t, w.of("t", 0))
	})

	t.Run("identity: a topic created again starts at 0 under a newer epoch", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, oneEach(troupe.WithMetadataMaxAge(20*time.Millisecond))...)
		var got outcomes
		wave(t, p, 0, "old", 10, got.add)
		persistedAll(t, got.wait(t, 10))
		before := len(w.all())
		if err := cluster.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		if err := cluster.CreateTopic("t", 1, nil); err != nil {
			t.Fatal(err)
		}
		// What is on its way by the old id when the new one becomes known is in doubt.
		eventually(t, "the new topic", func() bool {
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "probe")})
			return err == nil
		})
		var again outcomes
		want := append([]string{"probe"}, wave(t, p, 0, "new", 10, again.add)...)
		persistedAll(t, again.wait(t, 10))
		expect(t, values(consumeAll(t, cluster, "t", 11)), want)
		sends := w.all()[before:]
		for len(sends) > 0 && sends[0].batch.ProducerEpoch == 0 {
			if sends[0].batch.FirstSequence < 10 {
				t.Errorf("%v went out at sequence %d of epoch 0 again", sends[0].values, sends[0].batch.FirstSequence)
			}
			sends = sends[1:] // before it was known that there is another topic
		}
		if len(sends) == 0 || sends[0].batch.FirstSequence != 0 {
			t.Fatalf("%d sends to the new topic under a newer epoch", len(sends))
		}
		assertSequences(t, sends)
	})
}
