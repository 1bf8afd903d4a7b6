package supervisor

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient gives protoactor's dead letters the second after which the goroutine
// of their throttle ends; each Find waits for about as long.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for tries := 0; tries < 4 && goleak.Find() != nil; tries++ {
	}
	return code
}
