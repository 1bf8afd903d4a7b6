package model

import (
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// TestCheck is the table of the rules for a producer's next batch, after batches
// of two records at 0, 2, 4, 6, 8 and 10 under epoch 3.
func TestCheck(t *testing.T) {
	var known producerTable
	for i := range int32(6) {
		known.add(7, 3, appended{first: 2 * i, last: 2*i + 1, base: int64(2 * i), end: int64(2*i + 2)})
	}
	for _, c := range []struct {
		name         string
		producer     int64
		epoch        int16
		sequence     int32
		n            int
		first        bool // the rule of 4.5, on a partition that is empty
		code         protocol.ErrorCode
		duplicateOf  int64
		notDuplicate bool
	}{
		{name: "next", producer: 7, epoch: 3, sequence: 12, n: 1, notDuplicate: true},
		{name: "gap", producer: 7, epoch: 3, sequence: 13, n: 1, code: protocol.OutOfOrderSequenceNumber},
		{name: "newest again", producer: 7, epoch: 3, sequence: 10, n: 2, duplicateOf: 10},
		{name: "fifth again", producer: 7, epoch: 3, sequence: 2, n: 2, duplicateOf: 2},
		{name: "sixth again", producer: 7, epoch: 3, sequence: 0, n: 2, code: protocol.OutOfOrderSequenceNumber},
		{name: "known start, shorter", producer: 7, epoch: 3, sequence: 10, n: 1, code: protocol.OutOfOrderSequenceNumber},
		{name: "known start, longer", producer: 7, epoch: 3, sequence: 10, n: 3, code: protocol.OutOfOrderSequenceNumber},
		{name: "over two known ones", producer: 7, epoch: 3, sequence: 8, n: 4, code: protocol.OutOfOrderSequenceNumber},
		{name: "older epoch", producer: 7, epoch: 2, sequence: 12, n: 1, code: protocol.InvalidProducerEpoch},
		{name: "older epoch, known range", producer: 7, epoch: 2, sequence: 10, n: 2, code: protocol.InvalidProducerEpoch},
		{name: "newer epoch at 0", producer: 7, epoch: 4, sequence: 0, n: 2, notDuplicate: true},
		{name: "newer epoch not at 0", producer: 7, epoch: 4, sequence: 12, n: 2, code: protocol.OutOfOrderSequenceNumber},
		{name: "newer epoch, known range", producer: 7, epoch: 4, sequence: 10, n: 2, code: protocol.OutOfOrderSequenceNumber},
		{name: "unknown producer, any sequence", producer: 8, epoch: 5, sequence: 99, n: 1, notDuplicate: true},
		{name: "unknown producer, 4.5", producer: 8, sequence: 99, n: 1, first: true, code: protocol.OutOfOrderSequenceNumber},
		{name: "unknown producer at 0, 4.5", producer: 8, n: 1, first: true, notDuplicate: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := batch(c.producer, c.epoch, c.sequence, c.n)
			duplicate, code := known.check(&b, c.first)
			switch {
			case code != c.code:
				t.Errorf("code %v, expected %v", code, c.code)
			case code == protocol.None && c.notDuplicate != (duplicate == nil):
				t.Errorf("duplicate: %+v", duplicate)
			case duplicate != nil && duplicate.base != c.duplicateOf:
				t.Errorf("duplicate of the batch at %d, expected %d", duplicate.base, c.duplicateOf)
			}
		})
	}
}

// TestSequencesWrap covers both ways over the end: between two batches, and
// inside one.
func TestSequencesWrap(t *testing.T) {
	const most = 1<<31 - 1
	b := newBench(t, Config{}, TopicConfig{}, 1)
	b.send(1, 1, batch(7, 0, most-1, 2), protocol.None, 0)
	b.send(1, 1, batch(7, 0, 1, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 2)
	b.send(1, 1, batch(8, 0, most, 3), protocol.None, 3)
	b.send(1, 1, batch(8, 0, most, 3), protocol.None, 3)
	b.send(1, 1, batch(8, 0, 2, 1), protocol.None, 6)
	if last := b.Log(orders, 1)[5]; last.Sequence != 1 {
		t.Errorf("the third record from the end of the sequences has number %d", last.Sequence)
	}
}

// TestRule45 is the only difference of 4.5: the partition must have been empty.
func TestRule45(t *testing.T) {
	b := newBench(t, Config{Version: V45}, TopicConfig{}, 1)
	b.send(1, 1, batch(7, 0, 5, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(7, 0, 0, 1), protocol.None, 0)
	b.send(1, 1, batch(8, 0, 5, 1), protocol.None, 1)
}

// TestAnswerFitsVersion looks at what older versions of Produce leave out.
func TestAnswerFitsVersion(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{Compacted: true}, 1)
	keyless := batch(7, 0, 0, 2)
	keyless.Records[1].Keyless = true
	for _, c := range []struct {
		version int16
		start   int64
		errors  int
		hint    int32
	}{{4, -1, 0, -1}, {5, 0, 0, -1}, {7, 0, 0, -1}, {8, 0, 1, -1}, {9, 0, 1, -1}, {10, 0, 1, 1}} {
		q := b.request(1, keyless)
		q.Version = c.version
		p := b.Produce(0, 1, q).Answer.Partitions[0]
		if p.Code != protocol.InvalidRecord || p.LogStartOffset != c.start || len(p.RecordErrors) != c.errors {
			t.Errorf("version %d: %+v", c.version, p)
		}
		if c.errors == 1 && p.RecordErrors[0].Index != 1 {
			t.Errorf("version %d blames record %d", c.version, p.RecordErrors[0].Index)
		}
		a := b.Produce(0, 2, q).Answer
		if p := a.Partitions[0]; p.Code != protocol.NotLeaderOrFollower || p.Leader != c.hint || (c.hint > 0) != (len(a.Nodes) == 1) {
			t.Errorf("version %d: hint %+v of %v", c.version, p, a.Nodes)
		}
	}
}

// TestValidate is the table of what the scripts leave out.
func TestValidate(t *testing.T) {
	const now = 1_800_000_000_000
	for _, c := range []struct {
		name   string
		config TopicConfig
		change func(*Batch)
		code   protocol.ErrorCode
		blamed int
	}{
		{"as it should be", TopicConfig{}, func(*Batch) {}, protocol.None, 0},
		{"a base offset", TopicConfig{}, func(b *Batch) { b.BaseOffset = 5 }, protocol.InvalidRecord, 0},
		{"too few announced", TopicConfig{}, func(b *Batch) { b.Miscount = -1 }, protocol.InvalidRecord, 0},
		{"too many announced", TopicConfig{}, func(b *Batch) { b.Miscount = 1 }, protocol.InvalidRecord, 0},
		{"no sequence", TopicConfig{}, func(b *Batch) { b.BaseSequence = -1 }, protocol.InvalidRecord, 0},
		{"no producer, no sequence", TopicConfig{}, func(b *Batch) { b.BaseSequence, b.ProducerID = -1, -1 }, protocol.None, 0},
		{"too late, then no key", TopicConfig{Compacted: true}, func(b *Batch) {
			b.Records[0].TimestampMillis, b.Records[2].Keyless = now+7_200_000, true
		}, protocol.InvalidTimestamp, 2},
		{"no key, then too late", TopicConfig{Compacted: true}, func(b *Batch) {
			b.Records[0].Keyless, b.Records[2].TimestampMillis = true, now+7_200_000
		}, protocol.InvalidTimestamp, 2},
		{"no limit ahead", TopicConfig{TimestampAfter: -1}, func(b *Batch) { b.Records[0].TimestampMillis = now + 7_200_000 }, protocol.None, 0},
		{"a limit back", TopicConfig{TimestampBefore: time.Hour}, func(b *Batch) { b.Records[1].TimestampMillis = now - 7_200_000 }, protocol.InvalidTimestamp, 1},
		{"exactly ahead", TopicConfig{}, func(b *Batch) { b.Records[1].TimestampMillis = now + 3_600_000 }, protocol.None, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Config{StartMillis: now}, c.config, 1)
			data := batch(7, 0, 0, 3)
			c.change(&data)
			p := b.Produce(0, 1, b.request(1, data)).Answer.Partitions[0]
			if p.Code != c.code || len(p.RecordErrors) != c.blamed {
				t.Errorf("%v, blamed %v", p.Code, p.RecordErrors)
			}
			if got := len(b.Log(orders, 1)); (got == 3) != (c.code == protocol.None) {
				t.Errorf("%d records in the log", got)
			}
		})
	}
}

// TestOneRequestManyPartitions: each partition has its own outcome, and the
// request is answered when the slowest is done.
func TestOneRequestManyPartitions(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{MinInSync: 2}, 1, 2)
	if code := b.Grow("orders", 3); code != protocol.None {
		t.Fatal(code)
	}
	b.Settle()
	if leader, _ := b.Leader(TopicPartition{"orders", 2}); leader == 1 {
		t.Fatal("broker 1 leads partition 2 as well")
	}
	q := b.request(-1, batch(7, 0, 0, 1), batch(7, 0, 0, 1), batch(7, 0, 0, 1))
	q.Partitions[1].Partition, q.Partitions[2].Partition = 9, 2
	o := b.Produce(0, 1, q)
	if o.Handle == 0 {
		t.Fatalf("%+v", o)
	}
	b.advance(time.Second)
	p := b.got[o.Handle].Partitions
	if p[0].Code != protocol.RequestTimedOut || p[0].BaseOffset != 0 {
		t.Errorf("partition 0: %+v", p[0])
	}
	if p[1].Code != protocol.UnknownTopicOrPartition || p[1].BaseOffset != -1 {
		t.Errorf("partition 9: %+v", p[1])
	}
	if p[2].Code != protocol.NotLeaderOrFollower || p[2].BaseOffset != -1 {
		t.Errorf("partition 2: %+v", p[2])
	}
}

// TestThrottle: answers carry the time a broker asks for, and no acks 0 does.
func TestThrottle(t *testing.T) {
	b := newBench(t, Config{}, TopicConfig{}, 1)
	b.Throttle(1, 300*time.Millisecond)
	if o := b.Produce(0, 1, b.request(1, batch(7, 0, 0, 1))); o.Answer.Throttle != 300*time.Millisecond {
		t.Errorf("throttle %v", o.Answer.Throttle)
	}
	b.Throttle(1, 0)
	if o := b.Produce(0, 1, b.request(1, batch(7, 0, 1, 1))); o.Answer.Throttle != 0 {
		t.Errorf("throttle %v", o.Answer.Throttle)
	}
}

// TestProducerIDs: blocks make ids jump between brokers, and a block on its way
// is waited for.
func TestProducerIDs(t *testing.T) {
	c := New(Config{Brokers: 2, ProducerIDBlock: 10, ProducerIDLatency: time.Second})
	early := func(now time.Duration, broker int32) {
		t.Helper()
		if _, _, code := c.InitProducerID(now, broker); code != protocol.CoordinatorLoadInProgress {
			t.Fatalf("broker %d, without a block: %v", broker, code)
		}
	}
	early(0, 1)
	early(0, 2)
	take := func(now time.Duration, broker int32, id int64) {
		t.Helper()
		got, epoch, code := c.InitProducerID(now, broker)
		if code != protocol.None || epoch != 0 || got != id {
			t.Fatalf("broker %d: %d, %d, %v, expected %d", broker, got, epoch, code, id)
		}
	}
	const second = time.Second
	for i := range int64(9) {
		take(second, 1, i)
		take(second, 2, 10+i)
	}
	// With the ninth, the next blocks were asked for.
	take(second+second/2, 1, 9)
	early(second+second/2, 1)
	take(2*second, 1, 20)
	take(2*second, 2, 19)
	take(2*second, 2, 30)
	// A broker that was started again, or that crashed, has thrown its block away.
	c.Stop(1)
	c.Restart(1)
	early(2*second, 1)
	take(3*second, 1, 40)
	c.Crash(2, LoseNothing)
	c.Restart(2)
	early(3*second, 2)
	take(4*second, 2, 50)
}

// TestExpiry: a producer is forgotten by the time of its last batch, which the
// client chose.
func TestExpiry(t *testing.T) {
	const start = 1_800_000_000_000
	b := newBench(t, Config{StartMillis: start, ProducerIDExpiration: time.Hour}, TopicConfig{}, 1)
	at := func(producer int64, d time.Duration) {
		data := batch(producer, 0, 0, 1)
		data.Records[0].TimestampMillis = start + d.Milliseconds()
		b.send(1, 1, data, protocol.None, int64(len(b.Log(orders, 1))))
	}
	at(1, 0)
	at(2, 30*time.Minute)
	at(3, -2*time.Hour) // is forgotten at once
	b.advance(time.Hour)
	b.Expire()
	b.send(1, 1, batch(1, 0, 9, 1), protocol.None, 3)
	b.send(1, 1, batch(2, 0, 9, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(3, 0, 9, 1), protocol.None, 4)

	// A snapshot brings nobody back whose time is up.
	b = newBench(t, Config{StartMillis: start, ProducerIDExpiration: time.Hour}, TopicConfig{}, 1)
	at(1, 0)
	at(2, -2*time.Hour)
	b.Stop(1)
	b.Restart(1)
	b.send(1, 1, batch(1, 0, 9, 1), protocol.OutOfOrderSequenceNumber, -1)
	b.send(1, 1, batch(2, 0, 9, 1), protocol.None, 2)
}

// TestMetadataIsBelief: a broker that has not heard answers what was.
func TestMetadataIsBelief(t *testing.T) {
	b := newBench(t, Config{AutoCreate: true}, TopicConfig{}, 1, 2)
	first := b.TopicID("orders")
	b.must(b.Elect(orders, 2, false))
	b.must(b.DeleteTopic("orders"))
	b.must(b.CreateAssigned("orders", [][]int32{{3}}, TopicConfig{}))
	told := func() TopicMetadata { return b.Metadata(1, []string{"orders"}, false).Topics[0] }
	if m := told(); m.ID != first || m.Partitions[0].Leader != 1 || m.Partitions[0].LeaderEpoch != 0 {
		t.Errorf("before: %+v", m)
	}
	if b.Behind(1) != 3 || b.Learn(1, 1) != 1 {
		t.Fatalf("behind by %d", b.Behind(1))
	}
	if m := told(); m.ID != first || m.Partitions[0].Leader != 2 || m.Partitions[0].LeaderEpoch != 1 {
		t.Errorf("after the election: %+v", m)
	}
	b.Learn(1, 1)
	if m := told(); m.Code != protocol.UnknownTopicOrPartition {
		t.Errorf("after the deletion: %+v", m)
	}
	b.Learn(1, 1)
	if m := told(); m.ID == first || m.Partitions[0].Leader != 3 || m.Partitions[0].LeaderEpoch != 0 {
		t.Errorf("after the second creation: %+v", m)
	}
	b.Crash(3, LoseNothing)
	b.Fence(3)
	b.Settle()
	if m := told(); m.Partitions[0].Code != protocol.LeaderNotAvailable || m.Partitions[0].Leader != -1 {
		t.Errorf("without a leader: %+v", m)
	}
	if m := b.Metadata(1, nil, false); len(m.Topics) != 1 || len(m.Brokers) != 2 {
		t.Errorf("of everything: %+v", m)
	}
	if m := b.Metadata(1, []string{"new"}, true); m.Topics[0].Code != protocol.UnknownTopicOrPartition {
		t.Errorf("an unknown topic: %+v", m)
	}
	b.Settle()
	if m := b.Metadata(1, []string{"new"}, false); m.Topics[0].Code != protocol.None || len(m.Topics[0].Partitions) != 1 {
		t.Errorf("after its creation: %+v", m)
	}
}
