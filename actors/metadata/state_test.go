package metadata

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// desk is a refresher's state with the cluster played by the test.
type desk struct {
	*State
	t   *testing.T
	now seams.Instant
}

func newDesk(t *testing.T, seeds int, topics ...string) *desk {
	d := &desk{t: t, now: seams.Instant(time.Hour), State: newState(config{
		seeds: seeds, maxAge: 5 * time.Minute, minAge: 50 * time.Millisecond, timeout: 40 * time.Second, hedge: 2 * time.Second,
		retry:  messages.RetryPolicy{InitialRetryTime: 100 * time.Millisecond, MaxRetryTime: time.Second, Multiplier: 2, Retries: -1},
		random: rand.New(rand.NewPCG(1, 1)),
	})}
	for _, name := range topics {
		d.track(name, d.now)
	}
	return d
}

// ask waits for the next request.
func (d *desk) ask() *messages.ControlRequest {
	d.t.Helper()
	d.now = max(d.now, d.nextDeadline())
	r := d.step(d.now)
	if r == nil {
		d.t.Fatal("nothing is asked at the deadline")
	}
	return r
}

// reply answers a request.
func (d *desk) reply(r *messages.ControlRequest, a *kmsg.MetadataResponse) *messages.ClusterView {
	d.t.Helper()
	view, err := d.answered(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Response: a}, d.now)
	if err != nil || view == nil {
		d.t.Fatal("no view", err)
	}
	return view
}

func (d *desk) refuse(r *messages.ControlRequest) {
	d.t.Helper()
	if view, err := d.answered(&messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Err: messages.ErrConnectionLost}, d.now); view != nil || err == nil {
		d.t.Fatal(view, err)
	}
}

// cluster is an answer that names brokers 1 to n.
func cluster(n int32, topics ...kmsg.MetadataResponseTopic) *kmsg.MetadataResponse {
	a := kmsg.NewPtrMetadataResponse()
	for id := n; id > 0; id-- {
		a.Brokers = append(a.Brokers, kmsg.MetadataResponseBroker{NodeID: id, Host: "h", Port: 9090 + id})
	}
	a.Topics = topics
	return a
}

// topic is a topic whose partitions are led by broker 1 at the given epochs.
func topic(name string, id byte, epochs ...int32) kmsg.MetadataResponseTopic {
	mt := kmsg.NewMetadataResponseTopic()
	mt.Topic, mt.TopicID = kmsg.StringPtr(name), [16]byte{id}
	for i, epoch := range epochs {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader, p.LeaderEpoch = int32(i), 1, epoch
		mt.Partitions = append(mt.Partitions, p)
	}
	return mt
}

func failing(name string, code protocol.ErrorCode) kmsg.MetadataResponseTopic {
	mt := topic(name, 0)
	mt.ErrorCode = int16(code)
	return mt
}

func find1(t *testing.T, v *messages.ClusterView, name string) messages.TopicInfo {
	t.Helper()
	for _, info := range v.Topics {
		if info.Name == name {
			return info
		}
	}
	t.Fatalf("the view has no %s", name)
	return messages.TopicInfo{}
}

func TestOneInFlight(t *testing.T) {
	d := newDesk(t, 1, "b", "a")
	r := d.ask()
	k := r.Request.(*kmsg.MetadataRequest)
	if len(k.Topics) != 2 || *k.Topics[0].Topic != "a" || *k.Topics[1].Topic != "b" || !messages.IsSeed(r.Broker) {
		t.Errorf("%+v to %d", k.Topics, r.Broker)
	}
	d.want(d.now)
	d.track("c", d.now)
	if again := d.step(d.now.Add(time.Second)); again != nil {
		t.Error("two requests in flight")
	}
	if view, err := d.answered(&messages.ControlResponse{Ticket: r.Ticket - 1, Response: cluster(1)}, d.now); view != nil || err != nil {
		t.Error("an answer to an older request is taken in", err)
	}
	d.reply(r, cluster(1, topic("a", 1, 0), topic("b", 2, 0)))
	if next := d.ask(); len(next.Request.(*kmsg.MetadataRequest).Topics) != 3 || d.now > seams.Instant(time.Hour).Add(time.Second) {
		t.Error("what came meanwhile is not asked for soon")
	}
}

func TestAges(t *testing.T) {
	d := newDesk(t, 1, "a")
	r := d.ask()
	at := d.now
	d.reply(r, cluster(1, topic("a", 1, 0)))
	if next := d.nextDeadline(); next != at.Add(5*time.Minute) {
		t.Errorf("next refresh in %v", next.Sub(at))
	}
	for range 3 {
		d.want(d.now)
	}
	if next := d.nextDeadline(); next != at.Add(50*time.Millisecond) {
		t.Errorf("next refresh in %v in spite of the least age", next.Sub(at))
	}
	if d.step(at.Add(49*time.Millisecond)) != nil {
		t.Error("too early")
	}
	d.reply(d.ask(), cluster(1, topic("a", 1, 0)))
	d.now = d.now.Add(time.Minute)
	d.want(d.now)
	if d.step(d.now) == nil {
		t.Error("a wish after a quiet minute has to wait")
	}
}

// TestFailures: each broker is tried at once, then the bootstrap addresses, and
// when all failed there is a wait that grows.
func TestFailures(t *testing.T) {
	d := newDesk(t, 2, "a")
	d.reply(d.ask(), cluster(3, topic("a", 1, 0)))
	d.now = d.now.Add(time.Minute)
	d.want(d.now)
	var asked []int32
	started := d.now
	for range 5 {
		r := d.ask()
		asked = append(asked, r.Broker)
		d.refuse(r)
	}
	if d.now != started {
		t.Errorf("brokers that were not tried had to wait %v", d.now.Sub(started))
	}
	if known := slices.Sorted(slices.Values(asked[:3])); !slices.Equal(known, []int32{1, 2, 3}) || !messages.IsSeed(asked[3]) || !messages.IsSeed(asked[4]) || asked[3] == asked[4] {
		t.Errorf("asked %v", asked)
	}
	var waits []time.Duration
	for range 6 {
		before := d.now
		r := d.ask()
		waits = append(waits, d.now.Sub(before))
		d.refuse(r)
	}
	want := []time.Duration{100, 200, 400, 800, 1000, 1000}
	for i := range want {
		if waits[i] != want[i]*time.Millisecond {
			t.Fatalf("waits %v", waits)
		}
	}
	d.reply(d.ask(), cluster(3, topic("a", 1, 0)))
	d.now = d.now.Add(time.Minute)
	d.want(d.now)
	d.refuse(d.ask())
	if at := d.nextDeadline(); at != d.now {
		t.Errorf("after a success the wait does not begin anew: %v", at.Sub(d.now))
	}
}

func TestAnswerWithoutBrokersFails(t *testing.T) {
	d := newDesk(t, 1, "a")
	r := d.ask()
	if view, err := d.answered(&messages.ControlResponse{Ticket: r.Ticket, Response: cluster(0)}, d.now); view != nil || err == nil {
		t.Error(view, err)
	}
}

func TestOlderEpochIsBelievedTheFifthTime(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(2, topic("a", 1, 9, 9)))
	older := topic("a", 1, 3, 9)
	older.Partitions[0].Leader = 2
	for i := 1; i <= 5; i++ {
		d.want(d.now)
		p := find1(t, d.reply(d.ask(), cluster(2, older)), "a").Partitions[0]
		if i < 5 && (p.LeaderEpoch != 9 || p.Leader != 1) {
			t.Fatalf("believed the time number %d: %+v", i, p)
		}
		if i == 5 && (p.LeaderEpoch != 3 || p.Leader != 2) {
			t.Fatalf("not believed the fifth time: %+v", p)
		}
	}
	// A current one in between starts the count again.
	d.reply(d.ask(), cluster(2, topic("a", 1, 9, 9)))
	for i, epoch := range []int32{3, 3, 9, 3, 3, 3, 3} {
		d.want(d.now)
		if p := find1(t, d.reply(d.ask(), cluster(2, topic("a", 1, epoch, 9))), "a").Partitions[0]; p.LeaderEpoch != 9 {
			t.Fatalf("step %d: %+v", i, p)
		}
	}
}

func TestMissingTwiceIsGone(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(3, topic("a", 1, 0)))
	d.want(d.now)
	first := d.ask()
	if info := find1(t, d.reply(first, cluster(3, failing("a", protocol.UnknownTopicOrPartition))), "a"); info.Gone || info.Err != nil {
		t.Fatalf("gone after one broker missed it: %+v", info)
	}
	second := d.ask()
	if second.Broker == first.Broker {
		t.Fatal("the same broker is asked again")
	}
	info := find1(t, d.reply(second, cluster(3)), "a") // not even mentioned
	if !info.Gone || !errors.Is(info.Err, messages.ErrUnknownTopic) || info.Permanent {
		t.Errorf("%+v", info)
	}
	info = find1(t, d.reply(d.ask(), cluster(3)), "a")
	if info.Gone || info.Err == nil {
		t.Errorf("gone twice: %+v", info)
	}
	if info = find1(t, d.reply(d.ask(), cluster(3, topic("a", 2, 0))), "a"); info.Err != nil || info.ID != [16]byte{2} {
		t.Errorf("created again: %+v", info)
	}
}

func TestMissingOnceIsForgotten(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(1, topic("a", 1, 0)))
	for range 4 {
		d.want(d.now)
		d.reply(d.ask(), cluster(1))
		d.want(d.now)
		if info := find1(t, d.reply(d.ask(), cluster(1, topic("a", 1, 0))), "a"); info.Err != nil || info.Gone {
			t.Fatalf("%+v", info)
		}
	}
}

// TestNewTopicID: leader epochs of the old topic say nothing about the new one.
func TestNewTopicID(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(1, topic("a", 1, 9, 9)))
	d.want(d.now)
	info := find1(t, d.reply(d.ask(), cluster(1, topic("a", 2, 0))), "a")
	if info.ID != [16]byte{2} || len(info.Partitions) != 1 || info.Partitions[0].LeaderEpoch != 0 {
		t.Errorf("%+v", info)
	}
}

// TestPastIDs: a broker that is behind still speaks of the topic that was deleted.
// It is believed when nobody says otherwise any more.
func TestPastIDs(t *testing.T) {
	d := newDesk(t, 2, "a")
	d.reply(d.ask(), cluster(3, topic("a", 1, 5)))
	again := func(id byte) messages.TopicInfo {
		d.now = d.now.Add(time.Minute)
		d.want(d.now)
		return find1(t, d.reply(d.ask(), cluster(3, topic("a", id, 0))), "a")
	}
	if got := again(2); got.ID != [16]byte{2} {
		t.Fatalf("%+v", got)
	}
	for _, id := range []byte{1, 1, 1, 1, 2, 1} {
		if got := again(id); got.ID != [16]byte{2} {
			t.Fatalf("after an answer with id %d: %+v", id, got)
		}
	}
	for range staleEpochsAccepted - 2 {
		again(1)
	}
	for range 3 {
		if got := again(1); got.ID != [16]byte{1} {
			t.Fatalf("the fifth time: %+v", got)
		}
	}
}

// TestIDsComeAndGo: a cluster that is being upgraded knows ids or not, depending
// on whom one asks; that makes it no other topic.
func TestIDsComeAndGo(t *testing.T) {
	for _, ids := range [][]byte{{0, 1, 0, 1}, {1, 0, 1, 0}} {
		d := newDesk(t, 1, "a")
		for i, id := range ids {
			d.want(d.now)
			if info := find1(t, d.reply(d.ask(), cluster(1, topic("a", id, 5))), "a"); info.ID != [16]byte{ids[0]} {
				t.Errorf("ids %v: answer %d has id %d", ids, i, info.ID[0])
			}
		}
		// An error in between does not forget it.
		d.want(d.now)
		d.reply(d.ask(), cluster(1, failing("a", protocol.TopicAuthorizationFailed)))
		d.want(d.now)
		if info := find1(t, d.reply(d.ask(), cluster(1, topic("a", ids[1], 5))), "a"); info.ID != [16]byte{ids[0]} {
			t.Errorf("ids %v: after an error it has id %d", ids, info.ID[0])
		}
	}
}

func TestPartitionsGrow(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(1, topic("a", 1, 4)))
	d.want(d.now)
	more := topic("a", 1, 4, 0, 0)
	slices.Reverse(more.Partitions)
	info := find1(t, d.reply(d.ask(), cluster(1, more)), "a")
	for i, p := range info.Partitions {
		if p.ID != int32(i) {
			t.Fatalf("partitions out of order: %+v", info.Partitions)
		}
	}
	if len(info.Partitions) != 3 {
		t.Errorf("%d partitions", len(info.Partitions))
	}
}

func TestImpossiblePartitionsAreIgnored(t *testing.T) {
	d := newDesk(t, 1, "a")
	odd := topic("a", 1, 4, 4)
	odd.Partitions[0].Partition = -1
	if info := find1(t, d.reply(d.ask(), cluster(1, odd)), "a"); len(info.Partitions) != 1 || info.Partitions[0].ID != 1 {
		t.Errorf("%+v", info.Partitions)
	}
}

func TestErrorsStayWithTheirTopic(t *testing.T) {
	for code, permanent := range map[protocol.ErrorCode]bool{
		protocol.TopicAuthorizationFailed: true, protocol.InvalidTopicException: true,
		protocol.UnknownTopicOrPartition: false, protocol.LeaderNotAvailable: false, protocol.ErrorCode(999): false,
	} {
		d := newDesk(t, 1, "bad", "good")
		view := d.reply(d.ask(), cluster(1, failing("bad", code), topic("good", 1, 0)))
		if info := find1(t, view, "good"); info.Err != nil || len(info.Partitions) != 1 {
			t.Errorf("%v: the other topic: %+v", code, info)
		}
		info := find1(t, view, "bad")
		if info.Err == nil || info.Permanent != permanent || !errors.Is(info.Err, code) {
			t.Errorf("%v: %+v", code, info)
		}
		soon := d.nextDeadline() < d.now.Add(time.Second)
		if soon == permanent {
			t.Errorf("%v: asked again in %v", code, d.nextDeadline().Sub(d.now))
		}
	}
}

func TestPassingErrorKeepsWhatIsKnown(t *testing.T) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(1, topic("a", 1, 4)))
	d.want(d.now)
	info := find1(t, d.reply(d.ask(), cluster(1, failing("a", protocol.LeaderNotAvailable))), "a")
	if info.Err != nil || len(info.Partitions) != 1 {
		t.Errorf("%+v", info)
	}
}

func TestNoLeaderIsAskedForAgain(t *testing.T) {
	for name, change := range map[string]func(*kmsg.MetadataResponseTopicPartition){
		"none":           func(p *kmsg.MetadataResponseTopicPartition) { p.Leader = -1 },
		"error":          func(p *kmsg.MetadataResponseTopicPartition) { p.ErrorCode = 5 },
		"unknown broker": func(p *kmsg.MetadataResponseTopicPartition) { p.Leader = 77 },
	} {
		d := newDesk(t, 1, "a")
		a := topic("a", 1, 4, 4)
		change(&a.Partitions[1])
		var waits []time.Duration
		for range 5 {
			before := d.now
			d.reply(d.ask(), cluster(1, a))
			waits = append(waits, d.now.Sub(before))
		}
		if waits[1] != 100*time.Millisecond || waits[4] != 800*time.Millisecond {
			t.Errorf("%s: waits %v", name, waits)
		}
	}
	// A replica that is down is no reason.
	d := newDesk(t, 1, "a")
	a := topic("a", 1, 4)
	a.Partitions[0].ErrorCode = int16(protocol.ReplicaNotAvailable)
	if p := find1(t, d.reply(d.ask(), cluster(1, a)), "a").Partitions[0]; p.Leader != 1 || d.nextDeadline() != d.now.Add(5*time.Minute) {
		t.Errorf("%+v", p)
	}
}

func TestForget(t *testing.T) {
	d := newDesk(t, 1, "a", "b")
	d.reply(d.ask(), cluster(1, topic("a", 1, 0), topic("b", 2, 0)))
	d.forget("a")
	d.forget("never known")
	d.want(d.now)
	r := d.ask()
	if k := r.Request.(*kmsg.MetadataRequest); len(k.Topics) != 1 || *k.Topics[0].Topic != "b" {
		t.Errorf("%+v", k.Topics)
	}
	if view := d.reply(r, cluster(1, topic("b", 2, 0))); len(view.Topics) != 1 {
		t.Errorf("%+v", view.Topics)
	}
}

func TestBrokersOfTheView(t *testing.T) {
	d := newDesk(t, 1)
	a := cluster(2)
	a.ClusterID = kmsg.StringPtr("c")
	a.Brokers[0].Host, a.Brokers[0].Rack = "fe80::1", kmsg.StringPtr("r")
	d.want(d.now)
	view := d.reply(d.ask(), a)
	want := []messages.BrokerInfo{{ID: 1, Address: "h:9091"}, {ID: 2, Address: "[fe80::1]:9092", Rack: "r"}}
	if !slices.Equal(view.Brokers, want) || view.ClusterID != "c" || view.Version != 1 {
		t.Errorf("%+v", view)
	}
}

// FuzzAnswers: whatever brokers say, partitions of the view are sorted and at
// least 0, a topic that is served has partitions, and there is a next refresh.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{2, 0, 1, 2, 0, 5, 1, 9, 1, 0, 1, 1, 0, 4})
	f.Add([]byte{0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		next := func() int8 {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int8(b)
		}
		script = script[:min(len(script), 200)]
		d := newDesk(t, 2, "a", "b")
		for len(script) > 0 {
			r := d.ask()
			if next()%8 == 7 {
				d.refuse(r)
				continue
			}
			a := cluster(int32(1 + uint8(next())%4))
			for _, name := range []string{"a", "b"}[:uint8(next())%3] {
				mt := topic(name, uint8(next())%3)
				mt.ErrorCode = int16(next()) * int16(next()%2)
				for range uint8(next()) % 4 {
					p := kmsg.NewMetadataResponseTopicPartition()
					p.Partition, p.Leader, p.LeaderEpoch, p.ErrorCode = int32(next()), int32(next()), int32(next()), int16(next()%4)
					mt.Partitions = append(mt.Partitions, p)
				}
				a.Topics = append(a.Topics, mt)
			}
			for _, info := range d.reply(r, a).Topics {
				last := int32(-1)
				for _, p := range info.Partitions {
					if p.ID < max(last, 0) {
						t.Fatalf("partition %d behind %d", p.ID, last)
					}
					last = p.ID
				}
				if info.Err == nil && len(info.Partitions) == 0 || info.Err != nil && info.Gone && info.Permanent {
					t.Fatalf("%+v", info)
				}
			}
			if at := d.nextDeadline(); at == seams.Never || at < d.now && !d.question.Open() {
				t.Fatalf("next refresh in %v", at.Sub(d.now))
			}
		}
	})
}

// TestRequestsKeepTheirTopics: one on its way names what was wanted when it was made.
func TestRequestsKeepTheirTopics(t *testing.T) {
	d := newDesk(t, 1, "b")
	names := func(r *messages.ControlRequest) (all []string) {
		for _, topic := range r.Request.(*kmsg.MetadataRequest).Topics {
			all = append(all, *topic.Topic)
		}
		return all
	}
	first := d.ask()
	d.track("a", d.now)
	d.refuse(first)
	second := d.ask()
	d.forget("b")
	if got := names(first); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the first request names %v", got)
	}
	if got := names(second); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the second request names %v", got)
	}
	d.refuse(second)
	if got := names(d.ask()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the third request names %v", got)
	}
}
