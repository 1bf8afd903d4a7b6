package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// MaxTopicNameBytes is Kafka's limit on the length of a topic name.
const MaxTopicNameBytes = 249

// Config is what a router is made with.
type Config struct {
	Settings    *messages.Settings
	Budget      *memory.Budget
	Partitioner partitioners.Partitioner
	// HashedByMurmur2 says that Partitioner is the default one, whose work for
	// keyed records is done without asking it.
	HashedByMurmur2 bool
	Spawn           messages.SpawnAccumulator
	Root            *actor.PID
	// Supervisor decides about accumulators that crash; nil: protoactor's default.
	Supervisor actor.SupervisorStrategy
}

// Router is the process and the table behind it. Its methods may be called from
// any goroutine.
type Router struct {
	Config
	system  *actor.ActorSystem
	table   atomic.Pointer[map[string]*Topic]
	refused atomic.Pointer[error] // why nothing is admitted any more
	park    *memory.Account
	process *Process      // apart: the tombstone must not keep the rest alive
	calls   atomic.Uint64 // of SendAll

	mu       sync.Mutex            // guards writes to table
	lastFail atomic.Pointer[error] // of metadata; nil: it was had since

	writable writable
}

// Topic is one topic's routes. It is a handle: holding it saves the lookup.
type Topic struct {
	name    string
	router  *Router
	routes  atomic.Pointer[routes]
	err     atomic.Pointer[error] // permanent: authorisation, invalid name
	lastErr atomic.Pointer[error] // may pass: what the last answer said of the topic
	sticky  sticky
	parking
}

// isFine forgets what was wrong with the topic.
func (t *Topic) isFine() {
	t.err.Store(nil)
	t.lastErr.Store(nil)
}

// because adds to the end of a record why its topic is not known.
func (t *Topic) because(err error) error {
	if why := t.lastErr.Load(); why != nil && t.router.lastFail.Load() == nil {
		return fmt.Errorf("%w: %w", err, *why)
	}
	return t.router.Because(err)
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.name }

// routes is what the caller's path needs of one topic. It is immutable.
type routes struct {
	boxes     []messages.Appender // index = partition id; nil where the topic has none
	infos     []partitioners.Partition
	live      []messages.Appender // the boxes there are, in order
	available []int32
	epochs    []int32 // of the leaders
	// What else decided who leads: the brokers there were, and how often the router
	// had crashed, after which it cannot know whom it has told.
	brokers map[int32]*actor.PID
	crashes int
}

func (rt *routes) check(id int32) error {
	if rt.has(id) {
		return nil
	}
	return errBeyond
}

// has reports whether the topic has the partition, which is not negative.
func (rt *routes) has(id int32) bool { return int(id) < len(rt.boxes) && rt.boxes[id] != nil }

// New returns a router without topics.
func New(c Config, system *actor.ActorSystem) *Router {
	r := &Router{Config: c, system: system, park: c.Budget.NewCommonAccount("parked records", part(c.Settings.ParkedPercent), part(c.Settings.LeaderPercent))}
	empty := make(map[string]*Topic)
	r.table.Store(&empty)
	r.process = &Process{system: system}
	r.process.router.Store(r)
	c.Budget.PaceBytes = r.Settings.PaceBytes
	c.Budget.OnPaced = func() { r.tellActor(&bufferPaced{}) }
	c.Budget.OnPressure = func() { r.tellActor(&bufferPressed{}) }
	return r
}

// part is a percentage as a part of one.
func part(percent int) float64 { return float64(percent) / 100 }

// Refuse ends admission: from now on every record is refused with err. The
// first reason stays.
func (r *Router) Refuse(err error) {
	if r.refused.CompareAndSwap(nil, &err) {
		r.Budget.Close(err)
	}
}

// Because adds to an error why metadata cannot be had, unless it was had the last time.
// It is safe to call from anywhere.
func (r *Router) Because(err error) error {
	if why := r.lastFail.Load(); why != nil {
		return fmt.Errorf("%w: %w", err, *why)
	}
	return err
}

// Refused returns why nothing is admitted any more, or nil.
func (r *Router) Refused() error {
	if p := r.refused.Load(); p != nil {
		return *p
	}
	return nil
}

// Topic returns the handle of a topic, after checking its name.
func (r *Router) Topic(name string) (*Topic, error) {
	if t := (*r.table.Load())[name]; t != nil {
		return t, nil
	}
	return r.addTopic(name)
}

func (r *Router) addTopic(name string) (*Topic, error) {
	if err := checkTopicName(name); err != nil {
		return nil, err
	}
	if err := r.Refused(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.table.Load()
	if t := old[name]; t != nil {
		return t, nil
	}
	t := &Topic{name: name, router: r}
	t.share = r.Budget.NewShare(r.park, "parked records of topic "+name, part(r.Settings.ParkedTopicPercent))
	t.sticky.random.Store(r.Settings.Randomness.For(r.Settings.Name + "/router/" + name).Uint64())
	grown := make(map[string]*Topic, len(old)+1)
	for k, v := range old {
		grown[k] = v
	}
	grown[name] = t
	r.table.Store(&grown)
	r.system.Root.Send(r.Root, &messages.TrackTopic{Name: name})
	return t, nil
}

func checkTopicName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: invalid topic: the name is empty", messages.ErrInvalidRecord)
	}
	if len(name) > MaxTopicNameBytes || name == "." || name == ".." {
		return fmt.Errorf("%w: invalid topic %.60q: a name has 1 to %d characters, and neither one nor two dots alone", messages.ErrInvalidRecord, name, MaxTopicNameBytes)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%w: invalid topic %q: %q is not one of a-z, A-Z, 0-9, dot, underscore, hyphen", messages.ErrInvalidRecord, name, c)
		}
	}
	return nil
}

// Options are the choices that hold for one call.
type Options struct {
	Acks  messages.Acks
	Codec codecs.ID
	// Wait lets the caller wait for room; without it the answer is ErrBufferFull.
	Wait bool
	// Urgent ends the linger of the batch that the record lands in.
	Urgent bool
	// Prompt says that the callback is no code of the user's, and does not block.
	Prompt bool
	// TimeoutMs is how long the broker may wait for its replicas; 0 takes the
	// request timeout.
	TimeoutMs int32
	// MaxBlock bounds the wait for room; 0 leaves it to the context. It counts from
	// Since, when a call of several records began; 0 is the record's first wait.
	MaxBlock time.Duration
	Since    seams.Instant
}

// admission holds a record for the time of its call. The copy keeps the caller's
// own record off the heap.
type admission struct {
	messages.Admission
	record messages.Record
}

var admissions = sync.Pool{New: func() any { return new(admission) }}

// Produce admits one record. A nil error means that callback will be called
// exactly once; with any other nothing was admitted.
func (t *Topic) Produce(ctx context.Context, record *messages.Record, callback messages.Callback, o Options) error {
	size, own, err := t.admissible(ctx, record)
	if err != nil {
		return err
	}
	a := admissions.Get().(*admission)
	a.record = *record
	a.Record, a.Callback, a.Context = &a.record, callback, own
	a.Acks, a.Codec, a.Bytes, a.Urgent, a.TimeoutMs = o.Acks, o.Codec, size, o.Urgent, o.TimeoutMs
	a.Prompt, a.Wait, a.MaxBlock, a.Since = o.Prompt, o.Wait, o.MaxBlock, o.Since
	err = t.admit(ctx, &a.Admission)
	a.record.Key, a.record.Value, a.record.Headers, a.record.Opaque = nil, nil, nil, nil
	t.done(a)
	return err
}

// produceFor admits an actor's record, without waiting. A nil error means that to,
// unless it is nil, will be sent the outcome exactly once. The record is on the heap
// with the actor's message, and is read there: no copy is made on the way.
func (t *Topic) produceFor(ctx context.Context, record *messages.Record, to messages.Recipient) error {
	size, own, err := t.admissible(ctx, record)
	if err != nil {
		return err
	}
	a := admissions.Get().(*admission)
	settings := t.router.Settings
	a.Record, a.ReplyTo, a.Context = record, to, own
	a.Acks, a.Codec, a.Bytes = settings.Acks, settings.Compression, size
	err = t.admit(ctx, &a.Admission)
	t.done(a)
	return err
}

// admissible says why a record is refused before its partition is looked at. It
// returns the most that the record can take, and the context to keep with it.
func (t *Topic) admissible(ctx context.Context, record *messages.Record) (size int, own context.Context, err error) {
	r := t.router
	if p := r.refused.Load(); p != nil {
		return 0, nil, *p
	}
	if size, err = t.check(record); err != nil {
		return 0, nil, err
	}
	if ctx.Done() != nil {
		if err := ctx.Err(); err != nil {
			return 0, nil, messages.CauseOf(ctx, err)
		}
		own = ctx
	}
	return size, own, nil
}

// done ends a call: what it did not use goes back.
func (t *Topic) done(a *admission) {
	if a.Chunk != nil {
		t.router.Budget.Release(a.Chunk)
	}
	// The pool must not keep the caller's memory alive, and the next call sets only
	// what it has.
	a.Admission = messages.Admission{}
	admissions.Put(a)
}

// check refuses what the protocol or the settings do not allow, and returns the
// most that the encoded record can take.
func (t *Topic) check(record *messages.Record) (int, error) {
	r := t.router
	size := protocol.RecordUpperBound(len(record.Key), len(record.Value), record.Headers)
	if size > r.Settings.RecordMaxBytes+protocol.RecordUpperBound(0, 0, nil) {
		return 0, fmt.Errorf("%w: topic %s: %d bytes, limit %d (max.request.size)", messages.ErrRecordTooLarge, t.name, size, r.Settings.RecordMaxBytes)
	}
	if id, set := record.Partition.Get(); set && id < 0 {
		return 0, fmt.Errorf("%w: topic %s: partition %d is negative", messages.ErrInvalidRecord, t.name, id)
	}
	if !record.Timestamp.IsZero() {
		if ms := record.Timestamp.UnixMilli(); ms < 0 || ms > math.MaxInt64/2 {
			return 0, fmt.Errorf("%w: topic %s: timestamp %v is before 1970", messages.ErrInvalidRecord, t.name, record.Timestamp)
		}
	}
	return size, nil
}

// admit finds the partition and posts the record to it.
func (t *Topic) admit(ctx context.Context, a *messages.Admission) error {
	for {
		rt := t.routes.Load()
		partition, shard, err := int32(0), (*stickyShard)(nil), errBeyond
		if rt != nil {
			partition, shard, err = t.choose(rt, a.Record)
		}
		if err == errBeyond {
			if rt != nil {
				chosen := *a.Record // it may be part of a message, which nobody changes
				chosen.Partition = messages.AtPartition(partition)
				a.Record = &chosen // chosen once
			}
			list := []messages.Admission{*a}
			if _, err = t.park(ctx, list, 0); err == errKnown {
				a.Since = list[0].Since
				continue
			}
			return err
		}
		if err != nil {
			return err
		}
		done, err := t.post(ctx, rt, partition, shard, a)
		if done || err != nil {
			return err
		}
		if err := t.router.Refused(); err != nil {
			return err
		}
	}
}

// post appends to the partition, with as many chunks as it asks for. It reports
// false when the partition is closed and the routes must be read again.
func (t *Topic) post(ctx context.Context, rt *routes, partition int32, shard *stickyShard, a *messages.Admission) (bool, error) {
	box := rt.boxes[partition]
	closed := false
	for {
		switch box.Append(a) {
		case messages.Appended:
			return true, nil
		case messages.AppendClosed:
			t.mu.Lock() // retirement may be under way, or taken back
			current, newest := t.routes.Load(), t.knownLocked()
			t.mu.Unlock()
			if current != rt {
				return false, nil
			}
			if newest != nil && (!newest.has(partition) || newest.boxes[partition] != box) {
				return false, fmt.Errorf("%w: topic %s: partition %d is gone", messages.ErrUnknownPartition, t.name, partition)
			}
			if refused := t.router.Refused(); refused != nil {
				return false, refused // it is the producer that has ended, and says why
			}
			if closed {
				return false, fmt.Errorf("%w: topic %s, partition %d", messages.ErrClosed, t.name, partition)
			}
			closed = true
			continue
		case messages.AppendCrashed:
			return false, errAppendCrashed
		case messages.NeedsBatch:
			if shard != nil && a.Chunk == nil {
				if next := t.move(rt, shard, partition); next != partition {
					partition = next
					box = rt.boxes[partition]
					shard = nil // moved once; whatever it finds there is right
					continue
				}
			}
		}
		if err := t.acquire(ctx, box, a); err != nil {
			return false, err
		}
		if shard != nil {
			shard.bytes.Add(int64(cap(a.Chunk.Bytes)))
		}
	}
}

func (t *Topic) acquire(ctx context.Context, box messages.Appender, a *messages.Admission) error {
	if a.Chunk != nil {
		// Too small after all: somebody sealed the batch it was meant for.
		t.router.Budget.Release(a.Chunk)
		a.Chunk = nil
	}
	var err error
	a.Chunk, err = t.room(ctx, box.Account(), box.NeedBytes(a.Bytes), a)
	return err
}

// room takes a chunk from the budget, waiting if the call may.
func (t *Topic) room(ctx context.Context, account *memory.Account, bytes int, a *messages.Admission) (*memory.Chunk, error) {
	b := t.router.Budget
	if !a.Wait {
		chunk, err := b.TryAcquire(account, bytes)
		return chunk, t.bufferError(err, account, bytes)
	}
	if chunk := b.AcquireNow(account, bytes); chunk != nil {
		return chunk, nil
	}
	return t.waitForRoom(ctx, account, bytes, a, func(bound context.Context) (*memory.Chunk, error) {
		return b.Acquire(bound, account, bytes)
	})
}

// waitForRoom waits for a chunk, up to the bound of the call. Only a call that
// has to wait pays for the bound; the record keeps its own context.
func (t *Topic) waitForRoom(ctx context.Context, account *memory.Account, bytes int, a *messages.Admission, acquire func(context.Context) (*memory.Chunk, error)) (*memory.Chunk, error) {
	bound := ctx
	if _, has := ctx.Deadline(); !has && a.MaxBlock > 0 {
		clock := t.router.Settings.Clock
		now := clock.Now()
		if a.Since == 0 {
			a.Since = now
		}
		left := a.Since.Add(a.MaxBlock).Sub(now)
		var cancel context.CancelFunc
		bound, cancel = clock.WithTimeout(ctx, left)
		defer cancel()
	}
	chunk, err := acquire(bound)
	if err != nil && bound.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: topic %s: no room within %v (max.block.ms)", messages.ErrBufferFull, t.name, a.MaxBlock)
	}
	return chunk, t.bufferError(err, account, bytes)
}

// fullError is ErrBufferFull, with whose room was lacking.
type fullError struct {
	error
	account *memory.Account
	bytes   int
}

// Unwrap implements errors.Unwrap.
func (e *fullError) Unwrap() error { return e.error }

func (t *Topic) bufferError(err error, account *memory.Account, bytes int) error {
	if err == nil {
		return nil
	}
	if refused := t.router.Refused(); refused != nil {
		return refused
	}
	if errors.Is(err, memory.ErrFull) {
		return &fullError{fmt.Errorf("%w: topic %s: %w", messages.ErrBufferFull, t.name, err), account, bytes}
	}
	return err
}

// choose picks the partition of a record, once. With errBeyond it is one that
// the topic does not have, as far as is known.
func (t *Topic) choose(rt *routes, record *messages.Record) (int32, *stickyShard, error) {
	if id, set := record.Partition.Get(); set {
		return id, nil, rt.check(id)
	}
	r := t.router
	if r.HashedByMurmur2 {
		if record.Key != nil {
			id := (partitioners.Murmur2(record.Key) & math.MaxInt32) % int32(len(rt.boxes))
			return id, nil, rt.check(id)
		}
		id, shard := t.current(rt)
		return id, shard, nil
	}
	return t.chooseByUser(rt, record)
}

type partitionerCall struct {
	input   partitioners.Input
	message partitioners.Message
}

var partitionerCalls = sync.Pool{New: func() any { return new(partitionerCall) }}

// chooseByUser asks the partitioner. A panic in it is the caller's error, not
// the runtime's.
func (t *Topic) chooseByUser(rt *routes, record *messages.Record) (id int32, shard *stickyShard, err error) {
	call := partitionerCalls.Get().(*partitionerCall)
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: topic %s: the partitioner panicked: %v", messages.ErrInvalidPartitioner, t.name, reason)
		}
		*call = partitionerCall{}
		partitionerCalls.Put(call)
	}()
	call.message = partitioners.Message{Key: record.Key, Value: record.Value, Headers: record.Headers, Timestamp: record.Timestamp, Partition: -1}
	call.input = partitioners.Input{Topic: t.name, Partitions: rt.infos, Available: rt.available, Message: &call.message}
	id = t.router.Partitioner.Partition(&call.input)
	switch {
	case id == partitioners.Unassigned:
		id, shard = t.current(rt)
	case id < 0 || int(id) >= len(rt.boxes):
		err = fmt.Errorf("%w: topic %s has partitions 0 to %d, the partitioner answered %d", messages.ErrInvalidPartitioner, t.name, len(rt.boxes)-1, id)
	default:
		err = rt.check(id)
	}
	return id, shard, err
}

// SetRoot tells the router whom to ask for metadata. It is called before the
// first record.
func (r *Router) SetRoot(pid *actor.PID) { r.Root = pid }

// tellActor reaches the table's keeper through the root: records can come before
// it has been started.
func (r *Router) tellActor(message any) {
	r.system.Root.Send(r.Root, &messages.ForRouter{Message: message})
}
