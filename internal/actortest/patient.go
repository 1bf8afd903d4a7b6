package actortest

import (
	"testing"

	"go.uber.org/goleak"
)

// Patient gives protoactor's dead letters the second after which the goroutine of
// their throttle ends; each Find waits for about as long. It stands between
// testing.M and goleak.VerifyTestMain.
type Patient struct{ *testing.M }

// Run implements goleak.TestingM.
func (p Patient) Run() int {
	code := p.M.Run()
	for tries := 0; tries < 4 && goleak.Find() != nil; tries++ {
	}
	return code
}
