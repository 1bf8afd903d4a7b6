package simulation

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// Config is what a world is made from.
type Config struct {
	// Seed decides everything that chance decides.
	Seed uint64
	// System is the actor system to live in. Worlds may share one, one after the
	// other; nil makes one, which Close shuts down.
	System *actor.ActorSystem
	// Brokers is how many there are, all of the newest age; 0: 3.
	Brokers int
	// Topics is what exists, now or later.
	Topics []Topic
	// Faults is what goes wrong.
	Faults []Fault
	// BrokerBytesPerSecond is how much each broker takes in at the most, counted
	// in bytes of batches; 0: any amount.
	BrokerBytesPerSecond int
	// Trace receives every event as a line of JSON, Log the runtime's log with
	// virtual times. Both may be nil; neither changes the run.
	Trace, Log io.Writer

	// The campaign's: faults drawn until then, and what the cluster is like.
	drawFaults time.Duration
	quietAt    time.Duration // nothing happens from then on for quiet
	quiet      time.Duration
	heal       time.Duration
	cluster    *ClusterSettings
	lie        Lie
	estate     *estate
	// callbacks is how many partitions' callbacks run at once; 0: any number.
	callbacks int
}

// World is one simulated run: a virtual clock, a network and a cluster in
// memory, and a scheduler that runs everything in it one turn at a time. It is
// not safe for concurrent use, and nothing in it may wait for the real world.
type World struct {
	config    Config
	estate    *estate
	name      string
	system    *actor.ActorSystem
	owned     bool
	scheduler *scheduler
	clock     *clock
	trace     *trace
	tracer    seams.Tracer
	faults    *injector
	network   *network
	kafka     kafka
	producers []*troupe.Producer
	names     []string // of the producers' roots
	spawned   []*actor.PID
	seen      []string // every actor that received a message
	observed  []Violation
	excused   func(line string) bool // an error line that is expected
	closed    bool
}

// maxViolations is how many a world keeps; the first tells most.
const maxViolations = 12

// settling is how long a world goes on after its producers have ended: late
// events meet nobody, and must break nothing.
const settling = lastWord + 10*time.Second

// stopping is how long producers may take to end.
const stopping = 10 * time.Minute

// NewSystem returns an actor system for any number of worlds, one after the
// other; to make one takes longer than a run.
func NewSystem() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithDeadLetterRequestLogging(false), actor.WithDeadLetterThrottleInterval(50*time.Millisecond),
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}

// NewWorld makes a world. Nothing runs in it until Advance or Until.
func NewWorld(c Config) (*World, error) {
	if err := checkFaults(c.Faults); err != nil {
		return nil, err
	}
	if c.estate == nil {
		c.estate = newEstate()
	}
	w := &World{config: c, estate: c.estate, name: c.estate.name, system: c.System, seen: c.estate.seen}
	if w.system == nil {
		w.system, w.owned = NewSystem(), true
	}
	if c.cluster == nil {
		if c.Brokers == 0 {
			c.Brokers = 3
		}
		c.cluster = modern(c.Brokers)
	}
	w.scheduler = newScheduler(w.stream(1), w.estate)
	w.clock = w.scheduler.clock
	w.trace = &trace{scheduler: w.scheduler, prefix: "troupe/" + w.name, hash: hashStart}
	w.trace.crash = w.crash
	w.tracer = &receiveTrace{w.trace, w}
	if c.Trace != nil {
		w.trace.out, w.trace.posted = bufio.NewWriter(c.Trace), make(map[string][]letter)
		w.tracer = &postTrace{receiveTrace{w.trace, w}}
	}
	if c.drawFaults > 0 {
		w.faults = drawnInjector(w.estate, w.trace, c.Seed, c.drawFaults)
		w.faults.wait(c.quietAt, c.quiet, w.stream(8))
	} else {
		w.faults = newInjector(w.estate, w.trace, c.Faults, c.heal)
	}
	w.network = &network{scheduler: w.scheduler, faults: w.faults, nature: w.stream(3), trace: w.trace, wrong: w.violation, estate: w.estate}
	w.network.atOnce = time.Duration(c.cluster.ServeAtOnce)
	w.kafka = newCluster(surroundings{
		scheduler: w.scheduler, faults: w.faults, trace: w.trace, nature: w.stream(4), wrong: w.violation,
		cut: w.network.cutAll, topics: c.Topics, settings: c.cluster, rate: c.BrokerBytesPerSecond, lie: c.lie, estate: w.estate,
	})
	w.network.kafka = w.kafka
	for _, f := range w.faults.timed {
		w.clock.after(time.Duration(f.At), func() { w.strike(&f) })
	}
	return w, nil
}

// stream is one source of randomness of the seed. Each part of the world has its
// own, so that a change to one leaves the others' draws alone.
func (w *World) stream(n uint64) *rand.Rand {
	s := &stream{}
	s.seed(w.config.Seed, n)
	return &s.Rand
}

// stream is a source in one piece.
type stream struct {
	rand.Rand
	source rand.PCG
}

func (s *stream) seed(seed, n uint64) {
	s.source.Seed(seed, n)
	s.Rand = *rand.New(&s.source)
}

// violation takes note of what went wrong.
func (w *World) violation(class Class, format string, args ...any) {
	if len(w.observed) < maxViolations {
		w.observed = append(w.observed, Violation{class, fmt.Sprintf(format, args...)})
	}
}

// strike makes a timed fault happen.
func (w *World) strike(f *Fault) {
	w.faults.begin(f)
	if f.Kind == WallClockJumps {
		w.clock.jumped = time.Duration(f.For).Milliseconds()
		return
	}
	w.kafka.strike(f)
}

// Options are the options of a producer that lives in the world: its brokers, its
// seams, its name and its log. name may be empty for one producer of a world.
// Options of your own go behind them.
func (w *World) Options(name string) []troupe.Option {
	var addresses []string
	for i := 1; w.kafka.brokerAt(BrokerAddress(i)) != 0; i++ {
		addresses = append(addresses, BrokerAddress(i))
	}
	actors := w.name
	if name != "" {
		actors += "-" + name
	}
	return []troupe.Option{
		troupe.WithName(actors), troupe.WithBrokers(addresses...), troupe.WithSeams(w.Seams()),
		troupe.WithLogger(zerolog.New(&logWatch{w}).Level(w.logLevel())),
	}
}

func (w *World) logLevel() zerolog.Level {
	if w.config.Log != nil {
		return zerolog.DebugLevel
	}
	return zerolog.ErrorLevel
}

// Seams are the world's doors, for a producer made without Options and for
// actors of your own.
func (w *World) Seams() troupe.Seams {
	return troupe.Seams{
		Clock: w.clock, Transport: w.network, Executor: w.scheduler, Parking: parking{w.scheduler},
		Randomness: randomness{seams.SeededRandomness(w.config.Seed), "troupe/" + w.name},
		Dispatcher: w.scheduler, Tracer: w.tracer, StickyShards: 1,
		CallbacksAtOnce: w.config.callbacks,
	}
}

// Start starts a producer in the world, with Options(name) and those given.
func (w *World) Start(name string, options ...troupe.Option) (*troupe.Producer, error) {
	p, err := troupe.NewIn(w.system, append(w.Options(name), options...)...)
	if err != nil {
		return nil, err
	}
	w.producers = append(w.producers, p)
	w.names = append(w.names, strings.TrimSuffix(p.PID().Id, "/router-process"))
	return p, nil
}

// System is the actor system that the world lives in.
func (w *World) System() *actor.ActorSystem { return w.system }

// Spawn spawns an actor of yours, which takes its turns under the world's
// scheduler like all others. Close stops it.
func (w *World) Spawn(name string, producer actor.Producer, options ...actor.PropsOption) (*actor.PID, error) {
	props := actor.PropsFromProducer(producer, append([]actor.PropsOption{
		actor.WithMailbox(func() actor.Mailbox { return seams.NewMailbox(name, w.tracer) }), actor.WithDispatcher(w.scheduler),
	}, options...)...)
	pid, err := w.system.Root.SpawnNamed(props, w.name+"/"+name)
	if err == nil {
		w.spawned = append(w.spawned, pid)
	}
	return pid, err
}

// Go runs fn as a caller: it may call what waits (Send, Produce, Flush, Sleep),
// and takes its turns with everything else.
func (w *World) Go(fn func()) { w.scheduler.spawn(fn) }

// Sleep lets a caller, in a function given to Go, wait.
func (w *World) Sleep(d time.Duration) { w.scheduler.sleep(d) }

// After runs fn in a turn of its own, d from now. It must not wait.
func (w *World) After(d time.Duration, fn func()) { w.clock.after(d, fn) }

// Now is the virtual time since the world began.
func (w *World) Now() time.Duration { return time.Duration(w.clock.now) }

// WithTimeout is context.WithTimeout in virtual time. The parent must be such a
// context too, or one that never ends.
func (w *World) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return w.clock.WithTimeout(parent, d)
}

// Advance lets virtual time pass.
func (w *World) Advance(d time.Duration) error {
	_, err := w.Until(d, func() bool { return false })
	return err
}

// Until runs the world until done reports true, or for the time given at the
// most. It reports whether done did.
func (w *World) Until(most time.Duration, done func() bool) (bool, error) {
	return w.scheduler.until(int64(w.clock.now.Add(most)), done)
}

// Note adds an event of yours to the trace and to the hash.
func (w *World) Note(where, what string, numbers ...int64) { w.trace.note(where, what, numbers...) }

// Entries is the log of a partition as a consumer reads it.
func (w *World) Entries(topic string, partition int32) []Entry {
	return w.kafka.entries(topic, partition)
}

// Logs is the log of every partition, with those of topics that were deleted and
// what was cut off.
func (w *World) Logs() []Log { return w.kafka.logs(&estate{}) }

// Attempts is every record that a broker was sent, appended or not.
func (w *World) Attempts() []Attempt { return w.kafka.attempts() }

// Hash stands for everything that has happened: two runs of one seed and one
// program have the same.
func (w *World) Hash() uint64 { return w.trace.hash }

// Events is how many events the hash is made of.
func (w *World) Events() uint64 { return w.trace.events }

// Counts is how often what went wrong.
func (w *World) Counts() Counts { return w.faults.counts }

// Close ends the producers and the actors of the world, waits until all is
// quiet, and says what was seen to be wrong: what no client may send, what the
// runtime logged as an error, actors, callers and memory that are left. It does
// not judge outcomes: that takes Check and a history.
func (w *World) Close() []Violation {
	if w.closed {
		return w.observed
	}
	for _, p := range w.producers {
		w.system.Root.Poison(p.PID())
	}
	w.awaitEnd(stopping)
	w.finish()
	return w.observed
}

// awaitEnd waits for the producers' trees to come down, and for late events.
func (w *World) awaitEnd(most time.Duration) {
	gone, err := w.Until(most, func() bool {
		for _, name := range w.names {
			if _, ok := w.system.ProcessRegistry.GetLocal(name); ok {
				return false
			}
		}
		return true
	})
	if err != nil {
		w.endless(err)
	} else if !gone {
		w.violation(Wedged, "the producer's actors do not stop")
	}
	if err := w.Advance(settling); err != nil {
		w.endless(err)
	}
	for _, pid := range w.spawned {
		w.system.Root.Stop(pid)
	}
	if err := w.Advance(time.Second); err != nil {
		w.endless(err)
	}
	for _, p := range w.producers {
		if n := p.BufferedBytes(); n != 0 {
			w.violation(Leak, "%d bytes are charged to the buffer after the end", n)
		}
	}
}

func (w *World) endless(err error) {
	if errors.Is(err, ErrEndless) {
		w.violation(Endless, "%v", err)
	} else {
		w.violation(Panic, "%v", err)
	}
}

// finish looks for what is left, and leaves nothing.
func (w *World) finish() {
	w.closed = true
	w.kafka.heal()
	for _, name := range w.names {
		// What answers messages to a producer that is closed does not count.
		w.system.ProcessRegistry.Remove(actor.NewPID(w.system.Address(), name+"/router-process"))
	}
	if left := w.left(); len(left) > 0 {
		w.violation(Leak, "actors are left: %v", left)
	}
	if n := w.scheduler.endAll(); n > 0 {
		w.violation(Wedged, "%d callers wait for ever", n)
	}
	if w.trace.out != nil {
		_ = w.trace.out.Flush()
	}
	if w.owned {
		w.system.Shutdown()
	}
}

// left is the actors of the world that still exist.
func (w *World) left() []string {
	var left []string
	for _, path := range w.seen {
		id := path
		if !strings.HasPrefix(path, w.trace.prefix) {
			id = w.name + "/" + path // one of Spawn
		}
		if _, ok := w.system.ProcessRegistry.GetLocal(id); ok {
			left = append(left, w.trace.short(path))
		}
	}
	slices.Sort(left)
	return slices.Compact(left) // who was restarted was seen more than once
}

// receiveTrace is the trace as the mailboxes see it.
type receiveTrace struct {
	*trace
	world *World
}

// Received implements seams.Tracer.
func (t *receiveTrace) Received(path string, message any) {
	if _, ok := message.(*actor.Started); ok {
		t.world.seen = append(t.world.seen, path)
	}
	t.world.scheduler.acting = strings.HasPrefix(path, t.prefix)
	t.trace.received(path, message)
}

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
type logWatch struct{ world *World }

// Write implements io.Writer.
func (l *logWatch) Write(line []byte) (int, error) { return len(line), nil }

// WriteLevel implements zerolog.LevelWriter.
func (l *logWatch) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	w := l.world
	if w.config.Log != nil {
		_, _ = fmt.Fprintf(w.config.Log, "%12v %s", time.Duration(w.clock.now), line)
	}
	text := string(line)
	if level >= zerolog.ErrorLevel && !strings.Contains(text, `"panic":"`+planned) && (w.excused == nil || !w.excused(text)) {
		w.violation(RuntimeError, "the runtime logged: %s", strings.TrimSpace(text))
	}
	return len(line), nil
}

// planned begins what is said about each panic that a fault asked for.
const planned = "a planned "

// crashed is what an actor panics with then, misbehaved what a user's code does.
type (
	crashed    struct{}
	misbehaved struct{}
)

// Error implements error.
func (crashed) Error() string    { return planned + "crash of an actor" }
func (misbehaved) Error() string { return planned + "panic of a callback" }

// ExpectedFailure implements seams.Expected: nobody needs the stack, and to take it
// down is a good part of a run.
func (crashed) ExpectedFailure()    {}
func (misbehaved) ExpectedFailure() {}

// crash makes an actor fail instead of handling a message. Faults without a
// target happen to the runtime's actors alone.
func (w *World) crash(path string, message any) {
	if !w.faults.may(ActorCrash) || !crashable(message) {
		return
	}
	at := place{actor: w.trace.short(path), message: message}
	happens := w.faults.happens
	if !strings.HasPrefix(path, w.trace.prefix) {
		happens = w.faults.aimedAt
	}
	if happens(ActorCrash, at) != nil {
		panic(crashed{})
	}
}

// Decides implements messages.DecisionWatcher.
func (t *receiveTrace) Decides(path, step string) {
	w := t.world
	if w.faults.may(DecisionCrash) && w.faults.happens(DecisionCrash, place{actor: w.trace.short(path), step: step}) != nil {
		panic(crashed{})
	}
}

// crashable reports whether the loss of a message by a panic must be survived:
// each but those that protoactor gives an actor in its life, and those to stop it.
func crashable(message any) bool {
	switch message.(type) {
	case *actor.Started, *actor.Stop, *actor.Stopping, *actor.Stopped, *actor.Restart, *actor.Restarting, *actor.Watch, *actor.Unwatch,
		*actor.Terminated, *actor.Failure, *actor.PoisonPill, *messages.BeginClose, *messages.CloseNow,
		*messages.Crashed: // who crashes over it again, ends
		return false
	}
	return true
}
