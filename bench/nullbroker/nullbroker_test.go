package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log"
	"net"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// batchOf is a batch of count empty records as far as a broker looks at it.
func batchOf(count, sequence int32, body int) []byte {
	b := make([]byte, batchHeaderBytes+body)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-batchBytesBeforeMagic))
	b[16] = 2
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[43:], 7)
	binary.BigEndian.PutUint32(b[53:], uint32(sequence))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	for i := range body {
		b[batchHeaderBytes+i] = byte(i)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[batchBytesBeforeSum:], castagnoli))
	return b
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{maxProduce: maxProduce, buffer: minBuffer, check: true}
	if err := c.addTopics("other:1,bench:3", 1); err != nil {
		t.Fatal(err)
	}
	c.addresses = []*net.TCPAddr{{IP: net.IPv4(127, 0, 0, 1), Port: 9}}
	return c
}

// exchange sends requests to a fresh connection and returns its answers.
func exchange(t testing.TB, c *cluster, requests ...kmsg.Request) []byte {
	var in bytes.Buffer
	for i, r := range requests {
		in.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, r, int32(i)))
	}
	sock := &fakeSocket{in: in.Bytes()}
	conn := &connection{cluster: c, sock: sock, in: reader{src: sock, buf: make([]byte, c.buffer)}}
	if err := conn.serve(); err != io.EOF {
		t.Fatal(err)
	}
	return sock.out
}

type fakeSocket struct {
	net.Conn
	in, out []byte
}

func (s *fakeSocket) Read(b []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 7919)], s.in) // odd pieces
	s.in = s.in[n:]
	return n, nil
}

func (s *fakeSocket) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

func produceRequest(version int16, id [16]byte, partitions ...kmsg.ProduceRequestTopicPartition) *kmsg.ProduceRequest {
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = "bench", id, partitions
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 1000
	req.Topics = append(req.Topics, topic)
	return req
}

func partitionOf(index int32, batch []byte) kmsg.ProduceRequestTopicPartition {
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = index, batch
	return p
}

// answerOf decodes the answer that out starts with and returns the rest.
func answerOf(t testing.TB, req kmsg.Request, out []byte) (kmsg.Response, []byte) {
	t.Helper()
	size := int(binary.BigEndian.Uint32(out))
	body, rest := out[8:4+size], out[4+size:]
	if req.IsFlexible() && req.Key() != keyAPIVersions {
		body = body[1:]
	}
	answer := req.ResponseKind()
	answer.SetVersion(req.GetVersion())
	if err := answer.ReadFrom(body); err != nil {
		t.Fatalf("%T version %d: %v", answer, req.GetVersion(), err)
	}
	if again := answer.AppendTo(nil); !bytes.Equal(again, body) {
		t.Fatalf("%T version %d: %d bytes are not what was read of %d", answer, req.GetVersion(), len(again), len(body))
	}
	return answer, rest
}

func TestProduce(t *testing.T) {
	log.SetOutput(t.Output())
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for version := int16(minProduce); version <= maxProduce; version++ {
		c := newCluster(t)
		damaged := batchOf(1, 0, 10)
		damaged[len(damaged)-1]++
		first := produceRequest(version, topicID(1), partitionOf(1, batchOf(3, 0, 200_000)), partitionOf(2, batchOf(5, 0, 0)))
		second := produceRequest(version, topicID(1),
			partitionOf(1, batchOf(4, 3, 9)), partitionOf(0, damaged), partitionOf(9, batchOf(1, 0, 1)),
			partitionOf(2, batchOf(1, 4, 1)))
		none := produceRequest(version, topicID(1), partitionOf(1, batchOf(1, 7, 100)))
		none.Acks = 0
		out := exchange(t, c, first, second, none)

		type outcome struct {
			partition int32
			code      int16
			offset    int64
		}
		for i, want := range [][]outcome{
			{{1, 0, 0}, {2, 0, 0}},
			{{1, 0, 3}, {0, errCorrupt, -1}, {9, errUnknownTopic, -1}, {2, errOutOfOrder, -1}},
		} {
			answer, rest := answerOf(t, first, out)
			out = rest
			topics := answer.(*kmsg.ProduceResponse).Topics
			if len(topics) != 1 || version < produceTopicIDs && topics[0].Topic != "bench" || version >= produceTopicIDs && topics[0].TopicID != topicID(1) {
				t.Fatalf("version %d: topics %+v", version, topics)
			}
			for j, p := range topics[0].Partitions {
				if got := (outcome{p.Partition, p.ErrorCode, p.BaseOffset}); got != want[j] {
					t.Errorf("version %d, answer %d: %+v, want %+v", version, i, got, want[j])
				}
			}
		}
		if len(out) != 0 {
			t.Errorf("version %d: acks 0 was answered", version)
		}
		if got := c.totals(); got.Records != 13 || got.Batches != 4 || got.Requests != 3 {
			t.Errorf("version %d: totals %+v", version, got)
		}
	}
}

func TestControl(t *testing.T) {
	for _, key := range []int16{keyAPIVersions, keyMetadata, keyInitProducerID} {
		highest := map[int16]int16{keyAPIVersions: 4, keyMetadata: 12, keyInitProducerID: 4}[key]
		for version := int16(0); version <= highest; version++ {
			req := kmsg.RequestForKey(key)
			req.SetVersion(version)
			if m, ok := req.(*kmsg.MetadataRequest); ok {
				for _, name := range []string{"bench", "nowhere"} {
					topic := kmsg.NewMetadataRequestTopic()
					topic.Topic = kmsg.StringPtr(name)
					m.Topics = append(m.Topics, topic)
				}
			}
			answer, rest := answerOf(t, req, exchange(t, newCluster(t), req))
			if len(rest) != 0 {
				t.Errorf("%T version %d: %d bytes too many", req, version, len(rest))
			}
			if m, ok := answer.(*kmsg.MetadataResponse); ok {
				if len(m.Topics) != 2 || len(m.Topics[0].Partitions) != 3 || m.Topics[1].ErrorCode != errUnknownTopic {
					t.Errorf("version %d: %+v", version, m)
				}
			}
		}
	}
}

func TestProduceAllocatesNothing(t *testing.T) {
	c := newCluster(t)
	c.check = false
	frame := kmsg.NewRequestFormatter().AppendRequest(nil,
		produceRequest(12, topicID(1), partitionOf(0, batchOf(1, 0, 300_000)), partitionOf(1, batchOf(1, 0, 100))), 1)
	sock := &fakeSocket{out: make([]byte, 0, 1<<10)}
	conn := &connection{cluster: c, sock: sock, in: reader{src: sock, buf: make([]byte, c.buffer)}, out: make([]byte, 0, 1<<10)}
	n := testing.AllocsPerRun(100, func() {
		sock.in, sock.out, conn.in.err = frame, sock.out[:0], nil
		conn.in.left = 0
		if err := conn.serve(); err != io.EOF {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
