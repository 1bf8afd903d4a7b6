package broker

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// Config is what a broker actor is started with.
type Config struct {
	Settings *messages.Settings
	Info     messages.BrokerInfo
	Identity messages.Identity
	// Root hears of lost connections and needed identities.
	Root *actor.PID
	// Supervisor decides about failed connections.
	Supervisor actor.SupervisorStrategy
}

// broker is the actor of one node. It is restarted only for bugs; what is lost
// then is settled as lost, so that the accumulators send it again.
type broker struct {
	Config
	path       string
	state      *State
	children   [messages.Lanes]*actor.PID
	spawned    int
	current    [messages.Lanes]int // the number of each lane's latest child
	response   protocol.ProduceResponse
	timer      seams.Timer
	timing     seams.Instant
	unreadable bool // the last answer was
	askedForID bool
	dismissed  bool // it has been told to stop
}

// NodeName is a broker's name below the root.
func NodeName(id int32) string {
	if messages.IsSeed(id) {
		return "broker/seed-" + strconv.Itoa(int(-2-id))
	}
	return "broker/" + strconv.Itoa(int(id))
}

// Props returns the properties of a broker actor.
func Props(c Config) *actor.Props {
	path := c.Settings.Name + "/" + NodeName(c.Info.ID)
	var before *broker
	return c.Settings.Props(path, func() actor.Actor {
		s := c.Settings
		b := &broker{Config: c, path: path, timing: seams.Never, state: newState(config{
			id: c.Info.ID, clientID: s.ClientID, requestMaxBytes: s.RequestMaxBytes, maxInFlight: s.MaxInFlight,
			requestTimeout: s.RequestTimeout, timeoutSlack: s.RequestTimeoutSlack, connectionIdle: s.ConnectionIdle, slowRequest: s.SlowRequest,
			maxRetryTime: s.Retry.MaxRetryTime, decisions: s.DecisionsOf(path),
		}, c.Identity)}
		if before != nil {
			b.inherit(before)
		}
		before = b
		return b
	}, actor.WithSupervisor(c.Supervisor))
}

// inherit takes over from an incarnation that crashed what partitions will not
// say again: that they are ready. What was in flight was settled as lost.
func (b *broker) inherit(before *broker) {
	b.Info, b.spawned = before.Info, before.spawned
	if before.dismissed {
		// It crashed while its children ended. Whoever waits for its end has said so
		// once, to the last incarnation.
		b.dismissed, b.state.closed = true, true
		return
	}
	b.state.identity = before.state.identity
	for _, class := range classes {
		for _, t := range *before.state.ready.of(class) {
			b.state.partitionReady(t, t.Class())
		}
	}
	for _, t := range before.state.waiting {
		b.state.partitionReady(t, t.Class())
	}
	for _, m := range before.state.control {
		b.state.control = append(b.state.control, m)
		b.state.lanes[messages.LaneControl].wanted = true
	}
}

// written tells the broker that a request without an answer has been written.
type written struct{ request *request }

// Receive implements actor.Actor.
func (b *broker) Receive(c actor.Context) {
	now := b.Settings.Clock.Now()
	if b.state.closed {
		b.afterStop(c)
		return
	}
	switch m := c.Message().(type) {
	case *actor.Started:
		self, system := c.Self(), c.ActorSystem()
		b.timer = b.Settings.Clock.NewTimer(func() { system.Root.Send(self, &seams.Woken{}) })
	case *messages.PartitionReady:
		b.state.partitionReady(m.Taker, m.Class)
	case *messages.PartitionsReady:
		for _, p := range m.Partitions {
			b.state.partitionReady(p.Taker, p.Class)
		}
	case *messages.ResponseReceived:
		b.responseReceived(c, m, now)
	case *written:
		if b.state.remove(&b.state.lanes[m.request.lane], m.request) {
			// Else its lane was given up meanwhile, and it was settled with it.
			b.counters().Add(messages.CountRequests, 1)
			b.state.lanes[m.request.lane].lastUsed = now
			b.state.takeInHand(m.request)
			b.state.settleRest(m.request, nil, true, now)
			b.state.putDown(m.request)
			m.request.drop()
		}
		m.request.drop()
	case *messages.ConnectionUp:
		b.connectionUp(c, m, now)
	case *messages.ConnectionLost:
		b.connectionLost(c, m, now)
	case *messages.IdentityChanged:
		b.askedForID = false
		b.state.identityChanged(m.Identity)
	case *messages.ControlRequest:
		b.state.addControl(m, now)
	case *messages.BrokerMoved:
		b.moved(c, m, now)
	case *seams.Woken:
		b.timing = seams.Never
		b.deadlines(c, now)
	case *actor.Terminated:
		for l, pid := range b.children {
			if pid != nil && pid.Equal(m.Who) {
				b.children[l] = nil
				// Partitions that are ready will not say so again: whoever waits
				// for the lane gets another connection, with its retries anew,
				// after a pause.
				b.state.lanes[l].wanted = b.state.wants(messages.Lane(l))
				b.state.lanes[l].paused = now.Add(b.Settings.Retry.MaxRetryTime)
			}
		}
	case *actor.Restarting, *actor.Stopping:
		b.stop(c, now)
		return
	default:
		return
	}
	for _, l := range b.state.ended(now) {
		if lane := &b.state.lanes[l]; now.Sub(lane.since) < b.Settings.Retry.MaxRetryTime {
			lane.paused = now.Add(b.Settings.Retry.InitialRetryTime) // a token that is over at once, again and again
		}
		b.hangUp(c, l)
	}
	b.pump(c, now)
	b.arm(now)
}

// pump writes what can be written, and starts what connections are wanted: last,
// since a partition may turn out to want another lane than it stood in line for.
func (b *broker) pump(c actor.Context, now seams.Instant) {
	for again := b.state.anyReady(); again; {
		moved := b.state.moved
		for _, class := range b.state.inTurn() {
			b.pumpClass(c, class, now)
		}
		again = b.state.moved != moved
	}
	for r := b.state.nextControl(now); r != nil; r = b.state.nextControl(now) {
		body := r.control.Request
		if r.version < 0 {
			b.state.remove(&b.state.lanes[messages.LaneControl], r)
			b.failControl(c, []*messages.ControlRequest{r.control}, fmt.Errorf("%w: broker %d does not serve %s", protocol.UnsupportedVersion, b.Info.ID, kmsg.NameForKey(body.Key())))
			continue
		}
		body.SetVersion(r.version)
		frame := protocol.AppendRequestHeader(make([]byte, 4, 256), body.Key(), body.GetVersion(), r.correlation, b.Settings.ClientID, body.IsFlexible())
		frame = body.AppendTo(frame)
		protocol.PutFrameSize(frame)
		b.state.lanes[messages.LaneControl].connection.Write([][]byte{frame}, r)
	}
	for l := range b.children {
		if lane := &b.state.lanes[l]; lane.wanted && !lane.up && now >= lane.paused && b.children[l] == nil && !b.state.closed {
			b.spawnConnection(c, messages.Lane(l))
		}
	}
}

// pumpClass writes requests of one class while there is room.
func (b *broker) pumpClass(c actor.Context, class messages.Class, now seams.Instant) {
	for b.state.canSend(class, now) {
		r := requests.Get().(*request)
		ok, needIdentity := b.state.assemble(class, r, now)
		if needIdentity && !b.askedForID {
			b.askedForID = true
			c.Send(b.Root, &messages.NeedIdentity{})
		}
		if !ok {
			requests.Put(r)
			return
		}
		if class.Acks == messages.AcksNone {
			self, system := c.Self(), c.ActorSystem()
			r.written = func(r *request) { system.Root.Send(self, &written{r}) }
		}
		frame := b.state.sendProduce(class, r, now)
		b.state.lanes[class.Lane].connection.Write(frame, r)
	}
}

// arm sets the timer for the next deadline, lazily: it is never moved back.
func (b *broker) arm(now seams.Instant) {
	at := b.state.nextDeadline(now)
	if at < b.timing {
		b.timing = at
		b.timer.Reset(at)
	}
}

func (b *broker) responseReceived(c actor.Context, m *messages.ResponseReceived, now seams.Instant) {
	defer frames.put(m)
	lane := &b.state.lanes[m.Lane]
	if !lane.up || m.Generation != lane.generation {
		return
	}
	correlation, _, err := protocol.ResponseHeader(m.Frame, false)
	if err == nil {
		var r *request
		if r, err = b.state.answered(m.Lane, correlation, now); err == nil {
			if r.control != nil {
				err = b.answerControl(c, r, m.Frame)
			} else if err = b.response.Decode(r.version, m.Frame); err == nil {
				b.counters().RequestTook(uint64(max(now.Sub(r.deadline.Add(-r.allowed)), 0)))
				b.counters().Add(messages.CountThrottled, uint64(max(b.response.ThrottleMs, 0))*uint64(time.Millisecond))
				b.state.settleAnswer(r, &b.response, now)
			} else {
				b.state.settleRest(r, fmt.Errorf("%w: unreadable answer: %w", messages.ErrConnectionLost, err), true, now)
			}
			b.state.putDown(r)
			r.drop()
		}
	}
	switch {
	case err != nil:
		b.unreadable = true
		b.Settings.Gate.Happened(messages.Occurrence{Kind: messages.LogUnreadable, Broker: b.Info.ID, Err: err, Waiting: true, Address: b.Info.Address})
		lane.connection.Close(err)
	case b.unreadable:
		b.unreadable = false
		b.Settings.Gate.Recovered(messages.LogUnreadable, b.Info.ID)
	}
}

func (b *broker) answerControl(c actor.Context, r *request, frame []byte) error {
	response := r.control.Request.ResponseKind()
	response.SetVersion(r.version)
	_, body, err := protocol.ResponseHeader(frame, response.IsFlexible())
	if err == nil {
		err = protocol.CheckControlResponse(response.Key(), r.version, body)
	}
	if err == nil {
		// All that it keeps of the frame are tags that nobody knows, and so nobody
		// reads: names are copied.
		err = response.ReadFrom(body)
	}
	answer := &messages.ControlResponse{Ticket: r.control.Ticket, Broker: b.Info.ID, Response: response}
	if err != nil {
		answer.Response, answer.Err = nil, err
	}
	c.Send(r.control.ReplyTo, answer)
	return err
}

func (b *broker) failControl(c actor.Context, failed []*messages.ControlRequest, err error) {
	for _, m := range failed {
		c.Send(m.ReplyTo, &messages.ControlResponse{Ticket: m.Ticket, Broker: b.Info.ID, Err: err})
	}
}

func (b *broker) connectionUp(c actor.Context, m *messages.ConnectionUp, now seams.Instant) {
	if b.children[m.Lane] == nil || m.Generation>>generationBits != b.current[m.Lane] {
		// The late word of a child that was stopped: what is written there is lost,
		// and would stand before what its successor is asked.
		m.Connection.Close(seams.ErrClosedLocally)
		return
	}
	b.Settings.Gate.Recovered(messages.LogNoConnection, b.Info.ID)
	b.Settings.Gate.Recovered(messages.LogGaveUp, b.Info.ID)
	b.Settings.Troubles.Over(b.Info.ID)
	b.counters().Add(messages.CountConnectionsOpened, 1)
	b.state.connectionUp(m, now)
}

func (b *broker) connectionLost(c actor.Context, m *messages.ConnectionLost, now seams.Instant) {
	if m.Generation>>generationBits != b.current[m.Lane] {
		// The late word of a child that was stopped, and settled then: its successor
		// has nothing to do with it.
		return
	}
	lost := b.state.connectionLost(m)
	var err error
	if len(lost) > 0 || len(b.state.control) > 0 {
		err = fmt.Errorf("%w: broker %d (%s): %w", messages.ErrConnectionLost, b.Info.ID, b.Info.Address, m.Reason)
	}
	b.settleLost(c, lost, err, now)
	if m.Lane == messages.LaneControl {
		// Whoever asked has other brokers to ask.
		b.failControl(c, b.state.failControl(now, true), err)
	}
	quiet := m.WasUp && len(lost) == 0 && !b.state.wants(m.Lane)
	if quiet || b.state.closed {
		// An end with nothing in flight is not a failure: both sides close
		// connections that were idle.
		b.stopConnection(c, m.Lane)
		return
	}
	b.Settings.Gate.Happened(messages.Occurrence{
		Kind: messages.LogNoConnection, Broker: b.Info.ID, Err: m.Reason, Address: b.Info.Address, Lane: m.Lane.String(), InFlight: len(lost),
		// What was in flight comes back, but not what is asked of any broker.
		Waiting: b.state.wants(m.Lane) || len(lost) > 0 && m.Lane != messages.LaneControl,
	})
	if m.WasUp {
		b.counters().Add(messages.CountConnectionsLost, 1)
	} else {
		b.counters().Add(messages.CountConnectionsFailed, 1)
	}
	if errors.Is(m.Reason, messages.ErrAuthentication) || errors.Is(m.Reason, messages.ErrCredentials) {
		// Also where nobody waits for the lane now, and the next one would dial at once.
		b.state.lanes[m.Lane].paused = now.Add(b.Settings.Retry.MaxRetryTime)
	}
	b.Settings.Troubles.Happened(b.Info.ID, fmt.Errorf("broker %d (%s): %w", b.Info.ID, b.Info.Address, m.Reason))
	c.Send(b.Root, &messages.RefreshMetadata{Reason: "connection lost"})
	if !b.state.wants(m.Lane) {
		b.stopConnection(c, m.Lane)
	}
}

// settleLost ends requests that will not be answered.
func (b *broker) settleLost(c actor.Context, lost []*request, err error, now seams.Instant) {
	for _, r := range lost {
		if r.control != nil {
			b.failControl(c, []*messages.ControlRequest{r.control}, err)
		} else {
			sent := !r.unwritten.Load()
			if sent {
				b.counters().Add(messages.CountRequestsLost, 1)
			}
			b.state.settleRest(r, err, sent, now)
		}
		b.state.putDown(r)
		r.drop()
	}
}

func (b *broker) counters() *messages.CounterShard {
	return b.Settings.Counters.Shard(int(b.Info.ID))
}

// letGo settles what a turn had in hand that crashed.
func (b *broker) letGo(c actor.Context, now seams.Instant) {
	for len(b.state.hand) > 0 {
		r := b.state.hand[0]
		b.state.remove(&b.state.lanes[r.lane], r)
		if !r.given {
			r.Written(errStopped, false)
		}
		b.settleLost(c, []*request{r}, errStopped, now)
	}
}

// deadlines gives up connections that owe an answer for too long, and closes
// the ones nobody uses.
func (b *broker) deadlines(c actor.Context, now seams.Instant) {
	for _, l := range b.state.expired(now) {
		lane := &b.state.lanes[l]
		lane.connection.Close(fmt.Errorf("%w: no answer from broker %d within %v", messages.ErrRequestTimeout, b.Info.ID, lane.inFlight[0].allowed))
	}
	if b.state.inDoubt(now) {
		c.Send(b.Root, &messages.RefreshMetadata{Reason: "a request has been open for long"})
	}
	for _, l := range b.state.idle(now) {
		b.hangUp(c, l)
	}
	if failed := b.state.failControl(now, false); len(failed) > 0 {
		b.failControl(c, failed, fmt.Errorf("%w: no connection to broker %d (%s)", messages.ErrRequestTimeout, b.Info.ID, b.Info.Address))
	}
}

// hangUp closes a connection with nothing in flight. If something waits for the lane, it
// gets another.
func (b *broker) hangUp(c actor.Context, l messages.Lane) {
	b.stopConnection(c, l)
	b.state.connectionLost(&messages.ConnectionLost{Lane: l, Generation: b.state.lanes[l].generation, WasUp: true})
}

// moved takes in a new address: the old connections lead to somebody else.
func (b *broker) moved(c actor.Context, m *messages.BrokerMoved, now seams.Instant) {
	if m.Address == b.Info.Address {
		return
	}
	b.Info.Address = m.Address
	for l := range b.state.lanes {
		lane := &b.state.lanes[l]
		if b.children[l] == nil {
			continue
		}
		lost := b.state.connectionLost(&messages.ConnectionLost{Lane: messages.Lane(l), Generation: lane.generation, WasUp: lane.up})
		b.settleLost(c, lost, fmt.Errorf("%w: broker %d has a new address", messages.ErrConnectionLost, b.Info.ID), now)
		b.stopConnection(c, messages.Lane(l))
		lane.wanted = b.state.wants(messages.Lane(l))
	}
}

func (b *broker) spawnConnection(c actor.Context, l messages.Lane) {
	b.spawned++
	b.current[l] = b.spawned
	name := "connection/" + l.String() + "-" + strconv.Itoa(b.spawned)
	pid, err := c.SpawnNamed(connectionProps(b.Settings, b.path+"/"+name, c.Self(), l, b.Info, b.spawned), name)
	if err != nil {
		panic(err) // a name is never used twice
	}
	b.children[l] = pid
}

func (b *broker) stopConnection(c actor.Context, l messages.Lane) {
	if pid := b.children[l]; pid != nil {
		c.Stop(pid)
		b.children[l] = nil
	}
	b.current[l] = 0 // nobody's word counts
	b.state.lanes[l].wanted = false
}

var errStopped = fmt.Errorf("%w: %w", messages.ErrConnectionLost, seams.ErrClosedLocally)

// stop settles what is left. The children are stopped by protoactor and close
// their sockets.
func (b *broker) stop(c actor.Context, now seams.Instant) {
	_, stopping := c.Message().(*actor.Stopping)
	b.state.closed, b.dismissed = true, stopping
	b.timer.Stop()
	b.letGo(c, now)
	for l := range b.state.lanes {
		lane := &b.state.lanes[l]
		b.settleLost(c, lane.inFlight, errStopped, now)
		lane.inFlight, lane.up, lane.connection = nil, false, nil
	}
	if stopping {
		b.Settings.Gate.Left(b.Info.ID)
		b.Settings.Troubles.Over(b.Info.ID)
		// After a crash the next incarnation takes them over.
		b.failControl(c, b.state.failControl(now, true), errStopped)
	}
}

// afterStop handles what still comes while the children end. Nothing is taken
// in any more, and whoever asks is told so.
func (b *broker) afterStop(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		c.Stop(c.Self()) // a new incarnation of one that was stopped
	case *messages.ResponseReceived:
		frames.put(m)
	case *written:
		m.request.drop()
	case *messages.ControlRequest:
		b.failControl(c, []*messages.ControlRequest{m}, errStopped)
	}
}
