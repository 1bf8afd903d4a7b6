package model

import (
	"testing"

	"github.com/troupe-kafka/troupe/protocol"
)

// TestProducerOfABatchThatIsCut: what a log is cut back to is read by whole batches, also the one
// in the middle of which the log starts. Who produced it stays known.
func TestProducerOfABatchThatIsCut(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	b.send(1, 1, batch(7, 0, 0, 3), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 3, 2), protocol.None, 3)
	if !b.DeleteRecords(orders, 2) {
		t.Fatal("not deleted")
	}
	b.broker(1).replica(orders).truncate(3, 0)
	b.check()
	b.send(1, 1, batch(7, 0, 9, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(7, 0, 0, 3), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 3, 2), protocol.None, 3)
}
