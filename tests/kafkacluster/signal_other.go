//go:build !unix

package kafkacluster

import (
	"errors"
	"os"
)

func terminateProcess(p *os.Process) error { return p.Kill() }
func pauseProcess(*os.Process) error       { return errors.ErrUnsupported }
func resumeProcess(*os.Process) error      { return errors.ErrUnsupported }
