package accumulator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

const (
	// producerForgottenAfter is how long a partition may be idle before it has
	// to expect that its broker forgot its producer (KAFKA-15591).
	producerForgottenAfter = time.Hour
	// pressedChunkBytes is the least chunk to ask for while others wait for one.
	pressedChunkBytes = 16 << 10
	// sequenceModulus: sequences run from 0 to 2^31−1 and start again at 0.
	sequenceModulus = 1 << 31
)

// config is what the state needs of the settings.
type config struct {
	topic     string
	partition int32

	batchMaxBytes      int
	linger             time.Duration
	deliveryTimeout    time.Duration
	idempotent         bool
	maxInFlight        int
	unnumberedInFlight int
	slowRequest        time.Duration
	retry              messages.RetryPolicy
	random             *rand.Rand
	// resendInnocent sends the records of a refused batch again that the broker
	// did not name (KIP-467).
	resendInnocent bool
	codecs         *codecs.Registry
	// grow charges n more bytes of a batch's bookkeeping to the byte budget.
	grow func(c *memory.Chunk, n int)
	// charge counts memory that the state made itself in the byte budget.
	charge func([]byte) *memory.Chunk
	// troubles are why brokers cannot be reached.
	troubles *messages.Troubles
	// decisions are told of each step of a batch.
	decisions messages.Decisions
}

// effects are what a step of the state asks the box to do after unlocking.
type effects struct {
	announce bool
	class    messages.Class
	compress []*batch
	answers  *answerList // nil: none
	freed    []*memory.Chunk
	refresh  string
	bump     bool
	bumpFrom messages.Identity
	hint     *messages.LeaderHinted
	fatal    error
	// lingerUntil is when to look at a new batch; 0: none was begun.
	lingerUntil seams.Instant
}

// answer asks the completion lane to answer one batch, or with only set some
// records of it. A whole batch's answer is its last.
type answer struct {
	batch    *batch
	side     *side // the batch's as it was: cutting records out renumbers them
	only     []int32
	delivery messages.Delivery // the parts that are the same for all records
}

// answerList is kept for later ones: most turns answer one batch.
type answerList struct{ of []answer }

var answerLists = sync.Pool{New: func() any { return &answerList{} }}

// maxKeptAnswers bounds what is kept.
const maxKeptAnswers = 16

func (fx *effects) answer(a answer) {
	if fx.answers == nil {
		fx.answers = answerLists.Get().(*answerList)
	}
	fx.answers.of = append(fx.answers.of, a)
}

func (l *answerList) giveBack() {
	if cap(l.of) <= maxKeptAnswers {
		clear(l.of)
		l.of = l.of[:0]
		answerLists.Put(l)
	}
}

// free takes over a list that nobody else keeps.
func (fx *effects) free(chunks []*memory.Chunk) {
	if fx.freed == nil {
		fx.freed = slices.Clip(chunks)
		return
	}
	fx.freed = append(fx.freed, chunks...)
}

// State is everything about one partition that must not be lost. It never looks
// at the clock, never blocks, and calls nobody: what follows from a step is left
// in its effects.
type State struct {
	tally messages.Tally // what the producer's counters have not heard of yet
	// What every record looks at stands with the box's lock in one line of the
	// processor's cache, for the reason that batch gives.
	open       *batch
	unanswered int64 // records
	closed     error
	limit      sizeLimit

	config

	pending  []*batch // sealed, in order of admission: retries, then the new
	inFlight []*batch // handed over, in order of hand-over
	results  []result // answers of the broker not yet settled

	// The flags stand together: there may be ten thousand idle partitions.
	announced   bool
	oneInFlight bool // until an attempt numbered after gate succeeds
	slow        bool
	needsEpoch  bool // the sequence has a gap: no new number under identity
	brokersTime bool // records get the time of the append (message.timestamp.type)
	suspect     bool // a crash may have come between two halves of a change

	nextSequence int32
	leader       messages.AssignLeader
	retryAt      seams.Instant
	failures     int                       // attempts that failed since the last success
	gate         uint64                    // the last attempt when oneInFlight was set
	connections  [messages.LaneControl]int // by lane: what the last batch was to travel on
	attemptCount uint64
	batchCount   batchOrder
	lastSuccess  seams.Instant
	lastAppend   seams.Instant // when the last batch was begun

	identity   messages.Identity
	broken     messages.Identity
	brokenFrom batchOrder // order of the first batch that cannot stand in a log under broken

	unsettled     batchList // every batch without an outcome, wherever it is
	settling      *attempt  // what a step is deciding about, should it crash
	crashes       int       // since the last step that ended
	mending       bool      // what mends has to be without bugs
	handing       *attempt  // that the take under way has put in flight
	answeringOpen int       // whole batches in the completion lane
	backlogBytes  int       // in pending
	lastBytes     int       // size of the last sealed batch

	fx   effects
	went messages.BatchSteps // since somebody looked
	took messages.Actions
}

type result struct {
	attempt *attempt
	messages.Result
}

func newState(c config) *State {
	return &State{config: c, limit: sizeLimit{bytes: c.batchMaxBytes}, identity: messages.NoIdentity, broken: messages.NoIdentity, oneInFlight: true, leader: messages.AssignLeader{ID: -1, LeaderEpoch: -1}}
}

// recall makes a new state go on numbering where an earlier one of the same
// partition ended: an identity never starts a partition at 0 twice, since the
// broker would take the second start for a repetition and drop the records.
func (s *State) recall(l messages.LastSequence) {
	s.identity, s.nextSequence, s.needsEpoch = l.Identity, l.Next, l.Gap
}

// lastSequence is what a successor has to know.
func (s *State) lastSequence() messages.LastSequence {
	return messages.LastSequence{Identity: s.identity, Next: s.nextSequence, Gap: s.needsEpoch}
}

// note keeps what is becoming of a batch for who watches.
func (s *State) note(step messages.BatchStep) {
	s.went.Note(step)
	if s.decisions != nil && !s.mending {
		s.decisions.At(step.String())
	}
}

// retire closes a state that holds nothing and took no record for idle. It can
// be opened again.
func (s *State) retire(now seams.Instant, idle time.Duration) bool {
	if s.unanswered > 0 || s.answeringOpen > 0 || len(s.pending)+len(s.inFlight) > 0 || s.closed != nil || now.Sub(s.lastAppend) < idle {
		return false
	}
	if s.open != nil {
		s.sealOpen(now)
	}
	s.closed = errRetired
	return true
}

var errRetired = fmt.Errorf("%w: the partition was idle", messages.ErrClosed)

// reopen takes a retirement back, and nothing else.
func (s *State) reopen() {
	if s.closed == errRetired {
		s.closed = nil
	}
}

// fits reports whether a record only has to be added to the open batch: nothing
// else follows from it.
func (s *State) fits(a *messages.Admission) bool {
	o := s.open
	return o != nil && o.count > 0 && cap(o.tail) >= a.Bytes && o.bytes+2*a.Bytes <= s.limit.bytes && o.acks == a.Acks && o.codec == a.Codec &&
		!a.Urgent && s.closed == nil && (a.Context == nil || len(o.side.contexts) > 0)
}

// admit adds a record to the open batch, which has room for it.
func (s *State) admit(a *messages.Admission, unixMs int64, now seams.Instant) {
	s.open.add(a, unixMs, now)
	s.unanswered++
	a.Taken = true
}

// appendRecord takes one record into the open batch, or says what is missing.
// It reports whether the partition must be reviewed, and when to step at the
// latest. The end of a new batch's linger is left in the effects.
func (s *State) appendRecord(a *messages.Admission, box *Box, unixMs int64, now seams.Instant) (status messages.AppendStatus, review bool, wakeAt seams.Instant) {
	wakeAt = seams.Never
	if s.closed != nil {
		return messages.AppendClosed, false, wakeAt
	}
	o := s.open
	if o != nil && (o.acks != a.Acks || o.codec != a.Codec || o.bytes+a.Bytes > s.limit.bytes) {
		s.sealOpen(now)
		o, review = nil, true
	}
	if o == nil {
		if a.Chunk == nil {
			return messages.NeedsBatch, review, wakeAt
		}
		s.batchCount++
		o = s.enlist(newBatch(box, s.batchCount*orderStep, a.Acks, a.Codec))
		o.numbered = s.idempotent && a.Acks == messages.AcksAll
		o.lingerUntil = now.Add(s.linger)
		o.prompt = true
		s.lastAppend = now
		s.open = o
		wakeAt = now.Add(s.deliveryTimeout)
		if s.linger > 0 {
			s.fx.lingerUntil = o.lingerUntil
		}
	}
	if cap(o.tail) < a.Bytes {
		if a.Chunk == nil {
			if o.count == 0 {
				return messages.NeedsBatch, review, wakeAt
			}
			return messages.NeedsChunk, review, wakeAt
		}
		room := cap(a.Chunk.Bytes)
		if len(o.chunks) == 0 {
			room -= protocol.BatchHeaderSize
		}
		if room < a.Bytes {
			return messages.NeedsBatch, review, wakeAt
		}
		o.addChunk(a.Chunk)
		a.Chunk = nil
		if len(o.chunks) > 1 {
			s.chargeLedger(o)
		}
	}
	s.admit(a, unixMs, now)
	if a.Context != nil && len(o.side.contexts) == 1 && o.side.contexts[0].first == o.count-1 {
		wakeAt = min(wakeAt, now.Add(contextSweep))
	}
	if a.Admitted != 0 {
		// It waited elsewhere: its time is over before the batch's would be.
		wakeAt = min(wakeAt, a.Admitted.Add(s.deliveryTimeout))
	}
	if o.bytes+a.Bytes > s.limit.bytes {
		s.sealOpen(now)
		review = true
	} else if a.Urgent || (o.count == 1 && s.linger == 0) {
		review = true
	}
	return messages.Appended, review, wakeAt
}

// sealOpen fixes the records of the open batch and puts it in line.
func (s *State) sealOpen(now seams.Instant) {
	b := s.open
	if b == nil {
		return
	}
	s.open = nil
	b.trimTail()
	b.sealed = true
	s.note(messages.BatchSealed)
	s.chargeLedger(b)
	s.lastBytes = b.bytes
	if b.count == 0 {
		s.discard(b)
		return
	}
	s.expireUnsent(b, now)
	if b.count == 0 {
		return
	}
	s.pending = append(s.pending, b)
	s.backlogBytes += b.bytes
	if b.codec != codecs.None {
		s.compress(b)
	}
}

// answerSome answers records ahead of their batch, one answer per cause.
func (s *State) answerSome(b *batch, indices []int32, causes []*error, status messages.Status) {
	for at := 0; at < len(indices); {
		end := at + 1
		for end < len(indices) && causes[end] == causes[at] {
			end++
		}
		only := indices[at:end]
		s.fx.answer(answer{batch: b, side: b.side, only: only, delivery: s.failure(b, *causes[at], status)})
		for _, i := range only {
			b.markAnswered(i)
		}
		s.tally.Outcome(status, len(only))
		s.unanswered -= int64(len(only))
		at = end
	}
}

func (s *State) failure(b *batch, cause error, status messages.Status) messages.Delivery {
	err := &messages.DeliveryError{
		Topic: s.topic, Partition: s.partition, Broker: b.broker, Attempts: b.attempts,
		Status: status, Cause: cause, Last: b.lastError,
	}
	return messages.Delivery{
		Topic: s.topic, Partition: s.partition, Offset: -1, LogAppendTimeMs: -1, LogStartOffset: -1,
		Status: status, Attempts: b.attempts, Err: err, LastBrokerError: b.lastError,
	}
}

// finish ends a batch: its remaining records get the delivery, its buffers go
// back before any callback runs.
func (s *State) finish(b *batch, d messages.Delivery) {
	if b.settled {
		return
	}
	b.settled = true
	s.unsettled.remove(b)
	s.unanswered -= int64(b.live())
	s.tally.Outcome(d.Status, int(b.live()))
	s.answeringOpen++
	s.fx.answer(answer{batch: b, side: b.side, delivery: d})
	s.fx.free(b.drop())
}

// discard ends a batch whose records live on elsewhere, or that has none.
func (s *State) discard(b *batch) {
	b.settled = true
	s.unsettled.remove(b)
	s.fx.free(b.drop())
	if b.charged > 0 {
		s.fx.freed = append(s.fx.freed, &b.ledger)
	}
}

// chargeLedger charges what a batch keeps about its records besides their bytes,
// as it is now: until the last callback has returned.
func (s *State) chargeLedger(b *batch) {
	if n := batchOverhead + b.side.size(); n > b.charged {
		s.grow(&b.ledger, n-b.charged)
		b.charged = n
	}
}

// fail ends a batch with an error. A numbered batch that was ever handed over
// leaves a gap in the sequence, which only a new epoch closes (KIP-360).
func (s *State) fail(b *batch, cause error, status messages.Status) {
	if b.hasSequence && b.identity == s.identity {
		s.needsEpoch = true
	}
	s.note(messages.BatchFailed)
	s.finish(b, s.failure(b, cause, status))
}

// step settles what the broker answered and looks at every deadline.
func (s *State) step(now seams.Instant) {
	for i := range s.results {
		r := s.results[i]
		s.results[i] = result{}
		if r.attempt != nil { // nil: an earlier incarnation crashed over it
			s.settling = r.attempt
			s.settle(r.attempt, r.Result)
			s.settling = nil
		}
	}
	s.results = s.results[:0]
	s.sweep(now)
}

// review announces the partition to its broker if a batch can be taken now.
func (s *State) review(now seams.Instant) {
	if s.announced || !s.canTake(now) {
		return
	}
	s.announced = true
	s.fx.announce = true
	s.fx.class = s.classOf(s.next())
}

// next is the batch that a Take would hand over.
func (s *State) next() *batch {
	if len(s.pending) > 0 {
		return s.pending[0]
	}
	return s.open
}

func (s *State) openIsReady(now seams.Instant) bool {
	o := s.open
	return o != nil && o.count > 0 && (o.urgent || now >= o.lingerUntil)
}

func (s *State) unqueue(b *batch) {
	for i, p := range s.pending {
		if p == b {
			s.pending = slices.Delete(s.pending, i, i+1)
			s.backlogBytes -= b.bytes
			return
		}
	}
}

// requeue puts a batch back into its place in the order of admission, or fails it:
// if its sequence broke before it and it may be in a log.
func (s *State) requeue(b *batch) {
	if !s.renumberBroken(b) {
		s.fail(b, errBrokenBefore, messages.PossiblyPersisted)
		return
	}
	at := len(s.pending)
	for at > 0 && s.pending[at-1].order > b.order {
		at--
	}
	s.pending = append(s.pending, nil)
	copy(s.pending[at+1:], s.pending[at:])
	s.pending[at] = b
	s.backlogBytes += b.bytes
	if b.hasSequence {
		s.note(messages.BatchAgain)
	}
}

// needBytes is the size of the chunk that a record of n bytes asks for. A batch
// begins with as much as the last one took, and then doubles what it has, up to
// what it may hold. While callers wait for the budget it does so in large steps:
// who waits for each small one sees its batch go between two of them, and ever
// smaller batches keep the broker from its rate.
func (s *State) needBytes(n int, pressed bool) int {
	n += protocol.BatchHeaderSize // in case it comes to begin a batch
	want, left := s.lastBytes+protocol.BatchHeaderSize, s.limit.bytes+protocol.BatchHeaderSize
	if o := s.open; o != nil && o.count > 0 {
		want, left = o.bytes, s.limit.bytes-o.bytes
	}
	if pressed {
		want = max(want, pressedChunkBytes)
	}
	return max(n, min(want, left, memory.ChunkBytes))
}
