package kafkacluster

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// shared are the clusters that the tests of this package's process use in turn.
var shared struct {
	sync.Mutex
	open  bool // between the start and the end of Run
	cores map[string]*core
}

var errNoRun = errors.New("Shared needs a TestMain that calls os.Exit(kafkacluster.Run(m))")

// settleTime is how long goroutines may take to end after the last test: those
// of clients and of the actor systems' throttles do so by themselves.
const settleTime = 10 * time.Second

// Run runs the tests of a package and then stops its shared clusters. When all
// passed it wants every goroutine to have ended, too. Call it from TestMain, and
// os.Exit with what it returns.
func Run(m *testing.M) int {
	shared.Lock()
	shared.open, shared.cores = true, map[string]*core{}
	shared.Unlock()
	code := func() int {
		defer closeShared() // also when a test panics
		return m.Run()
	}()
	if code == 0 {
		if err := leftBehind(settleTime); err != nil {
			fmt.Fprintf(os.Stderr, "kafkacluster: goroutines outlive the tests: %v\n", err)
			code = 1
		}
	}
	return code
}

// leftBehind waits for all other goroutines to end, and says which do not.
func leftBehind(within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		if err := goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func closeShared() {
	shared.Lock()
	defer shared.Unlock()
	for _, c := range shared.cores {
		c.close()
	}
	shared.open, shared.cores = false, nil
}

// Shared returns the cluster that the tests of this package share, and starts it
// on first use; each different Config has its own. Before each use it is healed:
// paused brokers resume, those that are down start. Topics stay, so use names of
// your own. Tests that share a cluster must not run in parallel if one of them
// harms it. TestMain must call Run.
func Shared(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	Require(tb)
	if cfg.Advertise != nil {
		tb.Fatal("kafkacluster: a cluster behind proxies cannot be shared: use Start")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := sharedCore(cfg)
	if err != nil {
		tb.Fatalf("kafkacluster: %v", err)
	}
	tb.Cleanup(func() { logIfFailed(tb, c) })
	return &Cluster{core: c, tb: tb}
}

func sharedCore(cfg Config) (*core, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.open {
		return nil, errNoRun
	}
	key := cfg.key()
	if c, started := shared.cores[key]; started {
		return c, c.heal()
	}
	started, err := Launch(cfg)
	if err != nil {
		return nil, err
	}
	shared.cores[key] = started.core
	return started.core, nil
}
