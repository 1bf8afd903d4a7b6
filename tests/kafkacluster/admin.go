package kafkacluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The methods of this file return errors instead of failing the test: who moves
// leaders while brokers die expects that a request comes to nothing now and then.

// Partition is what the cluster says of one partition.
type Partition struct {
	Number   int
	Leader   int // −1 while there is none
	Epoch    int // of the leader
	Replicas []int
	InSync   []int
}

// Partitions returns the partitions of a topic in order, each as the broker with
// the newest leader epoch knows it.
func (c *Cluster) Partitions(topic string) ([]Partition, error) {
	newest := map[int32]kmsg.MetadataResponseTopicPartition{}
	err := fmt.Errorf("partitions of %s: no broker runs", topic)
	for _, n := range c.serving() {
		var found []kmsg.MetadataResponseTopicPartition
		if found, err = n.partitions(topic); err != nil {
			continue
		}
		for _, p := range found {
			if known, is := newest[p.Partition]; !is || p.LeaderEpoch > known.LeaderEpoch {
				newest[p.Partition] = p
			}
		}
	}
	if len(newest) == 0 {
		return nil, err
	}
	list := make([]Partition, 0, len(newest))
	for number, p := range newest {
		list = append(list, Partition{int(number), int(p.Leader), int(p.LeaderEpoch), numbers(p.Replicas), numbers(p.ISR)})
	}
	slices.SortFunc(list, func(a, b Partition) int { return a.Number - b.Number })
	return list, nil
}

func numbers(ids []int32) []int {
	list := make([]int, len(ids))
	for i, id := range ids {
		list[i] = int(id)
	}
	return list
}

// ask makes a client for one request of an administrator, and ends it.
func (c *Cluster) ask(request func(context.Context, *kadm.Client) error) error {
	asker, err := client(c.internal())
	if err != nil {
		return err
	}
	defer asker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), adminTime)
	defer cancel()
	return request(ctx, kadm.NewClient(asker))
}

// Reassign gives partitions of a topic other replicas, the first of which is the
// preferred leader (AlterPartitionReassignments), and waits up to 30 seconds until
// they have them and all of these are in sync.
func (c *Cluster) Reassign(topic string, replicas map[int][]int) error {
	var request kadm.AlterPartitionAssignmentsReq
	for number, ids := range replicas {
		var brokers []int32
		for _, id := range ids {
			brokers = append(brokers, int32(id))
		}
		request.Assign(topic, int32(number), brokers)
	}
	err := c.ask(func(ctx context.Context, admin *kadm.Client) error {
		answer, err := admin.AlterPartitionAssignments(ctx, request)
		if err != nil {
			return err
		}
		return answer.Error()
	})
	if err != nil {
		return fmt.Errorf("reassign %s: %w", topic, err)
	}
	return poll(adminTime, func() error {
		found, err := c.Partitions(topic)
		if err != nil {
			return err
		}
		for _, p := range found {
			want, asked := replicas[p.Number]
			if asked && (!slices.Equal(p.Replicas, want) || len(p.InSync) != len(want)) {
				return fmt.Errorf("reassign %s-%d: replicas %v, in sync %v, want %v", topic, p.Number, p.Replicas, p.InSync, want)
			}
		}
		return nil
	})
}

// ElectPreferred makes the first replica of every partition its leader again
// (ElectLeaders, preferred: never an unclean one). Partitions that it leads
// already are left alone. It does not wait for the brokers to follow.
func (c *Cluster) ElectPreferred(topic string) error {
	found, err := c.Partitions(topic)
	if err != nil {
		return err
	}
	var which kadm.TopicsSet
	for _, p := range found {
		if p.Leader != p.Replicas[0] {
			which.Add(topic, int32(p.Number))
		}
	}
	if len(which) == 0 {
		return nil
	}
	return c.ask(func(ctx context.Context, admin *kadm.Client) error {
		results, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, which)
		if err != nil {
			return fmt.Errorf("elect leaders of %s: %w", topic, err)
		}
		for _, partitions := range results {
			for number, result := range partitions {
				if result.Err != nil {
					return fmt.Errorf("elect the leader of %s-%d: %w (%s)", topic, number, result.Err, result.ErrMessage)
				}
			}
		}
		return nil
	})
}

// AddPartitions makes a topic grow to a number of partitions and waits up to 30
// seconds until each has a leader.
func (c *Cluster) AddPartitions(topic string, total int) error {
	err := c.ask(func(ctx context.Context, admin *kadm.Client) error {
		answer, err := admin.UpdatePartitions(ctx, total, topic)
		if err != nil {
			return err
		}
		return answer.Error()
	})
	if err != nil {
		return fmt.Errorf("add partitions to %s: %w", topic, err)
	}
	return poll(adminTime, func() error {
		found, err := c.Partitions(topic)
		if err != nil {
			return err
		}
		led := 0
		for _, p := range found {
			if p.Leader > 0 {
				led++
			}
		}
		if led != total {
			return fmt.Errorf("%d of %d partitions of %s have a leader", led, total, topic)
		}
		return nil
	})
}

// EachRecord is ConsumeAll for logs that are too long to keep: it shows each
// record to visit, in the order of the offsets within a partition, and returns
// an error instead of failing the test.
func (c *Cluster) EachRecord(topic string, deadline time.Duration, visit func(*kgo.Record)) error {
	return c.each(topic, deadline, kgo.ReadUncommitted(), visit)
}
