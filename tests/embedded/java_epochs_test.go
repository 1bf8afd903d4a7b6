package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// number is what a batch was sent as.
type number struct {
	epoch    int16
	sequence int32
}

func numbers(list []sent) []number {
	found := make([]number, 0, len(list))
	for _, s := range list {
		found = append(found, number{s.batch.ProducerEpoch, s.batch.FirstSequence})
	}
	return found
}

// sendAll sends values one by one; each must be acknowledged.
func sendAll(t *testing.T, p *troupe.Producer, list ...string) {
	t.Helper()
	for _, v := range list {
		if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
	}
}

// TestJavaExpiry is row 20: what becomes of the sequences of records that expire.
func TestJavaExpiry(t *testing.T) {
	t.Parallel()
	short := func(more ...troupe.Option) []troupe.Option {
		return fast(append([]troupe.Option{troupe.WithRequestTimeout(100 * time.Millisecond), troupe.WithDeliveryTimeout(400 * time.Millisecond), troupe.WithLinger(0)}, more...)...)
	}

	t.Run("java 20: expiry of records that were never sent leaves no gap and no new epoch", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, short(n.option())...)
		sendAll(t, p, "a", "b")
		n.setDown(true)
		time.Sleep(100 * time.Millisecond) // until that is noticed: nothing is handed to a connection that has ended
		var got outcomes
		for range 3 {
			must(t, p, to("t", 0, "expires"), got.add)
		}
		for _, d := range got.wait(t, 3) {
			if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.NotPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
		}
		n.setDown(false)
		sendAll(t, p, "c", "d")
		if got, want := numbers(w.of("t", 0)), []number{{0, 0}, {0, 1}, {0, 2}, {0, 3}}; !slices.Equal(got, want) {
			t.Errorf("numbers %v, expected %v", got, want)
		}
		expect(t, values(consumeAll(t, cluster, "t", 4)), []string{"a", "b", "c", "d"})
	})

	t.Run("java 20: expiry of a sent batch holds up new ones, and a late success lets them go on under the same epoch", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, short()...)
		sendAll(t, p, "a")
		release := w.hold(t, anyRequest)
		var got, next outcomes
		must(t, p, to("t", 0, "expires"), got.add)
		if d := got.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
		must(t, p, to("t", 0, "b"), next.add)
		time.Sleep(50 * time.Millisecond)
		release()
		if d := next.wait(t, 1)[0]; d.Err != nil || d.Offset != 2 {
			t.Errorf("offset %d, %v", d.Offset, d.Err)
		}
		sendAll(t, p, "c")
		for _, s := range w.of("t", 0) {
			if s.batch.ProducerEpoch != 0 {
				t.Errorf("numbers %v: the success came, so no new epoch is needed", numbers(w.of("t", 0)))
				break
			}
		}
		assertSequences(t, w.of("t", 0))
		expect(t, values(consumeAll(t, cluster, "t", 4)), []string{"a", "expires", "b", "c"})
		if got.count() != 1 {
			t.Error("the late success was reported, too")
		}
	})

	for name, answers := range map[string]bool{"refuses it": true, "never answers": false} {
		t.Run("java 20: expiry of a sent batch starts a new epoch when the broker "+name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, short(n.option())...)
			sendAll(t, p, "a")
			release := w.hold(t, anyRequest)
			w.add(func(pr *produced) (kmsg.Response, error, bool) {
				if !slices.Contains(pr.batches[0].values, "expires") {
					return nil, nil, false
				}
				return answer(pr.ProduceRequest, corruptMessage, -1), nil, true // what is cut below is not appended either
			})
			var got outcomes
			must(t, p, to("t", 0, "expires"), got.add)
			if d := got.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
			if !answers {
				n.setDown(true)
				n.setDown(false)
			}
			release()
			sendAll(t, p, "b", "c")
			sends := numbers(w.of("t", 0))
			if last := sends[len(sends)-2:]; !slices.Equal(last, []number{{1, 0}, {1, 1}}) {
				t.Errorf("numbers %v", sends)
			}
			expect(t, values(consumeAll(t, cluster, "t", 3)), []string{"a", "b", "c"})
		})
	}
}

// TestJavaUnknownProducer is row 22: a broker that has forgotten the producer.
func TestJavaUnknownProducer(t *testing.T) {
	t.Parallel()
	for name, logStart := range map[string]int64{"an unknown log start": -1, "the records gone by retention": 100, "a log start before the last record": 0} {
		t.Run("java 22: UNKNOWN_PRODUCER_ID with "+name+": sent again under a new epoch, nothing is lost", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
			sendAll(t, p, "00", "01")
			once := false
			w.add(func(pr *produced) (kmsg.Response, error, bool) {
				if once {
					return nil, nil, false
				}
				once = true
				r := answer(pr.ProduceRequest, int16(protocol.UnknownProducerID), -1)
				r.Topics[0].Partitions[0].LogStartOffset = logStart
				return r, nil, true
			})
			var got outcomes
			for i := range 8 {
				must(t, p, to("t", 0, fmt.Sprintf("%02d", i+2)), got.add)
			}
			for i, d := range got.wait(t, 8) {
				if d.Err != nil || d.Offset != int64(i+2) {
					t.Errorf("record %d: offset %d, %v", i, d.Offset, d.Err)
				}
			}
			sends := numbers(w.of("t", 0))
			if !slices.Contains(sends, number{1, 0}) {
				t.Errorf("numbers %v: no new epoch", sends)
			}
			assertSequences(t, w.of("t", 0))
			expectOrder(t, values(consumeAll(t, cluster, "t", 10)))
		})
	}

	for _, code := range []protocol.ErrorCode{protocol.UnknownProducerID, protocol.OutOfOrderSequenceNumber} {
		t.Run("java 22: "+code.Error()[:12]+" after a lost answer: the batch may stand, so it is not sent again", func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, fast(n.option())...)
			sendAll(t, p, "a")
			attempts := 0
			w.add(func(pr *produced) (kmsg.Response, error, bool) {
				if attempts++; attempts != 2 {
					return nil, nil, false
				}
				return answer(pr.ProduceRequest, int16(code), -1), nil, true
			})
			n.lose(1)
			_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "b")})
			var send *troupe.SendError
			if !errors.As(err, &send) || !errors.Is(err, code) || send.Failed[0].Status != troupe.PossiblyPersisted {
				t.Errorf("%v", err)
			}
			sendAll(t, p, "c", "d")
			sends := numbers(w.of("t", 0))
			if want := []number{{0, 0}, {0, 1}, {0, 1}, {1, 0}, {1, 1}}; !slices.Equal(sends, want) {
				t.Errorf("numbers %v, expected %v", sends, want)
			}
			expect(t, values(consumeAll(t, cluster, "t", 4)), []string{"a", "b", "c", "d"})
		})
	}
}

// usedUp makes the cluster give the last epoch of an id first, and ids of its own
// from then on, which wait for the gate.
func usedUp(cluster *kfake.Cluster, gate <-chan struct{}) (asked func() int) {
	var mu sync.Mutex
	n := 0
	cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		n++
		first := n == 1
		mu.Unlock()
		if !first {
			cluster.SleepControl(func() { <-gate })
			return nil, nil, false
		}
		response := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		response.ProducerID, response.ProducerEpoch = 4000, 32767
		return response, nil, true
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestJavaNewProducerID is row 23: epochs are used up, and a new id is needed.
func TestJavaNewProducerID(t *testing.T) {
	t.Parallel()

	t.Run("java 23: with the last epoch used up a new id is asked for, once, and the queue goes on under it", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		gate := make(chan struct{})
		asked := usedUp(cluster, gate)
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
		sendAll(t, p, "00")
		warm(t, p, "t", 1)
		w.answerNext(1, "t", 0, int16(protocol.OutOfOrderSequenceNumber))
		var got, other outcomes
		for i := range 8 {
			must(t, p, to("t", 0, fmt.Sprintf("%02d", i+1)), got.add)
			must(t, p, to("t", 1, fmt.Sprintf("%02d", i)), other.add)
		}
		eventually(t, "the second request for an id", func() bool { return asked() == 2 })
		close(gate)
		for i, d := range got.wait(t, 8) {
			if d.Err != nil || d.Offset != int64(i+1) {
				t.Errorf("record %d: offset %d, %v", i, d.Offset, d.Err)
			}
		}
		other.wait(t, 8)
		for part := range int32(2) {
			ids := make(map[int64]int32) // by producer id: the next sequence
			for _, s := range w.of("t", part) {
				b := s.batch
				if b.ProducerID == 4000 && b.ProducerEpoch != 32767 || b.ProducerID != 4000 && b.ProducerEpoch != 0 {
					t.Errorf("partition %d: id %d with epoch %d", part, b.ProducerID, b.ProducerEpoch)
				}
				if b.FirstSequence > ids[b.ProducerID] {
					t.Errorf("partition %d: id %d goes on at %d, expected %d", part, b.ProducerID, b.FirstSequence, ids[b.ProducerID])
				}
				ids[b.ProducerID] = max(ids[b.ProducerID], b.FirstSequence+b.NumRecords)
			}
			if part == 0 && len(ids) != 2 {
				t.Errorf("partition %d was sent under the ids %v", part, ids)
			}
		}
		if asked() != 2 {
			t.Errorf("%d requests for an id", asked())
		}
		perPart := perPartition(consumeAll(t, cluster, "t", 18))
		expectOrder(t, perPart[0])
		expectOrder(t, perPart[1][1:])
	})

	t.Run("java 23: Close while a new id is awaited ends, and answers everything", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		gate := make(chan struct{})
		t.Cleanup(func() { close(gate) })
		asked := usedUp(cluster, gate)
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), troupe.WithBatchMaxBytes(100))...)
		sendAll(t, p, "00")
		w.answerNext(1, "t", 0, int16(protocol.OutOfOrderSequenceNumber))
		var got outcomes
		for i := range 8 {
			must(t, p, to("t", 0, fmt.Sprintf("%02d", i+1)), got.add)
		}
		eventually(t, "the second request for an id", func() bool { return asked() == 2 })
		outOfTime(t, p)
		closedOutcomes(t, &got, 8, troupe.NotPersisted)
		answeredOnce(t, p, &got, 8)
	})
}

// TestJavaFatal is what row 27 says of answers to Produce.
func TestJavaFatal(t *testing.T) {
	t.Parallel()

	t.Run("java 27: CLUSTER_AUTHORIZATION_FAILED in an answer is fatal: all fail, nothing leaks, close works", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 2})
		w := watch(cluster)
		p := newProducer(t, cluster, fast(troupe.WithLinger(0), quietly(&syncBuffer{}))...)
		sendAll(t, p, "a")
		warm(t, p, "t", 1)
		w.answerNext(-1, "t", 0, int16(protocol.ClusterAuthorizationFailed))
		release := w.hold(t, anyRequest)
		var got outcomes
		admitted := 0
		for i := range 10 {
			err := p.Produce(within(t, patience), to("t", int32(i%2), "v"), got.add)
			if errors.Is(err, troupe.ErrFatal) {
				break // the first answer was quick
			} else if err != nil {
				t.Fatal(err)
			}
			admitted++
		}
		release()
		if admitted == 0 {
			t.Fatal("refused before anything was sent")
		}
		failed := 0
		for _, d := range got.wait(t, admitted) {
			if d.Err == nil {
				continue // of the other partition, acknowledged before
			}
			failed++
			if !errors.Is(d.Err, protocol.ClusterAuthorizationFailed) {
				t.Error(d.Err)
			}
		}
		if failed < (admitted+1)/2 {
			t.Errorf("%d records failed, %d were of the partition", failed, (admitted+1)/2)
		}
		eventually(t, "refusal", func() bool {
			return errors.Is(p.TryProduce(within(t, patience), to("t", 1, "v"), nil), troupe.ErrFatal)
		})
		if err := closing(t, p, patience); err != nil {
			t.Error(err)
		}
		answeredOnce(t, p, &got, admitted)
	})
}
