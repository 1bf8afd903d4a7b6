package troupe

import (
	"context"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe/actors/router"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
	"github.com/troupe-kafka/troupe/supervisor"
)

// Version is what brokers are told of this client (KIP-511).
const Version = "0.1.0"

// The types that users and actors share are declared in package messages, which
// has their fields and methods.
type (
	// Record is one record to produce, passed by value.
	Record = messages.Record
	// Header is one record header; a nil value is a null value.
	Header = messages.Header
	// Partition is the partition a record asks for; the zero value asks for none.
	Partition = messages.Partition
	// Delivery is the one outcome of one record.
	Delivery = messages.Delivery
	// Callback receives outcomes, one at a time within a partition.
	Callback = messages.Callback
	// Acks is how many replicas must have a record.
	Acks = messages.Acks
	// Status says whether a record is in the log.
	Status = messages.Status
	// RetryPolicy is the one policy of waiting before another try.
	RetryPolicy = messages.RetryPolicy
)

// The values of Acks and Status, and the other constants of records.
const (
	AcksDefault = messages.AcksDefault
	AcksAll     = messages.AcksAll
	AcksLeader  = messages.AcksLeader
	AcksNone    = messages.AcksNone

	NotPersisted      = messages.NotPersisted
	PossiblyPersisted = messages.PossiblyPersisted
	Persisted         = messages.Persisted

	UnlimitedRetries = messages.UnlimitedRetries
)

// AtPartition asks for a partition by number.
func AtPartition(id int32) Partition { return messages.AtPartition(id) }

// DefaultRetryPolicy starts at 100 ms and caps at 1 s, without a bound on the
// number.
func DefaultRetryPolicy() RetryPolicy { return messages.DefaultRetryPolicy() }

// Producer sends records to Kafka. Its methods may be called from any goroutine.
type Producer struct {
	config   *config
	troupe   *supervisor.Troupe
	system   *actor.ActorSystem
	queue    *seams.RunQueue // nil when the dispatcher was given
	owned    bool            // the actor system is ours
	options  router.Options
	closing  atomic.Bool // a call to Close takes the tree down
	closers  closers
	closed   *seams.Latch
	closeErr error
	calls    calls
}

func defaultLog() zerolog.Logger {
	return zerolog.New(os.Stderr).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

// New makes a producer with an actor system of its own. It checks the options
// and starts the actors, and never needs the network: the first connection is
// made in the background.
func New(options ...Option) (*Producer, error) { return start(nil, options) }

// NewIn makes a producer inside a caller's actor system. Its root actor is
// supervised by the system's guardian; stop it with Close, or by stopping PID.
func NewIn(system *actor.ActorSystem, options ...Option) (*Producer, error) {
	if system == nil {
		return nil, refuse("NewIn", "the actor system is nil")
	}
	return start(system, options)
}

var instances atomic.Int64

func start(system *actor.ActorSystem, options []Option) (*Producer, error) {
	c := defaults()
	for _, o := range options {
		if o == nil {
			return nil, refuse("options", "an option is nil")
		}
		if err := o(c); err != nil {
			return nil, err
		}
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = fmt.Sprintf("troupe/%d", instances.Add(1))
	}
	p := &Producer{config: c}
	p.applySeams()
	p.closed = seams.NewLatch(c.Parking)
	if c.partitioner == nil {
		c.partitioner = partitioners.Default
	}
	hashed := isDefault(c.partitioner)
	partitioner := c.partitioner(c.Randomness.For(c.Name + "/partitioner"))
	if system == nil {
		p.owned = true
		system = actor.NewActorSystem(actor.WithLoggerFactory(loggerFactory(c.Log)), actor.WithDeadLetterRequestLogging(false))
	}
	p.system = system
	tree := supervisor.Config{Settings: &c.Settings, Partitioner: partitioner, HashedByMurmur2: hashed}
	if p.queue != nil {
		tree.OnStopped = p.queue.Close
	}
	t, err := supervisor.Start(system.Root, tree)
	if err != nil {
		if p.queue != nil {
			p.queue.Close()
		}
		return nil, err
	}
	p.troupe = t
	p.options = router.Options{Acks: c.Acks, Codec: c.Compression, Wait: true, MaxBlock: c.maxBlock}
	return p, nil
}

// applySeams puts the real world behind every seam that was not replaced.
func (p *Producer) applySeams() {
	c := p.config
	var s Seams
	if c.seams != nil {
		s = *c.seams
	}
	if s.Clock == nil {
		s.Clock = seams.NewClock()
		if s.Executor == nil && s.CallbacksAtOnce == 0 {
			s.CallbacksAtOnce = CallbacksPerProcessor * runtime.GOMAXPROCS(0)
		}
	}
	if s.Transport == nil {
		s.Transport = seams.NewNetTransport(seams.NetConfig{
			// A little before the connection's actor gives up: the transport can say whether
			// it was TCP or TLS that took too long.
			Dial: c.dial, TLS: c.tls, DialTimeout: c.ConnectionTimeout - c.ConnectionTimeout/20, WriteTimeout: c.RequestTimeout + c.RequestTimeoutSlack, MaxFrameBytes: c.responseMaxBytes,
		})
	}
	codecsAtOnce := 1 // whatever machine a simulation is replayed on
	if s.Executor == nil {
		s.Executor = seams.NewExecutor()
		codecsAtOnce = CodecsPerProcessor * runtime.GOMAXPROCS(0)
	}
	c.CodecCrew, c.Callbacks = seams.NewCrew(s.Executor, codecsAtOnce), s.Executor
	if s.CallbacksAtOnce > 0 {
		c.Callbacks = seams.NewPool(s.Executor, s.Clock, s.CallbacksAtOnce)
	}
	if s.Parking == nil {
		s.Parking = seams.NewParking()
	}
	if s.Randomness == nil {
		s.Randomness = seams.NewRandomness()
	}
	if s.Dispatcher == nil {
		p.queue = seams.NewRunQueue()
		s.Dispatcher = p.queue
	}
	c.Clock, c.Transport, c.Executor, c.Parking, c.Randomness = s.Clock, s.Transport, s.Executor, s.Parking, s.Randomness
	c.Dispatcher, c.Tracer, c.StickyShards = s.Dispatcher, s.Tracer, s.StickyShards
}

// PID is where actors send messages.Produce to. Stopping it closes the producer.
func (p *Producer) PID() *actor.PID { return p.troupe.PID }

// System is the actor system that the producer lives in.
func (p *Producer) System() *actor.ActorSystem { return p.system }

// Connect waits until the cluster has answered once. It is optional: use it to
// fail early. It ends with ErrAuthentication when every broker refuses who the producer
// is, and with the context's cause and why nobody has answered when that ends.
func (p *Producer) Connect(ctx context.Context) error { return p.troupe.WaitReady(ctx) }

// Topic is a handle that saves the lookup on hot paths.
type Topic struct {
	producer *Producer
	topic    *router.Topic
}

// Topic returns the handle of a topic. The topic need not exist yet; only its
// name is checked.
func (p *Producer) Topic(name string) (*Topic, error) {
	t, err := p.troupe.Router.Topic(name)
	if err != nil {
		return nil, err
	}
	return &Topic{p, t}, nil
}

// Produce admits a record and returns. A nil error means that callback, unless
// it is nil, will be called exactly once with the outcome; with any other error
// nothing was admitted and callback is not called. The caller waits while the
// buffer is full, up to the context's end or max.block.ms. All slices may be
// reused when it returns.
func (p *Producer) Produce(ctx context.Context, record Record, callback Callback) error {
	t, err := p.troupe.Router.Topic(record.Topic)
	if err != nil {
		return err
	}
	return p.produce(ctx, t, &record, callback, p.options)
}

// TryProduce is Produce, but returns ErrBufferFull instead of waiting.
func (p *Producer) TryProduce(ctx context.Context, record Record, callback Callback) error {
	t, err := p.troupe.Router.Topic(record.Topic)
	if err != nil {
		return err
	}
	o := p.options
	o.Wait = false
	return p.produce(ctx, t, &record, callback, o)
}

// Produce is Producer.Produce for this topic; the record's own Topic is ignored.
func (t *Topic) Produce(ctx context.Context, record Record, callback Callback) error {
	return t.producer.produce(ctx, t.topic, &record, callback, t.producer.options)
}

// TryProduce is Producer.TryProduce for this topic.
func (t *Topic) TryProduce(ctx context.Context, record Record, callback Callback) error {
	o := t.producer.options
	o.Wait = false
	return t.producer.produce(ctx, t.topic, &record, callback, o)
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.topic.Name() }

func (p *Producer) produce(ctx context.Context, t *router.Topic, record *Record, callback Callback, o router.Options) error {
	return t.Produce(ctx, record, callback, o)
}

// Flush ends the linger of everything admitted before the call and waits for its
// outcomes and callbacks, or for the context, whose cause it then returns.
// Inside a callback it cannot end before the context does.
func (p *Producer) Flush(ctx context.Context) error {
	ctx, cancel := p.withDeadline(ctx)
	defer cancel()
	return p.troupe.Router.Flush(ctx)
}

// withDeadline gives a call without a deadline the longest that an outcome can
// take, so that a wait inside a callback ends.
func (p *Producer) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return p.config.Clock.WithTimeout(ctx, p.longest())
}

// longest is the longest that an outcome can take.
func (p *Producer) longest() time.Duration {
	return p.config.DeliveryTimeout + p.config.RequestTimeout
}

// Close refuses further records, waits for the outcomes of those admitted until
// the context ends, answers the rest with ErrClosed, and stops every actor. A
// context without a deadline gets the longest that an outcome can take
// (delivery.timeout.ms and request.timeout.ms). After the context's end Close
// takes a second more if a callback does not return, which is so when one calls
// it, and at most five while an actor cannot end.
//
// It returns nil when every record had its outcome in time, else the context's
// cause with what was left. Of several calls the context that ends first counts, and
// all return the same; once the producer is closed, so does every later call, at once.
func (p *Producer) Close(ctx context.Context) error {
	if p.closed.IsOpen() {
		return p.closeErr
	}
	limit := p.longest()
	if _, has := ctx.Deadline(); has {
		limit = unlimited
	}
	ctx, cancel := p.config.Clock.WithTimeout(ctx, limit)
	defer cancel()
	p.closers.add(cancel)
	drained := p.troupe.Drain(ctx)
	if p.closing.CompareAndSwap(false, true) {
		p.closeErr = p.troupe.Stop(drained)
		if p.owned && !p.system.IsStopped() { // whoever has it from System may have been first
			p.system.Shutdown()
		}
		p.closed.Open()
		p.closers.end()
		return p.closeErr
	}
	// The other call takes no longer than Stop does.
	if err := p.closed.Wait(context.Background()); err != nil {
		return err
	}
	return p.closeErr
}

// unlimited is the timeout of a context that ends with its parent.
const unlimited = time.Duration(math.MaxInt64 / 2)

// closers are the calls to Close that wait for callbacks. What ends one ends all:
// else a callback that does not return would hold up those with more time.
type closers struct {
	mu    sync.Mutex
	ended bool
	ends  []context.CancelFunc
}

func (c *closers) add(end context.CancelFunc) {
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.ends = append(c.ends, end)
	}
	c.mu.Unlock()
	if ended {
		end()
	}
}

func (c *closers) end() {
	c.mu.Lock()
	ends := c.ends
	c.ended, c.ends = true, nil
	c.mu.Unlock()
	for _, end := range ends {
		end()
	}
}

// Unanswered is the number of records admitted and without an outcome yet.
func (p *Producer) Unanswered() int { return p.troupe.Router.Unanswered() }

// BufferedBytes is how much of the buffer is in use.
func (p *Producer) BufferedBytes() int { return p.troupe.Budget.Used() }

// isDefault reports whether the partitioner is the default one, whose work for
// keyed records the router does itself.
func isDefault(f partitioners.Factory) bool {
	return reflect.ValueOf(f).Pointer() == reflect.ValueOf(partitioners.Factory(partitioners.Default)).Pointer()
}
