package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

var acksAll = messages.Class{Lane: messages.LaneProduce, Acks: messages.AcksAll}

const start = seams.Instant(time.Hour)

// newLedger is a broker's state with an open produce lane.
func newLedger(version int16) *State {
	s := newState(config{
		id: 4, clientID: "c", requestMaxBytes: 10_000, maxInFlight: 2, requestTimeout: 30 * time.Second,
		timeoutSlack: 10 * time.Second, connectionIdle: 9 * time.Minute, slowRequest: 2 * time.Second,
	}, messages.Identity{ProducerID: 7, Generation: 2})
	s.connectionUp(&messages.ConnectionUp{Lane: messages.LaneProduce, Generation: 1, Versions: versionsOf(version)}, start)
	return s
}

func versionsOf(produce int16) messages.Versions {
	return messages.Versions{Produce: produce, Metadata: 9}
}

// sent assembles and encodes a request of everything that is ready.
func sent(t testing.TB, s *State) (*request, *kmsg.ProduceRequest, int32) {
	t.Helper()
	r := new(request)
	if ok, _ := s.assemble(acksAll, r, start); !ok {
		t.Fatal("nothing to send")
	}
	correlation, k := readRequest(t, join(s.sendProduce(acksAll, r, start)))
	return r, k, correlation
}

func decode(t testing.TB, r *request, answer kmsg.Response) *protocol.ProduceResponse {
	t.Helper()
	p := new(protocol.ProduceResponse)
	if err := p.Decode(r.version, responseFrame(r.correlation, answer)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadyOnce(t *testing.T) {
	s := newLedger(13)
	a := newTaker("a", 0, newBatch(100))
	s.partitionReady(a, acksAll)
	s.partitionReady(a, acksAll)
	if n := len(*s.ready.of(acksAll)); n != 1 {
		t.Fatalf("%d entries", n)
	}
	sent(t, s)
	if s.queued[a] || s.wants(messages.LaneProduce) {
		t.Error("it is still in line after TakeDone")
	}
	s.partitionReady(a, acksAll)
	if !s.queued[a] {
		t.Error("it cannot come again")
	}
}

func TestRequestGroupsByTopic(t *testing.T) {
	s := newLedger(13)
	batches := make(map[string]*fakeBatch)
	for i, topic := range []string{"b", "a", "b", "c", "a"} {
		b := newBatch(100 + i)
		batches[fmt.Sprint(topic, i)] = b
		s.partitionReady(newTaker(topic, int32(i), b), acksAll)
	}
	batches["b0"].timeoutMs, batches["c3"].timeoutMs = 5_000, 70_000
	r, k, _ := sent(t, s)
	var got []string
	for _, topic := range k.Topics {
		for _, p := range topic.Partitions {
			name := fmt.Sprint(string(topic.TopicID[0]), p.Partition)
			got = append(got, name)
			if len(p.Records) != batches[name].Bytes() {
				t.Errorf("%s has %d bytes", name, len(p.Records))
			}
		}
	}
	if fmt.Sprint(got) != "[b0 b2 a1 a4 c3]" || len(k.Topics) != 3 {
		t.Errorf("request of %v in %d topics", got, len(k.Topics))
	}
	if k.Acks != -1 || k.TimeoutMillis != 70_000 || r.deadline != start.Add(80*time.Second) {
		t.Errorf("acks %d, timeout %d, deadline in %v", k.Acks, k.TimeoutMillis, r.deadline.Sub(start))
	}
}

func TestNoRoomKeepsTheOrder(t *testing.T) {
	s := newLedger(13)
	s.requestMaxBytes = 1000
	var takers []*fakeTaker
	for i := range int32(4) {
		takers = append(takers, newTaker("a", i, newBatch(400), newBatch(400)))
		s.partitionReady(takers[i], acksAll)
	}
	for round, want := range []string{"[0 1]", "[2 3]", "[0 1]", "[2 3]"} {
		r, k, _ := sent(t, s)
		var got []int32
		for _, p := range k.Topics[0].Partitions {
			got = append(got, p.Partition)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("round %d: partitions %v, expected %s", round, got, want)
		}
		s.remove(&s.lanes[messages.LaneProduce], r)
	}
}

func TestFirstBatchTravelsWhateverItsSize(t *testing.T) {
	s := newLedger(13)
	s.requestMaxBytes = 200
	s.partitionReady(newTaker("a", 0, newBatch(5000)), acksAll)
	s.partitionReady(newTaker("a", 1, newBatch(100)), acksAll)
	_, k, _ := sent(t, s)
	if len(k.Topics[0].Partitions) != 1 || len(*s.ready.of(acksAll)) != 1 {
		t.Errorf("%d partitions sent, %d left", len(k.Topics[0].Partitions), len(*s.ready.of(acksAll)))
	}
}

func TestTopicsWithoutIDTravelByName(t *testing.T) {
	s := newLedger(13)
	a, b := newTaker("a", 0, newBatch(100)), newTaker("b", 0, newBatch(100))
	b.id = [16]byte{}
	s.partitionReady(a, acksAll)
	s.partitionReady(b, acksAll)
	r, k, _ := sent(t, s)
	if k.GetVersion() != 12 || k.Topics[0].Topic != "a" || k.Topics[1].Topic != "b" {
		t.Fatalf("version %d, %+v", k.GetVersion(), k.Topics)
	}
	s.settleAnswer(r, decode(t, r, produceAnswer(k, 0)), start)
	for _, p := range r.batches {
		if res, ok := p.batch.(*fakeBatch).outcome(t); !ok || res.Err != nil || res.Code != 0 {
			t.Errorf("%+v", res)
		}
	}
}

// TestAnswersGoByTheIDThatWasSent: the topic may be created again meanwhile
// (KAFKA-19397).
func TestAnswersGoByTheIDThatWasSent(t *testing.T) {
	s := newLedger(13)
	b := newBatch(100)
	a := newTaker("a", 0, b)
	s.partitionReady(a, acksAll)
	r, k, _ := sent(t, s)
	a.id = [16]byte{99}
	s.settleAnswer(r, decode(t, r, produceAnswer(k, int16(protocol.UnknownTopicID))), start)
	if res, ok := b.outcome(t); !ok || res.Code != int16(protocol.UnknownTopicID) || res.Err != nil {
		t.Errorf("%+v", res)
	}
}

func TestAnswersMatchTheOldestRequest(t *testing.T) {
	s := newLedger(13)
	if _, err := s.answered(messages.LaneProduce, 1001, start); err == nil {
		t.Error("an answer without a request is accepted")
	}
	s.partitionReady(newTaker("a", 0, newBatch(100), newBatch(100)), acksAll)
	first, _, one := sent(t, s)
	second, _, two := sent(t, s)
	if s.hasRoom(messages.LaneProduce, start) {
		t.Error("room for a third request")
	}
	if _, err := s.answered(messages.LaneProduce, two, start); err == nil {
		t.Error("the second answer is accepted first")
	}
	if r, err := s.answered(messages.LaneProduce, one, start); err != nil || r != first {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := s.answered(messages.LaneProduce, two, start); err != nil || r != second {
		t.Errorf("%v, %v", r, err)
	}
}

func TestOddAnswers(t *testing.T) {
	s := newLedger(13)
	var batches []*fakeBatch
	for i := range int32(4) {
		batches = append(batches, newBatch(100))
		s.partitionReady(newTaker("a", i, batches[i]), acksAll)
	}
	r, k, _ := sent(t, s)
	a := produceAnswer(k, 0)
	p := a.Topics[0].Partitions
	// Shuffled, partition 3 left out, partition 1 twice and unlike, and one that
	// nobody sent.
	again, stranger := p[1], p[0]
	again.ErrorCode, stranger.Partition = 6, 77
	a.Topics[0].Partitions = []kmsg.ProduceResponseTopicPartition{p[2], stranger, p[1], again, p[0]}
	s.settleAnswer(r, decode(t, r, a), start)
	for i, b := range batches {
		res, ok := b.outcome(t)
		switch {
		case !ok:
			t.Errorf("batch %d is not settled", i)
		case i == 3:
			if !errors.Is(res.Err, messages.ErrConnectionLost) || !res.Sent {
				t.Errorf("left out: %+v", res)
			}
		case res.Err != nil || res.Code != 0 || res.BaseOffset != int64(100+i):
			t.Errorf("batch %d: %+v", i, res)
		}
	}
}

func TestThrottle(t *testing.T) {
	s := newLedger(13)
	s.partitionReady(newTaker("a", 0, newBatch(100), newBatch(100)), acksAll)
	r, k, correlation := sent(t, s)
	if _, err := s.answered(messages.LaneProduce, correlation, start); err != nil {
		t.Fatal(err)
	}
	a := produceAnswer(k, 0)
	a.ThrottleMillis = 250
	s.settleAnswer(r, decode(t, r, a), start)
	end := start.Add(250 * time.Millisecond)
	if s.hasRoom(messages.LaneProduce, end-1) || !s.hasRoom(messages.LaneProduce, end) {
		t.Error("the broker's pause is not kept")
	}
	if at := s.nextDeadline(start); at != end {
		t.Errorf("next deadline in %v", at.Sub(start))
	}
	// Also when the pause is longer than the idle time, nobody spins.
	s.lanes[messages.LaneProduce].throttled = start.Add(time.Hour)
	if now := start.Add(30 * time.Minute); s.nextDeadline(now) <= now {
		t.Errorf("the deadline stands still at %v", s.nextDeadline(now).Sub(now))
	}
}

func TestDeadlines(t *testing.T) {
	s := newLedger(13)
	if at := s.nextDeadline(start); at != start.Add(9*time.Minute) {
		t.Errorf("idle in %v", at.Sub(start))
	}
	if got := s.idle(start.Add(9 * time.Minute)); len(got) != 1 || got[0] != messages.LaneProduce {
		t.Errorf("idle lanes %v", got)
	}
	s.partitionReady(newTaker("a", 0, newBatch(100), newBatch(100)), acksAll)
	if got := s.idle(start.Add(9 * time.Minute)); len(got) != 0 {
		t.Errorf("idle with somebody in line: %v", got)
	}
	sent(t, s)
	// While a request is open, the broker that owes the answer may lead no more.
	now := start
	for range 19 {
		at := s.nextDeadline(now)
		if at != now.Add(2*time.Second) || s.inDoubt(at-1) || !s.inDoubt(at) || s.inDoubt(at) {
			t.Fatalf("at %v the next deadline is in %v", now.Sub(start), at.Sub(now))
		}
		now = at
	}
	at := s.nextDeadline(now)
	if at != start.Add(40*time.Second) || len(s.expired(at-1)) != 0 {
		t.Errorf("deadline in %v, expired %v", at.Sub(start), s.expired(at))
	}
	// Given up once: its end may take a while, and nothing is to be done until then.
	if n, again := len(s.expired(at)), len(s.expired(at)); n != 1 || again != 0 {
		t.Errorf("given up %d times, and then %d times", n, again)
	}
	s.inDoubt(at)
	if next := s.nextDeadline(at); next <= at {
		t.Errorf("after giving up the deadline stands still at %v", next.Sub(start))
	}
	if got := s.idle(start.Add(time.Hour)); len(got) != 0 {
		t.Errorf("idle with a request in flight: %v", got)
	}
	lost := s.connectionLost(&messages.ConnectionLost{Lane: messages.LaneProduce, Generation: 1, WasUp: true})
	if len(lost) != 1 || s.hasRoom(messages.LaneProduce, start) || !s.lanes[messages.LaneProduce].wanted {
		t.Errorf("after the loss: %d requests, %+v", len(lost), s.lanes[messages.LaneProduce])
	}
}

func TestOlderGenerationsSayNothing(t *testing.T) {
	s := newLedger(13)
	s.partitionReady(newTaker("a", 0, newBatch(100)), acksAll)
	sent(t, s)
	if lost := s.connectionLost(&messages.ConnectionLost{Lane: messages.LaneProduce, Generation: 0, WasUp: true}); lost != nil {
		t.Error("an older connection's end took the requests of a newer one")
	}
}

func TestIdentities(t *testing.T) {
	s := newLedger(13)
	s.identity = messages.NoIdentity
	a, b := newTaker("a", 0, newBatch(100)), newTaker("a", 1, newBatch(100))
	a.numbered = true
	s.partitionReady(a, acksAll)
	s.partitionReady(b, acksAll)
	r := new(request)
	ok, need := s.assemble(acksAll, r, start)
	if !ok || !need || len(r.batches) != 1 || r.batches[0].index != 1 {
		t.Fatalf("ok %v, needs an identity %v, %d batches", ok, need, len(r.batches))
	}
	s.partitionReady(a, acksAll) // it waits, and does not stand in line twice
	if len(*s.ready.of(acksAll)) != 0 {
		t.Error("a waiting partition is in line")
	}
	s.identityChanged(messages.Identity{ProducerID: 9, Generation: 1})
	if ok, need = s.assemble(acksAll, r, start); !ok || need || r.batches[0].index != 0 {
		t.Errorf("ok %v, needs an identity %v", ok, need)
	}
}

// TestIdentitiesOnlyGetNewer: a late word of the sequencer does not take the
// broker back, and the height of a producer id means nothing.
func TestIdentitiesOnlyGetNewer(t *testing.T) {
	s := newLedger(13)
	newest := messages.Identity{ProducerID: 3, Generation: 4}
	s.identityChanged(newest)
	for _, late := range []messages.Identity{{ProducerID: 7, Epoch: 9, Generation: 2}, {ProducerID: 3, Epoch: 1, Generation: 3}, messages.NoIdentity, {}} {
		if s.identityChanged(late); s.identity != newest {
			t.Fatalf("%+v was replaced by %+v", newest, s.identity)
		}
	}
	// Told again of the same one, whoever waits is asked again.
	a := newTaker("a", 0, newBatch(100))
	s.queued[a], s.waiting = true, []messages.Taker{a}
	if s.identityChanged(newest); len(s.waiting) != 0 || len(*s.ready.of(acksAll)) != 1 {
		t.Errorf("%d wait, %d are ready", len(s.waiting), len(*s.ready.of(acksAll)))
	}
}

func TestReclassMovesOver(t *testing.T) {
	s := newLedger(13)
	a := newTaker("a", 0, newBatch(100))
	s.partitionReady(a, messages.Class{Lane: messages.LaneSlow, Acks: messages.AcksAll})
	moved := s.moved
	if ok, _ := s.assemble(messages.Class{Lane: messages.LaneSlow, Acks: messages.AcksAll}, new(request), start); ok {
		t.Fatal("a batch of another class was sent")
	}
	if s.moved == moved || len(*s.ready.of(acksAll)) != 1 || !s.lanes[messages.LaneProduce].wanted {
		t.Error("it is not in line for its own class")
	}
}

func TestControlRequests(t *testing.T) {
	s := newLedger(13)
	m := &messages.ControlRequest{Request: kmsg.NewPtrMetadataRequest(), Ticket: 1}
	s.addControl(m, start)
	if s.nextControl(start) != nil || !s.lanes[messages.LaneControl].wanted {
		t.Fatal("written without a connection")
	}
	if at := s.nextDeadline(start); at != start.Add(30*time.Second) {
		t.Errorf("next deadline in %v", at.Sub(start))
	}
	if failed := s.failControl(start.Add(30*time.Second), false); len(failed) != 1 || failed[0] != m {
		t.Errorf("failed %v", failed)
	}
	s.connectionUp(&messages.ConnectionUp{Lane: messages.LaneControl, Generation: 1, Versions: versionsOf(13)}, start)
	s.addControl(m, start)
	r := s.nextControl(start)
	if r == nil || r.version != 9 || r.control != m || s.nextControl(start) != nil {
		t.Fatalf("request %+v", r)
	}
}

// TestRandomAnswers: whatever a broker answers, each batch is settled once.
func TestRandomAnswers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		version := int16(3 + random.IntN(11))
		s := newLedger(version)
		var batches []*fakeBatch
		for i := range random.IntN(6) + 1 {
			b := newBatch(100)
			batches = append(batches, b)
			s.partitionReady(newTaker(string(rune('a'+random.IntN(3))), int32(i), b), acksAll)
		}
		r, k, _ := sent(t, s)
		a := produceAnswer(k, int16(random.IntN(3)))
		for i := range a.Topics {
			p := a.Topics[i].Partitions
			random.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
			for range random.IntN(3) {
				p = append(p, p[random.IntN(len(p))])
			}
			a.Topics[i].Partitions = p[random.IntN(2):]
		}
		random.Shuffle(len(a.Topics), func(i, j int) { a.Topics[i], a.Topics[j] = a.Topics[j], a.Topics[i] })
		s.settleAnswer(r, decode(t, r, a), start)
		for i, b := range batches {
			if res, ok := b.outcome(t); !ok || (res.Err == nil && res.BaseOffset != int64(100+i)) {
				t.Fatalf("version %d, batch %d: %v %+v", version, i, ok, res)
			}
		}
	}
}

// FuzzAnswer: any bytes settle each batch once, or are refused.
func FuzzAnswer(f *testing.F) {
	s := newLedger(13)
	s.partitionReady(newTaker("a", 0, newBatch(100)), acksAll)
	r, k, _ := sent(f, s)
	f.Add(int16(13), responseFrame(r.correlation, produceAnswer(k, 6)))
	f.Add(int16(9), []byte{0, 0, 3, 233, 0, 1, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, version int16, frame []byte) {
		if version < 3 || version > 13 {
			version = 13
		}
		s := newLedger(version)
		batches := []*fakeBatch{newBatch(100), newBatch(100)}
		s.partitionReady(newTaker("a", 0, batches[0]), acksAll)
		s.partitionReady(newTaker("b", 1, batches[1]), acksAll)
		r, _, _ := sent(t, s)
		var p protocol.ProduceResponse
		if p.Decode(r.version, frame) != nil {
			return
		}
		s.settleAnswer(r, &p, start)
		for i, b := range batches {
			if _, ok := b.outcome(t); !ok {
				t.Errorf("batch %d is not settled", i)
			}
		}
	})
}
