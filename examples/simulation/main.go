// Simulation runs a small service against a simulated Kafka, with an outage in the
// middle, in virtual time: half a minute takes a few milliseconds, and one seed is
// one run. The service is an actor that takes orders and writes each to two topics
// through Troupe. It gives up on a record early and tries again in its own way.
// Another caller, an ordinary function that waits, sends a report now and then.
//
// What is checked: no order is lost in either topic, an order stands twice only
// if the service was told that it might, Troupe has kept its word about every
// record, and the same seed gives the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/simulation"
)

var (
	seed   = flag.Uint64("seed", 1, "the run to make")
	orders = flag.Int("orders", 300, "how many orders come in")
	events = flag.String("events", "", "a file for every event of the run, as lines of JSON")
)

func main() {
	flag.Parse()
	var trace io.Writer
	if *events != "" {
		f, err := os.Create(*events)
		if err != nil {
			fmt.Fprintln(os.Stderr, "simulation:", err)
			os.Exit(1)
		}
		defer func() { _ = f.Close() }()
		trace = f
	}
	if err := run(os.Stdout, *seed, max(*orders, 1), trace); err != nil {
		fmt.Fprintln(os.Stderr, "simulation:", err)
		os.Exit(1)
	}
}

// run simulates the service twice: what one run proves, the other must repeat.
func run(out io.Writer, seed uint64, orders int, trace io.Writer) error {
	first, err := simulate(seed, orders, trace)
	if err != nil {
		return err
	}
	second, err := simulate(seed, orders, nil)
	if err != nil {
		return err
	}
	first.print(out)
	if first.hash != second.hash {
		return fmt.Errorf("the same seed made two runs: %016x and %016x", first.hash, second.hash)
	}
	if len(first.wrong) > 0 {
		return fmt.Errorf("%d differences:\n  %s", len(first.wrong), strings.Join(first.wrong, "\n  "))
	}
	return nil
}

// outage is what goes wrong: the leader of one partition moves, then the whole
// cluster is away for six seconds, one answer is lost, two never come, and when all
// is well again one broker goes.
var outage = []simulation.Fault{
	{Kind: simulation.LeaderMoves, At: simulation.Duration(3 * time.Second), Target: "orders/1"},
	{Kind: simulation.ClusterDown, At: simulation.Duration(5 * time.Second), For: simulation.Duration(6 * time.Second)},
	{Kind: simulation.CutAfterAppend, Nth: 9},
	{Kind: simulation.BlackHole, Nth: 20, Target: "broker-1"},
	{Kind: simulation.BlackHole, Nth: 60, Pick: 1},
	{Kind: simulation.BrokerDown, At: simulation.Duration(13 * time.Second), Target: "broker-2", For: simulation.Duration(2 * time.Second)},
}

// topics is where each order goes.
var topics = []simulation.Topic{{Name: "orders", Partitions: 4}, {Name: "audit", Partitions: 2}}

// span is the time over which orders come in.
const span = 20 * time.Second

// result is what came of one run.
type result struct {
	seed     uint64
	hash     uint64
	took     time.Duration
	service  *service
	standing map[string]map[int]int // by topic: how often each order stands
	reports  int
	wrong    []string
}

func simulate(seed uint64, orders int, trace io.Writer) (*result, error) {
	w, err := simulation.NewWorld(simulation.Config{Seed: seed, Topics: topics, Faults: outage, Trace: trace})
	if err != nil {
		return nil, err
	}
	producer, err := w.Start("", troupe.WithRequestTimeout(time.Second), troupe.WithDeliveryTimeout(2*time.Second),
		troupe.WithBufferBytes(1<<20), troupe.WithRecordMaxBytes(64<<10))
	if err != nil {
		return nil, err
	}
	r := &result{seed: seed, service: &service{world: w, producer: producer.PID(), open: 2 * orders}}
	pid, err := w.Spawn("service", func() actor.Actor { return r.service })
	if err != nil {
		return nil, err
	}
	for n := range orders {
		w.After(span*time.Duration(n)/time.Duration(orders), func() { w.System().Root.Send(pid, &order{n}) })
	}
	w.Go(func() { r.report(w, producer) })

	done, err := w.Until(5*time.Minute, func() bool { return r.service.open == 0 })
	if err == nil && !done {
		err = fmt.Errorf("after %v, %d records of orders are not acknowledged", w.Now(), r.service.open)
	}
	if err != nil {
		return nil, err
	}
	r.took = w.Now()
	for _, v := range w.Close() {
		r.wrong = append(r.wrong, v.String())
	}
	r.hash = w.Hash()
	r.check(w, orders)
	return r, nil
}

// report is a caller that waits, as code without actors does.
func (r *result) report(w *simulation.World, producer *troupe.Producer) {
	for w.Now() < span {
		w.Sleep(4 * time.Second)
		ctx, cancel := w.WithTimeout(context.Background(), 3*time.Second)
		value := fmt.Sprintf("report/%v", w.Now())
		sent := r.service.write("audit", value)
		meta, err := producer.Send(ctx, troupe.Send{Topic: "audit", Messages: []troupe.Message{{Value: []byte(value)}}})
		cancel()
		d := troupe.Delivery{Topic: "audit", Partition: -1, Offset: -1, Err: err, Status: troupe.Persisted}
		if err == nil {
			d.Partition, d.Offset = meta[0].Partition, meta[0].BaseOffset
			r.reports++
		} else if d.Status = troupe.PossiblyPersisted; onlyNotPersisted(err) {
			d.Status = troupe.NotPersisted
		}
		r.service.settle(sent, &d)
	}
}

// onlyNotPersisted reports whether a Send that failed has certainly left nothing.
func onlyNotPersisted(err error) bool {
	var failed *troupe.DeliveryError
	return errors.As(err, &failed) && failed.Status == troupe.NotPersisted
}

// order is a message to the service.
type order struct{ number int }

// again is what the service sends itself when it is time for another try.
type again struct{ try *try }

// try is one record of one order: the value says which try it is, so that each
// is a record of its own.
type try struct {
	order, number int
	topic         string
	write         int // in service.history
}

// service writes each order to both topics, until both have acknowledged it.
type service struct {
	world    *simulation.World
	producer *actor.PID
	open     int // records of orders that are not acknowledged
	failed   int
	doubtful map[string]bool // "topic/order": a try may be in the log though it failed
	history  []simulation.Write
}

// retryAfter is the service's own way of trying again.
const retryAfter = 300 * time.Millisecond

// Receive implements actor.Actor.
func (s *service) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *order:
		for _, t := range topics {
			s.send(c, &try{order: m.number, topic: t.Name})
		}
	case *again:
		m.try.number++
		s.send(c, m.try)
	case *messages.Delivered:
		s.delivered(c, &m.Delivery)
	}
}

func (s *service) send(c actor.Context, t *try) {
	value := fmt.Sprintf("%s/%d/%d", t.topic, t.order, t.number)
	t.write = s.write(t.topic, value)
	c.Request(s.producer, &messages.Produce{Record: troupe.Record{
		Topic: t.topic, Key: fmt.Appendf(nil, "customer-%d", t.order%17), Value: []byte(value), Opaque: t,
	}})
}

func (s *service) delivered(c actor.Context, d *troupe.Delivery) {
	t := d.Opaque.(*try)
	s.settle(t.write, d)
	if d.Err == nil {
		s.open--
		return
	}
	s.failed++
	if d.Status == troupe.PossiblyPersisted {
		if s.doubtful == nil {
			s.doubtful = make(map[string]bool)
		}
		s.doubtful[fmt.Sprintf("%s/%d", t.topic, t.order)] = true
	}
	self, system := c.Self(), c.ActorSystem()
	s.world.After(retryAfter, func() { system.Root.Send(self, &again{t}) })
}

// write notes a record that is produced now.
func (s *service) write(topic, value string) int {
	n := len(s.history)
	s.history = append(s.history, simulation.Write{
		ID: uint64(n), Value: value, Topic: topic, Asked: -1, Line: n, Order: n + 1, Admitted: s.world.Now(),
	})
	return n
}

// settle notes what became of it.
func (s *service) settle(n int, d *troupe.Delivery) {
	w := &s.history[n]
	w.Answers++
	w.Answered, w.AnswerFor, w.Partition, w.Offset = s.world.Now(), d.Topic, d.Partition, d.Offset
	w.Outcome = [...]simulation.Outcome{troupe.NotPersisted: simulation.Fail, troupe.PossiblyPersisted: simulation.Unknown, troupe.Persisted: simulation.OK}[d.Status]
	if d.Err != nil {
		w.Error = d.Err.Error()
	}
}

// check reads everything back: first what Troupe has promised about each record,
// then what the service has promised about each order.
func (r *result) check(w *simulation.World, orders int) {
	for _, v := range simulation.Check(&simulation.History{Writes: r.service.history, Logs: w.Logs(), Attempts: w.Attempts(), Numbered: true}) {
		r.wrong = append(r.wrong, v.String())
	}
	r.standing = make(map[string]map[int]int)
	for _, t := range topics {
		stands := make(map[int]int)
		for p := range t.Partitions {
			for _, e := range w.Entries(t.Name, int32(p)) {
				var n, number int
				if _, err := fmt.Sscanf(string(e.Value), t.Name+"/%d/%d", &n, &number); err == nil {
					stands[n]++
				}
			}
		}
		r.standing[t.Name] = stands
		r.wrong = append(r.wrong, differences(t.Name, stands, r.service.doubtful, orders)...)
	}
}

// differences is what is not as the service has promised it: each order once, or
// more often only if a try of it was in doubt.
func differences(topic string, stands map[int]int, doubtful map[string]bool, orders int) (wrong []string) {
	for n := range orders {
		switch times := stands[n]; {
		case times == 0:
			wrong = append(wrong, fmt.Sprintf("order %d is lost in %s", n, topic))
		case times > 1 && !doubtful[fmt.Sprintf("%s/%d", topic, n)]:
			wrong = append(wrong, fmt.Sprintf("order %d stands %d times in %s, and nobody was told", n, times, topic))
		}
	}
	return wrong
}

func (r *result) print(out io.Writer) {
	fmt.Fprintf(out, "%-8s %8s %8s %8s\n", "topic", "orders", "records", "twice")
	for _, t := range topics {
		records, twice := 0, 0
		for _, n := range r.standing[t.Name] {
			records += n
			if n > 1 {
				twice++
			}
		}
		fmt.Fprintf(out, "%-8s %8d %8d %8d\n", t.Name, len(r.standing[t.Name]), records, twice)
	}
	fmt.Fprintf(out, "%d tries failed and were made again, %d of them in doubt; %d reports; %v of virtual time\n",
		r.service.failed, len(r.service.doubtful), r.reports, r.took.Round(time.Millisecond))
	fmt.Fprintf(out, "seed %d, hash %016x\n", r.seed, r.hash)
}
