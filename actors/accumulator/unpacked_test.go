package accumulator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// TestOnlyTheNextIsUnpacked: compressed batches that wait are not unpacked together,
// neither to be split nor to have records cut out: that would take their plain sizes.
func TestOnlyTheNextIsUnpacked(t *testing.T) {
	const batches, plain = 20, 900
	for name, happens := range map[string]func(r *rig, end context.CancelFunc){
		"a smaller limit": func(r *rig, _ context.CancelFunc) {
			a, _ := r.take(toLeader)
			r.deliver(a, errorResult(protocol.MessageTooLarge, -1))
			a.WriteEnded()
		},
		"records that end": func(r *rig, end context.CancelFunc) {
			end()
			r.step()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig())
			ctx, end := context.WithCancel(context.Background())
			defer end()
			outcomes := make(map[string]error)
			for i := range batches {
				for k, each := range []context.Context{ctx, nil, nil} {
					name := fmt.Sprint(i, "/", k)
					a := admission(strings.Repeat("x", plain/3), func(d messages.Delivery) { outcomes[name] = d.Err })
					a.Context, a.Codec = each, codecs.Snappy
					r.append(a)
				}
				r.s.sealOpen(r.now)
				for _, p := range r.effects().compress {
					r.pack(p)
				}
			}
			r.assign(1, 1)
			r.effects()
			before := r.budget.Used()
			happens(r, end)
			most := r.budget.Used()
			for offset := int64(0); r.s.unanswered > 0; {
				most = max(most, r.budget.Used())
				for _, p := range r.effects().compress {
					r.pack(p)
				}
				r.s.review(r.now)
				a, _ := r.take(toLeader)
				if a == nil {
					continue
				}
				r.deliver(a, okResult(offset))
				a.WriteEnded()
				offset += int64(a.batch.count)
			}
			r.effects()
			r.check()
			if most > before+batches*plain/2 {
				t.Errorf("%d bytes were charged, %d before", most, before)
			}
			failed := 0
			for _, err := range outcomes {
				if err != nil {
					failed++
				}
			}
			if want := map[bool]int{false: 0, true: batches}[name == "records that end"]; failed != want || len(outcomes) != 3*batches || r.budget.Used() != 0 {
				t.Errorf("%d of %d failed, expected %d; %d bytes are left", failed, len(outcomes), want, r.budget.Used())
			}
		})
	}
}

// TestTheNextCannotBeUnpacked: what fails instead of being cut does not take the
// linger from the open batch behind it.
func TestTheNextCannotBeUnpacked(t *testing.T) {
	r := newRig(t, testConfig())
	ctx, end := context.WithCancel(context.Background())
	defer end()
	outcomes := make(map[string]error)
	admit := func(name string, ctx context.Context, codec codecs.ID) {
		a := admission(strings.Repeat("x", 100), func(d messages.Delivery) { outcomes[name] = d.Err })
		a.Context, a.Codec = ctx, codec
		r.append(a)
	}
	admit("ends", ctx, codecs.Snappy)
	admit("cannot be read back", nil, codecs.Snappy)
	r.s.sealOpen(r.now)
	for _, p := range r.effects().compress {
		r.pack(p)
		clear(p.packed)
	}
	admit("lingers", nil, codecs.None)
	r.assign(1, 1)
	r.effects()

	end()
	if a, status := r.take(toLeader); a != nil || status != messages.TakeDone {
		t.Errorf("took a batch of %d records, status %v", a.batch.count, status)
	}
	r.effects()
	r.check()
	if len(outcomes) != 2 || !errors.Is(outcomes["ends"], context.Canceled) || !errors.Is(outcomes["cannot be read back"], messages.ErrInternal) {
		t.Errorf("outcomes %v", outcomes)
	}
	if r.s.open == nil || r.s.open.count != 1 {
		t.Error("the open batch is not where it was")
	}
}
