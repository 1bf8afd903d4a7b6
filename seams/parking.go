package seams

import (
	"context"
	"slices"
	"sync"
)

// Parking makes the places where callers of the blocking API wait.
type Parking interface {
	// NewSpot returns a spot for one caller and one wait.
	NewSpot() Spot
}

// Spot is where one caller waits once.
type Spot interface {
	// Wait returns nil after Wake, or the context's cause when it ends first.
	Wait(ctx context.Context) error
	// Wake ends the wait, also one that has not begun. It never blocks and may
	// be called at most once.
	Wake()
}

// NewParking returns spots that block the calling goroutine.
func NewParking() Parking { return channelParking{} }

type channelParking struct{}

func (channelParking) NewSpot() Spot { return channelSpot(make(chan struct{}, 1)) }

type channelSpot chan struct{}

func (s channelSpot) Wait(ctx context.Context) error {
	select {
	case <-s:
		return nil
	case <-ctx.Done():
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return context.Canceled // a context of the user's that does not say why
	}
}

func (s channelSpot) Wake() { s <- struct{}{} }

// Latch is an event that comes once and that any number of callers wait for,
// each at a spot of its own.
type Latch struct {
	parking Parking

	mu      sync.Mutex
	open    bool
	waiting []*latchWaiter
}

type latchWaiter struct{ spot Spot }

// NewLatch returns a latch that is shut.
func NewLatch(parking Parking) *Latch { return &Latch{parking: parking} }

// Open lets every caller go, those that come later too. Only the first call does
// anything; it never blocks.
func (l *Latch) Open() {
	l.mu.Lock()
	waiting := l.waiting
	l.open, l.waiting = true, nil
	l.mu.Unlock()
	for _, w := range waiting {
		w.spot.Wake()
	}
}

// IsOpen reports whether Open was called.
func (l *Latch) IsOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Wait returns nil when the latch is open, also if the context has ended, or the
// context's cause when that ends first.
func (l *Latch) Wait(ctx context.Context) error {
	l.mu.Lock()
	if l.open {
		l.mu.Unlock()
		return nil
	}
	w := &latchWaiter{l.parking.NewSpot()}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	err := w.spot.Wait(ctx)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return nil
	}
	// A caller who tries again and again must not leave a spot behind each time.
	l.waiting = slices.DeleteFunc(l.waiting, func(o *latchWaiter) bool { return o == w })
	return err
}
