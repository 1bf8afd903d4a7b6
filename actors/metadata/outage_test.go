package metadata

import (
	"testing"
	"time"
)

// TestLostConnectionsDoNotEndTheWait: with all brokers away each refresh loses
// the connection it was sent on, and whoever loses one asks for a refresh. That
// must not end the wait after the refresh, or the policy means nothing.
func TestLostConnectionsDoNotEndTheWait(t *testing.T) {
	d := newDesk(t, 2, "a")
	d.refuse(d.ask())
	d.refuse(d.ask())
	for i, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		d.want(d.now)
		if wait := d.nextDeadline().Sub(d.now); wait != want*time.Millisecond {
			t.Fatalf("wait number %d is %v, expected %v", i+1, wait, want*time.Millisecond)
		}
		before := d.now
		r := d.ask()
		if took := d.now.Sub(before); took != want*time.Millisecond {
			t.Fatalf("the next refresh came after %v", took)
		}
		d.want(d.now) // the connection is lost before its broker has answered for it
		d.refuse(r)
	}
	// Who asks while a refresh is under way gets one more, if it succeeds.
	r := d.ask()
	d.want(d.now)
	d.reply(r, cluster(2, topic("a", 1, 0)))
	if wait := d.nextDeadline().Sub(d.now); wait > time.Second {
		t.Errorf("a wish during a refresh is forgotten: the next is due in %v", wait)
	}
}
