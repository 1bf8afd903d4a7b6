package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// The campaign's world.
const (
	brokerCount    = 3
	partitionCount = 6
	topicName      = "orders"
)

// How late the runtime may be with what depends on time alone: it looks at
// parked records and deadlines every so often, not at each of their ends.
const deadlineSlack = 300 * time.Millisecond

// probing is how long a record may take when everything has healed.
const probing = 20 * time.Second

// Campaign says which run of Troupe's own campaign to make: of a seed, or of a
// plan.
type Campaign struct {
	Seed uint64
	// Records is how many records the workload produces.
	Records int
	// Plan is the run to make; nil: the seed's. Seed and Records are then its own.
	Plan *Plan
	// Trace receives the events as lines of JSON, Log the runtime's log. Both may
	// be nil.
	Trace, Log io.Writer
	// Lie makes the cluster break its word.
	Lie Lie
}

// Result is what came of a run.
type Result struct {
	// Plan is the run, written down.
	Plan Plan
	// Hash stands for everything that happened.
	Hash     uint64
	Events   uint64
	Turns    int
	Virtual  time.Duration
	Records  int
	Outcomes [3]int // by messages.Status
	Refused  int    // admissions refused for want of room
	Counts   Counts
	// Violations is what was wrong; none if nothing was.
	Violations []Violation
}

// run is one run of the campaign.
type run struct {
	*World
	plan        Plan
	settings    *Settings
	producer    *troupe.Producer
	load        *workload
	caller      *actor.PID
	closing     bool // it is being ended, and nobody produces any more
	closeCalled bool // somebody has called Close
	peak        int
	outstanding int
	history     History
}

// Run makes one run of the campaign in a system that other runs may have used
// before. The result does not depend on them.
func Run(system *actor.ActorSystem, c Campaign) Result {
	r := newRun(system, &c)
	func() {
		defer func() {
			if reason := recover(); reason != nil {
				r.violation(Panic, "%v\n%s", reason, debug.Stack())
			}
		}()
		r.all()
	}()
	if !r.closed {
		r.finish()
	}
	r.plan.Faults = r.faults.faults()
	violations := r.judge()
	result := Result{
		Plan: r.plan, Hash: r.trace.hash, Events: r.trace.events, Turns: r.scheduler.turns, Virtual: time.Duration(r.clock.now),
		Records: len(r.load.records), Refused: r.load.refused, Counts: r.faults.counts, Violations: violations,
	}
	for _, p := range r.load.records {
		if p.answers > 0 {
			result.Outcomes[p.delivery.Status]++
		}
	}
	if len(result.Violations) == 0 {
		r.bequeath() // otherwise who knows what is still going on
	}
	return result
}

func newRun(system *actor.ActorSystem, c *Campaign) *run {
	r := &run{}
	config := Config{System: system, Trace: c.Trace, Log: c.Log, lie: c.Lie, estate: estates.Get().(*estate)}
	if c.Plan != nil {
		r.plan = *c.Plan
		config.Faults = c.Plan.Faults
	} else {
		r.plan = Plan{Harness: HarnessVersion, Seed: c.Seed, Records: c.Records}
		seed := &World{config: Config{Seed: c.Seed}}
		s := drawSettings(seed.stream(2), c.Records)
		drawLoad(seed.stream(7), &s)
		r.plan.Settings = s
		config.drawFaults = time.Duration(s.Span) + time.Second
		config.quietAt, config.quiet = time.Duration(s.Load.QuietAt), time.Duration(s.Load.Quiet)
		r.plan.Heal = Duration(config.drawFaults + config.quiet)
	}
	r.settings = &r.plan.Settings
	config.Seed, config.heal, config.cluster = r.plan.Seed, time.Duration(r.plan.Heal), &r.settings.Cluster
	config.Topics, config.callbacks = r.settings.topics(), r.settings.CallbacksAtOnce
	w, err := NewWorld(config)
	if err != nil {
		panic(err)
	}
	r.World = w
	w.trace.crash = r.received
	w.excused = func(line string) bool {
		if strings.Contains(line, "it crashes again and again") {
			return r.faults.counts.Kinds[ActorCrash]+r.faults.counts.Kinds[DecisionCrash] > crashesOutlived
		}
		if strings.Contains(line, "crashed with a damaged state") {
			return r.faults.counts.Kinds[DecisionCrash] > 0
		}
		if strings.Contains(line, "answered request ") {
			return r.faults.counts.Kinds[AnswerTwice] > 0
		}
		return r.ended() && strings.Contains(line, "the producer cannot go on")
	}
	r.load = newWorkload(r, r.plan.Records)
	return r
}

// crashesOutlived is how many crashes in a row an accumulator's records outlive
// (accumulator.maxCrashes).
const crashesOutlived = 3

// received sees each message before its actor does.
func (r *run) received(path string, message any) {
	r.sample()
	r.crash(path, message)
}

// sample looks at how much of the buffer is in use, without what is charged and
// never refused. It grows when callers are let in and when actors move or compress
// records, so it is looked at after the first and around the second.
func (r *run) sample() {
	if r.producer == nil {
		return
	}
	// What does not exceed the buffer as it is need not be looked at closely.
	if used := r.producer.BufferedBytes(); used > max(r.peak, r.settings.BufferBytes) {
		r.peak = max(r.peak, used-r.unrefused())
	}
}

// What a batch keeps about itself and about each of its records, in bytes, at the
// most (accumulator.batchOverhead, side.size).
const (
	batchKeeps  = 1 << 10
	recordKeeps = 104
)

// unrefused is the most that can be charged though the buffer is full
// (docs/adr/0003). A chunk is refused, so what comes on top has come since the last
// chunk: what batches keep about their records is charged when they are sealed, and
// a partition has one that is not; and what codecs and splits copy is charged when it
// exists, once for each record.
func (r *run) unrefused() int {
	each := recordKeeps
	k := &r.faults.counts.Kinds
	if r.settings.Compression != codecs.None.String() || k[BatchesLimited] > 0 || r.faults.counts.Code(protocol.MessageTooLarge) > 0 {
		each += r.load.largest
	}
	lives := 1 + k[TopicRecreated]
	return min(r.settings.BufferBytes/8, lives*r.kafka.mostPartitions(topicName)*batchKeeps+r.outstanding*each)
}

// ended reports whether the cluster has told the producer to give up.
func (r *run) ended() bool { return r.faults.counts.Kinds[FatalAnswer] > 0 }

func (r *run) all() {
	p, err := r.Start("", append(r.settings.options(), r.ownCodecs()...)...)
	if err != nil {
		panic(err)
	}
	r.producer = p
	r.reach(pointProducer + point(r.settings.acks()))
	r.load.start()
	switch {
	case r.settings.Abrupt > 0:
		r.pass(time.Duration(r.settings.Abrupt), never)
	case r.produceAll():
		if !r.ended() && !r.closeCalled {
			r.probe()
		}
		r.settle()
	}
	r.end()
}

// pass lets virtual time go by.
func (r *run) pass(d time.Duration, done func() bool) bool {
	ok, err := r.Until(d, done)
	if err != nil {
		r.endless(err)
	}
	return ok
}

func never() bool { return false }

// produceAll runs until every record is answered. It reports false when time or
// turns ran out.
func (r *run) produceAll() bool {
	limit := func() time.Duration {
		last := max(r.load.lastAt, r.faults.heal)
		longest := time.Duration(last) + time.Duration(r.settings.DeliveryTimeout+r.settings.TopicWait) + 10*time.Second
		if r.settings.Load != nil {
			// Who was held up begins the quiet time late, and goes on late.
			longest = max(longest, longest-time.Duration(last)+time.Duration(r.load.lastAt)+time.Duration(r.settings.Load.Quiet))
			// Callers wait a little longer than records do, and now and then for room.
			longest += time.Duration(r.settings.RequestTimeout) + troupe.DefaultMaxBlock
		}
		return longest
	}
	// The limit moves with the last admission, so it is looked at again.
	for {
		at := limit()
		done, err := r.Until(at-r.Now(), func() bool { return r.load.active == 0 && r.outstanding == 0 })
		if err != nil {
			r.endless(err)
			return false
		}
		if done {
			return true
		}
		if at >= limit() {
			r.violation(NoOutcome, "at %v %d records have no outcome and %d tasks are not done; the runtime counts %d, and %d bytes",
				r.Now(), r.outstanding, r.load.active, r.producer.Unanswered(), r.producer.BufferedBytes())
			return false
		}
	}
}

// healing is how long the cluster gets after the last fault before it has to
// serve everything at once: what was begun before has to end (a broker that is
// away, a slow answer), and then there is a pause before the next try. A request
// without an answer and a dial that hangs take longer, and are waited for: their
// own timeouts, which are the runtime's and the transport's, end them.
const healing = 12 * time.Second

func (r *run) heal() {
	if wait := r.faults.heal.Add(healing).Sub(r.clock.now); wait > 0 {
		r.pass(wait, never)
	}
	longest := time.Duration(r.settings.RequestTimeout) + troupe.RequestTimeoutSlack + dialTimeout
	if !r.pass(longest, r.network.answers) {
		r.violation(NotLive, "%v after healing, a connection still waits for its dial or its answer", longest)
		return
	}
	r.pass(5*time.Second, never)
}

// probe sends one more record to each partition when everything has healed: each
// must be acknowledged. A partition that waits for ever for something that got
// lost shows here.
func (r *run) probe() {
	r.heal()
	if k := &r.faults.counts.Kinds; k[TopicRecreated]+k[TopicDeleted]+k[UncleanElection]+k[RecordsDeleted] > 0 {
		// Nobody may have noticed yet, and the first to find out may fail for it, in
		// doubt. What it leaves behind must not hold up others.
		r.probeOnce(true)
	}
	r.probeOnce(false)
	r.probeBesideUnknown()
}

func (r *run) probeOnce(findsOut bool) {
	for _, t := range r.config.Topics {
		if r.kafka.exists(t.Name) {
			r.probeTopic(t.Name, findsOut)
		}
	}
	r.pass(probing, func() bool { return r.outstanding == 0 })
	if r.outstanding > 0 {
		r.violation(NotLive, "%v after healing, %d records have no outcome", probing, r.outstanding)
	}
}

func (r *run) probeTopic(topic string, findsOut bool) {
	for i := range partitionsOf(topic) {
		p := r.load.recordFor(topic, callerTry, 20, false)
		p.partition, p.key, p.probe, p.findsOut = int32(i), nil, true, findsOut
		if r.settings.Compacted {
			p.key = []byte("probe")
		}
		if err := r.load.call(p, r.producer.TryProduce, r.load.shared); err != nil {
			r.violation(NotLive, "after healing, partition %s/%d refuses a record: %v", topic, i, err)
		}
	}
}

// settle waits for what belongs to no record any more: buffers that an old write
// was still reading from.
func (r *run) settle() {
	r.pass(time.Minute, func() bool { return r.producer.BufferedBytes() == 0 && r.producer.Unanswered() == 0 })
	r.history.BufferLeft, r.history.UnansweredLeft = r.producer.BufferedBytes(), r.producer.Unanswered()
}

// end ends the producer in one of the ways that actors have.
func (r *run) end() {
	r.closing = true
	r.ending()
	switch r.settings.Close {
	case "stop":
		r.system.Root.Stop(r.producer.PID())
	case "poison":
		r.system.Root.Poison(r.producer.PID())
	default:
		r.system.Root.Send(r.producer.PID(), &messages.CloseNow{})
	}
	r.awaitEnd(time.Duration(r.settings.DeliveryTimeout+r.settings.TopicWait) + 30*time.Second)
	r.finish()
}

// judge makes the history of the run and checks it.
func (r *run) judge() []Violation {
	h := &r.history
	h.Numbered, h.Weak = r.settings.Numbered, r.settings.acks() == troupe.AcksLeader
	h.BufferLimit, h.BufferPeak = r.settings.BufferBytes, r.peak
	h.Logs, h.Attempts = r.kafka.logs(r.estate), r.Attempts()
	for _, p := range r.load.records {
		r.estate.writes = append(r.estate.writes, r.write(p))
	}
	h.Writes = r.estate.writes
	h.Together = r.load.togethers()
	h.Forgets = r.settings.Cluster.ForgetAfter > 0
	r.count()
	h.Observed = r.observed
	found := Check(h)
	if len(found) > 0 {
		for i, p := range r.load.records { // only now does anybody read them
			if p.delivery.Err != nil {
				h.Writes[i].Error = p.delivery.Err.Error()
			}
		}
		found = Check(h)
	}
	return foremost(found)
}

// count judges what the producer has counted. A decision that crashed may have been
// counted and made again; of a call that ended before its records nobody knows what
// became of them; and an actor hears of records that were refused as of those that were
// not.
func (r *run) count() {
	if r.producer == nil || r.faults.counts.Kinds[DecisionCrash] > 0 || r.ended() {
		return
	}
	var want [3]uint64
	var outcome *messages.DeliveryError
	for _, p := range r.load.records {
		switch err := p.delivery.Err; {
		case p.open:
			return
		case p.answers == 0 || !p.admitted || p.late || err != nil && !errors.As(err, &outcome):
		default:
			want[p.delivery.Status]++
		}
	}
	s := r.producer.Stats()
	if got := [...]uint64{messages.NotPersisted: s.RecordsNotPersisted, messages.PossiblyPersisted: s.RecordsPossiblyPersisted, messages.Persisted: s.RecordsPersisted}; got != want {
		r.violation(WrongOutcome, "the producer has counted %v records not, possibly and persisted, and they are %v", got, want)
	}
}

// foremost is the first few violations of each class: they tell most.
func foremost(all []Violation) (few []Violation) {
	seen := make(map[Class]int)
	for _, v := range all {
		if seen[v.Class]++; seen[v.Class] <= 3 {
			few = append(few, v)
		}
	}
	return few
}

func (r *run) write(p *produced) Write {
	d := &p.delivery
	w := Write{
		ID: p.tag, Value: p.value, Topic: p.topic, Asked: p.partition, Line: p.line, Answers: p.answers, AnswerFor: d.Topic,
		Partition: d.Partition, Offset: d.Offset, Admitted: time.Duration(p.at), Answered: time.Duration(p.answered),
		MustFail: r.mustFail(p), Probe: p.probe, FindsOut: p.findsOut, HeldUp: p.took,
		Weak: p.acks == troupe.AcksLeader, Silent: p.acks == troupe.AcksNone, Unnumbered: p.acks != troupe.AcksAll || !r.settings.Numbered,
	}
	if p.admitted {
		w.Order = p.order
	}
	if p.answers > 0 {
		w.Outcome = [...]Outcome{messages.NotPersisted: Fail, messages.PossiblyPersisted: Unknown, messages.Persisted: OK}[d.Status]
	}
	if d.Err != nil {
		w.Error = "an error"
		w.FoundOut = p.findsOut && r.foundOut(d.Err)
		w.GaveUp = r.settings.Retries == fewRetries && errors.Is(d.Err, messages.ErrRetriesExhausted)
		w.EndedByContext = endedByContext(p)
	}
	if r.settings.Compacted && p.topic == topicName && p.acks != troupe.AcksNone {
		r.blame(p)
	}
	if p.ctx != nil {
		w.Context = time.Duration(p.ctx.at)
	}
	if r.settings.Abrupt == 0 {
		// Otherwise whatever was under way ended with the producer. The time counts
		// from the admission for records that wait for a topic, or move to another,
		// too.
		w.Deadline = w.Admitted + time.Duration(r.settings.DeliveryTimeout) + deadlineSlack
		if p.call != nil {
			// It hears of the outcome when all of the call have theirs, or when the
			// call's own time is over.
			w.Deadline = max(w.Deadline, time.Duration(p.call.ended))
		}
	}
	return w
}

// foundOut reports whether an error tells what a probe may be the first to find out
// (Write.FindsOut).
func (r *run) foundOut(err error) bool {
	k := &r.faults.counts.Kinds
	switch {
	case errors.Is(err, protocol.OutOfOrderSequenceNumber), errors.Is(err, protocol.UnknownProducerID):
		return k[UncleanElection]+k[RecordsDeleted] > 0
	case errors.Is(err, messages.ErrUnknownPartition):
		return k[TopicRecreated] > 0
	}
	return false
}

// mustFail reports whether a record has no place to go to.
func (r *run) mustFail(p *produced) bool {
	if p.open {
		return false // nobody knows
	}
	if p.topic == unknownTopic && !r.settings.Cluster.AutoCreate {
		return true
	}
	return int(p.partition) >= max(r.kafka.mostPartitions(p.topic), partitionsOf(p.topic))
}

// blame judges that a compacted topic takes no record without a key, and that no
// other record is told that it is to blame.
func (r *run) blame(p *produced) {
	if p.answers == 0 {
		return
	}
	err := p.delivery.Err
	switch {
	case p.key == nil && err == nil:
		r.violation(WrongOutcome, "record %d has no key and was acknowledged in a compacted topic", p.tag)
	case p.key != nil && errors.Is(err, protocol.InvalidRecord) && !errors.Is(err, messages.ErrRefusedWithBatch) && !otherwise(err) && !r.crashedOver(err) && r.namesRecords():
		r.violation(WrongOutcome, "record %d has a key and was blamed: %v", p.tag, err)
	}
}

// crashedOver reports whether an error is about a decision that was made to crash.
func (r *run) crashedOver(err error) bool {
	return errors.Is(err, messages.ErrInternal) && r.faults.counts.Kinds[DecisionCrash] > 0
}

// otherwise reports whether a record failed for another reason than the broker's
// last word, which its error names as well.
func otherwise(err error) bool {
	for _, reason := range []error{messages.ErrUnknownPartition, messages.ErrDeliveryTimeout, messages.ErrRetriesExhausted, messages.ErrInvalidContext, messages.ErrFatal, messages.ErrClosed, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// namesRecords reports whether only answers with record errors say INVALID_RECORD.
func (r *run) namesRecords() bool {
	for _, b := range r.settings.Cluster.Brokers {
		if b.Produce < recordErrors {
			return false
		}
	}
	return r.faults.counts.Code(protocol.InvalidRecord) == 0
}

// recordErrors is the first version of Produce that names records (KIP-467).
const recordErrors = 8

// String is a run in a line.
func (r *Result) String() string {
	return fmt.Sprintf("seed %d, %d records: hash %016x, %d events, %d turns, %v of virtual time, outcomes %v", r.Plan.Seed, r.Plan.Records, r.Hash, r.Events, r.Turns, r.Virtual, r.Outcomes)
}
