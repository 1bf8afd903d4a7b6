package kafkacluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// spawner starts processes, all from one thread that lives as long as it does.
// On Linux a process started with a death signal dies with the thread, not with
// the process, that started it, and Go may end any thread but a locked one.
type spawner struct {
	requests chan func()
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for request := range s.requests {
			request()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	dieWithParent(cmd)
	started := make(chan error)
	s.requests <- func() { started <- cmd.Start() }
	return <-started
}

// run starts a program and returns what it printed on its standard output.
func (s *spawner) run(cmd *exec.Cmd) (string, error) {
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := s.start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s\n%s", err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (s *spawner) close() { close(s.requests) }

// node is one broker, running or not.
type node struct {
	id         int
	dir        string
	address    map[string]string // by listener
	advertised string            // what clients are told in place of address[PLAINTEXT]
	newCommand func() *exec.Cmd

	mu      sync.Mutex
	process *process // nil before the first start
	paused  bool
	ending  bool // killed or stopped on purpose
}

// process is one run of a broker.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

func (n *node) data() string    { return filepath.Join(n.dir, "data") }
func (n *node) logFile() string { return filepath.Join(n.dir, "broker.log") }

// start runs the broker; the caller waits until it serves.
func (n *node) start(s *spawner) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.alive() {
		return fmt.Errorf("broker %d runs already", n.id)
	}
	output, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }() // the process has its own handle
	cmd := n.newCommand()
	cmd.Stdout, cmd.Stderr = output, output
	if err := s.start(cmd); err != nil {
		return fmt.Errorf("broker %d: %w", n.id, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	n.process, n.paused, n.ending = p, false, false
	return nil
}

// alive needs mu.
func (n *node) alive() bool {
	if n.process == nil {
		return false
	}
	select {
	case <-n.process.done:
		return false
	default:
		return true
	}
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive()
}

// serving is running and not paused.
func (n *node) serving() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive() && !n.paused
}

// kill ends the broker at once. One that does not run is left alone.
func (n *node) kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.alive() {
		return nil
	}
	n.ending = true
	if err := n.process.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill broker %d: %w", n.id, err)
	}
	<-n.process.done
	return nil
}

// stop asks the broker to shut down and waits. One that does not run is left alone.
func (n *node) stop(within time.Duration) error {
	if err := n.resume(); err != nil {
		return err
	}
	p, err := n.terminate()
	if p == nil || err != nil {
		return err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("broker %d has not shut down within %v of SIGTERM", n.id, within)
	}
}

// terminate sends SIGTERM and returns the process that got it, if one runs.
func (n *node) terminate() (*process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.alive() {
		return nil, nil
	}
	n.ending = true
	if err := terminateProcess(n.process.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, fmt.Errorf("stop broker %d: %w", n.id, err)
	}
	return n.process, nil
}

func (n *node) pause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.alive() {
		return fmt.Errorf("pause broker %d: it does not run", n.id)
	}
	if err := pauseProcess(n.process.cmd.Process); err != nil {
		return fmt.Errorf("pause broker %d: %w", n.id, err)
	}
	n.paused = true
	if err := awaitStopped(n.process.cmd.Process); err != nil {
		return fmt.Errorf("pause broker %d: %w", n.id, err)
	}
	return nil
}

// resume lets a paused broker go on. One that is not paused is left alone.
func (n *node) resume() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.alive() || !n.paused {
		return nil
	}
	if err := resumeProcess(n.process.cmd.Process); err != nil {
		return fmt.Errorf("resume broker %d: %w", n.id, err)
	}
	n.paused = false
	return nil
}

// ended tells of a broker that has ended although nobody asked it to.
func (n *node) ended() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil || n.ending || n.alive() {
		return nil
	}
	return fmt.Errorf("broker %d has ended: %v", n.id, n.process.err)
}

// tail returns the last size bytes of the broker's log, whole lines.
func (n *node) tail(size int64) string {
	file, err := os.Open(n.logFile())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	cut := false
	if info, err := file.Stat(); err == nil && info.Size() > size {
		cut = true
		if _, err := file.Seek(-size, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	if cut {
		if _, rest, found := strings.Cut(string(text), "\n"); found {
			return rest
		}
	}
	return string(text)
}
