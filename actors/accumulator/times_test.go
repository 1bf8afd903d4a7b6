package accumulator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

var (
	someIdentity = messages.Identity{ProducerID: 7, Generation: 1}
	toLeader     = messages.TakeRequest{Broker: 1, Identity: someIdentity, Class: messages.Class{Acks: messages.AcksAll}}
)

// stamped admits a record with a time of its own.
func (r *rig) stamped(ms int64, ctx context.Context) *messages.Delivery {
	d := new(messages.Delivery)
	a := admission(fmt.Sprint(ms), func(got messages.Delivery) { *d = got })
	a.Record.Timestamp, a.Context = time.UnixMilli(ms), ctx
	if status := r.append(a); status != messages.Appended {
		r.t.Fatal(status)
	}
	return d
}

// TestTimeOfARecognisedBatch: a broker that has a batch already answers with the
// time of its newest record, which is not the append's where records keep their
// own.
func TestTimeOfARecognisedBatch(t *testing.T) {
	const older, newer, appended = baseUnixMs + 10, baseUnixMs + 5000, baseUnixMs + 60_000
	for _, brokers := range []bool{false, true} {
		r := newRig(t, testConfig())
		r.assign(1, 1)
		if brokers {
			first := r.stamped(older, nil)
			r.s.open.urgent = true
			a, _ := r.take(toLeader)
			m := okResult(0)
			m.LogAppendTimeMs = appended
			r.deliver(a, m)
			r.effects()
			if first.Timestamp.UnixMilli() != appended {
				t.Errorf("the append's time is %v", first.Timestamp)
			}
		}
		one, two := r.stamped(newer, nil), r.stamped(older, nil)
		r.s.open.urgent = true
		a, _ := r.take(toLeader)
		r.deliver(a, lostResult(true))
		a, _ = r.take(toLeader)
		m := okResult(1)
		m.LogAppendTimeMs = newer
		r.deliver(a, m)
		r.effects()
		want := int64(older)
		if brokers {
			want = newer // by chance the newest record is as old as the append
		}
		if one.Timestamp.UnixMilli() != newer || two.Timestamp.UnixMilli() != want || brokers != (two.LogAppendTimeMs >= 0) {
			t.Errorf("brokers' time %v: the records have times %v and %v (%d)", brokers, one.Timestamp, two.Timestamp, two.LogAppendTimeMs)
		}
	}
}

// TestNewestTimeIsOfWhatIsLeft: the header names the newest record of the batch,
// and not one that was cut out of it or is in its other half.
func TestNewestTimeIsOfWhatIsLeft(t *testing.T) {
	const older, newer = baseUnixMs + 10, baseUnixMs + 5000
	newest := func(a *attempt) int64 {
		all := []byte{}
		for _, s := range a.slices {
			all = append(all, s...)
		}
		b, _, err := protocol.DecodeBatch(all)
		if err != nil {
			t.Fatal(err)
		}
		return b.MaxTimestamp
	}
	cut := newRig(t, testConfig())
	cut.assign(1, 1)
	cut.stamped(newer, endedContext(context.Canceled))
	cut.stamped(older, nil)
	cut.s.open.urgent = true
	cut.step()
	if a, _ := cut.take(toLeader); a == nil || newest(a) != older {
		t.Errorf("after a cut: %v", a)
	}
	split := newRig(t, testConfig())
	split.assign(1, 1)
	split.stamped(newer, nil)
	split.stamped(older, nil)
	split.s.open.urgent = true
	a, _ := split.take(toLeader)
	split.deliver(a, errorResult(protocol.MessageTooLarge, -1))
	for _, want := range []int64{newer, older} {
		a, _ := split.take(toLeader)
		if a == nil || newest(a) != want {
			t.Fatalf("after a split: %v, want %d", a, want)
		}
		split.deliver(a, okResult(0))
	}
}

// TestRecordThatWaitedElsewhereHasItsOwnDeadline: its batch is younger than it is,
// and so are records before it.
func TestRecordThatWaitedElsewhereHasItsOwnDeadline(t *testing.T) {
	r := newRig(t, testConfig())
	r.now = seams.Instant(time.Hour)
	clock, _ := r.enact()
	timeout := testConfig().deliveryTimeout
	for _, waited := range []time.Duration{0, time.Minute, timeout - time.Second, time.Millisecond} {
		a := admission("waited", func(messages.Delivery) {})
		a.Bytes = protocol.RecordUpperBound(0, len(a.Record.Value), nil)
		a.Admitted = r.now.Add(-waited)
		chunk, err := r.budget.TryAcquire(r.box.Account(), memory.SmallChunkBytes)
		if err != nil {
			t.Fatal(err)
		}
		chunks := []*memory.Chunk{chunk}
		before := clock.at
		if n, _ := r.box.AppendAll([]messages.Admission{*a}, &chunks); n != 1 {
			t.Fatal("not taken")
		}
		r.budget.Release(chunks...)
		if want := a.Admitted.Add(timeout); clock.at > want || clock.at != want && clock.at != before {
			t.Errorf("after a wait of %v the timer fires in %v", waited, clock.at.Sub(r.now))
		}
	}
}
