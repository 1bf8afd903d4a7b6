// Quickstart sends records in the ways that a Go program uses most, to a Kafka
// cluster that it starts in its own process (or to -brokers), reads everything
// back with another library's consumer, and prints a table. It exits with an
// error if one record is missing, doubled, or not where it was said to be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/examples/internal/ledger"
	"github.com/troupe-kafka/troupe/partitioners"
)

func main() {
	brokers := flag.String("brokers", "", "host:port[,host:port] of a running Kafka; without it a cluster starts in this process")
	records := flag.Int("records", 100_000, "how many records Produce sends")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, *brokers, max(*records, 0)); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, brokers string, many int) error {
	addresses := strings.Split(brokers, ",")
	if brokers == "" {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
		if err != nil {
			return err
		}
		defer cluster.Close()
		addresses = cluster.ListenAddrs()
	}
	// Names of this run only, so that what is read back is what was sent.
	prefix := fmt.Sprintf("quickstart-%d-", time.Now().UnixMilli())
	plain, custom, busy := prefix+"plain", prefix+"custom", prefix+"busy"
	batch := []string{prefix + "a", prefix + "b", prefix + "c"}
	partitions := map[string]int32{plain: 3, custom: 4, busy: 12, batch[0]: 3, batch[1]: 3, batch[2]: 3}
	for name, n := range partitions {
		if err := ledger.CreateTopic(ctx, addresses, name, n); err != nil {
			return err
		}
	}

	producer, err := troupe.New(troupe.WithBrokers(addresses...))
	if err != nil {
		return err
	}
	defer func() { _ = producer.Close(ctx) }()
	choosy, err := troupe.New(troupe.WithBrokers(addresses...), troupe.WithPartitioner(byLastByte))
	if err != nil {
		return err
	}
	defer func() { _ = choosy.Close(ctx) }()

	books := ledger.New(80 + many)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "step\trecords\tacknowledged\tpartitions\ttime\t")
	step := func(name string, first, end int, send func() error) error {
		began := time.Now()
		if err := send(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took := time.Since(began).Round(100 * time.Microsecond)
		acknowledged, partitions := books.Range(first, end)
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%v\t\n", name, end-first, acknowledged, partitions, took)
		return nil
	}

	// Optional: fail early if nobody answers.
	err = step("Connect", 0, 0, func() error { return producer.Connect(ctx) })
	if err != nil {
		return err
	}
	// Send waits for the outcome of some messages of one topic.
	err = step("Send", 0, 10, func() error {
		results, err := producer.Send(ctx, troupe.Send{Topic: plain, Messages: messages(0, 10)})
		note(books, results, map[string]int{plain: 0})
		return err
	})
	if err != nil {
		return err
	}
	// SendBatch does the same for several topics at once.
	err = step("SendBatch, 3 topics", 10, 40, func() error {
		results, err := producer.SendBatch(ctx, troupe.SendBatch{TopicMessages: []troupe.TopicMessages{
			{Topic: batch[0], Messages: messages(10, 10)},
			{Topic: batch[1], Messages: messages(20, 10)},
			{Topic: batch[2], Messages: messages(30, 10)},
		}})
		note(books, results, map[string]int{batch[0]: 10, batch[1]: 20, batch[2]: 30})
		return err
	})
	if err != nil {
		return err
	}
	// A partitioner of our own uses the first and the last partition only.
	err = step("custom partitioner", 40, 80, func() error {
		results, err := choosy.Send(ctx, troupe.Send{Topic: custom, Messages: messages(40, 40)})
		note(books, results, map[string]int{custom: 40})
		return err
	})
	if err != nil {
		return err
	}
	// Produce returns at once. One callback serves all records; tags tell them
	// apart. Flush waits for the outcomes.
	err = step("Produce", 80, 80+many, func() error {
		for i := 80; i < 80+many; i++ {
			r := troupe.Record{Topic: busy, Key: ledger.Value(i % 1000), Value: ledger.Value(i), Tag: uint64(i)}
			if err := producer.Produce(ctx, r, books.Delivered); err != nil {
				return err
			}
		}
		return producer.Flush(ctx)
	})
	if err != nil {
		return err
	}

	began := time.Now()
	if err := books.ReadBack(ctx, addresses, nil, plain, batch[0], batch[1], batch[2], custom, busy); err != nil {
		return err
	}
	fmt.Fprintf(table, "read back\t%d\t\t\t%v\t\n", 80+many, time.Since(began).Round(100*time.Microsecond))
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Println("ok: every record is in the log once, at the offset it was acknowledged at")
	return nil
}

// byLastByte sends even keys to the first partition and odd ones to the last.
func byLastByte(partitioners.Random) partitioners.Partitioner {
	return partitioners.Func(func(in *partitioners.Input) int32 {
		if key := in.Message.Key; key[len(key)-1]%2 == 0 {
			return 0
		}
		return int32(len(in.Partitions) - 1)
	})
}

// messages makes count messages whose keys and values are their numbers.
func messages(first, count int) []troupe.Message {
	list := make([]troupe.Message, count)
	for i := range list {
		list[i] = troupe.Message{Key: ledger.Value(first + i), Value: ledger.Value(first + i)}
	}
	return list
}

// note writes down where the messages of a Send were acknowledged. first is the
// number of each topic's first message.
func note(books *ledger.Ledger, results []troupe.RecordMetadata, first map[string]int) {
	for _, r := range results {
		for _, m := range r.Messages {
			if m.Err == nil {
				books.Acknowledged(first[r.Topic]+m.Index, r.Topic, r.Partition, m.Offset)
			}
		}
	}
}
