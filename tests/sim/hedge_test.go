package sim

import (
	"context"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/simulation"
)

// unhedged is what a producer without hedges does: nobody is silent for so long.
var unhedged = troupe.WithMetadataHedge(time.Hour)

// silentSeeds are worlds enough for the silent broker to be the one that is asked
// in some of them.
const silentSeeds = 20

// silent is a broker that takes connections and requests, and answers nothing
// from its nth request on.
func silent(from int) []simulation.Fault { return silentBroker("broker-1", from) }

func silentBroker(name string, from int) (faults []simulation.Fault) {
	for n := range 200 {
		faults = append(faults, simulation.Fault{
			Kind: simulation.SlowAnswer, Target: name, Nth: from + n, For: simulation.Duration(24 * time.Hour),
		})
	}
	return faults
}

// slowest runs worlds of three brokers, one of them silent, and returns how long
// the slowest took from began to the first outcome after it. Records go to one
// partition, 0 to 2, which broker 1 to 3 leads, every ten milliseconds.
func slowest(t *testing.T, partition int32, began time.Duration, faults []simulation.Fault, options ...troupe.Option) (longest time.Duration) {
	t.Helper()
	for seed := range uint64(silentSeeds) {
		w, err := simulation.NewWorld(simulation.Config{Seed: seed, Topics: []simulation.Topic{{Name: topicName, Partitions: 3}}, Faults: faults})
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Start("", options...)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Duration(-1)
		w.Go(func() {
			record := messages.Record{Topic: topicName, Value: []byte("v"), Partition: messages.AtPartition(partition)}
			for took < 0 {
				err := p.Produce(context.Background(), record, func(d messages.Delivery) {
					if d.Err != nil {
						t.Errorf("seed %d: %v", seed, d.Err)
					}
					if now := w.Now(); now > began && took < 0 {
						took = now - began
					}
				})
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				w.Sleep(10 * time.Millisecond)
			}
		})
		if done, err := w.Until(2*time.Minute, func() bool { return took >= 0 }); err != nil || !done {
			t.Fatalf("seed %d: no outcome in two minutes: %v", seed, err)
		}
		longest = max(longest, took)
		for _, v := range w.Close() {
			t.Errorf("seed %d: %v", seed, v)
		}
	}
	return longest
}

// TestASilentBootstrapAddress costs the first record of the others' partitions the
// time of a hedge. Without it, it costs the time to set up a connection, not that
// of a request.
func TestASilentBootstrapAddress(t *testing.T) {
	hedge, none := slowest(t, 1, 0, silent(1)), slowest(t, 1, 0, silent(1), unhedged)
	t.Logf("the first acknowledgement takes up to %v, without hedges %v", hedge, none)
	if slack := 200 * time.Millisecond; hedge > troupe.DefaultMetadataHedge+slack || none > troupe.DefaultConnectionTimeout+slack {
		t.Errorf("it takes %v, and without hedges %v", hedge, none)
	}
	if none < troupe.DefaultConnectionTimeout {
		t.Errorf("%v without hedges: the silent broker is not asked in any of these worlds", none)
	}
}

// TestTwoSilentBrokers of three: whoever meets both waits for a hedge and for one of
// twice the time, and not for a request to time out.
func TestTwoSilentBrokers(t *testing.T) {
	const began = time.Second
	faults := append(silentBroker("broker-1", 50), silentBroker("broker-2", 4)...)
	faults = append(faults, simulation.Fault{Kind: simulation.LeaderMoves, At: simulation.Duration(began), Target: topicName + "/0", Pick: 2 << 8})
	hedge, none := slowest(t, 0, began, faults), slowest(t, 0, began, faults, unhedged)
	t.Logf("the partition goes on after %v, without hedges %v", hedge, none)
	if hedge > troupe.DefaultSlowRequest+3*troupe.DefaultMetadataHedge {
		t.Errorf("it takes %v", hedge)
	}
	if none < troupe.DefaultRequestTimeout-began {
		t.Errorf("%v without hedges: a silent broker is not asked in any of these worlds", none)
	}
}

// TestALeaderFallsSilent: its partition goes on when a record has been open for
// slow.request.ms, and metadata for a hedge. Without it, a refresh that asks that
// very broker takes the request timeout, and all the while nobody hears that
// another leads.
func TestALeaderFallsSilent(t *testing.T) {
	const began = time.Second // the fiftieth request is half a second old
	faults := append(silent(50), simulation.Fault{Kind: simulation.LeaderMoves, At: simulation.Duration(began), Target: topicName + "/0"})
	hedge, none := slowest(t, 0, began, faults), slowest(t, 0, began, faults, unhedged)
	t.Logf("the partition goes on after %v, without hedges %v", hedge, none)
	if hedge > troupe.DefaultSlowRequest+troupe.DefaultMetadataHedge {
		t.Errorf("it takes %v", hedge)
	}
	if none < troupe.DefaultRequestTimeout-began {
		t.Errorf("%v without hedges: the silent broker is not asked in any of these worlds", none)
	}
}
