package chaos

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// fault is one fault that was done. Times count from the start of the campaign.
type fault struct {
	Kind     kind
	Broker   int `json:",omitempty"` // the one harmed; 0 for several
	From, To time.Duration
	Affected []place // partitions that its broker led, or that it moved
	Hits     int     // requests, responses or connections struck; 1 for a broker
	Err      string  `json:",omitempty"` // the cluster refused: not a fault then
}

// acknowledgements are the times of those of each partition, in order.
type acknowledgements map[place][]time.Duration

func (h *history) acknowledgements() acknowledgements {
	all := acknowledgements{}
	for l := range h.Lines {
		for n := range h.Lines[l].Records {
			if r := &h.Lines[l].Records[n]; r.Status == persisted {
				in := place{r.Topic, r.Partition}
				all[in] = append(all[in], r.Answered)
			}
		}
	}
	for _, times := range all {
		slices.Sort(times)
	}
	return all
}

// after is the first acknowledgement at or after t.
func (a acknowledgements) after(in place, t time.Duration) (time.Duration, bool) {
	times := a[in]
	i, _ := slices.BinarySearch(times, t)
	if i == len(times) {
		return 0, false
	}
	return times[i], true
}

// measured are the figures of one kind.
type measured struct {
	Done, Hits int
	Recovered  []time.Duration // from the end of a fault to the next acknowledgement, per affected partition; sorted
	Stall      time.Duration   // the longest gap of an affected partition that touches the fault
	Missed     int             // faults that struck nothing, or that the cluster refused
}

// recoveries measures each kind, and returns the partitions that were not
// acknowledged again before the load ended.
func recoveries(faults []fault, a acknowledgements) (map[kind]*measured, []violation) {
	found := map[kind]*measured{}
	var missing []violation
	for _, f := range faults {
		m := found[f.Kind]
		if m == nil {
			m = &measured{}
			found[f.Kind] = m
		}
		if f.Err != "" || f.Hits == 0 {
			m.Missed++
		} else {
			m.Done++
		}
		m.Hits += f.Hits
		for _, in := range f.Affected {
			next, again := a.after(in, f.To)
			if !again {
				missing = append(missing, violation{unrecovered, "no acknowledgement on partition " + in.String() + " after: " + string(f.Kind)})
				continue
			}
			m.Recovered = append(m.Recovered, next-f.To)
			m.Stall = max(m.Stall, a.gapAround(in, f.From, f.To))
		}
	}
	for _, m := range found {
		slices.Sort(m.Recovered)
	}
	return found, missing
}

// gapAround is the longest time between two acknowledgements that has a part in
// common with a fault.
func (a acknowledgements) gapAround(in place, from, to time.Duration) time.Duration {
	times := a[in]
	first, _ := slices.BinarySearch(times, from)
	longest := time.Duration(0)
	for i := max(first, 1); i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
		if times[i] > to {
			break
		}
	}
	return longest
}

// gap is the longest time without an acknowledgement on one partition.
type gap struct {
	In   place
	From time.Duration
	Long time.Duration
}

// gaps returns the longest gap of each partition, the worst first, and the
// longest of the whole cluster.
func (a acknowledgements) gaps() (each []gap, overall gap) {
	var all []time.Duration
	for _, in := range slices.SortedFunc(maps.Keys(a), place.compare) {
		all = append(all, a[in]...)
		from, long := longestGap(a[in])
		each = append(each, gap{in, from, long})
	}
	slices.SortStableFunc(each, func(a, b gap) int { return cmp.Compare(b.Long, a.Long) })
	slices.Sort(all)
	overall.From, overall.Long = longestGap(all)
	return each, overall
}

func longestGap(times []time.Duration) (from, long time.Duration) {
	for i := 1; i < len(times); i++ {
		if d := times[i] - times[i-1]; d > long {
			from, long = times[i-1], d
		}
	}
	return from, long
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}

// middle is the median of sorted times.
func middle(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[len(times)/2]
}
