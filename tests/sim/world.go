package sim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Config says what to run.
type Config struct {
	Seed uint64
	// Records is how many records the workload produces.
	Records int
	// Trace receives the events as lines of JSON; it may be nil.
	Trace io.Writer
	// Log receives the runtime's log; it may be nil.
	Log io.Writer
	// Lie makes the cluster break its word.
	Lie Lie
}

// Result is what came of a run.
type Result struct {
	Seed uint64
	// Hash stands for everything that happened.
	Hash       uint64
	Events     int
	Turns      int
	Virtual    time.Duration
	Records    int
	Outcomes   [3]int // by messages.Status
	Refused    int    // admissions refused for want of room
	Faults     [Faults]int
	Violations []string
}

// maxViolations is how many a result holds; the first tells most.
const maxViolations = 12

// healing is the time that the cluster gets after the last fault before it has
// to serve everything at once: the longest that something started before may
// still hold up.
const healing = 40 * time.Second

// world is one run.
type world struct {
	config    Config
	name      string
	system    *actor.ActorSystem
	scheduler *Scheduler
	clock     *Clock
	trace     *Trace
	faults    *faults
	cluster   *Cluster
	network   *Network
	producer  *troupe.Producer
	load      *workload
	caller    *actor.PID

	deliveryTimeout time.Duration
	topicWait       time.Duration
	routed          bool // the producer has found the topic
	closing         bool
	numbered        bool // acks all and idempotent: no duplicates
	abrupt          bool // the producer is ended in the middle of it all
	outstanding     int
	outcomes        [3]int
	values          map[string]bool
	violations      []string
}

// NewSystem returns an actor system for any number of runs, one after the other.
func NewSystem() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false),
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}

// Run runs one seed. place makes the names of its actors unique in the system;
// the result does not depend on it.
func Run(system *actor.ActorSystem, place int, config Config) Result {
	w := &world{config: config, name: fmt.Sprintf("run-%d", place), system: system}
	actors := countActors(system)
	func() {
		defer func() {
			if reason := recover(); reason != nil {
				w.violation("panic: %v", reason)
				if config.Trace != nil {
					panic(reason)
				}
			}
		}()
		w.run()
	}()
	if left := countActors(system) - actors; left != 0 {
		w.violation("%d actors are left", left)
	}
	if w.trace.out != nil {
		_ = w.trace.out.Flush()
	}
	return Result{
		Seed: config.Seed, Hash: w.trace.hash, Events: w.trace.events, Turns: w.scheduler.steps, Virtual: time.Duration(w.clock.now),
		Records: len(w.load.records), Outcomes: w.outcomes, Refused: w.load.refused, Faults: w.faults.count, Violations: w.violations,
	}
}

func (w *world) violation(format string, args ...any) {
	if len(w.violations) < maxViolations {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// stream is one source of randomness of the seed. Each part of the world has its
// own, so that a change to one leaves the others' draws alone.
func (w *world) stream(n uint64) *rand.Rand { return rand.New(rand.NewPCG(w.config.Seed, n)) }

func (w *world) run() {
	w.scheduler = newScheduler(w.stream(1))
	w.clock = w.scheduler.clock
	w.trace = &Trace{clock: w.clock, prefix: "troupe/" + w.name, hash: fnvOffset}
	if w.config.Trace != nil {
		w.trace.out = bufio.NewWriter(w.config.Trace)
	}
	settings := w.stream(2)
	span := time.Duration(2+settings.IntN(14)) * time.Second
	w.faults = newFaults(w.stream(3), w.clock, span+time.Second)
	w.cluster = newCluster(w.scheduler, w.faults, w.trace)
	w.cluster.wrong, w.cluster.lies = w.violation, w.config.Lie
	w.network = &Network{scheduler: w.scheduler, faults: w.faults, cluster: w.cluster, trace: w.trace, wrong: w.violation}
	w.cluster.cut = w.network.cutAll
	w.load = newWorkload(w, w.stream(4), w.config.Records, span)
	w.trace.crash = w.crash
	w.start(settings)
	w.faults.run(w.scheduler, w.cluster, w.network)
	w.load.start()
	w.abrupt = settings.IntN(10) == 0
	if w.abrupt {
		w.pass(time.Duration(settings.Int64N(int64(span))), never)
	} else if w.produceAll() {
		w.probe()
		w.settle()
	}
	w.close(settings)
	w.check()
}

// start makes the producer, with settings that are small enough for the limits
// to matter.
func (w *world) start(settings *rand.Rand) {
	w.deliveryTimeout = [...]time.Duration{7 * time.Second, 20 * time.Second, 2 * time.Minute}[settings.IntN(3)]
	w.topicWait = [...]time.Duration{500 * time.Millisecond, 30 * time.Second}[min(settings.IntN(6), 1)]
	options := []troupe.Option{
		troupe.WithName(w.name),
		troupe.WithBrokers("broker-1:9092", "broker-2:9092", "broker-3:9092"),
		troupe.WithSeams(troupe.Seams{
			Clock: w.clock, Transport: w.network, Executor: w.scheduler, Parking: parking{w.scheduler},
			Randomness: randomness{seams.SeededRandomness(w.config.Seed), "troupe/" + w.name},
			Dispatcher: w.scheduler, Tracer: w.trace, StickyShards: 1,
		}),
		troupe.WithLogger(zerolog.New(&logWatch{w}).Level(zerolog.DebugLevel)),
		troupe.WithRequestTimeout(time.Duration(1+settings.IntN(4)) * time.Second),
		troupe.WithDeliveryTimeout(w.deliveryTimeout),
		troupe.WithMaxTopicWait(w.topicWait),
		troupe.WithBatchMaxBytes([...]int{300, 2000, 8000, 100_000}[settings.IntN(4)]),
		troupe.WithRequestMaxBytes([...]int{2000, 20_000, 1 << 20}[settings.IntN(3)]),
		troupe.WithLinger([...]time.Duration{0, 5 * time.Millisecond, 100 * time.Millisecond}[settings.IntN(3)]),
		troupe.WithMaxInFlight([...]int{1, 2, 5}[settings.IntN(3)]),
		troupe.WithBufferBytes([...]int{1 << 20, 4 << 20}[settings.IntN(2)]),
		troupe.WithRecordMaxBytes(64 << 10),
		troupe.WithPaceBytes([...]int{0, 128 << 10, 8 << 20}[settings.IntN(3)]),
		troupe.WithStickyBytes([...]int{1000, 256 << 10}[settings.IntN(2)]),
		troupe.WithSlowRequest([...]time.Duration{100 * time.Millisecond, 2 * time.Second}[settings.IntN(2)]),
		troupe.WithConnectionIdle([...]time.Duration{time.Second, 9 * time.Minute}[settings.IntN(2)]),
		troupe.WithMetadataIdle([...]time.Duration{time.Second, 5 * time.Minute}[min(settings.IntN(4), 1)]),
		troupe.WithMetadataMaxAge([...]time.Duration{time.Second, 5 * time.Minute}[settings.IntN(2)]),
		troupe.WithCompression([...]codecs.ID{codecs.None, codecs.None, codecs.Snappy, codecs.LZ4}[settings.IntN(4)]),
	}
	w.numbered = settings.IntN(6) > 0
	if !w.numbered {
		options = append(options, troupe.WithAcks(troupe.AcksLeader))
	}
	p, err := troupe.NewIn(w.system, options...)
	if err != nil {
		panic(err)
	}
	w.producer = p
}

// produceAll runs until every record is answered. It reports false when time or
// turns ran out.
func (w *world) produceAll() bool {
	limit := func() int64 {
		last := max(w.load.lastAt, w.faults.heal)
		return int64(last.Add(w.deliveryTimeout + w.topicWait + 10*time.Second))
	}
	// The limit moves with the last admission, so it is looked at again.
	for {
		at := limit()
		done, err := w.scheduler.until(at, func() bool { return w.load.active == 0 && w.outstanding == 0 })
		if err != nil {
			w.violation("%v", err)
			return false
		}
		if done {
			return true
		}
		if at >= limit() {
			w.violation("at %v %d records have no outcome and %d tasks are not done; the runtime counts %d, and %d bytes",
				time.Duration(w.clock.now), w.outstanding, w.load.active, w.producer.Unanswered(), w.producer.BufferedBytes())
			return false
		}
	}
}

// pass lets virtual time go by.
func (w *world) pass(d time.Duration, done func() bool) bool {
	ok, err := w.scheduler.until(int64(w.clock.now.Add(d)), done)
	if err != nil {
		w.violation("%v", err)
	}
	return ok
}

func never() bool { return false }

// probe sends one more record to each partition when everything has healed: each
// must be acknowledged. A partition that waits for ever for something that got
// lost shows here.
func (w *world) probe() {
	if wait := w.faults.heal.Add(healing).Sub(w.clock.now); wait > 0 {
		w.pass(wait, never)
	}
	if w.faults.count[TopicRecreated] > 0 {
		// Nobody may have noticed yet, and what finds out may fail for it.
		w.probeOnce(func(*produced) bool { return true })
	}
	w.probeOnce(func(r *produced) bool { return r.delivery.Status == messages.Persisted })
}

func (w *world) probeOnce(good func(*produced) bool) {
	first := len(w.load.records)
	for i := range partitionCount {
		r := w.load.record(callerTry, 20, false)
		r.partition, r.key = int32(i), nil
		if err := w.load.call(r, w.producer.TryProduce, w.load.shared); err != nil {
			w.violation("after healing, partition %d refuses a record: %v", i, err)
		}
	}
	w.pass(20*time.Second, func() bool { return w.outstanding == 0 })
	for _, r := range w.load.records[first:] {
		if !good(r) {
			w.violation("after healing, a record for partition %d was answered %v (%v), %d times", r.partition, r.delivery.Status, r.delivery.Err, r.answers)
		}
	}
}

// settle waits for what belongs to no record any more: buffers that an old write
// was still reading from.
func (w *world) settle() {
	w.pass(time.Minute, func() bool { return w.producer.BufferedBytes() == 0 && w.producer.Unanswered() == 0 })
	if n := w.producer.BufferedBytes(); n != 0 {
		w.violation("%d bytes are still charged to the buffer", n)
	}
	if n := w.producer.Unanswered(); n != 0 {
		w.violation("the runtime counts %d records without an outcome", n)
	}
}

// close ends the producer in one of the ways that actors have, or as Go callers
// do.
func (w *world) close(settings *rand.Rand) {
	w.closing = true
	called := false
	switch settings.IntN(4) {
	case 0:
		w.system.Root.Stop(w.producer.PID())
	case 1:
		w.system.Root.Poison(w.producer.PID())
	case 2:
		called = true
		w.closeAsCaller(time.Duration(settings.Int64N(int64(5 * time.Second))))
	default:
		w.system.Root.Send(w.producer.PID(), &messages.CloseNow{})
	}
	gone := func() bool {
		_, ok := w.system.ProcessRegistry.GetLocal("troupe/" + w.name)
		return !ok
	}
	if !w.pass(w.deliveryTimeout+w.topicWait+30*time.Second, gone) {
		w.violation("the producer's actors do not stop")
		return
	}
	w.pass(lastWord+10*time.Second, never) // late events meet nobody, and nothing breaks
	w.system.Root.Stop(w.caller)
	w.pass(time.Second, never)
	// Nothing is left to wait for, so this returns at once or not at all.
	if err := w.producer.Close(context.Background()); err != nil && (!called || !errors.Is(err, context.DeadlineExceeded)) {
		w.violation("close: %v", err)
	}
	if n := w.producer.BufferedBytes(); n != 0 {
		w.violation("%d bytes are charged to the buffer after the end", n)
	}
	w.system.ProcessRegistry.Remove(w.producer.PID()) // the tombstone
}

// closeAsCaller has a coroutine call Close, which must end soon after its
// deadline.
func (w *world) closeAsCaller(deadline time.Duration) {
	w.scheduler.spawn(func() {
		began := w.clock.now
		ctx, _ := w.clock.WithTimeout(context.Background(), deadline)
		_ = w.producer.Close(ctx)
		if took := w.clock.now.Sub(began); took > deadline+2*time.Second {
			w.violation("Close with %v took %v", deadline, took)
		}
		if n := w.producer.Unanswered(); n != 0 {
			w.violation("after Close %d records have no outcome", n)
		}
	})
}

// crash makes an actor fail instead of handling a message. Only messages whose
// loss the actor can notice are chosen: a bug in an actor may cost time, never a
// record.
func (w *world) crash(path string, message any) {
	switch message.(type) {
	case *seams.Woken, *messages.ResponseReceived:
	default:
		return
	}
	if w.faults.happens(ActorCrash) {
		panic(crashed{})
	}
}

// crashed is what an actor panics with when the seed says so.
type crashed struct{}

// randomness gives the runtime's sources names without the producer's own.
type randomness struct {
	seams.SeededRandomness
	prefix string
}

// For implements seams.Randomness.
func (r randomness) For(path string) *rand.Rand {
	return r.SeededRandomness.For(strings.TrimPrefix(path, r.prefix))
}

// logWatch looks for the runtime's own word that something is broken.
type logWatch struct{ world *world }

// Write implements io.Writer.
func (l *logWatch) Write(line []byte) (int, error) { return len(line), nil }

// WriteLevel implements zerolog.LevelWriter.
func (l *logWatch) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	w := l.world
	if w.config.Log != nil {
		_, _ = fmt.Fprintf(w.config.Log, "%12v %s", time.Duration(w.clock.now), line)
	}
	if level >= zerolog.ErrorLevel && !strings.Contains(string(line), `"panic":{}`) {
		w.violation("the runtime logged: %s", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// countActors is how many processes the system knows.
func countActors(system *actor.ActorSystem) int {
	n := 0
	for _, bucket := range system.ProcessRegistry.LocalPIDs.LocalPIDs {
		n += bucket.Count()
	}
	return n
}
