package model

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// bench is a cluster with a few words for what tests do to it.
type bench struct {
	*Cluster
	t   testing.TB
	at  time.Duration
	got map[Handle]*ProduceAnswer
}

var orders = TopicPartition{"orders", 0}

// newBench returns a cluster with a topic of one partition whose replicas are
// given, the first leading, and of which everybody has heard.
func newBench(t testing.TB, cfg Config, topic TopicConfig, replicas ...int32) *bench {
	t.Helper()
	b := &bench{Cluster: New(cfg), t: t, got: map[Handle]*ProduceAnswer{}}
	if code := b.CreateAssigned("orders", [][]int32{replicas}, topic); code != protocol.None {
		t.Fatal(code)
	}
	b.Settle()
	return b
}

// batch is n records of a producer, each 100 bytes.
func batch(producer int64, epoch int16, sequence int32, n int) Batch {
	b := Batch{ProducerID: producer, ProducerEpoch: epoch, BaseSequence: sequence, Size: 61 + 100*n}
	for i := range n {
		b.Records = append(b.Records, Record{Value: fmt.Sprintf("%d/%d/%d", producer, epoch, int(sequence)+i), TimestampMillis: -1})
	}
	return b
}

func (b *bench) request(acks int16, data ...Batch) *ProduceRequest {
	q := &ProduceRequest{Version: 11, Acks: acks, Timeout: time.Second}
	for _, each := range data {
		q.Partitions = append(q.Partitions, PartitionData{Topic: "orders", Batch: each})
	}
	return q
}

// send produces to a broker, and expects a code and an offset at once.
func (b *bench) send(broker int32, acks int16, data Batch, code protocol.ErrorCode, offset int64) *PartitionAnswer {
	b.t.Helper()
	o := b.Produce(b.at, broker, b.request(acks, data))
	if o.Answer == nil {
		b.t.Fatalf("no answer at once: %+v", o)
	}
	p := &o.Answer.Partitions[0]
	if p.Code != code || p.BaseOffset != offset {
		b.t.Fatalf("%v at %d, expected %v at %d", p.Code, p.BaseOffset, code, offset)
	}
	return p
}

// wait produces with acks all and expects no answer yet.
func (b *bench) wait(broker int32, data Batch) Handle {
	b.t.Helper()
	o := b.Produce(b.at, broker, b.request(-1, data))
	if o.Answer != nil || o.Handle == 0 {
		b.t.Fatalf("answered at once: %+v", o)
	}
	return o.Handle
}

// advance collects the effects of a time.
func (b *bench) advance(by time.Duration) {
	b.t.Helper()
	b.at += by
	for _, e := range b.Advance(b.at) {
		b.got[e.Handle] = e.Answer
	}
	b.check()
}

// answered expects a request to have its answer.
func (b *bench) answered(h Handle, code protocol.ErrorCode, offset int64) *PartitionAnswer {
	b.t.Helper()
	a, done := b.got[h]
	if !done || a == nil {
		b.t.Fatalf("request %d: answered %v with %v", h, done, a)
	}
	p := &a.Partitions[0]
	if p.Code != code || p.BaseOffset != offset {
		b.t.Fatalf("request %d: %v at %d, expected %v at %d", h, p.Code, p.BaseOffset, code, offset)
	}
	return p
}

// must expects the controller to have done what it was asked to.
func (b *bench) must(code protocol.ErrorCode) {
	b.t.Helper()
	if code != protocol.None {
		b.t.Fatal(code)
	}
}

func (b *bench) check() {
	b.t.Helper()
	if err := b.Invariant(); err != nil {
		b.t.Fatal(err)
	}
}

// log expects the values of a broker's log.
func (b *bench) log(broker int32, values ...string) {
	b.t.Helper()
	var got []string
	for _, e := range b.Log(orders, broker) {
		got = append(got, e.Record.Value)
	}
	if g, w := strings.Join(got, " "), strings.Join(values, " "); g != w {
		b.t.Fatalf("broker %d has %q, expected %q", broker, g, w)
	}
}
