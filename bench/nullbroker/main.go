// Command nullbroker stands in for a Kafka cluster in a process of its own: it
// takes whatever a producer sends, keeps nothing and answers at once. What it
// costs is close to what reading a socket costs, so that a benchmark on a shared
// machine measures the producer.
//
//	nullbroker -topics bench:12
//
// The first line on stdout is the address of the first broker. On SIGTERM or
// SIGINT it prints its totals as one JSON line on stdout and ends.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("nullbroker: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "address of the first broker; the others take free ports of the same host")
	topics := flag.String("topics", "bench:12", "topics as name:partitions, comma separated")
	brokers := flag.Int("brokers", 1, "number of brokers; partition p is led by broker p mod n")
	delay := flag.Duration("delay", 0, "time a broker takes before it answers a Produce request")
	version := flag.Int("produce-version", 12, "highest Produce version advertised, 3 to 13")
	buffer := flag.Int("buffer", 256<<10, "bytes of the read buffer of a connection")
	check := flag.Bool("check", false, "check CRC, record numbers and sequences of every batch (costs CPU)")
	secure := flag.String("tls", "", "speak TLS, with a certificate made for this run, and write that to this file")
	every := flag.Duration("stats", 0, "print totals to stderr at this interval, too")
	flag.Parse()

	c := &cluster{delay: *delay, maxProduce: int16(*version), buffer: *buffer, check: *check}
	if *version < minProduce || *version > maxProduce {
		return fmt.Errorf("-produce-version %d: not within %d and %d", *version, minProduce, maxProduce)
	}
	if *buffer < minBuffer {
		return fmt.Errorf("-buffer %d: less than %d", *buffer, minBuffer)
	}
	if *brokers < 1 {
		return fmt.Errorf("-brokers %d: less than 1", *brokers)
	}
	if err := c.addTopics(*topics, *brokers); err != nil {
		return err
	}

	var encrypt *tls.Config
	if *secure != "" {
		var err error
		if encrypt, err = newCertificate(*secure); err != nil {
			return err
		}
	}
	var listeners []net.Listener
	for address := *listen; len(listeners) < *brokers; {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		c.addresses = append(c.addresses, l.Addr().(*net.TCPAddr))
		if encrypt != nil {
			l = tls.NewListener(l, encrypt)
		}
		listeners = append(listeners, l)
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		address = net.JoinHostPort(host, "0")
	}
	for node, l := range listeners {
		go c.accept(int32(node), l)
	}
	fmt.Println(c.addresses[0])

	done := make(chan os.Signal, 1)
	signal.Notify(done, syscall.SIGTERM, syscall.SIGINT)
	var tick <-chan time.Time
	if *every > 0 {
		tick = time.Tick(*every)
	}
	for {
		select {
		case <-tick:
			if err := json.NewEncoder(os.Stderr).Encode(c.totals()); err != nil {
				return err
			}
		case <-done:
			return json.NewEncoder(os.Stdout).Encode(c.totals())
		}
	}
}

func (c *cluster) addTopics(spec string, brokers int) error {
	c.topics = map[string]*topic{}
	c.byID = map[[16]byte]*topic{}
	for _, s := range strings.Split(spec, ",") {
		name, count, ok := strings.Cut(s, ":")
		n, err := strconv.Atoi(count)
		if !ok || name == "" || err != nil || n < 1 {
			return fmt.Errorf("-topics: %q is not name:partitions", s)
		}
		if c.topics[name] != nil {
			return fmt.Errorf("-topics: %q stands twice", name)
		}
		t := &topic{name: name, id: topicID(len(c.byID)), partitions: make([]partition, n)}
		for i := range t.partitions {
			t.partitions[i].leader = int32(i % brokers)
		}
		c.topics[name], c.byID[t.id] = t, t
	}
	return nil
}

// topicID is the id of the i-th topic: stable, non-zero, none of Kafka's
// reserved ones.
func topicID(i int) [16]byte {
	return [16]byte{'n', 'u', 'l', 'l', 0x42, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)}
}
