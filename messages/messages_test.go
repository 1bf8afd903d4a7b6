package messages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

func TestDelaysGrow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for name, c := range map[string]struct {
		policy RetryPolicy
		want   []time.Duration // ms, without jitter
	}{
		"default": {DefaultRetryPolicy(), []time.Duration{100, 200, 400, 800, 1000, 1000, 1000}},
		"KafkaJS": {RetryPolicy{MaxRetryTime: 30 * time.Second, InitialRetryTime: 300 * time.Millisecond, Multiplier: 2, Retries: 5},
			[]time.Duration{300, 600, 1200, 2400, 4800, 9600, 19200, 30000, 30000}},
		"constant": {RetryPolicy{MaxRetryTime: time.Second, InitialRetryTime: 50 * time.Millisecond, Multiplier: 1},
			[]time.Duration{50, 50, 50, 50}},
	} {
		p := c.policy
		p.Factor = 0
		for i, want := range c.want {
			if got := p.Delay(i+1, random); got != want*time.Millisecond {
				t.Errorf("%s: delay %d is %v, expected %d ms", name, i+1, got, want)
			}
		}
		if got := p.Delay(1_000_000, random); got != c.want[len(c.want)-1]*time.Millisecond {
			t.Errorf("%s: the millionth delay is %v", name, got)
		}
		if got := p.Delay(0, random); got != p.InitialRetryTime {
			t.Errorf("%s: delay 0 is %v", name, got)
		}
	}
}

func TestDelaysAreSpread(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	p := DefaultRetryPolicy()
	for n, mean := range map[int]float64{1: 100, 3: 400, 20: 1000} {
		low, high := time.Hour, time.Duration(0)
		for range 5000 {
			d := p.Delay(n, random)
			low, high = min(low, d), max(high, d)
		}
		least, most := time.Duration(mean*0.8*1e6), min(time.Duration(mean*1.2*1e6), p.MaxRetryTime)
		if low < least || high > most || low > least+least/20 || high < most-most/20 {
			t.Errorf("delay %d lies in %v to %v, expected %v to %v", n, low, high, least, most)
		}
	}
}

func TestAllows(t *testing.T) {
	p := RetryPolicy{Retries: 2}
	for n, want := range map[int]bool{1: true, 2: true, 3: false} {
		if p.Allows(n) != want {
			t.Errorf("retry %d: %v", n, !want)
		}
	}
	if (RetryPolicy{}).Allows(1) || !DefaultRetryPolicy().Allows(1<<40) {
		t.Error("none or all")
	}
}

func TestPoliciesThatMakeNoSense(t *testing.T) {
	if err := DefaultRetryPolicy().Validate(); err != nil {
		t.Error(err)
	}
	nan := 0.0
	nan /= nan
	for name, change := range map[string]func(*RetryPolicy){
		"initialRetryTime": func(p *RetryPolicy) { p.InitialRetryTime = 0 },
		"maxRetryTime":     func(p *RetryPolicy) { p.MaxRetryTime = time.Millisecond },
		"factor":           func(p *RetryPolicy) { p.Factor = 1 },
		"factor -0.1":      func(p *RetryPolicy) { p.Factor = -0.1 },
		"factor NaN":       func(p *RetryPolicy) { p.Factor = nan },
		"multiplier":       func(p *RetryPolicy) { p.Multiplier = 0.5 },
		"multiplier 101":   func(p *RetryPolicy) { p.Multiplier = 101 },
		"multiplier NaN":   func(p *RetryPolicy) { p.Multiplier = nan },
		"retries":          func(p *RetryPolicy) { p.Retries = -2 },
	} {
		p := DefaultRetryPolicy()
		change(&p)
		word, _, _ := strings.Cut(name, " ")
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeliveryErrorText(t *testing.T) {
	for _, c := range []struct {
		err  DeliveryError
		want string
	}{
		{DeliveryError{Topic: "t", Partition: 3, Broker: -1, Cause: ErrDeliveryTimeout}, "t/3: delivery timeout; not persisted"},
		{DeliveryError{Topic: "t", Partition: -1, Broker: -1, Cause: ErrClosed}, "t: producer is closed; not persisted"},
		{DeliveryError{Topic: "t", Partition: 3, Broker: 2, Attempts: 4, Status: PossiblyPersisted, Cause: ErrConnectionLost},
			"t/3: connection lost (attempt 4, broker 2); possibly persisted: sending it again may duplicate it"},
		{DeliveryError{Topic: "t", Partition: 3, Broker: 2, Attempts: 1, Cause: ErrDeliveryTimeout, Last: ErrRequestTimeout},
			"t/3: delivery timeout (attempt 1, broker 2); last broker error: request timeout; not persisted"},
		{DeliveryError{Topic: "t", Partition: 3, Broker: 2, Attempts: 1, Cause: fmt.Errorf("%w: %w", ErrRetriesExhausted, ErrRequestTimeout), Last: ErrRequestTimeout},
			"t/3: retries exhausted: request timeout (attempt 1, broker 2); not persisted"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestDeliveryErrorIs(t *testing.T) {
	var err error = &DeliveryError{Cause: context.Canceled, Last: protocol.NotLeaderOrFollower}
	err = fmt.Errorf("wrapped: %w", err)
	for _, target := range []error{context.Canceled, protocol.NotLeaderOrFollower} {
		if !errors.Is(err, target) {
			t.Errorf("is not %v", target)
		}
	}
	var code protocol.ErrorCode
	var delivery *DeliveryError
	if !errors.As(err, &code) || code != protocol.NotLeaderOrFollower || !errors.As(err, &delivery) {
		t.Error("errors.As finds nothing")
	}
	if errors.Is(&DeliveryError{Cause: ErrClosed}, ErrFatal) {
		t.Error("is everything")
	}
}

func TestWords(t *testing.T) {
	for acks, want := range map[Acks]string{AcksDefault: "default -1", AcksAll: "all -1", AcksLeader: "1 1", AcksNone: "0 0"} {
		if got := fmt.Sprint(acks, " ", acks.Wire()); got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	}
	for lane := range Lanes {
		if lane.String() == "" {
			t.Error("a lane without a name")
		}
	}
	if p, ok := (Partition{}).Get(); ok || p != 0 || (Partition{}).String() != "any" {
		t.Error("the zero partition is one")
	}
	if p, ok := AtPartition(7).Get(); !ok || p != 7 || AtPartition(7).String() != "7" {
		t.Error("partition 7 is not")
	}
	if !IsSeed(SeedID(0)) || !IsSeed(SeedID(9)) || SeedID(0) == SeedID(1) || IsSeed(AnyBroker) || IsSeed(0) {
		t.Error("seeds and brokers are mixed up")
	}
	f := &ConnectionFailure{Address: "a:1", Reason: ErrRequestTimeout}
	if !errors.Is(f, ErrRequestTimeout) || f.Error() != "connection to a:1: request timeout" {
		t.Error(f)
	}
}

// TestIdentities: neither none nor the zero value is one, and what is newer is
// said by the generation alone.
func TestIdentities(t *testing.T) {
	zero := Identity{Generation: 1} // producer id 0, epoch 0: the first that a cluster gives out
	old := Identity{ProducerID: 9000, Epoch: 32767, Generation: 2}
	next := Identity{ProducerID: 12, Epoch: 0, Generation: 3} // from another broker's block
	for i, known := range map[Identity]bool{NoIdentity: false, {}: false, zero: true, old: true, next: true} {
		if i.Known() != known {
			t.Errorf("%+v is known: %v", i, !known)
		}
	}
	order := []Identity{NoIdentity, zero, old, next}
	for a := range order {
		for b := range order {
			if got := order[a].Newer(order[b]); got != (a > b) {
				t.Errorf("%+v is newer than %+v: %v", order[a], order[b], got)
			}
		}
	}
	if zero.Newer(zero) || !zero.Newer(Identity{}) || (Identity{}).Newer(NoIdentity) {
		t.Error("newer than itself, or not newer than none")
	}
}

func TestFlushWaiter(t *testing.T) {
	spot := seams.NewParking().NewSpot()
	w := NewFlushWaiter(spot)
	var all sync.WaitGroup
	for range 50 {
		w.Add(1)
		all.Go(w.Done)
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if spot.Wait(ctx) == nil {
		t.Fatal("it ended before everything was registered")
	}
	w.Done()
	if err := spot.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// broken is a context of a framework that uses it again.
type broken struct {
	context.Context
	err   error
	panic bool
	asked *int
}

func (b broken) Err() error {
	if b.panic {
		panic("no request")
	}
	if *b.asked++; *b.asked > 1 {
		return nil
	}
	return b.err
}

// TestEndOf: whatever a context does, the answer is one.
func TestEndOf(t *testing.T) {
	mine := errors.New("mine")
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(mine)
	for _, c := range []struct {
		name string
		ctx  context.Context
		want error
	}{
		{"none", nil, nil},
		{"one that never ends", context.Background(), nil},
		{"one that ended, with a cause", cancelled, mine},
		{"one that panics", broken{panic: true}, ErrInvalidContext},
		{"one that has ended only once", broken{Context: context.Background(), err: context.Canceled, asked: new(int)}, context.Canceled},
	} {
		if got := EndOf(c.ctx); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
