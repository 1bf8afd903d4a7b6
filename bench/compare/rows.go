package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/bench/internal/figure"
)

// A row is one kind of work.
type row struct {
	group      string // the first part of the name
	size       int
	keyed      bool
	goroutines int
	partitions int
	codec      string // none if empty
	acks       string // all if empty
	rate       int
	linger     time.Duration // of open loops and calls; 5 ms elsewhere
	mode       string        // stream if empty
	call       int
	delay      time.Duration // what the broker waits before each answer
	count      int
	clients    []string // whom the row is for, unless -clients says otherwise
}

// Who is asked in which rows. The floors can only run flat out on one goroutine
// without a codec.
var (
	pair  = []string{"troupe", "franz"}
	peers = []string{"troupe", "franz", "sarama", "kafka-go", "confluent"}
	// With 1,000 partitions kafka-go takes 20 s and 3 GB for a run, and whoever runs
	// next on a small virtual machine pays for what comes back from it.
	frugal   = []string{"troupe", "franz", "sarama", "confluent"}
	floors   = []string{"troupe", "franz", "duties", "floor"}
	everyone = []string{"troupe", "franz", "sarama", "kafka-go", "confluent", "duties", "floor"}
	open     = []string{"troupe", "franz", "sarama", "kafka-go", "confluent", "generator"}
)

// name is made of the parts that -rows chooses by.
func (r row) name() string {
	parts := []string{r.group}
	if r.group == "idle" {
		return "idle/" + strconv.Itoa(r.partitions) + "p"
	}
	if r.group == "start" {
		return "start"
	}
	parts = append(parts, sizeName(r.size), "unkeyed", strconv.Itoa(r.goroutines))
	if r.keyed {
		parts[2] = "keyed"
	}
	if r.codec != "" {
		parts = append(parts, r.codec)
	}
	if r.rate > 0 {
		parts = append(parts, strconv.Itoa(r.rate/1000)+"k")
	}
	if r.call > 0 {
		parts = append(parts, "x"+strconv.Itoa(r.call))
	}
	if r.partitions != 12 {
		parts = append(parts, strconv.Itoa(r.partitions)+"p")
	}
	if r.delay > 0 {
		parts = append(parts, r.delay.String())
	}
	return strings.Join(parts, "/")
}

func sizeName(n int) string {
	if n < 1000 {
		return strconv.Itoa(n) + "B"
	}
	return strconv.Itoa(n/1000) + "KB"
}

// records scales how many are sent. An open loop keeps its rate, and so takes
// longer; idle partitions and starts are not scaled.
func (r row) records(scale float64) row {
	if r.mode == figure.ModeIdle || r.mode == figure.ModeStart {
		return r
	}
	r.count = max(int(float64(r.count)*scale), 1000)
	return r
}

// warmup is how many records a run sends before the measured part.
func (r row) warmup() int {
	switch {
	case r.mode == figure.ModeCall, r.rate > 0:
		return 5000
	case r.delay > 0:
		return 20_000
	default:
		return 100_000
	}
}

// runTimeout is when a client has failed to do a row's work. The slowest takes a
// minute.
const runTimeout = 4 * time.Minute

// flags are the driver's.
func (r row) flags() []string {
	f := []string{
		"-timeout", runTimeout.String(), "-records", strconv.Itoa(r.count), "-warmup", strconv.Itoa(r.warmup()), "-size", strconv.Itoa(r.size),
		"-goroutines", strconv.Itoa(r.goroutines), "-partitions", strconv.Itoa(r.partitions),
	}
	if r.keyed {
		f = append(f, "-keyed")
	}
	if r.codec != "" {
		f = append(f, "-codec", r.codec)
	}
	if r.acks != "" {
		f = append(f, "-acks", r.acks)
	}
	if r.mode != "" {
		f = append(f, "-mode", r.mode)
	}
	if r.call > 0 {
		f = append(f, "-call", strconv.Itoa(r.call))
	}
	if r.rate > 0 {
		f = append(f, "-rate", strconv.Itoa(r.rate))
	}
	if r.rate > 0 || r.mode != "" {
		f = append(f, "-linger", r.linger.String())
	}
	return f
}

// describe says the work in words.
func (r row) describe() string {
	if r.mode == figure.ModeIdle {
		return fmt.Sprintf("one record of %s into each of %d partitions, then nothing: what stays in memory a second later", sizeName(r.size), r.partitions)
	}
	if r.mode == figure.ModeStart {
		return fmt.Sprintf("a client is made, its first record acknowledged, and closed, %d times in one process: the time to the acknowledgement", r.count)
	}
	keys, codec, acks := "no keys", "no compression", "acks all, idempotent"
	if r.keyed {
		keys = "4,096 different keys"
	}
	if r.codec != "" {
		codec = r.codec + " of text"
	}
	if r.acks != "" {
		acks = "acks " + r.acks + ", not idempotent"
	}
	pace := "flat out, linger 5 ms"
	switch {
	case r.rate > 0:
		pace = fmt.Sprintf("open loop at %d,000 records/s, linger %v", r.rate/1000, r.linger)
	case r.call > 0:
		pace = fmt.Sprintf("each call sends %d and waits, one call after the other, linger 0", r.call)
	}
	if r.delay > 0 {
		pace += fmt.Sprintf(", the broker answers after %v", r.delay)
	}
	return fmt.Sprintf("%d records of %s, %s, %d goroutines, %d partitions, %s, %s, %s",
		r.count, sizeName(r.size), keys, r.goroutines, r.partitions, codec, acks, pace)
}

const (
	million     = 1_000_000
	fiveSeconds = 5
)

// allRows is the curated list for the null broker: what somebody would ask for,
// and what a target is about.
func allRows() (rows []row) {
	add := func(r row) {
		if r.partitions == 0 {
			r.partitions = 12
		}
		rows = append(rows, r)
	}
	// Flat out.
	for _, keyed := range []bool{false, true} {
		for _, g := range []int{1, 8, 64} {
			clients := pair
			switch {
			case g == 1 && !keyed:
				clients = everyone
			case g == 1:
				clients = floors
			case g == 8 && keyed:
				clients = peers
			}
			add(row{group: "flat", size: 100, keyed: keyed, goroutines: g, count: 4 * million, clients: clients})
		}
	}
	for _, keyed := range []bool{false, true} {
		for _, g := range []int{1, 8} {
			clients := pair
			if g == 1 && !keyed {
				clients = everyone
			}
			add(row{group: "flat", size: 1000, keyed: keyed, goroutines: g, count: 2 * million, clients: clients})
		}
	}
	add(row{group: "flat", size: 10_000, goroutines: 1, count: 200_000, clients: floors})
	add(row{group: "flat", size: 10_000, keyed: true, goroutines: 8, count: 200_000, clients: pair})
	add(row{group: "flat", size: 100, goroutines: 1, partitions: 1, count: 4 * million, clients: floors})
	add(row{group: "flat", size: 100, goroutines: 8, partitions: 1, count: 4 * million, clients: pair})
	add(row{group: "flat", size: 100, keyed: true, goroutines: 1, partitions: 1000, count: million, clients: frugal})
	add(row{group: "flat", size: 100, keyed: true, goroutines: 8, partitions: 1000, count: 2 * million, clients: pair})
	add(row{group: "flat", size: 1000, keyed: true, goroutines: 8, partitions: 1000, count: million, clients: pair})
	// Compressed text.
	for _, codec := range []string{"lz4", "zstd", "snappy", "gzip"} {
		count := 500_000
		if codec == "gzip" {
			count = 200_000
		}
		add(row{group: "codec", size: 1000, goroutines: 1, codec: codec, count: count, clients: peers})
		add(row{group: "codec", size: 1000, goroutines: 8, codec: codec, count: count, clients: pair})
	}
	add(row{group: "codec", size: 100, goroutines: 1, codec: "lz4", count: 2 * million, clients: pair})
	add(row{group: "codec", size: 100, keyed: true, goroutines: 8, codec: "zstd", count: million, clients: pair})
	add(row{group: "codec", size: 10_000, goroutines: 1, codec: "zstd", count: 50_000, clients: pair})
	// Open loops.
	for _, g := range []int{1, 8} {
		add(row{group: "open", size: 100, goroutines: g, rate: 20_000, count: fiveSeconds * 20_000, clients: open})
		add(row{group: "open", size: 100, goroutines: g, rate: 100_000, linger: 5 * time.Millisecond, count: fiveSeconds * 100_000, clients: open})
	}
	add(row{group: "open", size: 1000, keyed: true, goroutines: 8, rate: 20_000, count: fiveSeconds * 20_000, clients: pair})
	add(row{group: "open", size: 100, keyed: true, goroutines: 8, partitions: 1000, rate: 100_000, linger: 5 * time.Millisecond, count: fiveSeconds * 100_000, clients: pair})
	// Calls that wait.
	call := func(g, n, count int) row {
		return row{group: "call", size: 100, goroutines: g, mode: figure.ModeCall, call: n, count: count, clients: peers}
	}
	add(call(64, 1, 200_000))
	add(call(1, 1, 20_000))
	add(call(1, 1000, million))
	add(call(8, 1000, million))
	// Acks 1, a slow broker, actors.
	add(row{group: "acks1", size: 100, goroutines: 1, acks: "1", count: 4 * million, clients: peers})
	add(row{group: "acks1", size: 100, keyed: true, goroutines: 8, acks: "1", count: 4 * million, clients: pair})
	add(row{group: "slow", size: 100, goroutines: 1, delay: 5 * time.Millisecond, count: million, clients: peers})
	add(row{group: "slow", size: 100, goroutines: 1, delay: 50 * time.Millisecond, count: 500_000, clients: peers})
	for _, g := range []int{1, 8} {
		add(row{group: "actor", size: 100, goroutines: g, count: 2 * million, clients: []string{"troupe-actor", "troupe", "franz"}})
	}
	add(row{group: "idle", size: 100, goroutines: 1, partitions: 10_000, mode: figure.ModeIdle, count: 10_000, clients: peers})
	add(row{group: "start", size: 100, goroutines: 1, mode: figure.ModeStart, count: 20, clients: append([]string{"troupe-shared"}, peers...)})
	return rows
}

// realRows are those for Apache Kafka itself. The tune rows try what a request
// may hold and how many may be open, which the null broker cannot tell.
func realRows() (rows []row) {
	all := append([]string{"java"}, peers...)
	add := func(r row) {
		r.partitions = 12
		rows = append(rows, r)
	}
	for _, size := range []int{100, 1000} {
		count := 2 * million
		if size == 1000 {
			count = 500_000
		}
		add(row{group: "real", size: size, goroutines: 1, count: count, clients: all})
		add(row{group: "real", size: size, keyed: true, goroutines: 8, count: count, clients: peers})
	}
	add(row{group: "real", size: 1000, goroutines: 1, codec: "lz4", count: 300_000, clients: peers})
	add(row{group: "real", size: 100, goroutines: 1, rate: 20_000, count: fiveSeconds * 20_000, clients: all})
	add(row{group: "real", size: 100, goroutines: 1, rate: 100_000, linger: 5 * time.Millisecond, count: fiveSeconds * 100_000, clients: all})
	add(row{group: "real", size: 100, goroutines: 64, mode: figure.ModeCall, call: 1, count: 100_000, clients: peers})
	variants := []string{"franz", "troupe"}
	for _, kib := range []int{256, 512, 1024, 4096, 8192} {
		variants = append(variants, fmt.Sprintf("troupe:request.max.bytes=%d", kib<<10))
	}
	for _, n := range []int{1, 2, 3} {
		variants = append(variants, fmt.Sprintf("troupe:max.in.flight.requests.per.connection=%d", n))
	}
	add(row{group: "tune", size: 100, goroutines: 1, count: 2 * million, clients: variants})
	add(row{group: "tune", size: 1000, goroutines: 1, count: 500_000, clients: variants})
	return rows
}

// choose returns the rows that one of the terms fits: all, or parts that a name
// has.
func choose(rows []row, terms string) (chosen []row) {
	for _, r := range rows {
		parts := strings.Split(r.name(), "/")
		fits := func(term string) bool {
			missing := func(part string) bool { return !slices.Contains(parts, part) }
			return term == "all" || !slices.ContainsFunc(strings.Split(term, "/"), missing)
		}
		if slices.ContainsFunc(strings.Split(terms, ","), fits) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// checks returns, for each client of the rows, one row of each kind that looks
// different on the wire: a codec, keys, calls, acks.
func checks(rows []row, clientsOf func(row) []string) map[string][]row {
	list := map[string][]row{}
	for _, r := range rows {
		if r.rate > 0 || r.delay > 0 || r.mode == figure.ModeIdle || r.mode == figure.ModeStart {
			continue
		}
		for _, client := range clientsOf(r) {
			same := func(o row) bool {
				return o.codec == r.codec && o.keyed == r.keyed && o.mode == r.mode && o.acks == r.acks
			}
			if !slices.ContainsFunc(list[client], same) {
				list[client] = append(list[client], r)
			}
		}
	}
	return list
}
