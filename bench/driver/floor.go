package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

// floor is the least a producer can do on one goroutine: encode every record
// into a batch of its partition, sum the full batch, write it, and read answers
// when five requests are open. It waits for nothing else, retries nothing, and
// keeps no record. It needs a cluster of one broker, and no compression.
type floor struct {
	sock    net.Conn
	tally   *tally
	batches []floorBatch // by partition
	sticky  int          // the partition of records without key

	answer [4096]byte
	open   []floorRequest // first in, first out
}

type floorBatch struct {
	bytes    []byte // the request up to the last record
	count    int
	sequence int
	base     int64 // timestamp of the first record
}

type floorRequest struct {
	partition, count int
	slots            []dutySlot // only with duties
}

const (
	floorVersion   = 8
	floorInFlight  = 5
	floorBatchSize = 256 << 10
	batchHeader    = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newFloor(ctx context.Context, s Settings, t *tally) (client, error) {
	if err := floorCan(s); err != nil {
		return nil, err
	}
	sock, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	f := &floor{sock: sock, tally: t, batches: make([]floorBatch, s.Partitions)}
	for i := range f.batches {
		f.batches[i].bytes = appendProduce(make([]byte, 0, floorBatchSize), s.Topic, i)
	}
	return f, nil
}

func floorCan(s Settings) error {
	if s.Codec != "none" || s.Rate != 0 || s.Acks != "all" || s.Size > floorBatchSize/2 {
		return errors.New("knows acks all only, compresses nothing, has no rate and takes no large record")
	}
	return nil
}

// appendProduce appends a Produce request for one partition up to and with its
// batch's header. What is not known yet is zero: both sizes, and in the batch the
// length, the sum, the number of records and the sequence.
func appendProduce(b []byte, topic string, partition int) []byte {
	b = append(b, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, floorVersion, 0, 0, 0, 0) // key, version, correlation
	b = append(b, 0xff, 0xff)                        // client id
	b = append(b, 0xff, 0xff)                        // transactional id
	b = append(b, 0xff, 0xff)                        // acks
	b = binary.BigEndian.AppendUint32(b, 30_000)
	b = append(b, 0, 0, 0, 1)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(topic))), topic...)
	b = append(b, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	b = append(b, 0, 0, 0, 0)
	b = append(b, make([]byte, batchHeader)...)
	h := b[len(b)-batchHeader:]
	h[16] = 2
	binary.BigEndian.PutUint64(h[43:], 1) // producer id
	return b
}

func (f *floor) produce(_ context.Context, w *worker, n int, _ time.Duration) error {
	now := time.Now().UnixMilli()
	for i := range n {
		if i%32 == 0 {
			now = time.Now().UnixMilli()
		}
		key, value := w.keys.next(), w.values.next()
		p := f.sticky
		if key != nil {
			p = int(murmur2(key)&0x7fffffff) % len(f.batches)
		}
		b := &f.batches[p]
		const most = 5*binary.MaxVarintLen32 + 1 + 1
		if len(b.bytes)+len(key)+len(value)+most > cap(b.bytes) {
			if err := f.write(p); err != nil {
				return err
			}
			f.sticky = (f.sticky + 1) % len(f.batches)
			if key == nil {
				b = &f.batches[f.sticky]
			}
		}
		b.append(now, key, value)
	}
	return nil
}

func (b *floorBatch) append(now int64, key, value []byte) {
	if b.count == 0 {
		b.base = now
	}
	delta, keyLength := now-b.base, int64(len(key))
	if key == nil {
		keyLength = -1
	}
	size := 1 + varintSize(delta) + varintSize(int64(b.count)) + varintSize(keyLength) + len(key) +
		varintSize(int64(len(value))) + len(value) + 1
	d := binary.AppendVarint(b.bytes, int64(size))
	d = append(d, 0) // attributes
	d = binary.AppendVarint(d, delta)
	d = binary.AppendVarint(d, int64(b.count))
	d = append(binary.AppendVarint(d, keyLength), key...)
	d = append(binary.AppendVarint(d, int64(len(value))), value...)
	b.bytes = append(d, 0) // headers
	b.count++
}

func varintSize(v int64) int {
	n := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// write sends the batch of a partition and empties it, after an answer if enough
// are missing.
func (f *floor) write(partition int) error {
	if len(f.open) == floorInFlight {
		if err := f.read(); err != nil {
			return err
		}
	}
	return f.send(partition)
}

// send completes the batch of a partition, writes it and empties it.
func (f *floor) send(partition int) error {
	b := &f.batches[partition]
	start := b.start()
	h := b.bytes[start:]
	binary.BigEndian.PutUint32(b.bytes, uint32(len(b.bytes)-4))
	binary.BigEndian.PutUint32(b.bytes[start-4:], uint32(len(h)))
	binary.BigEndian.PutUint32(h[8:], uint32(len(h)-12))
	binary.BigEndian.PutUint32(h[23:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[27:], uint64(b.base))
	binary.BigEndian.PutUint64(h[35:], uint64(b.base))
	binary.BigEndian.PutUint32(h[53:], uint32(b.sequence))
	binary.BigEndian.PutUint32(h[57:], uint32(b.count))
	binary.BigEndian.PutUint32(h[17:], crc32.Checksum(h[21:], castagnoli))
	if _, err := f.sock.Write(b.bytes); err != nil {
		return err
	}
	f.open = append(f.open, floorRequest{partition: partition, count: b.count})
	b.sequence += b.count
	b.count = 0
	b.bytes = b.bytes[:start+batchHeader]
	return nil
}

// start is where the batch's header starts in the request.
func (b *floorBatch) start() int {
	const topicAt = 4 + 8 + 2 + 2 + 2 + 4 + 4
	return topicAt + 2 + int(binary.BigEndian.Uint16(b.bytes[topicAt:])) + 4 + 4 + 4
}

// read takes the answer to the oldest open request.
func (f *floor) read() error {
	r, _, failure, err := f.receive()
	if err != nil {
		return err
	}
	for range r.count {
		f.tally.done(int32(r.partition), 0, failure)
	}
	return failure
}

// receive reads the answer to the oldest open request: its base offset, and the
// error that it names.
func (f *floor) receive() (r floorRequest, offset int64, failure, err error) {
	if _, err := io.ReadFull(f.sock, f.answer[:4]); err != nil {
		return r, 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(f.answer[:]))
	if n > len(f.answer) {
		return r, 0, nil, fmt.Errorf("answer of %d bytes", n)
	}
	if _, err := io.ReadFull(f.sock, f.answer[:n]); err != nil {
		return r, 0, nil, err
	}
	r = f.open[0]
	f.open = append(f.open[:0], f.open[1:]...)
	const topics = 4 + 4
	at := topics + 2 + int(binary.BigEndian.Uint16(f.answer[topics:])) + 4 + 4
	if code := binary.BigEndian.Uint16(f.answer[at:]); code != 0 {
		failure = fmt.Errorf("broker answered error %d", code)
	}
	return r, int64(binary.BigEndian.Uint64(f.answer[at+2:])), failure, nil
}

func (f *floor) flush(context.Context) error {
	for p := range f.batches {
		if f.batches[p].count > 0 {
			if err := f.write(p); err != nil {
				return err
			}
		}
	}
	for len(f.open) > 0 {
		if err := f.read(); err != nil {
			return err
		}
	}
	return nil
}

func (f *floor) close(context.Context) error { return f.sock.Close() }

func (f *floor) settings() []string {
	return []string{
		"acks = all", "producer id and sequences = yes", "linger = none: a batch is sent when it is full",
		fmt.Sprintf("batch = %d", floorBatchSize), fmt.Sprintf("requests in flight = %d", floorInFlight),
	}
}

// murmur2 is the hash that Kafka's Java client chooses partitions with.
func murmur2(b []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := 0x9747b28c ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		h = h*m ^ (k^k>>r)*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
