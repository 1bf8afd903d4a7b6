// Package ledger is how the examples check themselves: it writes down where each
// record was acknowledged, reads the log back with another library's consumer,
// and compares. A record is known by its number, which is its value.
package ledger

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe"
)

type place struct {
	topic     string
	partition int32
	offset    int64
}

// Ledger holds the acknowledgements of the records 0 to n−1.
type Ledger struct {
	mu           sync.Mutex
	places       []place
	acknowledged []bool
	twice        error
	failed       error
	count        atomic.Int64
}

// New returns a ledger of n records.
func New(n int) *Ledger {
	return &Ledger{places: make([]place, n), acknowledged: make([]bool, n)}
}

// Value is the value of record number.
func Value(number int) []byte { return []byte(strconv.Itoa(number)) }

// Delivered writes down the outcome of the record that its Tag numbers. It is a
// troupe.Callback.
func (l *Ledger) Delivered(d troupe.Delivery) {
	if d.Err != nil {
		l.mu.Lock()
		l.failed = d.Err
		l.mu.Unlock()
		return
	}
	l.Acknowledged(int(d.Tag), d.Topic, d.Partition, d.Offset)
}

// Acknowledged writes down that a record is said to be at an offset.
func (l *Ledger) Acknowledged(number int, topic string, partition int32, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acknowledged[number] {
		l.twice = fmt.Errorf("record %d was answered twice", number)
	}
	l.acknowledged[number], l.places[number] = true, place{topic, partition, offset}
	l.count.Add(1)
}

// Count is how many records were acknowledged so far.
func (l *Ledger) Count() int { return int(l.count.Load()) }

// Range counts the acknowledgements of the records from first up to end, and
// their partitions.
func (l *Ledger) Range(first, end int) (acknowledged, partitions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := make(map[place]bool)
	for i := first; i < end; i++ {
		if l.acknowledged[i] {
			acknowledged++
			used[place{topic: l.places[i].topic, partition: l.places[i].partition}] = true
		}
	}
	return acknowledged, len(used)
}

// ReadBack reads topics from their beginning and returns an error unless every
// record of the ledger was acknowledged once and stands in the log once, where
// it was said to be, and nothing else does. With visit, each record is also
// shown to it.
func (l *Ledger) ReadBack(ctx context.Context, brokers []string, visit func(*kgo.Record) error, topics ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.failed != nil:
		return l.failed
	case l.twice != nil:
		return l.twice
	case l.Count() != len(l.places):
		return fmt.Errorf("%d of %d records were acknowledged", l.Count(), len(l.places))
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer consumer.Close()
	seen := make([]bool, len(l.places))
	read := 0
	poll := func(ctx context.Context) (problem error) {
		consumer.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			number, err := strconv.Atoi(string(r.Value))
			switch at := (place{r.Topic, r.Partition, r.Offset}); {
			case problem != nil:
			case err != nil || number < 0 || number >= len(l.places):
				problem = fmt.Errorf("%v holds %q, which nobody sent", at, r.Value)
			case seen[number]:
				problem = fmt.Errorf("record %d stands twice, the second time at %v", number, at)
			case l.places[number] != at:
				problem = fmt.Errorf("record %d stands at %v and was acknowledged at %v", number, at, l.places[number])
			default:
				seen[number] = true
				read++
				if visit != nil {
					problem = visit(r)
				}
			}
		})
		return problem
	}
	for read < len(l.places) {
		if err := poll(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("only %d of %d records could be read back", read, len(l.places))
		}
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // is there more than was sent?
	defer cancel()
	return poll(short)
}

// CreateTopic makes a topic with one replica.
func CreateTopic(ctx context.Context, brokers []string, name string, partitions int32) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	request := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	request.Topics = append(request.Topics, t)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Topics[0].ErrorCode)
}
