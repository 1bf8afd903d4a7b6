package supervisor

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/troupe-kafka/troupe/internal/actortest"
)

// TestMain wants every goroutine that a test started to have ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(actortest.Patient{M: m}) }
