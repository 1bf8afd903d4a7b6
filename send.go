package troupe

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/actors/router"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
)

// Message is one message of a Send, in KafkaJS's words.
type Message struct {
	// Key chooses the partition; nil is no key, which an empty slice is not.
	Key []byte
	// Value is the payload; nil is a tombstone.
	Value []byte
	// Headers are kept in order; keys may repeat.
	Headers []Header
	// Partition overrules the partitioner.
	Partition Partition
	// Timestamp is when the message happened; the zero value means now.
	Timestamp time.Time
}

// Compression is the codec of one call.
type Compression int8

// The values of Compression; the zero value takes the producer's setting.
const (
	CompressionDefault Compression = iota
	CompressionNone
	CompressionGzip
	CompressionSnappy
	CompressionLZ4
	CompressionZstd
)

// Send is what Producer.Send sends: the messages of one topic.
type Send struct {
	Topic    string
	Messages []Message
	// Acks is how many replicas must have the messages.
	Acks Acks
	// Timeout is how long the broker may wait for its replicas; 0 takes
	// request.timeout.ms. It bounds the broker, not the call: that is what the
	// context is for.
	Timeout time.Duration
	// Compression is the codec of this call.
	Compression Compression
}

// TopicMessages are the messages of one topic in a SendBatch.
type TopicMessages struct {
	Topic    string
	Messages []Message
}

// SendBatch is what Producer.SendBatch sends: messages of several topics. A
// topic that comes twice is merged in order.
type SendBatch struct {
	TopicMessages []TopicMessages
	Acks          Acks
	Timeout       time.Duration
	Compression   Compression
}

// RecordMetadata is the outcome of the messages of one call in one partition.
type RecordMetadata struct {
	Topic     string
	Partition int32
	// Err is the first failure in this partition, nil if there was none.
	Err error
	// BaseOffset is the offset of the first message that was acknowledged; −1
	// when none was, or with acks 0.
	BaseOffset int64
	// Messages has one entry per message of the call in this partition, in
	// order.
	Messages []MessageMetadata
	// LogAppendTime is the broker's time of the append with LogAppendTime, else
	// zero.
	LogAppendTime time.Time
	// LogStartOffset is the first offset in the partition's log; −1 if the
	// broker did not say.
	LogStartOffset int64
}

// MessageMetadata is the outcome of one message.
type MessageMetadata struct {
	// Index is the message's place among the topic's messages of the call.
	Index  int
	Offset int64
	Status Status
	Err    error
}

// Send sends the messages of one topic and waits for their outcomes. It does not
// wait for the linger. The result has one entry per topic-partition; when some
// messages failed, the successes are returned together with a *SendError that
// names every failure. Without a deadline in the context it takes max.block.ms at
// the most to find room for all messages, and then as long as an outcome can take
// (delivery.timeout.ms and request.timeout.ms).
func (p *Producer) Send(ctx context.Context, s Send) ([]RecordMetadata, error) {
	return p.SendBatch(ctx, SendBatch{
		TopicMessages: []TopicMessages{{s.Topic, s.Messages}}, Acks: s.Acks, Timeout: s.Timeout, Compression: s.Compression,
	})
}

// SendBatch sends messages of several topics and waits for their outcomes.
func (p *Producer) SendBatch(ctx context.Context, s SendBatch) ([]RecordMetadata, error) {
	o, err := p.sendOptions(&s)
	if err != nil {
		return nil, err
	}
	if o.Acks != AcksAll && p.config.Idempotent && p.config.named["enable.idempotence"] {
		return nil, fmt.Errorf("%w: not requiring ack for all messages invalidates the idempotent producer's guarantees", ErrInvalidRecord)
	}
	if len(s.TopicMessages) == 1 && len(s.TopicMessages[0].Messages) == 1 && s.TopicMessages[0].Topic != "" {
		return p.sendOne(ctx, s.TopicMessages[0].Topic, &s.TopicMessages[0].Messages[0], o)
	}
	room := sendRooms.Get().(*sendRoom)
	records, indices, err := room.flatten(s.TopicMessages)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	spot := p.config.Parking.NewSpot()
	w := messages.NewFlushWaiter(spot)
	c := &collector{outcomes: slices.Grow(room.outcomes[:0], len(records))[:len(records)], waiter: w}
	w.Add(len(records))
	o.Prompt = true
	p.troupe.Router.SendAll(ctx, records, c.delivered, c.deliveredMany, o, c.rejected)
	w.Done()
	wait, cancel := p.withDeadline(ctx)
	defer cancel()
	waited := spot.Wait(wait)
	if waited != nil && ctx.Err() == nil {
		waited = p.noOutcome()
	}
	c.end() // and what it has kept may be used again, though an outcome may still come
	results, err := c.results(records, indices, waited)
	room.put(records, indices, c.outcomes)
	return results, err
}

// sendRoom is what a call of many messages needs while it waits, kept for later
// ones: it is larger than the messages of many.
type sendRoom struct {
	records  []Record
	indices  []int
	outcomes []outcome
}

// maxKeptSend is the number of messages up to which a call's room is kept.
const maxKeptSend = 4096

var sendRooms = sync.Pool{New: func() any { return new(sendRoom) }}

func (r *sendRoom) put(records []Record, indices []int, outcomes []outcome) {
	if cap(records) > maxKeptSend {
		return
	}
	// The pool must not keep the caller's memory alive, nor an outcome seem to be
	// there.
	clear(records)
	clear(outcomes)
	r.records, r.indices, r.outcomes = records, indices, outcomes
	sendRooms.Put(r)
}

// sendOne is SendBatch for the commonest call: one message needs no list of
// groups and no list of outcomes.
func (p *Producer) sendOne(ctx context.Context, topic string, m *Message, o router.Options) ([]RecordMetadata, error) {
	if err := checkPartition(topic, m); err != nil {
		return nil, err
	}
	record := recordOf(topic, m, 1)
	waiting := p.calls.take(p.config.Clock, p.config.Parking)
	t, err := p.troupe.Router.Topic(topic)
	if err == nil {
		o.Prompt = true
		err = t.Produce(ctx, &record, waiting.callback, o)
	}
	if err != nil {
		p.calls.put(waiting)
		c := &collector{outcomes: make([]outcome, 1)}
		c.rejected(&record, err)
		return c.results([]Record{record}, []int{0}, nil)
	}
	d, err := p.wait(ctx, waiting)
	if err != nil {
		return (&collector{outcomes: make([]outcome, 1)}).results([]Record{record}, []int{0}, err)
	}
	if d.Err != nil {
		ended := &collector{outcomes: make([]outcome, 1)}
		ended.delivered(d)
		return ended.results([]Record{record}, []int{0}, nil)
	}
	r := &oneResult{message: [1]MessageMetadata{{Offset: d.Offset, Status: d.Status}}}
	r.partition[0] = RecordMetadata{
		Topic: d.Topic, Partition: d.Partition, BaseOffset: d.Offset, LogStartOffset: d.LogStartOffset, Messages: r.message[:],
	}
	if d.LogAppendTimeMs >= 0 {
		r.partition[0].LogAppendTime = time.UnixMilli(d.LogAppendTimeMs)
	}
	return r.partition[:], nil
}

// oneResult is what a Send of one message returns, in one piece.
type oneResult struct {
	partition [1]RecordMetadata
	message   [1]MessageMetadata
}

func (p *Producer) sendOptions(s *SendBatch) (router.Options, error) {
	o := p.options
	o.Urgent = true
	if o.MaxBlock == 0 {
		o.MaxBlock = p.longest() // it must end in a callback, too
	}
	if s.Acks < AcksDefault || s.Acks > AcksNone {
		return o, fmt.Errorf("%w: unknown acks %d", ErrInvalidRecord, s.Acks)
	}
	if s.Acks != AcksDefault {
		o.Acks = s.Acks
	}
	if s.Timeout < 0 || s.Timeout > time.Hour*24*24 {
		return o, fmt.Errorf("%w: timeout %v is not from 0 to 24 days", ErrInvalidRecord, s.Timeout)
	}
	o.TimeoutMs = int32(s.Timeout / time.Millisecond)
	if s.Compression < CompressionDefault || s.Compression > CompressionZstd {
		return o, fmt.Errorf("%w: unknown compression %d", ErrInvalidRecord, s.Compression)
	}
	if s.Compression != CompressionDefault {
		o.Codec = codecs.ID(s.Compression - CompressionNone)
	}
	return o, nil
}

// flatten checks the input and makes records of it. Entries of the same topic
// follow each other; the tag is the record's place in the list.
func (r *sendRoom) flatten(entries []TopicMessages) ([]Record, []int, error) {
	total := 0
	var order []string
	byTopic := make(map[string][]Message, len(entries))
	for _, e := range entries {
		if e.Topic == "" {
			return nil, nil, fmt.Errorf("%w: invalid topic", ErrInvalidRecord)
		}
		if e.Messages == nil {
			return nil, nil, fmt.Errorf("%w: invalid messages array [null] for topic %q", ErrInvalidRecord, e.Topic)
		}
		old, seen := byTopic[e.Topic]
		if !seen {
			order = append(order, e.Topic)
			byTopic[e.Topic] = e.Messages
		} else {
			byTopic[e.Topic] = append(old[:len(old):len(old)], e.Messages...)
		}
		total += len(e.Messages)
	}
	records := slices.Grow(r.records[:0], total)
	indices := slices.Grow(r.indices[:0], total)
	for _, topic := range order {
		for i := range byTopic[topic] {
			m := &byTopic[topic][i]
			if err := checkPartition(topic, m); err != nil {
				return nil, nil, err
			}
			records = append(records, recordOf(topic, m, uint64(len(records))+1))
			indices = append(indices, i)
		}
	}
	return records, indices, nil
}

func checkPartition(topic string, m *Message) error {
	if id, set := m.Partition.Get(); set && id < 0 {
		text, _ := json.Marshal(map[string]string{"key": string(m.Key)})
		return fmt.Errorf("%w: invalid partition %d for topic %q: %s", ErrInvalidRecord, id, topic, text)
	}
	return nil
}

func recordOf(topic string, m *Message, tag uint64) Record {
	return Record{Topic: topic, Key: m.Key, Value: m.Value, Headers: m.Headers, Timestamp: m.Timestamp, Partition: m.Partition, Tag: tag}
}

// outcome is what a call keeps of the Delivery of one message.
type outcome struct {
	done                            bool
	partition                       int32
	offset                          int64
	logAppendTimeMs, logStartOffset int64
	err                             error
	status                          Status
	place                           int32 // among the results; the call's own
}

// The places of outcomes that stand in no result.
const (
	placeNone    = -1 // the message has no partition
	placeUnknown = -2 // the outcome had not come when the call ended
)

// collector gathers the outcomes of one call. They come from as many completion
// lanes as there are partitions.
type collector struct {
	mu       sync.Mutex
	ended    bool // the call has returned: what comes now is nobody's
	outcomes []outcome
	waiter   *messages.FlushWaiter
}

func (c *collector) delivered(d Delivery) { c.deliveredMany(d, 1) }

// deliveredMany implements messages.RangeCallback.
func (c *collector) deliveredMany(d Delivery, n int) {
	c.mu.Lock()
	if !c.ended {
		outcomes := c.outcomes[d.Tag-1:]
		for i := range outcomes[:n] {
			o := &outcomes[i]
			o.done, o.partition, o.status, o.err = true, d.Partition, d.Status, d.Err
			o.offset, o.logAppendTimeMs, o.logStartOffset = d.Offset, d.LogAppendTimeMs, d.LogStartOffset
			if d.Offset >= 0 {
				o.offset += int64(i)
			}
		}
	}
	c.mu.Unlock()
	if c.waiter != nil {
		c.waiter.DoneWith(n)
	}
}

// end makes the outcomes the caller's.
func (c *collector) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
}

func (c *collector) rejected(r *Record, err error) {
	id, set := r.Partition.Get()
	if !set {
		id = -1
	}
	c.delivered(Delivery{Partition: id, Offset: -1, LogAppendTimeMs: -1, LogStartOffset: -1, Status: NotPersisted, Err: err, Tag: r.Tag})
}

// results orders the outcomes by topic and partition.
func (c *collector) results(records []Record, indices []int, waited error) ([]RecordMetadata, error) {
	results, counts := c.places(records)
	room := make([]MessageMetadata, len(records))
	for n, count := range counts {
		results[n].Messages, room = room[:0:count], room[count:]
	}
	var failed []*MessageError
	for i := range c.outcomes {
		o := &c.outcomes[i]
		if o.place == placeUnknown {
			// The call's own time is over; the record is on its way all the same.
			failed = append(failed, &MessageError{Topic: records[i].Topic, Index: indices[i], Partition: -1, Status: PossiblyPersisted, Err: waited})
			continue
		}
		if o.err != nil {
			failed = append(failed, &MessageError{Topic: records[i].Topic, Index: indices[i], Partition: o.partition, Status: o.status, Err: o.err})
		}
		if o.place == placeNone {
			continue
		}
		r := &results[o.place]
		r.Messages = append(r.Messages, MessageMetadata{Index: indices[i], Offset: o.offset, Status: o.status, Err: o.err})
		if o.err != nil {
			if r.Err == nil {
				r.Err = o.err
			}
			continue
		}
		if r.BaseOffset < 0 {
			r.BaseOffset, r.LogStartOffset = o.offset, o.logStartOffset
			if o.logAppendTimeMs >= 0 {
				r.LogAppendTime = time.UnixMilli(o.logAppendTimeMs)
			}
		}
	}
	slices.SortStableFunc(results, func(a, b RecordMetadata) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.Partition - b.Partition)
	})
	if len(failed) > 0 {
		return results, &SendError{Failed: failed, Total: len(records)}
	}
	return results, nil
}

// places makes a result for each topic-partition, tells each outcome which is
// its own, and counts the messages of each.
func (c *collector) places(records []Record) (results []RecordMetadata, counts []int) {
	type key struct {
		topic     string
		partition int32
	}
	var at map[key]int32
	last := int32(placeNone)
	for i := range c.outcomes {
		o := &c.outcomes[i]
		if !o.done {
			o.place = placeUnknown
			continue
		}
		if o.partition < 0 {
			o.place = placeNone
			continue
		}
		if last == placeNone || results[last].Partition != o.partition || results[last].Topic != records[i].Topic {
			k := key{records[i].Topic, o.partition}
			known := false
			if last, known = at[k]; !known {
				last = int32(len(results))
				if at == nil {
					at = make(map[key]int32)
				}
				at[k] = last
				results = append(results, RecordMetadata{Topic: k.topic, Partition: k.partition, BaseOffset: -1, LogStartOffset: -1})
				counts = append(counts, 0)
			}
		}
		o.place = last
		counts[last]++
	}
	return results, counts
}
