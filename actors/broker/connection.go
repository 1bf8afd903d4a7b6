package broker

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// ConnectionFailure is what a connection actor fails with. The supervision
// strategy turns it into a delayed restart; anything else is a bug.
type ConnectionFailure = messages.ConnectionFailure

// connection is the actor of one socket: it dials, asks for the versions, hands
// the open connection to its broker, and fails when the socket does. It holds
// nothing that anybody would miss.
type connection struct {
	settings *messages.Settings
	broker   *actor.PID
	lane     messages.Lane
	info     messages.BrokerInfo
	link     *link
	stage    stage // of the handshake
	asked    int16 // ApiVersions version of the handshake
	versions messages.Versions
	who      authentication
	opened   bool // the socket is
	up       bool
	told     bool          // the broker knows that the connection has ended
	dialled  seams.Instant // when
	patience seams.Timer   // with dial and handshake
	all      *incarnations
}

type (
	linkOpened   struct{ link *link }
	linkReceived struct {
		link  *link
		frame []byte
	}
	linkClosed struct {
		link   *link
		reason error
	}
)

// incarnations is what is common to those of one connection.
type incarnations struct {
	// generation is that of the last one.
	generation atomic.Int64
	// ended says that the connection was stopped. A restart that was decided before
	// arrives after, and would bring it back with nobody to stop it.
	ended atomic.Bool
}

// generationBits are the bits of a generation that count the incarnations of one
// child; those above are the child's number.
const generationBits = 32

func connectionProps(s *messages.Settings, path string, broker *actor.PID, lane messages.Lane, info messages.BrokerInfo, child int) *actor.Props {
	// Unique among all connections of the broker, not only of this child: a late
	// word from a stopped one must not be taken for its successor's.
	all := &incarnations{}
	all.generation.Store(int64(child) << generationBits)
	return s.Props(path, func() actor.Actor {
		one := &struct { // in one piece
			connection
			link
		}{
			connection{settings: s, broker: broker, lane: lane, info: info, all: all},
			link{generation: int(all.generation.Add(1))},
		}
		one.connection.link = &one.link
		return &one.connection
	})
}

// Receive implements actor.Actor.
func (k *connection) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		if k.all.ended.Load() {
			return
		}
		k.link.self, k.link.broker, k.link.system, k.link.lane = c.Self(), k.broker, c.ActorSystem(), k.lane
		k.dialled = k.settings.Clock.Now()
		k.link.connection = k.settings.Transport.Dial(k.info.Address, k.link)
		k.limit("connection", k.dialled.Add(k.settings.ConnectionTimeout))
	case *linkOpened:
		if m.link == k.link {
			k.opened = true
			now := k.settings.Clock.Now() // ApiVersions has no longer than any other request
			k.limit("answer to ApiVersions", min(now.Add(k.settings.RequestTimeout), k.dialled.Add(k.settings.ConnectionTimeout)))
			k.ask(apiVersionsMax)
		}
	case *linkReceived:
		if m.link == k.link {
			k.handshake(c, m.frame)
		}
	case *mechanismSaid:
		if m.link == k.link && !k.told {
			k.goOn(c, m)
		}
	case *linkClosed:
		if m.link == k.link {
			reason := k.explained(m.reason)
			k.tellBroker(c, reason)
			panic(&ConnectionFailure{Broker: k.info.ID, Address: k.info.Address, Reason: reason, WasUp: k.up && !k.hungUpAtOnce(m.reason)})
		}
	case *actor.Stopping:
		k.all.ended.Store(true)
		k.hangUp()
		k.sayCrashed(c)
	case *actor.Restarting:
		k.hangUp()
		k.sayCrashed(c)
	}
}

// sayCrashed tells the broker what nobody has told it: a bug ended this incarnation,
// and the socket's own word of its end finds another one, or none, or was what it
// crashed over. A broker that stopped the connection itself does not listen.
func (k *connection) sayCrashed(c actor.Context) {
	if !k.told {
		k.tellBroker(c, errCrashed)
	}
}

var errCrashed = fmt.Errorf("%w: the connection's actor crashed", messages.ErrInternal)

// tellBroker says that the connection has ended. The broker settles on this
// message, not on the failure that follows: the failure overtakes what the socket
// delivered before.
func (k *connection) tellBroker(c actor.Context, reason error) {
	k.told = true
	c.Send(k.broker, &messages.ConnectionLost{Lane: k.lane, Generation: k.link.generation, Reason: reason, WasUp: k.up})
}

// limit gives up a peer that does not take the connection, or takes it and then
// says nothing: a stopped process, or a proxy with nobody behind it. Dial and
// handshake share one limit, so that somebody else can be asked soon.
func (k *connection) limit(step string, end seams.Instant) {
	k.stopPatience()
	socket, allowed := k.link.connection, end.Sub(k.dialled)
	k.patience = k.settings.Clock.NewTimer(func() {
		socket.Close(fmt.Errorf("%w: no %s within %v", messages.ErrRequestTimeout, step, allowed))
	})
	k.patience.Reset(end)
}

func (k *connection) stopPatience() {
	if k.patience != nil {
		k.patience.Stop()
	}
}

func (k *connection) hangUp() {
	k.stopPatience()
	k.who.stop()
	if k.link.connection != nil {
		k.link.connection.Close(seams.ErrClosedLocally)
	}
}

// IgnoreDeadLetterLogging keeps the events of a stopped connection out of the
// log.
func (*linkOpened) IgnoreDeadLetterLogging()    {}
func (*linkReceived) IgnoreDeadLetterLogging()  {}
func (*linkClosed) IgnoreDeadLetterLogging()    {}
func (*mechanismSaid) IgnoreDeadLetterLogging() {}

// link hears of the socket's events. Until the handshake is done they go to the
// connection actor; from then on answers go straight to the broker, and only
// the end of the connection takes the way through the actor.
type link struct {
	generation int
	lane       messages.Lane
	self       *actor.PID
	broker     *actor.PID
	system     *actor.ActorSystem
	connection seams.Connection
	up         atomic.Bool
	answered   bool // something has come since it was up; the socket's own
	// opened and closed are the messages that each is sent once.
	opened linkOpened
	closed linkClosed
}

func (l *link) Opened() {
	l.opened.link = l
	l.system.Root.Send(l.self, &l.opened)
}

func (l *link) Received(frame []byte) {
	if !l.up.Load() {
		l.system.Root.Send(l.self, &linkReceived{l, append([]byte(nil), frame...)})
		return
	}
	l.answered = true
	m := frames.get()
	m.Lane, m.Generation = l.lane, l.generation
	m.Frame = append(m.Frame[:0], frame...)
	l.system.Root.Send(l.broker, m)
}

func (l *link) Closed(reason error) {
	l.closed = linkClosed{l, reason}
	l.system.Root.Send(l.self, &l.closed)
}

// framePool keeps the messages that carry answers.
type framePool struct{ pool sync.Pool }

var frames framePool

// maxPooledFrame keeps one giant answer from staying in memory.
const maxPooledFrame = 1 << 20

func (p *framePool) get() *messages.ResponseReceived {
	if m, ok := p.pool.Get().(*messages.ResponseReceived); ok {
		return m
	}
	return &messages.ResponseReceived{}
}

func (p *framePool) put(m *messages.ResponseReceived) {
	if cap(m.Frame) <= maxPooledFrame {
		p.pool.Put(m)
	}
}
