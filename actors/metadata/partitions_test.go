package metadata

import (
	"testing"
	"time"
)

// TestALackingPartitionIsAskedForElsewhere: one broker's word is not enough to
// say that a partition is gone, so another is asked soon; two are.
func TestALackingPartitionIsAskedForElsewhere(t *testing.T) {
	d := newDesk(t, 1, "t")
	d.reply(d.ask(), cluster(3, topic("t", 1, 5, 5, 5)))
	d.want(d.now)
	first := d.ask()
	view := d.reply(first, cluster(3, topic("t", 1, 5, 5)))
	if view.AnsweredBy != first.Broker || len(view.Topics[0].Partitions) != 2 {
		t.Fatalf("answered by %d of %d: %+v", view.AnsweredBy, first.Broker, view.Topics[0])
	}
	before := d.now
	second := d.ask()
	if wait := d.now.Sub(before); wait > 2*time.Second || second.Broker == first.Broker {
		t.Errorf("broker %d was asked after %v, and broker %d before", second.Broker, wait, first.Broker)
	}
	d.reply(second, cluster(3, topic("t", 1, 5, 5)))
	before = d.now
	d.ask()
	if wait := d.now.Sub(before); wait < time.Minute {
		t.Errorf("asked again after %v, though two brokers say the same", wait)
	}
}
