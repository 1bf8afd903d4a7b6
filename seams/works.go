package seams

// works is a line of functions to run, first come first served. It keeps the room
// that it once had.
type works struct {
	ring    []func()
	head, n int
}

func (w *works) len() int { return w.n }

func (w *works) push(fn func()) {
	if w.n == len(w.ring) {
		grown := make([]func(), max(64, 2*w.n))
		for i := range w.n {
			grown[i] = w.ring[(w.head+i)%w.n]
		}
		w.ring, w.head = grown, 0
	}
	w.ring[(w.head+w.n)%len(w.ring)] = fn
	w.n++
}

func (w *works) pop() func() {
	fn := w.ring[w.head]
	w.ring[w.head] = nil
	w.head = (w.head + 1) % len(w.ring)
	w.n--
	return fn
}
