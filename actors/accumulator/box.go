package accumulator

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// Box is one partition: its State under a lock, and the mailbox of its
// accumulator. It outlives the actor's incarnations, which is why nothing is
// lost when one crashes. Locks are held for the time of an encoding or a
// decision; whatever follows from it happens after unlocking.
type Box struct {
	mu    sync.Mutex // first: in one line of the processor's cache with what the state begins with
	state State

	*seams.Mailbox
	settings *messages.Settings
	budget   *memory.Budget
	lingers  *Lingers
	system   *actor.ActorSystem
	root     *actor.PID // metadata requests, epoch requests and failures go there
	pid      *actor.PID
	topicID  [16]byte
	account  atomic.Pointer[memory.Account]
	ready    atomic.Pointer[messages.PartitionReady]
	lane     lane
	watcher  messages.PartitionWatcher // nil: nobody watches
	seen     messages.PartitionStates  // by the watcher
	timer    seams.Timer

	assigned  *messages.AssignLeader // not taken in yet
	leaving   []*batch               // for the partition of the topic's next creation
	kept      bool                   // the last sequence is in the ledger
	lingering bool                   // the box stands in the line of lingers
	timing    seams.Instant          // when the timer is set to fire
	sides     []*side
}

var (
	_ messages.Appender = (*Box)(nil)
	_ messages.Taker    = (*Box)(nil)
	_ actor.Mailbox     = (*Box)(nil)
)

// Topic implements messages.Taker.
func (b *Box) Topic() string { return b.state.topic }

// TopicID implements messages.Taker; it is fixed for the life of a box, since a
// topic that is created again gets new accumulators.
func (b *Box) TopicID() [16]byte { return b.topicID }

// Partition implements messages.Taker.
func (b *Box) Partition() int32 { return b.state.partition }

// PID implements messages.Appender.
func (b *Box) PID() *actor.PID { return b.pid }

// Account implements messages.Appender.
func (b *Box) Account() *memory.Account { return b.account.Load() }

// SetAccount implements messages.Appender.
func (b *Box) SetAccount(a *memory.Account) { b.account.Store(a) }

// Assign implements messages.Appender. Who leads the partition is kept in the box
// and not in the line of messages: an actor that crashes over one loses it, and
// nobody would say it again.
func (b *Box) Assign(l messages.AssignLeader) {
	b.mu.Lock()
	news := b.assigned != nil || l != b.state.leader // most refreshes have none
	if news {
		kept := l // or every call would allocate
		b.assigned = &kept
	}
	b.mu.Unlock()
	if news {
		b.Signal()
	}
}

// Append implements messages.Appender. A record that only has to be added to the
// open batch, as most have, takes a way on which nothing can panic in a batch that
// is whole: to guard it would cost a twentieth of it.
func (b *Box) Append(a *messages.Admission) messages.AppendStatus {
	b.mu.Lock()
	now, unixMs := b.settings.Stamps.Read()
	if !b.state.fits(a) {
		return b.appendGuarded(a, unixMs, now)
	}
	b.state.admit(a, unixMs, now)
	b.mu.Unlock()
	return messages.Appended
}

// AppendAll implements messages.Appender.
func (b *Box) AppendAll(records []messages.Admission, chunks *[]*memory.Chunk) (n int, status messages.AppendStatus) {
	b.mu.Lock()
	held := true
	var had *memory.Chunk
	settleChunk := func(a *messages.Admission) {
		if had != nil && a.Chunk == nil {
			*chunks = (*chunks)[1:]
		}
		a.Chunk, had = nil, nil
	}
	defer func() {
		if !held {
			return
		}
		b.survive(&held, recover(), "records could not be taken in")
		if n == len(records) { // in the review
			status = messages.Appended
			return
		}
		settleChunk(&records[n])
		if status = crashStatus(&records[n]); status == messages.Appended {
			n++
		}
	}()
	review, wakeAt := false, seams.Never
	now, unixMs := b.settings.Clock.Read()
	for n < len(records) {
		a := &records[n]
		if a.Chunk == nil && len(*chunks) > 0 && cap((*chunks)[0].Bytes) >= a.Bytes+protocol.BatchHeaderSize {
			a.Chunk = (*chunks)[0]
		}
		had = a.Chunk
		var r bool
		var at seams.Instant
		status, r, at = b.state.appendRecord(a, b, unixMs, now)
		review, wakeAt = review || r, min(wakeAt, at)
		settleChunk(a)
		if status != messages.Appended {
			break
		}
		n++
	}
	if review {
		b.state.review(now)
	}
	held = false
	b.unlock(wakeAt)
	return n, status
}

// NeedBytes implements messages.Appender.
func (b *Box) NeedBytes(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.needBytes(n, b.budget.Pressed())
}

// BacklogBytes implements messages.Appender.
func (b *Box) BacklogBytes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.state.backlogBytes
	if o := b.state.open; o != nil {
		n += o.bytes
	}
	return n
}

// Unanswered implements messages.Appender.
func (b *Box) Unanswered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int(b.state.unanswered) + b.state.answeringOpen
	for _, p := range b.leaving {
		n += int(p.live())
	}
	return n
}

// Count implements messages.Appender.
func (b *Box) Count() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settings.Counters.Take(&b.state.tally)
}

// Urge implements messages.Appender.
func (b *Box) Urge() {
	b.guarded("a batch could not be urged", func(s *State) {
		if o := s.open; o != nil && o.count > 0 && !o.urgent {
			o.urgent = true
			s.review(b.settings.Clock.Now())
		}
	})
}

// Flush implements messages.Appender. What is waited for is noted before anything
// is decided.
func (b *Box) Flush(w *messages.FlushWaiter) {
	b.guarded("a flush crashed", func(s *State) {
		if o := s.open; o != nil && o.count > 0 {
			o.urgent = true
			w.Add(1)
			o.flushes = append(o.flushes, w)
		}
		behind := s.answeringOpen > 0 // something is in the completion lane
		for _, batches := range [][]*batch{s.pending, s.inFlight, b.leaving} {
			for _, p := range batches {
				if p.live() == 0 {
					behind = true // all answered; its bytes travel on for nobody
					continue
				}
				w.Add(1)
				p.flushes = append(p.flushes, w)
			}
		}
		if behind {
			w.Add(1)
			s.mark(w)
		}
		s.review(b.settings.Clock.Now())
	})
}

// FailAll implements messages.Appender.
func (b *Box) FailAll(cause error) {
	b.lastly("records could not be failed", cause, func(s *State) {
		s.stay(b.leaving)
		b.leaving = nil
		if errors.Is(cause, messages.ErrClosed) {
			cause = s.because(cause)
		}
		s.failAll(cause)
	})
	b.Count() // nobody may look for it any more
}

// keepSequence leaves the last sequence to a successor.
func (b *Box) keepSequence() {
	b.mu.Lock()
	last := b.state.lastSequence()
	kept := b.kept // a successor may have gone on meanwhile
	b.kept = true
	b.mu.Unlock()
	if last.Identity.Known() && !kept {
		b.settings.Sequences.Keep(b.state.topic, b.topicID, b.state.partition, last)
	}
}

// Retire implements messages.Appender.
func (b *Box) Retire(idle time.Duration) bool {
	retired := false
	b.guarded("a partition could not be retired", func(s *State) { retired = s.retire(b.settings.Clock.Now(), idle) })
	if retired {
		b.keepSequence() // before a successor can ask
	}
	return retired
}

// Reopen implements messages.Appender.
func (b *Box) Reopen() {
	b.mu.Lock()
	b.state.reopen()
	b.kept = false
	b.mu.Unlock()
}

// Reannounce implements messages.Appender.
func (b *Box) Reannounce() {
	b.guarded("a partition could not be announced", func(s *State) {
		s.announced = false
		s.review(b.settings.Clock.Now())
	})
}

// Class implements messages.Taker.
func (b *Box) Class() messages.Class {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.state.next(); n != nil {
		return b.state.classOf(n)
	}
	return messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}
}

// Take implements messages.Taker.
func (b *Box) Take(r messages.TakeRequest) (batch messages.Batch, status messages.TakeStatus) {
	a, status := b.hand(r)
	if a == nil {
		return nil, status
	}
	if !b.stamped(a, r) {
		return nil, messages.TakeDone
	}
	return a, status
}

// hand takes the next attempt out of the state. A crash concerns this partition
// alone, not the broker that asks.
func (b *Box) hand(r messages.TakeRequest) (a *attempt, status messages.TakeStatus) {
	b.mu.Lock()
	held := true
	defer func() {
		if !held {
			return
		}
		lost := b.state.handing
		b.state.handing = nil
		if lost != nil {
			b.state.results = append(b.state.results, result{lost, messages.Result{Now: r.Now, Broker: r.Broker, Err: errCrashed}})
		}
		b.survive(&held, recover(), "a batch could not be handed over")
		if lost != nil {
			lost.batch.release() // nobody writes it
		}
		a, status = nil, messages.TakeDone
	}()
	if b.state.suspect {
		b.state.announced, status = false, messages.TakeDone // until it is mended
	} else {
		a, status = b.state.take(r)
		b.state.handing = nil
	}
	at := seams.Never
	if a == nil && status == messages.TakeDone && !b.state.suspect {
		// The broker's turn may have begun before what keeps the batch back by its
		// time: nobody else would look again when it no longer does.
		now := b.settings.Clock.Now()
		b.state.review(now)
		at = b.state.nextDeadline(now)
	}
	held = false
	b.unlock(at)
	return a, status
}

// stamped writes the header of an attempt. The broker would not survive a crash
// here, and has others' batches in its hands: the attempt ends unsent instead.
func (b *Box) stamped(a *attempt, r messages.TakeRequest) (ok bool) {
	defer func() {
		if reason := recover(); reason != nil {
			b.bug(reason, "a batch could not be sealed")
			b.settle(a, messages.Result{Now: r.Now, Broker: r.Broker, Err: errCrashed})
			a.batch.release()
			ok = false
		}
	}()
	a.stamp()
	return true
}

// settle notes the end of an attempt; the accumulator's next turn decides.
func (b *Box) settle(a *attempt, r messages.Result) {
	b.mu.Lock()
	b.state.results = append(b.state.results, result{a, r})
	b.mu.Unlock()
	b.Signal()
}

// step is the accumulator's turn.
func (b *Box) step() {
	b.mu.Lock()
	held := true
	defer b.letGo(&held)
	now := b.settings.Clock.Now()
	if b.timing <= now {
		b.timing = seams.Never
	}
	if b.state.suspect {
		b.mendFirst()
		// What crashed was no turn of the actor's, so nothing else slows it down.
		b.state.retryAt = max(b.state.retryAt, now.Add(b.state.config.retry.Delay(1, b.state.random)))
	}
	b.state.step(now)
	b.takeLeader(now)
	b.state.crashes = 0
	b.state.review(now)
	b.waitForLinger(now)
	at := b.state.nextDeadline(now)
	if len(b.leaving) > 0 {
		at = min(at, b.expireLeaving(now))
	}
	held = false
	b.unlock(at)
}

// lingerEnded is the end of a linger, of the open batch or of one before it. It
// returns whom to tell that the partition is ready, if it is. A crash here concerns
// this partition alone.
func (b *Box) lingerEnded(now seams.Instant) (leader messages.AssignLeader, class messages.Class, ready bool) {
	b.mu.Lock()
	held := true
	defer func() {
		if !held {
			return
		}
		b.survive(&held, recover(), "the end of a linger crashed")
		ready = false
	}()
	b.lingering = false
	b.mendFirst()
	b.state.review(now)
	b.waitForLinger(now)
	at := b.state.nextDeadline(now)
	leader, class, ready = b.state.leader, b.state.fx.class, b.state.fx.announce
	b.state.fx.announce = false
	held = false
	b.unlock(at)
	return leader, class, ready
}

// waitForLinger puts the box in the line of lingers if its batch has to wait there
// and it does not.
func (b *Box) waitForLinger(now seams.Instant) {
	if until := b.state.lingering(now); until != seams.Never {
		b.state.fx.lingerUntil = until
	}
}

// takeLeader tells the state who leads the partition, if that is news.
func (b *Box) takeLeader(now seams.Instant) {
	if b.assigned != nil {
		b.state.assign(*b.assigned, now)
		b.assigned = nil
	}
}

// adopt makes a new incarnation of the actor go on where the last one was.
// Everything is derived again: a crash may have come between a decision and what
// should have followed from it.
func (b *Box) adopt() {
	b.mu.Lock()
	held := true
	defer b.letGo(&held)
	now := b.settings.Clock.Now()
	b.timing = seams.Never
	b.mended(b.state.crashed(now))
	b.state.step(now)
	b.takeLeader(now)
	b.state.review(now)
	b.waitForLinger(now)
	at := b.state.nextDeadline(now)
	held = false
	b.unlock(at)
}

// unlock releases the lock and then does what the state left to do: effects
// first collected under the lock, so that none is lost or done twice.
func (b *Box) unlock(wakeAt seams.Instant) {
	b.observe()
	s := &b.state
	fx := s.fx
	s.fx = effects{}
	leader := s.leader.Broker
	arm := wakeAt < b.timing
	if arm {
		// Under the lock: two late resets in the wrong order would lose a deadline.
		b.timing = wakeAt
		b.timer.Reset(wakeAt)
	}
	if fx.lingerUntil > 0 && !b.lingering {
		b.lingering = true
		b.lingers.add(b, fx.lingerUntil)
	}
	b.mu.Unlock()
	if len(fx.freed) > 0 {
		// Before the callbacks: one that hangs must not keep the budget.
		b.budget.Release(fx.freed...)
	}
	if fx.announce {
		b.system.Root.Send(leader, b.announcement(fx.class))
	}
	for _, batch := range fx.compress {
		b.settings.CodecCrew.Run(func() { b.compress(batch) })
	}
	if fx.answers != nil {
		b.lane.add(fx.answers.of)
		fx.answers.giveBack()
	}
	if fx.refresh != "" {
		b.system.Root.Send(b.root, &messages.RefreshMetadata{Reason: fx.refresh})
	}
	if fx.bump {
		b.system.Root.Send(b.root, &messages.BumpEpoch{After: fx.bumpFrom})
	}
	if fx.hint != nil {
		b.system.Root.Send(b.root, fx.hint)
	}
	if fx.fatal != nil {
		b.system.Root.Send(b.root, &messages.ProducerFailed{Err: fx.fatal})
	}
}

// announcement is what tells a broker that the partition is ready. It is never
// changed, so that most partitions need one only.
func (b *Box) announcement(class messages.Class) *messages.PartitionReady {
	if m := b.ready.Load(); m != nil && m.Class == class {
		return m
	}
	m := &messages.PartitionReady{Taker: b, Class: class}
	b.ready.Store(m)
	return m
}

// batchAnswered counts a batch whose callbacks have all returned.
func (b *Box) batchAnswered(p *batch) {
	b.mu.Lock()
	b.state.answeringOpen--
	b.returnSide(p)
	b.mu.Unlock()
	if p.charged > 0 {
		b.budget.Release(&p.ledger)
	}
}

// maxKeptSides bounds the bookkeeping slices that a partition keeps for reuse.
const (
	maxKeptSides     = 4
	maxKeptSideBytes = 16 << 10
)

func (b *Box) takeSide() *side {
	if n := len(b.sides); n > 0 {
		d := b.sides[n-1]
		b.sides = b.sides[:n-1]
		return d
	}
	return &side{}
}

func (b *Box) returnSide(p *batch) {
	d := p.side
	p.side = nil
	if d == nil || len(b.sides) >= maxKeptSides || d.size() > maxKeptSideBytes || p.answeredCount > 0 {
		return
	}
	clear(d.callbacks)
	clear(d.replies)
	clear(d.contexts)
	d.tags.reset()
	d.opaques.reset()
	d.callbacks, d.replies, d.contexts, d.stamps = d.callbacks[:0], d.replies[:0], d.contexts[:0], d.stamps[:0]
	b.sides = append(b.sides, d)
}
