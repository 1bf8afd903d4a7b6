package simulation

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// sent judges what a Send has returned, and takes in the outcome of each of its
// messages.
func (l *workload) sent(c *sendCall, results []troupe.RecordMetadata, err error) {
	wrong := func(format string, args ...any) {
		l.run.violation(WrongOutcome, "call %d of Send: "+format, append([]any{c.number}, args...)...)
	}
	l.inTime(c)
	byTopic := make(map[string][]*produced)
	for _, r := range c.records {
		byTopic[r.topic] = append(byTopic[r.topic], r)
	}
	find := func(topic string, index int) *produced {
		if of := byTopic[topic]; index >= 0 && index < len(of) {
			return of[index]
		}
		wrong("there is no message %d for topic %q", index, topic)
		return nil
	}
	failures := make(map[*produced]*troupe.MessageError)
	var failed *troupe.SendError
	switch {
	case errors.As(err, &failed):
		if failed.Total != len(c.records) || len(failed.Failed) == 0 {
			wrong("%d of %d failed, of %d", len(failed.Failed), failed.Total, len(c.records))
		}
		for _, f := range failed.Failed {
			if r := find(f.Topic, f.Index); r != nil {
				if failures[r] != nil {
					wrong("%s[%d] is listed twice", f.Topic, f.Index)
				}
				failures[r] = f
			}
		}
	case err != nil:
		wrong("%v", err)
	}
	if n := len(failures); n > 0 && n < len(c.records) {
		l.run.reach(pointPartly)
	}
	type place struct {
		topic     string
		partition int32
	}
	seen := make(map[place]bool)
	for i := range results {
		m := &results[i]
		if seen[place{m.Topic, m.Partition}] || len(m.Messages) == 0 {
			wrong("%s/%d has more than one entry, or an empty one", m.Topic, m.Partition)
		}
		seen[place{m.Topic, m.Partition}] = true
		l.sentTo(c, m, find, failures, wrong)
	}
	for _, r := range c.records {
		f := failures[r]
		if r.answers > 0 || f == nil {
			continue
		}
		// It never had a partition, or the call's own time was over before its outcome.
		r.open = f.Status == messages.PossiblyPersisted
		at := f.Partition
		if at < 0 {
			at = r.partition
		}
		l.take(r, messages.Delivery{Topic: f.Topic, Partition: at, Offset: -1, LogAppendTimeMs: -1, Status: f.Status, Err: f.Err})
	}
}

// sentTo takes in the messages of one partition.
func (l *workload) sentTo(c *sendCall, m *troupe.RecordMetadata, find func(string, int) *produced, failures map[*produced]*troupe.MessageError, wrong func(string, ...any)) {
	base, first, last := int64(-1), error(nil), -1
	for i := range m.Messages {
		o := &m.Messages[i]
		r := find(m.Topic, o.Index)
		if r == nil {
			continue
		}
		if o.Index <= last {
			wrong("%s[%d] stands behind %d", m.Topic, o.Index, last)
		}
		last = o.Index
		f := failures[r]
		if (f == nil) != (o.Err == nil) || f != nil && (f.Status != o.Status || f.Partition != m.Partition) {
			wrong("%s[%d] failed with %v, the error says %v", m.Topic, o.Index, o.Err, f)
		}
		if first == nil {
			first = o.Err
		}
		if o.Err == nil && base < 0 {
			base = o.Offset
		}
		l.take(r, messages.Delivery{Topic: m.Topic, Partition: m.Partition, Offset: o.Offset, LogAppendTimeMs: -1, Status: o.Status, Err: o.Err})
	}
	if base != m.BaseOffset || errorText(first) != errorText(m.Err) {
		wrong("%s/%d begins at %d with %v, its messages at %d with %v", m.Topic, m.Partition, m.BaseOffset, m.Err, base, first)
	}
	if !m.LogAppendTime.IsZero() && l.knowsTime(m.Topic) && (!l.appendTime(m.Topic) || !l.between(m.LogAppendTime.UnixMilli(), c.records[0])) {
		wrong("%s/%d has append time %v", m.Topic, m.Partition, m.LogAppendTime)
	}
}

// inTime judges when a Send returned: at the latest with its context, or when its
// records must have their outcomes and it has waited for room.
func (l *workload) inTime(c *sendCall) {
	var limit seams.Instant
	s := l.run.settings
	if c.ctx != nil {
		if c.ended >= c.ctx.at {
			l.run.reach(pointEnded)
		}
		limit = c.ctx.at.Add(contextSlack)
	} else {
		// All its waits for room together are as long as one, and then it waits for outcomes.
		limit = c.began.Add(troupe.DefaultMaxBlock + time.Duration(s.DeliveryTimeout+s.RequestTimeout) + deadlineSlack)
	}
	if c.ended > limit {
		l.run.violation(LateOutcome, "call %d of Send began at %v and returned %v after its time", c.number, time.Duration(c.began), c.ended.Sub(limit))
	}
}

// appendTime reports whether a topic's records have the broker's time.
func (l *workload) appendTime(topic string) bool {
	return l.load.LogAppendTime && (topic == topicName || topic == unknownTopic)
}

// knowsTime reports whether a topic is what the world's list says: one that a
// request creates is like the first. The answer to a batch that a broker recognises has
// the time of its newest record, and nobody can tell who has sent it twice.
func (l *workload) knowsTime(topic string) bool {
	if l.run.faults.counts.Kinds[RequestTwice] > 0 {
		return false
	}
	return topic != secondTopic || !l.run.settings.Cluster.AutoCreate
}

// between reports whether a time in milliseconds may be the broker's for a record
// that has its answer now.
func (l *workload) between(ms int64, r *produced) bool {
	at := time.Duration(ms-epochMs) * time.Millisecond
	return at >= time.Duration(r.began).Truncate(time.Millisecond) && at <= time.Duration(l.run.clock.now)
}

// judge judges what the outcome of a record says by itself.
func (l *workload) judge(r *produced) {
	d := &r.delivery
	if r.late && !errors.Is(d.Err, messages.ErrClosed) && !l.run.ended() {
		l.run.violation(WrongOutcome, "record %d came after Close and was answered %v", r.tag, d.Err)
	}
	refused := errors.Is(d.Err, messages.ErrAuthentication)
	switch atOnce := refused && !errors.Is(d.Err, messages.ErrUnknownTopic) && !otherwise(d.Err); {
	case refused && l.run.faults.counts.Kinds[AuthenticationFails] == 0:
		l.run.violation(WrongOutcome, "record %d failed for credentials that nobody refused: %v", r.tag, d.Err)
	case atOnce && l.letIn > 0 && l.letIn < r.at:
		l.run.violation(WrongOutcome, "record %d failed for credentials that had been good before: %v", r.tag, d.Err)
	case d.Status == messages.Persisted && l.letIn == 0:
		l.letIn = l.run.clock.now
	}
	if r.topic == unknownTopic && !refused && !l.run.settings.Cluster.AutoCreate && !r.open && !errors.Is(d.Err, messages.ErrUnknownTopic) && !errors.Is(d.Err, messages.ErrBufferFull) && !otherwise(d.Err) {
		l.run.violation(WrongOutcome, "record %d to a topic that does not exist was answered %v", r.tag, d.Err)
	}
	if errors.Is(d.Err, messages.ErrUnknownTopic) {
		l.run.reach(pointUnknown)
	}
	if errors.Is(d.Err, messages.ErrInvalidContext) && r.ctx == nil {
		l.run.violation(WrongOutcome, "record %d has no context and failed with %v", r.tag, d.Err)
	}
	if r.call != nil || d.Err != nil || d.Offset < 0 || !l.knowsTime(r.topic) {
		return
	}
	ms := d.Timestamp.UnixMilli()
	switch {
	case l.appendTime(r.topic):
		if d.Attempts > 1 && d.LogAppendTimeMs < 0 {
			return // a broker that recognises a batch may be misunderstood
		}
		l.run.reach(pointAppendTime)
		if d.LogAppendTimeMs != ms || !l.between(ms, r) {
			l.run.violation(WrongOutcome, "record %d has time %v, the broker's is %v", r.tag, d.Timestamp, time.UnixMilli(d.LogAppendTimeMs))
		}
	case r.stamp > 0 && ms != r.stamp, d.LogAppendTimeMs >= 0:
		l.run.violation(WrongOutcome, "record %d has time %v, its own was %v", r.tag, d.Timestamp, time.UnixMilli(r.stamp))
	}
}

// endedByContext reports whether a record failed with the end of its context. That
// of a call without one is the call's own.
func endedByContext(p *produced) bool {
	err := p.delivery.Err
	return (p.call == nil || p.ctx != nil) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}

// Together is the records of one Send for one partition, by ID, in their order,
// that were appended under one lock.
type Together struct{ Writes []uint64 }

// togethers are those of the calls that never waited for room in the middle.
func (l *workload) togethers() (all []Together) {
	type place struct {
		topic     string
		partition int32
	}
	for _, c := range l.calls {
		if c.waits > 1 {
			continue
		}
		of := make(map[place][]uint64)
		var order []place
		for _, r := range c.records {
			if d := &r.delivery; r.answers > 0 && d.Err == nil && d.Offset >= 0 {
				at := place{d.Topic, d.Partition}
				if of[at] == nil {
					order = append(order, at)
				}
				of[at] = append(of[at], r.tag)
			}
		}
		for _, at := range order {
			if len(of[at]) > 1 {
				l.run.reach(pointTogether)
				all = append(all, Together{of[at]})
			}
		}
	}
	return all
}

// together judges that the acknowledged records of one Send for one partition
// stand side by side: no other acknowledged record stands between them. One that
// was deleted, and that a broker took again which had forgotten it, stood where it
// was deleted.
func (c *check) together() {
	if len(c.Together) == 0 {
		return
	}
	index := c.index
	for i := range c.Writes {
		index[c.Writes[i].ID] = i
	}
	for _, t := range c.Together {
		for k := 1; k < len(t.Writes); k++ {
			before, ok := c.stood(index[t.Writes[k-1]])
			s, ok2 := c.stood(index[t.Writes[k]])
			if !ok || !ok2 || s.log != before.log {
				continue // lost, or the topic was created again
			}
			for o := before.offset + 1; o < s.offset; o++ {
				if other, ok := c.acknowledged()[standing{s.log, o}]; ok && !slices.Contains(t.Writes, c.Writes[other].ID) {
					if stood, _ := c.stood(other); stood.offset < before.offset {
						continue // it was deleted with them, and taken again with them
					}
					c.add(NonmonotonicSend, "record %d stands between %d and %d of one Send", c.Writes[other].ID, t.Writes[k-1], t.Writes[k])
					break
				}
			}
		}
	}
}

// acknowledged says who was acknowledged where. Most who were sent together stand
// side by side, and nobody asks.
func (c *check) acknowledged() map[standing]int {
	if len(c.acked) == 0 {
		for i := range c.Writes {
			if s, ok := c.acknowledgedAt(i); ok {
				c.acked[s] = i
			}
		}
	}
	return c.acked
}

// numbering judges that the records that should have a sequence have one, and the
// others have none.
func (c *check) numbering() {
	for i, at := range c.found {
		w := &c.Writes[i]
		for _, s := range at {
			l := &c.Logs[s.log]
			if l.Lost {
				continue // its offsets are no indices
			}
			e := &l.Entries[s.offset]
			if e.ProducerID >= 0 && w.Unnumbered || e.ProducerID < 0 && c.Numbered && !w.Unnumbered {
				c.add(Protocol, "record %d was sent with producer id %d", w.ID, e.ProducerID)
			}
		}
	}
}

// stood is acknowledgedAt, or where the record stood in that log before it was
// deleted, if it was acknowledged for what came after that.
func (c *check) stood(i int) (standing, bool) {
	at, ok := c.acknowledgedAt(i)
	if !ok {
		return at, false
	}
	again := &c.Logs[at.log].Entries[at.offset]
	for _, s := range c.found[i] {
		if s.log == at.log && s.offset < min(at.offset, again.Start) && again.First {
			at = s
		}
	}
	return at, true
}

// acknowledgedAt is where a record stands in the log as it was told.
func (c *check) acknowledgedAt(i int) (standing, bool) {
	w := &c.Writes[i]
	if w.Answers == 0 || w.Outcome != OK || w.Offset < 0 {
		return standing{}, false
	}
	for _, s := range c.found[i] {
		if l := &c.Logs[s.log]; !l.Lost && l.Topic == w.Topic && l.Partition == w.Partition && s.offset == w.Offset {
			return s, true
		}
	}
	return standing{}, false
}
