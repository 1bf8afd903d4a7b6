// Outage shows what a producer does when Kafka is away. A caller sends a steady
// stream through a proxy; after a second the proxy cuts every connection and
// resets new ones for -outage. The buffer fills, TryProduce says so, Produce
// waits, and when Kafka is back everything goes out: nothing is lost, doubled or
// out of order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/examples/internal/ledger"
	"github.com/troupe-kafka/troupe/examples/internal/proxy"
)

const (
	topic   = "readings"
	records = 10_000
	rate    = 5_000 // a second
)

func main() {
	outage := flag.Duration("outage", 20*time.Second, "how long Kafka is away")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *outage+time.Minute)
	defer cancel()
	if err := run(ctx, *outage); err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, outage time.Duration) error {
	network := &proxy.Proxy{}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(6, topic), kfake.ListenFn(network.Listen))
	if err != nil {
		return err
	}
	defer cluster.Close()
	producer, err := troupe.New(troupe.WithBrokers(cluster.ListenAddrs()...),
		troupe.WithBufferBytes(2<<20), troupe.WithRecordMaxBytes(64<<10), // small, so that it fills up
		troupe.WithDeliveryTimeout(outage+2*time.Minute), // records wait at least as long as the outage lasts
		troupe.WithMaxBlock(outage+time.Minute),          // and so does a caller who finds no room
		troupe.WithLogger(zerolog.Nop()))                 // its warnings say that connections are lost, which is the point here
	if err != nil {
		return err
	}
	defer func() { _ = producer.Close(ctx) }()
	if err := producer.Connect(ctx); err != nil {
		return err
	}

	books := ledger.New(records)
	s := &stream{producer: producer, books: books, done: make(chan error, 1)}
	began := time.Now()
	go func() { s.done <- s.send(ctx) }()
	report := func(state string) {
		fmt.Printf("%5.1fs  kafka %-4s  acknowledged %5d  unanswered %5d  buffer %4d KiB\n",
			time.Since(began).Seconds(), state, books.Count(), producer.Unanswered(), producer.BufferedBytes()>>10)
	}

	time.Sleep(time.Second)
	report("up")
	network.SetDown(true)
	for end := time.Now().Add(outage); time.Now().Before(end); {
		time.Sleep(min(time.Until(end), max(outage/8, 250*time.Millisecond)))
		report("down")
	}
	network.SetDown(false)
	back := time.Now()
	if err := <-s.done; err != nil {
		return err
	}
	if err := producer.Flush(ctx); err != nil {
		return err
	}
	report("up")
	fmt.Printf("last acknowledgement %v after Kafka came back; buffer found full %d times, longest wait %v\n",
		time.Since(back).Round(time.Millisecond), s.full, s.longest.Round(time.Millisecond))
	if s.full == 0 && outage >= 5*time.Second {
		return errors.New("the buffer never filled up")
	}

	last := make(map[int32]int)
	inOrder := func(r *kgo.Record) error {
		var number int
		_, _ = fmt.Sscan(string(r.Value), &number)
		if before, ok := last[r.Partition]; ok && number <= before {
			return fmt.Errorf("partition %d: record %d stands behind %d", r.Partition, number, before)
		}
		last[r.Partition] = number
		return nil
	}
	if err := books.ReadBack(ctx, cluster.ListenAddrs(), inOrder, topic); err != nil {
		return err
	}
	fmt.Printf("ok: %d records are in the log once, in order, at the offsets they were acknowledged at\n", records)
	return nil
}

// stream is a caller with a steady flow of records.
type stream struct {
	producer *troupe.Producer
	books    *ledger.Ledger
	full     int
	longest  time.Duration
	done     chan error
}

func (s *stream) send(ctx context.Context) error {
	began := time.Now()
	payload := []troupe.Header{{Key: "payload", Value: make([]byte, 500)}}
	for i := range records {
		due := began.Add(time.Duration(i) * time.Second / rate)
		time.Sleep(time.Until(due))
		r := troupe.Record{Topic: topic, Key: ledger.Value(i % 100), Value: ledger.Value(i), Headers: payload, Tag: uint64(i)}
		err := s.producer.TryProduce(ctx, r, s.books.Delivered)
		if errors.Is(err, troupe.ErrBufferFull) {
			// No room: a caller that cannot drop the record waits for it here, and
			// so passes the pressure on to whoever feeds it.
			s.full++
			asked := time.Now()
			err = s.producer.Produce(ctx, r, s.books.Delivered)
			s.longest = max(s.longest, time.Since(asked))
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	return nil
}
