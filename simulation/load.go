package simulation

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
)

// The campaign's topics besides topicName: one that exists, sooner or later, and
// one that never does.
const (
	secondTopic      = "payments"
	secondPartitions = 3
	unknownTopic     = "nowhere"
)

// Load is what the campaign's callers do besides producing records with one acks
// and one codec to one topic. Plans from before harness 4 have none.
type Load struct {
	// Callers are the kinds of callers that share the records.
	Callers []string `json:"callers"`
	// Mixed sends choose acks and codec, one by one.
	Mixed bool `json:"mixed,omitempty"`
	// Acks is the producer's if it is not numbered: 1, 0, or all without idempotence.
	Acks string `json:"acks,omitempty"`
	// Second is for a second topic, which exists from SecondAt on; Unknown for one
	// that never exists.
	Second   bool     `json:"second,omitempty"`
	SecondAt Duration `json:"second_at,omitempty"`
	Unknown  bool     `json:"unknown,omitempty"`
	// LogAppendTime is for the first topic: its records have the broker's time.
	LogAppendTime bool `json:"log_append_time,omitempty"`
	// Stamped records bring a time of their own.
	Stamped bool `json:"stamped,omitempty"`
	// Inside is in how many of 100 callbacks, up to maxInside, somebody calls Send
	// or Flush.
	Inside int `json:"inside,omitempty"`
	// CloseAt is when somebody calls Close in the middle of it all, CloseBy how.
	// CloseWithin is the deadline, 0 for none.
	CloseAt     Duration `json:"close_at,omitempty"`
	CloseBy     string   `json:"close_by,omitempty"`
	CloseWithin Duration `json:"close_within,omitempty"`
	// Size is the most bytes of the value of a record, so that a few fill the buffer;
	// 0: a size drawn below 700.
	Size int `json:"size,omitempty"`
	// Timeouts is for a Send that says how long its brokers may wait for their replicas,
	// Cancels for contexts without a deadline that somebody cancels.
	Timeouts bool `json:"timeouts,omitempty"`
	Cancels  bool `json:"cancels,omitempty"`
	// Quiet is how long nobody produces from QuietAt on: long enough for brokers to
	// forget the producer.
	QuietAt Duration `json:"quiet_at,omitempty"`
	Quiet   Duration `json:"quiet,omitempty"`
}

// The ways of Close in the middle of the load.
const (
	closeByCaller   = "caller"
	closeByCallback = "callback"
	closeByTwo      = "two callers"
)

// maxInside is how many calls inside callbacks a run makes: each holds up a
// partition's answers until its context ends.
const maxInside = 6

// What brokers forget in a run with a quiet time: an idle hour is what the runtime
// expects of them at the earliest, and it counts from a success, they from the
// records' time.
const (
	forgetSoon = 63 * time.Minute
	quietLeast = 64 * time.Minute
	quietMost  = 75 * time.Minute
)

// drawLoad draws the load of a run, and what of its other settings follows.
func drawLoad(r *rand.Rand, s *Settings) {
	l := &Load{Callers: slices.Clone(callerNames[:])}
	if r.IntN(2) == 0 {
		r.Shuffle(len(l.Callers), func(i, k int) { l.Callers[i], l.Callers[k] = l.Callers[k], l.Callers[i] })
		l.Callers = l.Callers[:2+r.IntN(3)]
	}
	l.Mixed = r.IntN(2) == 0
	if !s.Numbered {
		l.Acks = one(r, "1", "1", "0", "all")
	}
	if l.Second = r.IntN(2) == 0; l.Second && r.IntN(3) == 0 {
		l.SecondAt = Duration(between(r, 0, 2*time.Second))
	}
	l.Unknown = r.IntN(15) == 0 // it is asked for again and again, which costs turns
	l.LogAppendTime, l.Stamped = r.IntN(5) == 0, r.IntN(3) == 0
	if r.IntN(4) == 0 {
		l.Inside = 1 + r.IntN(20)
	}
	switch {
	case s.Abrupt > 0:
	case r.IntN(8) == 0:
		l.CloseAt = Duration(1 + r.Int64N(int64(s.Span)))
		l.CloseBy = one(r, closeByCaller, closeByCallback, closeByTwo)
		l.CloseWithin = Duration(one(r, 0, time.Millisecond, 300*time.Millisecond, 3*time.Second))
	case r.IntN(12) == 0:
		l.QuietAt, l.Quiet = s.Span/2, Duration(between(r, quietLeast, quietMost))
		l.Stamped, l.Unknown = false, false // brokers forget by the records' time
		s.MetadataMaxAge = Duration(one(r, 5*time.Minute, 25*time.Minute, 25*time.Minute))
		// An accumulator that ends makes its successor careful anyway.
		s.MetadataIdle = Duration(one(r, 5*time.Minute, 3*time.Hour, 3*time.Hour))
		// So is whoever goes on with another connection.
		s.ConnectionIdle = Duration(one(r, time.Second, 3*time.Hour, 3*time.Hour))
		s.BatchMaxBytes, s.MaxInFlight = min(s.BatchMaxBytes, 2000), 5
		s.Cluster.ForgetAfter = Duration(forgetSoon)
	}
	l.Timeouts, l.Cancels = r.IntN(4) == 0, r.IntN(3) == 0
	s.Load = l
	s.drawPaces(r)
	if s.Abrupt+l.Quiet == 0 && r.IntN(300) == 0 {
		// Records that fill the buffer. It takes ten times the time of a run.
		l.Size, l.Unknown = largeSize, false
		s.BufferBytes, s.PaceBytes = 1<<20, 8<<20
	}
}

// load is the run's, or what plans have that are older than it.
func (s *Settings) load() *Load {
	if s.Load != nil {
		return s.Load
	}
	return &Load{Callers: callerNames[:oldCallers]}
}

// topics are the world's, those last that nobody needs to the end.
func (s *Settings) topics() []Topic {
	l := s.load()
	all := []Topic{{
		Name: topicName, Partitions: partitionCount, CreatedAt: time.Duration(s.TopicCreatedAt), Compacted: s.Compacted, LogAppendTime: l.LogAppendTime,
	}}
	if l.Second {
		all = append(all, Topic{Name: secondTopic, Partitions: secondPartitions, CreatedAt: time.Duration(l.SecondAt)})
	}
	return all
}

// promptly is how long a record takes at the most when nothing is wrong; mostParked
// is more records than the parking of a topic holds, parkedSize the most bytes of
// the value of one, and largeSize of a record of which a hundred do not fit into a
// buffer.
const (
	promptly   = time.Second
	mostParked = 1000
	parkedSize = 4 << 10
	largeSize  = 40 << 10
)

// probeBesideUnknown fills the parking of a topic that does not exist, and looks
// whether records of those that do are as fast as ever.
func (r *run) probeBesideUnknown() {
	l := r.load
	if !l.load.Unknown || r.settings.Cluster.AutoCreate {
		return
	}
	for full := false; !full; {
		p := l.recordFor(unknownTopic, callerTry, parkedSize, false)
		err := l.call(p, r.producer.TryProduce, l.shared)
		full = errors.Is(err, messages.ErrBufferFull)
		if err != nil && !full || len(l.records) > l.planned+mostParked {
			r.violation(WrongOutcome, "record %d for a topic that does not exist was refused: %v", p.tag, err)
			return
		}
	}
	r.reach(pointParkingFull)
	first := len(l.records)
	for _, t := range r.config.Topics {
		if r.kafka.exists(t.Name) {
			r.probeTopic(t.Name, false)
		}
	}
	answered := func() bool {
		return !slices.ContainsFunc(l.records[first:], func(p *produced) bool { return p.answers == 0 })
	}
	limit := promptly
	if a := r.settings.Cluster.SASL; a != nil && a.Session > 0 {
		// A session that is over as soon as it has begun is followed by the next only
		// after the wait of a lost connection.
		limit += time.Duration(r.settings.RetryTimeMax)
	}
	if !r.pass(limit, answered) {
		r.violation(LateOutcome, "records for a topic that does not exist delay others by more than %v", limit)
	}
	longest := time.Duration(r.settings.TopicWait) + deadlineSlack
	if !r.pass(longest, func() bool { return r.outstanding == 0 }) {
		r.violation(NoOutcome, "%v after they came, %d records for a topic that does not exist have no outcome", longest, r.outstanding)
	}
}

// acks is the producer's own.
func (s *Settings) acks() troupe.Acks {
	switch l := s.load(); {
	case s.Numbered, l.Acks == "all":
		return troupe.AcksAll
	case l.Acks == "0":
		return troupe.AcksNone
	}
	return troupe.AcksLeader
}

// topicOf draws where a record goes.
func (l *workload) topicOf() string {
	switch load := l.load; {
	case load.Second && l.random.IntN(4) == 0:
		return secondTopic
	case load.Unknown && l.random.IntN(20) == 0:
		return unknownTopic
	}
	return topicName
}

// partitionsOf is how many partitions a topic begins with.
func partitionsOf(topic string) int {
	if topic == secondTopic {
		return secondPartitions
	}
	return partitionCount
}

// rest lets the callers be quiet for as long as the load says: whoever would go
// on later waits as much longer, and all begin again at about the same time.
func (l *workload) rest() {
	if l.load.Quiet == 0 {
		return
	}
	for task, plan := range l.plans {
		at := time.Duration(0)
		for i := range plan {
			if at += plan[i].pause; at >= time.Duration(l.load.QuietAt) {
				plan[i].pause = time.Duration(l.load.QuietAt+l.load.Quiet) - (at - plan[i].pause) + time.Duration(task)*time.Millisecond
				break
			}
		}
	}
}

// wait moves what is drawn behind the quiet time, at the end of which the brokers
// look for producers to forget. A topic may take smaller batches then than before:
// what a broker refuses of those in flight together, and what it takes as the
// first of a producer it does not know, is what the runtime has to expect.
func (f *injector) wait(from, quiet time.Duration, r *rand.Rand) {
	if quiet == 0 {
		return
	}
	f.timed = slices.DeleteFunc(f.timed, func(t Fault) bool { return t.Kind == WallClockJumps }) // see forgetSoon
	for i := range f.timed {
		if f.timed[i].At >= Duration(from) {
			f.timed[i].At += Duration(quiet)
		}
	}
	end := from + quiet
	f.timed = append(f.timed, Fault{Kind: ProducersForgotten, At: Duration(end - time.Second)})
	for range r.IntN(3) {
		f.timed = append(f.timed, Fault{Kind: BatchesLimited, At: Duration(end - time.Millisecond), For: Duration(between(r, 0, 2*time.Second)), Pick: r.Uint32()})
	}
	f.heal = f.heal.Add(quiet)
}
