package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

const (
	minProduce      = 3
	maxProduce      = 13
	produceFlexible = 9
	produceTopicIDs = 13
)

// Kafka's error codes that this broker answers.
const (
	errNone               = 0
	errCorrupt            = 2
	errUnknownTopic       = 3
	errNotLeader          = 6
	errOutOfOrder         = 45
	errInvalidRecord      = 87
	errUnknownTopicID     = 100
	batchHeaderBytes      = 61
	batchBytesBeforeMagic = 12 // base offset and length, which the length does not count
	batchBytesBeforeSum   = 21 // what the CRC does not cover
)

// produce reads a Produce request as it arrives and builds the answer on the
// way: both list the same topics and partitions in the same order. It keeps no
// batch and allocates nothing. answer is false for acks 0.
func (c *connection) produce(version int16) (answer bool, err error) {
	if version < minProduce || version > c.maxProduce {
		return false, fmt.Errorf("version %d of Produce is not advertised", version)
	}
	in, flexible := &c.in, version >= produceFlexible
	in.text(false) // client id: never compact
	if flexible {
		in.tags()
		c.out = append(c.out, 0)
	}
	in.text(flexible) // transactional id
	acks := in.int16()
	in.int32() // timeout
	topics := in.length(flexible)
	c.putLength(topics, flexible)
	for ; topics > 0 && in.err == nil; topics-- {
		t, code := c.produceTopic(version)
		partitions := in.length(flexible)
		c.putLength(partitions, flexible)
		for ; partitions > 0 && in.err == nil; partitions-- {
			c.producePartition(version, t, code)
		}
		if flexible {
			in.tags()
			c.out = append(c.out, 0)
		}
	}
	c.out = append(c.out, 0, 0, 0, 0) // throttle time
	if flexible {
		in.tags()
		c.out = append(c.out, 0)
	}
	if in.err != nil {
		return false, in.err
	}
	c.requests.Add(1)
	if c.delay > 0 {
		time.Sleep(c.delay)
	}
	return acks != 0, nil
}

// produceTopic reads and answers the name or id of a topic; code is the error
// of all its partitions if there is none such.
func (c *connection) produceTopic(version int16) (t *topic, code int16) {
	if version >= produceTopicIDs {
		id := [16]byte(c.in.take(16))
		c.out = append(c.out, id[:]...)
		if t = c.byID[id]; t == nil {
			return nil, errUnknownTopicID
		}
		return t, errNone
	}
	name := c.in.text(version >= produceFlexible)
	if version >= produceFlexible {
		c.out = binary.AppendUvarint(c.out, uint64(len(name)+1))
	} else {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(name)))
	}
	c.out = append(c.out, name...)
	if t = c.topics[string(name)]; t == nil {
		return nil, errUnknownTopic
	}
	return t, errNone
}

func (c *connection) producePartition(version int16, t *topic, code int16) {
	in, flexible := &c.in, version >= produceFlexible
	index := in.int32()
	size := in.length(flexible)
	var p *partition
	switch {
	case t == nil:
	case index < 0 || int(index) >= len(t.partitions):
		code = errUnknownTopic
	case t.partitions[index].leader != c.node:
		code = errNotLeader
	default:
		p = &t.partitions[index]
	}
	offset := int64(-1)
	if p == nil {
		in.skip(max(size, 0), nil)
	} else {
		offset, code = c.appendBatch(p, size)
	}
	if flexible {
		in.tags()
	}
	if code != errNone {
		c.complain("partition %d: answered error %d", index, code)
	}

	c.out = binary.BigEndian.AppendUint32(c.out, uint32(index))
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(code))
	c.out = binary.BigEndian.AppendUint64(c.out, uint64(offset))
	c.out = binary.BigEndian.AppendUint64(c.out, ^uint64(0)) // log append time: −1
	if version >= 5 {
		c.out = binary.BigEndian.AppendUint64(c.out, 0) // log start offset
	}
	if version >= 8 {
		c.putLength(0, flexible) // record errors
		if flexible {
			c.out = append(c.out, 0, 0) // error message null, tags
		} else {
			c.out = append(c.out, 0xff, 0xff) // error message null
		}
	}
}

// appendBatch takes a batch of size bytes and returns its base offset.
func (c *connection) appendBatch(p *partition, size int) (offset int64, code int16) {
	if size < batchHeaderBytes {
		c.in.skip(max(size, 0), nil)
		return -1, errInvalidRecord
	}
	h := &c.header
	copy(h[:], c.in.take(batchHeaderBytes))
	length := binary.BigEndian.Uint32(h[8:])
	count := int32(binary.BigEndian.Uint32(h[57:]))
	last := int32(binary.BigEndian.Uint32(h[23:]))
	sum := uint32(0)
	if c.check {
		sum = crc32.Update(0, castagnoli, h[batchBytesBeforeSum:])
		c.in.skip(size-batchHeaderBytes, &sum)
	} else {
		c.in.skip(size-batchHeaderBytes, nil)
	}
	if int(length)+batchBytesBeforeMagic != size || h[16] != 2 || count < 1 || last != count-1 {
		return -1, errInvalidRecord
	}
	if c.check && c.in.err == nil {
		if code := c.checkBatch(p, count, sum); code != errNone {
			return -1, code
		}
	}
	if c.in.err != nil {
		return -1, errNone // the connection ends; there is no answer
	}
	p.batches.Add(1)
	p.bytes.Add(int64(size))
	return p.records.Add(int64(count)) - int64(count), errNone
}

// checkBatch looks at what a broker would refuse. sum is the CRC-32C of the
// batch that arrived.
func (c *connection) checkBatch(p *partition, count int32, sum uint32) int16 {
	h := &c.header
	if sum != binary.BigEndian.Uint32(h[17:]) {
		return errCorrupt
	}
	id := identity{int64(binary.BigEndian.Uint64(h[43:])), int16(binary.BigEndian.Uint16(h[51:]))}
	first := int32(binary.BigEndian.Uint32(h[53:]))
	if id.id >= 0 && !p.admitSequence(id, first, count) {
		c.complain("producer %d epoch %d: sequence %d is not the next", id.id, id.epoch, first)
		return errOutOfOrder
	}
	return errNone
}

// putLength writes the length of an array.
func (c *connection) putLength(n int, flexible bool) {
	if flexible {
		c.out = binary.AppendUvarint(c.out, uint64(n+1))
	} else {
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
	}
}
