package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
)

// client is an actor that produces and notes what it hears.
type client struct {
	producer *actor.PID
	mu       sync.Mutex
	heard    []any
}

func (a *client) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *messages.Produce:
		c.Request(a.producer, m)
	case *actor.PID:
		c.Watch(m)
	case *messages.Delivered, *messages.Writable, *actor.Terminated:
		a.mu.Lock()
		a.heard = append(a.heard, m)
		a.mu.Unlock()
	}
}

// wait returns the first n messages of type M.
func wait[M any](t *testing.T, a *client, n int) []M {
	t.Helper()
	var found []M
	eventually(t, fmt.Sprintf("%d messages of type %T", n, *new(M)), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		found = found[:0]
		for _, m := range a.heard {
			if m, ok := m.(M); ok {
				found = append(found, m)
			}
		}
		return len(found) >= n
	})
	return found
}

func silentLog(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }

func newSystem(t *testing.T) *actor.ActorSystem {
	t.Helper()
	system := actor.NewActorSystem(actor.WithLoggerFactory(silentLog))
	t.Cleanup(system.Shutdown)
	return system
}

// join starts a client beside a producer in one system.
func join(t *testing.T, system *actor.ActorSystem, p *troupe.Producer) (*client, *actor.PID) {
	t.Helper()
	a := &client{producer: p.PID()}
	pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }))
	return a, pid
}

func newProducerIn(t *testing.T, system *actor.ActorSystem, addresses []string, options ...troupe.Option) *troupe.Producer {
	t.Helper()
	p, err := troupe.NewIn(system, append([]troupe.Option{troupe.WithBrokers(addresses...), quietly(&syncBuffer{})}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestActors(t *testing.T) {
	t.Parallel()

	t.Run("actor: Produce is answered with Delivered, and the record may be reused at once", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		a, pid := join(t, p.System(), p)
		value := []byte("0000")
		for i := range 100 {
			copy(value, fmt.Sprintf("%04d", i))
			// Requested here and not by the actor: the copy is made on this goroutine.
			p.System().Root.RequestWithCustomSender(p.PID(), &messages.Produce{Record: troupe.Record{Topic: "t", Value: value, Tag: uint64(i), Opaque: i}}, pid)
			clear(value)
		}
		for i, m := range wait[*messages.Delivered](t, a, 100) {
			if d := m.Delivery; d.Err != nil || d.Offset != int64(i) || d.Tag != uint64(i) || d.Opaque != i {
				t.Fatalf("answer %d: %+v", i, d)
			}
		}
		for i, r := range consumeAll(t, cluster, "t", 100) {
			if string(r.Value) != fmt.Sprintf("%04d", i) {
				t.Fatalf("offset %d holds %s", i, r.Value)
			}
		}
	})

	t.Run("actor: sent by an actor, with ReplyTo, and without anybody to answer", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		a, pid := join(t, p.System(), p)
		b, other := join(t, p.System(), p)
		p.System().Root.Send(pid, &messages.Produce{Record: to("t", 0, "requested")})
		wait[*messages.Delivered](t, a, 1)
		p.System().Root.Send(pid, &messages.Produce{Record: to("t", 0, "reply to another"), ReplyTo: other})
		wait[*messages.Delivered](t, b, 1)
		p.System().Root.Send(p.PID(), &messages.Produce{Record: to("t", 0, "nobody listens")})
		if err := p.Flush(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		expect(t, values(consumeAll(t, cluster, "t", 3)), []string{"requested", "reply to another", "nobody listens"})
	})

	t.Run("actor: what cannot be admitted is answered, too", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster)
		a, pid := join(t, p.System(), p)
		ended, cancel := contextWithCancel(t)
		cancel()
		for _, m := range []*messages.Produce{
			{Record: troupe.Record{Topic: "", Tag: 1}}, {Record: troupe.Record{Topic: "t", Tag: 2, Partition: troupe.AtPartition(-1)}},
			{Record: troupe.Record{Topic: "t", Tag: 3, Value: make([]byte, 2*mib)}}, {Record: troupe.Record{Topic: "t", Tag: 4}, Context: ended},
		} {
			p.System().Root.Send(pid, m)
		}
		wants := []error{troupe.ErrInvalidRecord, troupe.ErrInvalidRecord, troupe.ErrRecordTooLarge, context.Canceled}
		for i, m := range wait[*messages.Delivered](t, a, 4) {
			if d := m.Delivery; d.Tag != uint64(i+1) || !errors.Is(d.Err, wants[i]) || d.Status != troupe.NotPersisted || d.Offset != -1 {
				t.Errorf("answer %d: %+v", i, d)
			}
		}
	})

	t.Run("actor: over the budget the answer is ErrBufferFull, and Writable follows", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, smallBuffer()...)
		warm(t, p, "t", 0)
		release := w.hold(t, anyRequest)
		a, pid := join(t, p.System(), p)
		value := strings.Repeat("x", 60_000)
		const n = 20
		for range n {
			p.System().Root.Send(pid, &messages.Produce{Record: to("t", 0, value)})
		}
		refused := wait[*messages.Delivered](t, a, 1)[0]
		if !errors.Is(refused.Delivery.Err, troupe.ErrBufferFull) {
			t.Fatal(refused.Delivery.Err)
		}
		release()
		wait[*messages.Writable](t, a, 1)
		persisted := 0
		for _, m := range wait[*messages.Delivered](t, a, n) {
			if m.Delivery.Err == nil {
				persisted++
			} else if !errors.Is(m.Delivery.Err, troupe.ErrBufferFull) {
				t.Error(m.Delivery.Err)
			}
		}
		if persisted == 0 || persisted == n {
			t.Errorf("%d of %d persisted", persisted, n)
		}
		p.System().Root.Send(pid, &messages.Produce{Record: to("t", 0, "after")})
		if m := wait[*messages.Delivered](t, a, n+1)[n]; m.Delivery.Err != nil {
			t.Error(m.Delivery.Err)
		}
	})

	t.Run("actor: a context ends the wait of its record", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		p := newProducer(t, cluster, troupe.WithLinger(long))
		a, pid := join(t, p.System(), p)
		ctx, cancel := contextWithCancel(t)
		p.System().Root.Send(pid, &messages.Produce{Record: to("t", 0, "v"), Context: ctx})
		eventually(t, "admission", func() bool { return p.Unanswered() == 1 })
		cancel()
		if d := wait[*messages.Delivered](t, a, 1)[0].Delivery; !errors.Is(d.Err, context.Canceled) || d.Status != troupe.NotPersisted {
			t.Errorf("%+v", d)
		}
	})
}

func TestNewIn(t *testing.T) {
	t.Parallel()

	t.Run("actor: two producers live in one system, and one may end before the other", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		system := newSystem(t)
		first := newProducerIn(t, system, cluster.ListenAddrs(), troupe.WithName("first"))
		second := newProducerIn(t, system, cluster.ListenAddrs(), troupe.WithName("second"))
		if _, err := troupe.NewIn(system, troupe.WithBrokers(cluster.ListenAddrs()...), troupe.WithName("second")); !errors.Is(err, actor.ErrNameExists) {
			t.Errorf("a name that is taken: %v", err)
		}
		warm(t, first, "t", 0)
		warm(t, second, "t", 0)
		if err := closing(t, first, patience); err != nil {
			t.Error(err)
		}
		warm(t, second, "t", 0)
		if err := closing(t, second, patience); err != nil {
			t.Error(err)
		}
		// The system is the caller's and goes on.
		a := &client{}
		pid := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return a }))
		system.Root.Send(pid, &messages.Writable{})
		wait[*messages.Writable](t, a, 1)
	})

	for name, stop := range map[string]func(*actor.RootContext, *actor.PID){
		"Stop": (*actor.RootContext).Stop, "Poison": (*actor.RootContext).Poison,
	} {
		t.Run("actor: "+name+" of the PID drains, is seen by watchers, and then all is refused", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			system := newSystem(t)
			p := newProducerIn(t, system, cluster.ListenAddrs(), troupe.WithLinger(long))
			a, pid := join(t, system, p)
			system.Root.Send(pid, p.PID())
			warm(t, p, "t", 0)
			for i := range 50 {
				system.Root.RequestWithCustomSender(p.PID(), &messages.Produce{Record: to("t", 0, fmt.Sprint(i))}, pid)
			}
			stop(system.Root, p.PID())
			for i, m := range wait[*messages.Delivered](t, a, 50) {
				if m.Delivery.Err != nil || m.Delivery.Offset != int64(i+1) {
					t.Fatalf("record %d: %+v", i, m.Delivery)
				}
			}
			if who := wait[*actor.Terminated](t, a, 1)[0].Who; !who.Equal(p.PID()) {
				t.Errorf("%v terminated", who)
			}
			if err := p.Produce(within(t, patience), to("t", 0, "late"), nil); !errors.Is(err, troupe.ErrClosed) {
				t.Error(err)
			}
			system.Root.RequestWithCustomSender(p.PID(), &messages.Produce{Record: to("t", 0, "late")}, pid)
			if d := wait[*messages.Delivered](t, a, 51)[50].Delivery; !errors.Is(d.Err, troupe.ErrClosed) {
				t.Errorf("%+v", d)
			}
			if err := closing(t, p, patience); err != nil {
				t.Errorf("Close after the stop: %v", err)
			}
			if n := cluster.PartitionInfo("t", 0).HighWatermark; n != 51 {
				t.Errorf("%d records in the log", n)
			}
		})
	}

	t.Run("actor: after Close a PID that was never used before is answered, and the name stays taken", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		system := newSystem(t)
		p := newProducerIn(t, system, cluster.ListenAddrs(), troupe.WithName("once"))
		a, pid := join(t, system, p)
		warm(t, p, "t", 0)
		if err := closing(t, p, patience); err != nil {
			t.Fatal(err)
		}
		fresh := actor.NewPID(p.PID().Address, p.PID().Id)
		system.Root.RequestWithCustomSender(fresh, &messages.Produce{Record: troupe.Record{Topic: "t", Tag: 7, Opaque: "o"}}, pid)
		system.Root.Send(fresh, &messages.Produce{Record: to("new", 3, "v"), ReplyTo: pid})
		for i, m := range wait[*messages.Delivered](t, a, 2) {
			d, want := m.Delivery, []troupe.Delivery{{Topic: "t", Partition: -1, Tag: 7, Opaque: "o"}, {Topic: "new", Partition: 3}}[i]
			if !errors.Is(d.Err, troupe.ErrClosed) || d.Status != troupe.NotPersisted || d.Topic != want.Topic || d.Partition != want.Partition || d.Tag != want.Tag || d.Opaque != want.Opaque {
				t.Errorf("answer %d: %+v", i, d)
			}
		}
		// A request of another kind is not left without an answer either.
		answer, err := system.Root.RequestFuture(actor.NewPID(fresh.Address, fresh.Id), &messages.CloseNow{}, patience).Result()
		if d, ok := answer.(*messages.Delivered); err != nil || !ok || !errors.Is(d.Delivery.Err, troupe.ErrClosed) {
			t.Errorf("%v, %v", answer, err)
		}
		system.Root.Stop(fresh)
		system.Root.Poison(fresh)
		if _, err := troupe.NewIn(system, troupe.WithBrokers(cluster.ListenAddrs()...), troupe.WithName("once")); !errors.Is(err, actor.ErrNameExists) {
			t.Errorf("a name that was used: %v", err)
		}
		if _, ok := system.ProcessRegistry.GetLocal("troupe/once"); ok {
			t.Error("the producer that was refused has left an actor")
		}
		system.Root.Send(pid, actor.NewPID(fresh.Address, fresh.Id)) // it watches what it is sent
		wait[*actor.Terminated](t, a, 1)
	})

	t.Run("actor: a watcher that comes after the end is told at once, also by a PID that was in use", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		system := newSystem(t)
		p := newProducerIn(t, system, cluster.ListenAddrs())
		a, pid := join(t, system, p)
		system.Root.RequestWithCustomSender(p.PID(), &messages.Produce{Record: to("t", 0, "v")}, pid)
		wait[*messages.Delivered](t, a, 1)
		if err := closing(t, p, patience); err != nil {
			t.Fatal(err)
		}
		system.Root.Send(pid, p.PID())
		if who := wait[*actor.Terminated](t, a, 1)[0].Who; !who.Equal(p.PID()) {
			t.Errorf("%v terminated", who)
		}
	})
}
