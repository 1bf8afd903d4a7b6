package router

import (
	"errors"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
)

// drain moves parked records into their partitions, in order, and then opens the
// topic to the caller's path. What stays parked names partitions that the topic
// does not have, or has no room: then that is returned, and what comes behind it
// stays, too.
func (t *Topic) drain(rt *routes) (done bool, full *fullError) {
	t.mu.Lock()
	d := drained{Topic: t, rt: rt}
	kept := t.parked[:0]
	next := 0
	for next < len(t.parked) && full == nil {
		end := next + 1
		if call := t.parked[next].call; call != 0 {
			for end < len(t.parked) && t.parked[end].call == call {
				end++
			}
		}
		d.run = t.parked[next:end]
		d.stays = append(d.stays[:0], make([]bool, len(d.run))...)
		full = d.place()
		for i, stays := range d.stays {
			if stays {
				kept = append(kept, d.run[i])
			}
		}
		next = end
	}
	refused := d.refused
	kept = append(kept, t.parked[next:]...)
	clear(t.parked[len(kept):])
	t.parked = kept
	if len(kept) > 0 {
		t.pending = rt
		if full == nil {
			t.routes.Store(rt)
		}
		t.leaving += len(refused)
		t.mu.Unlock()
		if full == nil {
			t.rouse()
		}
		t.finishParked(refused, nil, nil)
		return false, full
	}
	chunks, flushes := t.endLocked(rt)
	t.leaving += len(refused)
	t.mu.Unlock()
	t.rouse()
	t.finishParked(refused, chunks, flushes)
	return true, nil
}

// drained is a run of parked records on their way into partitions: one record,
// or the neighbours that one Send brought. The caller holds the lock.
type drained struct {
	*Topic
	rt      *routes
	run     []parked
	stays   []bool
	refused []refusedRecord // of all runs
	list    []messages.Admission
}

// place appends the records of each partition together, so that they stand in
// one batch if one holds them.
func (d *drained) place() (full *fullError) {
	if len(d.run) == 1 { // as most are
		if partition, ok := d.goesTo(0); ok {
			return d.append(partition, []int{0})
		}
		return nil
	}
	var order []int32
	groups := make(map[int32][]int)
	for i := range d.run {
		if partition, ok := d.goesTo(i); ok {
			if groups[partition] == nil {
				order = append(order, partition)
			}
			groups[partition] = append(groups[partition], i)
		}
	}
	for _, partition := range order {
		if full == nil {
			full = d.append(partition, groups[partition])
			continue
		}
		for _, i := range groups[partition] {
			d.stays[i] = true
		}
	}
	return full
}

// goesTo is where a record of the run goes, if it does: else it stays or is refused.
func (d *drained) goesTo(i int) (partition int32, ok bool) {
	partition, err := d.partitionOf(&d.run[i])
	switch {
	case err == nil:
		return partition, true
	case !errors.Is(err, errBeyond):
		d.refuse(i, err)
	case d.run[i].seen == d.refreshes:
		// One refresh first. Those behind it go to partitions that exist, and
		// need not wait.
		d.stays[i] = true
	default:
		d.refuse(i, d.beyond(d.rt, partition))
	}
	return partition, false
}

// partitionOf chooses the partition of a record, once: one that stays has it.
func (d *drained) partitionOf(p *parked) (int32, error) {
	if ended := messages.EndOf(p.ctx); ended != nil {
		return -1, ended
	}
	partition, _, err := d.choose(d.rt, &p.record)
	if err == nil || errors.Is(err, errBeyond) {
		p.record.Partition = messages.AtPartition(partition)
	}
	return partition, err
}

func (d *drained) refuse(i int, cause error) {
	d.refused = append(d.refused, refusedRecord{d.run[i], cause})
}

// append appends records of the run to their partition.
func (d *drained) append(partition int32, indices []int) *fullError {
	box := d.rt.boxes[partition]
	d.list = d.list[:0]
	urgent := false
	for _, i := range indices {
		p := &d.run[i]
		d.list = append(d.list, messages.Admission{
			Record: &p.record, Callback: p.callback, ReplyTo: p.replyTo, Context: p.ctx, Acks: p.options.Acks, Codec: p.options.Codec,
			Bytes: p.bytes, TimeoutMs: p.options.TimeoutMs, Admitted: p.at,
		})
		urgent = urgent || p.options.Urgent
	}
	rest, err := appendTogether(box, d.list, urgent, d.router.Budget, func(bytes int, _ bool) (*memory.Chunk, error) {
		account := box.Account()
		chunk, err := d.router.Budget.TryAcquireAdmitted(account, bytes)
		if err != nil {
			err = &fullError{err, account, bytes}
		}
		return chunk, err
	})
	var full *fullError
	stays := errors.As(err, &full)
	for _, i := range indices[len(indices)-len(rest):] {
		if stays {
			d.stays[i] = true
		} else {
			if errors.Is(err, errMoved) {
				err = messages.ErrClosed
			}
			d.refuse(i, err)
		}
	}
	return full
}
