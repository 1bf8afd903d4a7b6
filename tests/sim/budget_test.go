package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/simulation"
)

// Brokers that take so many bytes per second are what makes callers wait: the
// buffer holds a few seconds of it.
const (
	brokerRate   = 200_000
	warmingUp    = 5 * time.Second
	measuredFor  = 10 * time.Second
	eachPosition = 2 // callers per partition
)

// acknowledged lets callers produce flat out to the partitions given while broker 1
// is dead and nobody takes over from it, and returns the bytes acknowledged in
// partitions that it does not lead.
func acknowledged(t *testing.T, partitions []int32) int {
	t.Helper()
	w, err := simulation.NewWorld(simulation.Config{
		Seed: 5, Topics: []simulation.Topic{{Name: topicName, Partitions: 6}}, BrokerBytesPerSecond: brokerRate,
		Faults: []simulation.Fault{{
			// The pick: killed, and not missed by the controller.
			Kind: simulation.BrokerDown, At: simulation.Duration(time.Second), Target: "broker-1", For: simulation.Duration(time.Hour), Pick: 0,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Start("", troupe.WithBufferBytes(1<<20), troupe.WithRecordMaxBytes(64<<10), troupe.WithBatchMaxBytes(16_000), troupe.WithPaceBytes(0))
	if err != nil {
		t.Fatal(err)
	}
	ended, bytes, answered := false, 0, make([]int, 6)
	value := make([]byte, 1000)
	for _, partition := range partitions {
		for range eachPosition {
			w.Go(func() {
				record := messages.Record{Topic: topicName, Value: value, Partition: messages.AtPartition(partition)}
				for !ended {
					err := p.Produce(context.Background(), record, func(d messages.Delivery) {
						if d.Err != nil || w.Now() < warmingUp || ended {
							return
						}
						answered[partition]++
						if partition%3 != 0 {
							bytes += len(value)
						}
					})
					if err != nil && !errors.Is(err, messages.ErrBufferFull) && !ended {
						t.Errorf("partition %d: %v", partition, err)
						return
					}
				}
			})
		}
	}
	if err := w.Advance(warmingUp + measuredFor); err != nil {
		t.Fatal(err)
	}
	ended = true
	if answered[0]+answered[3] > 0 {
		t.Errorf("the dead broker has acknowledged %v", answered)
	}
	if held := p.BufferedBytes(); held == 0 {
		t.Error("nothing waits for the brokers: they are too fast for this test")
	}
	w.Close()
	return bytes
}

// TestADeadBrokerLeavesTheOthersTheirRate: the healthy brokers keep at least nine
// tenths of the rate that they have alone.
func TestADeadBrokerLeavesTheOthersTheirRate(t *testing.T) {
	alone := acknowledged(t, []int32{1, 2, 4, 5})
	together := acknowledged(t, []int32{0, 1, 2, 3, 4, 5})
	t.Logf("%d bytes per second alone, %d with the dead broker's partitions", alone/int(measuredFor/time.Second), together/int(measuredFor/time.Second))
	if most := 2 * brokerRate * int(measuredFor/time.Second); alone < most/2 || alone > most {
		t.Errorf("%d bytes alone, of %d at the most: the brokers are not what bounds it", alone, most)
	}
	if together*10 < alone*9 {
		t.Errorf("%d bytes with the dead broker's partitions, %d without", together, alone)
	}
}
