package kafkacluster

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	startTime = 90 * time.Second // until a started broker serves; 3 s at best, 12 s on a busy machine
	stopTime  = 60 * time.Second // from SIGTERM to the end; 2 s at best
	logTail   = 64 << 10
)

// Cluster is one broker or three, running or not. Its methods may be called from
// any goroutine. They report no errors: what goes wrong fails the test that
// Start or Shared was called with (or panics, for a cluster from Launch). As
// with testing.T itself, a method called from a goroutine that outlives its test
// must not fail any more.
type Cluster struct {
	*core
	tb testing.TB // nil for a cluster from Launch
}

// core is the cluster, whoever looks at it.
type core struct {
	cfg     Config
	tools   *toolkit
	dir     string
	ports   *portBlock
	spawner *spawner
	nodes   []*node
	leave   func() // lets other processes start clusters
	closing sync.Once

	certificates *certificates // nil without Security
}

// Start starts a cluster for this test (or benchmark) and stops it when the test
// ends. It calls Require. If the test fails, it logs the end of each broker's log.
func Start(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	Require(tb)
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	started, err := Launch(cfg)
	if err != nil {
		tb.Fatalf("kafkacluster: %v", err)
	}
	tb.Cleanup(func() {
		logIfFailed(tb, started.core)
		started.Close()
	})
	return &Cluster{core: started.core, tb: tb}
}

// Launch starts a cluster without a test, for benchmarks and programs. The
// caller closes it; methods that fail panic.
func Launch(cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	tools, err := newToolkit(cfg.Version)
	if err != nil {
		return nil, err
	}
	leave, err := enter()
	if err != nil {
		return nil, err
	}
	tools.archiveClasses()
	dir, err := os.MkdirTemp(cfg.Dir, "troupe-kafka-")
	if err != nil {
		leave()
		return nil, err
	}
	started, err := launch(tools, cfg, dir)
	if err != nil {
		leave()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	started.leave = leave
	return &Cluster{core: started}, nil
}

// launch formats and starts all brokers in dir and waits until each knows all.
func launch(tools *toolkit, cfg Config, dir string) (_ *core, err error) {
	ports, err := reservePorts()
	if err != nil {
		return nil, err
	}
	c := &core{cfg: cfg, tools: tools, dir: dir, ports: ports, spawner: newSpawner(), leave: func() {}}
	defer func() {
		if err != nil {
			c.shutDown()
		}
	}()
	if cfg.Security != nil {
		if c.certificates, err = newCertificates(filepath.Join(dir, "certificates")); err != nil {
			return nil, err
		}
	}
	for id := 1; id <= cfg.Brokers; id++ {
		n, err := newNode(cfg, id, dir, ports)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	if err := c.format(); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.start(c.spawner); err != nil {
			return nil, err
		}
	}
	return c, c.awaitServing(startTime)
}

func newNode(cfg Config, id int, dir string, ports *portBlock) (*node, error) {
	n := &node{id: id, dir: filepath.Join(dir, strconv.Itoa(id)), address: map[string]string{}}
	names := slices.Concat([]string{controllerListener, internalListener, clientListener}, cfg.furtherListeners())
	for _, name := range names {
		address, err := ports.address()
		if err != nil {
			return nil, err
		}
		n.address[name] = address
	}
	n.advertised = n.address[clientListener]
	if cfg.Advertise != nil {
		n.advertised = cfg.Advertise(id, n.advertised)
	}
	return n, os.Mkdir(n.dir, 0o755)
}

// format writes the configuration of every node and formats their storage, all
// at once.
func (c *core) format() error {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	random[0] &= 0x7f        // an id must not begin with a dash
	args := []string{"format", "-t", base64.RawURLEncoding.EncodeToString(random)}
	secureArgs, err := c.cfg.Security.formatArgs()
	if err != nil {
		return err
	}
	args = slices.Concat(args, secureArgs, c.cfg.FormatArgs)

	failed := make([]error, len(c.nodes))
	var formatting sync.WaitGroup
	for i, n := range c.nodes {
		formatting.Go(func() { failed[i] = c.formatNode(n, args) })
	}
	formatting.Wait()
	return errors.Join(failed...)
}

func (c *core) formatNode(n *node, args []string) error {
	file := func(name string) string { return filepath.Join(n.dir, name) }
	brokerLogger, brokerOption := logger(c.cfg.Version, file("broker-logger.properties"), "System.out", "INFO")
	toolLogger, toolOption := logger(c.cfg.Version, file("tool-logger.properties"), "System.err", "WARN")
	for name, text := range map[string]string{
		"server.properties":        serverProperties(c.cfg, n, c.nodes, c.certificates),
		"broker-logger.properties": brokerLogger,
		"tool-logger.properties":   toolLogger,
	} {
		if err := os.WriteFile(file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	n.newCommand = c.brokerCommand(n, brokerOption, file("server.properties"))

	args = append(slices.Clone(args), "-c", file("server.properties"))
	tool := c.tools.command(n.dir, []string{"-Xmx128m", "-XX:TieredStopAtLevel=1", toolOption}, "kafka.tools.StorageTool", args...)
	if _, err := c.spawner.run(tool); err != nil {
		return fmt.Errorf("format the storage of broker %d: %w", n.id, err)
	}
	return nil
}

// awaitServing waits until every broker that runs and is not paused lists every
// other such broker, and a controller.
func (c *core) awaitServing(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		err := c.allServe()
		if err == nil {
			return nil
		}
		for _, n := range c.nodes {
			if ended := n.ended(); ended != nil {
				return fmt.Errorf("%w; the end of its log:\n%s", ended, n.tail(4<<10))
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not serving after %v: %w%s", within, err, c.tails(2<<10))
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// tails returns the end of every broker's log.
func (c *core) tails(size int64) string {
	var text strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&text, "\n--- the end of the log of broker %d:\n%s", n.id, n.tail(size))
	}
	return text.String()
}

func logIfFailed(tb testing.TB, c *core) {
	tb.Helper()
	if tb.Failed() {
		tb.Log(c.tails(4 << 10))
	}
}

// shutDown kills every broker and gives back ports and the starting thread.
func (c *core) shutDown() {
	for _, n := range c.nodes {
		_ = n.kill() // a process that cannot be killed is gone
	}
	c.ports.release()
	c.spawner.close()
}

func (c *core) close() {
	c.closing.Do(func() {
		c.shutDown()
		c.leave()
		_ = os.RemoveAll(c.dir)
	})
}

func (c *core) node(id int) (*node, error) {
	if id < 1 || id > len(c.nodes) {
		return nil, fmt.Errorf("no broker %d: there are %d", id, len(c.nodes))
	}
	return c.nodes[id-1], nil
}

func (c *core) stop(id int) error {
	n, err := c.node(id)
	if err != nil {
		return err
	}
	return n.stop(stopTime)
}

func (c *core) restart(ids ...int) error {
	for _, id := range ids {
		if err := c.stop(id); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := c.nodes[id-1].start(c.spawner); err != nil {
			return err
		}
	}
	return c.awaitServing(startTime)
}

// heal resumes what is paused and starts what is down.
func (c *core) heal() error {
	for _, n := range c.nodes {
		if err := n.resume(); err != nil {
			return err
		}
		if !n.running() {
			if err := n.start(c.spawner); err != nil {
				return err
			}
		}
	}
	return c.awaitServing(startTime)
}

// check fails the test, or panics where there is none.
func (c *Cluster) check(err error) {
	if err == nil {
		return
	}
	if c.tb == nil {
		panic(fmt.Sprintf("kafkacluster: %v", err))
	}
	c.tb.Helper()
	c.tb.Fatalf("kafkacluster: %v", err)
}

// signal runs one of a node's own methods.
func (c *Cluster) signal(id int, send func(*node) error) {
	if c.tb != nil {
		c.tb.Helper()
	}
	n, err := c.node(id)
	if err == nil {
		err = send(n)
	}
	c.check(err)
}

// Config returns what the cluster was started with, defaults filled in.
func (c *Cluster) Config() Config { return c.cfg }

// Seeds returns the address of every broker, as clients are told it (see
// Config.Advertise), in the order of their ids.
func (c *Cluster) Seeds() []string {
	var seeds []string
	for _, n := range c.nodes {
		seeds = append(seeds, n.advertised)
	}
	return seeds
}

// SeedsOf returns every broker's address of one listener: PLAINTEXT (without any
// proxy), one of Config.Listeners, or with Security SSL, SASLPlaintext and SASLSSL.
func (c *Cluster) SeedsOf(listener string) []string {
	var seeds []string
	for _, n := range c.nodes {
		address, known := n.address[listener]
		if !known {
			c.check(fmt.Errorf("no listener %q", listener))
		}
		seeds = append(seeds, address)
	}
	return seeds
}

// Running returns the ids of the brokers that run, paused ones included.
func (c *Cluster) Running() []int {
	var ids []int
	for _, n := range c.nodes {
		if n.running() {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// Kill ends a broker by SIGKILL and waits until the process is gone. The others
// notice when its session times out, after about three seconds.
func (c *Cluster) Kill(id int) { c.signal(id, (*node).kill) }

// Pause stops a broker by SIGSTOP: its connections stay open and nothing answers.
func (c *Cluster) Pause(id int) { c.signal(id, (*node).pause) }

// Resume lets a paused broker go on, by SIGCONT.
func (c *Cluster) Resume(id int) { c.signal(id, (*node).resume) }

// Stop shuts a broker down by SIGTERM, so that it hands over its leaderships, and
// waits until the process has ended.
func (c *Cluster) Stop(id int) {
	c.signal(id, func(n *node) error { return n.stop(stopTime) })
}

// Restart starts brokers again, after shutting down those that still run, and
// waits until they serve and all brokers that run list each other. Two of three
// brokers must run for that: after the death of all, restart them together. Their
// replicas may still be catching up: see AwaitInSync.
func (c *Cluster) Restart(ids ...int) {
	if c.tb != nil {
		c.tb.Helper()
	}
	c.check(c.restart(ids...))
}

// Close kills all brokers and removes their data. Only a cluster from Launch
// needs it.
func (c *Cluster) Close() { c.close() }

// Log returns the tail (64 KiB) of what a broker has logged, over all its runs.
func (c *Cluster) Log(id int) string {
	n, err := c.node(id)
	c.check(err)
	return n.tail(logTail)
}

// DataDir returns the folder that holds a broker's partitions.
func (c *Cluster) DataDir(id int) string {
	n, err := c.node(id)
	c.check(err)
	return n.data()
}

// brokerCommand prepares one run of a broker after the other.
func (c *core) brokerCommand(n *node, loggerOption, properties string) func() *exec.Cmd {
	return func() *exec.Cmd {
		return c.tools.command(n.dir, append(c.cfg.jvm(), loggerOption), "kafka.Kafka", properties)
	}
}
