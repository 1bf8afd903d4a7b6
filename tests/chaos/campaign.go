package chaos

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

const (
	brokerCount   = 3
	warmUp        = 2 * time.Second  // of load before the first fault
	coolDown      = 6 * time.Second  // of load after the last
	resolveWithin = 60 * time.Second // until every record has its outcome, once all is healed
	closeWithin   = 20 * time.Second
	readWithin    = 5 * time.Minute
	inSyncWithin  = 40 * time.Second // until a broker's fault counts as mended
	goroutinesEnd = 10 * time.Second
	heapLeft      = 24 << 20 // bytes that may be in use after Close beside the history
	mostLogBytes  = 4 << 20  // of the producers' log that is kept
)

// quickBrokers are the settings under which brokers notice a death in seconds, so
// that a minute has room for several. Only the times differ from what one would
// run: the promises asked for (three replicas, two in sync, no unclean election)
// are those of a careful installation.
var quickBrokers = map[string]string{
	"broker.heartbeat.interval.ms":          "300",
	"broker.session.timeout.ms":             "2000",  // Kafka's default is 9000
	"replica.lag.time.max.ms":               "3000",  // 30000
	"controller.quorum.election.timeout.ms": "500",   // 1000
	"controller.quorum.fetch.timeout.ms":    "1000",  // 2000
	"auto.leader.rebalance.enable":          "false", // leaders move when the plan says so
	"unclean.leader.election.enable":        "false",
	"auto.create.topics.enable":             "false",
	"default.replication.factor":            "3",
	"min.insync.replicas":                   "2",
}

// campaign is one run.
type campaign struct {
	t       *testing.T
	spoiled bool // one producer breaks promises, which the checker has to see
	seed    uint64
	length  time.Duration
	plan    plan
	kafka   *kafkacluster.Cluster
	proxies []*proxy // of broker 1, 2, 3
	load    *load
	log     keptLog
	heap    uint64 // in use before the producers were made

	mu     sync.Mutex
	faults []fault

	resolved time.Duration // how long it took once all was healed
	history  *history
}

// runCampaign does everything up to the history. What goes wrong with the cluster
// or the harness fails the test at once; what the producers do wrong is in the
// history.
func runCampaign(t *testing.T, seed uint64, length time.Duration, spoiled bool) *campaign {
	c := &campaign{t: t, spoiled: spoiled, seed: seed, length: length, plan: newPlan(seed, length)}
	c.startCluster()
	c.startLoad()
	c.harm()
	c.load.stop()
	var leftovers []violation
	leftovers = append(leftovers, c.resolve()...)
	leftovers = append(leftovers, c.close()...)
	c.collect(leftovers)
	return c
}

func (c *campaign) startCluster() {
	c.t.Cleanup(func() {
		for _, p := range c.proxies {
			p.stop()
		}
	})
	c.kafka = kafkacluster.Start(c.t, kafkacluster.Config{
		Brokers:    brokerCount,
		Properties: quickBrokers,
		Advertise: func(id int, address string) string {
			p, err := startProxy(id, address)
			if err != nil {
				c.t.Fatal(err)
			}
			c.proxies = append(c.proxies, p)
			return p.address()
		},
	})
	for number, partitions := range map[int]int{
		numberedTopic: numberedPartitions, weakTopic: weakPartitions, growingTopic: growingPartitions,
	} {
		c.kafka.CreateTopic(topics[number].Name, partitions, brokerCount, map[string]string{"min.insync.replicas": "2"})
	}
}

func (c *campaign) startLoad() {
	c.heap = heapInUse()
	log := zerolog.New(&c.log).Level(zerolog.InfoLevel).With().Timestamp().Logger()
	made, err := newLoad(c.kafka.Seeds(), c.seed, c.spoiled, log)
	c.load = made
	c.t.Cleanup(func() { // of a campaign that did not come to its end
		made.stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, p := range made.producers {
			_ = p.Close(ctx)
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for i, set := range newSettings(c.seed) {
		c.t.Logf("producer %s: %v", shapes[i].name, set)
	}
	made.start(c.seed)
}

// harm runs both tracks, heals everything, and goes on for a while.
func (c *campaign) harm() {
	pause(context.Background(), warmUp)
	if c.load.sent() == 0 {
		c.t.Fatal("nothing was sent before the first fault")
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.length)
	defer cancel()
	var network sync.WaitGroup
	network.Go(func() { c.networkTrack(ctx, c.plan.Network) })
	defer network.Wait() // also when a broker's fault fails the test
	defer cancel()
	c.brokerTrack(ctx, c.plan.Brokers)
	network.Wait()
	for _, p := range c.proxies {
		p.heal()
	}
	for _, t := range topics {
		c.kafka.AwaitInSync(t.Name)
	}
	c.notef("all healed")
	pause(context.Background(), coolDown)
}

// resolve waits for the outcome of every record.
func (c *campaign) resolve() (left []violation) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	var flushing sync.WaitGroup
	failed := make([]error, len(c.load.producers))
	for i, p := range c.load.producers {
		flushing.Go(func() { failed[i] = p.Flush(ctx) })
	}
	flushing.Wait()
	c.resolved = time.Since(began)
	for i, p := range c.load.producers {
		if failed[i] != nil || p.Unanswered() != 0 {
			left = append(left, violation{unresolved, fmt.Sprintf("%s: %d records have no outcome %v after everything was healed: %v",
				p.shape.name, p.Unanswered(), c.resolved, failed[i])})
		}
		if most := p.most.Load(); most > int64(p.buffer) {
			left = append(left, violation{unbounded, fmt.Sprintf("%s: %d bytes in its buffer, limit %d", p.shape.name, most, p.buffer)})
		}
		if used := p.BufferedBytes(); failed[i] == nil && used != 0 {
			left = append(left, violation{unbounded, fmt.Sprintf("%s: %d bytes in its buffer, and no record", p.shape.name, used)})
		}
	}
	return left
}

// close ends the producers and looks for what they leave behind.
func (c *campaign) close() (left []violation) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	for _, p := range c.load.producers {
		if err := p.Close(ctx); err != nil {
			left = append(left, violation{unresolved, fmt.Sprintf("%s: close: %v", p.shape.name, err)})
		}
	}
	for end := time.Now().Add(goroutinesEnd); ; time.Sleep(10 * time.Millisecond) {
		stacks := goroutinesOfTheRuntime()
		if len(stacks) == 0 {
			break
		}
		if time.Now().After(end) {
			for _, stack := range stacks {
				left = append(left, violation{leftGoroutines, stack})
			}
			break
		}
	}
	kept := uint64(0)
	for _, g := range c.load.lines {
		kept += uint64(cap(g.Records)) * uint64(unsafe.Sizeof(record{}))
	}
	if heap := heapInUse(); heap > c.heap+kept+heapLeft {
		left = append(left, violation{unbounded, fmt.Sprintf("%d MiB in use after Close, %d before, %d of them the history",
			heap>>20, c.heap>>20, kept>>20)})
	}
	return left
}

// heapInUse is what is reachable. Pools give up what they hold in the second run.
func heapInUse() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// goroutinesOfTheRuntime returns the stacks of goroutines that run the producer's
// or protoactor's code.
func goroutinesOfTheRuntime() (found []string) {
	buffer := make([]byte, 8<<20)
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		for frame := range strings.SplitSeq(stack, "\n") {
			ours := strings.HasPrefix(frame, "github.com/troupe-kafka/troupe") && !strings.HasPrefix(frame, "github.com/troupe-kafka/troupe/tests/")
			if ours || strings.HasPrefix(frame, "github.com/asynkron/protoactor-go/") {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}

// collect reads the logs and puts the history together.
func (c *campaign) collect(leftovers []violation) {
	h := &history{Seed: c.seed, Topics: topics, Reasons: c.load.reasons.list, Leftovers: leftovers}
	for _, g := range c.load.lines {
		h.Lines = append(h.Lines, g.line)
	}
	c.history = h
	for number, t := range topics {
		err := c.kafka.EachRecord(t.Name, readWithin, func(r *kgo.Record) {
			id, key, intact := parseRecord(r.Key, r.Value)
			h.Reads = append(h.Reads, read{uint8(number), r.Partition, r.Offset, id, key, intact})
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	var problems []error
	for _, p := range c.proxies {
		problems = append(problems, p.fault())
	}
	if err := errors.Join(problems...); err != nil {
		c.t.Error(err)
	}
}

// notef logs with the campaign's time.
func (c *campaign) notef(format string, args ...any) {
	c.t.Logf("%8.3f s  %s", c.load.now().Seconds(), fmt.Sprintf(format, args...))
}

// keptLog keeps the beginning of what the producers log.
type keptLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *keptLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len()+len(line) <= mostLogBytes {
		l.text.Write(line)
	}
	return len(line), nil
}

func (l *keptLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.text.String()), "\n")
}
