package kafkacluster

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the system kill the process when the thread that started it
// ends: see spawner.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
