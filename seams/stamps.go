package seams

import (
	"sync/atomic"
	"time"
)

// stampFor is how long one reading of the clock may serve as the time of
// records.
const stampFor = time.Millisecond

// Stamps tells the time of records. A reading costs more than encoding a small
// record, so in a fast stream one of them serves all callers for a millisecond;
// a slow stream pays for each of its own. What is handed out is not older than
// that millisecond, however long nobody asked, and than the timer that ends it is
// late: some milliseconds where processors are short.
type Stamps struct {
	clock  Clock
	timer  Timer
	cached atomic.Pointer[stamp]
	last   atomic.Int64 // the millisecond of the last reading
}

type stamp struct {
	now       Instant
	unixMilli int64
}

// NewStamps returns stamps from the clock.
func NewStamps(clock Clock) *Stamps {
	s := &Stamps{clock: clock}
	s.timer = clock.NewTimer(func() { s.cached.Store(nil) })
	return s
}

// Read is Clock.Read, up to a millisecond late.
func (s *Stamps) Read() (now Instant, unixMilli int64) {
	if c := s.cached.Load(); c != nil {
		return c.now, c.unixMilli
	}
	now, unixMilli = s.clock.Read()
	if s.last.Swap(unixMilli) == unixMilli && s.cached.CompareAndSwap(nil, &stamp{now, unixMilli}) {
		s.timer.Reset(now.Add(stampFor))
	}
	return now, unixMilli
}
