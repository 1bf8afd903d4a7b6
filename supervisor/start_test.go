package supervisor

import (
	"errors"
	"log/slog"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/actors/router"
	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// neighbours is an actor system of somebody else's, in which producers are started.
type neighbours struct {
	t      *testing.T
	system *actor.ActorSystem
	queue  *seams.RunQueue
}

func newNeighbours(t *testing.T) *neighbours {
	n := &neighbours{t: t, queue: seams.NewRunQueue(), system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))}
	t.Cleanup(func() {
		n.system.Shutdown()
		n.queue.Close()
		n.queue.Wait()
	})
	return n
}

func (n *neighbours) start(parent actor.SpawnerContext, name string, stopped func()) (*Troupe, error) {
	return Start(parent, Config{
		OnStopped: stopped, Partitioner: partitioners.Default(nil),
		Settings: &messages.Settings{
			Name: name, Seeds: []string{"seed"}, BufferBytes: 1 << 20, RequestMaxBytes: 10_000, MaxInFlight: 2, RequestTimeout: 30 * time.Second,
			ConnectionTimeout: 10 * time.Second, ConnectionIdle: 9 * time.Minute, MetadataMaxAge: time.Hour, MetadataIdle: time.Hour, MetadataHedge: time.Hour,
			LeaderPercent: 75, ParkedPercent: 10, ParkedTopicPercent: 25,
			Clock: actortest.NewClock(), Transport: &street{away: true, dials: make(map[string]int)}, Dispatcher: n.queue,
			Executor: seams.NewExecutor(), Parking: seams.NewParking(), Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1), Retry: messages.DefaultRetryPolicy(),
		},
	})
}

func (n *neighbours) until(what string, is func() bool) {
	n.t.Helper()
	for tries := 0; !is(); tries++ {
		if tries > 5000 {
			n.t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// hasty is a parent for whom somebody takes the name of the process, while the
// root is spawned.
type hasty struct {
	*actor.RootContext
	id    string
	taker actor.Process
}

func (h hasty) SpawnNamed(props *actor.Props, name string) (*actor.PID, error) {
	h.ActorSystem().ProcessRegistry.Add(h.taker, h.id)
	return h.RootContext.SpawnNamed(props, name)
}

// TestANameTakenInARace: Start fails, and leaves the caller's system as it was: the
// root ends, its name is free again, and the name's new owner keeps it.
func TestANameTakenInARace(t *testing.T) {
	n := newNeighbours(t)
	const id = "test/router-process"
	other := new(router.Process)
	var stopped atomic.Int32
	if _, err := n.start(hasty{n.system.Root, id, other}, "test", func() { stopped.Add(1) }); !errors.Is(err, actor.ErrNameExists) {
		t.Fatalf("error %v", err)
	}
	n.until("the end of the root", func() bool {
		_, there := n.system.ProcessRegistry.GetLocal("test")
		return !there && stopped.Load() == 1
	})
	if p, _ := n.system.ProcessRegistry.GetLocal(id); p != actor.Process(other) {
		t.Errorf("the name belongs to %T", p)
	}
	if _, err := n.start(n.system.Root, "test", nil); !errors.Is(err, actor.ErrNameExists) {
		t.Errorf("error %v, with the name taken", err)
	}
	n.system.ProcessRegistry.Remove(actor.NewPID(n.system.Address(), id))
	troupe, err := n.start(n.system.Root, "test", nil)
	if err != nil {
		t.Fatalf("the name is free again: %v", err)
	}
	if err := troupe.Stop(nil); err != nil {
		t.Error(err)
	}
	if got := stopped.Load(); got != 1 {
		t.Errorf("told %d times of the end", got)
	}
}

// tombstoneBytes is about what a producer that was closed leaves in the caller's
// system: the process that answers ErrClosed, and its name in the registry.
const tombstoneBytes = 1 << 10

// TestATombstoneIsSmall measures it.
func TestATombstoneIsSmall(t *testing.T) {
	n := newNeighbours(t)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	run := func(from, to int) {
		for i := from; i < to; i++ {
			troupe, err := n.start(n.system.Root, "test-"+strconv.Itoa(i), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := troupe.Stop(nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	const warm, counted = 4000, 4000
	run(0, warm)
	before := heap()
	run(warm, warm+counted)
	each := (heap() - before) / counted
	t.Logf("a closed producer leaves %d bytes", each)
	if each > tombstoneBytes {
		t.Errorf("a closed producer leaves %d bytes, expected at most %d", each, tombstoneBytes)
	}
}
