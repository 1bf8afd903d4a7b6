package broker

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// fakeTransport hands each dialled connection to the test.
type fakeTransport struct{ dials chan *fakeConnection }

func (f *fakeTransport) Dial(address string, events seams.ConnectionEvents) seams.Connection {
	c := &fakeConnection{address: address, events: events, frames: make(chan []byte, 100), closed: make(chan error, 1)}
	f.dials <- c
	return c
}

// fakeConnection is one end of a connection; the test is the other.
type fakeConnection struct {
	address string
	events  seams.ConnectionEvents
	frames  chan []byte
	closed  chan error

	mu     sync.Mutex
	ended  bool
	hold   bool // keep writes open
	writes []seams.Write
}

func (c *fakeConnection) Write(frame [][]byte, w seams.Write) {
	c.mu.Lock()
	ended, hold := c.ended, c.hold
	if hold && !ended {
		c.writes = append(c.writes, w)
	}
	c.mu.Unlock()
	if ended {
		w.Written(seams.ErrClosedLocally, false)
		return
	}
	c.frames <- join(frame)
	if !hold {
		w.Written(nil, true)
	}
}

// Close implements seams.Connection.
func (c *fakeConnection) Close(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.closed <- reason
	for _, w := range c.writes {
		w.Written(reason, false)
	}
	go c.events.Closed(reason)
}

// theatre is a broker actor with everything around it played by the test.
type theatre struct {
	t         *testing.T
	clock     *actortest.Clock
	transport *fakeTransport
	system    *actor.ActorSystem
	broker    *actor.PID
	root      chan any
	rootPID   *actor.PID

	mu  sync.Mutex
	log []messages.LogLine
}

// strategy is what becomes of failed connections in a test.
type strategy func(parent actor.Supervisor, child *actor.PID)

func (s strategy) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, _, _ any) {
	s(parent, child)
}

func restart(parent actor.Supervisor, child *actor.PID) { parent.RestartChildren(child) }
func stop(parent actor.Supervisor, child *actor.PID)    { parent.StopChildren(child) }

func newTheatre(t *testing.T, decide strategy, changes ...func(*Config)) *theatre {
	th := &theatre{
		t: t, clock: actortest.NewClock(), transport: &fakeTransport{dials: make(chan *fakeConnection, 100)}, root: make(chan any, 1000),
		system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })),
	}
	th.clock.LateFires = true
	queue := seams.NewRunQueue()
	settings := &messages.Settings{
		Name: "test", ClientID: "c", Software: "troupe", SoftwareVer: "1", RequestMaxBytes: 10_000, MaxInFlight: 2,
		RequestTimeout: 30 * time.Second, RequestTimeoutSlack: 10 * time.Second, ConnectionTimeout: 10 * time.Second, SlowRequest: 2 * time.Second, ConnectionIdle: 9 * time.Minute,
		Clock: th.clock, Transport: th.transport, Dispatcher: queue, Log: zerolog.Nop(), Randomness: seams.SeededRandomness(1),
		Retry: messages.DefaultRetryPolicy(),
	}
	settings.Gate = messages.NewLogGate(th.clock, func(l messages.LogLine) {
		th.mu.Lock()
		th.log = append(th.log, l)
		th.mu.Unlock()
	})
	th.rootPID = th.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch c.Message().(type) {
		case actor.SystemMessage, actor.AutoReceiveMessage, *actor.Started:
		default:
			th.root <- c.Message()
		}
	}))
	c := Config{
		Settings: settings, Info: messages.BrokerInfo{ID: 4, Address: "one:9092"}, Identity: messages.Identity{ProducerID: 7, Generation: 1},
		Root: th.rootPID, Supervisor: decide,
	}
	for _, change := range changes {
		change(&c)
	}
	th.broker = th.system.Root.Spawn(Props(c))
	t.Cleanup(func() {
		_ = th.system.Root.StopFuture(th.broker).Wait()
		_ = th.system.Root.StopFuture(th.rootPID).Wait()
		th.system.Shutdown()
		queue.Close()
		queue.Wait()
	})
	return th
}

func (th *theatre) tell(m any) { th.system.Root.Send(th.broker, m) }

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(5 * time.Second):
		t.Fatalf("not within 5 s: %s", what)
		panic("unreachable")
	}
}

func (th *theatre) eventually(what string, is func() bool) {
	th.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			th.t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func (th *theatre) outcome(b *fakeBatch) (r messages.Result) {
	th.t.Helper()
	th.eventually("an outcome", func() (ok bool) { r, ok = b.outcome(th.t); return ok })
	return r
}

// apiVersions is an answer of a broker.
func apiVersions(version int16, keys ...kmsg.ApiVersionsResponseApiKey) *kmsg.ApiVersionsResponse {
	r := kmsg.NewPtrApiVersionsResponse()
	r.SetVersion(version)
	r.ApiKeys = keys
	return r
}

func apiKey(key kmsg.Key, low, high int16) kmsg.ApiVersionsResponseApiKey {
	return kmsg.ApiVersionsResponseApiKey{ApiKey: int16(key), MinVersion: low, MaxVersion: high}
}

func modern() []kmsg.ApiVersionsResponseApiKey {
	return []kmsg.ApiVersionsResponseApiKey{apiKey(kmsg.Produce, 0, 13), apiKey(kmsg.Metadata, 0, 13), apiKey(kmsg.ApiVersions, 0, 4)}
}

// expectVersionsRequest reads the handshake's request.
func (th *theatre) expectVersionsRequest(c *fakeConnection, want int16) int32 {
	th.t.Helper()
	key, version, correlation, _ := readHeader(th.t, receive(th.t, "ApiVersions", c.frames))
	if key != int16(kmsg.ApiVersions) || version != want {
		th.t.Fatalf("request of api %d version %d, expected ApiVersions %d", key, version, want)
	}
	return correlation
}

// connect answers the next dial and its handshake.
func (th *theatre) connect() *fakeConnection {
	th.t.Helper()
	c := receive(th.t, "a dial", th.transport.dials)
	c.events.Opened()
	correlation := th.expectVersionsRequest(c, 3)
	c.events.Received(responseFrame(correlation, apiVersions(3, modern()...)))
	return c
}

func (th *theatre) ready(f *fakeTaker) { th.tell(&messages.PartitionReady{Taker: f, Class: f.Class()}) }

func TestProduceAndAnswer(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	th.ready(newTaker("a", 5, b))
	c := th.connect()
	if c.address != "one:9092" {
		t.Errorf("dialled %s", c.address)
	}
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	if k.GetVersion() != 13 {
		t.Errorf("version %d: brokers advertise 0 as the lowest and mean 3", k.GetVersion())
	}
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	if r := th.outcome(b); r.Err != nil || r.BaseOffset != 105 || r.Broker != 4 || b.written != 1 {
		t.Errorf("%+v, written %d", r, b.written)
	}
}

func TestHandshakeFallsBack(t *testing.T) {
	th := newTheatre(t, restart)
	th.ready(newTaker("a", 0, newBatch(100)))
	c := receive(t, "a dial", th.transport.dials)
	c.events.Opened()
	correlation := th.expectVersionsRequest(c, 3)
	old := apiVersions(0, apiKey(kmsg.ApiVersions, 0, 2))
	old.ErrorCode = int16(protocol.UnsupportedVersion)
	c.events.Received(responseFrame(correlation, old))
	correlation = th.expectVersionsRequest(c, 0)
	c.events.Received(responseFrame(correlation, apiVersions(0, apiKey(kmsg.Produce, 0, 8), apiKey(kmsg.Metadata, 0, 5))))
	if _, k := readRequest(t, receive(t, "a request", c.frames)); k.GetVersion() != 8 {
		t.Errorf("version %d", k.GetVersion())
	}
}

func TestHandshakeRefused(t *testing.T) {
	unsupported := apiVersions(0)
	unsupported.ErrorCode = int16(protocol.UnsupportedVersion)
	denied := apiVersions(3)
	denied.ErrorCode = int16(protocol.ClusterAuthorizationFailed)
	for name, answers := range map[string][]kmsg.Response{
		"twice":             {unsupported, unsupported},
		"no common version": {apiVersions(3, apiKey(kmsg.Produce, 14, 20))},
		"too old":           {apiVersions(3, apiKey(kmsg.Produce, 0, 2))},
		"error":             {denied},
		"garbage":           {nil},
	} {
		t.Run(name, func(t *testing.T) {
			th := newTheatre(t, restart)
			b := newBatch(100)
			th.ready(newTaker("a", 0, b))
			c := receive(t, "a dial", th.transport.dials)
			c.events.Opened()
			for _, a := range answers {
				_, _, correlation, _ := readHeader(t, receive(t, "ApiVersions", c.frames))
				frame := []byte{0, 0, 0, 1, 0, 0, 9}
				if a != nil {
					frame = responseFrame(correlation, a)
				}
				c.events.Received(frame)
			}
			if reason := receive(t, "the end of the connection", c.closed); reason == nil {
				t.Error("no reason")
			}
			receive(t, "another dial", th.transport.dials)
			if _, ok := b.outcome(t); ok {
				t.Error("the batch was settled, though nothing was sent")
			}
		})
	}
}

func TestLostConnection(t *testing.T) {
	th := newTheatre(t, restart)
	sent, more := newBatch(100), newBatch(100)
	a := newTaker("a", 0, sent)
	th.ready(a)
	c := th.connect()
	receive(t, "a request", c.frames)
	c.mu.Lock()
	c.hold = true
	c.mu.Unlock()
	th.ready(newTaker("a", 1, more))
	receive(t, "another request", c.frames)
	c.Close(errors.New("cable cut")) // the second request's write ends with it
	if r := th.outcome(sent); !errors.Is(r.Err, messages.ErrConnectionLost) || !r.Sent {
		t.Errorf("%+v", r)
	}
	if r := th.outcome(more); !errors.Is(r.Err, messages.ErrConnectionLost) || r.Sent {
		t.Errorf("of what was not sent: %+v", r)
	}
	if m := receive(t, "a wish for metadata", th.root); m.(*messages.RefreshMetadata) == nil {
		t.Error(m)
	}
}

func TestWrongCorrelationEndsTheConnection(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	th.ready(newTaker("a", 0, b))
	c := th.connect()
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	c.events.Received(responseFrame(correlation+1, produceAnswer(k, 0)))
	_ = receive(t, "the end of the connection", c.closed)
	if r := th.outcome(b); !errors.Is(r.Err, messages.ErrConnectionLost) || !r.Sent {
		t.Errorf("%+v", r)
	}
}

func TestIdleConnectionCloses(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	a := newTaker("a", 0, b)
	th.ready(a)
	c := th.connect()
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	th.outcome(b)
	for range 20 { // timers are armed for the first deadline and look again
		th.clock.Advance(time.Minute)
		time.Sleep(2 * time.Millisecond)
	}
	_ = receive(t, "the end of the connection", c.closed)
	next := newBatch(100)
	a.mu.Lock()
	a.batches = append(a.batches, next)
	a.mu.Unlock()
	th.ready(a)
	receive(t, "a request on a new connection", th.connect().frames)
}

func TestNoAcks(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	a := newTaker("a", 0, b)
	a.class = messages.Class{Lane: messages.LaneNoAcks, Acks: messages.AcksNone}
	b.acks = messages.AcksNone
	th.ready(a)
	c := th.connect()
	if _, k := readRequest(t, receive(t, "a request", c.frames)); k.Acks != 0 {
		t.Errorf("acks %d", k.Acks)
	}
	if r := th.outcome(b); r.Err != nil || r.Code != 0 || r.BaseOffset != -1 || !r.Sent {
		t.Errorf("%+v", r)
	}
}

// TestWrittenAfterTheLoss: the end of a write and the end of its connection may
// come in either order; the request is given back once.
func TestWrittenAfterTheLoss(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	a := newTaker("a", 0, b)
	a.class = messages.Class{Lane: messages.LaneNoAcks, Acks: messages.AcksNone}
	th.ready(a)
	c := receive(t, "a dial", th.transport.dials)
	c.hold = true
	c.events.Opened()
	correlation := th.expectVersionsRequest(c, 3)
	c.events.Received(responseFrame(correlation, apiVersions(3, modern()...)))
	receive(t, "a request", c.frames)
	c.mu.Lock()
	r := c.writes[len(c.writes)-1].(*request)
	c.writes = nil
	c.mu.Unlock()
	th.tell(&messages.BrokerMoved{Address: "two:9092"})
	if res := th.outcome(b); !errors.Is(res.Err, messages.ErrConnectionLost) {
		t.Errorf("%+v", res)
	}
	_ = receive(t, "the end of the connection", c.closed)
	r.Written(nil, true)
	// One more turn of the broker, so that it has handled the message before.
	th.control(kmsg.NewPtrMetadataRequest())
	th.controlTimesOut()
	if holds := r.holds.Load(); holds != 0 {
		t.Errorf("the request has %d holds", holds)
	}
}

func (th *theatre) control(r kmsg.Request) {
	th.tell(&messages.ControlRequest{Broker: 4, Request: r, ReplyTo: th.rootPID, Ticket: 3})
}

func (th *theatre) controlAnswer() *messages.ControlResponse {
	th.t.Helper()
	for {
		if m, ok := receive(th.t, "an answer to the control request", th.root).(*messages.ControlResponse); ok {
			if m.Ticket != 3 || m.Broker != 4 {
				th.t.Errorf("%+v", m)
			}
			return m
		}
	}
}

// controlTimesOut lets time pass until the request is given up.
func (th *theatre) controlTimesOut() (m *messages.ControlResponse) {
	th.t.Helper()
	th.eventually("the end of the control request", func() bool {
		th.clock.Advance(31 * time.Second)
		for len(th.root) > 0 {
			if got, ok := (<-th.root).(*messages.ControlResponse); ok {
				m = got
			}
		}
		return m != nil
	})
	return m
}

func TestControl(t *testing.T) {
	th := newTheatre(t, restart)
	th.control(kmsg.NewPtrMetadataRequest())
	c := th.connect()
	key, version, correlation, _ := readHeader(t, receive(t, "a request", c.frames))
	if key != int16(kmsg.Metadata) || version != 12 {
		t.Errorf("api %d version %d", key, version)
	}
	a := kmsg.NewPtrMetadataResponse()
	a.SetVersion(version)
	a.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 4, Host: "h", Port: 1}}
	c.events.Received(responseFrame(correlation, a))
	if m := th.controlAnswer(); m.Err != nil || m.Response.(*kmsg.MetadataResponse).Brokers[0].NodeID != 4 {
		t.Errorf("%+v", m)
	}
	// An api that the broker lacks.
	th.control(kmsg.NewPtrInitProducerIDRequest())
	if m := th.controlAnswer(); !errors.Is(m.Err, protocol.UnsupportedVersion) {
		t.Errorf("%+v", m)
	}
	// A connection that ends.
	th.control(kmsg.NewPtrMetadataRequest())
	receive(t, "a request", c.frames)
	c.Close(errors.New("cable cut"))
	if m := th.controlAnswer(); !errors.Is(m.Err, messages.ErrConnectionLost) {
		t.Errorf("%+v", m)
	}
	// None at all.
	th.control(kmsg.NewPtrMetadataRequest())
	if m := th.controlTimesOut(); m.Err == nil {
		t.Errorf("%+v", m)
	}
}

// TestRetriesUsedUp: partitions that are ready do not say so again; whoever
// waits gets another connection, though not without a pause.
func TestRetriesUsedUp(t *testing.T) {
	th := newTheatre(t, stop)
	b := newBatch(100)
	th.ready(newTaker("a", 0, b))
	for range 3 {
		receive(t, "a dial", th.transport.dials).Close(errors.New("refused"))
		time.Sleep(20 * time.Millisecond)
		th.ready(newTaker("b", 0)) // somebody else wants the lane too
		time.Sleep(5 * time.Millisecond)
		if len(th.transport.dials) > 0 {
			t.Fatal("dialled again at once")
		}
		th.clock.Advance(time.Second)
	}
	c := th.connect()
	correlation, k := readRequest(t, receive(t, "a request", c.frames))
	c.events.Received(responseFrame(correlation, produceAnswer(k, 0)))
	if r := th.outcome(b); r.Err != nil {
		t.Errorf("%+v", r)
	}
}

// TestAnotherClassIsServedAtOnce: a partition that turns out to want an earlier
// class is not left lying.
func TestAnotherClassIsServedAtOnce(t *testing.T) {
	th := newTheatre(t, restart)
	a := newTaker("a", 0, newBatch(100))
	slow := messages.Class{Lane: messages.LaneSlow, Acks: messages.AcksAll}
	th.tell(&messages.PartitionReady{Taker: a, Class: slow})
	lanes := []*fakeConnection{th.connect(), th.connect()}
	th.eventually("a request on the other lane", func() bool { return len(lanes[1].frames) == 1 })
}

func TestIdentityIsAskedForOnce(t *testing.T) {
	th := newTheatre(t, restart, func(c *Config) { c.Identity = messages.NoIdentity })
	var takers []*fakeTaker
	for i := range int32(3) {
		a := newTaker("a", i, newBatch(100))
		a.numbered = true
		takers = append(takers, a)
		th.ready(a)
	}
	c := th.connect()
	if m, ok := receive(t, "a wish for an identity", th.root).(*messages.NeedIdentity); !ok {
		t.Errorf("%T", m)
	}
	th.tell(&messages.IdentityChanged{Identity: messages.Identity{ProducerID: 3, Generation: 1}})
	_, k := readRequest(t, receive(t, "a request", c.frames))
	if len(k.Topics[0].Partitions) != 3 {
		t.Errorf("%d partitions", len(k.Topics[0].Partitions))
	}
	if n := len(th.root); n != 0 {
		t.Errorf("%d more messages to the root", n)
	}
	if got := takers[0].requests; !slices.ContainsFunc(got, func(r messages.TakeRequest) bool { return r.Identity.ProducerID == 3 }) {
		t.Errorf("offered %+v", got)
	}
}

func TestStopSettles(t *testing.T) {
	th := newTheatre(t, restart)
	b := newBatch(100)
	th.ready(newTaker("a", 0, b))
	c := th.connect()
	receive(t, "a request", c.frames)
	_ = th.system.Root.StopFuture(th.broker).Wait()
	if r, ok := b.outcome(t); !ok || !errors.Is(r.Err, seams.ErrClosedLocally) || !r.Sent {
		t.Errorf("%v %+v", ok, r)
	}
	_ = receive(t, "the end of the connection", c.closed)
}

// FuzzHandshake: any answer ends in a connection that is up or closed, or in one
// more question.
func FuzzHandshake(f *testing.F) {
	f.Add(responseFrame(1, apiVersions(3, modern()...)), int16(3))
	f.Add(responseFrame(1, apiVersions(0, modern()...)), int16(0))
	f.Add([]byte{0, 0, 0, 1, 0, 35}, int16(3))
	f.Fuzz(func(t *testing.T, frame []byte, asked int16) {
		if asked != 0 {
			asked = 3
		}
		c := &fakeConnection{events: noEvents{}, frames: make(chan []byte, 1), closed: make(chan error, 1)}
		k := &connection{settings: &messages.Settings{Clock: actortest.NewClock()}, link: &link{connection: c}, asked: asked}
		k.handshake(sender{}, frame)
		if outcomes := len(c.frames) + len(c.closed); outcomes > 1 || (outcomes == 0) != k.up {
			t.Errorf("up %v, %d questions, %d ends", k.up, len(c.frames), len(c.closed))
		}
	})
}

// sender is a context that drops what is sent.
type sender struct{ actor.Context }

func (sender) Send(*actor.PID, any) {}

type noEvents struct{}

func (noEvents) Opened()         {}
func (noEvents) Received([]byte) {}
func (noEvents) Closed(error)    {}
