package router

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/troupe-kafka/troupe/messages"
)

// existing is the partitions below n, without some.
func existing(n int, without ...int) []bool {
	list := make([]bool, n)
	for i := range list {
		list[i] = true
	}
	for _, i := range without {
		list[i] = false
	}
	return list
}

// draw shows a shape as one letter for each number: l(isted), m(issing) or a dot.
func (s *shape) draw() string {
	text := ""
	for i := range s.infos {
		switch {
		case s.listed[i]:
			text += "l"
		case s.missing[i]:
			text += "m"
		default:
			text += "."
		}
	}
	return text
}

func TestShapeOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		old     []bool
		answers []int32 // the brokers that answered, the same each time
		ids     []int32
		brokers int
		want    string // the last shape, and what went with it
		gone    []int32
	}{
		{"a new topic", nil, []int32{1}, []int32{0, 1, 2}, 3, "lll", nil},
		{"partitions are added", existing(2), []int32{1}, []int32{0, 1, 2, 3}, 3, "llll", nil},
		{"numbers that are not used", nil, []int32{1}, []int32{1, 4}, 3, ".l..l", nil},
		{"numbers that were not used", existing(3, 1), []int32{1}, []int32{0, 2}, 3, "l.l", nil},
		{"one is missing once", existing(3), []int32{1}, []int32{0, 2}, 3, "lml", nil},
		{"twice, by the same broker", existing(3), []int32{1, 1, 1}, []int32{0, 2}, 3, "lml", nil},
		{"twice, by two brokers", existing(3), []int32{1, 2}, []int32{0, 2}, 3, "l.l", []int32{1}},
		{"twice, by the only broker", existing(3), []int32{1, 1}, []int32{0, 2}, 1, "l.l", []int32{1}},
		{"the last ones, once", existing(4), []int32{1}, []int32{0, 1}, 3, "llmm", nil},
		{"the last ones, twice", existing(4), []int32{1, 2}, []int32{0, 1}, 3, "ll", []int32{2, 3}},
		{"all but a new one", existing(2), []int32{1, 2}, []int32{3}, 3, "...l", []int32{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := make(absences)
			var s shape
			for _, by := range c.answers {
				info := topicOf("t", c.ids...)
				var err error
				if s, err = a.shapeOf(answer{&info, by, c.brokers}, c.old, 100); err != nil {
					t.Fatal(err)
				}
			}
			if s.draw() != c.want || fmt.Sprint(s.gone) != fmt.Sprint(c.gone) {
				t.Errorf("%s, gone %v; expected %s, gone %v", s.draw(), s.gone, c.want, c.gone)
			}
			if c.gone != nil && len(a) != 0 {
				t.Errorf("what is gone is still counted: %v", a)
			}
		})
	}
}

// TestAbsenceEndsWhenThePartitionIsBack: two answers that lack it count only if
// none between them has it.
func TestAbsenceEndsWhenThePartitionIsBack(t *testing.T) {
	a := make(absences)
	full, lacking := topicOf("t", 0, 1), topicOf("t", 0)
	for by, info := range []*messages.TopicInfo{&lacking, &full, &lacking, &full, &lacking} {
		if s, _ := a.shapeOf(answer{info, int32(by), 5}, existing(2), 100); len(s.gone) != 0 {
			t.Fatalf("answer %d: %v are gone", by, s.gone)
		}
	}
}

// TestImpossibleNumbers: tables are as long as the highest number, so one beyond
// the limit is not believed.
func TestImpossibleNumbers(t *testing.T) {
	for id, fits := range map[int32]bool{0: true, 99: true, 100: false, math.MaxInt32: false} {
		info := topicOf("t", 0, id)
		s, err := make(absences).shapeOf(answer{&info, 1, 3}, nil, 100)
		if fits != (err == nil) || fits == errors.Is(err, messages.ErrTooManyPartitions) {
			t.Errorf("partition %d: %v", id, err)
		}
		if !fits && len(s.infos) != 0 {
			t.Errorf("partition %d has a table of %d", id, len(s.infos))
		}
	}
}

// TestRandomAnswers: whatever comes, listed partitions exist, nothing vanishes
// after one answer, and what is gone does not exist.
func TestRandomAnswers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		a := make(absences)
		var old []bool
		lacked := make(map[int]int)
		for range 20 {
			var ids []int32
			for id := range int32(8) {
				if random.IntN(4) > 0 {
					ids = append(ids, id)
				}
			}
			if ids == nil {
				continue
			}
			info := topicOf("t", ids...)
			s, err := a.shapeOf(answer{&info, int32(random.IntN(3)), 3}, old, 8)
			if err != nil {
				t.Fatal(err)
			}
			exists := make([]bool, len(s.infos))
			for i := range exists {
				exists[i] = s.exists(i)
			}
			for _, id := range ids {
				if !exists[id] {
					t.Fatalf("partition %d is listed and does not exist", id)
				}
				lacked[int(id)] = 0
			}
			for i, existed := range old {
				if existed && (i >= len(s.listed) || !s.listed[i]) {
					lacked[i]++
					now := i < len(exists) && exists[i]
					if lacked[i] == 1 && !now {
						t.Fatalf("partition %d vanished at once", i)
					}
					if !now {
						lacked[i] = 0
					}
				}
			}
			for _, id := range s.gone {
				if !old[id] || (int(id) < len(exists) && exists[id]) {
					t.Fatalf("partition %d is gone, existed %v", id, old[id])
				}
			}
			if !exists[len(exists)-1] {
				t.Fatal("the table is longer than the last partition")
			}
			old = exists
		}
	}
}

// TestNoNewsMakesNoTable: an answer that says what is known costs nothing, and
// whatever is news in one is taken in.
func TestNoNewsMakesNoTable(t *testing.T) {
	w := newWorld(t)
	topic := w.topic("t")
	w.found(topicOf("t", 0, 1))
	answer := func(change func(*messages.TopicInfo)) *routes {
		info := topicOf("t", 0, 1)
		change(&info)
		w.found(info)
		return topic.routes.Load()
	}
	same := func(*messages.TopicInfo) {}
	before, refreshes := topic.routes.Load(), topic.refreshes
	if answer(same) != before || topic.refreshes != refreshes+1 {
		t.Errorf("a table is made of nothing new, or the answer is not counted: %d, then %d", refreshes, topic.refreshes)
	}
	for i, change := range []func(*messages.TopicInfo){
		func(i *messages.TopicInfo) { i.Partitions[1].Leader = 2 },
		func(i *messages.TopicInfo) { i.Partitions[1].LeaderEpoch = 7 },
		func(i *messages.TopicInfo) { i.Partitions[1].Replicas = []int32{1, 2} },
		func(i *messages.TopicInfo) { i.Partitions[1].ISR = []int32{1} },
		func(i *messages.TopicInfo) { i.Partitions = i.Partitions[:1] },
		func(i *messages.TopicInfo) { i.Partitions = append(i.Partitions, partOf(2, 2, 1)) },
	} {
		before := topic.routes.Load()
		if answer(change) == before {
			t.Errorf("change %d is no news", i)
		}
		if i < 5 {
			answer(same)
		}
	}
	whole := func(i *messages.TopicInfo) { i.Partitions = append(i.Partitions, partOf(2, 2, 1)) }
	before = answer(whole)
	system.Root.Send(w.keeper, &messages.Crashed{})
	if before == answer(whole) {
		t.Error("after a crash nobody knows who was told what")
	}
	before = answer(whole)
	w.brokers = maps.Clone(w.brokers)
	_, w.brokers[1] = newInbox("broker")
	if before == answer(whole) {
		t.Error("another incarnation of a broker is no news")
	}
}
