package simulation

import "testing"

// afterLoss is a history of one partition after an unclean election. Leader 3 had a, b
// and c, all read by consumers and all lost; leader 4 had nothing of it, and took d
// as the producer's first.
func afterLoss() *History {
	h := &History{Numbered: true}
	for i, value := range []string{"a", "b", "c", "d"} {
		h.Writes = append(h.Writes, Write{ID: uint64(i) + 1, Value: value, Topic: "t", AnswerFor: "t", Asked: 0, Order: i + 1, Answers: 1, Outcome: OK, Offset: int64(i)})
		h.Attempts = append(h.Attempts, Attempt{Topic: "t", Entry: entry(value, int32(i))})
	}
	h.Writes[3].Offset = 0
	h.Logs = []Log{
		{Topic: "t", Visible: 1, Entries: []Entry{first(nth(at(entry("d", 3), 0, 4), 3))}},
		{Topic: "t", Lost: true, Committed: true, Entries: []Entry{at(entry("a", 0), 0, 3), nth(at(entry("b", 1), 1, 3), 1), nth(at(entry("c", 2), 2, 3), 2)}},
	}
	return h
}

// nth makes an entry one of the nth batch of its partition.
func nth(e Entry, n int) Entry {
	e.Nth = n
	return e
}

// behind lets leader 4 take another record, under the next epoch of the producer.
func behind(h *History, value string, sequence int32) {
	e := at(entry(value, sequence), h.Logs[0].Visible, 4)
	e.Epoch = 2
	h.Logs[0].Entries = append(h.Logs[0].Entries, e)
	h.Logs[0].Visible++
}

// refusedBefore is what becomes of b, c and d, on their way together, when their
// leader refuses b and c, is deposed and reinstated with a log that has lost a, and
// takes d.
func refusedBefore(h *History) {
	h.Logs[1].Entries = h.Logs[1].Entries[:1]
	h.Writes[3].Outcome, h.Writes[3].Error, h.Writes[3].Offset = Unknown, "in doubt", -1
	h.Attempts[1].Refused, h.Attempts[2].Refused = true, true
	behind(h, "b", 0)
	behind(h, "c", 1)
}

// takenAgain is what becomes of a and b, of one Send, and of c behind them, when all
// three are deleted and a broker that has forgotten b takes it again.
func takenAgain(h *History) {
	b := first(at(entry("b", 1), 3, 4))
	b.Start, b.Nth = 3, 3
	h.Logs = []Log{{Topic: "t", Start: 3, Visible: 4, Entries: []Entry{at(entry("a", 0), 0, 3), nth(at(entry("b", 1), 1, 3), 1), nth(at(entry("c", 2), 2, 3), 2), b}}}
	h.Writes, h.Attempts = h.Writes[:3], h.Attempts[:3]
	h.Writes[1].Offset = 3
	h.Together = []Together{{[]uint64{1, 2}}}
}

// takenTogetherAgain is what becomes of a and b, of one batch, and of c, which is of one
// Send with b, when a and b are deleted and a broker that has forgotten both takes the
// batch again.
func takenTogetherAgain(h *History) {
	again := func(value string, sequence int32, offset int64) Entry {
		e := first(nth(at(entry(value, sequence), offset, 4), 2))
		e.Start = 2
		return e
	}
	h.Logs = []Log{{Topic: "t", Start: 2, Visible: 5, Entries: []Entry{
		at(entry("a", 0), 0, 3), at(entry("b", 1), 1, 3), again("a", 0, 2), again("b", 1, 3), nth(at(entry("c", 2), 4, 4), 3),
	}}}
	h.Writes, h.Attempts = h.Writes[:3], h.Attempts[:3]
	for i := range h.Writes {
		h.Writes[i].Offset = int64(2 + i)
	}
	h.Together = []Together{{[]uint64{2, 3}}}
}

// believedAgain is what becomes of c and d when a and b are in the topic's newer
// creation, and only a broker that has not heard of it answers: they go to the older
// one, in the order of values.
func believedAgain(h *History, late bool, values ...string) {
	older := Log{Topic: "t", Visible: int64(len(values))}
	for i, value := range values {
		e := at(entry(value, int32(i)), int64(i), 1)
		e.Epoch, e.Nth, e.Late = 2, i, late
		older.Entries = append(older.Entries, e)
	}
	h.Logs = []Log{older, {Topic: "t", Life: 1, Visible: 2, Entries: []Entry{at(entry("a", 0), 0, 3), nth(at(entry("b", 1), 1, 3), 1)}}}
	h.Attempts[0].Life, h.Attempts[1].Life = 1, 1
	for i := range values {
		w := &h.Writes[2+i]
		w.Outcome, w.Error, w.Offset = Unknown, "in doubt", -1
		h.Attempts[2+i] = Attempt{Topic: "t", Entry: older.Entries[i]}
	}
}

// arrivesLate is what becomes of b when it fails in doubt and arrives only after c, which
// has no number, and in front of d.
func arrivesLate(h *History) {
	c := at(entry("c", -1), 1, 3)
	c.ProducerID, c.Epoch = -1, -1
	d := nth(at(entry("d", 0), 3, 3), 3)
	d.Epoch = 2
	h.Logs = []Log{{Topic: "t", Visible: 4, Entries: []Entry{at(entry("a", 0), 0, 3), nth(c, 1), nth(at(entry("b", 1), 2, 3), 2), d}}}
	h.Writes[1].Outcome, h.Writes[1].Error, h.Writes[1].Offset = Unknown, "in doubt", -1
	h.Writes[2].Weak, h.Writes[2].Unnumbered, h.Writes[2].Offset = true, true, 1
	h.Writes[3].Offset = 3
	h.Attempts[2].Entry, h.Attempts[3].Entry = c, d
}

// TestExcuses is what the cluster is to blame for, each with its neighbours that it
// is not to blame for.
func TestExcuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *History)
		want   []Class
	}{
		{"three acknowledged records are lost, and their sequences", func(*History) {}, nil},

		// Acknowledged, and gone.
		{"one was not lost where it was acknowledged", func(h *History) { h.Logs[1].Entries[1].Offset = 7 }, []Class{LostWrite}},
		{"nobody was told where it was", func(h *History) { h.Writes[1].Offset = -1 }, nil},
		{"it is lost there, and was sent again", func(h *History) { behind(h, "b", 0) }, []Class{NonmonotonicSend}},
		{"the last is lost there, and was sent again", func(h *History) {
			behind(h, "d", 0)
			h.Logs[0].Entries, h.Logs[0].Visible = h.Logs[0].Entries[1:], 1
			h.Logs[1].Entries = append(h.Logs[1].Entries, at(entry("d", 3), 3, 3))
			h.Writes[3].Offset = 3
		}, nil},
		{"it was acknowledged at neither place", func(h *History) {
			behind(h, "d", 0)
			h.Logs[0].Entries, h.Logs[0].Visible = h.Logs[0].Entries[1:], 1
			h.Logs[1].Entries = append(h.Logs[1].Entries, at(entry("d", 3), 3, 3))
			h.Writes[3].Offset = 5
		}, []Class{InconsistentOffsets}},

		// Sequences.
		{"the broker knew the producer", func(h *History) { h.Logs[0].Entries[0].First = false }, []Class{SequenceGap}},
		{"they came later", func(h *History) {
			for i := range h.Logs[1].Entries {
				h.Logs[1].Entries[i].Nth = 4
			}
		}, []Class{SequenceGap}},
		{"under a newer leader, but before", func(h *History) {
			for i := range h.Logs[1].Entries {
				h.Logs[1].Entries[i].LeaderEpoch = 5
			}
		}, nil},
		{"they are lost in another partition", func(h *History) {
			h.Logs[1].Partition = 1
			for i := range h.Writes[:3] {
				h.Writes[i].Asked, h.Writes[i].Partition = 1, 1
			}
		}, []Class{SequenceGap}},
		{"they are lost in another life", func(h *History) { h.Logs[1].Life, h.Logs[0].Life = 0, 1 }, []Class{SequenceGap}},
		{"they are of another epoch", func(h *History) {
			for i := range h.Logs[1].Entries {
				h.Logs[1].Entries[i].Epoch = 0
			}
		}, []Class{SequenceGap}},
		{"one of them never came into a log", func(h *History) {
			fail(&h.Writes[2])
			h.Logs[1].Entries = h.Logs[1].Entries[:2]
		}, nil},
		{"it is acknowledged under another number", func(h *History) {
			h.Logs[1].Entries = h.Logs[1].Entries[:2]
			behind(h, "c", 0)
			h.Writes[2].Offset, h.Writes[2].Line = 1, 1
		}, []Class{SequenceGap}},
		{"it was lost on its way", func(h *History) {
			fail(&h.Writes[2])
			h.Logs[1].Entries, h.Attempts = h.Logs[1].Entries[:2], h.Attempts[:2]
		}, nil},
		{"it was lost on its way, and no record failed that it may have named", func(h *History) {
			h.Writes[2].Partition, h.Writes[2].Asked, h.Writes[2].Outcome, h.Writes[2].Error = 1, 1, Fail, "refused"
			h.Logs[1].Entries, h.Attempts = h.Logs[1].Entries[:2], h.Attempts[:2]
		}, []Class{SequenceGap}},
		{"the first that a broker was sent of an epoch is not 0", func(h *History) {
			h.Attempts = h.Attempts[1:]
		}, []Class{SequenceGap}},
		{"none of them ever came into a log", func(h *History) {
			for i := range h.Writes[:3] {
				fail(&h.Writes[i])
			}
			h.Logs = h.Logs[:1]
		}, []Class{SequenceGap}},
		{"the first was deleted with its producer, the others failed", func(h *History) {
			fail(&h.Writes[1])
			fail(&h.Writes[2])
			d := first(at(entry("d", 3), 1, 4))
			d.Start = 1
			h.Logs = []Log{{Topic: "t", Visible: 2, Entries: []Entry{at(entry("a", 0), 0, 3), d}}}
			h.Writes[3].Offset = 1
		}, nil},
		{"the first was not deleted", func(h *History) {
			fail(&h.Writes[1])
			fail(&h.Writes[2])
			h.Logs = []Log{{Topic: "t", Visible: 2, Entries: []Entry{at(entry("a", 0), 0, 3), first(at(entry("d", 3), 1, 4))}}}
			h.Writes[3].Offset = 1
		}, []Class{SequenceGap}},
		{"a replica has dropped what it was cut in the middle of", func(h *History) {
			gone := Entry{Gone: true, ProducerID: -1}
			h.Logs[0].Entries = []Entry{at(entry("a", 0), 0, 3), gone, gone, nth(at(entry("d", 3), 3, 3), 3)}
			h.Logs[1].Entries = h.Logs[1].Entries[1:]
			h.Writes[3].Offset, h.Logs[0].Visible = 3, 4
		}, nil},
		{"what it has dropped stood elsewhere", func(h *History) {
			gone := Entry{Gone: true, ProducerID: -1}
			h.Logs[0].Entries = []Entry{at(entry("a", 0), 0, 3), gone, gone, nth(at(entry("d", 3), 3, 3), 3)}
			h.Logs[1].Entries = h.Logs[1].Entries[1:]
			h.Logs[1].Entries[1].Offset, h.Writes[2].Offset = 7, 7
			h.Logs[1].Entries[1].LeaderEpoch = 2
			h.Writes[3].Offset, h.Logs[0].Visible = 3, 4
		}, []Class{SequenceGap}},

		{"they were deleted before, and the replica that is left had others there", func(h *History) {
			d := at(entry("d", 3), 3, 4)
			d.Start, d.Nth = 3, 3
			x := at(entry("x", 0), 0, 2)
			x.ProducerID = 6
			h.Writes = append(h.Writes, Write{ID: 5, Value: "x", Topic: "t", Asked: 0, AnswerFor: "t", Order: 5, Line: 1, Answers: 1, Outcome: OK})
			y, z := x, x
			y.Value, y.Sequence, z.Value, z.Sequence = []byte("y"), 1, []byte("z"), 2
			h.Writes = append(h.Writes, Write{ID: 6, Value: "y", Topic: "t"}, Write{ID: 7, Value: "z", Topic: "t"})
			h.Logs[0].Entries, h.Logs[0].Visible, h.Writes[3].Offset = []Entry{x, y, z, d}, 4, 3
		}, nil},

		// In doubt, and then there after all.
		{"it comes behind one without a number", arrivesLate, nil},
		{"it was acknowledged there", func(h *History) {
			arrivesLate(h)
			h.Writes[1].Outcome, h.Writes[1].Error, h.Writes[1].Offset = OK, "", 2
		}, []Class{NonmonotonicSend}},
		{"it comes behind one with a number", func(h *History) {
			arrivesLate(h)
			e := h.Logs[0].Entries
			e[2], e[3] = at(e[3], 2, 3), at(e[2], 3, 3)
			h.Writes[3].Offset = 2
		}, []Class{NonmonotonicSend}},
		{"it comes before one that was admitted earlier", func(h *History) {
			arrivesLate(h)
			h.Writes[1].Order, h.Writes[2].Order, h.Writes[3].Order = 4, 2, 3
		}, []Class{NonmonotonicSend}},

		// The records of one Send.
		{"one of a Send was deleted, and its broker took it again", func(h *History) { takenAgain(h) }, nil},
		{"what stood between them had been deleted, too", func(h *History) {
			takenAgain(h)
			l := &h.Logs[0]
			l.Entries[1], l.Entries[2] = at(entry("c", 1), 1, 3), at(entry("b", 2), 2, 3)
			h.Writes[1].Order, h.Writes[2].Order, h.Writes[2].Offset = 3, 2, 1
			h.Attempts = nil
		}, []Class{NonmonotonicSend}},

		{"what stood before one of a Send was deleted and taken again with it", takenTogetherAgain, nil},
		{"it was not taken before", func(h *History) {
			takenTogetherAgain(h)
			l := &h.Logs[0]
			l.Entries[0] = at(entry("x", 0), 0, 3)
			l.Entries[0].ProducerID = 6
			h.Writes = append(h.Writes, Write{ID: 5, Value: "x", Topic: "t", Asked: 0, AnswerFor: "t", Order: 5, Line: 1, Answers: 1, Outcome: OK})
			h.Writes[0].Order, h.Writes[1].Order, h.Writes[2].Order = 2, 1, 3
			h.Writes[0].Line = 2
		}, []Class{NonmonotonicSend, SequenceGap}},

		// Order.
		{"a leader that has not heard of the deletion takes what comes later", func(h *History) { believedAgain(h, true, "c", "d") }, nil},
		{"in the wrong order", func(h *History) { believedAgain(h, true, "d", "c") }, []Class{NonmonotonicSend}},
		{"and what comes before, which it had when the topic was deleted", func(h *History) {
			believedAgain(h, true, "d", "c")
			h.Logs[0].Entries[0].Late = false
		}, []Class{NonmonotonicSend}},
		{"it was not deleted yet", func(h *History) { believedAgain(h, false, "c", "d") }, []Class{NonmonotonicSend}},
		{"a record that failed in doubt stands behind the next", func(h *History) {
			behind(h, "c", 0)
			fail(&h.Writes[2])
			h.Writes[2].Outcome = Unknown
		}, []Class{NonmonotonicSend}},
		{"so does an unnumbered one", func(h *History) {
			behind(h, "c", 0)
			fail(&h.Writes[2])
			h.Writes[2].Outcome, h.Writes[2].Weak, h.Writes[2].Unnumbered = Unknown, true, true
			for i := range h.Logs[0].Entries {
				if string(h.Logs[0].Entries[i].Value) == "c" {
					h.Logs[0].Entries[i].ProducerID = -1
				}
			}
		}, nil},
		{"two were refused and numbered anew behind one in doubt, which a broker took that had forgotten", refusedBefore, nil},
		{"the one behind them was not in doubt", func(h *History) {
			refusedBefore(h)
			h.Writes[3].Outcome, h.Writes[3].Error = OK, ""
		}, []Class{NonmonotonicSend, SequenceGap}},
		{"the broker had not forgotten", func(h *History) {
			refusedBefore(h)
			h.Logs[0].Entries[0].First = false
		}, []Class{NonmonotonicSend, SequenceGap}},
		{"one of the two was not refused", func(h *History) {
			refusedBefore(h)
			h.Attempts[1].Refused = false
		}, []Class{SequenceGap}},
		{"one whose first copy is lost stands behind what was lost behind it", func(h *History) {
			fail(&h.Writes[3])
			h.Writes[3].Outcome = Unknown
			h.Logs[0].Entries[0] = first(at(entry("a", 0), 0, 4))
			h.Writes[0].Offset = 0
		}, nil},
		{"those that are left are in another order", func(h *History) {
			h.Writes[2].Offset = 1
			behind(h, "c", 0)
		}, []Class{NonmonotonicSend}},
		{"those that are lost were in another order", func(h *History) {
			h.Logs[1].Entries[0].Offset, h.Logs[1].Entries[1].Offset = 1, 0
			h.Writes[0].Offset, h.Writes[1].Offset = 1, 0
		}, []Class{NonmonotonicSend}},
		{"but under two leaders", func(h *History) {
			h.Logs[1].Entries[0].Offset, h.Logs[1].Entries[1].Offset = 1, 0
			h.Logs[1].Entries[1].LeaderEpoch = 2
			h.Writes[0].Offset, h.Writes[1].Offset = 1, 0
		}, nil},
		{"with acks=1, what stands out of order may be another try", func(h *History) {
			behind(h, "b", 0)
			h.Numbered, h.Weak = false, true
		}, nil},
		{"with acks=1, it is what was acknowledged", func(h *History) {
			behind(h, "b", 0)
			h.Numbered, h.Weak = false, true
			h.Logs[1].Entries[1].Offset = 4
		}, []Class{NonmonotonicSend}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := afterLoss()
			c.change(h)
			wants(t, h, c.want)
		})
	}
}
