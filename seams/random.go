package seams

import (
	"hash/fnv"
	"math/rand/v2"
)

// Randomness gives each actor a source of its own, so that what one actor draws
// never depends on how the others are scheduled.
type Randomness interface {
	// For returns the source of the actor at path. A source belongs to one actor
	// and is not safe for concurrent use.
	For(path string) *rand.Rand
}

// NewRandomness returns sources seeded from the operating system.
func NewRandomness() Randomness { return SeededRandomness(rand.Uint64()) }

// SeededRandomness returns sources that depend on the seed and the path alone.
type SeededRandomness uint64

// For implements Randomness.
func (s SeededRandomness) For(path string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return rand.New(rand.NewPCG(uint64(s), h.Sum64()))
}
