package metadata

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// refreshing is a desk whose refresher knows three brokers and has just begun a refresh.
func refreshing(t *testing.T) (*desk, *messages.ControlRequest) {
	d := newDesk(t, 1, "a")
	d.reply(d.ask(), cluster(3, topic("a", 1, 5)))
	d.now = d.now.Add(time.Minute)
	d.want(d.now)
	return d, d.ask()
}

// after waits for the next request, which must come after exactly so long.
func (d *desk) after(wait time.Duration) *messages.ControlRequest {
	d.t.Helper()
	before := d.now
	r := d.ask()
	if took := d.now.Sub(before); took != wait {
		d.t.Fatalf("broker %d is asked after %v, expected %v", r.Broker, took, wait)
	}
	return r
}

// late says something to a request that nobody waits for any more.
func (d *desk) late(r *messages.ControlRequest, a *kmsg.MetadataResponse, lost error) {
	d.t.Helper()
	m := &messages.ControlResponse{Ticket: r.Ticket, Broker: r.Broker, Err: lost}
	if a != nil {
		m.Response = a
	}
	if view, err := d.answered(m, d.now); view != nil || err != nil {
		d.t.Fatalf("a late word is taken in: %+v, %v", view, err)
	}
}

// TestASilentBrokerIsHedged: another is asked as well, and the first answer counts,
// whoever gives it. The later one changes nothing: it may be older. A third waits for
// twice the time.
func TestASilentBrokerIsHedged(t *testing.T) {
	for _, quicker := range []int{0, 1} {
		d, first := refreshing(t)
		both := []*messages.ControlRequest{first, d.after(2 * time.Second)}
		if both[0].Broker == both[1].Broker || both[0].Ticket == both[1].Ticket {
			t.Fatalf("broker %d is asked twice", first.Broker)
		}
		if names := both[1].Request.(*kmsg.MetadataRequest).Topics; len(names) != 1 || *names[0].Topic != "a" {
			t.Errorf("the hedge asks for %v", names)
		}
		d.now = d.now.Add(time.Second)
		if r := d.step(d.now); r != nil {
			t.Fatalf("broker %d is asked, too", r.Broker)
		}
		if at := d.nextDeadline(); at != d.now.Add(3*time.Second) {
			t.Errorf("the refresh waits for %v, with two brokers asked", at.Sub(d.now))
		}
		if v := d.reply(both[quicker], cluster(3, topic("a", 1, 7))); v.Version != 2 || v.AnsweredBy != both[quicker].Broker {
			t.Errorf("%+v", v)
		}
		next := d.nextDeadline()
		d.late(both[1-quicker], cluster(2, topic("a", 1, 6)), nil)
		d.late(both[1-quicker], nil, messages.ErrConnectionLost)
		if d.nextDeadline() != next || d.failures != 0 || len(d.view.Brokers) != 3 || d.topics["a"].info.Partitions[0].LeaderEpoch != 7 || len(d.topics["a"].stale) > 0 {
			t.Error("the late word is more than bookkeeping")
		}
		d.want(d.now)
		if r := d.ask(); r.Broker != both[quicker].Broker {
			t.Errorf("broker %d is asked next, and %d answered", r.Broker, both[quicker].Broker)
		}
	}
}

// TestTheSilentArePassedOver while there are others, until they answer or as long
// as the request would have had.
func TestTheSilentArePassedOver(t *testing.T) {
	for answers, wait := range map[bool]time.Duration{true: 0, false: 40 * time.Second} {
		d, first := refreshing(t)
		began := d.now.Add(2 * time.Second)
		unknown := cluster(3) // the topic is missing, so that the next answer is another broker's
		d.reply(d.after(2*time.Second), unknown)
		if answers {
			d.late(first, cluster(3, topic("a", 1, 5)), nil)
		}
		var met seams.Instant
		for range 100 {
			r := d.ask()
			if messages.IsSeed(r.Broker) {
				t.Fatal("a bootstrap address is asked, with brokers that answer")
			}
			if r.Broker == first.Broker {
				met = d.now
				break
			}
			d.reply(r, unknown)
		}
		if waited := met.Sub(began); waited < wait || waited > wait+3*time.Second {
			t.Errorf("the silent broker is asked again after %v; it has answered: %v", waited, answers)
		}
	}
}

// TestTheSilentArePassedOverAfterANewOrder, and by failures, too.
func TestTheSilentArePassedOverAfterANewOrder(t *testing.T) {
	for range 20 {
		d, first := refreshing(t)
		d.reply(d.after(2*time.Second), cluster(4, topic("a", 1, 5)))
		var asked []int32
		for range 3 {
			d.want(d.now)
			r := d.ask()
			asked = append(asked, r.Broker)
			d.refuse(r)
		}
		if slices.Contains(asked, first.Broker) || slices.ContainsFunc(asked, messages.IsSeed) {
			t.Fatalf("asked %v, and %d is silent", asked, first.Broker)
		}
	}
}

// TestABrokerThatLeftIsNotRemembered as silent.
func TestABrokerThatLeftIsNotRemembered(t *testing.T) {
	d, first := refreshing(t)
	others := cluster(4, topic("a", 1, 5))
	others.Brokers = slices.DeleteFunc(others.Brokers, func(b kmsg.MetadataResponseBroker) bool { return b.NodeID == first.Broker })
	d.reply(d.after(2*time.Second), others)
	if len(d.silent) != 0 {
		t.Errorf("silent: %v", d.silent)
	}
}

// TestNobodyElse: with one broker to ask there is no hedge.
func TestNobodyElse(t *testing.T) {
	d := newDesk(t, 1, "a")
	first := d.ask()
	d.now = d.now.Add(2 * time.Second)
	if r := d.step(d.now); r != nil {
		t.Fatalf("broker %d is asked", r.Broker)
	}
	d.now = d.now.Add(38 * time.Second)
	if r := d.step(d.now); r != nil {
		t.Fatalf("broker %d is asked without a wait", r.Broker)
	}
	again := d.after(100 * time.Millisecond)
	if again.Broker != first.Broker {
		t.Errorf("broker %d", again.Broker)
	}
	d.reply(again, cluster(1, topic("a", 1, 0)))
}

// TestAHedgeIsLost: the next is asked at once, and when all have failed there are
// the waits of the retry policy. The silent broker's answer still counts.
func TestAHedgeIsLost(t *testing.T) {
	d, first := refreshing(t)
	d.refuse(d.after(2 * time.Second))
	d.refuse(d.after(0))
	d.refuse(d.after(0)) // a bootstrap address
	d.refuse(d.after(100 * time.Millisecond))
	d.refuse(d.after(200 * time.Millisecond))
	if r := d.after(400 * time.Millisecond); r.Broker == first.Broker {
		t.Error("the silent broker is asked twice at a time")
	}
	if v := d.reply(first, cluster(3, topic("a", 1, 6))); v.Version != 2 {
		t.Errorf("%+v", v)
	}
	if d.failures != 0 || d.isSilent(first.Broker, d.now) {
		t.Error("a success ends the waits, and the silence")
	}
}

// TestTheHedgeIsLeft: when the silent broker's connection ends, the hedge goes on
// alone, and its own silence has the same limit.
func TestTheHedgeIsLeft(t *testing.T) {
	d, first := refreshing(t)
	second := d.after(2 * time.Second)
	d.now = d.now.Add(500 * time.Millisecond)
	d.refuse(first)
	third := d.after(1500 * time.Millisecond)
	if third.Broker == second.Broker || third.Broker == first.Broker {
		t.Errorf("asked %d, %d, %d", first.Broker, second.Broker, third.Broker)
	}
	d.reply(second, cluster(3, topic("a", 1, 6)))
}

// TestAllAreSilent: each waits for twice the time of the one before. The oldest
// request fails when its time is over, and its place is taken by another.
func TestAllAreSilent(t *testing.T) {
	d, first := refreshing(t)
	second := d.after(2 * time.Second)
	third := d.after(4 * time.Second)
	fourth := d.after(8 * time.Second)
	d.now = d.now.Add(26 * time.Second)
	if r := d.step(d.now); r != nil {
		t.Fatalf("broker %d is asked without a wait", r.Broker)
	}
	if again := d.after(100 * time.Millisecond); again.Broker != first.Broker {
		t.Errorf("broker %d is asked twice at a time", again.Broker)
	}
	brokers := []int32{first.Broker, second.Broker, third.Broker, fourth.Broker}
	slices.Sort(brokers)
	if len(slices.Compact(brokers)) != 4 {
		t.Errorf("asked %v", brokers)
	}
	d.late(first, cluster(3, topic("a", 1, 6)), nil) // given up
	d.reply(third, cluster(3, topic("a", 1, 6)))
}

// TestACrashGivesUpBoth requests, since either answer may be what it came over.
func TestACrashGivesUpBoth(t *testing.T) {
	d, first := refreshing(t)
	second := d.after(2 * time.Second)
	d.crashed(d.now)
	again := d.after(0)
	d.late(first, cluster(3, topic("a", 1, 6)), nil)
	d.late(second, cluster(3, topic("a", 1, 6)), nil)
	if again.Broker == first.Broker {
		t.Error("the silent broker is asked first")
	}
	d.reply(again, cluster(3, topic("a", 1, 6)))
}
