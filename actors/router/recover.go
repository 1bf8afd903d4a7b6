package router

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// recover does again what a message may have been about that was lost in a
// crash, here or at the root: timers that fired, topics that are wanted, room that
// came, an idle time that is over. The root says again who leads what.
func (k *keeper) recover(c actor.Context, now seams.Instant) {
	for _, t := range k.sorted() {
		t.mu.Lock()
		parked := len(t.parked) > 0
		wanted := parked || t.asked || t.routes.Load() != nil
		t.mu.Unlock()
		if !wanted {
			continue
		}
		c.Send(k.Root, &messages.TrackTopic{Name: t.name})
		if parked || t.asked {
			k.parkedIn[t] = true
			k.drainPending(c, t)
		}
	}
	k.timing = seams.Never
	k.wakeAt(now.Add(parkedSweep))
	k.relax.Reset(now.Add(relaxEvery))
	k.idle.Reset(now.Add(k.Settings.MetadataIdle / idleChecks))
}

// Reannounce has every partition say once more whether it is ready: a broker has
// crashed and may have lost what it was told.
func (r *Router) Reannounce() {
	for _, t := range r.sorted() {
		if rt := t.routes.Load(); rt != nil {
			for _, box := range rt.live {
				box.Reannounce()
			}
		}
	}
}
