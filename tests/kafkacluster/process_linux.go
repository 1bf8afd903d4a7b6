package kafkacluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// dieWithParent has the system kill the process when the thread that started it
// ends: see spawner.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// stopTimeout is how long the threads of a process may take to stop.
const stopTimeout = 5 * time.Second

// awaitStopped waits until every thread of a process has stopped: on a busy machine
// some go on for a moment after the signal, and may answer somebody.
func awaitStopped(p *os.Process) error {
	for end := time.Now().Add(stopTimeout); ; time.Sleep(time.Millisecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		running := ""
		for _, stat := range threads {
			// The state stands behind the name, which is in parentheses.
			line, err := os.ReadFile(stat)
			if at := bytes.LastIndexByte(line, ')'); err == nil && at >= 0 && !bytes.HasPrefix(line[at+1:], []byte(" T")) {
				running = string(line[:at+3])
			}
		}
		switch {
		case running == "":
			return nil
		case time.Now().After(end):
			return fmt.Errorf("it has not stopped within %v: %s", stopTimeout, running)
		}
	}
}
