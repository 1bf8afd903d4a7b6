//go:build troupe

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
)

// actorWindow is how many records all actors together have under way at the most.
// A message to the producer never waits, so an actor paces itself by what it is
// told.
const actorWindow = 50_000

// actors is Troupe as actors use it: each worker is an actor, which sends
// messages.Produce and receives messages.Delivered.
type actors struct {
	*ours
	workers map[*worker]*actor.PID
	mu      sync.Mutex
}

func newTroupeActor(_ context.Context, s Settings, t *tally) (client, error) {
	o, err := troupeFrom(s, t, troupe.New)
	if err != nil {
		return nil, err
	}
	o.configured = append(o.configured, fmt.Sprintf("records under way per actor = %d", actorWindow/s.Goroutines))
	return &actors{ours: o, workers: map[*worker]*actor.PID{}}, nil
}

// begin tells an actor to send n records and to close done when all are told.
type begin struct {
	n    int
	done chan struct{}
}

// sender is the actor of one worker. What it sends is a message of its own for
// each record: an actor does not know when the producer has read it.
type sender struct {
	producer *actor.PID
	topic    string
	source   *worker
	tally    *tally
	window   int

	left, open int  // to be sent, and not yet told
	refused    bool // until Writable
	done       chan struct{}
}

func (s *sender) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *begin:
		s.left, s.done = m.n, m.done
		s.more(c)
	case *messages.Writable:
		s.refused = false
		s.more(c)
	case *messages.Delivered:
		s.open--
		if errors.Is(m.Delivery.Err, troupe.ErrBufferFull) {
			s.left++ // another one in its place, when there is room
			s.refused = true
			return
		}
		s.tally.done(m.Delivery.Partition, 0, m.Delivery.Err)
		s.more(c)
	}
}

// more sends what the window has room for. It refills in gulps, so that batches
// do not follow the rhythm of single answers.
func (s *sender) more(c actor.Context) {
	if s.left > 0 && (s.refused || s.open > s.window/2) {
		return
	}
	for s.left > 0 && s.open < s.window {
		s.left--
		s.open++
		c.Request(s.producer, &messages.Produce{
			Record: troupe.Record{Topic: s.topic, Key: s.source.keys.next(), Value: s.source.values.next()},
		})
	}
	if s.left == 0 && s.open == 0 && s.done != nil {
		close(s.done)
		s.done = nil
	}
}

// produce returns when all are told.
func (a *actors) produce(_ context.Context, w *worker, n int, at time.Duration) error {
	if at != 0 {
		return errors.New("has no open loop")
	}
	root := a.producer.System().Root
	a.mu.Lock()
	pid := a.workers[w]
	if pid == nil {
		pid = root.Spawn(actor.PropsFromProducer(func() actor.Actor {
			return &sender{producer: a.producer.PID(), topic: a.name, source: w, tally: a.tally, window: actorWindow / a.goroutines}
		}))
		a.workers[w] = pid
	}
	a.mu.Unlock()
	done := make(chan struct{})
	root.Send(pid, &begin{n: n, done: done})
	<-done
	return nil
}
