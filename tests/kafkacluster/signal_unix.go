//go:build unix

package kafkacluster

import (
	"os"
	"syscall"
)

func terminateProcess(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
func pauseProcess(p *os.Process) error     { return p.Signal(syscall.SIGSTOP) }
func resumeProcess(p *os.Process) error    { return p.Signal(syscall.SIGCONT) }
