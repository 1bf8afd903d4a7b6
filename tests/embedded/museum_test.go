package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/protocol"
)

// The nine-bug museum: what other clients got wrong, with a whole producer. The
// partition's part of each is a script, actors/accumulator/testdata/museum*.txt.

// settledLog is the log of t/0 when nothing comes any more: requests of a lost
// connection may be read, and carried out, after all outcomes are known.
func settledLog(t testing.TB, cluster *kfake.Cluster) []string {
	t.Helper()
	high := int64(-1)
	eventually(t, "a quiet log", func() bool {
		before := high
		high = cluster.PartitionInfo("t", 0).HighWatermark
		time.Sleep(100 * time.Millisecond)
		return high == before
	})
	return values(consumeAll(t, cluster, "t", int(high)))
}

// TestMuseum1 is reordering with one in flight and retries (librdkafka #1092, Sarama
// #2619 and #2860, also without idempotence).
func TestMuseum1(t *testing.T) {
	t.Parallel()
	for _, acks := range []troupe.Acks{troupe.AcksAll, troupe.AcksLeader} {
		for _, idempotent := range []bool{true, false} {
			if idempotent && acks != troupe.AcksAll {
				continue
			}
			t.Run(fmt.Sprintf("museum 1: one in flight, acks %v, idempotent %v: a retry goes before what waits", acks, idempotent), func(t *testing.T) {
				t.Parallel()
				cluster := startCluster(t, 1, map[string]int32{"t": 1})
				w, n := watch(cluster), newNetwork()
				p := newProducer(t, cluster, oneEach(n.option(), troupe.WithMaxInFlight(1), troupe.WithAcks(acks), troupe.WithIdempotence(idempotent))...)
				for _, i := range []int{3, 17, 18, 40} {
					w.refuseOnce(0, fmt.Sprintf("m-%03d", i), notLeader, nil)
				}
				var got outcomes
				var want []string
				for i := range 60 {
					if i == 30 {
						// What is in flight then arrived, and its answer did not.
						n.lose(1)
					}
					want = append(want, padded(fmt.Sprintf("m-%03d", i)))
					must(t, p, to("t", 0, want[i]), got.add)
					if i%10 == 9 {
						time.Sleep(3 * time.Millisecond)
					}
				}
				persistedAll(t, got.wait(t, len(want)))
				log := settledLog(t, cluster)
				if idempotent {
					expect(t, log, want)
					return
				}
				// Without numbers the lost answer's record may stand twice, side by side.
				expect(t, slices.Compact(log), want)
				if len(log) > len(want)+1 {
					t.Errorf("%d records for %d", len(log), len(want))
				}
			})
		}
	}
}

// TestMuseum2 is "possibly persisted" mishandled (librdkafka #3584, fixed by #4438):
// the client gave the next number after a timeout, and died of OUT_OF_ORDER.
func TestMuseum2(t *testing.T) {
	t.Parallel()
	for _, arrived := range []bool{false, true} {
		t.Run(fmt.Sprintf("museum 2: a batch in doubt times out (it arrived: %v), and the producer goes on", arrived), func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, oneEach(n.option(), troupe.WithRequestTimeout(100*time.Millisecond), troupe.WithDeliveryTimeout(400*time.Millisecond))...)
			warm(t, p, "t", 0)
			release := func() {}
			if !arrived {
				release = w.hold(t, anyRequest)
				w.refuseOnce(0, "doubt", notLeader, nil)
			}
			var doubt outcomes
			n.lose(1000)
			must(t, p, to("t", 0, padded("doubt")), doubt.add)
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) > 1 })
			n.setDown(true)
			d := doubt.wait(t, 1)[0]
			if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted {
				t.Errorf("%v: %v", d.Status, d.Err)
			}
			n.lose(0)
			n.setDown(false)
			release()
			for i := range 3 {
				if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, fmt.Sprint("next ", i))}); err != nil {
					t.Fatal(err)
				}
			}
			log := settledLog(t, cluster)
			want := []string{"warm", "next 0", "next 1", "next 2"}
			if arrived {
				want = slices.Insert(want, 1, padded("doubt"))
			}
			expect(t, log, want)
			if e := epochsOf(w.of("t", 0), "next 2"); e[len(e)-1] < 1 {
				t.Errorf("the next went out under the epochs %v", e)
			}
		})
	}
}

// TestMuseum3 is a retried batch that is cut anew (librdkafka #4736, fixed by
// #4750): the broker knows a repetition by its numbers, so it must be one.
func TestMuseum3(t *testing.T) {
	t.Parallel()
	for _, compression := range []troupe.Compression{troupe.CompressionNone, troupe.CompressionZstd} {
		t.Run(fmt.Sprintf("museum 3: a batch that is sent again is the same, byte for byte, compression %v", compression), func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n := watch(cluster), newNetwork()
			p := newProducer(t, cluster, fast(n.option(), troupe.WithLinger(2*time.Millisecond), troupe.WithBatchMaxBytes(3000))...)
			var got outcomes
			total := 0
			for round := range 12 {
				switch {
				case round%3 == 1:
					n.lose(1)
				case round%3 == 2:
					w.answerNext(1, "t", 0, notLeader)
				}
				list := make([]troupe.Message, 0, 7)
				for i := range 7 {
					list = append(list, msgs(0, fmt.Sprintf("%d/%d %s", round, i, strings.Repeat("text ", 20)))...)
				}
				done := make(chan error, 1)
				go func() {
					_, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: list, Compression: compression})
					done <- err
				}()
				for i := range 10 { // more comes while the batch waits for its retry
					must(t, p, to("t", 0, fmt.Sprintf("small %d/%d", round, i)), got.add)
					time.Sleep(time.Millisecond)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				total += 17
			}
			persistedAll(t, got.wait(t, 120))
			consumeAll(t, cluster, "t", total)
			type numbers struct {
				epoch    int16
				sequence int32
			}
			known := make(map[numbers]sent)
			again := 0
			for _, s := range w.of("t", 0) {
				k := numbers{s.batch.ProducerEpoch, s.batch.FirstSequence}
				if before, is := known[k]; is {
					again++
					if before.batch.CRC != s.batch.CRC || before.bytes != s.bytes || before.batch.NumRecords != s.batch.NumRecords {
						t.Errorf("sequence %d: %d records in %d bytes, then %d in %d", k.sequence, before.batch.NumRecords, before.bytes, s.batch.NumRecords, s.bytes)
					}
				}
				known[k] = s
			}
			if again < 6 {
				t.Errorf("%d batches were sent again", again)
			}
		})
	}
}

// TestMuseum4 is an epoch bump that duplicates on other partitions (librdkafka
// #4953): partition 0 is in doubt while partition 1 needs a new epoch.
func TestMuseum4(t *testing.T) {
	t.Parallel()
	t.Run("museum 4: the bump of one partition changes no number of another that is in doubt", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 2, map[string]int32{"t": 2})
		place(t, cluster, "t", 2, 2)
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, oneEach(n.option())...)
		zero, one := newNumberLog(0), newNumberLog(1)
		warm(t, p, "t", 0) // kfake takes these, the logs of the test all that follows
		warm(t, p, "t", 1)
		arrived, release := make(chan struct{}), make(chan struct{})
		var once, releasing sync.Once
		t.Cleanup(func() { releasing.Do(func() { close(release) }) })
		w.refuseOnce(1, "m-002", int16(protocol.OutOfOrderSequenceNumber), nil)
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if pr.node != 0 {
				return nil, nil, false
			}
			// The first goes into the log, and its answer waits until its connection
			// is gone; so do those that come after it.
			once.Do(func() {
				_, _, _ = zero.rule(pr)
				close(arrived)
			})
			cluster.SleepControl(func() { <-release })
			return zero.rule(pr)
		})
		w.add(one.rule)
		var inDoubt, other outcomes
		want := wave(t, p, 0, "k", 10, inDoubt.add)
		<-arrived
		n.setDown(true)
		n.setDown(false)
		want1 := wave(t, p, 1, "m", 10, other.add)
		persistedAll(t, other.wait(t, 10))
		if inDoubt.count() > 0 {
			t.Fatal("partition 0 is not in doubt")
		}
		releasing.Do(func() { close(release) })
		persistedAll(t, inDoubt.wait(t, 10))
		if log, refused := zero.read(); true {
			expect(t, log, want)
			if len(refused) > 0 {
				t.Errorf("partition 0 refused %v", refused)
			}
		}
		log, _ := one.read()
		expect(t, log, want1)
		for _, s := range w.of("t", 0) {
			if s.batch.ProducerEpoch != 0 {
				t.Errorf("%v of partition 0 went out under epoch %d", s.values, s.batch.ProducerEpoch)
			}
		}
		if e := epochsOf(w.of("t", 1), want1[2]); e[len(e)-1] != 1 {
			t.Errorf("the refused batch of partition 1 went out under the epochs %v", e)
		}
	})
}

// TestMuseum5 is a record that comes during a retry and loses its number (Sarama
// #3354).
func TestMuseum5(t *testing.T) {
	t.Parallel()
	t.Run("museum 5: what is buffered during a retry is numbered like everything else", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, oneEach()...)
		warm(t, p, "t", 0)
		w.answerNext(6, "t", 0, leaderNotAvailable)
		var got outcomes
		var want []string
		for i := range 100 {
			want = append(want, padded(fmt.Sprintf("m-%03d", i)))
			must(t, p, to("t", 0, want[i]), got.add)
			time.Sleep(time.Millisecond)
		}
		persistedAll(t, got.wait(t, len(want)))
		expect(t, values(consumeAll(t, cluster, "t", len(want)+1))[1:], want)
		sends := w.of("t", 0)
		assertSequences(t, sends)
		for _, s := range sends {
			if s.batch.ProducerID < 0 || s.batch.FirstSequence < 0 || s.batch.ProducerEpoch != 0 {
				t.Errorf("%v went out as %d/%d, sequence %d", s.values, s.batch.ProducerID, s.batch.ProducerEpoch, s.batch.FirstSequence)
			}
		}
	})
}

// TestMuseum6 is idempotent and yet twice (KAFKA-14034), and the first number that
// nobody checks (KAFKA-14359, KAFKA-15591).
func TestMuseum6(t *testing.T) {
	t.Parallel()

	t.Run("museum 6: UNKNOWN_SERVER_ERROR behind a batch in doubt: the doubt is settled under its old number", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, oneEach(n.option())...)
		warm(t, p, "t", 0)
		var got outcomes
		want := make([]string, 0, 40)
		for round := range 8 {
			w.refuseOnce(0, fmt.Sprintf("r%d-002", round), int16(protocol.UnknownServerError), nil)
			n.lose(1) // the first of the round arrives, its answer does not
			want = append(want, wave(t, p, 0, fmt.Sprint("r", round), 5, got.add)...)
			got.wait(t, len(want))
		}
		var kept []string
		for i, d := range got.wait(t, len(want)) {
			switch {
			case d.Err == nil:
				kept = append(kept, want[i/5*5+int(d.Tag)])
			case d.Status != troupe.PossiblyPersisted:
				t.Errorf("%s: %v", want[i], d.Err)
			}
		}
		log := settledLog(t, cluster)[1:]
		seen := make(map[string]bool)
		for _, v := range log {
			if seen[v] {
				t.Errorf("%s stands twice", v)
			}
			seen[v] = true
		}
		if !slices.IsSorted(log) {
			t.Errorf("out of order: %v", log)
		}
		for _, v := range kept {
			if !seen[v] {
				t.Errorf("%s is said to be persisted and is not", v)
			}
		}
		if len(kept) < 8 {
			t.Errorf("%d of %d were persisted", len(kept), len(want))
		}
		assertSequences(t, w.of("t", 0))
	})

	t.Run("museum 6: only one batch is on its way to a partition that has never answered", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		// The broker of a partition that was just created: it does not lead yet, then
		// it does, and takes any number as the first.
		w.refuseOnce(0, "m-000", notLeader, nil)
		p := newProducer(t, cluster, oneEach()...)
		var got outcomes
		want := wave(t, p, 0, "m", 30, got.add)
		persistedAll(t, got.wait(t, len(want)))
		expect(t, values(consumeAll(t, cluster, "t", len(want))), want)
		sends := w.of("t", 0)
		for i, s := range sends[:2] {
			if s.values[0] != want[0] {
				t.Errorf("request %d carries %v", i, s.values)
			}
		}
		assertSequences(t, sends)
	})
}

// TestMuseum8 is a timeout after which the producer goes on under the old epoch
// (franz-go #855, for EndTxn; there are no transactions here, and an option for
// them is refused by name, see TestPropertiesRefused).
func TestMuseum8(t *testing.T) {
	t.Parallel()
	t.Run("museum 8: a request that comes after its batch timed out is refused by its epoch", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w, n := watch(cluster), newNetwork()
		p := newProducer(t, cluster, oneEach(n.option(), troupe.WithRequestTimeout(100*time.Millisecond), troupe.WithDeliveryTimeout(300*time.Millisecond))...)
		broker := newNumberLog(0)
		late := make(chan *produced, 1)
		w.add(func(pr *produced) (kmsg.Response, error, bool) {
			if strings.HasPrefix(pr.batches[0].values[0], "late") {
				select {
				case late <- pr: // on its way, for longer than anybody waits
				default:
				}
				return nil, errors.New("the connection ends"), true
			}
			return broker.rule(pr)
		})
		warm(t, p, "t", 0)
		var got outcomes
		must(t, p, to("t", 0, padded("late")), got.add)
		if d := got.wait(t, 1)[0]; !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted {
			t.Errorf("%v: %v", d.Status, d.Err)
		}
		for _, v := range []string{"a", "b"} {
			if _, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, v)}); err != nil {
				t.Fatal(err)
			}
		}
		_, _, _ = broker.rule(<-late) // it arrives now
		log, refused := broker.read()
		expect(t, log, []string{"warm", "a", "b"})
		if len(refused) != 1 || !strings.Contains(refused[0], protocol.InvalidProducerEpoch.Info().Name) {
			t.Errorf("refused: %v", refused)
		}
	})
}

// TestMuseum9 is an UNKNOWN_SERVER_ERROR that is reported as a success (franz-go
// v1.21.4, for EndTxn).
func TestMuseum9(t *testing.T) {
	t.Parallel()
	for _, code := range []protocol.ErrorCode{protocol.UnknownServerError, 4242} {
		t.Run(fmt.Sprintf("museum 9: the answer %d is a failure in doubt, whatever its offset says", code), func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w := watch(cluster)
			p := newProducer(t, cluster, oneEach()...)
			warm(t, p, "t", 0)
			w.refuseOnce(0, "m-000", int16(code), func(r *kmsg.ProduceResponseTopicPartition) { r.BaseOffset = 1 })
			var got outcomes
			wave(t, p, 0, "m", 1, got.add)
			if d := got.wait(t, 1)[0]; !errors.Is(d.Err, code) || d.Status != troupe.PossiblyPersisted || d.Offset != -1 {
				t.Errorf("%v at offset %d: %v", d.Status, d.Offset, d.Err)
			}
			warm(t, p, "t", 0)
			expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"warm", "warm"})
		})
	}
}
