package simulation

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"math/bits"
	"reflect"
	"strconv"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// trace hashes what happens, event by event, and writes the events as lines of
// JSON if somebody wants to read them. The hash holds no addresses, nor the names
// and numbers that a run gets from its place among others, and it is the same
// whether the lines are written or not.
//
// A line has these fields: n, the number of the event; t, the virtual time in
// nanoseconds; cause, the number of the event that it follows from, 0 for none;
// from, where that happened; to, where this one did; what and with, the message.
type trace struct {
	scheduler *scheduler
	prefix    string // the producer's own name
	hash      uint64
	events    uint64
	// crash is asked before each message is handed over; it panics to make the
	// actor fail.
	crash func(path string, message any)

	// What follows is used only when lines are written.
	out    *bufio.Writer
	line   []byte
	paths  []string            // where event n happened
	posted map[string][]letter // by the receiver's path
}

// letter is a message on its way, and the event that sent it.
type letter struct {
	message any
	cause   uint64
}

const (
	hashStart = 14695981039346656037
	hashPrime = 0x9e3779b97f4a7c15
)

func (t *trace) mix(v uint64) { t.hash = mixed(t.hash, v) }

func mixed(hash, v uint64) uint64 {
	h := (hash ^ v) * hashPrime
	return h ^ h>>29
}

func (t *trace) mixText(s string) {
	h := mixed(t.hash, uint64(len(s)))
	for len(s) >= 16 {
		// Both words at once: each step has to wait for the one before.
		high, low := bits.Mul64(h^word(s), word(s[8:])^hashPrime)
		h, s = high^low, s[16:]
	}
	if len(s) >= 8 {
		h = mixed(h, word(s))
		s = s[8:]
	}
	var rest uint64
	for i := range len(s) {
		rest |= uint64(s[i]) << (8 * i)
	}
	t.hash = mixed(h, rest)
}

func (t *trace) short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, t.prefix), "/")
}

// word is the first eight bytes of a text.
func word(s string) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// received is an event of an actor: it is about to handle a message.
func (t *trace) received(path string, message any) {
	short := t.short(path)
	if t.out != nil {
		t.scheduler.cause = t.sender(short, message)
	}
	t.begin(short, reflect.TypeOf(message).String())
	t.describe(message)
	t.end()
	t.crash(path, message)
}

// sender finds the event that sent a message.
func (t *trace) sender(path string, message any) uint64 {
	line := t.posted[path]
	for i, l := range line {
		if same(l.message, message) {
			t.posted[path] = append(line[:i], line[i+1:]...)
			return l.cause
		}
	}
	return t.scheduler.cause
}

// postTrace is a trace that also wants to know of messages when they are sent.
type postTrace struct{ receiveTrace }

// Posted implements seams.PostTracer.
func (t *postTrace) Posted(path string, message any) {
	path = t.short(path)
	switch message.(type) {
	case *actor.SuspendMailbox, *actor.ResumeMailbox:
		return // the mailbox keeps them to itself
	case *seams.Woken:
		for _, l := range t.posted[path] {
			if same(l.message, message) {
				return // any number of signals are one
			}
		}
	}
	t.posted[path] = append(t.posted[path], letter{message, t.scheduler.cause})
}

// same reports whether two messages are one.
func same(a, b any) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// note records an event outside of the actors.
func (t *trace) note(path, event string, numbers ...int64) {
	t.begin(path, event)
	for _, n := range numbers {
		t.number(n)
	}
	t.end()
}

func (t *trace) begin(path, event string) {
	now := int64(t.scheduler.clock.now)
	t.mix(uint64(now))
	t.mixText(path)
	t.mixText(event)
	t.events++
	if t.out == nil {
		return
	}
	from := ""
	if c := t.scheduler.cause; c > 0 && c <= uint64(len(t.paths)) {
		from = t.paths[c-1]
	}
	t.paths = append(t.paths, path)
	t.line = fmt.Appendf(t.line[:0], `{"n":%d,"t":%d,"cause":%d,"from":%q,"to":%q,"what":%q,"with":"`, t.events, now, t.scheduler.cause, from, path, event)
}

func (t *trace) number(n int64) {
	t.mix(uint64(n))
	if t.out != nil {
		t.line = strconv.AppendInt(t.line, n, 10)
		t.line = append(t.line, ' ')
	}
}

func (t *trace) text(s string) {
	t.mixText(s)
	if t.out != nil {
		q := strconv.Quote(s)
		t.line = append(t.line, strings.ReplaceAll(q[1:len(q)-1], `\"`, "'")...)
		t.line = append(t.line, ' ')
	}
}

func (t *trace) flag(b bool) {
	if b {
		t.number(1)
	} else {
		t.number(0)
	}
}

func (t *trace) end() {
	t.scheduler.cause = t.events
	if t.out != nil {
		t.line = append(t.line, "\"}\n"...)
		_, _ = t.out.Write(t.line)
	}
}

// describe adds the fields that are the same in every run of a seed.
func (t *trace) describe(message any) {
	switch m := message.(type) {
	case *messages.PartitionReady:
		t.number(int64(m.Taker.Partition()))
		t.text(m.Class.Lane.String())
		t.number(int64(m.Class.Acks))
	case *messages.ResponseReceived:
		t.text(m.Lane.String())
		t.number(int64(m.Generation))
		t.number(int64(checksum(m.Frame)))
	case *messages.ConnectionUp:
		t.text(m.Lane.String())
		t.number(int64(m.Generation))
	case *messages.ConnectionLost:
		t.text(m.Lane.String())
		t.number(int64(m.Generation))
		t.flag(m.WasUp)
		t.text(errorText(m.Reason))
	case *messages.ControlRequest:
		t.number(int64(m.Broker))
		t.number(int64(m.Request.Key()))
		t.number(int64(m.Ticket))
	case *messages.ControlResponse:
		t.number(int64(m.Broker))
		t.number(int64(m.Ticket))
		t.text(errorText(m.Err))
	case *messages.LeaderHinted:
		t.number(int64(m.Partition))
		t.number(int64(m.LeaderID))
		t.number(int64(m.LeaderEpoch))
	case *messages.IdentityChanged:
		t.number(m.Identity.ProducerID)
		t.number(int64(m.Identity.Epoch))
	case *messages.BumpEpoch:
		t.number(m.After.ProducerID)
		t.number(int64(m.After.Epoch))
	case *messages.ClusterChanged:
		t.number(int64(m.View.Version))
	case *messages.RefreshMetadata:
		t.text(m.Reason)
	case *messages.Delivered:
		t.delivery(&m.Delivery)
	case *messages.ForRouter:
		t.text(reflect.TypeOf(m.Message).String())
	case *actor.Failure:
		t.text(reflect.TypeOf(m.Reason).String())
	}
}

func (t *trace) delivery(d *messages.Delivery) {
	t.number(int64(d.Tag))
	t.number(int64(d.Partition))
	t.number(d.Offset)
	t.number(int64(d.Status))
	t.number(int64(d.Attempts))
}

func errorText(err error) string {
	if err == nil {
		return "-"
	}
	return err.Error()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func sumOf(frame [][]byte) uint32 {
	sum := uint32(0)
	for _, s := range frame {
		sum = crc32.Update(sum, castagnoli, s)
	}
	return sum
}
