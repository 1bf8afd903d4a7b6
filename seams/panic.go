package seams

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Panic is what a panic of an actor becomes on its way to the supervisor, which
// hears of it in another turn: without the stack nobody would find the bug.
type Panic struct {
	Reason any
	Stack  []byte
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprint(p.Reason) }

// Unwrap returns the reason if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Reason.(error)
	return err
}

// Expected is what an actor fails with when that is no bug. It reaches the
// supervisor as it is, and nobody asks for its stack.
type Expected interface {
	error
	ExpectedFailure()
}

// panicOf is a recovered reason with the stack of the panic, for a deferred
// function.
func panicOf(reason any) any {
	if _, expected := reason.(Expected); expected {
		return reason
	}
	return &Panic{Reason: reason, Stack: debug.Stack()}
}

// Described is a recovered reason as text, with where it happened: in the actor
// that failed, or else in the caller, which must be a deferred function. What was
// expected has no stack.
func Described(reason any) (text, stack string) {
	var p *Panic
	if err, ok := reason.(error); ok && errors.As(err, &p) {
		return p.Error(), string(p.Stack)
	}
	if err, ok := reason.(Expected); ok {
		return err.Error(), ""
	}
	return fmt.Sprint(reason), string(debug.Stack())
}
