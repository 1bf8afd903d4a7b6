// Package seams holds the five doors through which the runtime touches the
// outside world: the clock, the transport, the dispatcher and executor, the
// parking of callers, and randomness, plus the one mailbox that all actors of
// the troupe use.
//
// Every decision of the runtime is a function of what comes through these
// doors, which is what lets a simulation replay a whole producer from a seed.
// The files here, and no others outside tests and examples, may call time.Now,
// start a goroutine, or open a socket; the architecture test enforces it.
//
// Nothing here knows about Kafka.
package seams
