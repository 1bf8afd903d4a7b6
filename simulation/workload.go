package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// The kinds of callers, one task of each.
const (
	callerTry      = iota // TryProduce from a turn of the scheduler
	callerActor           // messages.Produce from an actor
	callerBlocking        // Produce from a coroutine, which waits for room
	callerSend            // Send from coroutines, which wait for outcomes
	callerBatch           // SendBatch
	callers

	oldCallers = callerSend // how many there were before harness 4
	// callerInside is who calls inside a callback; it has no task.
	callerInside = callers
)

// callerNames are what plans call them.
var callerNames = [callers]string{"try", "actor", "blocking", "send", "batch"}

// retryFull is how long a caller waits after ErrBufferFull.
const retryFull = 10 * time.Millisecond

// produced is one record of the workload and all that became of it.
type produced struct {
	tag       uint64
	task      int
	line      int // of those who wait for room
	topic     string
	acks      troupe.Acks
	call      *sendCall // nil: not of a Send
	stamp     int64     // its own time in milliseconds, 0: none
	value     string
	key       []byte
	partition int32 // −1: the partitioner's choice
	ctx       *virtualContext
	admitted  bool
	probe     bool
	findsOut  bool // a probe that may be the first to meet brokers that have forgotten the producer
	open      bool // its call returned before its outcome
	inside    bool // its call has returned, and it was admitted
	late      bool // its call began after Close
	order     int  // of admission
	began     seams.Instant
	at        seams.Instant
	slowed    time.Duration // by callbacks, when it was admitted
	answers   int
	answered  seams.Instant
	took      time.Duration // that callbacks have held up the answers meanwhile
	delivery  messages.Delivery
}

// workload is who produces what, and when.
type workload struct {
	run     *run
	load    *Load
	random  *rand.Rand
	records []*produced
	plans   [callers][]burst
	calls   []*sendCall
	lines   int // of callers that wait, given away so far
	nested  nested
	planned int // records before the probes
	active  int // tasks that have more to produce
	orders  int
	lastAt  seams.Instant
	refused int // admissions refused with ErrBufferFull
	slowed  time.Duration
	letIn   seams.Instant // when the first record was acknowledged; 0: none was
	largest int           // record, in bytes, with what its encoding adds
	// shared is the one callback of all records of TryProduce.
	shared messages.Callback
}

// burst is a pause and the records that follow it at once.
type burst struct {
	pause   time.Duration
	context time.Duration // 0: none
	cancels bool          // somebody cancels it then; else that is its deadline
	records []*produced
	// choice is what a Send chooses, and alone that it does not wait for those before.
	choice choice
	alone  bool
}

func newWorkload(r *run, records int) *workload {
	l := &workload{run: r, load: r.settings.load(), random: r.stream(6)}
	l.nested.random, l.lines = r.stream(9), callers
	contexts := 0
	if l.random.IntN(2) == 0 {
		l.contextsOf(&contexts)
	}
	beyond := l.random.IntN(6) == 0
	size := [...]int{20, 100, 100, 700}[l.random.IntN(4)]
	if l.load.Size > 0 {
		size = l.load.Size
	}
	largest := 1 + l.random.IntN(60)
	span := time.Duration(r.settings.Span)
	for task := range callers {
		place := slices.Index(l.load.Callers, callerNames[task])
		if place < 0 {
			continue
		}
		// Each task draws for itself, so that one can be left out.
		l.random = r.stream(10 + uint64(task))
		if len(r.plan.Callers) > 0 && !slices.Contains(r.plan.Callers, callerNames[task]) {
			continue
		}
		share := records / len(l.load.Callers)
		if place == 0 {
			share = records - (len(l.load.Callers)-1)*share
		}
		var plan []burst
		for left := share; left > 0; {
			b := burst{records: make([]*produced, 0, largest)}
			if l.random.IntN(100) < contexts {
				b.context = time.Duration(1+l.random.IntN(3000)) * time.Millisecond
				b.cancels = l.load.Cancels && l.random.IntN(2) == 0
			}
			n := min(left, 1+l.random.IntN(largest))
			if task == callerSend || task == callerBatch {
				n = l.drawCall(&b, task, n, size, beyond)
			} else {
				for range n {
					b.records = append(b.records, l.record(task, size, beyond))
				}
			}
			left -= n
			plan = append(plan, b)
		}
		if len(plan) == 0 {
			continue
		}
		mean := span / time.Duration(len(plan))
		for i := range plan {
			plan[i].pause = time.Duration(l.random.Int64N(2*int64(mean) + 1))
		}
		l.plans[task] = plan
	}
	l.rest()
	l.planned = len(l.records)
	l.shared = func(d messages.Delivery) { l.answered(d) }
	return l
}

// contextsOf draws in how many of 100 bursts the records have a deadline.
func (l *workload) contextsOf(n *int) { *n = 1 + l.random.IntN(30) }

// encodingAdds is more than a record of the workload takes besides value and key:
// lengths, offset, time, and a header.
const encodingAdds = 64

var padding = strings.Repeat("x", largeSize)

// record makes up one record: keyed, to a partition, or neither.
func (l *workload) record(task, size int, beyond bool) *produced {
	return l.recordFor(l.topicOf(), task, size, beyond)
}

func (l *workload) recordFor(topic string, task, size int, beyond bool) *produced {
	n := len(l.records) + 1
	e := l.run.estate
	r := &e.produced.take(1)[:1][0]
	*r = produced{tag: uint64(n), task: task, topic: topic, acks: l.run.settings.acks(), partition: -1}
	if task == callerBlocking {
		// Callers that never wait are in one line; one that waits for room has its
		// own order, and no place among the others'.
		r.line = 1
	}
	value := e.copies.take()
	value = append(strconv.AppendInt(value, int64(task), 10), '/')
	value = append(strconv.AppendInt(value, int64(n), 10), '/')
	value = append(value, padding[:l.random.IntN(size)]...)
	r.value = e.text(value)
	e.copies.give(value)
	switch partitions := partitionsOf(topic); l.random.IntN(3) {
	case 0:
		r.key = strconv.AppendInt(append(e.bytes.take(8), "key-"...), int64(l.random.IntN(40)), 10)
	case 1:
		r.partition = int32(l.random.IntN(partitions))
		if beyond && l.random.IntN(50) == 0 {
			r.partition = int32(partitions + l.random.IntN(3))
		}
	}
	if r.key == nil && l.run.settings.Compacted && l.random.IntN(12) > 0 {
		r.key = []byte("some")
	}
	if l.load.Stamped && l.random.IntN(4) == 0 {
		r.stamp = epochMs + l.random.Int64N(time.Hour.Milliseconds())
	}
	l.records = append(l.records, r)
	l.largest = max(l.largest, len(r.value)+len(r.key)+encodingAdds)
	return r
}

// message is the record as the producer is given it. The slices are overwritten
// after the call: the runtime must have copied them.
func (l *workload) message(r *produced) messages.Record {
	e := l.run.estate
	value := append(e.copies.take(), r.value...)
	m := messages.Record{Topic: r.topic, Value: value, Tag: r.tag, Opaque: r}
	if r.stamp > 0 {
		m.Timestamp = time.UnixMilli(r.stamp)
	}
	if r.key != nil {
		m.Key = append(e.copies.take(), r.key...)
	}
	if r.partition >= 0 {
		m.Partition = messages.AtPartition(r.partition)
	}
	if r.tag%7 == 0 {
		m.Headers = []messages.Header{{Key: "tag", Value: value[:1]}}
	}
	return m
}

// scribble overwrites what the producer was given.
func (l *workload) scribble(m *messages.Record) {
	for _, given := range [...][]byte{m.Value, m.Key} {
		if given != nil {
			fill(given, scribbled)
			l.run.estate.copies.give(given)
		}
	}
}

func (r *produced) context() context.Context {
	if r.ctx == nil {
		return context.Background()
	}
	return r.ctx
}

// start begins all tasks.
func (l *workload) start() {
	if len(l.plans[callerTry]) > 0 {
		l.startTrying()
	}
	if len(l.plans[callerActor]) > 0 {
		l.startActor()
	}
	if len(l.plans[callerBlocking]) > 0 {
		l.startBlocking()
	}
	for _, task := range [...]int{callerSend, callerBatch} {
		if len(l.plans[task]) > 0 {
			l.startSending(task)
		}
	}
	if l.load.CloseAt > 0 {
		l.startClosing()
	}
}

// begin gives the records of a burst their context.
func (l *workload) begin(b *burst) {
	if b.context == 0 {
		return
	}
	c, _ := l.run.clock.WithTimeout(context.Background(), b.context)
	ctx := c.(*virtualContext)
	ctx.cancelled = b.cancels
	if s, f := l.run.scheduler, l.run.faults; f.may(ContextPanics) {
		ctx.fails = func() bool { return s.acting && f.happens(ContextPanics, place{}) != nil }
	}
	for _, r := range b.records {
		r.ctx = ctx
	}
}

func (l *workload) admit(r *produced) {
	l.orders++
	r.admitted, r.order, r.at, r.slowed = true, l.orders, l.run.clock.now, l.slowed
	r.began, r.late = r.at, l.run.closeCalled
	l.lastAt = r.at
}

// refuse takes note of a record that was not admitted. It reports whether the
// caller should try again.
func (l *workload) refuse(r *produced, err error) bool {
	if r.admitted {
		l.run.violation(WrongOutcome, "record %d was answered %v before its call returned %v", r.tag, r.delivery.Status, err)
	}
	switch {
	case errors.Is(err, messages.ErrClosed) && (l.run.closing || l.run.closeCalled):
	case errors.Is(err, messages.ErrBufferFull):
		l.refused++
		// Whoever tried again would hold up records of topics that exist.
		return r.topic != unknownTopic
	case r.ctx != nil && r.ctx.err != nil && errors.Is(err, r.ctx.err):
	case errors.Is(err, messages.ErrFatal) && l.run.ended():
	case errors.Is(err, messages.ErrUnknownPartition) && int(r.partition) >= partitionsOf(r.topic):
		// It waited for room in the parking until the partitions were known.
	case l.run.crashedOver(err):
	default:
		l.run.violation(WrongOutcome, "record %d was refused: %v", r.tag, err)
	}
	return false
}

// answered takes in one outcome. It runs in a coroutine of the runtime's lane, or
// in an actor's turn.
func (l *workload) answered(d messages.Delivery) {
	r, ok := d.Opaque.(*produced)
	if !ok || r.tag != d.Tag {
		l.run.violation(WrongOutcome, "an outcome came with tag %d and a token that is not its own", d.Tag)
		return
	}
	l.run.trace.begin("callback", "outcome")
	l.run.trace.delivery(&d)
	l.run.trace.end()
	l.take(r, d)
	l.run.outstanding--
}

// take takes in the outcome of a record.
func (l *workload) take(r *produced, d messages.Delivery) {
	r.answers++
	r.answered, r.delivery, r.took = l.run.clock.now, d, l.slowed-r.slowed
	l.judge(r)
}

// callback is answered, with what users' callbacks do at their worst.
func (l *workload) callback(d messages.Delivery) {
	l.answered(d)
	at := place{topic: d.Topic, partition: d.Partition}
	l.inside(&d)
	if f := l.run.faults.happens(CallbackSlow, at); f != nil {
		l.slowed += time.Duration(f.For)
		l.run.scheduler.sleep(time.Duration(f.For))
	}
	if l.run.faults.happens(CallbackPanics, at) != nil {
		panic(misbehaved{})
	}
}

// call produces one record in the manner of a Go caller.
func (l *workload) call(r *produced, produce func(context.Context, troupe.Record, troupe.Callback) error, callback messages.Callback) error {
	m := l.message(r)
	l.run.outstanding++
	l.admit(r)
	l.run.reach(pointCaller + point(r.task))
	err := produce(r.context(), m, callback)
	l.scribble(&m)
	l.run.sample()
	if err != nil {
		l.run.outstanding--
		r.admitted = r.answers > 0
		return err
	}
	if r.late {
		l.run.violation(WrongOutcome, "record %d was admitted after Close", r.tag)
	}
	if r.inside = true; r.answers == 0 {
		r.at = l.run.clock.now // it may have waited for room
		l.lastAt = r.at
	}
	return nil
}

// startTrying is the task that never waits.
func (l *workload) startTrying() {
	s, plan := l.run.scheduler, l.plans[callerTry]
	l.active++
	var step func()
	at, next := 0, 0
	step = func() {
		if at == len(plan) || l.run.closing {
			l.active--
			return
		}
		b := &plan[at]
		if next == 0 {
			l.begin(b)
		}
		for ; next < len(b.records); next++ {
			r := b.records[next]
			callback := l.shared
			if r.tag%4 == 0 {
				callback = l.callback
			}
			if err := l.call(r, l.tryProduce, callback); err != nil && l.refuse(r, err) {
				s.clock.after(retryFull, step)
				return
			}
		}
		at, next = at+1, 0
		if at < len(plan) {
			s.clock.after(plan[at].pause, step)
			return
		}
		s.Schedule(step)
	}
	s.clock.after(plan[0].pause, step)
}

// startBlocking is the task that waits for room, as most callers do, and now and
// then for everything.
func (l *workload) startBlocking() {
	s := l.run.scheduler
	l.active++
	s.spawn(func() {
		defer func() { l.active-- }()
		for i := range l.plans[callerBlocking] {
			b := &l.plans[callerBlocking][i]
			s.sleep(b.pause)
			l.begin(b)
			for _, r := range b.records {
				for !l.run.closing {
					// A callback of its own for each record.
					err := l.call(r, l.waitAndProduce, func(d messages.Delivery) { l.callback(d) })
					if err == nil || !l.refuse(r, err) {
						break
					}
					s.sleep(retryFull)
				}
			}
			if i%4 == 3 && !l.run.closing {
				l.flush()
			}
		}
	})
}

// flush waits for everything that was admitted before, and looks whether it has
// its outcomes.
func (l *workload) flush() {
	before := l.orders
	if err := l.run.producer.Flush(context.Background()); err != nil {
		return // closed, or its own deadline: it promises nothing then
	}
	for _, r := range l.records {
		if r.task != callerActor && r.call == nil && r.admitted && r.order <= before && r.answers == 0 {
			l.run.violation(FlushEarly, "Flush returned before record %d, admitted at %v, had its outcome", r.tag, time.Duration(r.at))
		}
	}
}

// caller is the actor among the callers.
type caller struct {
	load *workload
	at   int
	full bool // refused, and waiting to hear of room
	held bool // the next burst is due
}

type nextBurst struct{}

func (l *workload) startActor() {
	l.active++
	c := &caller{load: l}
	pid, err := l.run.Spawn("caller", func() actor.Actor { return c })
	if err != nil {
		panic(err)
	}
	l.run.caller = pid
	c.later(l.plans[callerActor][0].pause)
}

func (c *caller) later(d time.Duration) {
	r := c.load.run
	r.clock.after(d, func() { r.system.Root.Send(r.caller, &nextBurst{}) })
}

// Receive implements actor.Actor.
func (c *caller) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *nextBurst:
		c.held = c.full
		if !c.held {
			c.burst(ctx)
		}
	case *messages.Delivered:
		c.delivered(m.Delivery)
	case *messages.Writable:
		c.full = false
		if c.held {
			c.held = false
			c.burst(ctx)
		}
	}
}

// burst sends the records of one burst without waiting for anything.
func (c *caller) burst(ctx actor.Context) {
	l := c.load
	plan := l.plans[callerActor]
	if c.at == len(plan) || l.run.closing {
		l.active--
		return
	}
	l.begin(&plan[c.at])
	for _, r := range plan[c.at].records {
		m := l.message(r)
		l.run.outstanding++
		l.admit(r)
		l.run.reach(pointCaller + point(callerActor))
		ctx.Request(l.run.producer.PID(), &messages.Produce{Record: m, Context: r.ctxOrNil()})
		l.scribble(&m)
		l.run.sample()
	}
	c.at++
	pause := time.Duration(0)
	if c.at < len(plan) {
		pause = plan[c.at].pause
	}
	c.later(pause)
}

func (r *produced) ctxOrNil() context.Context {
	if r.ctx == nil {
		return nil
	}
	return r.ctx
}

// delivered takes in an answer. A refusal is final: sent again, the record would
// stand behind what came after it.
func (c *caller) delivered(d messages.Delivery) {
	if errors.Is(d.Err, messages.ErrBufferFull) {
		c.load.refused++
		c.full = true
	}
	c.load.answered(d)
}
