package protocol

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// encode runs a kmsg request through our encoder.
func encode(e *ProduceEncoder, r *rand.Rand, correlationID int32, clientID string, req *kmsg.ProduceRequest) [][]byte {
	e.Begin(req.Version, correlationID, clientID, req.TransactionID, req.Acks, req.TimeoutMillis, len(req.Topics))
	for _, t := range req.Topics {
		e.Topic(t.Topic, t.TopicID, len(t.Partitions))
		for _, p := range t.Partitions {
			e.Partition(p.Partition, chop(r, p.Records))
		}
	}
	return e.Finish()
}

func randomProduceRequest(r *rand.Rand, version int16) *kmsg.ProduceRequest {
	req := &kmsg.ProduceRequest{Version: version, Acks: int16(r.IntN(3)) - 1, TimeoutMillis: int32(r.Uint32())}
	if r.IntN(2) == 0 {
		id := randomString(r, 300)
		req.TransactionID = &id
	}
	for range r.IntN(5) {
		t := kmsg.ProduceRequestTopic{}
		if version >= 13 {
			for i := range t.TopicID {
				t.TopicID[i] = byte(r.Uint32())
			}
		} else {
			t.Topic = randomString(r, 249)
		}
		for range r.IntN(200) >> r.IntN(8) {
			records := randomBytes(r, 3000)
			if records == nil {
				records = []byte{}
			}
			t.Partitions = append(t.Partitions, kmsg.ProduceRequestTopicPartition{Partition: int32(r.Uint32()), Records: records})
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestProduceEncoderAgainstKmsg(t *testing.T) {
	for version := MinProduceVersion; version <= MaxProduceVersion; version++ {
		r := newRand(uint64(version))
		var e ProduceEncoder // reused, so that what is left of a request would show
		for i := range 60 {
			req := randomProduceRequest(r, version)
			clientID := randomString(r, 200)
			frame := join(encode(&e, r, int32(i), clientID, req))

			want := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, int32(i))
			if !bytes.Equal(frame, want) {
				t.Fatalf("v%d request %d: frame of %d bytes differs from kmsg's %d", version, i, len(frame), len(want))
			}
			if e.Size() != len(frame) || int(binary.BigEndian.Uint32(frame)) != len(frame)-4 {
				t.Fatalf("v%d: Size %d, prefix %d, frame %d", version, e.Size(), binary.BigEndian.Uint32(frame), len(frame))
			}

			bound := ProduceRequestOverhead(clientID, req.TransactionID)
			for _, topic := range req.Topics {
				bound += ProduceTopicOverhead(topic.Topic)
				for _, p := range topic.Partitions {
					bound += ProducePartitionOverhead + len(p.Records)
				}
			}
			if bound < len(frame) {
				t.Fatalf("v%d: bound %d, frame %d", version, bound, len(frame))
			}

			header := AppendRequestHeader(nil, 0, version, int32(i), clientID, version >= 9)
			back := kmsg.ProduceRequest{Version: version}
			if err := back.ReadFrom(frame[4+len(header):]); err != nil {
				t.Fatalf("v%d: kmsg cannot read it: %v", version, err)
			}
		}
	}
}

// TestProduceEncoderReferencesBatches: no byte of a batch is copied, and the
// encoder's own pieces survive the growth of its buffer.
func TestProduceEncoderReferencesBatches(t *testing.T) {
	const n = 3000
	batch := []byte("the batch")
	var e ProduceEncoder
	e.Begin(9, 1, "c", nil, -1, 1000, 1)
	e.Topic("topic", [16]byte{}, n)
	for i := range n {
		e.Partition(int32(i), [][]byte{batch[:4], nil, batch[4:]})
	}
	out := e.Finish()
	if len(out) != 3*n+1 {
		t.Fatalf("%d slices, want %d", len(out), 3*n+1)
	}
	for i := range n {
		if &out[3*i+1][0] != &batch[0] || &out[3*i+2][0] != &batch[4] {
			t.Fatal("a batch was copied")
		}
	}
	var back kmsg.ProduceRequest
	back.Version = 9
	if err := back.ReadFrom(join(out)[4+len(AppendRequestHeader(nil, 0, 9, 1, "c", true)):]); err != nil {
		t.Fatal(err)
	}
	for i, p := range back.Topics[0].Partitions {
		if p.Partition != int32(i) || string(p.Records) != string(batch) {
			t.Fatalf("partition %d: %d %q", i, p.Partition, p.Records)
		}
	}
	e.Reset()
	for _, s := range out[:cap(out)] {
		if s != nil {
			t.Fatal("Reset keeps a batch alive")
		}
	}
}

func TestProduceEncoderPanics(t *testing.T) {
	begin := func(e *ProduceEncoder, topics int) { e.Begin(12, 1, "c", nil, 1, 1, topics) }
	for name, f := range map[string]func(*ProduceEncoder){
		"version 2":           func(e *ProduceEncoder) { e.Begin(2, 1, "", nil, 1, 1, 0) },
		"version 14":          func(e *ProduceEncoder) { e.Begin(14, 1, "", nil, 1, 1, 0) },
		"long client id":      func(e *ProduceEncoder) { e.Begin(3, 1, string(make([]byte, 1<<15)), nil, 1, 1, 0) },
		"negative topics":     func(e *ProduceEncoder) { begin(e, -1) },
		"finish first":        func(e *ProduceEncoder) { e.Finish() },
		"topic first":         func(e *ProduceEncoder) { e.Topic("t", [16]byte{}, 1) },
		"partition first":     func(e *ProduceEncoder) { begin(e, 1); e.Partition(0, nil) },
		"topic missing":       func(e *ProduceEncoder) { begin(e, 1); e.Finish() },
		"topic too many":      func(e *ProduceEncoder) { begin(e, 0); e.Topic("t", [16]byte{}, 1) },
		"partition missing":   func(e *ProduceEncoder) { begin(e, 1); e.Topic("t", [16]byte{}, 1); e.Finish() },
		"partition missing 2": func(e *ProduceEncoder) { begin(e, 2); e.Topic("t", [16]byte{}, 1); e.Topic("u", [16]byte{}, 1) },
		"partition too many":  func(e *ProduceEncoder) { begin(e, 1); e.Topic("t", [16]byte{}, 0); e.Partition(0, nil) },
		"finished twice":      func(e *ProduceEncoder) { begin(e, 0); e.Finish(); e.Finish() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(new(ProduceEncoder))
		})
	}
}
