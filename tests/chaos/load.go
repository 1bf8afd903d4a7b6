package chaos

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// The topics. Every one has three replicas, two of which must be in sync.
const (
	numberedTopic = iota // keyed, numbered batches: everything is promised
	weakTopic            // acks 1
	growingTopic         // numbered; partitions are added, so keys move
)

var topics = []topic{
	numberedTopic: {Name: "chaos", Numbered: true, Fixed: true},
	weakTopic:     {Name: "chaos-acks-1", Fixed: true},
	growingTopic:  {Name: "chaos-growing", Numbered: true},
}

const (
	numberedPartitions = 8
	weakPartitions     = 4
	growingPartitions  = 3    // at first
	largestRecord      = 2048 // bytes, encoded; a buffer holds two at least
	keyCount           = 300
	largestPadding     = 400 // bytes of a value beside its id
	tick               = 10 * time.Millisecond
	sendMessages       = 12               // of one Send
	maxBlock           = 10 * time.Second // that a call waits for room
	growingAge         = 3 * time.Second  // until a new partition is found, at the latest
	contextSlack       = time.Second      // contexts are looked at every 100 ms
	outcomeSlack       = 5 * time.Second  // two cores carry three brokers as well
)

// style is how a goroutine hands its records over.
type style int

const (
	produce     style = iota
	withContext       // a third of the records have a context that ends soon
	try               // TryProduce: refused when the buffer is full
	send              // Send, which waits
)

// shape is one producer. What is not set here is drawn from the seed.
type shape struct {
	name       string
	topic      int
	styles     []style // one goroutine each
	taking     bool    // the goroutines take turns, so that all their records are one line
	rate       int     // records per second and goroutine
	delivery   time.Duration
	buffer     int
	batch      int
	idempotent bool
}

// metadataAge is the default, but for the topic that gets new partitions.
func (s shape) metadataAge() time.Duration {
	if s.topic == growingTopic {
		return growingAge
	}
	return troupe.DefaultMetadataMaxAge
}

// shapes is what runs in every campaign, side by side.
var shapes = []shape{
	{"steady", numberedTopic, []style{produce, produce}, false, 400, 2 * time.Minute, 32 << 20, 1_000_000, true},
	{"turns", numberedTopic, []style{produce, produce, produce}, true, 200, 2 * time.Minute, 4 << 20, 64 << 10, true},
	{"small", numberedTopic, []style{produce}, false, 400, 2 * time.Minute, 8 << 20, 2000, true},
	{"sends", numberedTopic, []style{send, send}, false, 300, time.Minute, 8 << 20, 16 << 10, true},
	{"hasty", numberedTopic, []style{withContext, try}, false, 600, 4 * time.Second, 1 << 20, 16 << 10, true},
	{"growing", growingTopic, []style{produce}, false, 200, 2 * time.Minute, 4 << 20, 32 << 10, true},
	{"acks-1", weakTopic, []style{produce, produce}, false, 200, 30 * time.Second, 4 << 20, 64 << 10, false},
}

// settings are what the seed decides for one producer.
type settings struct {
	linger   time.Duration
	codec    codecs.ID
	inFlight int
	request  time.Duration
}

func (s settings) String() string {
	return fmt.Sprintf("linger %v, codec %v, %d in flight, request timeout %v", s.linger, s.codec, s.inFlight, s.request)
}

// newSettings deals out the producers' settings: no two of the first five have the
// same codec or the same number in flight.
func newSettings(seed uint64) []settings {
	r := rand.New(rand.NewPCG(seed, 3))
	ids := []codecs.ID{codecs.None, codecs.Gzip, codecs.Snappy, codecs.LZ4, codecs.Zstd}
	lingers := []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond}
	codecOrder, flightOrder := r.Perm(len(ids)), r.Perm(troupe.DefaultMaxInFlight)
	list := make([]settings, len(shapes))
	for i := range list {
		list[i] = settings{
			linger: lingers[r.IntN(len(lingers))], codec: ids[codecOrder[i%len(ids)]],
			inFlight: 1 + flightOrder[i%len(flightOrder)], request: between(r, time.Second, 3500*time.Millisecond),
		}
	}
	return list
}

// load is the producers and what they were asked to do.
type load struct {
	began     time.Time
	producers []*producer
	lines     []*ledger
	reasons   reasons
	stopping  context.CancelFunc
	sending   sync.WaitGroup
}

type producer struct {
	*troupe.Producer
	shape  shape
	buffer int // the bound of its memory
	most   atomic.Int64
}

// ledger is a line that is being written.
type ledger struct {
	turn sync.Mutex // held while a record is admitted, where goroutines take turns
	mu   sync.Mutex
	line
}

// newLoad makes the producers. It sends nothing yet.
func newLoad(seeds []string, seed uint64, spoiled bool, log zerolog.Logger) (*load, error) {
	l := &load{began: time.Now(), stopping: func() {}}
	l.reasons.known = map[string]int32{"": 0}
	l.reasons.list = []string{""}
	for i, set := range newSettings(seed) {
		s := shapes[i]
		acks := troupe.AcksAll
		if !s.idempotent {
			acks = troupe.AcksLeader
		}
		options := []troupe.Option{
			troupe.WithBrokers(seeds...), troupe.WithClientID(s.name), troupe.WithLogger(log.With().Str("producer", s.name).Logger()),
			troupe.WithAcks(acks), troupe.WithIdempotence(s.idempotent), troupe.WithLinger(set.linger), troupe.WithCompression(set.codec),
			troupe.WithMaxInFlight(set.inFlight), troupe.WithRequestTimeout(set.request), troupe.WithDeliveryTimeout(s.delivery),
			troupe.WithMetadataMaxAge(s.metadataAge()), troupe.WithBufferBytes(s.buffer), troupe.WithBatchMaxBytes(s.batch), troupe.WithMaxBlock(maxBlock), troupe.WithRecordMaxBytes(largestRecord),
		}
		if spoiled && s.name == spoiledName {
			options = append(options, troupe.WithIdempotence(false), troupe.WithUnnumberedInFlight(troupe.DefaultMaxInFlight), troupe.WithMaxInFlight(troupe.DefaultMaxInFlight))
		}
		p, err := troupe.New(options...)
		if err != nil {
			return l, fmt.Errorf("producer %s: %w", s.name, err)
		}
		l.producers = append(l.producers, &producer{Producer: p, shape: s, buffer: boundOf(s, set)})
	}
	return l, nil
}

// spoiledName is the producer that a spoiled campaign runs without idempotence and
// with several batches in flight, although everything is asked of it.
const spoiledName = "small"

// boundOf is the most that a producer's buffer may hold. What batches keep about
// their records and compressed copies in the making are counted in it, but nobody
// waits for room for them: a copy is smaller than what it was made of, which
// waited.
func boundOf(s shape, set settings) int {
	if set.codec == codecs.None {
		return s.buffer + s.buffer/8
	}
	return 2 * s.buffer
}

// start begins to send, until stop.
func (l *load) start(seed uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stopping = cancel
	for _, p := range l.producers {
		var shared *sender
		for i, how := range p.shape.styles {
			g := &sender{load: l, producer: p, style: how, random: rand.New(rand.NewPCG(seed, 100+uint64(len(l.lines)*10+i)))}
			if p.shape.taking && shared != nil {
				g.number, g.ledger = shared.number, shared.ledger
			} else {
				g.number, g.ledger = len(l.lines), &ledger{line: line{Producer: p.shape.name}}
				l.lines = append(l.lines, g.ledger)
			}
			shared = g
			l.sending.Go(func() { g.run(ctx) })
		}
	}
	l.sending.Go(func() { l.sample(ctx) })
}

// stop ends the sending and waits for calls that are under way.
func (l *load) stop() {
	l.stopping()
	l.sending.Wait()
}

// sample looks at the producers' memory while they run.
func (l *load) sample(ctx context.Context) {
	for ctx.Err() == nil {
		for _, p := range l.producers {
			p.most.Store(max(p.most.Load(), int64(p.BufferedBytes())))
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// sent counts the records so far.
func (l *load) sent() (n int) {
	for _, g := range l.lines {
		g.mu.Lock()
		n += len(g.Records)
		g.mu.Unlock()
	}
	return n
}

func (l *load) now() time.Duration { return time.Since(l.began) }

// reasons keeps each text of an error once.
type reasons struct {
	mu    sync.Mutex
	known map[string]int32
	list  []string
}

// maxReasons bounds the texts; later ones share the last.
const maxReasons = 5000

func (r *reasons) of(err error) int32 {
	if err == nil {
		return 0
	}
	text := err.Error()
	r.mu.Lock()
	defer r.mu.Unlock()
	n, known := r.known[text]
	if !known {
		if len(r.list) == maxReasons {
			return maxReasons - 1
		}
		n = int32(len(r.list))
		r.known[text] = n
		r.list = append(r.list, text)
	}
	return n
}

// sender is one goroutine that sends.
type sender struct {
	load     *load
	producer *producer
	style    style
	number   int // of its line
	ledger   *ledger
	random   *rand.Rand
	key      []byte // reused: the producer has copied it when the call returns
	value    []byte
}

func (g *sender) run(ctx context.Context) {
	perTick := g.producer.shape.rate * int(tick) / int(time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		if g.style == send {
			g.send()
			pause(ctx, sendMessages*time.Second/time.Duration(g.producer.shape.rate)-time.Since(began))
			continue
		}
		for range max(perTick, 1) {
			g.produce()
		}
		pause(ctx, tick-time.Since(began))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// admit writes a record down before it is handed over: its outcome may come
// before the call returns.
func (g *sender) admit(due time.Duration) (id uint64, key uint16) {
	key = uint16(g.random.IntN(keyCount))
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	id = idOf(g.number, len(g.ledger.Records))
	sent := g.load.now()
	if due > 0 {
		due += sent
	}
	g.ledger.Records = append(g.ledger.Records, record{
		Topic: uint8(g.producer.shape.topic), Key: key, Partition: -1, Offset: -1, Sent: sent, Due: due,
	})
	return id, key
}

func (g *sender) produce() {
	if g.producer.shape.taking {
		g.ledger.turn.Lock()
		defer g.ledger.turn.Unlock()
	}
	ctx, limit := context.Background(), g.producer.shape.delivery+maxBlock+outcomeSlack
	callback, cancel := g.delivered, context.CancelFunc(func() {})
	if g.style == withContext && g.random.IntN(3) == 0 {
		short := between(g.random, 20*time.Millisecond, 2*time.Second)
		ctx, cancel = context.WithTimeout(ctx, short)
		limit = short + contextSlack + outcomeSlack
		callback = func(d troupe.Delivery) {
			cancel()
			g.delivered(d)
		}
	}
	id, key := g.admit(limit)
	g.key, g.value = appendKey(g.key[:0], key), appendValue(g.value[:0], id)
	r := troupe.Record{Topic: topics[g.producer.shape.topic].Name, Key: g.key, Value: g.value, Tag: id}
	var err error
	if g.style == try {
		err = g.producer.TryProduce(ctx, r, callback)
	} else {
		err = g.producer.Produce(ctx, r, callback)
	}
	if err != nil {
		cancel()
		g.refuse(id, err)
	}
	clear(g.key)
	clear(g.value)
}

func (g *sender) refuse(id uint64, err error) {
	reason := g.load.reasons.of(err)
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	_, n := placeOf(id)
	r := &g.ledger.Records[n]
	r.Status, r.Reason = refused, reason
}

// delivered is the callback of all records.
func (g *sender) delivered(d troupe.Delivery) {
	bad := (d.Err == nil) != (d.Status == troupe.Persisted) || d.Topic != topics[g.producer.shape.topic].Name
	g.settle(d.Tag, d.Status, d.Partition, d.Offset, d.Err, bad)
}

func (g *sender) settle(id uint64, s troupe.Status, partition int32, offset int64, err error, bad bool) {
	now, reason := g.load.now(), g.load.reasons.of(err)
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	_, n := placeOf(id)
	r := &g.ledger.Records[n]
	if r.Answers < 255 {
		r.Answers++
	}
	if r.Answers == 1 && r.Status == pending {
		r.Status, r.Partition, r.Offset, r.Answered, r.Reason = statusOf(s), partition, offset, now, reason
	}
	r.BadStatus = r.BadStatus || bad
}

// send hands over several messages and waits for all.
func (g *sender) send() {
	name := topics[g.producer.shape.topic].Name
	ids := make([]uint64, sendMessages)
	list := make([]troupe.Message, sendMessages)
	for i := range list {
		var key uint16
		ids[i], key = g.admit(g.producer.shape.delivery + maxBlock + outcomeSlack)
		list[i] = troupe.Message{Key: appendKey(nil, key), Value: appendValue(nil, ids[i])}
	}
	results, err := g.producer.Send(context.Background(), troupe.Send{Topic: name, Messages: list})
	for _, in := range results {
		for _, m := range in.Messages {
			bad := (m.Err == nil) != (m.Status == troupe.Persisted) || in.Topic != name
			g.settle(ids[m.Index], m.Status, in.Partition, m.Offset, m.Err, bad)
		}
	}
	var failed *troupe.SendError
	if !errors.As(err, &failed) {
		return // every message without a result is left without an outcome, as it is
	}
	for _, m := range failed.Failed {
		if m.Partition < 0 { // it is in no result
			g.settle(ids[m.Index], m.Status, -1, -1, m.Err, m.Err == nil || m.Topic != name)
		}
	}
}

// appendKey and appendValue make what belongs to a key's number and to an id.
func appendKey(to []byte, key uint16) []byte {
	return strconv.AppendUint(append(to, "key-"...), uint64(key), 10)
}

func appendValue(to []byte, id uint64) []byte {
	var bytes [8]byte
	binary.BigEndian.PutUint64(bytes[:], id)
	to = hex.AppendEncode(to, bytes[:])
	seed := id * 0x9E3779B97F4A7C15 // Fibonacci hashing: a length and a letter for each id
	for i := range seed >> 40 % largestPadding {
		to = append(to, byte('a'+(seed>>20+i/7)%26))
	}
	return to
}

// parseRecord finds out which record was read, and whether it is as it was sent.
func parseRecord(keyText, value []byte) (id uint64, key uint16, intact bool) {
	number, err := strconv.ParseUint(string(keyText[min(4, len(keyText)):]), 10, 16)
	if err != nil || len(value) < 16 {
		return ^uint64(0), 0, false
	}
	id, err = strconv.ParseUint(string(value[:16]), 16, 64)
	if err != nil {
		return ^uint64(0), 0, false
	}
	key = uint16(number)
	return id, key, string(appendValue(nil, id)) == string(value) && string(appendKey(nil, key)) == string(keyText)
}
