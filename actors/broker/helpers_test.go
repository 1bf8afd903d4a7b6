package broker

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(actortest.Patient{M: m}) }

// fakeBatch notes what becomes of it.
type fakeBatch struct {
	acks      messages.Acks
	timeoutMs int32
	data      []byte

	mu      sync.Mutex
	results []messages.Result
	written int
}

func newBatch(size int) *fakeBatch {
	b := make([]byte, size)
	protocol.PutBatchHeader(b, &protocol.BatchHeader{Records: 1}, size-protocol.BatchHeaderSize)
	return &fakeBatch{data: b}
}

func (b *fakeBatch) Acks() messages.Acks { return b.acks }
func (b *fakeBatch) TimeoutMs() int32    { return b.timeoutMs }
func (b *fakeBatch) Bytes() int          { return len(b.data) }
func (b *fakeBatch) Slices() [][]byte    { return [][]byte{b.data[:61], b.data[61:]} }
func (b *fakeBatch) WriteEnded() {
	b.mu.Lock()
	b.written++
	b.mu.Unlock()
}
func (b *fakeBatch) Settle(r messages.Result) {
	b.mu.Lock()
	b.results = append(b.results, r)
	b.mu.Unlock()
}

// outcome returns the one result; ok is false while there is none.
func (b *fakeBatch) outcome(t testing.TB) (r messages.Result, ok bool) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.results) > 1 {
		t.Fatalf("settled %d times: %+v", len(b.results), b.results)
	}
	if len(b.results) == 0 {
		return r, false
	}
	return b.results[0], true
}

// fakeTaker has batches to give.
type fakeTaker struct {
	topic     string
	id        [16]byte
	partition int32

	mu       sync.Mutex
	class    messages.Class
	batches  []*fakeBatch
	numbered bool // wants an identity
	requests []messages.TakeRequest
}

func newTaker(topic string, partition int32, batches ...*fakeBatch) *fakeTaker {
	return &fakeTaker{topic: topic, id: [16]byte{topic[0]}, partition: partition, class: messages.Class{Acks: messages.AcksAll}, batches: batches}
}

func (f *fakeTaker) Topic() string     { return f.topic }
func (f *fakeTaker) TopicID() [16]byte { return f.id }
func (f *fakeTaker) Partition() int32  { return f.partition }
func (f *fakeTaker) Class() messages.Class {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.class
}

func (f *fakeTaker) Take(r messages.TakeRequest) (messages.Batch, messages.TakeStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r)
	switch {
	case len(f.batches) == 0:
		return nil, messages.TakeDone
	case f.class != r.Class:
		return nil, messages.TakeReclass
	case f.numbered && !r.Identity.Known():
		return nil, messages.TakeNeedsIdentity
	case !r.First && f.batches[0].Bytes() > r.RoomBytes:
		return nil, messages.TakeNoRoom
	}
	b := f.batches[0]
	f.batches = f.batches[1:]
	if len(f.batches) > 0 {
		return b, messages.TakeMore
	}
	return b, messages.TakeDone
}

// readRequest decodes a Produce frame.
func readRequest(t testing.TB, frame []byte) (correlation int32, r *kmsg.ProduceRequest) {
	t.Helper()
	key, version, correlation, body := readHeader(t, frame)
	if key != int16(kmsg.Produce) {
		t.Fatalf("api key %d", key)
	}
	r = kmsg.NewPtrProduceRequest()
	r.SetVersion(version)
	if err := r.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	return correlation, r
}

// readHeader takes a request's frame apart.
func readHeader(t testing.TB, frame []byte) (key, version int16, correlation int32, body []byte) {
	t.Helper()
	if len(frame) < 14 || int(be32(frame)) != len(frame)-4 {
		t.Fatalf("frame of %d bytes says %d", len(frame), be32(frame))
	}
	key, version, correlation = int16(be16(frame[4:])), int16(be16(frame[6:])), int32(be32(frame[8:]))
	body = frame[14+int(be16(frame[12:])):]
	request := kmsg.RequestForKey(key)
	request.SetVersion(version)
	if request.IsFlexible() {
		body = body[1:]
	}
	return key, version, correlation, body
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }
func be32(b []byte) uint32 { return uint32(be16(b))<<16 | uint32(be16(b[2:])) }

// responseFrame is an answer without its size, as the transport brings it.
func responseFrame(correlation int32, r kmsg.Response) []byte {
	frame := []byte{byte(correlation >> 24), byte(correlation >> 16), byte(correlation >> 8), byte(correlation)}
	if r.IsFlexible() && r.Key() != int16(kmsg.ApiVersions) {
		frame = append(frame, 0)
	}
	return r.AppendTo(frame)
}

// produceAnswer answers all of a request with a code.
func produceAnswer(r *kmsg.ProduceRequest, code int16) *kmsg.ProduceResponse {
	a := kmsg.NewPtrProduceResponse()
	a.SetVersion(r.GetVersion())
	for _, rt := range r.Topics {
		at := kmsg.NewProduceResponseTopic()
		at.Topic, at.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			ap := kmsg.NewProduceResponseTopicPartition()
			ap.Partition, ap.ErrorCode, ap.BaseOffset = rp.Partition, code, 100+int64(rp.Partition)
			at.Partitions = append(at.Partitions, ap)
		}
		a.Topics = append(a.Topics, at)
	}
	return a
}

func join(slices [][]byte) []byte {
	var all []byte
	for _, s := range slices {
		all = append(all, s...)
	}
	return all
}
