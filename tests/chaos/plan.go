package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// kind is a kind of fault.
type kind string

// Faults of brokers.
const (
	killLeader    kind = "kill -9 a leader, restart it"
	pauseBroker   kind = "SIGSTOP a broker"
	rolling       kind = "rolling restart, SIGTERM"
	reassign      kind = "move replicas away and back"
	electLeaders  kind = "elect other leaders"
	addPartitions kind = "add a partition"
)

// Faults of the network, each between the clients and one broker.
const (
	loseResponse  kind = "lose a response after the append"
	cutResponse   kind = "cut in the middle of a response"
	cutRequest    kind = "cut in the middle of a request"
	cutBefore     kind = "cut before a request arrives"
	delayResponse kind = "delay responses"
	reset         kind = "reset connections"
	blackHole     kind = "hold everything, then let go"
)

// brokerBag and networkBag are what a track draws from until it is empty, so that
// every kind comes once before one comes a third time.
var (
	brokerBag  = []kind{killLeader, killLeader, pauseBroker, pauseBroker, rolling, reassign, reassign, electLeaders, electLeaders, addPartitions}
	networkBag = []kind{loseResponse, loseResponse, cutResponse, cutRequest, cutRequest, cutBefore, delayResponse, reset, blackHole, blackHole}
)

// kinds lists every kind once, in the order of the report.
var kinds = []kind{
	killLeader, pauseBroker, rolling, reassign, electLeaders, addPartitions,
	loseResponse, cutResponse, cutRequest, cutBefore, delayResponse, reset, blackHole,
}

// The ranges that plans draw from.
const (
	leastPause, mostPause = time.Second, 20 * time.Second
	leastHole, mostHole   = time.Second, 16 * time.Second // a client gives a connection up after 11 s or more
	leastDelay, mostDelay = 50 * time.Millisecond, 1500 * time.Millisecond
	mostHits              = 6 // of one fault that strikes single requests
	mostAdded             = 9 // partitions that the growing topic gets
	frameLimit            = 4 * time.Second
)

// step is one fault of a plan. What a kind does not need is drawn all the same.
type step struct {
	Kind   kind
	Quiet  time.Duration // without a fault of this track, before
	For    time.Duration // how long it lasts, where that is ours to say
	Hits   int           // how many requests or responses it strikes
	Delay  time.Duration
	Broker int    // 1 to 3; a fault of a leader takes the leader of Partition
	Chosen int    // a partition of the numbered topic
	Order  uint64 // seeds the choice of replicas
}

func (s step) String() string {
	return fmt.Sprintf("after %v: %s (broker %d, partition %d, %v, %d hits)", s.Quiet, s.Kind, s.Broker, s.Chosen, s.For, s.Hits)
}

// plan is a function of the seed and the length alone: the same faults in the
// same order. When each comes depends on how long the ones before it took.
type plan struct {
	Brokers, Network []step
}

// least is the shortest that steps of a kind were seen to take. It decides how
// many steps a plan has, and must not be too long: a plan that ends early leaves
// the campaign without faults.
var least = map[kind]time.Duration{killLeader: 3 * time.Second, rolling: 9 * time.Second, reassign: time.Second}

func newPlan(seed uint64, length time.Duration) plan {
	return plan{
		Brokers: newTrack(rand.New(rand.NewPCG(seed, 1)), brokerBag, length),
		Network: newTrack(rand.New(rand.NewPCG(seed, 2)), networkBag, length),
	}
}

func newTrack(r *rand.Rand, bag []kind, length time.Duration) []step {
	var steps []step
	var left []kind
	added := 0
	for total := time.Duration(0); total < length; {
		if len(left) == 0 {
			left = shuffled(r, bag)
		}
		s := step{
			Kind: left[0], Quiet: between(r, 200*time.Millisecond, 2*time.Second), Hits: 1 + r.IntN(mostHits),
			Delay: between(r, leastDelay, mostDelay), Broker: 1 + r.IntN(brokerCount), Chosen: r.IntN(numberedPartitions), Order: r.Uint64(),
		}
		if r.IntN(4) == 0 { // a time to recover in, as Jepsen's nemesis leaves it
			s.Quiet += between(r, 2*time.Second, 6*time.Second)
		}
		switch s.Kind {
		case pauseBroker:
			s.For = between(r, leastPause, mostPause)
		case blackHole:
			s.For = between(r, leastHole, mostHole)
		default:
			s.For = between(r, 500*time.Millisecond, 4*time.Second)
		}
		left = left[1:]
		if s.Kind == addPartitions {
			if added++; added > mostAdded {
				continue
			}
		}
		total += s.Quiet + least[s.Kind]
		if s.Kind == pauseBroker || s.Kind == blackHole || s.Kind == delayResponse {
			total += s.For
		}
		steps = append(steps, s)
	}
	return steps
}

func shuffled(r *rand.Rand, bag []kind) []kind {
	mixed := make([]kind, len(bag))
	for i, from := range r.Perm(len(bag)) {
		mixed[i] = bag[from]
	}
	return mixed
}

// between draws a whole number of milliseconds.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64((to-from)/time.Millisecond)+1))*time.Millisecond
}
