package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// duties is the floor with what a producer owes its callers: any goroutine may
// call it, so there is a lock per partition; a record names its topic, may be
// cancelled, may be refused, has a deadline of its own and a callback that is told
// what became of it. It has no actors, no linger, no retries and no budget: what
// Troupe costs above it is what those cost.
type duties struct {
	*floor
	topic    string
	topics   atomic.Pointer[map[string]*dutyTopic]
	closed   atomic.Bool
	callback func(dutyDelivery)
}

type dutyTopic struct{ partitions []dutyPartition }

// A dutyPartition has what the floor's batch lacks.
type dutyPartition struct {
	mu    sync.Mutex
	batch *floorBatch
	slots []dutySlot
	// spare are lists of slots of batches that were told.
	spare [][]dutySlot
	_     [64]byte // keeps the locks of two partitions on lines of their own
}

// A dutySlot is what is kept of a record until its outcome is known.
type dutySlot struct {
	callback func(dutyDelivery)
	tag      uint64
	deadline int64 // ms
}

// A dutyDelivery is as large as what a producer tells of a record.
type dutyDelivery struct {
	Topic        string
	Partition    int32
	Offset       int64
	Timestamp    time.Time
	AppendTimeMs int64
	StartOffset  int64
	Attempts     int
	Err          error
	Tag          uint64
}

var (
	errDutyClosed  = errors.New("closed")
	errDutyExpired = errors.New("deadline exceeded")
)

// dutyTimeout is Troupe's delivery.timeout.ms.
const dutyTimeout = 2 * time.Minute

func newDuties(ctx context.Context, s Settings, t *tally) (client, error) {
	f, err := newFloor(ctx, s, t)
	if err != nil {
		return nil, err
	}
	d := &duties{floor: f.(*floor), topic: s.Topic}
	topic := &dutyTopic{partitions: make([]dutyPartition, s.Partitions)}
	for i := range topic.partitions {
		topic.partitions[i].batch = &d.batches[i]
	}
	d.topics.Store(&map[string]*dutyTopic{s.Topic: topic})
	d.callback = func(o dutyDelivery) { t.done(o.Partition, time.Duration(o.Tag), o.Err) }
	return d, nil
}

func (d *duties) produce(ctx context.Context, w *worker, n int, at time.Duration) error {
	now := time.Now().UnixMilli()
	for i := range n {
		if i%32 == 0 { // as often as Troupe's
			now = time.Now().UnixMilli()
		}
		if err := d.one(ctx, d.topic, w.keys.next(), w.values.next(), uint64(at), now, d.callback); err != nil {
			return err
		}
	}
	return nil
}

// one admits one record.
func (d *duties) one(ctx context.Context, name string, key, value []byte, tag uint64, now int64, callback func(dutyDelivery)) error {
	if d.closed.Load() {
		return errDutyClosed
	}
	if ctx.Done() != nil {
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	topic := (*d.topics.Load())[name]
	if topic == nil {
		return fmt.Errorf("unknown topic %q", name)
	}
	p := d.sticky
	if key != nil {
		p = int(murmur2(key)&0x7fffffff) % len(topic.partitions)
	}
	const most = 5*binary.MaxVarintLen32 + 1 + 1
	for {
		partition := &topic.partitions[p]
		partition.mu.Lock()
		if b := partition.batch; len(b.bytes)+len(key)+len(value)+most <= cap(b.bytes) {
			b.append(now, key, value)
			partition.slots = append(partition.slots, dutySlot{callback, tag, now + dutyTimeout.Milliseconds()})
			partition.mu.Unlock()
			return nil
		}
		err := d.hand(topic, p, now)
		partition.mu.Unlock()
		if err != nil {
			return err
		}
		d.sticky = (d.sticky + 1) % len(topic.partitions)
		if key == nil {
			p = d.sticky
		}
	}
}

// hand writes the batch of a partition, whose lock is held.
func (d *duties) hand(topic *dutyTopic, p int, now int64) error {
	if len(d.open) == floorInFlight {
		if err := d.settle(); err != nil {
			return err
		}
	}
	partition := &topic.partitions[p]
	if partition.slots[0].deadline < now { // a batch's first record is its oldest
		return errDutyExpired
	}
	if err := d.send(p); err != nil {
		return err
	}
	d.open[len(d.open)-1].slots = partition.slots
	partition.slots = nil
	if last := len(partition.spare) - 1; last >= 0 {
		partition.slots, partition.spare = partition.spare[last][:0], partition.spare[:last]
	}
	return nil
}

// settle takes the answer to the oldest request and calls back for its records.
func (d *duties) settle() error {
	r, offset, failure, err := d.receive()
	if err != nil {
		return err
	}
	for i := range r.slots {
		s := &r.slots[i]
		s.callback(dutyDelivery{
			Topic: d.topic, Partition: int32(r.partition), Offset: offset + int64(i),
			Timestamp: time.UnixMilli(s.deadline - dutyTimeout.Milliseconds()), AppendTimeMs: -1, Attempts: 1,
			Err: failure, Tag: s.tag,
		})
	}
	p := &(*d.topics.Load())[d.topic].partitions[r.partition]
	p.spare = append(p.spare, r.slots)
	return failure
}

func (d *duties) flush(context.Context) error {
	topic := (*d.topics.Load())[d.topic]
	for p := range topic.partitions {
		partition := &topic.partitions[p]
		partition.mu.Lock()
		var err error
		if len(partition.slots) > 0 {
			err = d.hand(topic, p, time.Now().UnixMilli())
		}
		partition.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for len(d.open) > 0 {
		if err := d.settle(); err != nil {
			return err
		}
	}
	return nil
}

func (d *duties) close(ctx context.Context) error {
	d.closed.Store(true)
	return d.floor.close(ctx)
}
