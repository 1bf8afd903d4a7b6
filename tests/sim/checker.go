package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe/messages"
)

// How late the runtime may be with what depends on time alone: it looks at
// contexts and parked records every so often, not at each of their ends.
const (
	deadlineSlack = 300 * time.Millisecond
	contextSlack  = 500 * time.Millisecond
)

// check compares what was answered with what stands in the logs.
func (w *world) check() {
	places := w.places()
	// Callers that never wait are in one line; one that waits for room has its
	// own order, and no place among the others'.
	type line struct {
		offset int64
		record *produced
	}
	var last [2][partitionCount]line
	for _, r := range w.inOrder() {
		w.checkAnswer(r)
		found := places[r.value]
		w.checkLog(r, found)
		if r.delivery.Status != messages.Persisted || len(found) == 0 || r.answers == 0 {
			continue
		}
		if len(found) > 1 {
			// Unnumbered and sent again: one of them is what was acknowledged.
			if i := slices.IndexFunc(found, func(p place) bool { return p.offset == r.delivery.Offset }); i >= 0 {
				found = found[i:]
			}
		}
		l := &last[0][found[0].partition]
		if r.task == callerBlocking {
			l = &last[1][found[0].partition]
		}
		if l.record != nil && found[0].offset <= l.offset {
			w.violation("order: record %d, admitted after %d, stands before it in partition %d (%d, %d)",
				r.tag, l.record.tag, found[0].partition, found[0].offset, l.offset)
		}
		l.offset, l.record = found[0].offset, r
	}
	for value := range places {
		if !w.knows(value) {
			w.violation("a record that nobody produced is in the log: %.40q", value)
		}
	}
}

type place struct {
	partition int32
	offset    int64
}

// places is where each value stands.
func (w *world) places() map[string][]place {
	all := make(map[string][]place, len(w.load.records))
	for _, p := range w.cluster.partitions {
		for i, e := range p.before {
			// The topic's last life: before everything, at offsets of its own.
			all[e.value] = append(all[e.value], place{p.id, int64(i - len(p.before))})
		}
		for offset, e := range p.log {
			all[e.value] = append(all[e.value], place{p.id, int64(offset)})
		}
	}
	return all
}

func (w *world) knows(value string) bool {
	if w.values == nil {
		w.values = make(map[string]bool, len(w.load.records))
		for _, r := range w.load.records {
			w.values[r.value] = true
		}
	}
	return w.values[value]
}

// inOrder is every record that was admitted, in order of admission.
func (w *world) inOrder() []*produced {
	ordered := make([]*produced, w.load.orders+1)
	for _, r := range w.load.records {
		if r.admitted {
			ordered[r.order] = r
		}
	}
	kept := ordered[:0]
	for _, r := range ordered {
		if r != nil {
			kept = append(kept, r)
		}
	}
	return kept
}

// checkAnswer checks the outcome by itself.
func (w *world) checkAnswer(r *produced) {
	d := &r.delivery
	switch {
	case r.answers == 0:
		w.violation("record %d, admitted at %v, was never answered", r.tag, time.Duration(r.at))
		return
	case r.answers > 1:
		w.violation("record %d was answered %d times", r.tag, r.answers)
	}
	if (d.Err == nil) != (d.Status == messages.Persisted) {
		w.violation("record %d: status %v with error %v", r.tag, d.Status, d.Err)
	}
	if d.Topic != topicName {
		w.violation("record %d was answered for topic %q", r.tag, d.Topic)
	}
	if r.partition >= 0 && d.Partition != r.partition {
		w.violation("record %d asked for partition %d and was answered %d", r.tag, r.partition, d.Partition)
	}
	if r.partition >= partitionCount && d.Status != messages.NotPersisted {
		w.violation("record %d for partition %d, which is none, was answered %v", r.tag, r.partition, d.Status)
	}
	w.outcomes[d.Status]++
	if w.abrupt {
		return // whatever was under way ended with the producer
	}
	took := r.answered.Sub(r.at)
	limit := w.deliveryTimeout + deadlineSlack
	if r.parked || r.partition >= partitionCount {
		limit += w.topicWait + deadlineSlack
	}
	if w.faults.count[TopicRecreated] > 0 {
		limit += w.deliveryTimeout // records that go to the new topic begin again
	}
	if took > limit {
		w.violation("record %d was answered after %v, limit %v (%v)", r.tag, took, limit, d.Err)
	}
	ended := errors.Is(d.Err, context.DeadlineExceeded) || errors.Is(d.Err, context.Canceled)
	if r.ctx == nil {
		if ended {
			w.violation("record %d has no context and failed with one: %v", r.tag, d.Err)
		}
		return
	}
	if late := r.answered.Sub(r.ctx.at); late > contextSlack {
		w.violation("record %d was answered %v after the end of its context (%v)", r.tag, late, d.Err)
	}
	if ended && r.answered < r.ctx.at {
		w.violation("record %d failed with its context's end, %v before it", r.tag, r.ctx.at.Sub(r.answered))
	}
}

// checkLog checks the outcome against the log.
func (w *world) checkLog(r *produced, found []place) {
	d := &r.delivery
	if r.answers == 0 {
		return
	}
	if len(found) > 1 && w.numbered {
		w.violation("record %d stands %d times in the log (%v, answered %v: %v)", r.tag, len(found), found, d.Status, d.Err)
	}
	switch d.Status {
	case messages.Persisted:
		if len(found) == 0 {
			w.violation("record %d was acknowledged at %d/%d and is in no log", r.tag, d.Partition, d.Offset)
			return
		}
		for _, at := range found {
			if at.offset < 0 {
				at.offset += int64(len(w.cluster.partitions[at.partition].before))
			}
			if at.partition == d.Partition && (d.Offset < 0 || at.offset == d.Offset) {
				return
			}
		}
		w.violation("record %d was acknowledged at %d/%d and stands at %v", r.tag, d.Partition, d.Offset, found)
	case messages.NotPersisted:
		if len(found) > 0 {
			w.violation("record %d was answered not persisted (%v) and stands at %d/%d", r.tag, d.Err, found[0].partition, found[0].offset)
		}
	}
}
