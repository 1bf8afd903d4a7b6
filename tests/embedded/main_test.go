package embedded_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the package when a goroutine of the runtime, or of protoactor,
// is still there after every producer has been closed.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := settle(10 * time.Second); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines outlive their producers:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// settle waits until no goroutine of ours is left, and returns those that stay.
func settle(limit time.Duration) []string {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		left := ourGoroutines()
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// ourGoroutines returns the stacks of goroutines that run the producer's or
// protoactor's code. The tests' own do not count.
func ourGoroutines() []string {
	buf := make([]byte, 8<<20)
	var found []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, line := range strings.Split(stack, "\n") {
			ours := strings.HasPrefix(line, "github.com/troupe-kafka/troupe") && !strings.HasPrefix(line, "github.com/troupe-kafka/troupe/tests/")
			if ours || strings.HasPrefix(line, "github.com/asynkron/protoactor-go/") {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}
