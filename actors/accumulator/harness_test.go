package accumulator

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// someBroker stands for the actor of a leader; nobody is behind it.
var someBroker = pidOf("broker")

// baseUnixMs is the wall clock at instant 0.
const baseUnixMs = 1_700_000_000_000

// rig is a partition's box without an actor: the state is driven by hand, and
// what it leaves in its effects is looked at instead of done.
type rig struct {
	t      testing.TB
	box    *Box
	s      *State
	now    seams.Instant
	budget *memory.Budget
}

func testConfig() config {
	return config{
		topic: "t", partition: 3, batchMaxBytes: 1000, linger: 5 * time.Millisecond, deliveryTimeout: 2 * time.Minute,
		idempotent: true, maxInFlight: 5, unnumberedInFlight: 2, slowRequest: time.Second,
		// Without jitter, so that scripts can name instants.
		retry: messages.RetryPolicy{
			MaxRetryTime: time.Second, InitialRetryTime: 100 * time.Millisecond, Multiplier: 2, Retries: messages.UnlimitedRetries,
		},
		random: rand.New(rand.NewPCG(1, 2)),
	}
}

func newRig(t testing.TB, c config) *rig {
	registry, err := codecs.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	budget := memory.NewBudget(64<<20, seams.NewParking())
	b := &Box{
		lingers: &Lingers{timer: silentTimer{}, timing: seams.Never},
		Mailbox: seams.NewMailbox("test", nil), budget: budget, timing: seams.Never, state: *newState(c),
		settings: &messages.Settings{Codecs: registry, Log: zerolog.Nop()},
	}
	b.lane.box = b
	b.account.Store(budget.NewAccount("leader", 1))
	b.state.grow = func(c *memory.Chunk, n int) { budget.Grow(b.account.Load(), c, n) }
	b.state.codecs = registry
	b.state.charge = func(bytes []byte) *memory.Chunk { return budget.Adopt(b.account.Load(), bytes) }
	return &rig{t: t, box: b, s: &b.state, now: seams.Instant(time.Second), budget: budget}
}

// append admits one record, with what chunks it asks for.
func (r *rig) append(a *messages.Admission) messages.AppendStatus {
	a.Bytes = protocol.RecordUpperBound(len(a.Record.Key), len(a.Record.Value), a.Record.Headers)
	for range 4 {
		status, review, _ := r.s.appendRecord(a, r.box, baseUnixMs+int64(r.now)/1e6, r.now)
		if review {
			r.s.review(r.now)
		}
		if status != messages.NeedsBatch && status != messages.NeedsChunk {
			if a.Chunk != nil {
				r.budget.Release(a.Chunk)
				a.Chunk = nil
			}
			return status
		}
		if a.Chunk != nil {
			r.budget.Release(a.Chunk)
		}
		chunk, err := r.budget.TryAcquire(r.box.Account(), r.s.needBytes(a.Bytes, false))
		if err != nil {
			r.t.Fatal(err)
		}
		a.Chunk = chunk
	}
	r.t.Fatal("the partition asks for chunks without end")
	return messages.AppendClosed
}

// step is the accumulator's turn.
func (r *rig) step() {
	r.s.step(r.now)
	r.s.review(r.now)
}

// deliver notes the end of an attempt and takes the accumulator's turn.
func (r *rig) deliver(a *attempt, m messages.Result) {
	m.Now, m.Broker = r.now, a.broker
	r.s.results = append(r.s.results, result{a, m})
	r.step()
}

func okResult(offset int64) messages.Result {
	return messages.Result{Sent: true, BaseOffset: offset, LogAppendTimeMs: -1, LogStartOffset: 0, LeaderID: -1, LeaderEpoch: -1}
}

func errorResult(code protocol.ErrorCode, offset int64) messages.Result {
	m := okResult(offset)
	m.Code = int16(code)
	return m
}

func lostResult(sent bool) messages.Result {
	m := okResult(-1)
	m.Sent, m.Err = sent, messages.ErrConnectionLost
	return m
}

// assign tells the state its leader.
func (r *rig) assign(id, epoch int32) {
	l := messages.AssignLeader{ID: id, LeaderEpoch: epoch, Broker: someBroker}
	if id < 0 {
		l.Broker = nil
	}
	r.s.assign(l, r.now)
	r.s.review(r.now)
}

// take asks for a batch as a broker does and, if there is one, stamps it.
func (r *rig) take(m messages.TakeRequest) (*attempt, messages.TakeStatus) {
	m.Now = r.now
	if m.RoomBytes == 0 {
		m.RoomBytes = 1 << 20
		m.First = true
	}
	if m.ProduceVersion == 0 {
		m.ProduceVersion = 13
	}
	a, status := r.s.take(m)
	if a != nil {
		a.stamp()
	}
	return a, status
}

// pack compresses a batch as the executor would.
func (r *rig) pack(p *batch) {
	packed, err := r.box.pack(p)
	if err != nil {
		r.t.Fatal(err)
	}
	p.compressing = false
	if !p.settled && packed != nil {
		r.s.packed(p, r.budget.Adopt(r.box.Account(), packed))
	}
	r.s.review(r.now)
	p.release()
}

// effects does the part of the effects that belongs to the box, except for
// compression, and returns them.
func (r *rig) effects() effects {
	fx := r.s.fx
	r.s.fx = effects{}
	r.budget.Release(fx.freed...)
	if fx.answers != nil {
		for i := range fx.answers.of {
			r.box.lane.answer(&fx.answers.of[i])
		}
	}
	return fx
}

func (r *rig) check() {
	r.t.Helper()
	if err := r.s.invariant(); err != nil {
		r.t.Fatal(err)
	}
}

// wire is what a batch says on the wire.
type wire struct {
	identity messages.Identity
	sequence int32
	values   []string
	keys     []string
}

// readWire decodes an attempt's slices and checks what a broker would check.
func readWire(t testing.TB, a *attempt, registry *codecs.Registry) wire {
	t.Helper()
	var all []byte
	for _, s := range a.Slices() {
		all = append(all, s...)
	}
	if len(all) != a.Bytes() {
		t.Fatalf("attempt %d has %d bytes, says %d", a.number, len(all), a.Bytes())
	}
	be := binary.BigEndian
	if n := int(be.Uint32(all[8:])); n != len(all)-12 {
		t.Fatalf("attempt %d says length %d, has %d", a.number, n, len(all)-12)
	}
	if sum := crc32.Checksum(all[21:], crc32.MakeTable(crc32.Castagnoli)); sum != be.Uint32(all[17:]) {
		t.Fatalf("attempt %d has a wrong checksum", a.number)
	}
	count := int(be.Uint32(all[57:]))
	records := all[protocol.BatchHeaderSize:]
	if id := codecs.ID(be.Uint16(all[21:]) & 7); id != codecs.None {
		codec, err := registry.Lookup(id)
		if err == nil {
			records, err = codec.Decompress(nil, records, 1<<20)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w := wire{
		identity: messages.Identity{ProducerID: int64(be.Uint64(all[43:])), Epoch: int16(be.Uint16(all[51:]))},
		sequence: int32(be.Uint32(all[53:])),
	}
	first, most := int64(be.Uint64(all[27:])), int64(be.Uint64(all[35:]))
	it := protocol.NewRecordIterator(records, count)
	for i := int32(0); ; i++ {
		record, ok := it.Next()
		if !ok {
			break
		}
		if record.OffsetDelta != i {
			t.Fatalf("attempt %d: record %d has offset delta %d", a.number, i, record.OffsetDelta)
		}
		if at := first + record.TimestampDelta; at > most {
			t.Fatalf("attempt %d: record %d is at %d, the batch ends at %d", a.number, i, at, most)
		}
		w.values = append(w.values, string(record.Value))
		w.keys = append(w.keys, string(record.Key))
	}
	if err := it.Err(); err != nil || len(w.values) != count {
		t.Fatalf("attempt %d: read %d records of %d, %v", a.number, len(w.values), count, err)
	}
	return w
}

// admission is a record with a value and a callback.
func admission(value string, callback messages.Callback) *messages.Admission {
	return &messages.Admission{Record: &messages.Record{Value: []byte(value)}, Callback: callback, Acks: messages.AcksAll}
}

// causes is an error of a type that == cannot compare, as users' may be.
type causes []string

func (c causes) Error() string { return fmt.Sprint([]string(c)) }

func endedContext(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}
