package kafka_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/simulation/model"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

// conformance are the versions of Kafka that the model is held against.
var conformance = []struct {
	kafka kafkacluster.Version
	model model.Version
}{
	{kafkacluster.V4, model.V4},
	{kafkacluster.V3, model.V3},
}

// patient makes a cluster of three slow to give a broker up, so that a script can
// pause one without losing it. A killed broker is fenced after this time.
var patient = map[string]string{"broker.session.timeout.ms": "9000", "replica.lag.time.max.ms": "20000"}

// TestConformance runs every script of the model against real brokers and the
// model in lockstep. Both must give the expected answers, and the same ones.
func TestConformance(t *testing.T) {
	names, err := filepath.Glob("../../simulation/model/testdata/*.txt")
	if err != nil || len(names) < 7 {
		t.Fatalf("found the scripts %v: %v", names, err)
	}
	for _, version := range conformance {
		for _, brokers := range []string{"brokers 1", "brokers 3"} {
			t.Run(string(version.kafka)+"/"+brokers, func(t *testing.T) {
				config := kafkacluster.Config{Version: version.kafka}
				if brokers == "brokers 3" {
					config.Brokers, config.Properties = 3, patient
				}
				cluster := kafkacluster.Start(t, config)
				for _, name := range names {
					text, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(string(text), "\n"+brokers+"\n") {
						t.Run(filepath.Base(name), func(t *testing.T) { conform(t, cluster, version.model, name, string(text)) })
					}
				}
			})
		}
	}
}

func conform(t *testing.T, cluster *kafkacluster.Cluster, version model.Version, name, text string) {
	steps, err := model.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	real := newRealTarget(t, cluster, version, strings.TrimSuffix(filepath.Base(name), ".txt"), started)
	defer real.close()
	for _, problem := range model.RunScript(steps, version, real, model.Scripted(version, started.UnixMilli())) {
		t.Error(problem)
	}
	t.Logf("%d steps in %v", len(steps), time.Since(started).Round(time.Millisecond))
}
