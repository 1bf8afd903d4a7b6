// Package supervisor holds the parents of the troupe and what they decide about
// failures.
//
// The root actor starts everything, forwards between actors that must not know
// each other, and stops everything in order. The strategies turn a failure into
// a directive and a delay:
//
//	failure of …             directive
//	connection (network)     restart after a jittered exponential delay; stop when the policy's retries are used up
//	connection (bug)         the same, and an error line
//	accumulator (bug)        restart at once: the box keeps everything
//	broker (bug)             restart at once; the root says again what it may have missed
//	metadata, sequencer      restart at once; their states outlive them
//	router (bug)             resume, since a restart would end its children; it receives Crashed
//	root (bug)               resume, by a guardian of its own; it receives Crashed
//	either, over Crashed     stop
//
// A decision about a record never happens here.
package supervisor
