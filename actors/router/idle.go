package router

import (
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// watchIdle has the topics looked at for idle ones, in a while.
func (k *keeper) watchIdle(now seams.Instant) {
	if !k.idling {
		k.idling = true
		k.idle.Reset(now.Add(k.Settings.MetadataIdle / idleChecks))
	}
}

// retireTopic closes all partitions of a topic, or none. Callers who find one
// closed wait for the lock and look again.
func (k *keeper) retireTopic(t *Topic, rt *routes) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending != nil {
		return false
	}
	for i, box := range rt.live {
		if !box.Retire(k.Settings.MetadataIdle) {
			for _, retired := range rt.live[:i] {
				retired.Reopen()
			}
			return false
		}
	}
	t.routes.Store(nil)
	t.asked = false
	return true
}

// retireIdle ends the accumulators of topics that got no record for the idle
// time. Callers who come after find the topic unknown, park their records, and
// have it looked up again. It reports whether there are others left to look at.
func (k *keeper) retireIdle(now seams.Instant) (left bool) {
	for _, t := range k.sorted() {
		left = t.depart() > 0 || left // forgets those that left and have nothing left
		rt := t.known()
		if rt == nil {
			left = k.forgetUnwanted(t, now) || left
			continue
		}
		delete(k.unrouted, t)
		if k.parkedIn[t] || !k.retireTopic(t, rt) {
			left = true
			continue
		}
		k.ending = append(k.ending, ending{rt.live, messages.ErrClosed})
		k.decisions.At("has retired a topic")
		k.endAll()
		delete(k.absent, t.name)
		t.rouse()
		k.forget(t)
	}
	return left
}

// forgetUnwanted has a topic without routes looked up no more for which no record came
// for the idle time: one that was deleted, or never existed, would be asked for again
// and again. It reports whether the topic is still looked up.
func (k *keeper) forgetUnwanted(t *Topic, now seams.Instant) bool {
	since, known := k.unrouted[t]
	if since == seams.Never {
		return false
	}
	t.mu.Lock()
	wanted := len(t.parked) > 0 || k.moving[t] != nil
	if over := now.Sub(since) >= k.Settings.MetadataIdle; !known || wanted || !over {
		t.mu.Unlock()
		if !known || wanted {
			k.unrouted[t] = now
		}
		return true
	}
	t.asked = false
	t.mu.Unlock()
	t.err.Store(nil) // it would be the answer to the next record, and may be wrong by then
	delete(k.absent, t.name)
	delete(k.doubted, t)
	delete(k.parkedIn, t)
	k.forget(t)
	t.rouse() // who waits for room to park asks again
	return false
}

// forget has a topic looked up no more. What was on its way about it comes too late.
func (k *keeper) forget(t *Topic) {
	k.unrouted[t] = seams.Never
	k.system.Root.Send(k.Root, &messages.ForgetTopic{Name: t.name})
}
