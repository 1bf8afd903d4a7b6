package seams

import (
	"slices"
	"testing"
)

// TestCrewIsBounded: never more than so many at a time, and all of them in the end.
func TestCrewIsBounded(t *testing.T) {
	const most, works = 3, 200
	if n := together(NewCrew(NewExecutor(), most), works, func() {}); n > most {
		t.Errorf("%d at a time", n)
	}
}

// handExecutor runs what it is given when the test says so.
type handExecutor struct{ todo []func() }

func (e *handExecutor) Run(fn func()) { e.todo = append(e.todo, fn) }

func (e *handExecutor) next() {
	fn := e.todo[0]
	e.todo = e.todo[1:]
	fn()
}

// TestCrewKeepsTheOrder: first come first served, each in a turn of its own, also
// behind one that panics.
func TestCrewKeepsTheOrder(t *testing.T) {
	e := &handExecutor{}
	c := NewCrew(e, 1)
	var ran []int
	for i := range 4 {
		c.Run(func() {
			ran = append(ran, i)
			if i == 1 {
				panic("a codec's bug")
			}
		})
	}
	for len(e.todo) > 0 {
		if len(e.todo) != 1 {
			t.Fatalf("%d turns at a time", len(e.todo))
		}
		func() {
			defer func() { _ = recover() }()
			e.next()
		}()
	}
	if !slices.Equal(ran, []int{0, 1, 2, 3}) || c.running != 0 {
		t.Errorf("ran %v, %d workers are busy", ran, c.running)
	}
}
