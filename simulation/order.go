package simulation

// lane is what has one order: the records of one line in one partition.
type lane struct {
	topic     string
	partition int32
	line      int
	late      bool // of them, what was appended to the topic after it had been deleted
}

// logPlace is where a record stands, or stood before it was cut off.
type logPlace struct {
	life   int
	leader int32 // the epoch of the leader that appended it
	offset int64
	lost   bool
}

func (a logPlace) before(b logPlace) bool {
	return a.life < b.life || a.life == b.life && a.offset < b.offset
}

// last is the record of a lane that was judged before.
type last struct {
	logPlace
	id uint64
}

// tail is where the records of a lane end so far.
type tail struct {
	last
	known bool
	// doubt is a numbered record that failed in doubt. Only what is numbered has to stand
	// behind it: its last attempt may arrive after it failed, and brokers refuse it then
	// for the number of what they have by then, if that has one.
	doubt   last
	doubted bool
}

// end is what the next record has to stand behind.
func (t *tail) end(numbered bool) (last, bool) {
	if numbered && t.doubted && (!t.known || t.last.before(t.doubt.logPlace)) {
		return t.doubt, true
	}
	return t.last, t.known
}

// add takes in where a record stands.
func (t *tail) add(at last, numbered, inDoubt bool) {
	if numbered && inDoubt {
		t.doubt, t.doubted = at, true
		return
	}
	t.last, t.known = at, true
	t.doubted = t.doubted && !numbered
}

// order judges whether the records of a line stand in the order of their admission:
// in the log that is left, and in what each leader had appended.
//
// An unclean election takes records away, and a record that is sent again may then
// stand behind where it stood before. Neither changes the order of what is left:
// the new leader goes on with its own log, a client has one batch on its way to it
// until it knows what became of that, and a broker takes no sequence that lies
// before one that it has. What stands under an older leader, and is lost, is not
// compared with what a newer one has: two may take records at the same time, and
// which of them a client believes in depends on whom it asked last.
//
// What a leader appends that has not heard that its topic was deleted has an order
// of its own, too: a client that such brokers alone answer comes to believe in the
// older creation again, and sends there what it admitted after it had sent to the
// newer.
func (c *check) order() {
	type led struct {
		lane
		life   int
		leader int32
	}
	kept := c.scratch.kept
	var cut map[led]last
	if c.lost {
		cut = make(map[led]last)
	}
	places := c.room
	defer func() { c.room = places[:0] }()
	for _, i := range c.byOrder() {
		w := &c.Writes[i]
		if w.Answers == 0 || w.Silent {
			continue
		}
		at := lane{w.Topic, w.Partition, w.Line, false}
		numbered := c.Numbered && !w.Unnumbered && !w.Weak
		for _, late := range [...]bool{false, true} {
			if places = c.keptPlaces(places[:0], i, late); len(places) > 0 {
				of, other := at, at
				of.late, other.late = late, !late
				mine, others := kept[of], kept[other]
				before, ok := mine.end(numbered)
				if b, both := others.end(numbered); both && b.life == places[0].life && (!ok || before.before(b.logPlace)) {
					before, ok = b, true // in the same creation there is one order
				}
				mine.add(c.follows(before, ok, places, w), numbered, w.Outcome == Unknown)
				kept[of] = mine
			}
		}
		if cut == nil || w.Outcome != OK || w.Offset < 0 {
			continue
		}
		if places = c.toldPlaces(places[:0], i); len(places) != 1 {
			continue // under two leaders at the same offset: either may be what was acknowledged
		}
		of := led{at, places[0].life, places[0].leader}
		before, ok := cut[of]
		if ok && !before.lost && !places[0].lost {
			cut[of] = last{places[0], w.ID} // both are left, and judged above
			continue
		}
		cut[of] = c.follows(before, ok, places, w)
	}
}

// keptPlaces is where a record may stand, for its order, in the log that is left.
// Of a numbered record that is wherever it stands, whether it was acknowledged
// there or not; twice is the place of the first, where it was in order before it
// was deleted and its broker forgot it. An unnumbered one may stand more than once
// and out of order where it was not acknowledged: its place is at the offset that
// was told, if nothing that was cut off stood at the same. One that failed in doubt
// has no place if a broker took it that had forgotten the producer since it refused
// what was on its way before it. Only places are meant that were taken late, or only
// others.
func (c *check) keptPlaces(places []logPlace, i int, late bool) []logPlace {
	w := &c.Writes[i]
	numbered := c.Numbered && !w.Unnumbered && !w.Weak
	if w.Outcome != OK && !(numbered && w.Outcome == Unknown) {
		return places
	}
	for _, s := range c.found[i] {
		at := c.placeOf(s)
		l := &c.Logs[s.log]
		switch {
		case l.Topic != w.Topic || l.Partition != w.Partition || l.Entries[s.offset].Late != late:
		case !l.Lost && w.Outcome == Unknown && l.tookAny(int(s.offset)):
		case !l.Lost && (numbered || w.Offset < 0 || w.Offset == at.offset):
			places = append(places, at)
		case l.Lost && !numbered && (w.Offset < 0 || w.Offset == at.offset):
			return places[:0]
		}
	}
	return places
}

// tookAny reports whether the entry at an index, or one that it follows without a
// gap, was taken by a broker that knew nothing of the producer, with a sequence that
// is not the first.
func (l *Log) tookAny(at int) bool {
	e := &l.Entries[at]
	for ; at >= 0; at-- {
		b := &l.Entries[at]
		if b.Gone || b.ProducerID != e.ProducerID || b.Epoch != e.Epoch || b.Sequence > e.Sequence {
			continue
		}
		if b.First {
			return b.Sequence > 0
		}
	}
	return false
}

// toldPlaces is where a record stands, or stood, at the offset of its
// acknowledgement.
func (c *check) toldPlaces(places []logPlace, i int) []logPlace {
	w := &c.Writes[i]
	for _, s := range c.found[i] {
		if l := &c.Logs[s.log]; l.Topic == w.Topic && l.Partition == w.Partition {
			if at := c.placeOf(s); at.offset == w.Offset {
				places = append(places, at)
			}
		}
	}
	return places
}

func (c *check) placeOf(s standing) logPlace {
	l := &c.Logs[s.log]
	e := &l.Entries[s.offset]
	if l.Lost {
		return logPlace{l.Life, e.LeaderEpoch, e.Offset, true}
	}
	return logPlace{l.Life, e.LeaderEpoch, s.offset, false}
}

// follows judges that a record stands behind the last of its lane, in one of the
// places where it may be, and returns the first of these.
func (c *check) follows(before last, known bool, places []logPlace, w *Write) last {
	least, next := places[0], logPlace{life: -1}
	for _, s := range places {
		if s.before(least) {
			least = s
		}
		if known && before.before(s) && (next.life < 0 || s.before(next)) {
			next = s
		}
	}
	switch {
	case !known:
		next = least
	case next.life < 0:
		c.add(NonmonotonicSend, "record %d, admitted after %d, stands before it in partition %s/%d (%d, %d)", w.ID, before.id, w.Topic, w.Partition, least.offset, before.offset)
		next = least
	}
	return last{next, w.ID}
}

// byOrder is the index of every admitted write, by order of admission.
func (c *check) byOrder() []int {
	most := 0
	for i := range c.Writes {
		most = max(most, c.Writes[i].Order)
	}
	slots := append(c.slots[:0], make([]int, most+1)...)
	c.slots = slots
	for i := range c.Writes {
		if o := c.Writes[i].Order; o > 0 {
			slots[o] = i + 1
		}
	}
	ordered := slots[:0]
	for _, i := range slots {
		if i > 0 {
			ordered = append(ordered, i-1)
		}
	}
	return ordered
}
