package kafka_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

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

// expiresEvery is how often the single broker looks for producers to forget.
const expiresEvery = 500 * time.Millisecond

// prompt lets a single broker do soon what others do every few minutes.
var prompt = map[string]string{
	"producer.id.expiration.ms":                strconv.FormatInt(model.ScriptExpiration.Milliseconds(), 10),
	"producer.id.expiration.check.interval.ms": strconv.FormatInt(expiresEvery.Milliseconds(), 10),
	"log.retention.check.interval.ms":          "500",
	"log.initial.task.delay.ms":                "500",
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
				config := kafkacluster.Config{Version: version.kafka, Properties: prompt}
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
				if config.Brokers == 3 {
					t.Run("producer ids", func(t *testing.T) { conformIDs(t, cluster, version.model) })
				}
			})
		}
	}
}

// conformIDs asks two brokers in turn for producer ids: each counts up within a
// block of its own.
func conformIDs(t *testing.T, cluster *kafkacluster.Cluster, version model.Version) {
	real := newRealTarget(t, cluster, version, "ids", time.Now())
	modelled := model.New(model.Config{Version: version})
	ask := map[string]func(broker int32) (int64, int16, error){
		"real": real.initProducer,
		"model": func(broker int32) (int64, int16, error) {
			id, epoch, code := modelled.InitProducerID(0, broker)
			return id, epoch, kerr.ErrorForCode(int16(code))
		},
	}
	for who, ask := range ask {
		var first [2]int64
		for round := range int64(3) {
			for i := range first {
				id, epoch, err := ask(int32(i + 1))
				if err != nil || epoch != 0 {
					t.Fatalf("%s, broker %d: %d, %d, %v", who, i+1, id, epoch, err)
				}
				if round == 0 {
					first[i] = id
				}
				if id != first[i]+round {
					t.Errorf("%s, broker %d: %d after %d", who, i+1, id, first[i]+round-1)
				}
			}
		}
		if first[0]/model.DefaultProducerIDBlock == first[1]/model.DefaultProducerIDBlock {
			t.Errorf("%s: brokers hand out from one block: %v", who, first)
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
