package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
)

// shorter and longer are deadlines of calls, in virtual time.
const (
	shorter = 100 * time.Millisecond
	longer  = time.Minute
	// closeSlack is what Close may take beyond its context: the second for a
	// callback that does not return, and some turns.
	closeSlack = 1500 * time.Millisecond
)

// quiet starts a producer in a world where nothing goes wrong by itself.
func quiet(t *testing.T, system *actor.ActorSystem, seed uint64) *world {
	t.Helper()
	w := &world{config: Config{Seed: seed}, name: fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), seed), system: system}
	w.scheduler = newScheduler(w.stream(1))
	w.clock = w.scheduler.clock
	w.trace = &Trace{clock: w.clock, prefix: "troupe/" + w.name, hash: fnvOffset}
	w.faults = newFaults(w.stream(3), w.clock, 0)
	w.cluster = newCluster(w.scheduler, w.faults, w.trace)
	w.cluster.wrong = w.violation
	w.network = &Network{scheduler: w.scheduler, faults: w.faults, cluster: w.cluster, trace: w.trace, wrong: w.violation}
	w.cluster.cut = w.network.cutAll
	w.start(w.stream(2))
	return w
}

// calls are callers of the blocking API, each a coroutine.
type calls struct {
	*world
	t       *testing.T
	pending int
	answers map[uint64]messages.Delivery
}

func (c *calls) within(d time.Duration) context.Context {
	ctx, _ := c.clock.WithTimeout(context.Background(), d)
	return ctx
}

// call runs fn as a coroutine.
func (c *calls) call(fn func()) {
	c.pending++
	c.scheduler.spawn(func() {
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
	began := c.clock.now
	err := c.producer.Close(c.within(deadline))
	if took := c.clock.now.Sub(began); took > deadline+closeSlack {
		c.t.Errorf("Close with %v took %v", deadline, took)
	}
	return err
}

// finish runs everything to its end and checks that nothing is left.
func (c *calls) finish() {
	c.t.Helper()
	if !c.pass(5*longer, func() bool { return c.pending == 0 }) {
		c.t.Fatalf("%d calls do not return", c.pending)
	}
	c.pass(lastWord+10*time.Second, never)
	for tag, d := range c.answers {
		if d.Topic == "" {
			c.t.Errorf("record %d has no answer", tag)
		}
	}
	if n, b := c.producer.Unanswered(), c.producer.BufferedBytes(); n != 0 || b != 0 {
		c.t.Errorf("%d records and %d bytes are left", n, b)
	}
	for _, v := range c.violations {
		c.t.Error(v)
	}
}

// TestCallersPark has coroutines go through the whole life of a producer. A wait
// that is not at a spot of the parking seam would stop the one goroutine there
// is, and this test with it.
func TestCallersPark(t *testing.T) {
	system := NewSystem()
	defer system.Shutdown()
	run := func(t *testing.T, seed uint64, prepare func(*world), body func(*calls)) {
		t.Helper()
		before := countActors(system)
		c := &calls{world: quiet(t, system, seed), t: t, answers: make(map[uint64]messages.Delivery)}
		prepare(c.world)
		body(c)
		c.finish()
		if left := countActors(system) - before; left != 0 {
			t.Errorf("seed %d: %d actors are left", seed, left)
		}
	}
	// The topic exists from the beginning: the settings' topic.wait.ms may be short.
	known := func(w *world) { w.cluster.topicKnown = true }
	down := func(w *world) {
		for _, b := range w.cluster.brokers {
			b.up = false
		}
	}
	for name, test := range map[string]struct {
		prepare func(*world)
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
					c.scheduler.sleep(shorter)
					began := c.clock.now
					if err := c.close(shorter); !errors.Is(err, context.DeadlineExceeded) {
						c.t.Errorf("the inner Close: %v", err)
					}
					if took := c.clock.now.Sub(began); took > shorter+closeSlack {
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
				c.scheduler.sleep(5 * shorter)
				if err := c.close(shorter); err != nil {
					c.t.Errorf("Close of nothing: %v", err)
				}
			})
		}},
		"the shortest deadline of several closes counts": {down, func(c *calls) {
			c.call(func() {
				c.produce(3, nil)
				for _, d := range []time.Duration{longer, shorter, 2 * longer} {
					c.call(func() {
						began := c.clock.now
						if err := c.close(d); !errors.Is(err, context.DeadlineExceeded) {
							c.t.Errorf("Close with %v: %v", d, err)
						}
						if took := c.clock.now.Sub(began); took > shorter+closeSlack {
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
