package seams

import (
	"runtime"
	"sync"
)

// Executor runs work that may take long or block, outside every actor: codecs
// and the user's callbacks.
type Executor interface {
	// Run starts fn in a turn of its own and returns at once.
	Run(fn func())
}

// NewExecutor returns an executor that starts a goroutine per call.
func NewExecutor() Executor { return goExecutor{} }

type goExecutor struct{}

func (goExecutor) Run(fn func()) { go fn() }

// mailboxThroughput is how many messages an actor handles before it goes to the
// back of the run queue, so that a busy actor cannot starve the others.
const mailboxThroughput = 64

// RunQueue is an actor.Dispatcher with a fixed crew of workers. The default
// dispatcher of protoactor starts a goroutine for each wake-up, which costs
// several times more when a thousand partitions wake once per batch.
type RunQueue struct {
	mu      sync.Mutex
	wake    *sync.Cond
	waiting works
	idle    int
	closed  bool
	done    sync.WaitGroup
}

// NewRunQueue starts GOMAXPROCS workers; Close ends them.
func NewRunQueue() *RunQueue {
	q := &RunQueue{}
	q.wake = sync.NewCond(&q.mu)
	workers := runtime.GOMAXPROCS(0)
	q.done.Add(workers)
	for range workers {
		go q.work()
	}
	return q
}

// Schedule implements actor.Dispatcher. After Close the work runs on a
// goroutine of its own: an actor that stops late must still be able to.
func (q *RunQueue) Schedule(fn func()) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		go fn()
		return
	}
	q.waiting.push(fn)
	wake := q.idle > 0
	q.mu.Unlock()
	if wake {
		q.wake.Signal()
	}
}

// Throughput implements actor.Dispatcher.
func (q *RunQueue) Throughput() int { return mailboxThroughput }

// Close lets the workers finish what is queued and ends them; it does not wait
// for them, since it may be called from one of them.
func (q *RunQueue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// Wait blocks until every worker has ended. Call it after Close, never from a
// worker.
func (q *RunQueue) Wait() { q.done.Wait() }

func (q *RunQueue) work() {
	defer q.done.Done()
	for {
		q.mu.Lock()
		for q.waiting.len() == 0 && !q.closed {
			q.idle++
			q.wake.Wait()
			q.idle--
		}
		if q.waiting.len() == 0 {
			q.mu.Unlock()
			return
		}
		fn := q.waiting.pop()
		q.mu.Unlock()
		fn()
	}
}
