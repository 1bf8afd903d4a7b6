package broker

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// config is what the state needs of the settings.
type config struct {
	id              int32
	clientID        string
	requestMaxBytes int
	maxInFlight     int
	requestTimeout  time.Duration
	timeoutSlack    time.Duration
	connectionIdle  time.Duration
	slowRequest     time.Duration
	maxRetryTime    time.Duration
	decisions       messages.Decisions
}

// laneState is one connection of the broker, or the place of one.
type laneState struct {
	wanted      bool          // a child exists or is to be spawned
	paused      seams.Instant // no child before: the last one's retries are used up
	up          bool
	generation  int
	connection  seams.Connection
	versions    messages.Versions
	inFlight    []*request // in order of writing, which is the order of answers
	correlation int32
	throttled   seams.Instant // no request before (KIP-219)
	// gathering is, for each acks, before when no further request of it goes out if
	// many are in flight: one of many small ones must not keep the others back.
	gathering [messages.AcksNone + 1]seams.Instant
	served    messages.Acks // of the last request
	givenUp   bool          // its connection was told to close, and has not yet
	lastUsed  seams.Instant
	// until is when nothing new is written any more, since the broker will end the
	// session. When what is in flight is answered, another connection takes over.
	until seams.Instant
	since seams.Instant // when it came up
}

// request is one request in flight, reused when it is both settled and written.
// Produce requests carry batches; control requests carry whom to answer.
type request struct {
	lane        messages.Lane
	correlation int32
	version     int16
	deadline    seams.Instant
	allowed     time.Duration // from the write to the deadline
	doubt       seams.Instant // when to ask whether somebody else leads by now
	doubted     time.Duration // how long it waited for that, the last time
	batches     []part
	encoder     protocol.ProduceEncoder
	noAcks      bool
	given       bool // to the transport, which will say that the write has ended
	control     *messages.ControlRequest

	// holds counts the ledger and the transport; unwritten says that no byte of
	// the request can have left.
	holds     atomic.Int32
	unwritten atomic.Bool
	written   func(*request) // told at the end of the write when nobody answers
}

// Written implements seams.Write. It runs in the transport's turn and touches
// nothing that the broker's turn changes.
func (r *request) Written(err error, started bool) {
	if err != nil && !started {
		r.unwritten.Store(true)
	}
	for i := range r.batches {
		r.batches[i].batch.WriteEnded()
	}
	if r.noAcks && err == nil {
		r.written(r)
		return // the hold goes with the message
	}
	r.drop()
}

var requests = sync.Pool{New: func() any { return new(request) }}

// reset makes a request ready for use, and for a crash before it is written.
func (r *request) reset(l messages.Lane) {
	r.lane, r.control, r.given, r.noAcks = l, nil, false, false
	r.batches = r.batches[:0]
	r.holds.Store(2)
	r.unwritten.Store(false)
}

func (r *request) drop() {
	if r.holds.Add(-1) != 0 {
		return
	}
	r.encoder.Reset()
	clear(r.batches)
	r.batches, r.control, r.written = r.batches[:0], nil, nil
	requests.Put(r)
}

// part is one batch of a request, with the names it travels under: a response of
// version 13 has no names, and the topic may be created again meanwhile
// (KAFKA-19397).
type part struct {
	taker   messages.Taker
	batch   messages.Batch
	topic   string
	id      [16]byte
	index   int32
	settled bool
}

// State is a broker's ledger: who is ready, what is in flight, what is waited
// for. It does no I/O and is told the time.
type State struct {
	config
	lanes    [messages.Lanes]laneState
	ready    readyLines
	queued   map[messages.Taker]bool
	waiting  []messages.Taker // for an identity
	control  []queuedControl  // not yet written
	identity messages.Identity
	closed   bool
	moved    int // partitions that were in line for another class than they wanted
	// hand are the requests that the turn under way has taken in hand: they stand in no
	// ledger, or no longer, and a crash must not lose them.
	hand []*request
}

func newState(c config, identity messages.Identity) *State {
	return &State{config: c, queued: make(map[messages.Taker]bool), identity: identity}
}

// partitionReady puts a partition in line, once.
func (s *State) partitionReady(t messages.Taker, c messages.Class) {
	if s.queued[t] {
		return
	}
	s.queued[t] = true
	line := s.ready.of(c)
	*line = append(*line, t)
	s.lanes[c.Lane].wanted = true
}

// identityChanged brings back the partitions that waited for it. An older
// identity than the present one is late word: offering it again could number a
// partition backwards. The same one counts, since whoever was offered it may have
// to ask again.
func (s *State) identityChanged(i messages.Identity) {
	if s.identity.Newer(i) {
		return
	}
	s.identity = i
	waiting := s.waiting
	s.waiting = nil
	for _, t := range waiting {
		delete(s.queued, t)
		s.partitionReady(t, t.Class())
	}
}

// takeInHand is called when a request leaves its ledger, or while it is in none yet.
func (s *State) takeInHand(requests ...*request) { s.hand = append(s.hand, requests...) }

// putDown says that a request is in a ledger, or that nothing of it is left to do.
func (s *State) putDown(r *request) {
	if i := slices.Index(s.hand, r); i >= 0 {
		s.hand = slices.Delete(s.hand, i, i+1)
	}
}

// assemble takes batches of ready partitions into an unused request, and reports whether
// there was any. needIdentity says that some partition cannot go on without
// a producer id.
func (s *State) assemble(c messages.Class, r *request, now seams.Instant) (ok, needIdentity bool) {
	line := *s.ready.of(c)
	if len(line) == 0 {
		return false, false
	}
	lane := &s.lanes[c.Lane]
	version := lane.versions.Produce
	room := s.requestMaxBytes
	r.reset(c.Lane)
	s.takeInHand(r)
	var again []messages.Taker
	n := 0
	for n < len(line) && len(r.batches) < maxBatchesPerRequest {
		t := line[n]
		batch, status := t.Take(messages.TakeRequest{
			Now: now, Broker: s.id, Identity: s.identity, Class: c,
			RoomBytes: room, First: len(r.batches) == 0, Connection: lane.generation, ProduceVersion: version,
		})
		if status == messages.TakeNoRoom {
			break
		}
		n++
		if batch != nil {
			r.batches = append(r.batches, part{taker: t, batch: batch, topic: t.Topic(), id: t.TopicID(), index: t.Partition()})
			s.decisions.At("takes a batch")
			room -= batch.Bytes() + protocol.ProducePartitionOverhead
		}
		switch status {
		case messages.TakeMore:
			// At most one batch of a partition per request: the rest waits for the
			// next, behind everybody else.
			again = append(again, t)
		case messages.TakeReclass:
			s.moved++
			delete(s.queued, t)
			s.partitionReady(t, t.Class())
		case messages.TakeNeedsIdentity:
			needIdentity = true
			s.waiting = append(s.waiting, t)
		default:
			delete(s.queued, t)
		}
		if room <= 0 {
			break
		}
	}
	ready := s.ready.of(c) // with those that came into line meanwhile
	rest := (*ready)[n:]
	kept := append((*ready)[:0], rest...)
	clear((*ready)[len(kept):])
	*ready = append(kept, again...)
	if len(r.batches) == 0 {
		s.putDown(r)
	}
	return len(r.batches) > 0, needIdentity
}

// maxBatchesPerRequest bounds the partitions of one request: an answer that
// large takes the broker long, and one lost connection puts all of them in doubt.
const maxBatchesPerRequest = 2000

// sendProduce encodes a request and enters it into the ledger. The caller gives it to
// the transport.
func (s *State) sendProduce(c messages.Class, r *request, now seams.Instant) [][]byte {
	lane := &s.lanes[c.Lane]
	lane.correlation++
	lane.lastUsed = now
	r.correlation = lane.correlation
	r.version = lane.versions.Produce
	s.limitVersion(r)
	r.noAcks = c.Acks == messages.AcksNone
	timeout := time.Duration(0)
	for i := range r.batches {
		// The largest of its batches: a shorter one would fail its neighbours.
		own := s.requestTimeout
		if ms := r.batches[i].batch.TimeoutMs(); ms > 0 {
			own = time.Duration(ms) * time.Millisecond
		}
		timeout = max(timeout, own)
	}
	r.allowed = timeout + s.timeoutSlack
	r.deadline = now.Add(r.allowed)
	r.doubt, r.doubted = now.Add(s.slowRequest), s.slowRequest
	topics := groupByTopic(r.batches)
	s.decisions.At("encodes a request")
	e := &r.encoder
	e.Begin(r.version, r.correlation, s.clientID, nil, c.Acks.Wire(), int32(timeout/time.Millisecond), topics)
	for i := 0; i < len(r.batches); {
		end := i + 1
		for end < len(r.batches) && sameTopic(&r.batches[i], &r.batches[end]) {
			end++
		}
		e.Topic(r.batches[i].topic, r.batches[i].id, end-i)
		for ; i < end; i++ {
			e.Partition(r.batches[i].index, r.batches[i].batch.Slices())
		}
	}
	lane.inFlight = append(lane.inFlight, r)
	lane.gathering[c.Acks], lane.served = now.Add(gatherTime), c.Acks
	frame := e.Finish()
	s.decisions.At("writes a request")
	r.given = true
	s.putDown(r)
	return frame
}

func sameTopic(a, b *part) bool { return a.topic == b.topic && a.id == b.id }

// groupByTopic brings batches of one topic together, keeping the order in which
// topics first appear, and returns the number of topics.
func groupByTopic(parts []part) int {
	topics := 0
	for i := 0; i < len(parts); {
		topics++
		end := i + 1
		for j := end; j < len(parts); j++ {
			if sameTopic(&parts[i], &parts[j]) {
				if j != end {
					p := parts[j]
					copy(parts[end+1:j+1], parts[end:j])
					parts[end] = p
				}
				end++
			}
		}
		i = end
	}
	return topics
}

// limitVersion uses the highest version that names every topic: topic ids need an
// id for each of them.
func (s *State) limitVersion(r *request) {
	for i := range r.batches {
		if r.batches[i].id == ([16]byte{}) && r.version >= 13 {
			r.version = 12
		}
	}
}

// answered matches a response to the oldest request of its lane. Anything else
// means that the two ends of the connection no longer agree.
func (s *State) answered(l messages.Lane, correlation int32, now seams.Instant) (*request, error) {
	lane := &s.lanes[l]
	if len(lane.inFlight) == 0 {
		return nil, fmt.Errorf("broker %d answered request %d, but none is in flight", s.id, correlation)
	}
	r := lane.inFlight[0]
	if r.correlation != correlation {
		return nil, fmt.Errorf("broker %d answered request %d, expected %d", s.id, correlation, r.correlation)
	}
	s.takeInHand(r)
	s.remove(lane, r)
	lane.lastUsed = now
	s.decisions.At("hears an answer")
	return r, nil
}

// remove takes a request out of the ledger, and reports whether it was in it.
func (s *State) remove(lane *laneState, r *request) bool {
	for i, f := range lane.inFlight {
		if f == r {
			lane.inFlight = slices.Delete(lane.inFlight, i, i+1)
			return true
		}
	}
	return false
}

// settleAnswer gives each batch of a request its part of the answer. A batch
// that the broker left out is lost like one without an answer.
func (s *State) settleAnswer(r *request, response *protocol.ProduceResponse, now seams.Instant) {
	settled := 0
	for i := range response.Partitions {
		p := &response.Partitions[i]
		at := i
		if at >= len(r.batches) || !r.batches[at].is(p, r.version) {
			for at = 0; at < len(r.batches); at++ {
				if r.batches[at].is(p, r.version) {
					break
				}
			}
		}
		if at == len(r.batches) || r.batches[at].settled {
			continue
		}
		b := &r.batches[at]
		s.decisions.At("settles a batch")
		b.settled = true
		settled++
		b.batch.Settle(messages.Result{
			Now: now, Broker: s.id, Sent: true, Code: p.ErrorCode, ErrorMessage: string(p.ErrorMessage),
			BaseOffset: p.BaseOffset, LogAppendTimeMs: p.LogAppendTimeMs, LogStartOffset: p.LogStartOffset,
			RecordErrors: recordErrors(p), LeaderID: p.CurrentLeaderID, LeaderEpoch: p.CurrentLeaderEpoch,
		})
	}
	if settled < len(r.batches) {
		s.settleRest(r, fmt.Errorf("%w: broker %d left the partition out of its answer", messages.ErrConnectionLost, s.id), true, now)
	}
	if response.ThrottleMs > 0 {
		s.lanes[r.lane].throttled = now.Add(time.Duration(response.ThrottleMs) * time.Millisecond)
	}
}

// recordErrors copies out of the response what it says of single records.
func recordErrors(p *protocol.PartitionResponse) []messages.RecordError {
	if len(p.RecordErrors) == 0 {
		return nil
	}
	errors := make([]messages.RecordError, len(p.RecordErrors))
	for i, e := range p.RecordErrors {
		errors[i] = messages.RecordError{Index: e.BatchIndex, Message: string(e.Message)}
	}
	return errors
}

func (p *part) is(r *protocol.PartitionResponse, version int16) bool {
	if p.index != r.Partition {
		return false
	}
	if version >= 13 {
		return p.id == r.TopicID
	}
	return p.topic == string(r.Topic)
}

// settleRest settles what is left of a request as lost. A nil error is the
// success of acks 0: the bytes were written.
func (s *State) settleRest(r *request, err error, sent bool, now seams.Instant) {
	for i := range r.batches {
		if !r.batches[i].settled {
			r.batches[i].settled = true
			r.batches[i].batch.Settle(messages.Result{
				Now: now, Broker: s.id, Sent: sent, Err: err, BaseOffset: -1, LogAppendTimeMs: -1, LogStartOffset: -1,
				LeaderID: -1, LeaderEpoch: -1,
			})
		}
	}
}

// connectionUp opens a lane.
func (s *State) connectionUp(m *messages.ConnectionUp, now seams.Instant) {
	lane := &s.lanes[m.Lane]
	lane.up, lane.generation, lane.connection, lane.versions = true, m.Generation, m.Connection, m.Versions
	lane.correlation, lane.throttled, lane.lastUsed, lane.givenUp, lane.until, lane.since = firstCorrelation, 0, now, false, m.Until, now
	if m.Until == 0 {
		lane.until = seams.Never
	}
}

// firstCorrelation leaves the ids below to the connection's own handshake.
const firstCorrelation = 1000

// connectionLost closes a lane and returns what was in flight on it.
func (s *State) connectionLost(m *messages.ConnectionLost) []*request {
	lane := &s.lanes[m.Lane]
	if m.Generation != lane.generation && m.WasUp {
		return nil
	}
	lost := lane.inFlight
	s.takeInHand(lost...)
	lane.up, lane.connection, lane.inFlight, lane.givenUp = false, nil, nil, false
	s.decisions.At("loses a connection")
	lane.wanted = s.wants(m.Lane) || len(lost) > 0
	return lost
}

// wants reports whether anything waits for a lane.
func (s *State) wants(l messages.Lane) bool {
	if s.closed {
		return false
	}
	if l == messages.LaneControl {
		return len(s.control) > 0
	}
	for _, c := range classes {
		if c.Lane == l && len(*s.ready.of(c)) > 0 {
			return true
		}
	}
	return false
}

// expired returns the lanes whose oldest request has been without an answer for
// longer than it may: their connections are given up.
func (s *State) expired(now seams.Instant) []messages.Lane {
	var lanes []messages.Lane
	for l := range s.lanes {
		lane := &s.lanes[l]
		if in := lane.inFlight; len(in) > 0 && in[0].deadline <= now && !lane.givenUp {
			// Once: the end of the connection comes when it comes, and looking for it
			// again and again would keep the broker busy until then.
			lane.givenUp = true
			lanes = append(lanes, messages.Lane(l))
		}
	}
	return lanes
}

// inDoubt reports whether a produce request has been open for so long that the
// cluster may have chosen other leaders, of which a broker that is paused or cut
// off will never tell. It says so again and again, as long as one is open, at the
// pace of retries where that is slower.
func (s *State) inDoubt(now seams.Instant) (doubt bool) {
	for l := range s.lanes {
		if in := s.lanes[l].inFlight; len(in) > 0 && in[0].control == nil && in[0].doubt <= now {
			r := in[0]
			r.doubted = min(2*r.doubted, max(s.slowRequest, s.maxRetryTime))
			r.doubt = now.Add(r.doubted)
			doubt = true
		}
	}
	return doubt
}

// nextDeadline is when the broker has to look again.
func (s *State) nextDeadline(now seams.Instant) seams.Instant {
	at := seams.Never
	for l := range s.lanes {
		lane := &s.lanes[l]
		if len(lane.inFlight) > 0 {
			first := lane.inFlight[0]
			if !lane.givenUp {
				at = min(at, first.deadline)
			}
			if first.control == nil {
				at = min(at, first.doubt)
			}
		} else if lane.up {
			at = min(at, s.over(messages.Lane(l)))
			if !s.wants(messages.Lane(l)) {
				at = min(at, lane.lastUsed.Add(s.connectionIdle))
			}
		}
		if lane.paused > now && lane.wanted {
			at = min(at, lane.paused)
		}
		if lane.throttled > now && s.wants(messages.Lane(l)) {
			at = min(at, lane.throttled)
		}
	}
	for _, c := range classes {
		lane := &s.lanes[c.Lane]
		if until := lane.gathering[c.Acks]; until > now && s.hasRoom(c.Lane, now) && len(lane.inFlight) >= gatherFrom && len(*s.ready.of(c)) > 0 {
			at = min(at, until)
		}
	}
	if len(s.control) > 0 {
		at = min(at, s.control[0].deadline)
	}
	return at
}

type queuedControl struct {
	*messages.ControlRequest
	deadline seams.Instant
}

// addControl puts a control request in line.
func (s *State) addControl(m *messages.ControlRequest, now seams.Instant) {
	s.control = append(s.control, queuedControl{m, now.Add(s.requestTimeout)})
	s.lanes[messages.LaneControl].wanted = true
}

// nextControl takes the next control request that may be written now, and its
// entry in the ledger.
func (s *State) nextControl(now seams.Instant) *request {
	lane := &s.lanes[messages.LaneControl]
	if len(s.control) == 0 || !s.hasRoom(messages.LaneControl, now) {
		return nil
	}
	m := s.control[0]
	s.control = s.control[1:]
	lane.correlation++
	lane.lastUsed = now
	r := requests.Get().(*request)
	r.reset(messages.LaneControl)
	r.correlation, r.control, r.given = lane.correlation, m.ControlRequest, true
	r.deadline, r.allowed = now.Add(s.requestTimeout), s.requestTimeout
	r.version = min(lane.versions.Of(m.Request.Key()), m.Request.MaxVersion())
	lane.inFlight = append(lane.inFlight, r)
	return r
}

// failControl takes all control requests that wait for the lane, or only those
// whose time is over.
func (s *State) failControl(now seams.Instant, all bool) []*messages.ControlRequest {
	var failed []*messages.ControlRequest
	kept := s.control[:0]
	for _, c := range s.control {
		if all || c.deadline <= now {
			failed = append(failed, c.ControlRequest)
		} else {
			kept = append(kept, c)
		}
	}
	s.control = kept
	return failed
}
