package router

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// fakeBox is a partition that takes records into chunks and answers none, until
// the test says so.
type fakeBox struct {
	reannounced int
	spec        messages.AccumulatorSpec
	budget      *memory.Budget
	inbox       *inbox
	pid         *actor.PID

	mu       sync.Mutex
	account  *memory.Account
	hungry   bool // takes chunks from the budget
	room     int
	held     []*memory.Chunk
	closed   bool
	crashing bool   // over every record, and when it is evacuated
	onClosed func() // called when a record comes to the closed partition
	got      []string
	tags     []uint64
	replyTo  []messages.Recipient
	calling  int        // records with a callback
	calls    [][]string // the records of each call of Append or AppendAll
	urgent   []bool
	leaders  []messages.AssignLeader
	flushes  []*messages.FlushWaiter
	urged    atomic.Int32
	failed   error
	busy     bool // does not retire
	backlog  int
	leaving  []string // what Evacuate keeps
	identity messages.Identity
}

func (b *fakeBox) Append(a *messages.Admission) messages.AppendStatus {
	b.mu.Lock()
	status := b.take(a)
	if status == messages.Appended {
		b.calls = append(b.calls, []string{string(a.Record.Value)})
	}
	b.mu.Unlock()
	if status == messages.AppendClosed && b.onClosed != nil {
		b.onClosed()
	}
	return status
}

func (b *fakeBox) take(a *messages.Admission) messages.AppendStatus {
	if b.closed {
		return messages.AppendClosed
	}
	if b.crashing {
		return messages.AppendCrashed
	}
	if b.hungry && b.room < a.Bytes {
		if a.Chunk == nil || cap(a.Chunk.Bytes) < a.Bytes {
			return messages.NeedsBatch
		}
		b.room = cap(a.Chunk.Bytes)
		b.held = append(b.held, a.Chunk)
		a.Chunk = nil
	}
	if b.hungry {
		b.room -= a.Bytes
	}
	b.got = append(b.got, string(a.Record.Value))
	b.tags = append(b.tags, a.Record.Tag)
	b.replyTo = append(b.replyTo, a.ReplyTo)
	if a.Callback != nil {
		b.calling++
	}
	b.urgent = append(b.urgent, a.Urgent)
	return messages.Appended
}

func (b *fakeBox) AppendAll(records []messages.Admission, chunks *[]*memory.Chunk) (int, messages.AppendStatus) {
	b.mu.Lock()
	var call []string
	status, n := messages.Appended, 0
	for ; n < len(records); n++ {
		a := &records[n]
		if len(*chunks) > 0 && cap((*chunks)[0].Bytes) >= a.Bytes {
			a.Chunk = (*chunks)[0]
		}
		had := a.Chunk
		status = b.take(a)
		if had != nil && a.Chunk == nil {
			*chunks = (*chunks)[1:]
		}
		a.Chunk = nil
		if status != messages.Appended {
			break
		}
		call = append(call, string(a.Record.Value))
	}
	if n > 0 {
		b.calls = append(b.calls, call)
	}
	b.mu.Unlock()
	if status == messages.AppendClosed && b.onClosed != nil {
		b.onClosed()
	}
	return n, status
}

func (b *fakeBox) Account() *memory.Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.account
}

func (b *fakeBox) SetAccount(a *memory.Account) {
	b.mu.Lock()
	b.account = a
	b.mu.Unlock()
}

func (b *fakeBox) NeedBytes(n int) int         { return n }
func (b *fakeBox) BacklogBytes() int           { return b.backlog }
func (b *fakeBox) TopicID() [16]byte           { return b.spec.TopicID }
func (b *fakeBox) Topic() string               { return b.spec.Topic }
func (b *fakeBox) Partition() int32            { return b.spec.Partition }
func (b *fakeBox) Class() messages.Class       { return messages.Class{} }
func (b *fakeBox) PID() *actor.PID             { return b.pid }
func (b *fakeBox) Urge()                       { b.urged.Add(1) }
func (b *fakeBox) Reopen()                     { b.closed = false }
func (b *fakeBox) Reannounce()                 { b.reannounced++ }
func (b *fakeBox) FailAll(cause error)         { b.closed, b.failed = true, cause }
func (b *fakeBox) Count()                      {}
func (b *fakeBox) Unanswered() int             { return len(b.got) }
func (b *fakeBox) values() string              { return strings.Join(b.got, " ") }
func (b *fakeBox) last() messages.AssignLeader { return b.leaders[len(b.leaders)-1] }

func (b *fakeBox) Flush(w *messages.FlushWaiter) {
	w.Add(1)
	b.flushes = append(b.flushes, w)
}

func (b *fakeBox) Take(messages.TakeRequest) (messages.Batch, messages.TakeStatus) {
	return nil, messages.TakeDone
}

func (b *fakeBox) MoveTo(next messages.Appender) {
	to := next.(*fakeBox)
	to.got = append(to.got, b.leaving...)
	b.leaving = nil
}

func (b *fakeBox) Evacuate(error) messages.Identity {
	b.closed = true
	if b.crashing {
		panic("evacuated")
	}
	return b.identity
}

func (b *fakeBox) Retire(time.Duration) bool {
	if !b.busy {
		b.closed = true
	}
	return !b.busy
}

func (b *fakeBox) Assign(l messages.AssignLeader) { b.leaders = append(b.leaders, l) }

// settle gives the partition's memory back, as an answer does.
func (b *fakeBox) settle() {
	b.mu.Lock()
	held := b.held
	b.held, b.room = nil, 0
	b.mu.Unlock()
	b.budget.Release(held...)
}

func (b *fakeBox) poisoned() bool { return len(got[*actor.PoisonPill](b.inbox)) > 0 }
