package seams

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// countedParking counts the spots that nobody has woken.
type countedParking struct {
	mu    sync.Mutex
	asked int
	woken int
}

type countedSpot struct {
	Spot
	parking *countedParking
}

func (p *countedParking) NewSpot() Spot {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return &countedSpot{NewParking().NewSpot(), p}
}

func (s *countedSpot) Wake() {
	s.parking.mu.Lock()
	s.parking.woken++
	s.parking.mu.Unlock()
	s.Spot.Wake()
}

func (p *countedParking) counts() (asked, woken int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.woken
}

func TestLatchLetsEveryWaiterGoOnce(t *testing.T) {
	p := &countedParking{}
	l := NewLatch(p)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := l.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	for asked := 0; asked < 8; asked, _ = p.counts() {
		time.Sleep(time.Millisecond)
	}
	if l.IsOpen() {
		t.Error("open before Open")
	}
	l.Open()
	l.Open() // a second one would wake the spots again, which no spot allows
	wait.Wait()
	if _, woken := p.counts(); woken != 8 || !l.IsOpen() {
		t.Errorf("%d of 8 woken, open: %v", woken, l.IsOpen())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Wait(ended); err != nil {
		t.Errorf("an open latch and an ended context: %v", err)
	}
	if asked, _ := p.counts(); asked != 8 {
		t.Errorf("an open latch asked for a spot: %d", asked)
	}
}

func TestLatchForgetsWhoGivesUp(t *testing.T) {
	p := &countedParking{}
	l := NewLatch(p)
	why := errors.New("no time")
	for range 100 {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		if err := l.Wait(ctx); !errors.Is(err, why) {
			t.Fatal(err)
		}
	}
	if n := len(l.waiting); n != 0 {
		t.Errorf("%d waiters are left", n)
	}
	l.Open()
	if _, woken := p.counts(); woken != 0 {
		t.Errorf("%d were woken that had left", woken)
	}
}

// TestLatchOpensWhileCallersGiveUp races the two ends of a wait.
func TestLatchOpensWhileCallersGiveUp(t *testing.T) {
	for range 200 {
		l := NewLatch(NewParking())
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				if err := l.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		wait.Go(cancel)
		wait.Go(l.Open)
		wait.Wait()
	}
}
