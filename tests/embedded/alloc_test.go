//go:build !race

package embedded_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/seams"
)

// These tests count every allocation of the process, so nothing runs beside
// them; the race detector makes pools forget, so they are left out under it.

// TestAllocationsOfProduce measures the caller's path: the records stay in an
// open batch.
func TestAllocationsOfProduce(t *testing.T) {
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	p := newProducer(t, cluster, troupe.WithLinger(long), troupe.WithBatchMaxBytes(64<<20), troupe.WithBufferBytes(256<<20), troupe.WithPaceBytes(0))
	topic, err := p.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var answered atomic.Int64
	shared := func(troupe.Delivery) { answered.Add(1) }
	key, value := make([]byte, 16), make([]byte, 100)
	for name, c := range map[string]struct {
		record   troupe.Record
		callback troupe.Callback
	}{
		"no callback":     {troupe.Record{Value: value}, nil},
		"shared callback": {troupe.Record{Key: key, Value: value}, shared},
		"tag":             {troupe.Record{Key: key, Value: value, Tag: 7}, shared},
		"headers":         {troupe.Record{Value: value, Headers: []troupe.Header{{Key: "h", Value: key}}}, shared},
	} {
		t.Run(name, func(t *testing.T) {
			// Warm: the topic is known, and buffers come back to their pool.
			for range 20_000 {
				if err := topic.Produce(ctx, c.record, c.callback); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			if n := testing.AllocsPerRun(10_000, func() {
				if err := topic.Produce(ctx, c.record, c.callback); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations per record", n)
			}
		})
	}
}

// TestAllocationsOfTheWholePath measures everything from the call to the
// callback, with a broker that costs nothing.
func TestAllocationsOfTheWholePath(t *testing.T) {
	p, err := troupe.New(troupe.WithBrokers("null:9092"), troupe.WithSeams(troupe.Seams{Transport: nullTransport{}}), troupe.WithLinger(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closing(t, p, time.Second) })
	topic, err := p.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var answered atomic.Int64
	shared := func(d troupe.Delivery) {
		if d.Err == nil {
			answered.Add(1)
		}
	}
	for name, callback := range map[string]troupe.Callback{"no callback": nil, "shared callback": shared} {
		t.Run(name, func(t *testing.T) {
			record := troupe.Record{Value: make([]byte, 100)}
			produce := func(n int) {
				for range n {
					if err := topic.Produce(ctx, record, callback); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Flush(within(t, patience)); err != nil {
					t.Fatal(err)
				}
			}
			produce(200_000)
			answered.Store(0)
			const n = 300_000
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			produce(n)
			runtime.ReadMemStats(&after)
			if per := float64(after.Mallocs-before.Mallocs) / n; per >= 0.02 {
				t.Errorf("%.4f allocations per record", per)
			} else {
				t.Logf("%.4f allocations per record", per)
			}
			if callback != nil && answered.Load() != n {
				t.Errorf("%d of %d acknowledged", answered.Load(), n)
			}
		})
	}
}

// nullTransport is a cluster of one broker with one topic of one partition that
// acknowledges every Produce request without looking at it.
type nullTransport struct{}

type nullRequest struct {
	key, version int16
	correlation  int32
}

type nullConnection struct {
	events   seams.ConnectionEvents
	requests chan nullRequest
	closed   atomic.Bool
	reason   error
}

func (nullTransport) Dial(_ string, events seams.ConnectionEvents) seams.Connection {
	c := &nullConnection{events: events, requests: make(chan nullRequest, 100)}
	go c.serve()
	return c
}

func (c *nullConnection) Write(frame [][]byte, write seams.Write) {
	head := frame[0]
	r := nullRequest{
		int16(binary.BigEndian.Uint16(head[4:])), int16(binary.BigEndian.Uint16(head[6:])), int32(binary.BigEndian.Uint32(head[8:])),
	}
	write.Written(nil, true)
	if !c.closed.Load() {
		c.requests <- r
	}
}

func (c *nullConnection) Close(reason error) {
	if c.closed.CompareAndSwap(false, true) {
		c.reason = reason
		close(c.requests)
	}
}

// produceAnswer is the answer of version 3 for partition 0 of topic t; the
// correlation id stands at its begin.
var produceAnswer = []byte{
	0, 0, 0, 0,
	0, 0, 0, 1, 0, 1, 't',
	0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0,
	255, 255, 255, 255, 255, 255, 255, 255,
	0, 0, 0, 0,
}

func (c *nullConnection) serve() {
	c.events.Opened()
	answer := append([]byte(nil), produceAnswer...)
	for r := range c.requests {
		if kmsg.Key(r.key) == kmsg.Produce {
			binary.BigEndian.PutUint32(answer, uint32(r.correlation))
			c.events.Received(answer)
			continue
		}
		request := kmsg.RequestForKey(r.key)
		request.SetVersion(r.version)
		response := request.ResponseKind()
		switch response := response.(type) {
		case *kmsg.ApiVersionsResponse:
			for key, most := range map[kmsg.Key]int16{kmsg.Produce: 3, kmsg.Metadata: 7, kmsg.InitProducerID: 1} {
				k := kmsg.NewApiVersionsResponseApiKey()
				k.ApiKey, k.MaxVersion = int16(key), most
				response.ApiKeys = append(response.ApiKeys, k)
			}
		case *kmsg.InitProducerIDResponse:
			response.ProducerID, response.ProducerEpoch = 1, 0
		case *kmsg.MetadataResponse:
			b := kmsg.NewMetadataResponseBroker()
			b.Host, b.Port = "null", 9092
			response.Brokers = append(response.Brokers, b)
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = kmsg.StringPtr("t")
			topic.Partitions = append(topic.Partitions, kmsg.NewMetadataResponseTopicPartition())
			response.Topics = append(response.Topics, topic)
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(r.correlation))
		if response.IsFlexible() && kmsg.Key(r.key) != kmsg.ApiVersions {
			frame = append(frame, 0)
		}
		c.events.Received(response.AppendTo(frame))
	}
	c.events.Closed(c.reason)
}
