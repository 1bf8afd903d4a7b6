package sim

import (
	"math/rand/v2"
	"time"

	"github.com/troupe-kafka/troupe/seams"
)

// Fault is one kind of what can go wrong.
type Fault int

// The kinds of faults. Each seed has about half of them, at rates of its own: a
// fault that is always there hides what happens without it.
const (
	CutBeforeAppend   Fault = iota // the connection ends before the request is served
	CutAfterAppend                 // the request is served, its answer is lost
	CutAnyTime                     // all connections to a broker end
	WriteFails                     // a write ends half-way
	SlowWrite                      // the socket takes its time
	SlowAnswer                     // the broker takes its time
	BlackHole                      // no answer, and the connection stays open
	DialRefused                    // nobody listens
	DialHangs                      // the connection never comes up
	BrokerDown                     // a broker is away for a while
	LeaderMoves                    // another broker leads a partition
	LeaderIsolated                 // a leader without followers: what it appends is lost
	LeaderLost                     // a partition has no leader for a while
	StaleView                      // a broker learns late who leads
	TimedOutAfter                  // REQUEST_TIMED_OUT, appended
	TooFewReplicas                 // NOT_ENOUGH_REPLICAS, not appended
	TooFewAfterAppend              // NOT_ENOUGH_REPLICAS_AFTER_APPEND
	MovedAfterAppend               // NOT_LEADER_OR_FOLLOWER with a base offset, appended
	StorageError                   // KAFKA_STORAGE_ERROR, not appended
	CorruptOnArrival               // CORRUPT_MESSAGE, not appended
	UnknownError                   // UNKNOWN_SERVER_ERROR, appended or not
	Throttled                      // throttle time in the answer
	MetadataFails                  // a metadata request is cut
	NoProducerIDYet                // COORDINATOR_LOAD_IN_PROGRESS
	TopicRecreated                 // the topic is deleted and created again
	ActorCrash                     // an actor panics instead of handling a message
	Faults                         // how many kinds there are
)

var faultNames = [Faults]string{
	"cut-before-append", "cut-after-append", "cut-any-time", "write-fails", "slow-write", "slow-answer", "black-hole", "dial-refused",
	"dial-hangs", "broker-down", "leader-moves", "leader-isolated", "leader-lost", "stale-view", "timed-out-after-append", "too-few-replicas",
	"too-few-after-append", "moved-after-append", "storage-error", "corrupt-on-arrival", "unknown-error", "throttled", "metadata-fails",
	"no-producer-id-yet", "topic-recreated", "actor-crash",
}

// String returns the kind's name.
func (f Fault) String() string { return faultNames[f] }

// faults decides when something goes wrong, until it heals.
type faults struct {
	random *rand.Rand
	clock  *Clock
	heal   seams.Instant
	rate   [Faults]int // in 1,000
	count  [Faults]int
}

func newFaults(random *rand.Rand, clock *Clock, heal time.Duration) *faults {
	f := &faults{random: random, clock: clock, heal: seams.Instant(heal)}
	for kind := range f.rate {
		if random.IntN(2) == 0 {
			f.rate[kind] = [...]int{3, 15, 60, 150}[random.IntN(4)]
		}
	}
	// Faults that hold everything up for long leave no room for others.
	f.rate[BlackHole] /= 4
	f.rate[DialHangs] /= 2
	f.rate[ActorCrash] /= 10
	return f
}

// happens decides whether this kind of fault comes now.
func (f *faults) happens(kind Fault) bool {
	if f.rate[kind] == 0 || f.clock.now >= f.heal || f.random.IntN(1000) >= f.rate[kind] {
		return false
	}
	f.count[kind]++
	return true
}

// between draws a duration.
func (f *faults) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.random.Int64N(int64(most-least)+1))
}

// latency is the time of one way through the network.
func (f *faults) latency() time.Duration { return f.between(50*time.Microsecond, 900*time.Microsecond) }

// run makes things happen to the cluster by themselves.
func (f *faults) run(s *Scheduler, cluster *Cluster, network *Network) {
	type event struct {
		kind  Fault
		every time.Duration
		do    func()
	}
	events := []event{
		{CutAnyTime, time.Second, func() { network.cutAll(cluster.anyBroker(f.random)) }},
		{BrokerDown, 8 * time.Second, func() {
			b := cluster.anyBroker(f.random)
			cluster.down(b, f.between(100*time.Millisecond, 4*time.Second), f.random.IntN(3) > 0)
		}},
		{LeaderMoves, time.Second, func() { cluster.move(cluster.anyPartition(f.random)) }},
		{LeaderIsolated, 3 * time.Second, func() {
			cluster.isolate(cluster.anyPartition(f.random), f.between(50*time.Millisecond, 2*time.Second))
		}},
		{LeaderLost, 4 * time.Second, func() {
			cluster.loseLeader(cluster.anyPartition(f.random), f.between(20*time.Millisecond, 1500*time.Millisecond))
		}},
	}
	if f.rate[TopicRecreated] > 0 && cluster.brokers[0].newest >= topicIDs && f.random.IntN(3) == 0 {
		// Once in a run at most: it is rare, and ends everything else. Without
		// topic ids in Produce requests nobody can tell the two topics apart.
		s.clock.after(f.between(0, time.Duration(f.heal)), func() {
			f.count[TopicRecreated]++
			cluster.recreate(f.between(0, 1500*time.Millisecond))
		})
	}
	for _, e := range events {
		if f.rate[e.kind] == 0 {
			continue
		}
		// The rate of a kind is how busy it is, not a share of requests.
		every := e.every * 15 / time.Duration(max(f.rate[e.kind], 5))
		every = max(every, 40*time.Millisecond)
		var again func()
		again = func() {
			if s.clock.now >= f.heal {
				return
			}
			f.count[e.kind]++
			e.do()
			s.clock.after(f.between(every/2, 2*every), again)
		}
		s.clock.after(f.between(0, 2*every), again)
	}
}
