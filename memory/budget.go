package memory

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/troupe-kafka/troupe/seams"
)

// The buffer sizes that are pooled, in bytes: each power of two from the least to
// the largest. A batch grows by doubling, so that the buffers of thousands of
// partitions are not mostly empty, and those of a few are not in many pieces.
const (
	LeastChunkBytes = 1 << 10
	ChunkBytes      = 64 << 10
	chunkClasses    = 7
)

// SmallChunkBytes is what a share that holds nothing may take whatever the others
// hold.
const SmallChunkBytes = 4 << 10

// maxFreeBytes bounds what the pool keeps for later: reuse is last in first
// out, so a producer in balance needs no more than its broker's round trip.
const maxFreeBytes = 8 << 20

// restingFreeBytes is what it keeps in chunks below the largest when nothing is in
// use: a burst through ten thousand partitions is no reason to hold its memory for
// ever. The largest stay, since a producer of few partitions that goes flat out
// comes to rest often and goes on at once.
const restingFreeBytes = 1 << 20

// ErrFull means that the budget, or the account's share of it, is used up.
var ErrFull = errors.New("memory budget is used up")

// Chunk is a buffer charged to an account until it is released.
type Chunk struct {
	// Bytes has length zero when the chunk is acquired.
	Bytes   []byte
	charge  int
	account *Account
}

// Budget is a bounded number of bytes, with callers in line for them.
type Budget struct {
	parking seams.Parking
	total   int
	// OnPressure is called, without locks, when the first caller has to wait.
	OnPressure func()
	// PaceBytes is how much one account may hold while its leader keeps up: more
	// only means that memory is cold again when it is sent. Callers who would
	// take it further wait for the next answer; nobody is ever refused for it.
	// 0 means no pace. Set both before the first use.
	PaceBytes int
	// OnPaced is called, without locks, when the first caller waits for the pace;
	// Relax must then be called now and then.
	OnPaced func()

	waiting atomic.Int32
	paced   atomic.Int32

	mu      sync.Mutex
	used    atomic.Int64 // written under mu
	free    [chunkClasses][]*Chunk
	freeSum int
	line    []*waiter
	serving uint64 // counts the servings of the line
	room    []roomWaiter
	closed  error
}

type waiter struct {
	account *Account
	bytes   int
	spot    seams.Spot
	soft    bool // waits for the pace only
	// What holds it up, as of the last serving: the budget as a whole, or an
	// account, its own or the common one.
	whole    bool
	waitsFor *Account
	chunk    *Chunk
	err      error
	done     bool
}

// NewBudget returns a budget of total bytes.
func NewBudget(total int, parking seams.Parking) *Budget {
	return &Budget{parking: parking, total: total}
}

// Total returns the budget's size in bytes.
func (b *Budget) Total() int { return b.total }

// Used returns the bytes charged now.
func (b *Budget) Used() int { return int(b.used.Load()) }

// Pressed reports whether anybody waits: lingering then only holds others up.
func (b *Budget) Pressed() bool { return b.waiting.Load() > 0 }

// Waiting returns how many callers stand in line for room.
func (b *Budget) Waiting() int { return int(b.waiting.Load()) }

// Paced reports whether anybody waits for a leader to catch up.
func (b *Budget) Paced() bool { return b.paced.Load() > 0 }

// chargeFor returns what a chunk with room for n bytes costs.
func chargeFor(n int) int {
	switch {
	case n <= LeastChunkBytes:
		return LeastChunkBytes
	case n <= ChunkBytes:
		return 1 << bits.Len(uint(n-1))
	default:
		return n
	}
}

// TryAcquire returns a chunk with room for n bytes, or ErrFull.
func (b *Budget) TryAcquire(account *Account, n int) (*Chunk, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil, b.closed
	}
	return b.tryLocked(account, n)
}

// TryAcquireAdmitted is TryAcquire for a record that was admitted already and
// moves on: a closed budget still has room for it.
func (b *Budget) TryAcquireAdmitted(account *Account, n int) (*Chunk, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tryLocked(account, n)
}

func (b *Budget) tryLocked(account *Account, n int) (*Chunk, error) {
	charge := chargeFor(n)
	if !b.fitsLocked(account, charge) || b.mustQueueLocked(account, charge) {
		return nil, ErrFull
	}
	return b.grantLocked(account, charge), nil
}

// AcquireNow is Acquire for a caller who can be had at once: it returns nil if
// Acquire would wait.
func (b *Budget) AcquireNow(account *Account, n int) *Chunk {
	charge := chargeFor(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil || !b.fitsLocked(account, charge) || b.mustQueueLocked(account, charge) || b.mustPaceLocked(account, charge) {
		return nil
	}
	return b.grantLocked(account, charge)
}

// Acquire returns a chunk with room for n bytes. It waits in line, first come
// first served per account, until there is room, the context ends (its cause is
// returned) or the budget is closed.
func (b *Budget) Acquire(ctx context.Context, account *Account, n int) (*Chunk, error) {
	charge := chargeFor(n)
	if most := b.most(account); charge > most {
		return nil, fmt.Errorf("%w: %d bytes can never fit the %d that %s may hold", ErrFull, charge, most, account.name)
	}
	return b.acquire(ctx, account, charge, account.Turn())
}

// AcquireInTurn is Acquire for a caller whose wait may end with Rouse: it returns
// ErrRoused when the account's turn is not, or no longer, the given one. What can
// never fit waits for that alone.
func (b *Budget) AcquireInTurn(ctx context.Context, account *Account, n int, turn uint64) (*Chunk, error) {
	return b.acquire(ctx, account, chargeFor(n), turn)
}

func (b *Budget) acquire(ctx context.Context, account *Account, charge int, turn uint64) (*Chunk, error) {
	b.mu.Lock()
	err := b.closed
	if err == nil && account.Turn() != turn {
		err = ErrRoused
	}
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	fits := b.fitsLocked(account, charge) && !b.mustQueueLocked(account, charge)
	soft := fits && b.mustPaceLocked(account, charge)
	if fits && !soft {
		chunk := b.grantLocked(account, charge)
		b.mu.Unlock()
		return chunk, nil
	}
	w := &waiter{account: account, bytes: charge, spot: b.parking.NewSpot(), soft: soft}
	b.line = append(b.line, w)
	first, tell := b.counter(w).Add(1) == 1, b.OnPressure
	if soft {
		tell = b.OnPaced
	}
	b.serveLocked() // notes what it waits for
	b.mu.Unlock()
	if first && tell != nil {
		tell()
	}
	err = w.spot.Wait(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.done {
		// A grant that raced with the end of the context is kept: the caller got
		// what it asked for.
		return w.chunk, w.err
	}
	b.leaveLocked(w)
	b.serveLocked()
	return nil, err
}

func (b *Budget) fitsLocked(account *Account, charge int) bool {
	return int(b.used.Load())+charge <= b.total && account.lacking(charge) == nil
}

func (b *Budget) counter(w *waiter) *atomic.Int32 {
	if w.soft {
		return &b.paced
	}
	return &b.waiting
}

// mustPaceLocked reports whether a caller should wait for the leader to catch up.
// A share has none.
func (b *Budget) mustPaceLocked(account *Account, charge int) bool {
	return b.PaceBytes > 0 && account.common == nil && account.used+charge > b.PaceBytes && account.used > 0 && !account.stalled
}

// Relax lets callers who wait for the pace of an account without any credit
// since the last call go on, up to the cap. It reports whether anybody still
// waits for a pace.
func (b *Budget) Relax() bool {
	b.mu.Lock()
	for _, w := range b.line {
		if w.soft && w.account.credits == w.account.seen {
			w.account.stalled = true
		}
	}
	for _, w := range b.line {
		w.account.seen = w.account.credits
	}
	b.serveLocked()
	b.mu.Unlock()
	return b.paced.Load() > 0
}

// mustQueueLocked keeps the order of arrival: nobody overtakes a caller of the
// same account, nor one that waits for the budget as a whole, nor, with what the
// common account would have to give, one that waits for that.
func (b *Budget) mustQueueLocked(account *Account, charge int) bool {
	for _, w := range b.line {
		if w.account == account || w.whole || (account.drawsOnCommon(charge) && w.waitsFor == account.common) {
			return true
		}
	}
	return false
}

func (b *Budget) grantLocked(account *Account, charge int) *Chunk {
	b.used.Add(int64(charge))
	account.add(charge)
	class := classOf(charge)
	if class >= 0 {
		if n := len(b.free[class]); n > 0 {
			chunk := b.free[class][n-1]
			b.free[class][n-1] = nil
			b.free[class] = b.free[class][:n-1]
			b.freeSum -= charge
			chunk.account = account
			return chunk
		}
		if chunk, ok := left[class].Get().(*Chunk); ok {
			chunk.charge, chunk.account = charge, account
			return chunk
		}
	}
	return &Chunk{Bytes: make([]byte, 0, charge), charge: charge, account: account}
}

// left are the chunks that budgets leave behind when they are closed, for those
// that come after: whoever makes a producer for each job need not pay for its
// buffers each time.
var left [chunkClasses]sync.Pool

// classOf returns the pool for chunks of the given size, -1 if they are not pooled.
func classOf(charge int) int {
	if charge < LeastChunkBytes || charge > ChunkBytes || charge&(charge-1) != 0 {
		return -1
	}
	return bits.TrailingZeros(uint(charge / LeastChunkBytes))
}

// keepLocked puts a chunk into its pool. When the pools are full, the largest
// makes room: what it holds was of use when batches were of another size.
func (b *Budget) keepLocked(c *Chunk, class int) {
	for b.freeSum+c.charge > maxFreeBytes {
		most := class
		for other := range b.free {
			if len(b.free[other])<<other > len(b.free[most])<<most {
				most = other
			}
		}
		n := len(b.free[most])
		if most == class || n == 0 {
			return
		}
		b.freeSum -= LeastChunkBytes << most
		b.free[most][n-1] = nil
		b.free[most] = b.free[most][:n-1]
	}
	c.Bytes = c.Bytes[:0]
	b.free[class] = append(b.free[class], c)
	b.freeSum += c.charge
}

// Adopt charges memory that exists already, whatever the budget says: what a
// codec made must be counted, and refusing it would help nobody.
func (b *Budget) Adopt(account *Account, bytes []byte) *Chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.Add(int64(cap(bytes)))
	account.add(cap(bytes))
	return &Chunk{Bytes: bytes, charge: cap(bytes), account: account}
}

// Grow charges n bytes of bookkeeping to c, whatever the budget says: they are
// needed to answer what is admitted already. A chunk without bytes of its own
// takes the account at its first growth.
func (b *Budget) Grow(account *Account, c *Chunk, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.account == nil {
		c.account = account
	}
	c.charge += n
	b.used.Add(int64(n))
	c.account.used += n
}

// Release gives chunks back and serves those who wait.
func (b *Budget) Release(chunks ...*Chunk) {
	if len(chunks) == 0 {
		return
	}
	b.mu.Lock()
	for _, c := range chunks {
		b.used.Add(-int64(c.charge))
		c.account.add(-c.charge)
		c.account.credits++
		c.account.stalled = false
		c.account = nil
		class := classOf(c.charge)
		switch {
		case class < 0 || cap(c.Bytes) != c.charge:
		case b.closed != nil:
			c.Bytes = c.Bytes[:0]
			left[class].Put(c)
		default:
			b.keepLocked(c, class)
		}
	}
	if b.used.Load() == 0 {
		b.restLocked()
	}
	b.afterCreditLocked(nil)
}

// restLocked gives back what is free beyond restingFreeBytes in chunks below the
// largest, the larger first.
func (b *Budget) restLocked() {
	const largest = chunkClasses - 1
	sum := b.freeSum - len(b.free[largest])*ChunkBytes
	for class := largest - 1; class >= 0 && sum > restingFreeBytes; class-- {
		size := LeastChunkBytes << class
		gone := min(len(b.free[class]), (sum-restingFreeBytes+size-1)/size)
		sum -= gone * size
		b.freeSum -= gone * size
		b.free[class] = append([]*Chunk(nil), b.free[class][:len(b.free[class])-gone]...)
	}
}

// serveLocked grants what can be granted, in order of arrival, and notes what
// holds up each of the others.
func (b *Budget) serveLocked() {
	if len(b.line) == 0 {
		return
	}
	b.serving++
	kept := b.line[:0]
	stop := false
	for _, w := range b.line {
		w.waitsFor, w.whole = b.obstacleLocked(w), false
		switch {
		case w.waitsFor != nil:
			w.account.passedIn, w.waitsFor.passedIn = b.serving, b.serving
		case stop:
		case int(b.used.Load())+w.bytes > b.total:
			// The one who waits for the budget as a whole is served before all
			// that came later, of whatever account.
			stop, w.whole = true, true
		default:
			w.chunk, w.done = b.grantLocked(w.account, w.bytes), true
			b.counter(w).Add(-1)
			w.spot.Wake()
			continue
		}
		kept = append(kept, w)
	}
	clear(b.line[len(kept):])
	b.line = kept
}

// obstacleLocked returns the account that w waits for: one without room for it,
// or one that somebody further ahead waits for. It is nil if there is none.
func (b *Budget) obstacleLocked(w *waiter) *Account {
	a := w.account
	if a.passedIn == b.serving || (w.soft && b.mustPaceLocked(a, w.bytes)) {
		return a
	}
	if lacking := a.lacking(w.bytes); lacking != nil {
		return lacking
	}
	if a.drawsOnCommon(w.bytes) && a.common.passedIn == b.serving {
		return a.common
	}
	return nil
}

func (b *Budget) leaveLocked(w *waiter) {
	for i, other := range b.line {
		if other == w {
			b.line = append(b.line[:i], b.line[i+1:]...)
			b.counter(w).Add(-1)
			return
		}
	}
}

// Close refuses further charges with reason and ends every wait with it. What
// is charged stays valid until released.
func (b *Budget) Close(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return
	}
	b.closed = reason
	for _, w := range b.line {
		w.err, w.done = reason, true
		b.counter(w).Add(-1)
		w.spot.Wake()
	}
	b.line = nil
	for class, free := range b.free {
		for _, c := range free {
			left[class].Put(c)
		}
	}
	b.free, b.freeSum = [chunkClasses][]*Chunk{}, 0
}
