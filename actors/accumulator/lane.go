package accumulator

import (
	"context"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// lane is where the user's callbacks of one partition run: one turn of the
// executor while there is anything to answer, in the order of settlement. A
// callback that blocks holds up its own partition's answers and nothing else.
type lane struct {
	box *Box
	run func()

	mu      sync.Mutex
	queue   []answer
	spare   []answer
	running bool
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
	if start {
		l.box.settings.Executor.Run(l.run)
	}
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
		l.box.settings.Executor.Run(l.run)
	}
}

func (l *lane) drain() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		queue := l.queue
		l.queue = l.spare[:0]
		l.mu.Unlock()
		for i := range queue {
			l.answer(&queue[i])
			queue[i] = answer{}
		}
		l.spare = queue
	}
}

func (l *lane) answer(a *answer) {
	if a.only != nil {
		for _, i := range a.only {
			l.one(a, i, callbackOf(a.side, i))
		}
		return
	}
	b := a.batch
	at := 0
	for i := int32(0); i < b.count; i++ {
		for at+1 < len(a.side.callbacks) && a.side.callbacks[at+1].first <= i {
			at++
		}
		cb := a.side.callbacks[at].callback
		if cb == nil {
			// Nothing to call before the next run.
			if at+1 == len(a.side.callbacks) {
				break
			}
			i = a.side.callbacks[at+1].first - 1
			continue
		}
		if !b.isAnswered(i) {
			l.one(a, i, cb)
		}
	}
	l.box.batchAnswered(b)
	for _, w := range b.flushes {
		w.Done()
	}
}

func callbackOf(d *side, i int32) messages.Callback {
	at := 0
	for at+1 < len(d.callbacks) && d.callbacks[at+1].first <= i {
		at++
	}
	return d.callbacks[at].callback
}

func contextOf(d *side, i int32) context.Context {
	var ctx context.Context
	for _, run := range d.contexts {
		if run.first > i {
			break
		}
		ctx = run.ctx
	}
	return ctx
}

// one calls back for one record. A panic of the user's code is reported and
// costs nobody else their answer.
func (l *lane) one(a *answer, i int32, cb messages.Callback) {
	if cb == nil {
		return
	}
	defer l.recoverCallback(i)
	d := a.delivery
	if d.Status == messages.Persisted {
		if d.Offset >= 0 {
			d.Offset += int64(i)
		}
		if d.LogAppendTimeMs >= 0 {
			d.Timestamp = time.UnixMilli(d.LogAppendTimeMs)
		} else {
			d.Timestamp = time.UnixMilli(a.side.stampOf(i))
		}
	}
	t := a.side.token(i)
	d.Tag, d.Opaque = t.tag, t.opaque
	cb(d)
}

func (l *lane) recoverCallback(i int32) {
	if reason := recover(); reason != nil {
		l.box.settings.Log.Error().Str("topic", l.box.state.topic).Int32("partition", l.box.state.partition).
			Int32("record", i).Interface("panic", reason).Msg("a delivery callback panicked")
	}
}

// runOf returns the stamps of record i.
func (d *side) runOf(i int32) *stampRun {
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

func (d *side) stampOf(i int32) int64 { return d.runOf(i).unixMs }

// admittedAt is when record i was admitted, or within the millisecond before.
func (d *side) admittedAt(i int32) seams.Instant { return d.runOf(i).admitted }
