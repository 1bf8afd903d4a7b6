// Command driver puts a load on a cluster with one client and prints what it
// cost as one JSON line.
//
//	driver -client franz -addr 127.0.0.1:9092 -records 2000000 -size 100
//
// Without -rate it produces as fast as it is let (flat out). With -rate it is an
// open loop: each record has a time at which it should be sent, which does not
// move when the client is slow, and its latency counts from that time to its
// callback. -mode chooses other kinds of work.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// Settings and Report are what compare knows, too.
type (
	Settings = figure.Settings
	Report   = figure.Report
)

// A client is a producer under test.
type client interface {
	// produce sends w's next n records. Each is told to the tally once. at is
	// when they should have been sent, which the tally is told, too; 0 when
	// running flat out.
	produce(ctx context.Context, w *worker, n int, at time.Duration) error
	// flush returns when all records are told.
	flush(ctx context.Context) error
	close(ctx context.Context) error
	// settings tells what the client was configured with, as name = value.
	settings() []string
}

// A caller can also send and wait.
type caller interface {
	client
	// call sends w's next n records in one call, and returns when all are told.
	call(ctx context.Context, w *worker, n int) error
}

// A placer can choose the partition of a record by hand.
type placer interface {
	client
	// place sends one record; its outcome counts for partition 0 of the tally.
	place(ctx context.Context, topic string, partition int32, value []byte) error
}

// A kind is one client that the driver knows.
type kind struct {
	create func(context.Context, Settings, *tally) (client, error)
	module string // whose version is the client's; "" for none
	about  string
}

const (
	franzModule   = "github.com/twmb/franz-go"
	saramaModule  = "github.com/IBM/sarama"
	segmentModule = "github.com/segmentio/kafka-go"
	confluentMod  = "github.com/confluentinc/confluent-kafka-go/v2"
)

var clients = map[string]kind{
	"troupe":        {newTroupe, "", "Troupe"},
	"troupe-actor":  {newTroupeActor, "", "Troupe by messages.Produce from actors"},
	"troupe-shared": {newTroupeShared, "", "Troupe in an actor system that is there already"},
	"franz":         {newFranz, franzModule, "twmb/franz-go"},
	"franz-pool":    {newFranzPool, franzModule, "franz-go, its Records from a sync.Pool"},
	"sarama":        {newSarama, saramaModule, "IBM/sarama"},
	"kafka-go":      {newSegment, segmentModule, "segmentio/kafka-go"},
	"confluent":     {newConfluent, confluentMod, "confluent-kafka-go, librdkafka"},
	"floor":         {newFloor, "", "encodes, sums and writes: the least that sends the same bytes"},
	"duties":        {newDuties, "", "floor with a producer's duties, but no actors"},
	"generator":     {newGenerator, "", "sends nothing: what the driver itself costs"},
}

// options are -option name=value, repeated.
type options map[string]string

func (o options) String() string { return "" }

func (o options) Set(pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not name=value", pair)
	}
	o[name] = value
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("driver: ")
	var names []string
	for name, k := range clients {
		names = append(names, name+" ("+k.about+")")
	}
	slices.Sort(names)
	s := Settings{Options: options{}}
	flag.StringVar(&s.Client, "client", "troupe", strings.Join(names, ", "))
	flag.StringVar(&s.Address, "addr", "127.0.0.1:9092", "address of a broker")
	flag.StringVar(&s.Topic, "topic", "bench", "topic")
	flag.IntVar(&s.Partitions, "partitions", 12, "partitions that the topic has")
	flag.IntVar(&s.Records, "records", 1_000_000, "records in the measured part; starts with -mode start; -mode idle sends one per partition")
	flag.IntVar(&s.Warmup, "warmup", 100_000, "records before the measured part")
	flag.IntVar(&s.Size, "size", 100, "bytes of a value")
	flag.IntVar(&s.Goroutines, "goroutines", 1, "producing goroutines; floor and duties always use one")
	flag.BoolVar(&s.Keyed, "keyed", false, "give records keys: 4096 different ones of 16 bytes")
	flag.StringVar(&s.Codec, "codec", "none", "none, gzip, snappy, lz4 or zstd; values are text unless it is none")
	flag.StringVar(&s.Acks, "acks", "all", "all, with idempotence where the client has it, or 1")
	flag.DurationVar(&s.Linger, "linger", 5*time.Millisecond, "linger")
	flag.Float64Var(&s.Rate, "rate", 0, "records per second of all goroutines together, open loop; 0 is flat out")
	flag.StringVar(&s.Mode, "mode", figure.ModeStream, "stream, call (send and wait), idle (memory of idle partitions) or start (first acknowledgement)")
	flag.IntVar(&s.Call, "call", 1, "records in one call, with -mode call")
	flag.StringVar(&s.TLS, "tls", "", "speak TLS and trust the certificates in this file; troupe and franz only")
	flag.Var(options(s.Options), "option", "an option of the client's own as name=value; may be repeated")
	timeout := flag.Duration("timeout", 2*time.Minute, "give up after this time")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the measured part to this file")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	// A client that ignores its context must not hang the benchmark.
	time.AfterFunc(*timeout+10*time.Second, func() { log.Fatal("timed out") })
	r, err := run(ctx, s, *profile)
	if err != nil {
		log.Fatalf("%s: %v", s.Client, err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func validate(s Settings) error {
	if clients[s.Client].create == nil {
		return fmt.Errorf("-client %q is unknown", s.Client)
	}
	if !slices.Contains(strings.Fields("none gzip snappy lz4 zstd"), s.Codec) {
		return fmt.Errorf("-codec %q is unknown", s.Codec)
	}
	if s.TLS != "" && s.Client != "troupe" && s.Client != "franz" {
		return fmt.Errorf("-client %s does not take -tls", s.Client)
	}
	if s.Acks != "all" && s.Acks != "1" {
		return fmt.Errorf("-acks %q is neither all nor 1", s.Acks)
	}
	if !slices.Contains([]string{figure.ModeStream, figure.ModeCall, figure.ModeIdle, figure.ModeStart}, s.Mode) {
		return fmt.Errorf("-mode %q is unknown", s.Mode)
	}
	if s.Mode != figure.ModeStream && s.Rate > 0 {
		return errors.New("-rate needs -mode stream")
	}
	if s.Size < 0 || s.Size > 1<<20 {
		return errors.New("-size must be within 0 and 1 MiB")
	}
	if s.Records < 1 || s.Warmup < 0 || s.Goroutines < 1 || s.Partitions < 1 || s.Rate < 0 || s.Call < 1 {
		return errors.New("-records, -goroutines, -partitions and -call must be positive, -warmup and -rate not negative")
	}
	return nil
}
