package broker

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// benchPartition gives the same batch again and again.
type benchPartition struct {
	index   int32
	slices  [][]byte
	bytes   int
	written int
	settled int
}

func (p *benchPartition) Topic() string         { return "topic" }
func (p *benchPartition) TopicID() [16]byte     { return [16]byte{1} }
func (p *benchPartition) Partition() int32      { return p.index }
func (p *benchPartition) Class() messages.Class { return classes[0] }
func (p *benchPartition) Take(messages.TakeRequest) (messages.Batch, messages.TakeStatus) {
	return p, messages.TakeDone
}
func (p *benchPartition) Acks() messages.Acks    { return messages.AcksAll }
func (p *benchPartition) TimeoutMs() int32       { return 0 }
func (p *benchPartition) Bytes() int             { return p.bytes }
func (p *benchPartition) Slices() [][]byte       { return p.slices }
func (p *benchPartition) WriteEnded()            { p.written++ }
func (p *benchPartition) Settle(messages.Result) { p.settled++ }

// benchLedger is a broker's state with a connection and partitions.
type benchLedger struct {
	*State
	partitions []*benchPartition
	response   protocol.ProduceResponse
	frame      []byte // an answer; the correlation id stands at its begin
	now        seams.Instant
}

const benchVersion = 13

func newBenchLedger(partitions int) *benchLedger {
	c := config{
		id: 1, clientID: "bench", requestMaxBytes: 64 << 20, maxInFlight: 5,
		requestTimeout: 30 * time.Second, timeoutSlack: 10 * time.Second, connectionIdle: time.Hour,
	}
	l := &benchLedger{State: newState(c, messages.Identity{ProducerID: 1}), now: seams.Instant(time.Second)}
	l.connectionUp(&messages.ConnectionUp{
		Generation: 1, Versions: messages.Versions{Produce: benchVersion},
	}, l.now)
	answer := kmsg.NewPtrProduceResponse()
	answer.SetVersion(benchVersion)
	topic := kmsg.NewProduceResponseTopic()
	topic.TopicID = [16]byte{1}
	for i := range int32(partitions) {
		header, records := make([]byte, protocol.BatchHeaderSize), make([]byte, 1000)
		l.partitions = append(l.partitions, &benchPartition{index: i, slices: [][]byte{header, records}, bytes: len(header) + len(records)})
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.BaseOffset = i, 100
		topic.Partitions = append(topic.Partitions, p)
	}
	answer.Topics = append(answer.Topics, topic)
	l.frame = responseFrame(0, answer)
	return l
}

// send makes one request of all partitions and ends its write.
func (l *benchLedger) send(t testing.TB) *request {
	for _, p := range l.partitions {
		l.partitionReady(p, classes[0])
	}
	r := requests.Get().(*request)
	if ok, _ := l.assemble(classes[0], r, l.now); !ok || len(r.batches) != len(l.partitions) {
		t.Fatalf("a request of %d batches, want %d", len(r.batches), len(l.partitions))
	}
	l.sendProduce(classes[0], r, l.now)
	r.Written(nil, true)
	return r
}

// receive is what the broker does with an answer.
func (l *benchLedger) receive(t testing.TB, correlation int32) {
	binary.BigEndian.PutUint32(l.frame, uint32(correlation))
	got, _, err := protocol.ResponseHeader(l.frame, false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.answered(messages.LaneProduce, got, l.now)
	if err == nil {
		err = l.response.Decode(r.version, l.frame)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.settleAnswer(r, &l.response, l.now)
	r.drop()
}

var benchWidths = []int{1, 12, 1000}

// BenchmarkRequest takes batches from ready partitions and encodes a request.
func BenchmarkRequest(b *testing.B) {
	for _, n := range benchWidths {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			l := newBenchLedger(n)
			lane := &l.lanes[messages.LaneProduce]
			b.ReportAllocs()
			for b.Loop() {
				r := l.send(b)
				lane.inFlight = lane.inFlight[:0]
				r.drop()
			}
		})
	}
}

// BenchmarkResponse matches an answer to its request and splits it.
func BenchmarkResponse(b *testing.B) {
	for _, n := range benchWidths {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			l := newBenchLedger(n)
			r := l.send(b)
			lane := &l.lanes[messages.LaneProduce]
			lane.inFlight = lane.inFlight[:0]
			b.ReportAllocs()
			for b.Loop() {
				lane.inFlight = append(lane.inFlight, r)
				r.holds.Store(2) // so that it is not given back
				for i := range r.batches {
					r.batches[i].settled = false
				}
				l.receive(b, r.correlation)
			}
		})
	}
}

// BenchmarkExchange is both.
func BenchmarkExchange(b *testing.B) {
	for _, n := range benchWidths {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			l := newBenchLedger(n)
			b.ReportAllocs()
			for b.Loop() {
				l.receive(b, l.send(b).correlation)
			}
			if p := l.partitions[n-1]; p.settled == 0 || p.settled != p.written {
				b.Fatalf("written %d times, settled %d times", p.written, p.settled)
			}
		})
	}
}
