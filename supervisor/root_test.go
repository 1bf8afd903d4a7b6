package supervisor

import (
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// TestDeadBrokerThatLeadsIsKept: a broker that is gone from the list stays while
// it leads something, as what is in flight to it may yet be answered.
func TestDeadBrokerThatLeadsIsKept(t *testing.T) {
	queue := seams.NewRunQueue()
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	clock := actortest.NewClock()
	troupe, err := Start(system.Root, Config{
		Partitioner: partitioners.Default(nil),
		Settings: &messages.Settings{
			Name: "test", Seeds: []string{"seed"}, BufferBytes: 1 << 20, RequestMaxBytes: 10_000, MaxInFlight: 2, RequestTimeout: 30 * time.Second,
			ConnectionTimeout: 10 * time.Second, MetadataHedge: 2 * time.Second, ConnectionIdle: 9 * time.Minute, MetadataMaxAge: time.Hour, MetadataIdle: time.Hour, LeaderPercent: 75, ParkedPercent: 10, ParkedTopicPercent: 25,
			Clock: clock, Transport: &street{away: true, dials: make(map[string]int)}, Dispatcher: queue, Executor: seams.NewExecutor(), Parking: seams.NewParking(),
			Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1), Retry: messages.DefaultRetryPolicy(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := troupe.Stop(nil); err != nil {
			t.Error(err)
		}
		system.Shutdown()
		queue.Close()
		queue.Wait()
	})
	exists := func(name string) bool {
		_, there := system.ProcessRegistry.GetLocal("test/broker/" + name)
		return there
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for tries := 0; !is(); tries++ {
			if tries > 5000 {
				t.Fatalf("not within 5 s: %s", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	// found publishes a view and waits for the last of its brokers, which is new.
	found := func(leader int32, last string, ids ...int32) {
		t.Helper()
		partition := messages.PartitionInfo{Partition: partitioners.Partition{ID: 0, Leader: leader}, LeaderEpoch: 1}
		view := &messages.ClusterView{Topics: []messages.TopicInfo{{Name: "t", Partitions: []messages.PartitionInfo{partition}}}}
		for _, id := range ids {
			view.Brokers = append(view.Brokers, messages.BrokerInfo{ID: id, Address: "somewhere"})
		}
		system.Root.Send(troupe.root, &messages.ClusterChanged{View: view})
		until("broker "+last, func() bool { return exists(last) })
	}
	found(2, "2", 1, 2)
	found(2, "3", 1, 3) // it is away, and leads
	found(2, "4", 1, 2, 3, 4)
	if exists("2.2") {
		t.Error("the leader that was not listed was stopped, and another took its place")
	}
	found(1, "5", 1, 3, 4, 5)
	until("the end of who leads nothing", func() bool { return !exists("2") })
}
