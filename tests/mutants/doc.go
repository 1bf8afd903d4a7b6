// Package mutants proves that the simulation sees: it breaks the runtime in one
// way after the other, and expects the campaign to find each.
//
// A mutant is a file in testdata: why it is wrong, and edits of the runtime's
// sources in which MUTANT stands for "this mutant is on". All of them are built
// into one campaign through an overlay of the Go tool (docs/adr/0009), and an
// environment variable switches one on. The sources in the repository know
// nothing of it.
//
// An edit whose text is no longer in the sources fails the test: whoever changes
// the code there decides what the mutant becomes.
package mutants
