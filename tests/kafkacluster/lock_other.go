//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package kafkacluster

// lockFile locks nothing on this system: jars are still never half there, thanks
// to a rename, but two processes may fetch them twice.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }
