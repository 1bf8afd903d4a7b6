package supervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/actors/broker"
	"github.com/troupe-kafka/troupe/internal/actortest"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

var errNobodyThere = errors.New("nobody there")

// street is a transport in memory: every address is away, or all of them answer
// ApiVersions.
type street struct {
	mu    sync.Mutex
	away  bool
	dials map[string]int
}

type house struct {
	events seams.ConnectionEvents
	closed sync.Once
}

func (s *street) Dial(address string, events seams.ConnectionEvents) seams.Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials[address]++
	h := &house{events: events}
	if s.away {
		go h.Close(errNobodyThere)
	} else {
		go events.Opened()
	}
	return h
}

func (h *house) Write(frame [][]byte, write seams.Write) {
	write.Written(nil, true)
	if frame[0][5] != byte(kmsg.ApiVersions) {
		return // takes its time
	}
	r := kmsg.NewPtrApiVersionsResponse()
	r.SetVersion(3)
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Metadata, kmsg.InitProducerID, kmsg.ApiVersions} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = int16(key), 3
		r.ApiKeys = append(r.ApiKeys, k)
	}
	go h.events.Received(r.AppendTo(slices.Clone(frame[0][8:12])))
}

func (h *house) Close(reason error) { h.closed.Do(func() { go h.events.Closed(reason) }) }

func (s *street) set(away bool) {
	s.mu.Lock()
	s.away = away
	s.mu.Unlock()
}

func (s *street) fewest() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	fewest := 1 << 30
	for _, n := range s.dials {
		fewest = min(fewest, n)
	}
	return fewest
}

// wish is a partition that wants a connection and has nothing to send.
type wish struct{}

func (*wish) Topic() string         { return "t" }
func (*wish) TopicID() [16]byte     { return [16]byte{1} }
func (*wish) Partition() int32      { return 0 }
func (*wish) Class() messages.Class { return messages.Class{Acks: messages.AcksAll} }
func (*wish) Take(messages.TakeRequest) (messages.Batch, messages.TakeStatus) {
	return nil, messages.TakeDone
}

// logbook keeps lines of the log.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := json.NewDecoder(bytes.NewReader(l.b.Bytes())); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestOneOutageLogsOneLine: three brokers that records wait for and three seeds
// that metadata was asked of are away for a while.
func TestOneOutageLogsOneLine(t *testing.T) {
	clock, log := actortest.NewClock(), &logbook{}
	transport := &street{away: true, dials: make(map[string]int)}
	queue := seams.NewRunQueue()
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	settings := &messages.Settings{
		Name: "test", Software: "troupe", RequestMaxBytes: 10_000, MaxInFlight: 2, RequestTimeout: 30 * time.Second, SlowRequest: 2 * time.Second, RequestTimeoutSlack: 10 * time.Second,
		ConnectionTimeout: 10 * time.Second, MetadataHedge: 2 * time.Second, ConnectionIdle: 9 * time.Minute, Clock: clock, Transport: transport, Dispatcher: queue, Log: zerolog.New(log).Level(zerolog.WarnLevel),
		Randomness: seams.SeededRandomness(1), Retry: messages.DefaultRetryPolicy(),
	}
	settings.Gate = settings.NewGate()
	root := system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	var brokers []*actor.PID
	for _, id := range []int32{1, 2, 3, messages.SeedID(0), messages.SeedID(1), messages.SeedID(2)} {
		name := broker.NodeName(id)
		pid := system.Root.Spawn(broker.Props(broker.Config{
			Settings: settings, Info: messages.BrokerInfo{ID: id, Address: name}, Root: root, Supervisor: NewReconnect(settings, name),
		}))
		brokers = append(brokers, pid)
		transport.dials[name] = 0
	}
	t.Cleanup(func() {
		for _, pid := range append(brokers, root) {
			_ = system.Root.StopFuture(pid).Wait()
		}
		system.Shutdown()
		queue.Close()
		queue.Wait()
	})
	until := func(what string, is func() bool) {
		t.Helper()
		for tries := 0; !is(); tries++ {
			if tries > 5000 {
				t.Fatalf("not within 5 s: %s; the log has %v", what, log.lines(t))
			}
			time.Sleep(time.Millisecond)
		}
	}
	for round := range 5 { // far less than a minute, which would be another line
		for _, pid := range brokers[:3] {
			system.Root.Send(pid, &messages.PartitionReady{Taker: &wish{}, Class: messages.Class{Acks: messages.AcksAll}})
		}
		until("another attempt at each", func() bool {
			for _, pid := range brokers[3:] {
				system.Root.Send(pid, &messages.ControlRequest{Request: kmsg.NewPtrMetadataRequest(), ReplyTo: root})
			}
			clock.Advance(10 * time.Millisecond)
			return transport.fewest() > round
		})
	}
	if lines := log.lines(t); len(lines) != 1 || lines[0]["message"] != "no connection; trying again" || lines[0]["error"] != "nobody there" {
		t.Fatalf("the log has %v", lines)
	}
	transport.set(false)
	until("the line with the count", func() bool {
		clock.Advance(10 * time.Millisecond)
		return len(log.lines(t)) > 1
	})
	last := log.lines(t)[1]
	names, _ := json.Marshal(last["brokers"])
	if last["message"] != "connected again" || string(names) != `["1","2","3","seed-0","seed-1","seed-2"]` || last["times"].(float64) < 6*4 {
		t.Errorf("the last line is %v", last)
	}
	settings.Gate.Close()
	if lines := log.lines(t); len(lines) != 2 {
		t.Errorf("the log has %v", lines)
	}
}
