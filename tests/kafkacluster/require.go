package kafkacluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

// RequireEnv names the environment variable that, set to 1, turns every skip
// for want of Kafka into a failure. Continuous integration sets it.
const RequireEnv = "TROUPE_REQUIRE_KAFKA"

// oldestJava is the oldest Java release that runs a Kafka 4 broker.
const oldestJava = 17

// Available says why Apache Kafka cannot be started here, or nil if it can. The
// first call fetches what is missing of the jars of every version (about 110 MB
// and ten seconds, once per machine); the answer is then kept.
func Available() error { return available() }

var available = sync.OnceValue(func() error {
	if _, err := findJava(); err != nil {
		return err
	}
	for _, version := range Versions() {
		if _, err := Jars(version); err != nil {
			return err
		}
	}
	return nil
})

// Require skips the test loudly if Kafka cannot be started here or if the tests
// run with -short. With TROUPE_REQUIRE_KAFKA=1 it fails the test instead of
// skipping it.
func Require(tb testing.TB) {
	tb.Helper()
	must := os.Getenv(RequireEnv) == "1"
	err := error(nil)
	switch {
	case testing.Short() && !must:
		err = errors.New("the tests run with -short")
	default:
		err = Available()
	}
	switch {
	case err == nil:
	case must:
		tb.Fatalf("real Kafka is required (%s=1) and cannot be started: %v", RequireEnv, err)
	default:
		tb.Skipf("SKIP (real Kafka): %v", err)
	}
}

// java is a Java runtime on this machine.
type java struct {
	path  string // of the launcher
	build string // everything that -version prints: one archive per build
}

// findJava looks in JAVA_HOME, then along PATH, once.
var findJava = sync.OnceValues(func() (java, error) {
	launcher := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		inHome := filepath.Join(home, "bin", "java")
		if runtime.GOOS == "windows" {
			inHome += ".exe"
		}
		if _, err := os.Stat(inHome); err == nil {
			launcher = inHome
		}
	}
	path, err := exec.LookPath(launcher)
	if err != nil {
		return java{}, fmt.Errorf("no Java: install a runtime of version %d or later: %w", oldestJava, err)
	}
	out, err := exec.Command(path, "-version").CombinedOutput()
	if err != nil {
		return java{}, fmt.Errorf("%s -version: %w\n%s", path, err, out)
	}
	major, err := javaMajor(string(out))
	if err != nil {
		return java{}, err
	}
	if major < oldestJava {
		return java{}, fmt.Errorf("%s is Java %d: version %d or later is needed", path, major, oldestJava)
	}
	return java{path: path, build: string(out)}, nil
})

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// javaMajor reads the release out of what -version prints: 1 for Java 8.
func javaMajor(printed string) (int, error) {
	found := javaVersion.FindStringSubmatch(printed)
	if found == nil {
		return 0, fmt.Errorf("unknown Java: %q", printed)
	}
	return strconv.Atoi(found[1])
}
