// Troupe sends lines of its input to a Kafka topic, or records that it makes up, and says
// at the end what became of them. It is for a first look at a cluster, for trying out a
// client's properties, and for load.
//
//	troupe -brokers localhost:9092 -topic greetings < lines
//	troupe -properties client.properties -topic greetings -key-separator : < lines
//	troupe -brokers localhost:9092 -topic load -generate 1000000 -size 1000 -rate 50000
//
// It exits with 1 if a record has failed, and with 2 if it could not begin.
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
	flag.StringVar(&j.brokers, "brokers", "", "host:port[,host:port], if no property says it")
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second one does not wait for outcomes
	failed, err := j.run(ctx, os.Stdin, os.Stdout, os.Stderr)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "troupe:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

// options are the producer's.
func (j *job) options() ([]troupe.Option, error) {
	var options []troupe.Option
	if j.file != "" {
		f, err := os.Open(j.file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		if options, err = troupe.ReadProperties(f); err != nil {
			return nil, err
		}
	}
	if j.brokers != "" {
		options = append(options, troupe.WithBrokers(strings.Split(j.brokers, ",")...))
	}
	named, err := troupe.Properties(j.named)
	return append(options, named...), err
}

// run sends everything and says what became of it. It returns how many records failed.
func (j *job) run(ctx context.Context, in io.Reader, out, complaints io.Writer) (failed uint64, err error) {
	if j.topic == "" || j.generate < 0 || j.size < 0 || j.rate < 0 {
		return 0, errors.New("expected -topic, and numbers that are not negative")
	}
	options, err := j.options()
	if err != nil {
		return 0, err
	}
	p, err := troupe.New(options...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Close(context.Background()) }() // what is left has its outcome by then
	topic, err := p.Topic(j.topic)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	say := log.New(complaints, "troupe: ", 0)
	if j.every > 0 {
		over, done := make(chan struct{}), make(chan struct{})
		defer func() { close(over); <-done }()
		go func() { defer close(done); j.report(p, began, say, over) }()
	}
	var told atomic.Uint64
	note := func(err error) {
		if told.Add(1) <= mostErrors {
			say.Print(err)
		}
	}
	callback := func(d troupe.Delivery) {
		if d.Err != nil {
			note(d.Err)
		}
	}
	var refused atomic.Uint64
	read := make(chan error, 1)
	go func() {
		read <- j.each(ctx, in, func(key, value []byte) {
			// Not the context of the read: what has been read has its time after an interrupt.
			if err := topic.Produce(context.Background(), troupe.Record{Key: key, Value: value}, callback); err != nil {
				refused.Add(1)
				note(err)
			}
		})
	}()
	select {
	case err = <-read:
	case <-ctx.Done(): // a terminal may not end the read of its next line
	}
	end, cancel := context.WithTimeout(context.Background(), j.wait)
	defer cancel()
	if closed := p.Close(end); err == nil && closed != nil {
		note(closed)
	}
	s := p.Stats()
	_, _ = fmt.Fprintln(out, summary(s, refused.Load(), time.Since(began)))
	return refused.Load() + s.RecordsNotPersisted + s.RecordsPossiblyPersisted, err
}

// mostErrors is how many errors are told one by one.
const mostErrors = 10

// longestLine is the largest line of the input, in bytes: a record may be no larger
// by default.
const longestLine = 1 << 20

// each calls send for every record, no faster than the rate, until there is no more or
// the context ends. What it hands over is valid until the next call.
func (j *job) each(ctx context.Context, in io.Reader, send func(key, value []byte)) error {
	began, n := time.Now(), 0
	pace := func() bool {
		if j.rate > 0 {
			if early := time.Duration(float64(n)/j.rate*float64(time.Second)) - time.Since(began); early > time.Millisecond {
				select {
				case <-time.After(early):
				case <-ctx.Done():
				}
			}
		}
		n++
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
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		if !pace() {
			return nil
		}
		key, value := []byte(nil), lines.Bytes()
		if j.separator != "" {
			if before, after, found := bytes.Cut(value, []byte(j.separator)); found {
				key, value = before, after
			}
		}
		send(key, value)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after line %d: %w (a line has at most %d bytes)", n, err, longestLine)
	}
	return nil
}

func (j *job) report(p *troupe.Producer, began time.Time, say *log.Logger, over <-chan struct{}) {
	tick := time.NewTicker(j.every)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			s := p.Stats()
			say.Printf("%s; %d without an outcome, %d of %d bytes of the buffer in use", summary(s, 0, time.Since(began)), s.Unanswered, s.BufferedBytes, s.BufferBytes)
		}
	}
}

// summary is one line.
func summary(s troupe.Stats, refused uint64, took time.Duration) string {
	per := func(total time.Duration, n uint64) time.Duration {
		return (total / time.Duration(max(n, 1))).Round(10 * time.Microsecond)
	}
	line := fmt.Sprintf("%d records acknowledged, %d not persisted, %d possibly persisted, %d refused; %.0f records/s, %.2f MB/s; a record took %v, a request %v (99 %% up to %v)",
		s.RecordsPersisted, s.RecordsNotPersisted, s.RecordsPossiblyPersisted, refused,
		float64(s.RecordsPersisted)/took.Seconds(), float64(s.BatchBytes)/1e6/took.Seconds(),
		per(s.RecordTime, s.RecordsPersisted), per(s.RequestTime, s.Requests), quantile(s, 0.99))
	if s.WireBytes < s.BatchBytes {
		line += fmt.Sprintf("; compressed to %.0f %%", 100*float64(s.WireBytes)/float64(s.BatchBytes))
	}
	if s.BatchRetries+s.ConnectionsLost+s.ConnectionsFailed > 0 {
		line += fmt.Sprintf("; %d batches sent again, %d connections lost, %d not made", s.BatchRetries, s.ConnectionsLost, s.ConnectionsFailed)
	}
	return line
}

// quantile is a time up to which so large a part of the requests took.
func quantile(s troupe.Stats, part float64) time.Duration {
	left := uint64(0)
	for _, n := range s.RequestTimes {
		left += n
	}
	left = uint64(part * float64(left))
	for i, n := range s.RequestTimes {
		if n >= left {
			return troupe.RequestTimeLimit(i)
		}
		left -= n
	}
	return 0
}
