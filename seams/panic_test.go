package seams

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

type networkEnded struct{ error }

func (networkEnded) ExpectedFailure() {}

// recovered is what a mailbox tells the supervisor of a panic of fn.
func recovered(fn func()) (reason any) {
	defer func() { reason = panicOf(recover()) }()
	fn()
	return nil
}

// TestPanicKeepsItsStack up to the line in the log, and what is no bug costs none.
func TestPanicKeepsItsStack(t *testing.T) {
	var none map[string]int
	reason := recovered(func() { none["x"] = 1 })
	if text, stack := Described(reason); !strings.Contains(text, "nil map") || !strings.Contains(stack, "TestPanicKeepsItsStack.func") {
		t.Errorf("%s\n%s", text, stack)
	}
	mine := errors.New("mine")
	for _, panicked := range []any{mine, fmt.Errorf("wrapped: %w", mine)} {
		err, ok := recovered(func() { panic(panicked) }).(error)
		if !ok || !errors.Is(err, mine) {
			t.Errorf("%v is no longer what it was", err)
		}
	}
	ended := networkEnded{mine}
	if got := recovered(func() { panic(ended) }); got != any(ended) {
		t.Errorf("an expected failure became %v", got)
	}
	if text, stack := Described(ended); text != "mine" || stack != "" {
		t.Errorf("an expected failure is described as %q with a stack of %d bytes", text, len(stack))
	}
}
