package kafkacluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

func TestMain(m *testing.M) { os.Exit(kafkacluster.Run(m)) }

// produce sends one record per value with franz-go, to the partitions in turn.
func produce(t *testing.T, seeds []string, topic string, partitions int, values []string, options ...kgo.Opt) {
	t.Helper()
	producer, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for i, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(value)})
	}
	if err := producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

func numbered(prefix string, count int) []string {
	var values []string
	for i := range count {
		values = append(values, fmt.Sprintf("%s %06d %s", prefix, i, strings.Repeat("x", 40)))
	}
	return values
}

func valuesOf(records []*kgo.Record) []string {
	var values []string
	for _, r := range records {
		values = append(values, string(r.Value))
	}
	slices.Sort(values)
	return values
}

func TestOneBroker(t *testing.T) {
	for _, version := range kafkacluster.Versions() {
		t.Run(string(version), func(t *testing.T) {
			began := time.Now()
			kafka := kafkacluster.Start(t, kafkacluster.Config{
				Version:   version,
				Listeners: []string{"SASL_PLAINTEXT"},
				Properties: map[string]string{
					"sasl.enabled.mechanisms": "PLAIN",
					"listener.name.sasl_plaintext.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule" +
						` required user_alice="secret";`,
				},
			})
			t.Logf("started in %v", time.Since(began))
			if seeds := kafka.Seeds(); len(seeds) != 1 {
				t.Fatalf("seeds %v, want one", seeds)
			}

			kafka.CreateTopic("journal", 3, 1, nil)
			if records := kafka.ConsumeAll("journal", 10*time.Second); len(records) != 0 {
				t.Fatalf("%d records in a new topic", len(records))
			}
			values := numbered("one", 1000)
			zstd := kgo.ProducerBatchCompression(kgo.ZstdCompression())
			produce(t, kafka.Seeds(), "journal", 3, values, zstd)
			records := kafka.ConsumeAll("journal", 10*time.Second)
			if got := valuesOf(records); !slices.Equal(got, values) {
				t.Fatalf("consumed %d records, want the %d that were produced", len(got), len(values))
			}
			checkDump(t, kafka, "journal", 3, records, "zstd")

			alice := kgo.SASL(plain.Auth{User: "alice", Pass: "secret"}.AsMechanism())
			kafka.CreateTopic("signed", 1, 1, nil)
			produce(t, kafka.SeedsOf("SASL_PLAINTEXT"), "signed", 1, []string{"by alice"}, alice)
			if got := valuesOf(kafka.ConsumeAll("signed", 10*time.Second)); !slices.Equal(got, []string{"by alice"}) {
				t.Fatalf("consumed %q over the SASL listener's topic", got)
			}

			checkTransactions(t, kafka)

			// A hung broker answers nobody, and then goes on.
			kafka.Pause(1)
			if answers(t, kafka.Seeds()[0]) {
				t.Error("a paused broker answers")
			}
			kafka.Resume(1)
			if !answers(t, kafka.Seeds()[0]) {
				t.Error("a resumed broker does not answer")
			}
			kafka.Stop(1)
			if running := kafka.Running(); len(running) != 0 {
				t.Errorf("brokers %v run after Stop", running)
			}
			kafka.Restart(1)
			if got := valuesOf(kafka.ConsumeAll("journal", 20*time.Second)); !slices.Equal(got, values) {
				t.Fatalf("consumed %d records after a restart, want %d", len(got), len(values))
			}
			if log := kafka.Log(1); !strings.Contains(log, "INFO") {
				t.Errorf("the broker's log has no line of level INFO:\n%s", log)
			}
		})
	}
}

// checkDump compares what a consumer read with the batches on disk.
func checkDump(t *testing.T, kafka *kafkacluster.Cluster, topic string, partitions int, records []*kgo.Record, codec string) {
	t.Helper()
	for partition := range partitions {
		consumed := int64(0)
		for _, r := range records {
			if int(r.Partition) == partition {
				consumed++
			}
		}
		next, nextSequence := int64(0), int32(0)
		for _, b := range kafka.DumpLogSegments(topic, partition) {
			if b.BaseOffset != next || b.BaseSequence != nextSequence || b.LastOffset != b.BaseOffset+int64(b.Count)-1 {
				t.Errorf("%s-%d: batch %+v, want it to start at offset %d, sequence %d", topic, partition, b, next, nextSequence)
			}
			if !b.Valid || b.CRC == 0 || b.Codec != codec || b.ProducerID < 0 || b.ProducerEpoch != 0 || b.Magic != 2 || b.IsTransactional {
				t.Errorf("%s-%d: batch %+v, want a valid idempotent one with %s", topic, partition, b, codec)
			}
			next, nextSequence = b.LastOffset+1, nextSequence+int32(b.Count)
		}
		if next != consumed || consumed == 0 {
			t.Errorf("%s-%d: %d records on disk, %d consumed", topic, partition, next, consumed)
		}
	}
}

// checkTransactions aborts one transaction and commits another.
func checkTransactions(t *testing.T, kafka *kafkacluster.Cluster) {
	t.Helper()
	kafka.CreateTopic("ledger", 1, 1, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(kafka.Seeds()...), kgo.TransactionalID("books"), kgo.DefaultProduceTopic("ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := fmt.Sprintf("committed %v", end == kgo.TryCommit)
		if err := producer.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(kafka.ConsumeAll("ledger", 10*time.Second)); got != 3 {
		t.Errorf("consumed %d records, want all 3, aborted ones too", got)
	}
	if got := valuesOf(kafka.ConsumeCommitted("ledger", 10*time.Second)); !slices.Equal(got, []string{"committed true"}) {
		t.Errorf("consumed %q, want the committed record only", got)
	}
	markers := 0
	for _, b := range kafka.DumpLogSegments("ledger", 0) {
		if !b.IsTransactional || !b.Valid {
			t.Errorf("batch %+v, want a valid one of a transaction", b)
		}
		if b.IsControl {
			markers++
		}
	}
	if markers != 3 {
		t.Errorf("%d markers on disk, want 3", markers)
	}
}

// answers says whether a broker answers an ApiVersions request within half a
// second.
func answers(t *testing.T, address string) bool {
	t.Helper()
	connection, err := net.Dial("tcp4", address)
	if err != nil {
		return false
	}
	defer func() { _ = connection.Close() }()
	request := []byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff} // size, key, version, correlation, no client id
	if _, err := connection.Write(request); err != nil {
		t.Fatal(err)
	}
	if err := connection.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err = connection.Read(make([]byte, 1))
	return err == nil
}

func TestThreeBrokers(t *testing.T) {
	began := time.Now()
	kafka := kafkacluster.Shared(t, kafkacluster.Config{Brokers: 3})
	t.Logf("started in %v", time.Since(began))
	kafka.CreateTopic("orders", 3, 3, map[string]string{"min.insync.replicas": "2"})
	first := numbered("before", 300)
	produce(t, kafka.Seeds(), "orders", 3, first)

	began = time.Now()
	victim := kafka.LeaderOf("orders", 0)
	kafka.Kill(victim)
	if next := kafka.LeaderOf("orders", 0); next == victim {
		t.Fatalf("broker %d leads after its death", next)
	}
	t.Logf("the next leader after %v", time.Since(began))
	second := numbered("between", 300)
	produce(t, kafka.Seeds(), "orders", 3, second)
	want := slices.Sorted(slices.Values(slices.Concat(first, second)))
	if got := valuesOf(kafka.ConsumeAll("orders", 20*time.Second)); !slices.Equal(got, want) {
		t.Fatalf("two brokers: consumed %d records, want %d", len(got), len(want))
	}

	began = time.Now()
	kafka.Restart(victim)
	kafka.AwaitInSync("orders")
	t.Logf("restarted and in sync after %v", time.Since(began))
	if running := kafka.Running(); !slices.Equal(running, []int{1, 2, 3}) {
		t.Fatalf("brokers %v run, want all three", running)
	}
	leader := kafka.LeaderOf("orders", 0)
	follower := leader%3 + 1
	if led, copied := kafka.DumpLogSegmentsOf(leader, "orders", 0), kafka.DumpLogSegmentsOf(follower, "orders", 0); !slices.Equal(led, copied) {
		t.Errorf("the leader has %+v, a follower %+v", led, copied)
	}

	// All die, and no acknowledged record is gone when they are back.
	for id := 1; id <= 3; id++ {
		kafka.Kill(id)
	}
	kafka.Restart(1, 2, 3)
	if got := valuesOf(kafka.ConsumeAll("orders", 30*time.Second)); !slices.Equal(got, want) {
		t.Fatalf("after the death of all: consumed %d records, want %d", len(got), len(want))
	}
}

func TestSharedClusterHeals(t *testing.T) {
	cfg := kafkacluster.Config{Brokers: 3}
	kafka := kafkacluster.Shared(t, cfg)
	kafka.Kill(1)
	kafka.Pause(2)
	again := kafkacluster.Shared(t, cfg)
	if running := again.Running(); !slices.Equal(running, []int{1, 2, 3}) {
		t.Fatalf("brokers %v run, want all three", running)
	}
	if !slices.Equal(kafka.Seeds(), again.Seeds()) {
		t.Errorf("seeds %v, then %v: want one cluster", kafka.Seeds(), again.Seeds())
	}
	for _, seed := range again.Seeds() {
		if !answers(t, seed) {
			t.Errorf("broker at %s does not answer", seed)
		}
	}
}

// TestAdvertise puts a proxy before a broker: clients under test pass it, the
// cluster's own consumer does not.
func TestAdvertise(t *testing.T) {
	proxy := &proxy{}
	kafka := kafkacluster.Start(t, kafkacluster.Config{
		Advertise: func(_ int, address string) string { return proxy.listen(t, address) },
	})
	kafka.CreateTopic("proxied", 1, 1, nil)
	produce(t, kafka.SeedsOf("PLAINTEXT"), "proxied", 1, []string{"through the proxy"})
	if proxy.connections() == 0 {
		t.Error("nothing went through the proxy")
	}
	before := proxy.connections()
	if got := len(kafka.ConsumeAll("proxied", 10*time.Second)); got != 1 {
		t.Errorf("consumed %d records, want 1", got)
	}
	if proxy.connections() != before {
		t.Error("the cluster's own consumer went through the proxy")
	}
}

// proxy passes bytes on, both ways.
type proxy struct {
	mu       sync.Mutex
	accepted int
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *proxy) listen(t *testing.T, to string) string {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.accepted++
			p.mu.Unlock()
			go relay(client, to)
		}
	}()
	return listener.Addr().String()
}

func relay(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	broker, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	defer func() { _ = broker.Close() }()
	go func() {
		_, _ = io.Copy(broker, client)
		_ = broker.Close()
	}()
	_, _ = io.Copy(client, broker)
}
