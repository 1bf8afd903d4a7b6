package accumulator

import (
	"fmt"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// lane is where the user's callbacks of one partition run: one work of an executor
// while there is anything to answer, in the order of settlement. A callback that
// blocks holds up its own partition's answers, and others' as little as the executor
// lets it.
type lane struct {
	box *Box
	run func()

	mu      sync.Mutex
	queue   []answer
	running bool

	// Of whoever runs: a callback may end its goroutine, and another goes on here.
	work     []answer
	at       int   // in work
	from     int32 // which record of the answer is next, or which of its list
	panicked bool  // a callback did, and the log says where
}

func (l *lane) add(answers []answer) {
	l.mu.Lock()
	if !l.running && allPrompt(answers) {
		l.running = true
		l.mu.Unlock()
		l.answerHere(answers)
		return
	}
	l.queue = append(l.queue, answers...)
	start := !l.running
	l.running = true
	l.mu.Unlock()
	switch {
	case !start:
	case recordsOf(answers) > sharedRecords:
		l.box.settings.Executor.Run(l.run)
	default:
		l.box.settings.Callbacks.Run(l.run)
	}
}

// sharedRecords is how many records a turn answers at the most that it has no
// goroutine of its own for: making one costs as much as a few callbacks, and one
// that is made here finds what it needs in this processor's cache.
const sharedRecords = 128

func recordsOf(answers []answer) (n int) {
	for i := range answers {
		if a := &answers[i]; a.only != nil {
			n += len(a.only) // the batch goes on, and records are cut out of it
		} else {
			n += int(a.batch.count)
		}
	}
	return n
}

// allPrompt reports whether no code of the user's is among the callbacks.
func allPrompt(answers []answer) bool {
	for i := range answers {
		if !answers[i].batch.prompt {
			return false
		}
	}
	return true
}

// answerHere calls back in the turn of whoever settled. It spares a Send a switch
// of goroutines. What comes in meanwhile stands behind it, and gets a turn of its
// own.
func (l *lane) answerHere(answers []answer) {
	for i := range answers {
		l.answer(&answers[i])
	}
	l.mu.Lock()
	more := len(l.queue) > 0
	l.running = more
	l.mu.Unlock()
	if more {
		l.box.settings.Callbacks.Run(l.run)
	}
}

func (l *lane) drain() {
	ended := false
	defer func() {
		if !ended {
			l.box.settings.Callbacks.Run(l.run)
		}
	}()
	for l.more() {
		for ; l.at < len(l.work); l.at++ {
			l.answer(&l.work[l.at])
			l.work[l.at] = answer{}
		}
	}
	ended = true
}

// more takes what has come in meanwhile.
func (l *lane) more() bool {
	if l.at < len(l.work) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.work, l.queue, l.at = l.queue, l.work[:0], 0
	l.running = len(l.work) > 0
	return l.running
}

func (l *lane) answer(a *answer) {
	if a.only != nil {
		for int(l.from) < len(a.only) {
			i := a.only[l.from]
			l.from++
			l.answerFrom(a, i, i+1)
		}
		l.from = 0
		return
	}
	b := a.batch
	for l.from < b.count {
		l.from = l.answerFrom(a, l.from, b.count)
	}
	l.from = 0
	l.box.batchAnswered(b)
	for _, w := range b.flushes {
		w.Done()
	}
}

// answerFrom calls back for the records from i up to end that have no answer yet.
// A panic of the user's code is reported and costs nobody else their answer: the
// caller goes on at next, which is end if there was none. So does whoever drains
// next where it ends its goroutine, as a test's FailNow does.
func (l *lane) answerFrom(a *answer, i, end int32) (next int32) {
	ended := false
	defer func() {
		if ended {
			return
		}
		l.box.settings.Counters.Shard(int(i)).Add(messages.CountCallbackPanics, 1)
		if reason := recover(); reason != nil {
			l.reportPanic(reason, i)
			next = i + 1
		} else if a.only == nil {
			l.from = i + 1
		}
	}()
	d := a.side
	delivery := a.delivery
	persisted, first := delivery.Status == messages.Persisted, delivery.Offset
	brokersTime := delivery.LogAppendTimeMs >= 0
	if persisted && brokersTime {
		delivery.Timestamp = time.UnixMilli(delivery.LogAppendTimeMs)
	}
	var cb messages.Callback
	var replyTo messages.Recipient
	var slab []messages.Delivered
	callback, reply, runEnd := 0, 0, i
	stamp, stampEnd := 0, i
	for ; i < end; i++ {
		if i >= runEnd {
			callback, runEnd = runOf(d.callbacks, callback, i, end, func(r callbackRun) int32 { return r.first })
			cb = d.callbacks[callback].callback
			if len(d.replies) > 0 {
				reply, runEnd = runOf(d.replies, reply, i, runEnd, func(r replyRun) int32 { return r.first })
				replyTo = d.replies[reply].to
			}
			if many := d.callbacks[callback].many; many != nil && replyTo == nil && a.only == nil && a.batch.answeredCount == 0 {
				n := countUp(&d.tags, i, runEnd)
				alike := a.delivery
				alike.Tag = d.tags.at(i)
				if persisted && first >= 0 {
					alike.Offset = first + int64(i)
				}
				runEnd = i + n
				i = runEnd - 1 // before: if it panics, none of them is told again
				many(alike, int(n))
				continue
			}
		}
		if cb == nil && replyTo == nil {
			i = runEnd - 1 // nobody to tell before the next run
			continue
		}
		if a.only == nil && a.batch.isAnswered(i) {
			continue
		}
		if persisted {
			if first >= 0 {
				delivery.Offset = first + int64(i)
			}
			if !brokersTime && i >= stampEnd {
				stamp, stampEnd = runOf(d.stamps, stamp, i, end, func(r stampRun) int32 { return r.first })
				delivery.Timestamp = time.UnixMilli(d.stamps[stamp].unixMs)
			}
		}
		delivery.Tag, delivery.Opaque = d.tags.at(i), d.opaques.at(i)
		if replyTo == nil {
			cb(delivery)
			continue
		}
		if len(slab) == 0 {
			slab = make([]messages.Delivered, min(end-i, slabRecords))
		}
		m := &slab[0]
		slab = slab[1:]
		m.Delivery = delivery
		l.box.system.Root.Send(replyTo, m)
	}
	ended = true
	return end
}

// reportPanic says where a callback panicked: of the first one, since others may be as
// many as the records.
func (l *lane) reportPanic(reason any, record int32) {
	s := l.box.settings
	line := s.Log.Error().Str("panic", fmt.Sprint(reason))
	if !l.panicked {
		l.panicked = true
		line = s.LogPanic(reason)
	}
	line.Str("topic", l.box.state.topic).Int32("partition", l.box.state.partition).Int32("record", record).Msg("a delivery callback panicked")
}

// slabRecords is how many Delivered of a batch are allocated together. Each is its
// receiver's for as long as it likes, and keeps its neighbours in memory as long,
// with what their Opaque holds: so they are few. More would not be cheaper: beyond
// 512 bytes Go's collector looks at each object by itself.
const slabRecords = 3

// runOf returns which run holds for record i, searching on from the run at, and
// up to which record, or end.
func runOf[R any](runs []R, at int, i, end int32, first func(R) int32) (n int, until int32) {
	at = runAt(runs, at, i, first)
	if at+1 < len(runs) {
		end = min(end, first(runs[at+1]))
	}
	return at, end
}

// stampOf returns the stamps of record i.
func (d *side) stampOf(i int32) *stampRun {
	lo, hi := 0, len(d.stamps)-1
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if d.stamps[mid].first <= i {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return &d.stamps[lo]
}

// admittedAt is when record i was admitted, or within the millisecond before.
func (d *side) admittedAt(i int32) seams.Instant { return d.stampOf(i).admitted }
