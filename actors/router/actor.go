package router

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/seams"
)

const (
	// parkedSweep is how late the end of a parked record's context or time may
	// be noticed.
	parkedSweep = 100 * time.Millisecond
	// urgeEvery is the least time between two rounds of making all open batches
	// ready because the budget is used up.
	urgeEvery = 2 * time.Millisecond
	// relaxEvery is how long a leader may answer nothing before callers no longer
	// wait for it to catch up.
	relaxEvery = 20 * time.Millisecond
	// idleChecks is how often an idle time is looked at in its course.
	idleChecks = 4
)

type (
	topicWanted    struct{ topic *Topic }
	bufferPressed  struct{}
	bufferPaced    struct{}
	relaxDue       struct{}
	bufferHasRoom  struct{ topic *Topic }
	timerFired     struct{}
	idleDue        struct{}
	leaderAccounts map[int32]*memory.Account
)

// keeper is the actor that writes the routing table.
type keeper struct {
	*Router
	brokers   map[int32]*actor.PID
	accounts  leaderAccounts
	spawned   map[string]int      // incarnations of a topic, since names are never reused
	spawning  []messages.Appender // what nobody can find yet: a crash must not leave it behind
	ending    []ending
	hinted    map[string]map[int32]*leaderHint
	urgedAt   seams.Instant
	timer     seams.Timer
	timing    seams.Instant // when timer is set to fire
	idle      seams.Timer
	idling    bool // idle is set: there are topics that may become idle
	relax     seams.Timer
	parkedIn  map[*Topic]bool
	swept     []*Topic // scratch of parkedTopics
	absent    map[string]absences
	doubted   map[*Topic]bool          // whose last answer was not believed
	moving    map[*Topic]*routes       // of the last creation of topics, should a move to the next be cut short
	unrouted  map[*Topic]seams.Instant // since when nobody wanted topics without routes; Never: they are forgotten
	crashes   int
	stopping  bool
	decisions messages.Decisions
}

// Name is the router's name below the root.
const Name = "router"

// Props returns the properties of the router's actor; its state outlives a
// restart.
func (r *Router) Props() *actor.Props {
	k := newKeeper(r)
	var options []actor.PropsOption
	if r.Supervisor != nil {
		options = append(options, actor.WithSupervisor(r.Supervisor))
	}
	return r.Settings.Props(r.Settings.Name+"/"+Name, func() actor.Actor { return k }, options...)
}

func newKeeper(r *Router) *keeper {
	k := &keeper{
		Router: r, accounts: make(leaderAccounts), timing: seams.Never, spawned: make(map[string]int),
		hinted: make(map[string]map[int32]*leaderHint), parkedIn: make(map[*Topic]bool),
		absent: make(map[string]absences), doubted: make(map[*Topic]bool), moving: make(map[*Topic]*routes), unrouted: make(map[*Topic]seams.Instant),
		decisions: r.Settings.DecisionsOf(r.Settings.Name + "/" + Name),
	}
	k.accounts[-1] = r.Budget.NewAccount("leaderless partitions", part(r.Settings.LeaderPercent))
	return k
}

func (r *Router) sorted() []*Topic {
	table := *r.table.Load()
	topics := make([]*Topic, 0, len(table))
	for _, t := range table {
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b *Topic) int { return strings.Compare(a.name, b.name) })
	return topics
}

// Receive implements actor.Actor.
func (k *keeper) Receive(c actor.Context) {
	if k.stopping {
		return // an accumulator that is started now would never be stopped
	}
	now := k.Settings.Clock.Now()
	switch m := c.Message().(type) {
	case *actor.Started:
		self, system := c.Self(), c.ActorSystem()
		if k.timer == nil {
			k.timer = k.Settings.Clock.NewTimer(func() { system.Root.Send(self, &timerFired{}) })
			k.relax = k.Settings.Clock.NewTimer(func() { system.Root.Send(self, &relaxDue{}) })
			k.idle = k.Settings.Clock.NewTimer(func() { system.Root.Send(self, &idleDue{}) })
		}
	case *messages.RoutesChanged:
		k.lastFail.Store(nil)
		k.brokers = m.Brokers
		for i := range m.View.Topics {
			k.update(c, answer{&m.View.Topics[i], m.View.AnsweredBy, len(m.View.Brokers)})
		}
		k.watchIdle(now)
	case *messages.Crashed:
		k.recover(c, now)
	case *messages.LeaderHinted:
		k.hint(m)
	case *messages.RefreshFailed:
		k.lastFail.Store(&m.Err)
		if m.Hopeless {
			for _, t := range k.parkedTopics() {
				if t.known() == nil {
					t.refuseParked(m.Err)
				}
			}
		}
	case *topicWanted:
		k.parkedIn[m.topic] = true
		k.unrouted[m.topic] = now
		c.Send(k.Root, &messages.TrackTopic{Name: m.topic.name}) // it may have been forgotten while idle
		if m.topic.known() != nil {
			k.refreshForPartition(c)
		}
		k.wakeAt(now.Add(parkedSweep))
	case *bufferHasRoom:
		k.drainPending(c, m.topic)
	case *idleDue:
		k.idling = false
		if k.retireIdle(now) {
			k.watchIdle(now)
		}
	case *bufferPaced:
		// What the leader is to catch up with must be on its way.
		k.pressed(now)
		k.relax.Reset(now.Add(relaxEvery))
	case *relaxDue:
		if k.Budget.Relax() {
			k.relax.Reset(now.Add(relaxEvery))
		}
	case *bufferPressed:
		k.pressed(now)
	case *timerFired:
		k.timing = seams.Never
		k.sweep(c, now)
	case *actor.Stopping:
		k.stopping = true
		k.timer.Stop()
		k.idle.Stop()
		k.relax.Stop()
		k.Refuse(messages.ErrClosed)
		k.FailAll(messages.ErrClosed)
	}
}

// recover does again what a message may have been about that was lost in a
// crash, here or at the root: timers that fired, topics that are wanted, room that
// came, an idle time that is over. The root says again who leads what.
func (k *keeper) recover(c actor.Context, now seams.Instant) {
	k.crashes++
	for _, box := range k.spawning {
		k.spawned[box.(messages.Taker).Topic()]++
		box.Retire(0) // what it was to go on with is kept for the next
		k.system.Root.Poison(box.PID())
	}
	k.spawning = nil
	k.endAll()
	for _, t := range k.sorted() {
		t.rouse()
		t.mu.Lock()
		parked := len(t.parked) > 0
		wanted := parked || t.asked || t.routes.Load() != nil || k.moving[t] != nil
		t.mu.Unlock()
		if !wanted {
			k.forget(t)
			continue
		}
		k.unrouted[t] = now
		c.Send(k.Root, &messages.TrackTopic{Name: t.name})
		if parked || t.asked {
			k.parkedIn[t] = true
			k.drainPending(c, t)
		}
	}
	k.timing = seams.Never
	k.wakeAt(now.Add(parkedSweep))
	k.relax.Reset(now.Add(relaxEvery))
	k.idling = false
	k.watchIdle(now)
}

// wakeAt asks for a sweep at an instant, or before it.
func (k *keeper) wakeAt(at seams.Instant) {
	if at < k.timing {
		k.timing = at
		k.timer.Reset(at)
	}
}

// parkedTopics is valid until the next call.
func (k *keeper) parkedTopics() []*Topic {
	clear(k.swept)
	topics := k.swept[:0]
	for t := range k.parkedIn {
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b *Topic) int { return strings.Compare(a.name, b.name) })
	k.swept = topics
	return topics
}

// pressed makes open batches ready while callers wait for the budget, now and
// then rather than at every wait.
func (k *keeper) pressed(now seams.Instant) {
	if !k.Budget.Pressed() && !k.Budget.Paced() {
		return
	}
	if wait := k.urgedAt.Add(urgeEvery); k.urgedAt > 0 && now < wait {
		k.wakeAt(wait)
		return
	}
	k.urgedAt = now
	k.urge()
	if k.Budget.Pressed() {
		// Again while somebody waits: who had room already may open another batch.
		k.wakeAt(now.Add(parkedSweep))
	}
}

func (k *keeper) sweep(c actor.Context, now seams.Instant) {
	k.pressed(now)
	for _, t := range k.parkedTopics() {
		k.drainPending(c, t)
		t.expireParked(now, now.Add(-k.Settings.MaxTopicWait), k.unknownFor)
		t.mu.Lock()
		empty := len(t.parked) == 0
		t.mu.Unlock()
		if empty {
			delete(k.parkedIn, t)
		}
	}
	if len(k.parkedIn) > 0 || k.Budget.Pressed() {
		k.wakeAt(now.Add(parkedSweep))
	}
}

// unknownFor is why the records of a topic that stays unknown fail.
func (k *keeper) unknownFor(t *Topic) error {
	return t.because(fmt.Errorf("%w %q after %v", messages.ErrUnknownTopic, t.name, k.Settings.MaxTopicWait))
}

func (k *keeper) drainPending(c actor.Context, t *Topic) {
	t.mu.Lock()
	pending := t.pending
	t.mu.Unlock()
	if pending != nil {
		k.drain(c, t, pending)
	}
}

// drain opens a topic, or goes on when there is room for what is parked. With
// nothing parked it only publishes the routes.
func (k *keeper) drain(c actor.Context, t *Topic, rt *routes) {
	done, full := t.drain(rt)
	k.spawning = nil
	if done {
		return
	}
	k.parkedIn[t] = true
	if full != nil {
		self, system := c.Self(), c.ActorSystem()
		k.Budget.NotifyRoom(full.account, full.bytes, func() { system.Root.Send(self, &bufferHasRoom{t}) })
	} else if t.ask() {
		k.refreshForPartition(c) // it was parked while nobody could see that it lies beyond
	}
	k.wakeAt(k.Settings.Clock.Now().Add(parkedSweep))
}

// refreshForPartition asks for the one refresh that decides about a partition
// beyond the known ones.
func (k *keeper) refreshForPartition(c actor.Context) {
	c.Send(k.Root, &messages.RefreshMetadata{Reason: "a record names an unknown partition"})
}

// isAnother says whether two ids are those of two topics. Brokers that know no ids
// say nothing about it (Metadata before version 10).
func isAnother(before, now [16]byte) bool {
	none := [16]byte{}
	return before != none && now != none && before != now
}

// update brings a topic's routes in line with what metadata found.
func (k *keeper) update(c actor.Context, info answer) {
	t := (*k.table.Load())[info.Name]
	if t == nil || k.unrouted[t] == seams.Never {
		return // nobody would hear of the leaders that it has later
	}
	old := t.known()
	if info.Err != nil {
		k.topicFailed(t, old, info.TopicInfo)
		return
	}
	if len(info.Partitions) == 0 {
		return
	}
	before := k.moving[t] // of the topic's last creation
	if old != nil && isAnother(old.live[0].(messages.Taker).TopicID(), info.ID) {
		k.Settings.Log.Warn().Str("topic", t.name).Msg("the topic was deleted and created again")
		delete(k.hinted, t.name) // epochs begin anew
		delete(k.absent, t.name)
		k.abandon(t)
		k.decisions.At("finds a topic created again")
		before, old = old, nil
	}
	if old == nil {
		old = &routes{}
	}
	if before == nil && k.isNoNews(old, info.TopicInfo) {
		delete(k.doubted, t)
		t.isFine()
		t.refreshed()
		k.drain(c, t, old)
		return
	}
	exist := make([]bool, len(old.boxes))
	for i, box := range old.boxes {
		exist[i] = box != nil
	}
	if k.absent[t.name] == nil {
		k.absent[t.name] = make(absences)
	}
	s, err := k.absent[t.name].shapeOf(info, exist, k.Settings.MaxTopicPartitions)
	if err != nil {
		k.doubt(t, err, len(old.live) == 0 && before == nil)
		return
	}
	delete(k.doubted, t)
	t.isFine()
	after := messages.NoIdentity
	if before != nil {
		k.moving[t] = before
		after = k.evacuate(t, before)
		k.decisions.At("has evacuated a topic")
	}
	rt := k.route(c, t, old, &s, info.ID, after)
	k.decisions.At("has new routes")
	if before != nil {
		k.resettle(t, before, rt)
		k.decisions.At("has resettled a topic")
		delete(k.moving, t)
	}
	left := make([]messages.Appender, 0, len(s.gone))
	for _, id := range s.gone {
		left = append(left, old.boxes[id])
	}
	for i, id := range s.gone {
		delete(k.hinted[t.name], id)
		k.ending = append(k.ending, ending{left[i : i+1], fmt.Errorf("%w: topic %s has no partition %d any more", messages.ErrUnknownPartition, t.name, id)})
	}
	t.refreshed(left...)
	k.drain(c, t, rt)
	if len(s.gone) > 0 {
		k.decisions.At("has dropped partitions")
		k.Settings.Log.Warn().Str("topic", t.name).Ints32("partitions", s.gone).Msg("partitions are gone; their records fail")
		k.endAll()
	}
}

// isNoNews reports whether an answer says what the routes have already, as most
// refreshes do: then there is no table to make and nobody to tell.
func (k *keeper) isNoNews(rt *routes, info *messages.TopicInfo) bool {
	return len(rt.live) == len(rt.boxes) && rt.crashes == k.crashes && maps.EqualFunc(rt.brokers, k.brokers, (*actor.PID).Equal) &&
		len(k.hinted[info.Name])+len(k.absent[info.Name]) == 0 && isKnown(info, rt.infos, rt.epochs)
}

// doubt is what becomes of an answer that cannot be true: a topic that is known
// stays as it is, and the records of another fail.
func (k *keeper) doubt(t *Topic, err error, unknown bool) {
	if !k.doubted[t] {
		k.doubted[t] = true
		k.Settings.Log.Error().Err(err).Bool("known", !unknown).Msg("an answer about a topic is not believed")
	}
	if unknown {
		t.err.Store(&err)
		t.refuseParked(err)
	}
}

// route makes the table of a topic, starting accumulators for new partitions and
// telling each who leads it.
func (k *keeper) route(c actor.Context, t *Topic, old *routes, s *shape, id [16]byte, after messages.Identity) *routes {
	if len(old.live) == 0 || len(s.gone) > 0 {
		k.spawned[t.name]++ // a partition that comes back gets another name, too
	}
	n := len(s.infos)
	rt := &routes{
		infos: s.infos, boxes: make([]messages.Appender, n), epochs: make([]int32, n),
		live: make([]messages.Appender, 0, n), available: make([]int32, 0, n), brokers: k.brokers, crashes: k.crashes,
	}
	for i := range rt.boxes {
		if !s.exists(i) {
			rt.infos[i] = partitioners.Partition{ID: int32(i), Leader: -1}
			continue
		}
		var box messages.Appender
		if i < len(old.boxes) {
			box = old.boxes[i]
		}
		if box == nil {
			box = k.spawn(c, t, id, int32(i), after)
		}
		if s.missing[i] {
			rt.infos[i], rt.epochs[i] = old.infos[i], old.epochs[i]
		} else {
			rt.infos[i].Leader, rt.epochs[i] = k.assign(t.name, box, int32(i), rt.infos[i].Leader, s.epochs[i])
		}
		rt.boxes[i] = box
		rt.live = append(rt.live, box)
		if rt.infos[i].Leader >= 0 {
			rt.available = append(rt.available, int32(i))
		}
	}
	return rt
}

func (k *keeper) topicFailed(t *Topic, old *routes, info *messages.TopicInfo) {
	switch {
	case info.Permanent:
		err := info.Err
		t.err.Store(&err)
		t.refuseParked(err)
	case info.Gone && old != nil:
		k.Settings.Log.Warn().Str("topic", t.name).Msg("the topic is gone; its records fail")
		k.ending = append(k.ending, ending{old.live, fmt.Errorf("%w: topic %s was deleted", messages.ErrUnknownPartition, t.name)})
		t.forget(old)
		k.decisions.At("has forgotten a topic")
		delete(k.hinted, t.name)
		delete(k.absent, t.name)
		k.endAll()
	default:
		err := info.Err
		t.lastErr.Store(&err)
		t.err.Store(nil) // what was certain is so no more
	}
	if info.Permanent || info.Gone {
		k.abandon(t) // a crash in mid-move may have left it without routes
	}
}

// ending are accumulators that nobody finds any more, and that have not ended yet.
type ending struct {
	boxes []messages.Appender
	cause error // of records that are left in them
}

// endAll ends them. After a crash in the middle it is done again, from the start.
func (k *keeper) endAll() {
	for _, e := range k.ending {
		for _, box := range e.boxes {
			k.end(box, e.cause)
		}
	}
	k.ending = nil
}

func (k *keeper) end(box messages.Appender, cause error) {
	box.FailAll(cause)
	k.system.Root.Poison(box.PID())
}

func (k *keeper) spawn(c actor.Context, t *Topic, id [16]byte, partition int32, after messages.Identity) messages.Appender {
	box, err := k.Spawn(c, messages.AccumulatorSpec{Topic: t.name, TopicID: id, Partition: partition, Incarnation: k.spawned[t.name], After: after})
	if err != nil {
		panic(err)
	}
	k.spawning = append(k.spawning, box)
	return box
}

// assign tells a partition who leads it, as metadata has it, unless it was told
// of a newer leader already (KIP-951). It returns leader and epoch.
func (k *keeper) assign(topic string, box messages.Appender, partition, leader, epoch int32) (int32, int32) {
	if h := k.hinted[topic][partition]; h != nil {
		if k.brokers[h.leader] != nil && h.isNewerThan(epoch) {
			leader, epoch = h.leader, h.epoch
		} else {
			delete(k.hinted[topic], partition)
		}
	}
	return k.tell(box, leader, epoch), epoch
}

func (k *keeper) tell(box messages.Appender, leader, epoch int32) int32 {
	l := messages.AssignLeader{ID: leader, LeaderEpoch: epoch, Broker: k.brokers[leader]}
	if l.Broker == nil {
		l.ID, leader = -1, -1
	}
	account := k.accounts[leader]
	if account == nil {
		account = k.Budget.NewAccount(fmt.Sprintf("leader %d", leader), part(k.Settings.LeaderPercent))
		k.accounts[leader] = account
	}
	box.SetAccount(account)
	box.Assign(l)
	return leader
}

// hint takes in a leader that a broker named with its error.
func (k *keeper) hint(m *messages.LeaderHinted) {
	t := (*k.table.Load())[m.Topic]
	if t == nil || k.brokers[m.LeaderID] == nil {
		return
	}
	rt := t.known()
	if rt == nil || m.Partition < 0 || !rt.has(m.Partition) {
		return
	}
	if m.LeaderEpoch <= rt.epochs[m.Partition] {
		return
	}
	if h := k.hinted[m.Topic][m.Partition]; h != nil && h.epoch >= m.LeaderEpoch {
		return
	}
	if k.hinted[m.Topic] == nil {
		k.hinted[m.Topic] = make(map[int32]*leaderHint)
	}
	k.hinted[m.Topic][m.Partition] = &leaderHint{leader: m.LeaderID, epoch: m.LeaderEpoch}
	k.tell(rt.boxes[m.Partition], m.LeaderID, m.LeaderEpoch)
}
