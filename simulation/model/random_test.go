package model

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// life is a cluster with one careful producer for each of its partitions: one
// batch in flight, sent again under the same numbers until it is acknowledged.
type life struct {
	*Cluster
	random    *rand.Rand
	at        time.Duration
	producers []*careful
	hash      uint64
	codes     map[protocol.ErrorCode]int
	surprises int // fetches that changed something though the one before said that none would
}

type careful struct {
	tp       TopicPartition
	id       int64
	next     int32 // sequence of the batch under way
	size     int32 // of it, in records; 0 if there is none
	handle   Handle
	acked    []string
	attempts int
}

const (
	lifePartitions = 3
	lifeBrokers    = 4
)

func newLife(seed uint64) *life {
	l := &life{
		Cluster: New(Config{Brokers: lifeBrokers, ReplicaLagMax: 2 * time.Second, Version: Version(seed % 2)}),
		random:  rand.New(rand.NewPCG(seed, 1)), codes: map[protocol.ErrorCode]int{},
	}
	_ = l.CreateTopic("orders", lifePartitions, 3, TopicConfig{MinInSync: 2, SegmentBytes: 2000})
	l.Settle()
	for i := range int32(lifePartitions) {
		l.producers = append(l.producers, &careful{tp: TopicPartition{"orders", i}, id: int64(100 + i)})
	}
	return l
}

// step does one thing: most of what a method of the cluster can do, but nothing
// that may lose what was committed unless harm is set.
func (l *life) step(harm bool) {
	r := l.random
	id := int32(r.IntN(lifeBrokers) + 1)
	p := l.producers[r.IntN(lifePartitions)]
	switch n := r.IntN(200); {
	case n < 60:
		l.send(p, id)
	case n < 110:
		n := r.IntN(3)
		if _, _, more := l.Fetch(p.tp, id, n); n > 0 && !more {
			if _, moved, _ := l.Fetch(p.tp, id, 1); moved {
				l.surprises++
			}
		}
	case n < 135:
		l.Learn(id, 1+r.IntN(3))
	case n < 150:
		l.at += time.Duration(r.IntN(400)) * time.Millisecond
	case n < 156:
		l.ShrinkISR(p.tp)
	case n < 160:
		_ = l.Elect(p.tp, id, false)
	case n < 163:
		l.Crash(id, LoseNothing)
	case n < 166:
		l.Stop(id)
	case n < 174:
		l.Restart(id)
	case n < 178:
		l.Fence(id)
	case n < 182:
		l.Unfence(id)
	case n < 184:
		l.Isolate(id, r.IntN(2) == 0)
	case n < 186:
		_ = l.Reassign(p.tp, l.inTurn(r.IntN(lifeBrokers), 3))
	case n < 188:
		l.Roll(p.tp, id)
	case n < 190:
		l.Save(id)
	case n < 192:
		l.Flush(p.tp, id)
	case n < 194 && harm:
		_ = l.Elect(p.tp, id, true)
	case n < 195 && harm:
		l.Crash(id, LoseUnflushed)
	case n < 196 && harm:
		l.DeleteRecords(p.tp, int64(r.IntN(20)))
		l.DeleteSegments(p.tp, id)
	case n < 197 && harm:
		if l.DeleteTopic("orders") == protocol.None {
			_ = l.CreateTopic("orders", lifePartitions, 3, TopicConfig{MinInSync: 2, SegmentBytes: 2000})
		}
	case n < 198:
		l.Settle()
	}
	if r.IntN(3) == 0 {
		return // answers wait, and what happens meanwhile may turn them
	}
	for _, e := range l.Advance(l.at) {
		for _, p := range l.producers {
			if p.handle == e.Handle {
				p.handle = 0
				if e.Answer != nil {
					l.answered(p, &e.Answer.Partitions[0])
				}
			}
		}
	}
}

// send gives a producer's batch to its leader as somebody believes it to be.
func (l *life) send(p *careful, asked int32) {
	if p.handle != 0 || !l.Up(asked) {
		return
	}
	m := l.Metadata(asked, []string{p.tp.Topic}, false).Topics[0]
	if int(p.tp.Partition) >= len(m.Partitions) || m.Partitions[p.tp.Partition].Leader < 0 {
		return
	}
	if p.size == 0 {
		p.size = int32(1 + l.random.IntN(3))
	}
	q := &ProduceRequest{Version: 9, Acks: -1, Timeout: 300 * time.Millisecond, Partitions: []PartitionData{{
		Topic: p.tp.Topic, Partition: p.tp.Partition, Batch: batch(p.id, 0, p.next, int(p.size)),
	}}}
	p.attempts++
	o := l.Produce(l.at, m.Partitions[p.tp.Partition].Leader, q)
	if p.handle = o.Handle; o.Answer != nil {
		l.answered(p, &o.Answer.Partitions[0])
	}
}

func (l *life) answered(p *careful, a *PartitionAnswer) {
	l.codes[a.Code]++
	h := fnv.New64a()
	fmt.Fprint(h, l.hash, p.id, p.next, a.Code, a.BaseOffset, a.LogStartOffset)
	l.hash = h.Sum64()
	if a.Code != protocol.None {
		return
	}
	for i := range p.size {
		p.acked = append(p.acked, fmt.Sprintf("%d/0/%d", p.id, p.next+i))
	}
	p.next += p.size
	p.size = 0
}

// heal ends all trouble and lets every producer finish its batch.
func (l *life) heal(t *testing.T) {
	for id := int32(1); id <= lifeBrokers; id++ {
		l.Isolate(id, false)
	}
	for id := int32(1); id <= lifeBrokers; id++ {
		l.Restart(id)
		l.Unfence(id)
	}
	for range 50 {
		l.Settle()
		l.at += time.Second
		for _, p := range l.producers {
			if p.size > 0 {
				l.send(p, 1)
			}
		}
		l.Settle()
		for _, e := range l.Advance(l.at) {
			for _, p := range l.producers {
				if p.handle == e.Handle && e.Handle != 0 {
					p.handle = 0
					if e.Answer != nil {
						l.answered(p, &e.Answer.Partitions[0])
					}
				}
			}
		}
	}
	for _, p := range l.producers {
		if p.size > 0 {
			t.Errorf("%v: a batch is still not acknowledged", p.tp)
		}
	}
}

// TestNothingCommittedIsLost runs lives without harm: in the end each acknowledged
// record stands once, in order, in the log of every replica, whatever crashed.
func TestNothingCommittedIsLost(t *testing.T) {
	codes, acked, attempts := map[protocol.ErrorCode]int{}, 0, 0
	for seed := range uint64(200) {
		l := newLife(seed)
		for n := range 600 {
			l.step(false)
			if err := l.Invariant(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, n, err)
			}
		}
		if l.surprises > 0 {
			t.Errorf("seed %d: %d fetches were said to change nothing, and did", seed, l.surprises)
		}
		l.heal(t)
		for _, p := range l.producers {
			list := l.Committed(p.tp)
			if len(list) != len(p.acked) {
				t.Fatalf("seed %d, %v: %d acknowledged, %d committed: %v", seed, p.tp, len(p.acked), len(list), list)
			}
			for i, e := range list {
				if e.Record.Value != p.acked[i] || e.Offset != int64(i) {
					t.Fatalf("seed %d, %v: %d is %+v, expected %s", seed, p.tp, i, e, p.acked[i])
				}
			}
			for id := int32(1); id <= lifeBrokers; id++ {
				if log := l.Log(p.tp, id); len(log) > 0 && fmt.Sprint(log) != fmt.Sprint(list) {
					t.Fatalf("seed %d, %v: broker %d has %v, committed is %v", seed, p.tp, id, log, list)
				}
			}
			acked, attempts = acked+len(p.acked), attempts+p.attempts
		}
		for code, n := range l.codes {
			codes[code] += n
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d records acknowledged, %d attempts, answers %v", acked, attempts, codes)
	for _, code := range []protocol.ErrorCode{protocol.NotLeaderOrFollower, protocol.RequestTimedOut, protocol.NotEnoughReplicas, protocol.NotEnoughReplicasAfterAppend} {
		if codes[code] == 0 {
			t.Errorf("no life saw %v: the test proves less than it says", code)
		}
	}
	if acked < 2_500 {
		t.Errorf("only %d records were acknowledged", acked)
	}
}

// TestHarm runs lives in which records are lost: the model must stay in order.
func TestHarm(t *testing.T) {
	for seed := range uint64(200) {
		l := newLife(seed)
		for n := range 600 {
			l.step(true)
			if err := l.Invariant(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, n, err)
			}
		}
		if l.surprises > 0 {
			t.Errorf("seed %d: %d fetches were said to change nothing, and did", seed, l.surprises)
		}
	}
}

// TestSameSeedSameLife compares the answers of two runs.
func TestSameSeedSameLife(t *testing.T) {
	hashes := map[uint64]bool{}
	for seed := range uint64(20) {
		first, second := newLife(seed), newLife(seed)
		for range 500 {
			first.step(true)
			second.step(true)
		}
		if first.hash != second.hash {
			t.Errorf("seed %d gives two lives", seed)
		}
		hashes[first.hash] = true
	}
	if len(hashes) != 20 {
		t.Errorf("20 seeds gave %d lives", len(hashes))
	}
}

// TestAllocations: what a batch of many records costs does not depend on how many
// they are.
func TestAllocations(t *testing.T) {
	measure := func(records int) float64 {
		b := newBench(t, Config{}, TopicConfig{}, 1, 2, 3)
		sequence := int32(0)
		data := batch(7, 0, 0, records)
		data.Size = 1000
		return testing.AllocsPerRun(200, func() {
			data.BaseSequence = sequence
			sequence += int32(records)
			q := ProduceRequest{Version: 9, Acks: -1, Timeout: time.Second, Partitions: []PartitionData{{Topic: "orders", Batch: data}}}
			if o := b.Produce(0, 1, &q); o.Handle == 0 {
				t.Fatalf("%+v", o)
			}
			for id := int32(2); id <= 3; id++ {
				b.Replicate(orders, id, 10)
				b.Replicate(orders, id, 0)
			}
			if got := b.Advance(0); len(got) != 1 || got[0].Answer.Partitions[0].Code != protocol.None {
				t.Fatalf("%+v", got)
			}
		})
	}
	if one, many := measure(1), measure(500); many > one || one > 12 {
		t.Errorf("%v allocations for one record, %v for 500", one, many)
	}
}
