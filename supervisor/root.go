package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/actors/accumulator"
	"github.com/troupe-kafka/troupe/actors/broker"
	"github.com/troupe-kafka/troupe/actors/metadata"
	"github.com/troupe-kafka/troupe/actors/router"
	"github.com/troupe-kafka/troupe/actors/sequencer"
	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

// Config is what a troupe is started with.
type Config struct {
	Settings        *messages.Settings
	Partitioner     partitioners.Partitioner
	HashedByMurmur2 bool
	// OnStopped is called once, in the root's last turn, however the tree came
	// down. It must not block; nil is nothing.
	OnStopped func()
}

// Troupe is a running tree of actors.
type Troupe struct {
	Router *router.Router
	Budget *memory.Budget
	// PID is the process that users send to.
	PID      *actor.PID
	root     *actor.PID
	system   *actor.ActorSystem
	shared   *shared
	settings *messages.Settings
}

type node struct {
	info messages.BrokerInfo
	pid  *actor.PID
}

// root is the actor at the top. Its state outlives a restart.
type root struct {
	Config
	shared    *shared
	routes    *router.Router
	budget    *memory.Budget
	processID string
	self      *actor.PID
	router    *actor.PID
	metadata  *actor.PID
	sequencer *actor.PID
	nodes     map[int32]*node
	ids       []int32              // of nodes, sorted: nothing here may follow the order of a map
	pids      map[int32]*actor.PID // of nodes but the seeds, as the router has it; nil: another
	seeds     []int32
	spawned   map[int32]int
	identity  messages.Identity
	asked     int // rotates over brokers for requests that any can answer
	known     []int32
	crashes   map[string]*crashes // of children, by id
	random    *rand.Rand
	decisions messages.Decisions
	view      *messages.ClusterView // the latest; nil: none yet
	isReady   bool
	closing   bool
	stopping  bool
}

// Start spawns a troupe below parent.
func Start(parent actor.SpawnerContext, c Config) (*Troupe, error) {
	s := c.Settings
	system := parent.ActorSystem()
	r := &root{
		Config: c, shared: newShared(s.Parking),
		nodes: make(map[int32]*node), spawned: make(map[int32]int), identity: messages.NoIdentity, processID: s.Name + "/router-process",
		crashes: make(map[string]*crashes), random: s.Randomness.For(s.Name + "/crashes"), decisions: s.DecisionsOf(s.Name),
	}
	s.Sequences, s.Stamps, s.Gate = sequencer.NewLedger(), seams.NewStamps(s.Clock), s.NewGate()
	s.Troubles, s.Counters = &messages.Troubles{}, &messages.Counters{}
	r.budget = memory.NewBudget(s.BufferBytes, s.Parking)
	lingers := accumulator.NewLingers(s, system)
	r.routes = router.New(router.Config{
		Settings: s, Budget: r.budget, Partitioner: c.Partitioner, HashedByMurmur2: c.HashedByMurmur2, Supervisor: restartBugs{settings: s},
		Spawn: func(parent actor.SpawnerContext, spec messages.AccumulatorSpec) (messages.Appender, error) {
			return accumulator.Spawn(parent, s, r.budget, lingers, r.self, spec)
		},
	}, system)
	if _, used := system.ProcessRegistry.GetLocal(r.processID); used {
		// Also by a producer that has ended: its tombstone keeps the name.
		return nil, fmt.Errorf("actor %s: %w", r.processID, actor.ErrNameExists)
	}
	props := s.Props(s.Name, func() actor.Actor { return r }, actor.WithGuardian(guardian), actor.WithSupervisor(restartBugs{
		settings: s, resumes: func(child *actor.PID) bool { return r.router.Equal(child) },
		then: func(system *actor.ActorSystem, child *actor.PID) { system.Root.Send(r.self, &childCrashed{who: child}) },
	}))
	pid, err := parent.SpawnNamed(props, s.Name)
	if err != nil {
		return nil, fmt.Errorf("actor %s: %w", s.Name, err)
	}
	r.routes.SetRoot(pid)
	process, absent := system.ProcessRegistry.Add(r.routes.Process(), r.processID)
	if !absent { // somebody was quicker
		system.Root.Stop(pid)
		return nil, fmt.Errorf("actor %s: %w", r.processID, actor.ErrNameExists)
	}
	system.Root.Send(pid, &begin{})
	return &Troupe{Router: r.routes, Budget: r.budget, PID: process, root: pid, system: system, shared: r.shared, settings: s}, nil
}

// childCrashed tells the root that a child crashed and goes on; it has lost the
// message that it crashed over.
type childCrashed struct {
	who    *actor.PID
	waited bool
}

// crashes are how often a child has crashed, and when the last time.
type crashes struct {
	n  int
	at seams.Instant
}

// crashMemory is how long a crash is remembered. A child that crashes again within
// it is told again after a pause of the retry policy: it may have crashed over that.
const crashMemory = time.Minute

// childCrashed says again to a child what it may have lost.
func (r *root) childCrashed(c actor.Context, m *childCrashed) {
	if !m.waited {
		if delay := r.crashDelay(m.who); delay > 0 {
			self, system, clock := c.Self(), c.ActorSystem(), r.Settings.Clock
			clock.NewTimer(func() { system.Root.Send(self, &childCrashed{m.who, true}) }).Reset(clock.Now().Add(delay))
			return
		}
	}
	who := m.who
	c.Send(r.metadata, &messages.RefreshMetadata{Reason: "an actor crashed"})
	for _, id := range r.ids {
		if n := r.nodes[id]; n.pid.Equal(who) {
			c.Send(who, &messages.BrokerMoved{Address: n.info.Address})
			if r.identity.Known() {
				c.Send(who, &messages.IdentityChanged{Identity: r.identity})
			}
			r.routes.Reannounce()
		}
	}
	if r.router.Equal(who) && r.view != nil {
		r.clusterChanged(c)
	}
}

// crashDelay counts a crash and returns the pause before the child is told again.
func (r *root) crashDelay(who *actor.PID) time.Duration {
	now := r.Settings.Clock.Now()
	k := r.crashes[who.Id]
	if k == nil {
		k = &crashes{}
		r.crashes[who.Id] = k
	}
	if now.Sub(k.at) > crashMemory {
		k.n = 0
	}
	k.n, k.at = k.n+1, now
	if k.n == 1 {
		return 0
	}
	return r.Settings.Retry.Delay(k.n-1, r.random)
}

// recover derives again what the root has to tell, after it crashed itself.
func (r *root) recover(c actor.Context) {
	told := r.decisions
	r.decisions = nil // who crashes over a crash, ends
	defer func() { r.decisions = told }()
	switch {
	case r.router == nil:
		r.begin(c)
		return
	case r.sequencer == nil: // half of a beginning
		r.fail(messages.ErrInternal)
		c.Stop(c.Self())
		return
	}
	r.addSeeds(c)
	c.Send(r.router, &messages.Crashed{}) // it asks again for what it needs
	c.Send(r.metadata, &messages.RefreshMetadata{Reason: "an actor crashed"})
	if r.Settings.Idempotent {
		c.Send(r.sequencer, &messages.NeedIdentity{})
	}
	for _, id := range r.ids {
		// One of them may have crashed, and this been the root's word of it.
		c.Send(r.nodes[id].pid, &messages.BrokerMoved{Address: r.nodes[id].info.Address})
	}
	r.routes.Reannounce()
	if r.view != nil {
		r.clusterChanged(c)
	}
}

// begin starts the children, when everything they need is in place.
type begin struct{}

// Receive implements actor.Actor.
func (r *root) Receive(c actor.Context) {
	if _, lifecycle := c.Message().(*actor.Stopped); r.stopping && !lifecycle {
		// The children that exist have been told to stop; one that is started now
		// would not be, and the root would wait for it for ever.
		return
	}
	switch m := c.Message().(type) {
	case *begin:
		r.begin(c)
	case *messages.ControlRequest:
		r.forwardControl(c, m)
	case *messages.RefreshMetadata, *messages.ForgetTopic:
		c.Send(r.metadata, m)
	case *messages.TrackTopic:
		c.Send(r.metadata, m)
		if r.Settings.Idempotent {
			// Early, so that the first batch need not wait for it.
			c.Send(r.sequencer, &messages.NeedIdentity{})
		}
	case *messages.ClusterChanged:
		r.view = m.View
		r.clusterChanged(c)
	case *childCrashed:
		r.childCrashed(c, m)
	case *messages.Crashed:
		s := r.Settings
		s.LogPanic(m.Reason).Str("actor", s.Name).Type("message", m.Message).Msg("an actor panicked: this is a bug; it goes on and its records are kept")
		r.recover(c)
	case *messages.RefreshFailed:
		c.Send(r.router, m)
		if m.Hopeless {
			r.shared.refuse(m.Err)
		}
	case *messages.LeaderHinted:
		c.Send(r.router, m)
	case *messages.ForRouter:
		c.Send(r.router, m.Message)
	case *messages.NeedIdentity, *messages.BumpEpoch:
		c.Send(r.sequencer, m)
	case *messages.IdentityChanged:
		r.identity = m.Identity
		for _, id := range r.ids {
			r.decisions.At("tells brokers of an identity")
			c.Send(r.nodes[id].pid, m)
		}
	case *messages.ProducerFailed:
		r.fail(m.Err)
	case *messages.BeginClose:
		if !r.closing {
			r.closing = true
			r.routes.Refuse(messages.ErrClosed)
			r.Settings.Executor.Run(func() { closeInBackground(r, c.Self(), c.ActorSystem()) })
		}
	case *messages.CloseNow:
		r.closing = true
		r.routes.Refuse(messages.ErrClosed)
		r.routes.FailAll(messages.ErrClosed)
		c.Stop(c.Self())
	case *actor.Stopping:
		r.stopping = true
		r.routes.Refuse(messages.ErrClosed)
		r.routes.FailAll(messages.ErrClosed)
	case *actor.Stopped:
		r.Settings.Gate.Close()
		r.routes.Process().End(actor.NewPID(c.Self().Address, r.processID))
		r.shared.end()
		if r.OnStopped != nil {
			r.OnStopped()
		}
	}
}

func (r *root) begin(c actor.Context) {
	s := r.Settings
	r.self = c.Self()
	r.router = r.mustSpawn(c, r.routes.Props(), router.Name)
	r.metadata = r.mustSpawn(c, metadata.Props(s, r.self), metadata.Name)
	r.sequencer = r.mustSpawn(c, sequencer.Props(s, r.self), sequencer.Name)
	r.addSeeds(c)
	c.Send(r.metadata, &messages.RefreshMetadata{Reason: "start"})
}

// addSeeds starts the brokers of the addresses that the user gave, all of them or
// those that an earlier crash has left out.
func (r *root) addSeeds(c actor.Context) {
	r.seeds = r.seeds[:0]
	for i, address := range r.Settings.Seeds {
		id := messages.SeedID(i)
		if r.nodes[id] == nil {
			r.addNode(c, messages.BrokerInfo{ID: id, Address: address})
		}
		r.seeds = append(r.seeds, id)
	}
}

func (r *root) mustSpawn(c actor.Context, props *actor.Props, name string) *actor.PID {
	pid, err := c.SpawnNamed(props, name)
	if err != nil {
		panic(err) // names below the root are its own
	}
	return pid
}

func (r *root) addNode(c actor.Context, info messages.BrokerInfo) {
	name := broker.NodeName(info.ID)
	r.spawned[info.ID]++
	if n := r.spawned[info.ID]; n > 1 {
		name = fmt.Sprintf("%s.%d", name, n)
	}
	pid := r.mustSpawn(c, broker.Props(broker.Config{
		Settings: r.Settings, Info: info, Identity: r.identity, Root: r.self,
		Supervisor: NewReconnect(r.Settings, r.Settings.Name+"/"+name),
	}), name)
	r.decisions.At("has started a broker")
	r.nodes[info.ID] = &node{info, pid}
	at, _ := slices.BinarySearch(r.ids, info.ID)
	r.ids, r.pids = slices.Insert(r.ids, at, info.ID), nil
}

func (r *root) forwardControl(c actor.Context, m *messages.ControlRequest) {
	if m.Broker == messages.AnyBroker {
		candidates := r.known
		if len(candidates) == 0 {
			candidates = r.seeds
		}
		r.asked++
		m.Broker = candidates[r.asked%len(candidates)]
	}
	n := r.nodes[m.Broker]
	if n == nil {
		c.Send(m.ReplyTo, &messages.ControlResponse{Ticket: m.Ticket, Broker: m.Broker, Err: fmt.Errorf("%w: broker %d has left the cluster", messages.ErrConnectionLost, m.Broker)})
		return
	}
	r.decisions.At("passes a request on")
	c.Send(n.pid, m)
}

// clusterChanged starts, readdresses and stops brokers, and then tells the
// router, so that every leader it assigns exists.
func (r *root) clusterChanged(c actor.Context) {
	r.known = r.known[:0]
	for _, info := range r.view.Brokers {
		r.known = append(r.known, info.ID)
		n := r.nodes[info.ID]
		switch {
		case n == nil:
			r.addNode(c, info)
		case n.info.Address != info.Address:
			n.info = info
			c.Send(n.pid, &messages.BrokerMoved{Address: info.Address})
		}
	}
	for i := 0; i < len(r.ids); i++ {
		if id := r.ids[i]; !messages.IsSeed(id) && !slices.Contains(r.known, id) && !r.leads(r.view, id) {
			c.Stop(r.nodes[id].pid)
			r.decisions.At("has stopped a broker")
			delete(r.crashes, r.nodes[id].pid.Id)
			delete(r.nodes, id)
			r.ids, r.pids = slices.Delete(r.ids, i, i+1), nil
			i--
		}
	}
	if r.pids == nil {
		r.pids = make(map[int32]*actor.PID, len(r.ids))
		for _, id := range r.ids {
			if !messages.IsSeed(id) {
				r.pids[id] = r.nodes[id].pid
			}
		}
	}
	r.decisions.At("knows all brokers")
	c.Send(r.router, &messages.RoutesChanged{View: r.view, Brokers: r.pids})
	if !r.isReady {
		r.isReady = true
		r.shared.answer()
	}
}

// leads reports whether a node that is not listed still leads something: a dead
// broker stays the leader until the controller notices, and what is in flight
// to it may yet be answered.
func (r *root) leads(v *messages.ClusterView, id int32) bool {
	for i := range v.Topics {
		for _, p := range v.Topics[i].Partitions {
			if p.Leader == id {
				return true
			}
		}
	}
	return false
}

func (r *root) fail(cause error) {
	err := fmt.Errorf("%w: %w", messages.ErrFatal, cause)
	r.Settings.Log.Error().Err(cause).Msg("the producer cannot go on")
	r.routes.Refuse(err)
	r.routes.FailAll(err)
}
