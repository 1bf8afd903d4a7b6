package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/simulation"
)

// shorter and longer are deadlines of calls, in virtual time.
const (
	topicName = "orders"
	shorter   = 100 * time.Millisecond
	longer    = time.Minute
	// closeSlack is what Close may take beyond its context: the second for a
	// callback that does not return, and some turns.
	closeSlack = 1500 * time.Millisecond
)

// calls are callers of the blocking API, each a coroutine, in a world where
// nothing goes wrong by itself.
type calls struct {
	*simulation.World
	t        *testing.T
	producer *troupe.Producer
	pending  int
	answers  map[uint64]messages.Delivery
}

func (c *calls) within(d time.Duration) context.Context {
	ctx, _ := c.WithTimeout(context.Background(), d)
	return ctx
}

// call runs fn as a coroutine.
func (c *calls) call(fn func()) {
	c.pending++
	c.Go(func() {
		fn()
		c.pending--
	})
}

// produce admits records of one partition, and notes their one answer each.
func (c *calls) produce(n int, then func(messages.Delivery)) {
	for range n {
		tag := uint64(len(c.answers) + 1)
		c.answers[tag] = messages.Delivery{}
		r := messages.Record{Topic: topicName, Value: []byte("v"), Partition: messages.AtPartition(0), Tag: tag}
		err := c.producer.Produce(c.within(longer), r, func(d messages.Delivery) {
			if c.answers[d.Tag].Topic != "" {
				c.t.Errorf("record %d is answered twice", d.Tag)
			}
			c.answers[d.Tag] = d
			if then != nil {
				then(d)
			}
		})
		if err != nil {
			c.t.Errorf("record %d: %v", tag, err)
		}
	}
}

// close calls Close and checks that it ends in time.
func (c *calls) close(deadline time.Duration) error {
	began := c.Now()
	err := c.producer.Close(c.within(deadline))
	if took := c.Now() - began; took > deadline+closeSlack {
		c.t.Errorf("Close with %v took %v", deadline, took)
	}
	return err
}

// finish runs everything to its end and checks that nothing is left.
func (c *calls) finish() {
	c.t.Helper()
	if done, err := c.Until(5*longer, func() bool { return c.pending == 0 }); !done {
		c.t.Fatalf("%d calls do not return: %v", c.pending, err)
	}
	for _, v := range c.Close() {
		c.t.Error(v)
	}
	for tag, d := range c.answers {
		if d.Topic == "" {
			c.t.Errorf("record %d has no answer", tag)
		}
	}
	if n, b := c.producer.Unanswered(), c.producer.BufferedBytes(); n != 0 || b != 0 {
		c.t.Errorf("%d records and %d bytes are left", n, b)
	}
}

// TestCallersPark has coroutines go through the whole life of a producer. A wait
// that is not at a spot of the parking seam would stop the one goroutine there
// is, and this test with it.
func TestCallersPark(t *testing.T) {
	system := simulation.NewSystem()
	defer system.Shutdown()
	run := func(t *testing.T, seed uint64, faults []simulation.Fault, body func(*calls)) {
		t.Helper()
		w, err := simulation.NewWorld(simulation.Config{
			Seed: seed, System: system, Topics: []simulation.Topic{{Name: topicName, Partitions: 6}}, Faults: faults,
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Start("")
		if err != nil {
			t.Fatal(err)
		}
		c := &calls{World: w, t: t, producer: p, answers: make(map[uint64]messages.Delivery)}
		body(c)
		c.finish()
	}
	var known []simulation.Fault
	down := []simulation.Fault{{Kind: simulation.ClusterDown, For: simulation.Duration(time.Hour)}}
	for name, test := range map[string]struct {
		prepare []simulation.Fault
		body    func(*calls)
	}{
		"connect, produce, flush, send, close": {known, func(c *calls) {
			c.call(func() {
				if err := c.producer.Connect(c.within(longer)); err != nil {
					c.t.Errorf("Connect: %v", err)
				}
				c.produce(10, nil)
				if err := c.producer.Flush(c.within(longer)); err != nil {
					c.t.Errorf("Flush: %v", err)
				}
				for tag, d := range c.answers {
					if d.Status != messages.Persisted {
						c.t.Errorf("after Flush, record %d: %v", tag, d.Err)
					}
				}
				sent, err := c.producer.Send(c.within(longer), troupe.Send{Topic: topicName, Messages: []troupe.Message{{Value: []byte("s")}}})
				if err != nil || len(sent) != 1 {
					c.t.Errorf("Send: %v, %v", sent, err)
				}
				if err := c.close(longer); err != nil {
					c.t.Errorf("Close: %v", err)
				}
				if err := c.producer.Connect(c.within(longer)); !errors.Is(err, messages.ErrClosed) {
					c.t.Errorf("Connect after Close: %v", err)
				}
				if err := c.close(0); err != nil {
					c.t.Errorf("a second Close: %v", err)
				}
			})
		}},
		"close inside a callback": {known, func(c *calls) {
			closed := false
			c.call(func() {
				c.produce(20, func(messages.Delivery) {
					if closed {
						return
					}
					closed = true
					c.pending++
					if err := c.close(shorter); !errors.Is(err, context.DeadlineExceeded) {
						c.t.Errorf("Close inside a callback: %v", err)
					}
					c.pending--
				})
			})
		}},
		"close inside a callback while another call closes": {known, func(c *calls) {
			inside := false
			c.call(func() {
				c.produce(5, func(messages.Delivery) {
					if inside {
						return
					}
					inside = true
					c.call(func() {
						if err := c.close(longer); !errors.Is(err, context.DeadlineExceeded) {
							c.t.Errorf("the outer Close: %v", err)
						}
					})
					c.Sleep(shorter)
					began := c.Now()
					if err := c.close(shorter); !errors.Is(err, context.DeadlineExceeded) {
						c.t.Errorf("the inner Close: %v", err)
					}
					if took := c.Now() - began; took > shorter+closeSlack {
						c.t.Errorf("the inner Close took %v", took)
					}
				})
			})
		}},
		"connect with the cluster down, ended by its context and by Close": {down, func(c *calls) {
			c.call(func() {
				if err := c.producer.Connect(c.within(shorter)); !errors.Is(err, context.DeadlineExceeded) {
					c.t.Errorf("Connect: %v", err)
				}
			})
			for range 3 {
				c.call(func() {
					if err := c.producer.Connect(c.within(longer)); !errors.Is(err, messages.ErrClosed) {
						c.t.Errorf("Connect: %v", err)
					}
				})
			}
			c.call(func() {
				c.Sleep(5 * shorter)
				if err := c.close(shorter); err != nil {
					c.t.Errorf("Close of nothing: %v", err)
				}
			})
		}},
		"a callback that does not return holds up no other close": {known, func(c *calls) {
			c.call(func() {
				c.produce(1, func(messages.Delivery) { c.Sleep(30 * shorter) })
				c.Sleep(shorter)
				for _, d := range []time.Duration{longer, shorter, 2 * longer} {
					c.call(func() {
						began := c.Now()
						if err := c.close(d); !errors.Is(err, context.DeadlineExceeded) {
							c.t.Errorf("Close with %v: %v", d, err)
						}
						if took := c.Now() - began; took > shorter+closeSlack {
							c.t.Errorf("Close with %v took %v", d, took)
						}
					})
				}
			})
		}},
		"the shortest deadline of several closes counts": {down, func(c *calls) {
			c.call(func() {
				c.produce(3, nil)
				for _, d := range []time.Duration{longer, shorter, 2 * longer} {
					c.call(func() {
						began := c.Now()
						if err := c.close(d); !errors.Is(err, context.DeadlineExceeded) {
							c.t.Errorf("Close with %v: %v", d, err)
						}
						if took := c.Now() - began; took > shorter+closeSlack {
							c.t.Errorf("Close with %v took %v", d, took)
						}
						for tag, answer := range c.answers {
							if !errors.Is(answer.Err, messages.ErrClosed) || answer.Status != messages.NotPersisted {
								c.t.Errorf("record %d: %v, %v", tag, answer.Status, answer.Err)
							}
						}
					})
				}
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 30; seed++ {
				run(t, seed, test.prepare, test.body)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}
