package troupe

import (
	"errors"
	"testing"
)

// TestSendRoomsAreClean: a call finds no outcome and no memory of the one before it.
func TestSendRoomsAreClean(t *testing.T) {
	r := &sendRoom{}
	records, indices, err := r.flatten([]TopicMessages{{"t", []Message{{Value: []byte("a")}, {Value: []byte("b")}}}})
	if err != nil || len(records) != 2 {
		t.Fatal(records, err)
	}
	c := &collector{outcomes: make([]outcome, 2)}
	for i := range records {
		c.rejected(&records[i], errors.New("refused"))
	}
	if _, err := c.results(records, indices, nil); err == nil {
		t.Fatal("nothing failed")
	}
	r.put(records, indices, c.outcomes)
	for i := range 2 {
		if r.outcomes[i] != (outcome{}) || r.records[i].Value != nil || r.records[i].Tag != 0 {
			t.Errorf("message %d: %+v, %+v", i, r.outcomes[i], r.records[i])
		}
	}
	again, indices, err := r.flatten([]TopicMessages{{"u", []Message{{Value: []byte("c")}}}})
	if err != nil || len(again) != 1 || len(indices) != 1 || again[0].Topic != "u" || again[0].Tag != 1 {
		t.Errorf("%+v, %v, %v", again, indices, err)
	}
}

// TestOutcomesAfterTheCall are nobody's: what it has returned stays as it was.
func TestOutcomesAfterTheCall(t *testing.T) {
	c := &collector{outcomes: make([]outcome, 3)}
	c.deliveredMany(Delivery{Partition: 1, Offset: 5, Status: Persisted, Tag: 1}, 2)
	c.end()
	c.deliveredMany(Delivery{Partition: 1, Offset: 7, Status: Persisted, Tag: 3}, 1)
	for i, want := range []int64{5, 6, 0} {
		if o := &c.outcomes[i]; o.offset != want || o.done != (i < 2) {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
}
