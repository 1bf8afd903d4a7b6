package model

import (
	"slices"
	"sort"
	"time"
)

// stored is a batch in a log. All replicas that have it share it, and nothing in
// it changes but what became of it.
type stored struct {
	Batch
	base      int64
	epoch     int32 // of the leader that appended it
	timestamp int64 // the largest, or the time of the append

	// committed: a leader's high watermark has passed it; deleted: a leader's log
	// has begun behind its first record.
	committed, deleted bool
	start              int64 // of the leader's log when it was appended
	kept               bool  // scratch of history
	first              bool  // the leader knew nothing of its producer
	nth                int   // of the batches that leaders of the partition have appended
	late               bool  // the topic had been deleted
}

func (b *stored) end() int64 { return b.base + int64(len(b.Records)) }

// epochStart is where a leader epoch begins in a log.
type epochStart struct {
	epoch  int32
	offset int64
}

// replica is one broker's copy of a partition, and what that broker believes of
// the partition while it is up.
type replica struct {
	topic        *topic
	partition    int32
	broker       *broker
	expiryMillis int64

	// What is on disk.
	batches    []*stored
	start, end int64
	hw         int64
	epochs     []epochStart
	segments   []int64 // base offsets; the last one is written to
	segment    int     // bytes in the last one
	flushed    int64   // what a loss of power cannot take
	savedStart int64   // start and high watermark as the checkpoint files have them
	savedHW    int64
	producers  producerTable
	snapshots  []snapshot

	lastSnapshot int64

	// What the broker has learned from the controller.
	state partitionState
	// Of a leader: where its epoch began, and its followers.
	epochStart int64
	followers  []follower
}

// follower is what a leader knows of another replica.
type follower struct {
	id int32
	// end is where the last fetch began, -1 before the first.
	end int64
	// caughtUp is when it last had all that there was; fetched and fetchedEnd are
	// the time of its last fetch and the leader's end then.
	caughtUp, fetched time.Duration
	fetchedEnd        int64
}

func newReplica(t *topic, partition int32, b *broker) *replica {
	return &replica{
		topic: t, partition: partition, broker: b, expiryMillis: b.cluster.cfg.ProducerIDExpiration.Milliseconds(),
		segments: []int64{0}, state: partitionState{leader: noLeader, leaderEpoch: -1},
	}
}

func (r *replica) leads() bool { return r.state.leader == r.broker.id }

// at returns the index of the first batch at or behind an offset.
func (r *replica) at(offset int64) int {
	return sort.Search(len(r.batches), func(i int) bool { return r.batches[i].base >= offset })
}

// holding returns the index of the first batch with anything at or behind an offset.
func (r *replica) holding(offset int64) int {
	return sort.Search(len(r.batches), func(i int) bool { return r.batches[i].end() > offset })
}

// append puts a batch at the end, by a leader or by a follower.
func (r *replica) append(b *stored) {
	if r.segment > 0 && r.segment > r.topic.config.SegmentBytes-b.Size {
		r.roll()
	}
	r.segment += b.Size
	r.batches = append(r.batches, b)
	r.end = b.end()
	r.beginEpoch(b.epoch, b.base)
	r.remember(b)
}

// roll begins a new segment. The old one is flushed, and a snapshot taken.
func (r *replica) roll() {
	if r.segment == 0 {
		return
	}
	r.segments, r.segment = append(r.segments, r.end), 0
	r.takeSnapshot(r.end)
	r.flushed = r.end
}

// beginEpoch notes where an epoch begins. Entries that contradict it go: an epoch
// in which nothing was appended, or one of a leader whose log was not taken over
// (Kafka's LeaderEpochFileCache.assign).
func (r *replica) beginEpoch(epoch int32, offset int64) {
	n := len(r.epochs)
	if n > 0 && r.epochs[n-1].epoch == epoch && r.epochs[n-1].offset <= offset {
		return
	}
	for n > 0 && (r.epochs[n-1].epoch >= epoch || r.epochs[n-1].offset >= offset) {
		n--
	}
	r.epochs = append(r.epochs[:n], epochStart{epoch, offset})
}

// lastEpoch is the newest epoch in the log, -1 if there is none.
func (r *replica) lastEpoch() int32 {
	if n := len(r.epochs); n > 0 {
		return r.epochs[n-1].epoch
	}
	return -1
}

// endOf returns the newest epoch up to the given one, and where it ends: how a
// follower finds out where its log and the leader's part.
func (r *replica) endOf(epoch int32) (int32, int64) {
	i := sort.Search(len(r.epochs), func(i int) bool { return r.epochs[i].epoch > epoch })
	switch {
	case i == 0:
		return -1, r.start
	case i == len(r.epochs):
		return r.epochs[i-1].epoch, r.end
	default:
		return r.epochs[i-1].epoch, r.epochs[i].offset
	}
}

// truncate drops everything from an offset on.
func (r *replica) truncate(to int64, nowMillis int64) {
	if to >= r.end {
		r.cutEpochs(r.end)
		return
	}
	if to < r.segments[0] {
		r.restartAt(to)
		return
	}
	r.batches = r.batches[:r.at(to)]
	// A batch goes as a whole. What of it stood before the place leaves a hole.
	if n := len(r.batches); n > 0 && r.batches[n-1].end() > to {
		r.batches = r.batches[:n-1]
	}
	r.end, r.start = to, min(r.start, to)
	r.segments = slices.DeleteFunc(r.segments, func(base int64) bool { return base > to })
	r.measureSegment()
	r.cutEpochs(to)
	r.flushed = min(r.flushed, to)
	r.cutProducers(to, nowMillis)
	r.hw = min(r.hw, r.end)
}

// restartAt drops everything and goes on at another offset.
func (r *replica) restartAt(offset int64) {
	r.batches, r.epochs, r.producers, r.snapshots = nil, nil, nil, nil
	r.start, r.end, r.hw, r.flushed, r.lastSnapshot = offset, offset, offset, offset, 0
	r.save()
	r.segments, r.segment = []int64{offset}, 0
}

func (r *replica) cutEpochs(end int64) {
	for n := len(r.epochs); n > 0 && r.epochs[n-1].offset >= end; n-- {
		r.epochs = r.epochs[:n-1]
	}
}

func (r *replica) measureSegment() {
	r.segment = 0
	for _, b := range r.batches[r.at(r.segments[len(r.segments)-1]):] {
		r.segment += b.Size
	}
}

// advanceStart is what DeleteRecords and retention do. The producers stay.
func (r *replica) advanceStart(to int64) {
	if to <= r.start {
		return
	}
	if r.leads() {
		for _, b := range r.batches[:r.at(to)] {
			b.deleted = true
		}
	}
	r.start = to
	for len(r.epochs) > 1 && r.epochs[1].offset <= to {
		r.epochs = r.epochs[1:]
	}
	if len(r.epochs) > 0 {
		r.epochs[0].offset = max(r.epochs[0].offset, to)
	}
	r.lastSnapshot = to
	if n := len(r.snapshots); n > 0 {
		r.lastSnapshot = r.snapshots[n-1].offset
	}
}

// deleteSegments removes the segments that lie before the log's start, and their
// snapshots.
func (r *replica) deleteSegments() {
	n := 0
	for n+1 < len(r.segments) && r.segments[n+1] <= r.start {
		n++
	}
	if n == 0 {
		return
	}
	gone := r.segments[:n]
	r.snapshots = slices.DeleteFunc(r.snapshots, func(s snapshot) bool { return slices.Contains(gone, s.offset) })
	r.segments = r.segments[n:]
	r.batches = r.batches[r.at(r.segments[0]):]
}

// save writes the checkpoint files of start and high watermark.
func (r *replica) save() { r.savedStart, r.savedHW = r.start, r.hw }

// crash takes what is in memory only: producers, and start and high watermark
// since they were saved. A loss of power takes what was not flushed as well.
func (r *replica) crash(loss Loss) {
	r.producers = nil
	r.start = min(r.start, max(r.savedStart, r.segments[0]))
	r.hw = max(min(r.hw, r.savedHW), r.start)
	if loss == LoseUnflushed && r.flushed < r.end {
		r.batches = r.batches[:r.at(r.flushed)]
		r.end = r.flushed
		if n := len(r.batches); n > 0 {
			r.end = r.batches[n-1].end()
		}
		r.start, r.hw = min(r.start, r.end), min(r.hw, r.end)
		r.segments = slices.DeleteFunc(r.segments, func(base int64) bool { return base > r.end })
		r.measureSegment()
		r.cutEpochs(r.end)
		r.snapshots = slices.DeleteFunc(r.snapshots, func(s snapshot) bool { return s.offset > r.end })
	}
}

// lead makes the replica its partition's leader under a new epoch.
func (r *replica) lead(s partitionState, wasLeader bool, now time.Duration) {
	r.state = s
	r.epochStart = r.end
	r.beginEpoch(s.leaderEpoch, r.end)
	before := r.followers
	r.followers = nil
	for _, id := range s.replicas {
		if id == r.broker.id {
			continue
		}
		f := follower{id: id, end: -1, caughtUp: -1 << 62}
		if s.isr.has(id) {
			f.caughtUp = now
		}
		if i := slices.IndexFunc(before, func(o follower) bool { return o.id == id }); wasLeader && i >= 0 {
			f.end = before[i].end
		}
		r.followers = append(r.followers, f)
	}
	r.advanceHW()
}

// assign takes over another assignment or set of in-sync replicas.
func (r *replica) assign(s partitionState) {
	r.state = s
	r.followers = slices.DeleteFunc(r.followers, func(f follower) bool { return !slices.Contains(s.replicas, f.id) })
	for _, id := range s.replicas {
		if id != r.broker.id && r.follower(id) == nil {
			r.followers = append(r.followers, follower{id: id, end: -1, caughtUp: -1 << 62})
		}
	}
	r.advanceHW()
}

func (r *replica) follower(id int32) *follower {
	for i := range r.followers {
		if r.followers[i].id == id {
			return &r.followers[i]
		}
	}
	return nil
}

// minInSync is min.insync.replicas, or the replication factor if that is less.
func (r *replica) minInSync() int { return min(r.topic.config.MinInSync, len(r.state.replicas)) }

func (r *replica) underMin() bool { return r.state.isr.size() < r.minInSync() }

// caught says whether a follower counts as caught up.
func (r *replica) caught(f *follower, now time.Duration) bool {
	return f.end == r.end || now-f.caughtUp <= r.broker.cluster.cfg.ReplicaLagMax
}

// advanceHW raises a leader's high watermark to what all replicas in sync have.
// Below min.insync.replicas it stays (KIP-966, in all versions modelled). A
// replica about to join the replicas in sync is waited for.
func (r *replica) advanceHW() {
	if r.underMin() {
		return
	}
	now, hw := r.broker.cluster.now, r.end
	for i := range r.followers {
		f := &r.followers[i]
		if f.end < hw && (r.state.isr.has(f.id) || (r.caught(f, now) && r.broker.view.alive.has(f.id))) {
			hw = f.end
		}
	}
	if hw > r.hw {
		for i := len(r.batches) - 1; i >= 0 && r.batches[i].end() > r.hw; i-- {
			if r.batches[i].end() <= hw {
				r.batches[i].committed = true
			}
		}
		r.hw = hw
		r.broker.cluster.dirty = true
	}
}
