package embedded_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// patience bounds every wait of these tests. Nothing is expected to take so
// long; a test that reaches it has failed.
const patience = 30 * time.Second

// sent is one partition's batch of one Produce request, as the broker saw it.
type sent struct {
	node      int32
	request   int // counts Produce requests of the cluster
	at        time.Time
	topic     string
	partition int32
	acks      int16
	timeoutMs int32
	bytes     int
	batch     kmsg.RecordBatch
	// values are the records' values; empty when the batch is compressed.
	values []string
}

// produced is one Produce request on its way into the cluster.
type produced struct {
	*kmsg.ProduceRequest
	node    int32
	batches []sent
}

func (p *produced) has(topic string, partition int32) bool {
	return slices.ContainsFunc(p.batches, func(s sent) bool { return s.topic == topic && s.partition == partition })
}

// rule looks at a request and may answer it; see kfake.ControlKey.
type rule func(*produced) (response kmsg.Response, err error, handled bool)

// wire watches every Produce request of a cluster and disturbs some.
type wire struct {
	cluster *kfake.Cluster

	mu       sync.Mutex
	rules    []rule
	seen     []sent
	requests int
	names    map[[16]byte]string
}

func watch(cluster *kfake.Cluster) *wire {
	w := &wire{cluster: cluster, names: make(map[[16]byte]string)}
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		return w.control(r.(*kmsg.ProduceRequest))
	})
	return w
}

func (w *wire) control(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) { //nolint:revive // kfake's order
	w.cluster.KeepControl()
	p := &produced{ProduceRequest: r, node: w.cluster.CurrentNode()}
	w.mu.Lock()
	w.requests++
	for _, t := range r.Topics {
		name := t.Topic
		if name == "" {
			name = w.nameLocked(t.TopicID)
		}
		for _, part := range t.Partitions {
			s := sent{
				node: p.node, request: w.requests, at: time.Now(), topic: name, partition: part.Partition, acks: r.Acks, timeoutMs: r.TimeoutMillis,
				bytes: len(part.Records),
			}
			_ = s.batch.ReadFrom(part.Records)
			if s.batch.Attributes&7 == 0 {
				for _, rec := range records(&s.batch) {
					s.values = append(s.values, string(rec.Value))
				}
			}
			p.batches = append(p.batches, s)
		}
	}
	w.seen = append(w.seen, p.batches...)
	rules := slices.Clone(w.rules)
	w.mu.Unlock()
	for _, rule := range rules {
		if response, err, handled := rule(p); handled {
			return response, err, true
		}
	}
	return nil, nil, false
}

func (w *wire) nameLocked(id [16]byte) string {
	if _, ok := w.names[id]; !ok {
		if info := w.cluster.TopicIDInfo(id); info != nil {
			w.names[id] = info.Topic
		}
	}
	return w.names[id]
}

// add puts a rule behind those there are.
func (w *wire) add(r rule) {
	w.mu.Lock()
	w.rules = append(w.rules, r)
	w.mu.Unlock()
}

// of returns what was sent to one partition, in order of arrival.
func (w *wire) of(topic string, partition int32) []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []sent
	for _, s := range w.seen {
		if s.topic == topic && s.partition == partition {
			found = append(found, s)
		}
	}
	return found
}

// all returns everything that was sent, in order of arrival.
func (w *wire) all() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// answerNext answers the next n requests that carry the partition with code,
// for every partition in them, as a broker does that appended nothing.
func (w *wire) answerNext(n int, topic string, partition int32, code int16) {
	var mu sync.Mutex
	w.add(func(p *produced) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 || !p.has(topic, partition) {
			return nil, nil, false
		}
		n--
		return answer(p.ProduceRequest, code, -1), nil, true
	})
}

// hold keeps requests that match unanswered until the returned function is
// called; requests of other connections go on. The test's end lets them go, too.
func (w *wire) hold(t testing.TB, match func(*produced) bool) (release func()) {
	gate := make(chan struct{})
	var once sync.Once
	release = func() { once.Do(func() { close(gate) }) }
	t.Cleanup(release)
	w.add(func(p *produced) (kmsg.Response, error, bool) {
		select {
		case <-gate:
			return nil, nil, false
		default:
		}
		if match(p) {
			w.cluster.SleepControl(func() { <-gate })
		}
		return nil, nil, false
	})
	return release
}

func anyRequest(*produced) bool { return true }

func onNode(node int32) func(*produced) bool { return func(p *produced) bool { return p.node == node } }

// answer gives every partition of a request the same code and base offset.
func answer(r *kmsg.ProduceRequest, code int16, baseOffset int64) *kmsg.ProduceResponse {
	response := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range r.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.BaseOffset = p.Partition, code, baseOffset
			rt.Partitions = append(rt.Partitions, rp)
		}
		response.Topics = append(response.Topics, rt)
	}
	return response
}

// records decodes an uncompressed batch.
func records(b *kmsg.RecordBatch) []kmsg.Record {
	found := make([]kmsg.Record, 0, b.NumRecords)
	rest := b.Records
	for range b.NumRecords {
		length, n := kvarint(rest)
		var r kmsg.Record
		if n == 0 || int(length) > len(rest)-n || r.ReadFrom(rest[:n+int(length)]) != nil {
			return found
		}
		found = append(found, r)
		rest = rest[n+int(length):]
	}
	return found
}

// kvarint reads a zigzag varint and its length.
func kvarint(b []byte) (int64, int) {
	var u uint64
	for i := range b {
		u |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
	}
	return 0, 0
}

// counter counts requests of one kind.
func counter(cluster *kfake.Cluster, key kmsg.Key) func() int {
	var mu sync.Mutex
	n := 0
	cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		n++
		mu.Unlock()
		return nil, nil, false
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// outcomes collects deliveries.
type outcomes struct {
	mu   sync.Mutex
	list []troupe.Delivery
}

func (o *outcomes) add(d troupe.Delivery) {
	o.mu.Lock()
	o.list = append(o.list, d)
	o.mu.Unlock()
}

func (o *outcomes) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.list)
}

// wait returns the first n deliveries.
func (o *outcomes) wait(t testing.TB, n int) []troupe.Delivery {
	t.Helper()
	eventually(t, "deliveries", func() bool { return o.count() >= n })
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list[:n])
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// fast makes retries and refreshes quick enough for tests.
func fast(more ...troupe.Option) []troupe.Option {
	return append([]troupe.Option{
		troupe.WithRetry(troupe.RetryPolicy{InitialRetryTime: 10 * time.Millisecond, MaxRetryTime: 100 * time.Millisecond, Factor: 0.2, Multiplier: 2, Retries: troupe.UnlimitedRetries}),
		troupe.WithMetadataMinAge(10 * time.Millisecond),
	}, more...)
}

// place puts each partition of a topic on the node of its number, modulo nodes.
func place(t testing.TB, cluster *kfake.Cluster, topic string, partitions, nodes int32) {
	t.Helper()
	for p := range partitions {
		if err := cluster.MoveTopicPartition(topic, p, p%nodes); err != nil {
			t.Fatal(err)
		}
	}
}

// must produces a record that has to be admitted.
func must(t testing.TB, p *troupe.Producer, r troupe.Record, callback troupe.Callback) {
	t.Helper()
	if err := p.Produce(within(t, patience), r, callback); err != nil {
		t.Fatal(err)
	}
}

// mustContext is must with the record's own context.
func mustContext(ctx context.Context, t testing.TB, p *troupe.Producer, r troupe.Record, callback troupe.Callback) {
	t.Helper()
	if err := p.Produce(ctx, r, callback); err != nil {
		t.Fatal(err)
	}
}

// to is a record for a partition.
func to(topic string, partition int32, value string) troupe.Record {
	return troupe.Record{Topic: topic, Value: []byte(value), Partition: troupe.AtPartition(partition)}
}

// msgs are messages for a partition.
func msgs(partition int32, values ...string) []troupe.Message {
	list := make([]troupe.Message, 0, len(values))
	for _, v := range values {
		list = append(list, troupe.Message{Value: []byte(v), Partition: troupe.AtPartition(partition)})
	}
	return list
}

// values are the records' values in order.
func values(records []*kgo.Record) []string {
	list := make([]string, 0, len(records))
	for _, r := range records {
		list = append(list, string(r.Value))
	}
	return list
}

func sortedCopy(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func expect(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("the log holds %v, expected %v", got, want)
	}
}

// waitingFor counts goroutines that stand in a function.
func waitingFor(function string) int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), function+"(")
}

// codes that several tests inject.
const (
	corruptMessage     = int16(protocol.CorruptMessage)
	unknownTopicOrPart = int16(protocol.UnknownTopicOrPartition)
	leaderNotAvailable = int16(protocol.LeaderNotAvailable)
	notLeader          = int16(protocol.NotLeaderOrFollower)
)

func splitAddress(address string) (string, int32) {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return host, int32(n)
}

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}

// perPartition returns the records' values by partition, in order.
func perPartition(records []*kgo.Record) map[int32][]string {
	parts := make(map[int32][]string)
	for _, r := range records {
		parts[r.Partition] = append(parts[r.Partition], string(r.Value))
	}
	return parts
}

// quietly writes a producer's log to a buffer instead of the test's log.
func quietly(w io.Writer) troupe.Option { return troupe.WithLogger(zerolog.New(w)) }
