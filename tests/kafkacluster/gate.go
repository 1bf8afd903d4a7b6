package kafkacluster

import (
	"path/filepath"
	"sync"
)

// gate keeps test processes from running clusters at the same time: the first
// cluster of a process waits for the lock, its last gives it back.
var gate struct {
	sync.Mutex
	clusters int
	unlock   func()
}

// enter waits until no other process runs a cluster. leave is called once.
func enter() (leave func(), err error) {
	gate.Lock()
	defer gate.Unlock()
	if gate.clusters == 0 {
		cache, err := cacheDir()
		if err != nil {
			return nil, err
		}
		gate.unlock, err = lockFile(filepath.Join(cache, "running.lock"))
		if err != nil {
			return nil, err
		}
	}
	gate.clusters++
	return func() {
		gate.Lock()
		defer gate.Unlock()
		gate.clusters--
		if gate.clusters == 0 {
			gate.unlock()
		}
	}, nil
}
