// Package kafka_test runs the producer against Apache Kafka itself, started from
// its published artefacts, and checks what stands in the log with an independent
// consumer and with Kafka's own DumpLogSegments.
package kafka_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

func TestMain(m *testing.M) { os.Exit(kafkacluster.Run(m)) }

func newProducer(t *testing.T, c *kafkacluster.Cluster, options ...troupe.Option) *troupe.Producer {
	t.Helper()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	p, err := troupe.New(append([]troupe.Option{troupe.WithBrokers(c.Seeds()...), troupe.WithLogger(log)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Close(ctx)
	})
	return p
}
