//go:build !linux

package kafkacluster

import (
	"os"
	"os/exec"
)

// dieWithParent does nothing here: only Linux can tie a process to its parent.
func dieWithParent(*exec.Cmd) {}

// awaitStopped does not wait here: there is no way to see it that all systems have.
func awaitStopped(*os.Process) error { return nil }
