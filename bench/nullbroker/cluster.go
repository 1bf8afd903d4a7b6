package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/procstat"
)

// A cluster is what all brokers of the process share.
type cluster struct {
	addresses  []*net.TCPAddr // by node id
	topics     map[string]*topic
	byID       map[[16]byte]*topic
	delay      time.Duration
	maxProduce int16
	buffer     int
	check      bool

	nextProducer atomic.Int64
	connections  atomic.Int64
	requests     atomic.Int64 // Produce requests
}

type topic struct {
	name       string
	id         [16]byte
	partitions []partition
}

// A partition counts what it was sent. Its end offset is its number of records.
type partition struct {
	leader  int32
	records atomic.Int64
	batches atomic.Int64
	bytes   atomic.Int64

	mu        sync.Mutex
	sequences map[identity]int32 // the next one expected; only with check
	_         [64]byte           // keeps the counters of two partitions on lines of their own
}

// An identity is a producer id with its epoch.
type identity struct {
	id    int64
	epoch int16
}

// admitSequence says whether a batch continues its producer's numbers.
func (p *partition) admitSequence(id identity, first, count int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sequences == nil {
		p.sequences = map[identity]int32{}
	}
	if p.sequences[id] != first {
		return false
	}
	next := int64(first) + int64(count)
	p.sequences[id] = int32(next & 0x7fffffff) // after 2³¹−1 comes 0
	return true
}

// Totals are what the process did since its start.
type Totals struct {
	Connections int64              `json:"connections"`
	Requests    int64              `json:"requests"`
	Batches     int64              `json:"batches"`
	Records     int64              `json:"records"`
	Bytes       int64              `json:"bytes"` // of batches
	CPUSeconds  float64            `json:"cpu_s"`
	Partitions  map[string][]int64 `json:"partitions"` // records by topic
}

func (c *cluster) totals() Totals {
	t := Totals{
		Connections: c.connections.Load(),
		Requests:    c.requests.Load(),
		CPUSeconds:  procstat.CPU().Seconds(),
		Partitions:  map[string][]int64{},
	}
	for name, topic := range c.topics {
		counts := make([]int64, len(topic.partitions))
		for i := range topic.partitions {
			p := &topic.partitions[i]
			counts[i] = p.records.Load()
			t.Records += counts[i]
			t.Batches += p.batches.Load()
			t.Bytes += p.bytes.Load()
		}
		t.Partitions[name] = counts
	}
	return t
}
