package accumulator

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
)

// TestCauseOfAnyType: a context may end with an error that == cannot compare.
func TestCauseOfAnyType(t *testing.T) {
	r := newRig(t, testConfig())
	ctx := endedContext(causes{"one", "two"})
	var got []error
	for range 3 {
		a := admission("a", func(d messages.Delivery) { got = append(got, d.Err) })
		a.Context = ctx
		r.append(a)
	}
	r.step()
	r.effects()
	r.check()
	if len(got) != 3 {
		t.Fatalf("%d outcomes", len(got))
	}
	var c causes
	if !errors.As(got[2], &c) || len(c) != 2 {
		t.Errorf("cause %v", got[2])
	}
}

// usedAgain is a context of a framework that has given it to its next request.
type usedAgain struct{ context.Context }

func (usedAgain) Err() error { panic("no request") }

// TestContextThatPanics: it ends its record, and nobody else's.
func TestContextThatPanics(t *testing.T) {
	r := newRig(t, testConfig())
	got := make(map[string]error)
	for _, name := range []string{"one", "bad", "two"} {
		a := admission(name, func(d messages.Delivery) { got[name] = d.Err })
		if name == "bad" {
			a.Context = usedAgain{context.Background()}
		}
		r.append(a)
	}
	r.assign(1, 1)
	r.s.open.urgent = true
	r.step()
	a, _ := r.take(toLeader)
	r.deliver(a, okResult(0))
	r.effects()
	r.check()
	if len(got) != 3 || got["one"] != nil || got["two"] != nil || !errors.Is(got["bad"], messages.ErrInvalidContext) {
		t.Errorf("%v", got)
	}
}

// fickle is a context that has ended when it is asked for the nth time, and then has
// not.
type fickle struct {
	context.Context
	until *int
}

func (f fickle) Err() error {
	if *f.until--; *f.until == 0 {
		return context.Canceled
	}
	return nil
}

// TestContextThatChangesItsMind: a batch that was compressed is not compressed once
// more for it, since its plain records are gone.
func TestContextThatChangesItsMind(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		r := newRig(t, testConfig())
		until := 0
		var outcome messages.Delivery
		a := admission(strings.Repeat("squeeze", 50), func(d messages.Delivery) { outcome = d })
		a.Codec, a.Context = codecs.Snappy, fickle{context.Background(), &until}
		r.append(a)
		r.s.open.urgent = true
		r.assign(1, 1)
		r.step()
		p := r.s.pending[0]
		r.pack(p)
		r.effects()
		if p.packed == nil {
			t.Fatal("nothing was compressed")
		}
		until = nth
		r.s.sweep(r.now)
		if p.settled {
			continue // it was believed
		}
		if p.packed == nil {
			t.Fatalf("it has ended when it is asked %d times: the batch is empty", nth)
		}
		attempt, _ := r.take(toLeader)
		r.deliver(attempt, okResult(7))
		r.effects()
		r.check()
		if outcome.Err != nil || outcome.Offset != 7 {
			t.Errorf("it has ended when it is asked %d times: %+v", nth, outcome)
		}
	}
}
