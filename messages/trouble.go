package messages

import "sync"

// Troubles are why brokers cannot be reached, while they cannot. Who gives a record up
// without ever having sent it would have nothing to say but that its time is over. The
// zero value is ready; nil has none.
type Troubles struct {
	mu  sync.Mutex
	why map[int32]error
}

// Happened says why a broker cannot be reached.
func (t *Troubles) Happened(broker int32, why error) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = make(map[int32]error)
	}
	t.why[broker] = why
}

// Over says that a broker can be reached, or need not be.
func (t *Troubles) Over(broker int32) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.why, broker)
}

// Of is why a broker cannot be reached, nil if nothing is known to be wrong.
func (t *Troubles) Of(broker int32) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why[broker]
}
