package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func randomText(r *rand.Rand) *string {
	if r.IntN(3) == 0 {
		return nil
	}
	s := randomString(r, 200)
	return &s
}

// randomTags adds unknown tagged fields, from tag 1 on.
func randomTags(r *rand.Rand, version int16, tags *kmsg.Tags) {
	if version < 9 {
		return
	}
	for range r.IntN(8) - 5 {
		tags.Set(1+r.Uint32N(1000), randomBytes(r, 200))
	}
}

func randomProduceResponse(r *rand.Rand, version int16) *kmsg.ProduceResponse {
	resp := &kmsg.ProduceResponse{Version: version, ThrottleMillis: int32(r.Uint32())}
	randomTags(r, version, &resp.UnknownTags)
	for range r.IntN(5) {
		t := kmsg.NewProduceResponseTopic()
		randomTags(r, version, &t.UnknownTags)
		if version >= 13 {
			for i := range t.TopicID {
				t.TopicID[i] = byte(r.Uint32())
			}
		} else {
			t.Topic = randomString(r, 249)
		}
		for range r.IntN(50) >> r.IntN(6) {
			p := kmsg.NewProduceResponseTopicPartition()
			randomTags(r, version, &p.UnknownTags)
			p.Partition, p.ErrorCode = int32(r.Uint32()), int16(r.Uint32())
			p.BaseOffset, p.LogAppendTime = int64(r.Uint64()), int64(r.Uint64())
			if version >= 5 {
				p.LogStartOffset = int64(r.Uint64())
			}
			if version >= 8 {
				p.ErrorMessage = randomText(r)
				for range r.IntN(6) - 3 {
					e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
					randomTags(r, version, &e.UnknownTags)
					e.RelativeOffset, e.ErrorMessage = int32(r.Uint32()), randomText(r)
					p.ErrorRecords = append(p.ErrorRecords, e)
				}
			}
			if version >= 10 && r.IntN(2) == 0 {
				p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(r.Uint32()), int32(r.Uint32())
				randomTags(r, version, &p.CurrentLeader.UnknownTags)
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if version >= 10 {
		for range r.IntN(6) - 2 {
			b := kmsg.NewProduceResponseBroker()
			randomTags(r, version, &b.UnknownTags)
			b.NodeID, b.Host, b.Port, b.Rack = int32(r.Uint32()), randomString(r, 60), int32(r.Uint32()), randomText(r)
			resp.Brokers = append(resp.Brokers, b)
		}
	}
	return resp
}

// responseBody adds the response header that a broker would put in front.
func responseBody(correlationID int32, resp *kmsg.ProduceResponse) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(correlationID))
	if resp.IsFlexible() {
		b = append(b, 2, 5, 1, 'x', 7, 0) // two tags nobody knows
	}
	return resp.AppendTo(b)
}

func sameText(b []byte, s *string) bool {
	if s == nil {
		return b == nil
	}
	return b != nil && string(b) == *s
}

func checkProduceResponse(t *testing.T, got *ProduceResponse, want *kmsg.ProduceResponse) {
	t.Helper()
	if got.ThrottleMs != want.ThrottleMillis {
		t.Fatalf("throttle: %d, want %d", got.ThrottleMs, want.ThrottleMillis)
	}
	i := 0
	for _, topic := range want.Topics {
		for _, w := range topic.Partitions {
			if i == len(got.Partitions) {
				t.Fatal("partitions are missing")
			}
			g := &got.Partitions[i]
			i++
			if g.Partition != w.Partition || g.ErrorCode != w.ErrorCode || g.BaseOffset != w.BaseOffset ||
				g.LogAppendTimeMs != w.LogAppendTime || g.LogStartOffset != w.LogStartOffset ||
				g.CurrentLeaderID != w.CurrentLeader.LeaderID || g.CurrentLeaderEpoch != w.CurrentLeader.LeaderEpoch {
				t.Fatalf("partition: got %+v, want %+v", g, w)
			}
			if string(g.Topic) != topic.Topic || g.TopicID != topic.TopicID || (g.Topic == nil) != (want.Version >= 13) {
				t.Fatalf("topic: got %q %x, want %q %x", g.Topic, g.TopicID, topic.Topic, topic.TopicID)
			}
			if !sameText(g.ErrorMessage, w.ErrorMessage) || len(g.RecordErrors) != len(w.ErrorRecords) {
				t.Fatalf("errors: got %+v, want %+v", g, w)
			}
			for k, e := range w.ErrorRecords {
				if r := g.RecordErrors[k]; r.BatchIndex != e.RelativeOffset || !sameText(r.Message, e.ErrorMessage) {
					t.Fatalf("record error: got %+v, want %+v", r, e)
				}
			}
		}
	}
	if i != len(got.Partitions) || len(got.NodeEndpoints) != len(want.Brokers) {
		t.Fatalf("%d partitions and %d endpoints, want %d and %d", len(got.Partitions), len(got.NodeEndpoints), i, len(want.Brokers))
	}
	for i, w := range want.Brokers {
		g := got.NodeEndpoints[i]
		if g.NodeID != w.NodeID || string(g.Host) != w.Host || g.Port != w.Port || !sameText(g.Rack, w.Rack) {
			t.Fatalf("endpoint: got %+v, want %+v", g, w)
		}
	}
}

func TestProduceResponseAgainstKmsg(t *testing.T) {
	var got ProduceResponse // reused over versions, so that what is left of a response would show
	for version := MinProduceVersion; version <= MaxProduceVersion; version++ {
		r := newRand(100 + uint64(version))
		for i := range 300 {
			want := randomProduceResponse(r, version)
			if err := got.Decode(version, responseBody(int32(i), want)); err != nil {
				t.Fatalf("v%d: %v", version, err)
			}
			if got.CorrelationID != int32(i) {
				t.Fatalf("v%d: correlation id %d, want %d", version, got.CorrelationID, i)
			}
			checkProduceResponse(t, &got, want)
		}
	}
}

// TestProduceResponseCut: no prefix of a response decodes, and no byte that was
// changed makes it panic.
func TestProduceResponseCut(t *testing.T) {
	var got ProduceResponse
	for version := MinProduceVersion; version <= MaxProduceVersion; version++ {
		r := newRand(200 + uint64(version))
		for range 10 {
			body := responseBody(1, randomProduceResponse(r, version))
			if len(body) > 800 {
				continue // the time is quadratic, and the small ones have it all
			}
			for n := range body {
				var de *DecodeError
				if err := got.Decode(version, body[:n]); !errors.As(err, &de) || de.Offset > n || de.Field == "" {
					t.Fatalf("v%d cut to %d of %d bytes: %v", version, n, len(body), err)
				}
			}
			if err := got.Decode(version, append(body[:len(body):len(body)], 0)); !errors.Is(err, ErrTrailing) {
				t.Fatalf("v%d with a byte too many: %v", version, err)
			}
			for at := range body {
				old := body[at]
				body[at] = byte(r.Uint32())
				_ = got.Decode(version, body)
				body[at] = old
			}
		}
	}
}

// TestProduceResponseHostile: a length that the bytes cannot hold is named, and
// costs no memory.
func TestProduceResponseHostile(t *testing.T) {
	const id = "\x00\x00\x00\x01"
	huge := "\x7f\xff\xff\xff"
	hugeCompact := "\xff\xff\xff\xff\x0f"
	part9 := "\x00\x00\x00\x00" + "\x00\x00" + string(make([]byte, 24))
	for _, tt := range []struct {
		name    string
		version int16
		body    string
		field   string
		offset  int
		reason  error
	}{
		{"empty", 3, "", "correlation_id", 0, ErrTruncated},
		{"topics v3", 3, id + huge, "responses", 4, ErrLength},
		{"topics v3 negative", 3, id + "\xff\xff\xff\xfe", "responses", 4, ErrLength},
		{"topics v9", 9, id + "\x00" + hugeCompact, "responses", 5, ErrLength},
		{"topics overlong", 9, id + "\x00\xff\xff\xff\xff\xff\x0f", "responses", 5, ErrVarint},
		{"header tags", 9, id + hugeCompact, "response_header.tags", 4, ErrLength},
		{"header tag size", 9, id + "\x01\x01" + hugeCompact + "\x00\x00", "response_header.tags", 6, ErrLength},
		{"topic name", 3, id + "\x00\x00\x00\x01\x7f\xff\x00\x00\x00\x00", "responses.name", 8, ErrLength},
		{"topic name null", 3, id + "\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00", "responses.name", 8, ErrNull},
		{"topic name null v12", 12, id + "\x00\x02\x00\x00\x00\x00\x00\x00", "responses.name", 6, ErrNull},
		{"partitions", 3, id + "\x00\x00\x00\x01\x00\x00" + huge, "responses.partition_responses", 10, ErrLength},
		{"partitions v13", 13, id + "\x00\x02" + string(make([]byte, 16)) + hugeCompact, "responses.partition_responses", 22, ErrLength},
		{"record errors", 9, id + "\x00\x02\x02t\x02" + part9 + hugeCompact, "partition_responses.record_errors", 39, ErrLength},
		{"message", 9, id + "\x00\x02\x02t\x02" + part9 + "\x01" + hugeCompact, "partition_responses.error_message", 40, ErrLength},
		{"leader too short", 10, id + "\x00\x02\x02t\x02" + part9 + "\x01\x00\x01\x00\x04\x00\x00\x00\x00", "current_leader.leader_epoch", 48, ErrTruncated},
		{"leader too long", 10, id + "\x00\x02\x02t\x02" + part9 + "\x01\x00\x01\x00\x0a" + string(make([]byte, 10)), "current_leader", 53, ErrTrailing},
		{"endpoints", 10, id + "\x00\x01" + "\x00\x00\x00\x00" + "\x01\x00\x05" + hugeCompact, "node_endpoints", 13, ErrLength},
		{"version 2", 2, id, "produce_response", 0, ErrVersion},
		{"version 14", 14, id, "produce_response", 0, ErrVersion},
	} {
		var r ProduceResponse
		err := r.Decode(tt.version, []byte(tt.body))
		var de *DecodeError
		if !errors.As(err, &de) || de.Field != tt.field || de.Offset != tt.offset || !errors.Is(err, tt.reason) {
			t.Errorf("%s: got %v, want %s at %d: %v", tt.name, err, tt.field, tt.offset, tt.reason)
		}
		if cap(r.Partitions) > 1 || cap(r.NodeEndpoints) > 0 {
			t.Errorf("%s: memory for %d partitions was taken", tt.name, cap(r.Partitions))
		}
	}
}

// TestProduceResponseTagsBeforeTheirVersion: tag 0 means nothing in version 9.
func TestProduceResponseTagsBeforeTheirVersion(t *testing.T) {
	want := kmsg.NewProduceResponse()
	want.Version = 9
	topic := kmsg.NewProduceResponseTopic()
	p := kmsg.NewProduceResponseTopicPartition()
	p.CurrentLeader.LeaderID = 5
	topic.Partitions = append(topic.Partitions, p)
	want.Topics = append(want.Topics, topic)
	want.Brokers = append(want.Brokers, kmsg.NewProduceResponseBroker())
	var got ProduceResponse
	if err := got.Decode(9, responseBody(1, &want)); err != nil {
		t.Fatal(err)
	}
	if got.Partitions[0].CurrentLeaderID != -1 || len(got.NodeEndpoints) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestProduceResponseReset(t *testing.T) {
	r := newRand(7)
	var got ProduceResponse
	for len(got.Partitions) == 0 || len(got.NodeEndpoints) == 0 {
		if err := got.Decode(12, responseBody(1, randomProduceResponse(r, 12))); err != nil {
			t.Fatal(err)
		}
	}
	got.Reset()
	for _, p := range got.Partitions[:cap(got.Partitions)] {
		for _, e := range p.RecordErrors[:cap(p.RecordErrors)] {
			if e.Message != nil {
				t.Error("Reset keeps a message")
			}
		}
		if p.Topic != nil || p.ErrorMessage != nil {
			t.Error("Reset keeps a string")
		}
	}
	for _, e := range got.NodeEndpoints[:cap(got.NodeEndpoints)] {
		if e.Host != nil || e.Rack != nil {
			t.Error("Reset keeps an endpoint")
		}
	}
}

func TestRequestHeader(t *testing.T) {
	for _, flexible := range []bool{false, true} {
		got := AppendRequestHeader([]byte("x"), 22, 4, -2, "id", flexible)
		want := "x\x00\x16\x00\x04\xff\xff\xff\xfe\x00\x02id"
		if flexible {
			want += "\x00"
		}
		if string(got) != want {
			t.Errorf("flexible %t: got %x, want %x", flexible, got, want)
		}
	}
	for _, version := range []int16{0, 1, 2, 3, 4, 5} {
		req := kmsg.NewInitProducerIDRequest()
		req.Version = version
		frame := AppendRequestHeader(make([]byte, FrameSizeBytes), req.Key(), version, 9, "client", req.IsFlexible())
		frame = req.AppendTo(frame)
		PutFrameSize(frame)
		if want := kmsg.NewRequestFormatter(kmsg.FormatterClientID("client")).AppendRequest(nil, &req, 9); !bytes.Equal(frame, want) {
			t.Errorf("InitProducerId v%d: got %x, want %x", version, frame, want)
		}
	}
}

func TestResponseHeader(t *testing.T) {
	for _, tt := range []struct {
		in       string
		flexible bool
		id       int32
		rest     string
		reason   error
	}{
		{"\x00\x00\x00\x07body", false, 7, "body", nil},
		{"\xff\xff\xff\xff\x00body", true, -1, "body", nil},
		{"\x00\x00\x00\x07\x02\x00\x01a\x05\x00body", true, 7, "body", nil},
		{"\x00\x00\x00\x07", false, 7, "", nil},
		{"\x00\x00\x00", false, 0, "", ErrTruncated},
		{"\x00\x00\x00\x07", true, 0, "", ErrTruncated},
		{"\x00\x00\x00\x07\x01\x00\x02a", true, 0, "", ErrLength},
		{"\x00\x00\x00\x07\x05\x00\x00", true, 0, "", ErrLength},
	} {
		id, rest, err := ResponseHeader([]byte(tt.in), tt.flexible)
		if id != tt.id || string(rest) != tt.rest || !errors.Is(err, tt.reason) {
			t.Errorf("%x, flexible %t: got %d, %q, %v", tt.in, tt.flexible, id, rest, err)
		}
	}
}
