package kafkacluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	askTime   = 2 * time.Second  // for one question to one broker
	adminTime = 30 * time.Second // for one thing asked of the cluster, with failover in between
	pollEvery = 25 * time.Millisecond
)

// client returns a franz-go client on the internal listener. It is used for one
// question and closed, so that no goroutine of ours outlives a call.
func client(addresses []string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addresses...),
		kgo.DialTimeout(askTime),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.RetryTimeout(adminTime),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, options...)...)
}

// serving returns the nodes that can answer.
func (c *core) serving() []*node {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return !n.serving() })
}

// internal returns the addresses of all brokers, those that can answer first.
func (c *core) internal() []string {
	var up, down []string
	for _, n := range c.nodes {
		if n.serving() {
			up = append(up, n.address[internalListener])
		} else {
			down = append(down, n.address[internalListener])
		}
	}
	return append(up, down...)
}

// metadata asks one broker what it knows of the cluster and of one topic, or of
// every topic if it is empty.
func (n *node) metadata(topic string) (*kmsg.MetadataResponse, error) {
	asker, err := client([]string{n.address[internalListener]})
	if err != nil {
		return nil, err
	}
	defer asker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	request := kmsg.NewPtrMetadataRequest()
	if topic != "" {
		named := kmsg.NewMetadataRequestTopic()
		named.Topic = kmsg.StringPtr(topic)
		request.Topics = append(request.Topics, named)
	}
	response, err := asker.SeedBrokers()[0].Request(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("metadata of broker %d: %w", n.id, err)
	}
	return response.(*kmsg.MetadataResponse), nil
}

// allServe says whether each broker that can answer lists all that can.
func (c *core) allServe() error {
	up := c.serving()
	for _, n := range up {
		told, err := n.metadata("")
		if err != nil {
			return err
		}
		if told.ControllerID < 0 {
			return fmt.Errorf("broker %d knows no controller", n.id)
		}
		for _, other := range up {
			if !slices.ContainsFunc(told.Brokers, func(b kmsg.MetadataResponseBroker) bool {
				return int(b.NodeID) == other.id
			}) {
				return fmt.Errorf("broker %d does not list broker %d", n.id, other.id)
			}
		}
	}
	return nil
}

// poll repeats a question until its answer is nil.
func poll(within time.Duration, ask func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pollEvery)
	}
}

// CreateTopic creates a topic and waits until every broker that can answer knows
// a leader for each partition. rf is the replication factor; configs are the
// topic's, for example min.insync.replicas, and may be nil.
func (c *Cluster) CreateTopic(name string, partitions, rf int, configs map[string]string) {
	if c.tb != nil {
		c.tb.Helper()
	}
	c.check(c.createTopic(name, partitions, rf, configs))
}

func (c *core) createTopic(name string, partitions, rf int, configs map[string]string) error {
	asker, err := client(c.internal())
	if err != nil {
		return err
	}
	defer asker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), adminTime)
	defer cancel()
	values := map[string]*string{}
	for key, value := range configs {
		values[key] = kmsg.StringPtr(value)
	}
	_, err = kadm.NewClient(asker).CreateTopic(ctx, int32(partitions), int16(rf), values, name)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return poll(adminTime, func() error {
		for _, n := range c.serving() {
			found, err := n.partitions(name)
			if err != nil {
				return err
			}
			if len(found) != partitions {
				return fmt.Errorf("broker %d knows %d of %d partitions of %s", n.id, len(found), partitions, name)
			}
			for _, p := range found {
				if p.Leader < 0 {
					return fmt.Errorf("broker %d knows no leader of %s-%d", n.id, name, p.Partition)
				}
			}
		}
		return nil
	})
}

// partitions asks one broker about one topic.
func (n *node) partitions(topic string) ([]kmsg.MetadataResponseTopicPartition, error) {
	told, err := n.metadata(topic)
	if err != nil {
		return nil, err
	}
	for _, each := range told.Topics {
		if each.Topic != nil && *each.Topic == topic {
			return each.Partitions, kerr.ErrorForCode(each.ErrorCode)
		}
	}
	return nil, fmt.Errorf("broker %d does not know topic %s", n.id, topic)
}

// partition asks every broker that can answer and believes the newest epoch.
func (c *core) partition(topic string, number int) (kmsg.MetadataResponseTopicPartition, error) {
	var newest kmsg.MetadataResponseTopicPartition
	known := false
	err := errors.New("no broker runs")
	for _, n := range c.serving() {
		var found []kmsg.MetadataResponseTopicPartition
		if found, err = n.partitions(topic); err != nil {
			continue
		}
		for _, p := range found {
			if int(p.Partition) == number && (!known || p.LeaderEpoch > newest.LeaderEpoch) {
				newest, known = p, true
			}
		}
	}
	switch {
	case known:
		return newest, nil
	case err != nil:
		return newest, err
	default:
		return newest, fmt.Errorf("no partition %s-%d", topic, number)
	}
}

// LeaderOf returns the id of the broker that leads a partition. Right after the
// death of a leader it waits for the next one, up to 30 seconds; a paused broker
// stays leader until the others have noticed.
func (c *Cluster) LeaderOf(topic string, partition int) int {
	if c.tb != nil {
		c.tb.Helper()
	}
	leader, err := c.leaderOf(topic, partition)
	c.check(err)
	return leader
}

func (c *core) leaderOf(topic string, partition int) (leader int, err error) {
	err = poll(adminTime, func() error {
		found, err := c.partition(topic, partition)
		if err != nil {
			return err
		}
		leader = int(found.Leader)
		n, err := c.node(leader)
		if err != nil || !n.running() {
			return fmt.Errorf("%s-%d has no leader that runs", topic, partition)
		}
		return nil
	})
	return leader, err
}

// AwaitInSync waits up to a minute until all replicas of every partition of a
// topic are in sync.
func (c *Cluster) AwaitInSync(topic string) {
	if c.tb != nil {
		c.tb.Helper()
	}
	c.check(poll(time.Minute, func() error {
		for _, n := range c.serving() {
			found, err := n.partitions(topic)
			if err != nil {
				return err
			}
			for _, p := range found {
				if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
					return fmt.Errorf("%s-%d: leader %d, in sync %v of %v", topic, p.Partition, p.Leader, p.ISR, p.Replicas)
				}
			}
		}
		return nil
	}))
}

// ConsumeAll reads a topic with franz-go: every partition, from its start to the
// end it has at the time of the call, records of open and aborted transactions
// included. The records are ordered by partition and offset. Not having read all
// of them by the deadline fails the test.
func (c *Cluster) ConsumeAll(topic string, deadline time.Duration) []*kgo.Record {
	if c.tb != nil {
		c.tb.Helper()
	}
	records, err := c.consume(topic, deadline, kgo.ReadUncommitted())
	c.check(err)
	return records
}

// ConsumeCommitted is ConsumeAll as a consumer with isolation level
// read_committed sees it: up to the last stable offset, without aborted records.
func (c *Cluster) ConsumeCommitted(topic string, deadline time.Duration) []*kgo.Record {
	if c.tb != nil {
		c.tb.Helper()
	}
	records, err := c.consume(topic, deadline, kgo.ReadCommitted())
	c.check(err)
	return records
}

func (c *core) consume(topic string, within time.Duration, level kgo.IsolationLevel) ([]*kgo.Record, error) {
	var records []*kgo.Record
	err := c.each(topic, within, level, func(r *kgo.Record) { records = append(records, r) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records, nil
}

// each shows every record of a topic to visit, from the start of each partition
// to the end it has now.
func (c *core) each(topic string, within time.Duration, level kgo.IsolationLevel, visit func(*kgo.Record)) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	starts, ends, err := c.offsets(ctx, topic, level == kgo.ReadCommitted())
	if err != nil {
		return fmt.Errorf("consume %s: %w", topic, err)
	}
	from := map[int32]kgo.Offset{}
	for partition, end := range ends { // keep those that have something to read
		if starts[partition] < end {
			from[partition] = kgo.NewOffset().At(starts[partition])
		} else {
			delete(ends, partition)
		}
	}
	if len(from) == 0 {
		return nil
	}
	consumer, err := client(c.internal(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(level),
		kgo.KeepControlRecords(), // they are no records, but they move the position
		kgo.FetchMaxWait(200*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer consumer.Close()

	read := 0
	for len(ends) > 0 {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("consume %s: after %v and %d records, these partitions are not read to their ends: %v",
				topic, within, read, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, reading := ends[r.Partition]
			if !reading || r.Offset >= end { // written after the call
				return
			}
			if !r.Attrs.IsControl() {
				read++
				visit(r)
			}
			if r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
		})
	}
	return nil
}

// offsets returns where each partition starts and ends, once all can be told.
func (c *core) offsets(ctx context.Context, topic string, committed bool) (starts, ends map[int32]int64, err error) {
	asker, err := client(c.internal())
	if err != nil {
		return nil, nil, err
	}
	defer asker.Close()
	admin := kadm.NewClient(asker)
	list := admin.ListEndOffsets
	if committed {
		list = admin.ListCommittedOffsets
	}
	for {
		if starts, err = listed(admin.ListStartOffsets(ctx, topic)); err == nil {
			ends, err = listed(list(ctx, topic))
		}
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) {
			return starts, ends, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-time.After(100 * time.Millisecond): // a leader is missing or moving
		}
	}
}

func listed(answer kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err = cmp.Or(err, answer.Error()); err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	answer.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = o.Offset })
	return offsets, nil
}
