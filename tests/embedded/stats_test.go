package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestStats: what a producer counts is what has happened.
func TestStats(t *testing.T) {
	cluster := startCluster(t, 1, map[string]int32{"t": 2})
	var refuse atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if refuse.Add(-1) < 0 {
			return nil, nil, false
		}
		q := r.(*kmsg.ProduceRequest)
		a := q.ResponseKind().(*kmsg.ProduceResponse)
		a.ThrottleMillis = 20
		for _, topic := range q.Topics {
			at := kmsg.NewProduceResponseTopic()
			at.Topic, at.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				ap := kmsg.NewProduceResponseTopicPartition()
				ap.Partition, ap.ErrorCode, ap.BaseOffset = p.Partition, int16(protocol.NotEnoughReplicas), -1
				at.Partitions = append(at.Partitions, ap)
			}
			a.Topics = append(a.Topics, at)
		}
		return a, nil, true
	})
	p := newProducer(t, cluster, troupe.WithCompression(codecs.Snappy), troupe.WithMaxTopicWait(300*time.Millisecond), troupe.WithBufferBytes(8<<20))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if s := p.Stats(); s.RecordsPersisted+s.Batches+s.Requests != 0 || s.BufferBytes != 8<<20 {
		t.Errorf("before anything: %+v", s)
	}
	refuse.Store(2)
	send := func(topic string, n int) error {
		s := troupe.Send{Topic: topic}
		for i := range n {
			s.Messages = append(s.Messages, troupe.Message{Key: fmt.Append(nil, i), Value: []byte(strings.Repeat("compress me ", 100))})
		}
		_, err := p.Send(ctx, s)
		return err
	}
	began := time.Now()
	if err := send("t", 50); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := send("t", 1); err != nil {
		t.Fatal(err)
	}
	if err := send("nowhere", 3); !errors.Is(err, troupe.ErrUnknownTopic) {
		t.Fatal(err)
	}
	err := p.Produce(ctx, troupe.Record{Topic: "t", Value: []byte("v")}, func(troupe.Delivery) { panic("a bug of the user's") })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if s.RecordsPersisted != 52 || s.RecordsNotPersisted != 3 || s.RecordsPossiblyPersisted != 0 || s.Unanswered != 0 {
		t.Errorf("records: %+v", s)
	}
	if s.Batches < 3 || s.BatchRetries < 1 || s.BatchBytes < 51*1200 || s.WireBytes*2 > s.BatchBytes || s.BatchSplits != 0 {
		t.Errorf("batches: %+v", s)
	}
	times := uint64(0)
	for _, n := range s.RequestTimes {
		times += n
	}
	if s.Requests < 4 || times != s.Requests || s.RequestsLost != 0 || s.RequestTime <= 0 || s.Throttled != 40*time.Millisecond {
		t.Errorf("requests: %+v", s)
	}
	if s.RecordTime < took || s.RecordTime > 52*(took+time.Second) {
		t.Errorf("records took %v together, and 50 of them %v each", s.RecordTime, took)
	}
	if s.ConnectionsOpened < 2 || s.MetadataRefreshes < 2 || s.CallbackPanics != 1 {
		t.Errorf("%+v", s)
	}
	cluster.Close()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if after := p.Stats(); after.RecordsPersisted != s.RecordsPersisted || after.BufferedBytes != 0 {
		t.Errorf("after Close: %+v", after)
	}
}

// TestStatsOfAnOutage counts what did not work.
func TestStatsOfAnOutage(t *testing.T) {
	cluster := startCluster(t, 1, map[string]int32{"t": 1}, kfake.SleepOutOfOrder())
	p := newProducer(t, cluster, troupe.WithDeliveryTimeout(time.Second), troupe.WithRequestTimeout(500*time.Millisecond), troupe.WithLinger(0))
	ctx := context.Background()
	record := troupe.Record{Topic: "t", Value: []byte("v")}
	if err := p.Produce(ctx, record, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	outcome := make(chan troupe.Delivery, 1)
	if err := p.Produce(ctx, record, func(d troupe.Delivery) { outcome <- d }); err != nil {
		t.Fatal(err)
	}
	d := <-outcome
	s := p.Stats()
	if d.Err == nil || s.RecordsPersisted != 1 || s.RecordsNotPersisted+s.RecordsPossiblyPersisted != 1 || s.ConnectionsFailed == 0 {
		t.Errorf("%+v, after %v", s, d.Err)
	}
	if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || !strings.Contains(d.Err.Error(), "refused") {
		t.Errorf("%v does not say that connections are refused", d.Err)
	}
}
