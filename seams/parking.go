package seams

import "context"

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
		return context.Cause(ctx)
	}
}

func (s channelSpot) Wake() { s <- struct{}{} }
