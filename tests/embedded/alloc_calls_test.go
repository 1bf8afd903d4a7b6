//go:build !race

package embedded_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
)

// What the ways of sending that are not the fastest may allocate. The bounds are
// a little above what was counted, so that a change that doubles it is seen.
const (
	callAllocations        = 35  // a Send of one message, its batch and request included
	batchCallAllocations   = 150 // a Send of 1,000
	actorRecordAllocations = 2.5 // a messages.Produce and its Delivered, the message and its envelope included
)

func nullProducer(t *testing.T) *troupe.Producer {
	t.Helper()
	p, err := troupe.New(troupe.WithBrokers("null:9092"), troupe.WithSeams(troupe.Seams{Transport: nullTransport{}}), troupe.WithLinger(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closing(t, p, time.Second) })
	if err := p.Connect(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAllocationsOfCalls counts what a call costs from its begin to its end, of
// all goroutines together.
func TestAllocationsOfCalls(t *testing.T) {
	p := nullProducer(t)
	ctx := context.Background()
	for _, c := range []struct{ records, most int }{{1, callAllocations}, {1000, batchCallAllocations}} {
		t.Run(fmt.Sprintf("records=%d", c.records), func(t *testing.T) {
			list := make([]troupe.Message, c.records)
			for i := range list {
				list[i].Value = make([]byte, 100)
			}
			send := func() {
				if _, err := p.Send(ctx, troupe.Send{Topic: "t", Messages: list}); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				send()
			}
			n := testing.AllocsPerRun(200, send)
			if n > float64(c.most) {
				t.Errorf("%v allocations, want at most %d", n, c.most)
			} else {
				t.Logf("%v allocations", n)
			}
		})
	}
}

// TestAllocationsOfActorsRecords counts what a record costs that comes as a
// message and is answered by one.
func TestAllocationsOfActorsRecords(t *testing.T) {
	p := nullProducer(t)
	value := make([]byte, 100)
	failed := make(chan error, 1)
	told := make(chan struct{})
	const each = 1000
	left := 0
	pid := p.System().Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *sendMany:
			for left = each; m.n > 0; m.n-- {
				c.Request(p.PID(), &messages.Produce{Record: troupe.Record{Topic: "t", Value: value}})
			}
		case *messages.Delivered:
			if m.Delivery.Err != nil {
				select {
				case failed <- m.Delivery.Err:
				default:
				}
			}
			if left--; left == 0 {
				told <- struct{}{}
			}
		}
	}))
	defer p.System().Root.Stop(pid)
	round := func() {
		p.System().Root.Send(pid, &sendMany{n: each})
		<-told
	}
	for range 5 {
		round()
	}
	n := testing.AllocsPerRun(20, round) / each
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if n > actorRecordAllocations {
		t.Errorf("%.2f allocations per record, want at most %v", n, actorRecordAllocations)
	} else {
		t.Logf("%.2f allocations per record", n)
	}
}

type sendMany struct{ n int }
