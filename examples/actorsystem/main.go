// Actorsystem runs a producer inside a caller's own protoactor system. One of
// the caller's actors sends messages.Produce to the producer's PID and receives
// Delivered for each, and Writable after the buffer was full. Twice all
// connections are cut: connection actors fail, their supervisor decides, and
// nothing is lost. In the end the producer is stopped by its PID, which the
// actor watches like any other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/examples/internal/ledger"
	"github.com/troupe-kafka/troupe/examples/internal/proxy"
	"github.com/troupe-kafka/troupe/messages"
)

const topic = "orders"

func main() {
	records := flag.Int("records", 20_000, "how many records the actor sends")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, max(*records, 1)); err != nil {
		fmt.Fprintln(os.Stderr, "actorsystem:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, records int) error {
	network := &proxy.Proxy{}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(6, topic), kfake.ListenFn(network.Listen))
	if err != nil {
		return err
	}
	defer cluster.Close()

	failures := &failureLog{}
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(failures) }))
	producer, err := troupe.NewIn(system, troupe.WithName("shop"), troupe.WithBrokers(cluster.ListenAddrs()...),
		troupe.WithBufferBytes(1<<20), troupe.WithRecordMaxBytes(64<<10), // small, so that it fills up
		troupe.WithLogger(zerolog.New(zerolog.ConsoleWriter{Out: os.Stdout, NoColor: true, PartsExclude: []string{"time"}}).Level(zerolog.WarnLevel)))
	if err != nil {
		return err
	}

	books := ledger.New(records)
	c := &clerk{producer: producer.PID(), books: books, total: records, answered: make(chan struct{}), terminated: make(chan struct{})}
	began := time.Now()
	pid, err := system.Root.SpawnNamed(actor.PropsFromProducer(func() actor.Actor { return c }), "clerk")
	if err != nil {
		return err
	}
	for _, part := range []int{records / 3, 2 * records / 3} {
		for books.Count() < part && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		fmt.Printf("cutting %d connections after %d acknowledgements\n", network.Cut(), books.Count())
	}
	select {
	case <-c.answered:
	case <-ctx.Done():
		return fmt.Errorf("%d of %d records acknowledged, %d unanswered", books.Count(), records, producer.Unanswered())
	}
	took := time.Since(began)
	if err := books.ReadBack(ctx, cluster.ListenAddrs(), nil, topic); err != nil {
		return err
	}

	system.Root.Stop(producer.PID())
	select {
	case <-c.terminated:
	case <-ctx.Done():
		return errors.New("the producer was stopped, and its watcher did not hear of it")
	}
	if err := producer.Close(ctx); err != nil { // the tree is down already: this only waits for it
		return err
	}
	if err := system.Root.StopFuture(pid).Wait(); err != nil {
		return err
	}
	fmt.Printf("%d records in %v; buffer full %d times, writable again %d times; connections failed %d times\n",
		records, took.Round(time.Millisecond), c.full, c.writable, failures.connections.Load())
	if failures.connections.Load() == 0 {
		return errors.New("the connections were cut, and no connection actor failed")
	}
	fmt.Println("ok: every record is in the log once, at the offset it was acknowledged at")
	return nil
}

// clerk is the caller's actor. It never waits: it stops sending when the buffer
// is full and goes on when it is told that there is room.
type clerk struct {
	producer             *actor.PID
	books                *ledger.Ledger
	next, total          int
	refused              []int // to be sent again
	blocked              bool
	full, writable       int
	answered, terminated chan struct{}
}

type goOn struct{}

// Receive implements actor.Actor.
func (k *clerk) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		c.Watch(k.producer)
		c.Send(c.Self(), &goOn{})
	case *goOn:
		k.send(c)
	case *messages.Delivered:
		if errors.Is(m.Delivery.Err, troupe.ErrBufferFull) {
			k.refused = append(k.refused, int(m.Delivery.Tag))
			k.full++
			k.blocked = true
			return
		}
		k.books.Delivered(m.Delivery)
		if k.books.Count() == k.total {
			close(k.answered)
		}
	case *messages.Writable:
		k.writable++
		if k.blocked {
			k.blocked = false
			c.Send(c.Self(), &goOn{})
		}
	case *actor.Terminated:
		close(k.terminated)
	}
}

// send offers a burst to the producer, which answers from its own turns.
func (k *clerk) send(c actor.Context) {
	for range 200 {
		var number int
		switch {
		case k.blocked:
			return
		case len(k.refused) > 0:
			number, k.refused = k.refused[0], k.refused[1:]
		case k.next < k.total:
			number, k.next = k.next, k.next+1
		default:
			return
		}
		c.Request(k.producer, &messages.Produce{Record: troupe.Record{
			Topic: topic, Key: ledger.Value(number % 100), Value: ledger.Value(number), Tag: uint64(number),
			Headers: []troupe.Header{{Key: "payload", Value: make([]byte, 500)}},
		}})
	}
	c.Send(c.Self(), &goOn{})
}

// failureLog is the system's logger: protoactor says so when an actor fails and
// its supervisor has to decide.
type failureLog struct{ connections atomic.Int64 }

func (l *failureLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (l *failureLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *failureLog) WithGroup(string) slog.Handler      { return l }
func (l *failureLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if pid, ok := a.Value.Any().(*actor.PID); ok && a.Key == "self" && strings.Contains(pid.Id, "/connection/") {
			l.connections.Add(1)
			fmt.Printf("supervised: %s failed; its broker restarts or stops it\n", pid.Id)
		}
		return true
	})
	return nil
}
