package metadata

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

const (
	// staleEpochsAccepted is how often in a row an older leader epoch must be
	// seen before it is believed: a cluster restored from a backup is younger
	// than what this client remembers.
	staleEpochsAccepted = 5
	// missingBeforeGone is how many refreshes, by different brokers where there
	// are several, must lack a topic before it counts as deleted.
	missingBeforeGone = 2
	// mostAsked is how many brokers are asked at a time.
	mostAsked = 4
	// refusedBefore is how often in a row each broker must have refused who we are
	// before nobody is left to hope for: one may be behind with its users.
	refusedBefore = 2
)

type config struct {
	seeds      int
	maxAge     time.Duration
	minAge     time.Duration
	timeout    time.Duration // without an answer, the request counts as failed
	hedge      time.Duration // without an answer, another broker is asked as well
	autoCreate bool
	retry      messages.RetryPolicy
	random     *rand.Rand
}

type trackedTopic struct {
	info      messages.TopicInfo
	known     bool
	id        [16]byte // as published
	seenID    [16]byte // the last that was not zero
	missing   int
	missingBy int32
	stale     map[int32]int // partition → older epochs in a row
	past      [][16]byte    // ids of earlier creations
	pastHeard int           // answers in a row that spoke of one
}

// State is what the refresher knows and when it wants to know more.
type State struct {
	config
	topics map[string]*trackedTopic
	names  []string // sorted; the order of everything sent or published
	// asked is names as requests have them, nil after a change: requests that are
	// on their way keep what they were given.
	asked []kmsg.MetadataRequestTopic
	view  *messages.ClusterView
	// addresses are those of the brokers of the last answer, in its order.
	addresses []address

	question  messages.Question
	silent    map[int32]seams.Instant // brokers that let a refresh wait → passed over until
	refreshAt seams.Instant
	lastAt    seams.Instant // of the last request
	failures  int
	refused   map[int32]int // brokers that refuse who we are, and how often in a row
	unsettled int           // refreshes in a row that left something to wait for
	candidate int           // whom to ask; with a refresh in flight, who was asked last
	sequence  []int32       // whom to ask, in order
}

func newState(c config) *State {
	s := &State{
		config: c, topics: make(map[string]*trackedTopic), refreshAt: seams.Never, view: &messages.ClusterView{},
		question: messages.Question{Hedge: c.hedge, Timeout: c.timeout, Most: mostAsked}, silent: make(map[int32]seams.Instant), refused: make(map[int32]int),
	}
	s.rotate()
	return s
}

// rotate draws the order in which brokers are asked: known ones first, then the
// bootstrap addresses.
func (s *State) rotate() {
	s.sequence = s.sequence[:0]
	for _, b := range s.view.Brokers {
		s.sequence = append(s.sequence, b.ID)
	}
	s.random.Shuffle(len(s.sequence), func(i, j int) { s.sequence[i], s.sequence[j] = s.sequence[j], s.sequence[i] })
	seeds := make([]int32, s.seeds)
	for i := range seeds {
		seeds[i] = messages.SeedID(i)
	}
	s.random.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	s.sequence = append(s.sequence, seeds...)
	s.candidate = 0
	maps.DeleteFunc(s.silent, func(id int32, _ seams.Instant) bool { return !slices.Contains(s.sequence, id) })
}

func (s *State) track(name string, now seams.Instant) {
	if s.topics[name] != nil {
		// Whoever says so again has lost what was known of it.
		s.want(now)
		return
	}
	s.topics[name] = &trackedTopic{stale: make(map[int32]int)}
	at, _ := slices.BinarySearch(s.names, name)
	s.names, s.asked = slices.Insert(s.names, at, name), nil
	s.unsettled = 0
	s.refreshAt = now
}

func (s *State) forget(name string) {
	delete(s.topics, name)
	if at, ok := slices.BinarySearch(s.names, name); ok {
		s.names, s.asked = slices.Delete(s.names, at, at+1), nil
	}
}

// want asks for a refresh as soon as the minimum age allows.
func (s *State) want(now seams.Instant) {
	if !s.question.Open() && s.failures >= len(s.sequence) {
		// Nobody answers, and the next try has its time. Whoever asks now has lost
		// a connection, as each try does: it must not end its own wait.
		return
	}
	at := now
	if s.lastAt > 0 {
		at = max(now, s.lastAt.Add(s.minAge))
	}
	s.refreshAt = min(s.refreshAt, at)
}

// crashed gives up what is in flight: an answer may be what the refresher
// crashed over. It asks anew as after any other failure.
func (s *State) crashed(now seams.Instant) {
	if s.question.Open() {
		s.question.Settle()
		s.failed(none, now)
	}
}

// none is no ticket.
const none = 0

// step returns the request to send now, if any: the next refresh, or its hedge.
func (s *State) step(now seams.Instant) *messages.ControlRequest {
	for ticket, ok := s.question.Expired(now); ok; ticket, ok = s.question.Expired(now) {
		s.failed(ticket, now)
	}
	switch {
	case s.question.WantsAnother(now):
		at, ok := s.choose(s.candidate+1, now)
		if !ok {
			s.question.NoOther()
			return nil
		}
		for _, id := range s.question.Silent() {
			s.silent[id] = now.Add(s.timeout)
		}
		s.candidate = at
	case s.question.Open() || now < s.refreshAt:
		return nil
	default:
		s.candidate, _ = s.choose(s.candidate, now)
		s.refreshAt = seams.Never
	}
	s.lastAt = now
	r := kmsg.NewPtrMetadataRequest()
	r.AllowAutoTopicCreation = s.autoCreate
	if s.asked == nil {
		s.asked = make([]kmsg.MetadataRequestTopic, len(s.names)) // not nil, which asks for all there are
		for i, name := range s.names {
			s.asked[i].Topic = kmsg.StringPtr(name)
		}
	}
	r.Topics = s.asked
	broker := s.sequence[s.candidate]
	return &messages.ControlRequest{Broker: broker, Request: r, Ticket: s.question.Put(broker, now)}
}

// choose finds whom to ask, beginning at a place of the sequence and going round:
// one that let nobody wait lately, or else one that did. It reports whether there
// is one that is not being asked already.
func (s *State) choose(from int, now seams.Instant) (at int, ok bool) {
	for i := range s.sequence {
		k := (from + i) % len(s.sequence)
		switch id := s.sequence[k]; {
		case s.question.Asked(id):
		case !s.isSilent(id, now):
			return k, true
		case !ok:
			at, ok = k, true
		}
	}
	return at, ok
}

// isSilent reports whether a broker let a refresh wait, and has not answered
// since. It is asked again after the time that the request had: by then its
// connection has been given up, too.
func (s *State) isSilent(id int32, now seams.Instant) bool {
	until, ok := s.silent[id]
	if ok && now >= until {
		delete(s.silent, id)
		return false
	}
	return ok
}

// failed takes out a request and moves on to the next broker. Each is tried at
// once; a wait comes when all were. If somebody else is being asked, too, the
// refresh goes on with that.
func (s *State) failed(ticket int, now seams.Instant) {
	s.failures++
	s.question.Failed(ticket)
	next := now
	if again := s.failures + len(s.question.Silent()) - len(s.sequence); again >= 0 {
		next = now.Add(s.retry.Delay(1+again, s.random))
	}
	if s.question.Open() {
		s.question.NotBefore(next)
		return
	}
	s.candidate++
	if s.candidate >= len(s.sequence) {
		s.rotate()
	}
	s.refreshAt = next
}

// hopeless reports whether every broker refuses who we are, and always has: no topic is
// known, nor will be before somebody changes a setting. Who was let in once waits for
// what has changed since.
func (s *State) hopeless() bool {
	if s.view.Version > 0 || s.question.Open() {
		return false
	}
	for _, id := range s.sequence {
		if s.refused[id] < refusedBefore {
			return false
		}
	}
	return true
}

// note takes down whether a broker refuses who we are.
func (s *State) note(m *messages.ControlResponse) {
	if errors.Is(m.Err, messages.ErrAuthentication) {
		s.refused[m.Broker]++
	} else {
		delete(s.refused, m.Broker)
	}
}

// nextDeadline is when step wants to be called again.
func (s *State) nextDeadline() seams.Instant {
	if s.question.Open() {
		return s.question.Deadline()
	}
	return s.refreshAt
}

// answered takes in a response. It returns the new view, or nil with why there
// is none.
func (s *State) answered(m *messages.ControlResponse, now seams.Instant) (*messages.ClusterView, error) {
	if m.Err == nil {
		delete(s.silent, m.Broker)
	}
	s.note(m)
	if !s.question.WaitsFor(m.Ticket) {
		return nil, nil // a quicker broker's word has been taken in, and it may be newer
	}
	if m.Err != nil {
		s.failed(m.Ticket, now)
		return nil, m.Err
	}
	r, ok := m.Response.(*kmsg.MetadataResponse)
	if !ok || len(r.Brokers) == 0 {
		s.failed(m.Ticket, now)
		return nil, fmt.Errorf("broker %d answered metadata without any broker", m.Broker)
	}
	s.failures = 0
	s.candidate = max(0, slices.Index(s.sequence, m.Broker))
	view := &messages.ClusterView{Version: s.view.Version + 1, AnsweredBy: m.Broker}
	if r.ClusterID != nil {
		view.ClusterID = *r.ClusterID
	}
	view.Brokers = make([]messages.BrokerInfo, 0, len(r.Brokers))
	view.Topics = make([]messages.TopicInfo, 0, len(s.names))
	for i := range r.Brokers {
		b := &r.Brokers[i]
		info := messages.BrokerInfo{ID: b.NodeID, Address: s.address(i, b)}
		if b.Rack != nil {
			info.Rack = *b.Rack
		}
		view.Brokers = append(view.Brokers, info)
	}
	slices.SortFunc(view.Brokers, func(a, b messages.BrokerInfo) int { return int(a.ID - b.ID) })
	settled := true
	answers := make(map[string]*kmsg.MetadataResponseTopic, len(r.Topics))
	for i := range r.Topics {
		if r.Topics[i].Topic != nil {
			answers[*r.Topics[i].Topic] = &r.Topics[i]
		}
	}
	for _, name := range s.names {
		t := s.topics[name]
		if !s.mergeTopic(name, t, answers[name], m.Broker, len(view.Brokers)) {
			settled = false
		}
		view.Topics = append(view.Topics, t.info)
		if !ledByPresent(&t.info, view.Brokers) {
			settled = false
		}
	}
	brokersChanged := !slices.EqualFunc(view.Brokers, s.view.Brokers, func(a, b messages.BrokerInfo) bool { return a.ID == b.ID })
	s.view = view
	if brokersChanged {
		s.rotate()
	}
	next := now.Add(s.maxAge)
	if settled {
		s.unsettled = 0
	} else {
		s.unsettled++
		next = now.Add(s.retry.Delay(s.unsettled, s.random))
		s.moveOn(now)
	}
	s.refreshAt = min(s.refreshAt, next)
	if s.refreshAt < now.Add(s.minAge) && settled {
		s.refreshAt = now.Add(s.minAge)
	}
	s.question.Settle() // last: after a crash over the answer it is still open
	return view, nil
}

// moveOn asks another broker next, who may know more: the bootstrap addresses may
// lead to one that was asked already.
func (s *State) moveOn(now seams.Instant) {
	for range max(1, len(s.view.Brokers)) {
		s.candidate++
		if s.candidate >= max(1, len(s.view.Brokers)) {
			s.candidate = 0
		}
		if !s.isSilent(s.sequence[s.candidate], now) {
			return
		}
	}
}

// mergeTopic takes what one answer says of a topic into what is known. It
// reports whether there is nothing left to wait for.
func (s *State) mergeTopic(name string, t *trackedTopic, answer *kmsg.MetadataResponseTopic, broker int32, brokers int) bool {
	code := protocol.UnknownTopicOrPartition
	if answer != nil {
		code = protocol.ErrorCode(answer.ErrorCode)
	}
	switch code {
	case 0:
	case protocol.TopicAuthorizationFailed, protocol.InvalidTopicException:
		t.info = messages.TopicInfo{Name: name, Err: code, Permanent: true}
		return true
	case protocol.UnknownTopicOrPartition:
		if t.missing == 0 || t.missingBy != broker || brokers == 1 {
			t.missing++
			t.missingBy = broker
		}
		if !t.known || t.missing >= missingBeforeGone {
			t.info = messages.TopicInfo{Name: name, Err: errUnknownTopic}
			t.info.Gone = t.known
			t.known = false
		}
		return false
	default:
		if !t.known {
			t.info = messages.TopicInfo{Name: name, Err: code}
		}
		return false
	}
	t.missing = 0
	if t.isPast(answer.TopicID) {
		return false // somebody has not heard yet that the topic is another now
	}
	recreated := t.takeID(answer.TopicID)
	old := t.info
	info := messages.TopicInfo{Name: name, ID: t.id, Partitions: make([]messages.PartitionInfo, 0, len(answer.Partitions))}
	settled := true
	for _, p := range answer.Partitions {
		if p.Partition < 0 {
			continue
		}
		next := messages.PartitionInfo{
			Partition: partitioners.Partition{ID: p.Partition, Leader: p.Leader, Replicas: p.Replicas, ISR: p.ISR}, LeaderEpoch: p.LeaderEpoch,
		}
		if p.ErrorCode != 0 && protocol.ErrorCode(p.ErrorCode) != protocol.ReplicaNotAvailable {
			next.Leader = -1
		}
		if !recreated && t.known {
			if before, ok := find(old.Partitions, p.Partition); ok && p.LeaderEpoch >= 0 && p.LeaderEpoch < before.LeaderEpoch {
				t.stale[p.Partition]++
				if t.stale[p.Partition] < staleEpochsAccepted {
					next = before
					settled = false
				}
			} else {
				delete(t.stale, p.Partition)
			}
		}
		if next.Leader < 0 {
			settled = false
		}
		info.Partitions = append(info.Partitions, next)
	}
	slices.SortFunc(info.Partitions, func(a, b messages.PartitionInfo) int { return int(a.ID - b.ID) })
	if !recreated && t.known && len(info.Partitions) < len(old.Partitions) {
		settled = false // somebody else may know more
	}
	if len(info.Partitions) == 0 {
		info.Err, settled = protocol.LeaderNotAvailable, false
	}
	t.info, t.known = info, info.Err == nil
	return settled
}

// errUnknownTopic is what the cluster's word that it has no such topic becomes.
var errUnknownTopic = fmt.Errorf("%w: %w", messages.ErrUnknownTopic, protocol.UnknownTopicOrPartition)

// takeID reports whether an answer's topic is another than the one before. While
// a cluster is upgraded, some brokers know ids and some do not, which makes it
// no other topic: what was published first stays.
func (t *trackedTopic) takeID(id [16]byte) (recreated bool) {
	none := [16]byte{}
	recreated = t.known && id != none && t.seenID != none && id != t.seenID
	if recreated {
		t.past = append(t.past, t.seenID)
		if len(t.past) > pastIDs {
			t.past = t.past[1:]
		}
	}
	if recreated || !t.known {
		t.id = id
	}
	if id != none {
		t.seenID = id
	}
	return recreated
}

// pastIDs is how many earlier creations of a topic are remembered.
const pastIDs = 4

// isPast reports whether an id is that of an earlier creation of the topic, of
// which a broker that is behind still speaks. Believed, it would take records
// away from the topic that is. As with epochs, it is believed when it is all that
// is heard: the cluster may have been restored.
func (t *trackedTopic) isPast(id [16]byte) bool {
	if !t.known || id == t.seenID || !slices.Contains(t.past, id) {
		t.pastHeard = 0
		return false
	}
	t.pastHeard++
	return t.pastHeard < staleEpochsAccepted
}

// ledByPresent reports whether every leader is among the brokers. One that is
// not has gone, and somebody else will lead soon.
func ledByPresent(t *messages.TopicInfo, brokers []messages.BrokerInfo) bool {
	for _, p := range t.Partitions {
		if p.Leader >= 0 && !slices.ContainsFunc(brokers, func(b messages.BrokerInfo) bool { return b.ID == p.Leader }) {
			return false
		}
	}
	return true
}

func find(partitions []messages.PartitionInfo, id int32) (messages.PartitionInfo, bool) {
	for _, p := range partitions {
		if p.ID == id {
			return p, true
		}
	}
	return messages.PartitionInfo{}, false
}

// address is that of the nth broker of an answer: most often what it was in the
// answer before.
func (s *State) address(n int, b *kmsg.MetadataResponseBroker) string {
	if n < len(s.addresses) {
		if before := &s.addresses[n]; before.port == b.Port && before.host == b.Host {
			return before.joined
		}
	}
	a := address{b.Host, b.Port, joinHostPort(b.Host, b.Port)}
	s.addresses = append(s.addresses[:min(n, len(s.addresses))], a)
	return a.joined
}

// address is where a broker listens, as answers say it and joined.
type address struct {
	host   string
	port   int32
	joined string
}

func joinHostPort(host string, port int32) string {
	if strings.IndexByte(host, ':') >= 0 {
		return "[" + host + "]:" + strconv.Itoa(int(port))
	}
	return host + ":" + strconv.Itoa(int(port))
}
