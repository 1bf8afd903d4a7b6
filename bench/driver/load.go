package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"syscall"
	"time"
)

const (
	keySize = 16
	keys    = 4096
	// plainBytes of values fit into a core's cache, as values that were just
	// written do. textBytes are more than what a client gathers in the batches that
	// it has open at once, so that values do not repeat within a batch: 12 of 1 MB,
	// filled in turns, see 12 MB go by, and snappy's window is the whole batch. With
	// 4 MB of text franz-go's snappy found every batch's text up to three times.
	plainBytes = 64 << 10
	textBytes  = 16 << 20
)

// A worker is one producing goroutine's source of records.
type worker struct {
	keys, values source
	// times are how late each record of an open loop was given to the client, or
	// how long each call took.
	times []time.Duration
	// scratch is what a client keeps for its next call.
	scratch any
}

// A source cuts slices of one size from a corpus, over and over. All clients may
// read them until their callback; nobody writes.
type source struct {
	corpus   []byte
	size, at int
}

// next returns nil for the zero source.
func (s *source) next() []byte {
	if s.at+s.size > len(s.corpus) {
		s.at = 0
	}
	v := s.corpus[s.at : s.at+s.size : s.at+s.size]
	s.at += s.size
	return v
}

func newWorkers(s Settings) []*worker {
	random := rand.New(rand.NewPCG(1, 2)) // every run sends the same
	var values []byte
	if s.Codec == "none" {
		values = noise(random, max(plainBytes, s.Size))
	} else {
		values = text(random, max(textBytes, s.Size))
	}
	var names []byte
	if s.Keyed {
		names = noise(random, keys*keySize)
	}
	workers := make([]*worker, s.Goroutines)
	for i := range workers {
		w := &worker{values: source{corpus: values, size: s.Size}}
		w.values.at = len(values) / len(workers) * i
		if s.Keyed {
			w.keys = source{corpus: names, size: keySize, at: keys / len(workers) * i * keySize}
		}
		workers[i] = w
	}
	return workers
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// text looks to a codec like lines of a log: words of a vocabulary, few of them
// often and many rarely, and numbers.
func text(random *rand.Rand, n int) []byte {
	words := make([]string, 2000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = byte('a' + random.IntN(26))
		}
		words[i] = string(word)
	}
	zipf := rand.NewZipf(random, 1.2, 4, uint64(len(words)-1))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		switch random.IntN(12) {
		case 0:
			b = fmt.Appendf(b, "%d\n", random.IntN(1e6))
		default:
			b = append(append(b, words[zipf.Uint64()]...), ' ')
		}
	}
	return b[:n]
}

// paced sends n records, each at its time: worker i of several takes every
// several-th place in the row that all together send at rate per second.
func (w *worker) paced(ctx context.Context, c client, start time.Time, n, i, several int, rate float64) error {
	// The runtime's timers are good to a millisecond on an idle process, a
	// thread's to some microseconds.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const setTimerSlack = 29 // PR_SET_TIMERSLACK
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1000, 0); errno != 0 {
		return errno
	}
	for k := range n {
		at := due(k, i, several, rate)
		for wait := at - time.Since(start); wait > 0; wait = at - time.Since(start) {
			sleep(wait)
		}
		w.times = append(w.times, time.Since(start)-at)
		if err := c.produce(ctx, w, 1, at); err != nil {
			return err
		}
	}
	return nil
}

// due is when worker i of several should send its k-th record. It depends on
// nothing that happens, so that a client which is slow pays for it.
func due(k, i, several int, rate float64) time.Duration {
	return time.Duration(math.Round(float64(k*several+i) * float64(time.Second) / rate))
}

// sleep blocks the thread. A signal may end it early.
func sleep(d time.Duration) {
	pause := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&pause, nil)
}
