package simulation

import (
	"cmp"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// place is what a fault may be aimed at.
type place struct {
	broker    int32 // 0: none
	topic     string
	partition int32
	actor     string // the path of one
	message   any    // that it is about to handle
	step      string // that it has come to in a decision
}

func (p place) is(target string) bool {
	if p.broker > 0 && target == "broker-"+strconv.Itoa(int(p.broker)) {
		return true
	}
	if p.step != "" {
		return target == actorKind(p.actor)+"/"+p.step
	}
	if p.message != nil {
		kind := actorKind(p.actor)
		return target == kind || target == kind+"/"+reflect.TypeOf(p.message).String()
	}
	return p.topic != "" && target == p.topic+"/"+strconv.Itoa(int(p.partition))
}

// actorKind is what kind of actor lives at a path below its producer's root.
func actorKind(path string) string {
	first, rest, _ := strings.Cut(path, "/")
	switch {
	case path == "":
		return "root"
	case first == "topic":
		return "accumulator"
	case strings.Contains(rest, "/connection/") || strings.Contains(rest, "connection/"):
		return "connection"
	}
	return first
}

// injector decides when something goes wrong. What it takes is the same whether
// it was drawn from the seed or listed by a plan: the two differ only in where
// the next fault of a kind comes from.
type injector struct {
	trace  *trace
	kinds  [Kinds]kindState
	timed  []Fault
	heal   seams.Instant
	listed bool
	counts Counts
	taken  []Fault // those that happened to an nth occurrence
}

// kindState is where the next fault of one kind comes from.
type kindState struct {
	seen     int // occurrences so far
	due      int // the occurrence of the next fault; 0: none
	next     Fault
	stream   stream
	rate     int // in 1,000
	planned  []Fault
	targeted []aimed
}

// aimed is a fault that waits for the nth occurrence of its target.
type aimed struct {
	fault Fault
	seen  int
}

// Counts is how often what went wrong.
type Counts struct {
	Kinds [Kinds]int
	// Codes is how often a Produce was answered with a code on purpose; index 0
	// is code −1.
	Codes [codeCount]int
	// Answers is how often the model itself answered with a code.
	Answers [codeCount]int
	// Reached is how often a run came to what must be reached sometimes.
	Reached [pointCount]int
}

// codeCount is the number of codes of the error table, with −1.
const codeCount = 138

// Add adds another count.
func (c *Counts) Add(o *Counts) {
	for i, n := range o.Kinds {
		c.Kinds[i] += n
	}
	for i, n := range o.Codes {
		c.Codes[i] += n
	}
	for i, n := range o.Answers {
		c.Answers[i] += n
	}
	for i, n := range o.Reached {
		c.Reached[i] += n
	}
}

// Code is how often a code was the answer.
func (c *Counts) Code(code protocol.ErrorCode) int { return c.Codes[int(code)+1] }

// Answer is how often the model itself gave a code.
func (c *Counts) Answer(code protocol.ErrorCode) int { return c.Answers[int(code)+1] }

func (c *Counts) answered(code protocol.ErrorCode) { c.Answers[int(code)+1]++ }

func (c *Counts) code(code protocol.ErrorCode) {
	if i := int(code) + 1; i >= 0 && i < codeCount {
		c.Codes[i]++
	}
}

// injector is one that has no faults yet.
func (e *estate) injector(t *trace, heal time.Duration) *injector {
	f := &e.faults
	*f = injector{trace: t, heal: seams.Instant(heal), timed: f.timed[:0], taken: f.taken[:0]}
	return f
}

// newInjector takes its faults from a list.
func newInjector(e *estate, t *trace, faults []Fault, heal time.Duration) *injector {
	f := e.injector(t, heal)
	f.listed = true
	for _, fault := range faults {
		k := &f.kinds[fault.Kind]
		switch {
		case fault.Kind.Timed():
			f.timed = append(f.timed, fault)
		case fault.Target != "":
			k.targeted = append(k.targeted, aimed{fault: fault})
		default:
			k.planned = append(k.planned, fault)
		}
	}
	for kind := range f.kinds {
		k := &f.kinds[kind]
		slices.SortStableFunc(k.planned, func(a, b Fault) int { return cmp.Compare(a.Nth, b.Nth) })
		f.advance(Kind(kind))
	}
	return f
}

// drawnInjector takes its faults from a seed. Each seed has about half of the
// kinds, at rates of its own: a fault that is always there hides what happens
// without it.
func drawnInjector(e *estate, t *trace, seed uint64, heal time.Duration) *injector {
	f := e.injector(t, heal)
	random := rand.New(rand.NewPCG(seed, 100))
	for kind := range Kinds {
		k := &f.kinds[kind]
		if random.IntN(2) == 0 {
			k.rate = [...]int{3, 15, 60, 150}[random.IntN(4)]
		}
		// Faults that hold everything up for long leave no room for others.
		switch kind {
		case BlackHole:
			k.rate /= 4
		case DialHangs:
			k.rate /= 2
		case AnswerTwice:
			k.rate /= 4 // each ends its connection
		case ActorCrash, DecisionCrash:
			k.rate /= 10
		case FatalAnswer:
			k.rate = min(k.rate, 15) * random.IntN(2) // it ends the run
		}
		if k.rate == 0 {
			continue
		}
		k.stream.seed(seed, 101+uint64(kind))
		if kind.Timed() {
			f.drawTimed(kind, k)
			continue
		}
		f.advance(kind)
	}
	slices.SortStableFunc(f.timed, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return f
}

// pace is how long it takes at a rate of 15 from one fault of a kind to the
// next; once is for kinds that come once in a run at the most.
var pace = map[Kind]time.Duration{
	CutAnyTime: time.Second, BrokerDown: 8 * time.Second, LeaderMoves: time.Second, LeaderIsolated: 3 * time.Second,
	LeaderLost: 4 * time.Second, ZombieLeader: 4 * time.Second, WallClockJumps: 5 * time.Second,
	LeaderRestarts: 4 * time.Second, UncleanElection: 6 * time.Second, FollowerLags: 2 * time.Second, RecordsDeleted: 3 * time.Second,
	ProducersForgotten: 3 * time.Second, BatchesLimited: 4 * time.Second,
	ClusterDown: once, RollingUpgrade: once, TopicRecreated: once, PartitionsAdded: once, TopicDeleted: once,
}

const once = 0

// drawTimed lists the faults of a kind for the whole run.
func (f *injector) drawTimed(kind Kind, k *kindState) {
	r := &k.stream.Rand
	if pace[kind] == once {
		if r.IntN(3) == 0 {
			fault := f.draw(kind, k)
			fault.At = Duration(r.Int64N(int64(f.heal)))
			f.timed = append(f.timed, fault)
		}
		return
	}
	// The rate of a kind is how busy it is, not a share of requests.
	every := max(pace[kind]*15/time.Duration(max(k.rate, 5)), 40*time.Millisecond)
	for at := between(r, 0, 2*every); at < time.Duration(f.heal); at += between(r, every/2, 2*every) {
		fault := f.draw(kind, k)
		fault.At = Duration(at)
		f.timed = append(f.timed, fault)
	}
}

// lasts is how long faults of a kind last.
var lasts = [Kinds][2]time.Duration{
	SlowWrite: {time.Millisecond, 300 * time.Millisecond}, SlowAnswer: {10 * time.Millisecond, 3 * time.Second},
	SlowLink: {20 * time.Millisecond, 400 * time.Millisecond}, LateArrival: {100 * time.Millisecond, 8 * time.Second},
	StaleView: {100 * time.Millisecond, 3 * time.Second}, Throttled: {time.Millisecond, 400 * time.Millisecond},
	CallbackSlow: {time.Millisecond, 400 * time.Millisecond}, CodecSlow: {time.Millisecond, 100 * time.Millisecond}, BrokerDown: {100 * time.Millisecond, 4 * time.Second},
	ClusterDown: {100 * time.Millisecond, 4 * time.Second}, RollingUpgrade: {100 * time.Millisecond, time.Second},
	LeaderIsolated: {50 * time.Millisecond, 2 * time.Second}, LeaderLost: {20 * time.Millisecond, 1500 * time.Millisecond},
	ZombieLeader: {50 * time.Millisecond, 2 * time.Second}, TopicRecreated: {0, 1500 * time.Millisecond},
	WallClockJumps: {-2 * time.Hour, 2 * time.Hour}, LeaderRestarts: {5 * time.Millisecond, time.Second},
	UncleanElection: {time.Second, 3 * time.Second}, FollowerLags: {50 * time.Millisecond, 4 * time.Second},
	BatchesLimited: {100 * time.Millisecond, 3 * time.Second},
}

// draw makes up a fault of a kind.
func (f *injector) draw(kind Kind, k *kindState) Fault {
	fault := Fault{Kind: kind, Pick: k.stream.Uint32()}
	if span := lasts[kind]; span[1] > 0 {
		fault.For = Duration(between(&k.stream.Rand, span[0], span[1]))
	}
	switch kind {
	case ErrorAnswer:
		fault.Code = producible()[k.stream.IntN(len(producible()))]
	case FatalAnswer:
		fault.Code = fatal()[k.stream.IntN(len(fatal()))]
	}
	return fault
}

// advance finds the next fault of a kind.
func (f *injector) advance(kind Kind) {
	k := &f.kinds[kind]
	k.due = 0
	switch {
	case f.listed && len(k.planned) > 0:
		k.next, k.planned = k.planned[0], k.planned[1:]
		k.due = k.next.Nth
	case !f.listed && k.rate > 0:
		k.next = f.draw(kind, k)
		k.due = k.seen + 1 + k.stream.IntN(2000/k.rate)
		k.next.Nth = k.due
	}
}

// happens counts an occurrence, and decides whether the kind of fault comes now.
func (f *injector) happens(kind Kind, at place) *Fault {
	k := &f.kinds[kind]
	if len(k.targeted) > 0 {
		if fault := f.aimedAt(kind, at); fault != nil {
			return fault
		}
	}
	k.seen++
	if k.seen != k.due || f.healed() {
		return nil
	}
	fault := k.next
	f.advance(kind)
	return f.take(fault)
}

// may reports whether faults of a kind can come at all. Where they cannot, nobody
// needs to count occurrences.
func (f *injector) may(kind Kind) bool {
	k := &f.kinds[kind]
	return k.due > 0 || len(k.targeted) > 0
}

// aimedAt counts an occurrence for the faults that have a target, and decides
// whether one of them comes now.
func (f *injector) aimedAt(kind Kind, at place) *Fault {
	targeted := f.kinds[kind].targeted
	var now *Fault
	for i := range targeted {
		a := &targeted[i]
		if !at.is(a.fault.Target) {
			continue
		}
		// Each counts every occurrence, also those that another takes.
		if a.seen++; a.seen == a.fault.Nth && now == nil && !f.healed() {
			now = &a.fault
		}
	}
	if now == nil {
		return nil
	}
	return f.take(*now)
}

func (f *injector) take(fault Fault) *Fault {
	f.taken = append(f.taken, fault)
	f.begin(&fault)
	return &fault
}

// begin counts a fault and makes it an event.
func (f *injector) begin(fault *Fault) {
	f.counts.Kinds[fault.Kind]++
	f.trace.note("fault", fault.Kind.String(), int64(fault.For), int64(fault.Code), int64(fault.Pick))
}

// faults is what went wrong, or will: a plan of the run.
func (f *injector) faults() []Fault { return append(slices.Clone(f.timed), f.taken...) }

// healed reports whether the faults are over. In a world of a user they never are.
func (f *injector) healed() bool { return f.heal > 0 && f.trace.scheduler.clock.now >= f.heal }

// between draws a duration.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}
