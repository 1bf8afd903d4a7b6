package kafka_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
)

const rawTimeout = 40 * time.Second // for one answer; longer than a script lets a request wait

var errReset = syscall.ECONNRESET

// rawConnection is a socket to one broker with nothing clever on it: what a script
// says is what is sent.
type rawConnection struct {
	socket net.Conn
	format *kmsg.RequestFormatter
	within time.Duration // for writing, and for the answer
}

func dialRaw(address string) (*rawConnection, error) {
	socket, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return nil, err
	}
	return &rawConnection{socket, kmsg.NewRequestFormatter(kmsg.FormatterClientID("conformance")), rawTimeout}, nil
}

func (c *rawConnection) close() { _ = c.socket.Close() }

func (c *rawConnection) write(request kmsg.Request) error {
	_ = c.socket.SetDeadline(time.Now().Add(c.within))
	_, err := c.socket.Write(c.format.AppendRequest(nil, request, 1))
	return err
}

// read reads an answer into request's own response.
func (c *rawConnection) read(request kmsg.Request) error {
	_, err := c.receive(request)
	return err
}

// readInto reads an answer into response.
func (c *rawConnection) readInto(request kmsg.Request, response kmsg.Response) error {
	body, err := c.receive(request)
	if err != nil {
		return err
	}
	response.SetVersion(request.GetVersion())
	return response.ReadFrom(body)
}

func (c *rawConnection) receive(request kmsg.Request) ([]byte, error) {
	_ = c.socket.SetDeadline(time.Now().Add(c.within))
	var head [8]byte
	if _, err := io.ReadFull(c.socket, head[:]); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > 16<<20 {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(c.socket, body); err != nil {
		return nil, err
	}
	if request.IsFlexible() && request.Key() != int16(kmsg.ApiVersions) {
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("tags in the header of an answer")
		}
		body = body[1:]
	}
	return body, nil
}

// batchBytes encodes a scripted batch whose records have the script's own time.
func batchBytes(q *model.Send, startMillis int64) []byte {
	value := []byte("v")
	records := encodeRecords(q, value)
	// A longer value has a longer length in front of it: go there in two steps.
	for want := q.Bytes - protocol.BatchHeaderSize; q.Bytes > 0 && len(records) < want; records = encodeRecords(q, value) {
		value = append(value, make([]byte, max((want-len(records))/q.Count, 1))...)
	}
	if q.Bytes > 0 && len(records)+protocol.BatchHeaderSize != q.Bytes {
		// One byte too many, where a length has grown: take it from the value.
		over := len(records) + protocol.BatchHeaderSize - q.Bytes
		records = encodeRecords(q, value[:len(value)-over])
	}
	header := protocol.BatchHeader{
		Attributes: int16(q.Codec), BaseTimestamp: startMillis + q.TimeMillis, MaxTimestamp: startMillis + q.TimeMillis,
		ProducerID: q.ProducerID, ProducerEpoch: q.ProducerEpoch, BaseSequence: q.BaseSequence, Records: int32(q.Count),
	}
	if q.Control {
		header.Attributes |= protocol.AttributeControl
	}
	if q.AppendTime {
		header.Attributes |= protocol.AttributeLogAppendTime
	}
	batch := make([]byte, protocol.BatchHeaderSize)
	protocol.PutBatchHeader(batch, &header, len(records))
	protocol.SealBatchCRC(batch, [][]byte{records})
	batch = append(batch, records...)
	if q.Corrupt {
		batch[len(batch)-1] ^= 0xff
	}
	if q.OldFormat {
		batch[16] = 1
	}
	return batch
}

func encodeRecords(q *model.Send, value []byte) (records []byte) {
	for i := range q.Count {
		key := []byte("k")
		if slices.Contains(q.Keyless, i) {
			key = nil
		}
		records = slices.Grow(records, protocol.RecordUpperBound(len(key), len(value), nil))
		records = protocol.AppendRecord(records, 0, int32(i), key, value, nil)
	}
	return records
}
