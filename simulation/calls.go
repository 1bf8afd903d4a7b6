package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// choice is what a Send says of all its messages.
type choice struct {
	acks        troupe.Acks
	compression troupe.Compression
	timeout     time.Duration // 0: the producer's
}

// sendCall is one call of Send or SendBatch.
type sendCall struct {
	number  int
	batch   bool
	choice  choice
	records []*produced // in the order in which the call admits them
	entries []troupe.TopicMessages
	ctx     *virtualContext
	began   seams.Instant
	ended   seams.Instant
	waits   int // how often it had to wait
}

// mostTogether is how many messages a Send has at the most.
const mostTogether = 30

// drawCall draws the one Send of a burst, of up to n messages, and returns how
// many they are.
func (l *workload) drawCall(b *burst, task, n, size int, beyond bool) int {
	n = min(n, mostTogether)
	if l.random.IntN(3) == 0 {
		n = 1
	}
	b.alone = l.random.IntN(3) == 0
	line := 2 + task - callerSend
	if b.alone {
		line = l.newLine()
	}
	if l.load.Mixed {
		b.choice.acks = one(l.random, troupe.AcksDefault, troupe.AcksAll, troupe.AcksLeader, troupe.AcksNone)
		b.choice.compression = troupe.CompressionDefault
		if l.random.IntN(3) == 0 {
			b.choice.compression = one(l.random, troupe.CompressionNone, troupe.CompressionSnappy, troupe.CompressionLZ4)
			if l.random.IntN(20) == 0 { // they take megabytes
				b.choice.compression = one(l.random, troupe.CompressionGzip, troupe.CompressionZstd)
			}
		}
	}
	if l.load.Timeouts {
		b.choice.timeout = one(l.random, 0, 0, 100*time.Millisecond, time.Second)
	}
	topic := l.topicOf()
	for range n {
		if task == callerBatch {
			topic = l.topicOf()
		}
		r := l.recordFor(topic, task, size, beyond)
		r.line = line
		if b.choice.acks != troupe.AcksDefault {
			r.acks = b.choice.acks
		}
		b.records = append(b.records, r)
	}
	return n
}

// newLine is a line of its own, for records that no other caller's are compared to.
func (l *workload) newLine() int {
	l.lines++
	return l.lines
}

// handled is one record in how many is produced by way of a topic's handle.
const handled = 5

// handle is the topic's handle for records that go that way, or else nil.
func (l *workload) handle(record *troupe.Record) (*troupe.Topic, error) {
	if l.run.settings.Load == nil || record.Tag%handled != 0 {
		return nil, nil
	}
	l.run.reach(pointHandle)
	return l.run.producer.Topic(record.Topic)
}

// tryProduce is TryProduce of the producer or of a handle.
func (l *workload) tryProduce(ctx context.Context, record troupe.Record, callback troupe.Callback) error {
	switch t, err := l.handle(&record); {
	case err != nil:
		return err
	case t != nil:
		record.Topic = "" // it is the handle's
		return t.TryProduce(ctx, record, callback)
	}
	return l.run.producer.TryProduce(ctx, record, callback)
}

// waitAndProduce is Produce of the producer or of a handle.
func (l *workload) waitAndProduce(ctx context.Context, record troupe.Record, callback troupe.Callback) error {
	switch t, err := l.handle(&record); {
	case err != nil:
		return err
	case t != nil:
		record.Topic = ""
		return t.Produce(ctx, record, callback)
	}
	return l.run.producer.Produce(ctx, record, callback)
}

// startSending is a task that waits for the outcomes of each of its calls, but
// for those that are made beside the others.
func (l *workload) startSending(task int) {
	s := l.run.scheduler
	l.active++
	s.spawn(func() {
		defer func() { l.active-- }()
		for i := range l.plans[task] {
			b := &l.plans[task][i]
			s.sleep(b.pause)
			if l.run.closing {
				return
			}
			l.begin(b)
			if !b.alone {
				l.send(task == callerBatch, b.records, b.choice)
				continue
			}
			l.active++
			s.spawn(func() {
				defer func() { l.active-- }()
				l.send(task == callerBatch, b.records, b.choice)
			})
		}
	})
}

// send makes one call and takes in what it returns.
func (l *workload) send(batch bool, records []*produced, choice choice) {
	c := &sendCall{number: len(l.calls) + 1, batch: batch, choice: choice, ctx: records[0].ctx, began: l.run.clock.now}
	l.calls = append(l.calls, c)
	given := c.fill(l, records)
	for _, r := range c.records {
		r.call = c
		l.run.outstanding++
		l.admit(r)
	}
	l.run.reach(pointCaller + point(records[0].task))
	l.run.reach(pointAcks + point(choice.acks))
	l.run.reach(pointCompression + point(choice.compression))
	caller := l.run.scheduler.here()
	before := caller.waits
	results, err := l.produce(c)
	c.ended, c.waits = l.run.clock.now, caller.waits-before
	for i := range given {
		l.scribble(&given[i])
	}
	l.run.sample()
	l.run.trace.note("caller", "sent", int64(c.number), int64(len(results)), int64(c.waits))
	l.run.outstanding -= len(c.records)
	l.sent(c, results, err)
}

// produce calls the producer.
func (l *workload) produce(c *sendCall) ([]troupe.RecordMetadata, error) {
	ctx := c.records[0].context()
	if c.batch {
		return l.run.producer.SendBatch(ctx, troupe.SendBatch{TopicMessages: c.entries, Acks: c.choice.acks, Compression: c.choice.compression, Timeout: c.choice.timeout})
	}
	return l.run.producer.Send(ctx, troupe.Send{
		Topic: c.entries[0].Topic, Messages: c.entries[0].Messages, Acks: c.choice.acks, Compression: c.choice.compression,
		Timeout: c.choice.timeout,
	})
}

// fill makes the input of a call: an entry for each run of records of one topic,
// which a SendBatch puts together by topic. It returns what was given.
func (c *sendCall) fill(l *workload, records []*produced) (given []messages.Record) {
	given = make([]messages.Record, 0, len(records))
	c.records = make([]*produced, 0, len(records))
	all := make([]troupe.Message, 0, len(records)) // of all entries, one after the other
	for _, r := range records {
		m := l.message(r)
		if n := len(c.entries); n == 0 || c.entries[n-1].Topic != r.topic {
			c.entries = append(c.entries, troupe.TopicMessages{Topic: r.topic, Messages: all[len(all):]})
		}
		e := &c.entries[len(c.entries)-1]
		all = append(all, troupe.Message{Key: m.Key, Value: m.Value, Headers: m.Headers, Partition: m.Partition, Timestamp: m.Timestamp})
		e.Messages = all[len(all)-len(e.Messages)-1 : len(all) : len(all)]
		given = append(given, m)
	}
	var topics []string
	for _, r := range records {
		if !slices.Contains(topics, r.topic) {
			topics = append(topics, r.topic)
		}
	}
	for _, topic := range topics {
		for _, r := range records {
			if r.topic == topic {
				c.records = append(c.records, r)
			}
		}
	}
	return given
}

// nested is what callbacks call.
type nested struct {
	random *rand.Rand
	calls  int
	close  bool // the next callback calls Close
}

// inside is a callback that calls the producer. It holds up the answers of its
// partition until the context of the call ends.
func (l *workload) inside(d *messages.Delivery) {
	n := &l.nested
	began := l.run.clock.now
	switch {
	case n.close:
		n.close = false
		l.close(time.Duration(l.load.CloseWithin), 0)
		l.active--
	case n.calls == maxInside || l.run.closing || l.load.Inside == 0 || n.random.IntN(100) >= l.load.Inside:
		return
	default:
		n.calls++
		ctx, cancel := l.run.clock.WithTimeout(context.Background(), between(n.random, time.Millisecond, 400*time.Millisecond))
		defer cancel()
		if n.random.IntN(2) == 0 {
			l.flushInside(ctx.(*virtualContext))
		} else {
			l.sendInside(ctx.(*virtualContext), d)
		}
	}
	l.slowed += l.run.clock.now.Sub(began)
}

// flushInside may wait for the very callback that calls it.
func (l *workload) flushInside(ctx *virtualContext) {
	l.run.reach(pointFlushInside)
	err := l.run.producer.Flush(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		l.run.violation(WrongOutcome, "Flush in a callback: %v", err)
	}
	if late := l.run.clock.now.Sub(ctx.at); late > contextSlack {
		l.run.violation(LateOutcome, "Flush in a callback returned %v after the end of its context", late)
	}
}

// sendInside sends a record, half of the time to the partition whose answers wait
// for this callback.
func (l *workload) sendInside(ctx *virtualContext, d *messages.Delivery) {
	before := l.random
	l.random = l.nested.random
	r := l.recordFor(d.Topic, callerInside, 20, false)
	l.random = before
	r.line, r.ctx = l.newLine(), ctx
	if d.Partition >= 0 && l.nested.random.IntN(2) == 0 {
		r.partition = d.Partition
	}
	l.send(false, []*produced{r}, choice{})
}

// startClosing closes the producer in the middle of the load, whose callers go on.
func (l *workload) startClosing() {
	s, within := l.run.scheduler, time.Duration(l.load.CloseWithin)
	closeNow := func(within, other time.Duration) {
		l.active++
		s.spawn(func() {
			defer func() { l.active-- }()
			l.close(within, other)
		})
	}
	l.active++
	s.clock.after(time.Duration(l.load.CloseAt), func() {
		switch l.load.CloseBy {
		case closeByTwo:
			closeNow(within, 2*time.Second)
			closeNow(2*time.Second, within)
		case closeByCallback:
			l.nested.close = true
			s.clock.after(closeAnyway, func() {
				if l.nested.close {
					l.nested.close = false
					closeNow(within, 0)
					l.active--
				}
			})
			return
		default:
			closeNow(within, 0)
		}
		l.active--
	})
}

// closeAnyway is how long a Close waits for a callback that calls it.
const closeAnyway = 2 * time.Second

// closeGrace is how much longer than its context Close takes at the most, if a
// callback does not return.
const closeGrace = time.Second

// close calls Close, and judges what it returns and when. other is the deadline
// of another call at the same time; 0: there is none.
func (l *workload) close(within, other time.Duration) {
	r := l.run
	ctx := context.Context(context.Background())
	longest := time.Duration(r.settings.DeliveryTimeout + r.settings.RequestTimeout)
	if within > 0 {
		longest = within
		c, cancel := r.clock.WithTimeout(ctx, within)
		defer cancel()
		ctx = c
	}
	if other > 0 {
		longest = min(longest, other)
	}
	began, before := r.clock.now, l.orders
	r.closeCalled = true
	err := r.producer.Close(ctx)
	took := r.clock.now.Sub(began)
	r.trace.note("caller", "closed", int64(took))
	if took > longest+closeGrace+contextSlack {
		r.violation(LateOutcome, "Close returned after %v, its context ended after %v", took, longest)
	}
	switch {
	case err == nil:
		r.reach(pointCloseDrained)
		l.unanswered(before)
	case errors.Is(err, context.DeadlineExceeded):
		r.reach(pointCloseCut)
	default:
		r.violation(WrongOutcome, "Close: %v", err)
	}
	at := r.clock.now
	if again := r.producer.Close(context.Background()); errorText(again) != errorText(err) || r.clock.now != at {
		r.violation(WrongOutcome, "Close returned %v, and then, after %v, %v", err, r.clock.now.Sub(at), again)
	}
}

// unanswered looks for records that Close should have waited for. What actors and
// callers of Send hear takes another turn.
func (l *workload) unanswered(before int) {
	for _, r := range l.records {
		if r.inside && r.task != callerActor && r.order <= before && r.answers == 0 {
			l.run.violation(CloseEarly, "Close returned before record %d, admitted at %v, had its outcome", r.tag, time.Duration(r.at))
		}
	}
}
