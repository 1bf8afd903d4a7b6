package router

import (
	"fmt"

	"github.com/troupe-kafka/troupe/messages"
)

// evacuate closes the accumulators of a topic that was created again. What never left
// waits in them for the new topic's; of the others nobody can say whether they went
// into the old one. It returns the newest identity that the old partitions were
// numbered under.
func (k *keeper) evacuate(t *Topic, old *routes) messages.Identity {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.departLocked(old.live...)
	t.routes.Store(nil)
	if t.pending == old {
		t.pending = nil // else a move that was cut short has come so far as to have new ones
	}
	newest := messages.NoIdentity
	for _, box := range old.live {
		if identity := box.Evacuate(createdAgain(t)); identity.Newer(newest) {
			newest = identity
		}
	}
	return newest
}

// resettle moves what never left to the accumulators of the new topic, of the
// partition that was chosen for it, and ends the old ones.
func (k *keeper) resettle(t *Topic, old, rt *routes) {
	t.mu.Lock()
	t.pending = rt // from here on a Flush finds them there
	t.mu.Unlock()
	k.spawning = nil
	for id, box := range old.boxes {
		switch {
		case box == nil:
			continue
		case rt.has(int32(id)):
			box.MoveTo(rt.boxes[id])
		default:
			box.FailAll(createdAgain(t))
		}
		k.system.Root.Poison(box.PID())
	}
}

// abandon fails what waits to move to a creation of the topic that is gone by now.
func (k *keeper) abandon(t *Topic) {
	if before := k.moving[t]; before != nil {
		k.ending = append(k.ending, ending{before.live, createdAgain(t)})
		delete(k.moving, t)
		k.endAll()
	}
}

func createdAgain(t *Topic) error {
	return fmt.Errorf("%w: topic %s was deleted and created again", messages.ErrUnknownPartition, t.name)
}
