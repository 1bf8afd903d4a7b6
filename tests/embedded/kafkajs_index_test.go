package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

// TestKafkaJSIndex is the checklist of KafkaJS's producer/index.spec.js.
func TestKafkaJSIndex(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"checks": 1, "tombstones": 1, "none": 1})
	p := newProducer(t, cluster)
	ctx := within(t, patience)

	t.Run("kafkajs: throws an error if the topic is invalid", func(t *testing.T) {
		for _, topic := range []string{"", "with space", "..", strings.Repeat("x", 250)} {
			_, err := p.Send(ctx, troupe.Send{Topic: topic, Messages: msgs(0, "v")})
			if !errors.Is(err, troupe.ErrInvalidRecord) || !strings.Contains(err.Error(), "invalid topic") {
				t.Errorf("topic %q: %v", topic, err)
			}
			if err := p.Produce(ctx, troupe.Record{Topic: topic}, nil); !errors.Is(err, troupe.ErrInvalidRecord) {
				t.Errorf("Produce to %q: %v", topic, err)
			}
			if _, err := p.Topic(topic); !errors.Is(err, troupe.ErrInvalidRecord) {
				t.Errorf("Topic(%q): %v", topic, err)
			}
		}
	})
	t.Run("kafkajs: throws an error if messages is invalid", func(t *testing.T) {
		_, err := p.Send(ctx, troupe.Send{Topic: "checks"})
		if !errors.Is(err, troupe.ErrInvalidRecord) || !strings.Contains(err.Error(), `invalid messages array [null] for topic "checks"`) {
			t.Error(err)
		}
		// No message of the call is sent, not even the valid topic's.
		_, err = p.SendBatch(ctx, troupe.SendBatch{TopicMessages: []troupe.TopicMessages{{Topic: "none", Messages: msgs(0, "v")}, {Topic: "checks"}}})
		if !errors.Is(err, troupe.ErrInvalidRecord) {
			t.Error(err)
		}
		if high := cluster.PartitionInfo("none", 0).HighWatermark; high != 0 {
			t.Errorf("%d messages of a refused call were sent", high)
		}
	})
	t.Run("kafkajs: throws an error for messages with a value of undefined", func(t *testing.T) {
		// Go has no undefined: the zero Message is a tombstone without a key. What
		// a message can have wrong is its partition, and that is refused with it.
		m := troupe.Message{Key: []byte("k"), Partition: troupe.AtPartition(-1)}
		_, err := p.Send(ctx, troupe.Send{Topic: "checks", Messages: []troupe.Message{m}})
		if !errors.Is(err, troupe.ErrInvalidRecord) || !strings.Contains(err.Error(), `topic "checks": {"key":"k"}`) {
			t.Error(err)
		}
	})
	t.Run("kafkajs: allows messages with a null value to support tombstones", func(t *testing.T) {
		// Nothing has called Connect.
		if _, err := p.Send(ctx, troupe.Send{Topic: "tombstones", Messages: []troupe.Message{{Key: []byte("k")}, {Key: []byte("k"), Value: []byte{}}}}); err != nil {
			t.Fatal(err)
		}
		got := consumeAll(t, cluster, "tombstones", 2)
		if got[0].Value != nil || got[1].Value == nil || len(got[1].Value) != 0 {
			t.Errorf("a null value came back as %v, an empty one as %v", got[0].Value, got[1].Value)
		}
	})
	t.Run("kafkajs: empty list of messages and empty topicMessages resolve", func(t *testing.T) {
		if r, err := p.Send(ctx, troupe.Send{Topic: "checks", Messages: []troupe.Message{}}); err != nil || len(r) != 0 {
			t.Error(r, err)
		}
		if r, err := p.SendBatch(ctx, troupe.SendBatch{}); err != nil || len(r) != 0 {
			t.Error(r, err)
		}
		if r, err := p.SendBatch(ctx, troupe.SendBatch{TopicMessages: []troupe.TopicMessages{}}); err != nil || len(r) != 0 {
			t.Error(r, err)
		}
	})
	t.Run("kafkajs: acks 7 and an unknown compression are refused", func(t *testing.T) {
		for _, s := range []troupe.Send{
			{Acks: 7}, {Acks: -2}, {Compression: 9}, {Compression: -1}, {Timeout: -time.Second}, {Timeout: 1000 * time.Hour},
		} {
			s.Topic, s.Messages = "checks", msgs(0, "v")
			if _, err := p.Send(ctx, s); !errors.Is(err, troupe.ErrInvalidRecord) {
				t.Errorf("%+v: %v", s, err)
			}
		}
	})
	t.Run("kafkajs: an invalid topic is rejected, then a valid send works", func(t *testing.T) {
		r, err := p.SendBatch(ctx, troupe.SendBatch{TopicMessages: []troupe.TopicMessages{{Topic: "not/valid", Messages: msgs(0, "v")}, {Topic: "checks", Messages: msgs(0, "v")}}})
		var send *troupe.SendError
		if !errors.As(err, &send) || len(send.Failed) != 1 || send.Failed[0].Topic != "not/valid" || len(r) != 2 || r[0].Topic != "checks" || r[0].Err != nil || !errors.Is(r[1].Err, troupe.ErrInvalidRecord) {
			t.Fatal(r, err)
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "checks", Messages: msgs(0, "v")}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKafkaJSNotConnected(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	w := watch(cluster)
	ctx := within(t, patience)

	t.Run("kafkajs: throws if the producer is not connected", func(t *testing.T) {
		p := newProducer(t, cluster)
		if err := p.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v")}); !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
		if err := p.Connect(ctx); !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("kafkajs: throws if the producer is disconnecting", func(t *testing.T) {
		p := newProducer(t, cluster)
		release := w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("t", 0, "first"), got.add)
		eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 1 })
		must(t, p, to("t", 0, "second"), got.add)
		closed := make(chan error, 1)
		go func() { closed <- p.Close(ctx) }()
		// From some moment on everything is refused, and at once: it does not wait
		// for what is being drained.
		eventually(t, "refusal", func() bool { return errors.Is(p.Produce(ctx, to("t", 0, "third"), nil), troupe.ErrClosed) })
		short := within(t, patience/2)
		if _, err := p.Send(short, troupe.Send{Topic: "t", Messages: msgs(0, "fourth")}); !errors.Is(err, troupe.ErrClosed) {
			t.Error(err)
		}
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		for _, d := range got.wait(t, 2) {
			if d.Err != nil {
				t.Error(d.Err)
			}
		}
	})
}

func TestKafkaJSConnections(t *testing.T) {
	t.Parallel()
	ctx := within(t, patience)

	t.Run("kafkajs: reconnects the cluster if disconnected", func(t *testing.T) {
		cluster := startCluster(t, 2, map[string]int32{"t": 4})
		var mu sync.Mutex
		var open []net.Conn
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
			return c, err
		}
		p := newProducer(t, cluster, fast(troupe.WithDialer(dial))...)
		for round := range 3 {
			for part := range int32(4) {
				if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(part, fmt.Sprint(round))}); err != nil {
					t.Fatal(err)
				}
			}
			mu.Lock()
			for _, c := range open {
				_ = c.Close()
			}
			open = nil
			mu.Unlock()
		}
		consumeAll(t, cluster, "t", 12)
	})
	t.Run("kafkajs: gives access to its logger", func(t *testing.T) {
		cluster := startCluster(t, 1, nil)
		cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
			response.ErrorCode = 31
			return response, nil, true
		})
		var buf syncBuffer
		p := newProducer(t, cluster, troupe.WithLogger(zerolog.New(&buf)))
		if err := p.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		_ = p.Produce(ctx, to("t", 0, "v"), nil)
		eventually(t, "a line in the log", func() bool { return strings.Contains(buf.String(), "the producer cannot go on") })
	})
	t.Run("kafkajs: initProducerId called once over two connect() calls", func(t *testing.T) {
		cluster := startCluster(t, 2, map[string]int32{"t": 4})
		ids := counter(cluster, kmsg.InitProducerID)
		p := newProducer(t, cluster)
		for range 2 {
			if err := p.Connect(ctx); err != nil {
				t.Fatal(err)
			}
			for part := range int32(4) {
				if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(part, "v")}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := ids(); n != 1 {
			t.Errorf("%d requests for a producer id", n)
		}
	})
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestKafkaJSProduce is the part of index.spec.js that runs once with
// idempotence and once without.
func TestKafkaJSProduce(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name       string
		idempotent bool
		acks       troupe.Acks
	}{{"idempotent=false", false, troupe.AcksLeader}, {"idempotent=true", true, troupe.AcksAll}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"single": 1, "a": 1, "b": 1, "merged": 1, "headers": 1})
			p := newProducer(t, cluster, troupe.WithIdempotence(mode.idempotent), troupe.WithAcks(mode.acks))
			ctx := within(t, patience)
			ten := make([]troupe.Message, 10)
			for i := range ten {
				ten[i] = troupe.Message{Key: []byte(fmt.Sprintf("key-%d", i)), Value: []byte(fmt.Sprintf("value-%d", i))}
			}
			t.Run("kafkajs: produce messages", func(t *testing.T) {
				for round := range int64(2) {
					r, err := p.Send(ctx, troupe.Send{Topic: "single", Messages: ten, Acks: mode.acks})
					if err != nil {
						t.Fatal(err)
					}
					if len(r) != 1 || r[0].Topic != "single" || r[0].Partition != 0 || r[0].Err != nil || r[0].BaseOffset != 10*round || !r[0].LogAppendTime.IsZero() || r[0].LogStartOffset != 0 {
						t.Fatalf("round %d: %+v", round, r)
					}
					for i, m := range r[0].Messages {
						if m.Index != i || m.Offset != 10*round+int64(i) || m.Status != troupe.Persisted || m.Err != nil {
							t.Fatalf("message %d: %+v", i, m)
						}
					}
				}
				for i, rec := range consumeAll(t, cluster, "single", 20) {
					if want := fmt.Sprintf("value-%d", i%10); string(rec.Value) != want || string(rec.Key) != fmt.Sprintf("key-%d", i%10) {
						t.Fatalf("offset %d holds %s=%s", i, rec.Key, rec.Value)
					}
				}
			})
			t.Run("kafkajs: produce to multiple topics", func(t *testing.T) {
				for round := range int64(2) {
					r, err := p.SendBatch(ctx, troupe.SendBatch{Acks: mode.acks, TopicMessages: []troupe.TopicMessages{{Topic: "a", Messages: ten}, {Topic: "b", Messages: ten}}})
					if err != nil {
						t.Fatal(err)
					}
					if len(r) != 2 || r[0].Topic != "a" || r[1].Topic != "b" || r[0].BaseOffset != 10*round || r[1].BaseOffset != 10*round {
						t.Fatalf("round %d: %+v", round, r)
					}
				}
			})
			t.Run("kafkajs: sendBatch consolidates topicMessages by topic", func(t *testing.T) {
				one := func(i int) troupe.TopicMessages {
					return troupe.TopicMessages{Topic: "merged", Messages: []troupe.Message{{Key: []byte(fmt.Sprintf("key-%d", i)), Value: []byte("v")}}}
				}
				r, err := p.SendBatch(ctx, troupe.SendBatch{TopicMessages: []troupe.TopicMessages{one(1), one(2), one(3)}})
				if err != nil || len(r) != 1 || len(r[0].Messages) != 3 {
					t.Fatal(r, err)
				}
				for i, rec := range consumeAll(t, cluster, "merged", 3) {
					if rec.Offset != int64(i) || string(rec.Key) != fmt.Sprintf("key-%d", i+1) {
						t.Fatalf("offset %d holds %s", rec.Offset, rec.Key)
					}
				}
			})
			t.Run("kafkajs: produce without key, and with 3 headers per message", func(t *testing.T) {
				m := troupe.Message{Value: []byte("v"), Headers: []troupe.Header{{Key: "h1", Value: []byte("1")}, {Key: "h1", Value: []byte{}}, {Key: "", Value: nil}}}
				if _, err := p.Send(ctx, troupe.Send{Topic: "headers", Messages: []troupe.Message{m, m}}); err != nil {
					t.Fatal(err)
				}
				for _, rec := range consumeAll(t, cluster, "headers", 2) {
					h := rec.Headers
					if rec.Key != nil || len(h) != 3 || h[0].Key != "h1" || string(h[0].Value) != "1" || h[1].Key != "h1" || h[1].Value == nil || h[2].Key != "" || h[2].Value != nil {
						t.Fatalf("key %v, headers %+v", rec.Key, h)
					}
				}
			})
		})
	}
}

func TestKafkaJSIdempotentOptions(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, 1, map[string]int32{"t": 1})
	ctx := within(t, patience)

	t.Run("kafkajs: acks 1 and acks 0 rejected when idempotent", func(t *testing.T) {
		p := newProducer(t, cluster, troupe.WithIdempotence(true))
		for _, acks := range []troupe.Acks{troupe.AcksLeader, troupe.AcksNone} {
			_, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "v"), Acks: acks})
			if !errors.Is(err, troupe.ErrInvalidRecord) || !strings.Contains(err.Error(), "not requiring ack for all messages invalidates the idempotent producer's") {
				t.Errorf("acks %v: %v", acks, err)
			}
		}
		if high := cluster.PartitionInfo("t", 0).HighWatermark; high != 0 {
			t.Errorf("%d refused messages were sent", high)
		}
	})
	t.Run("kafkajs: default retries are unlimited", func(t *testing.T) {
		if n := troupe.DefaultRetryPolicy().Retries; n != troupe.UnlimitedRetries {
			t.Error(n)
		}
	})
	t.Run("kafkajs: retries < 1 throws when idempotent", func(t *testing.T) {
		policy := troupe.DefaultRetryPolicy()
		policy.Retries = 0
		_, err := troupe.New(troupe.WithBrokers(cluster.ListenAddrs()...), troupe.WithIdempotence(true), troupe.WithRetry(policy))
		var refused *troupe.ConfigError
		if !errors.As(err, &refused) || refused.Option != "retries" || !strings.Contains(err.Error(), "an idempotent producer must allow retries to protect against transient errors") {
			t.Error(err)
		}
	})
	t.Run("kafkajs: when acks=0, returns immediately", func(t *testing.T) {
		p := newProducer(t, cluster)
		r, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: msgs(0, "a", "b"), Acks: troupe.AcksNone})
		if err != nil || len(r) != 1 || r[0].BaseOffset != -1 || len(r[0].Messages) != 2 || r[0].Messages[0].Offset != -1 {
			t.Fatal(r, err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"a", "b"})
	})
}
