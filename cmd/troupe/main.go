// Troupe sends lines of its input to a Kafka topic, or records that it makes up, and says
// at the end what became of them. It is for a first look at a cluster, for trying out a
// client's properties, and for load.
//
//	troupe -brokers localhost:9092 -topic greetings < lines
//	troupe -properties client.properties -topic greetings -key-separator : < lines
//	troupe -brokers localhost:9092 -topic load -generate 1000000 -size 1000 -rate 50000
//
// It exits with 0 if all of it was acknowledged, with 1 if not, which is so too if it
// was interrupted or could not read to the end, and with 2 if it could not begin. The
// first interrupt ends the reading; the second does not wait for outcomes.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/troupe-kafka/troupe"
)

// job is what to do.
type job struct {
	topic     string
	brokers   string
	file      string            // of properties
	named     map[string]string // properties of the command line
	separator string
	generate  int
	size      int
	rate      float64
	every     time.Duration
	wait      time.Duration
}

func main() {
	j := job{named: make(map[string]string)}
	flag.StringVar(&j.topic, "topic", "", "the topic; required")
	flag.StringVar(&j.brokers, "brokers", "", "host:port[,host:port], instead of the properties' bootstrap.servers")
	flag.StringVar(&j.file, "properties", "", "a .properties file with Kafka's names")
	flag.Func("X", "a property as name=value; may be repeated, and overrules the file", func(v string) error {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("expected name=value")
		}
		j.named[name] = value
		return nil
	})
	flag.StringVar(&j.separator, "key-separator", "", "what stands between key and value of a line; empty: lines have no key")
	flag.IntVar(&j.generate, "generate", 0, "send so many records of random bytes instead of the input")
	flag.IntVar(&j.size, "size", 100, "bytes of the value of a record that is made up")
	flag.Float64Var(&j.rate, "rate", 0, "records per second at the most; 0: as fast as it goes")
	flag.DurationVar(&j.every, "stats", 0, "say at this interval what has been done")
	flag.DurationVar(&j.wait, "wait", 2*time.Minute, "how long to wait for outcomes at the end, or after an interrupt")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "troupe: %q is no option\n", flag.Arg(0))
		os.Exit(exitNotBegun)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second one does not wait for outcomes
	code := j.run(ctx, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitAll = iota
	exitNotAll
	exitNotBegun
)

// producer is made with the file's properties, overruled by those of the command line.
func (j *job) producer() (*troupe.Producer, *troupe.Topic, error) {
	if j.topic == "" || j.generate < 0 || j.size < 0 || !(j.rate >= 0) {
		return nil, nil, errors.New("expected -topic, and numbers that are not negative")
	}
	properties := make(map[string]string)
	if j.file != "" {
		f, err := os.Open(j.file)
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = f.Close() }()
		if properties, err = troupe.ParseProperties(f); err != nil {
			return nil, nil, err
		}
	}
	maps.Copy(properties, j.named)
	if j.brokers != "" {
		properties["bootstrap.servers"] = j.brokers
	}
	options, err := troupe.Properties(properties)
	if err != nil {
		return nil, nil, err
	}
	p, err := troupe.New(options...)
	if err != nil {
		return nil, nil, err
	}
	topic, err := p.Topic(j.topic)
	if err != nil {
		return nil, nil, errors.Join(err, p.Close(context.Background()))
	}
	return p, topic, nil
}

// run sends everything and says what became of it. It returns the exit code.
func (j *job) run(ctx context.Context, in io.Reader, out, complaints io.Writer) int {
	say := log.New(complaints, "troupe: ", 0)
	p, topic, err := j.producer()
	if err != nil {
		say.Print(strings.TrimPrefix(err.Error(), "troupe: "))
		return exitNotBegun
	}
	s := &sender{topic: topic, say: say, turn: make(chan struct{}, 1)}
	began := time.Now()
	told := make(chan struct{})
	over := make(chan struct{})
	go func() { defer close(told); j.report(p, s, began, over) }()
	read := make(chan error, 1)
	go func() { read <- j.each(ctx, in, s.send) }()
	code := exitAll
	select {
	case err = <-read:
	case <-ctx.Done(): // a terminal may not end the read of its next line
	}
	switch {
	case ctx.Err() != nil:
		say.Print("interrupted")
		code = exitNotAll
	case err != nil:
		say.Print(err)
		code = exitNotAll
	}
	end, cancel := context.WithTimeout(context.Background(), j.wait)
	defer cancel()
	s.end(end)
	if err := p.Close(end); err != nil {
		say.Print(err)
		code = exitNotAll
	}
	close(over)
	<-told
	s.end(context.Background()) // Close lets go of what waits for room
	stats := p.Stats()
	_, _ = fmt.Fprintln(out, summary(stats, s.refused.Load(), time.Since(began)))
	if s.refused.Load()+stats.RecordsNotPersisted+stats.RecordsPossiblyPersisted > 0 {
		code = exitNotAll
	}
	return code
}

// sender sends one record after the other until it is ended.
type sender struct {
	topic   *troupe.Topic
	say     *log.Logger
	turn    chan struct{} // has room while nobody sends
	ended   bool          // by whoever has the turn
	refused atomic.Uint64
	failed  atomic.Uint64
}

func (s *sender) send(key, value []byte) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.ended {
		return
	}
	// Not the context of the read: what has been read has its time after an interrupt.
	if err := s.topic.Produce(context.Background(), troupe.Record{Key: key, Value: value}, s.delivered); err != nil {
		s.refused.Add(1)
		s.complain(err)
	}
}

func (s *sender) delivered(d troupe.Delivery) {
	if d.Err != nil {
		s.complain(d.Err)
	}
}

// end waits for the record that is being sent, or for the context. There is none after it.
func (s *sender) end(ctx context.Context) {
	select {
	case s.turn <- struct{}{}:
		s.ended = true
		<-s.turn
	case <-ctx.Done():
	}
}

func (s *sender) complain(err error) {
	switch n := s.failed.Add(1); {
	case n <= mostErrors:
		s.say.Print(err)
	case n == mostErrors+1:
		s.say.Print("further errors are only counted")
	}
}

// mostErrors is how many errors are told one by one.
const mostErrors = 10

// longestLine is the largest line of the input, in bytes and without its end: a record
// may be no larger by default.
const longestLine = 1 << 20

// mostLate is by how much the schedule of -rate may be behind to be caught up with.
const mostLate = 10 * time.Millisecond

// each calls send for every record, no faster than the rate, until there is no more or
// the context ends. What it hands over is valid until the next call.
func (j *job) each(ctx context.Context, in io.Reader, send func(key, value []byte)) error {
	next := time.Now()
	pace := func() bool {
		if j.rate > 0 {
			now := time.Now()
			if late := now.Add(-mostLate); next.Before(late) {
				next = late
			}
			if early := next.Sub(now); early > time.Millisecond {
				select {
				case <-time.After(early):
				case <-ctx.Done():
				}
			}
			next = next.Add(time.Duration(float64(time.Second) / j.rate))
		}
		return ctx.Err() == nil
	}
	if j.generate > 0 {
		value := make([]byte, j.size)
		random := rand.NewChaCha8([32]byte{})
		for range j.generate {
			if !pace() {
				return nil
			}
			_, _ = random.Read(value)
			send(nil, value)
		}
		return nil
	}
	lines := bufio.NewReaderSize(in, longestLine+2)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		value, key := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), []byte(nil)
		switch {
		case errors.Is(err, bufio.ErrBufferFull), len(value) > longestLine:
			return fmt.Errorf("line %d has more than %d bytes", n, longestLine)
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("line %d: %w", n, err)
		case err != nil && len(line) == 0 || !pace():
			return nil
		}
		if j.separator != "" {
			if before, after, found := bytes.Cut(value, []byte(j.separator)); found {
				key, value = before, after
			}
		}
		send(key, value)
	}
}

func (j *job) report(p *troupe.Producer, sent *sender, began time.Time, over <-chan struct{}) {
	if j.every <= 0 {
		return
	}
	tick := time.NewTicker(j.every)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			s := p.Stats()
			sent.say.Printf("%s; %d without an outcome, %d of %d bytes of the buffer in use", summary(s, sent.refused.Load(), time.Since(began)), s.Unanswered, s.BufferedBytes, s.BufferBytes)
		}
	}
}

// summary is one line.
func summary(s troupe.Stats, refused uint64, took time.Duration) string {
	per := func(total time.Duration, n uint64) time.Duration {
		return (total / time.Duration(max(n, 1))).Round(10 * time.Microsecond)
	}
	line := fmt.Sprintf("%d records acknowledged, %d not persisted, %d possibly persisted, %d refused; %.0f records/s, %.2f MB/s",
		s.RecordsPersisted, s.RecordsNotPersisted, s.RecordsPossiblyPersisted, refused,
		float64(s.RecordsPersisted)/took.Seconds(), float64(s.BatchBytes)/1e6/took.Seconds())
	if s.RecordsPersisted > 0 && s.Requests > 0 {
		line += fmt.Sprintf("; a record took %v, a request %v (99 %% %s)", per(s.RecordTime, s.RecordsPersisted), per(s.RequestTime, s.Requests), quantile(s, 0.99))
	}
	if s.WireBytes < s.BatchBytes {
		line += fmt.Sprintf("; compressed to %.0f %%", 100*float64(s.WireBytes)/float64(s.BatchBytes))
	}
	if s.BatchRetries+s.ConnectionsLost+s.ConnectionsFailed > 0 {
		line += fmt.Sprintf("; %d batches sent again, %d connections lost, %d not made", s.BatchRetries, s.ConnectionsLost, s.ConnectionsFailed)
	}
	return line
}

// quantile says what at least so large a part of the requests did not exceed.
func quantile(s troupe.Stats, part float64) string {
	all := uint64(0)
	for _, n := range s.RequestTimes {
		all += n
	}
	left, last := uint64(math.Ceil(part*float64(all))), len(s.RequestTimes)-1
	for i, n := range s.RequestTimes[:last] {
		if n >= left {
			return "up to " + troupe.RequestTimeLimit(i).String()
		}
		left -= n
	}
	return "over " + troupe.RequestTimeLimit(last-1).String()
}
