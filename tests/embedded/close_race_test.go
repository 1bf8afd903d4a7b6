package embedded_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
)

// TestCloseWhileTheTroupeIsStillStarting closes producers at every moment of
// their first milliseconds. Metadata that arrives while the root is stopping
// must not start brokers or accumulators: nobody would stop them, and the root
// would wait for them for ever.
func TestCloseWhileTheTroupeIsStillStarting(t *testing.T) {
	cluster := startCluster(t, 3, map[string]int32{"t": 6})
	for i := range 400 {
		p, err := troupe.New(troupe.WithBrokers(cluster.ListenAddrs()...), troupe.WithLogger(zerolog.Nop()))
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Produce(context.Background(), troupe.Record{Topic: "t", Value: []byte("v")}, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*25*time.Microsecond)
		closed := make(chan struct{})
		go func() {
			_ = p.Close(ctx)
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(20 * time.Second):
			t.Fatalf("producer %d does not close", i)
		}
		cancel()
	}
}
