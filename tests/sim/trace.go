package sim

import (
	"bufio"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// Trace hashes what happens, one line of JSON per event, and writes the lines if
// somebody wants to read them. It never holds addresses, nor the names and
// numbers that a run gets from its place among others.
type Trace struct {
	clock  *Clock
	prefix string // the producer's own name
	hash   uint64
	events int
	line   []byte
	out    *bufio.Writer
	// crash is asked before each message is handed over; it panics to make the
	// actor fail.
	crash func(path string, message any)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// Received implements seams.Tracer.
func (t *Trace) Received(path string, message any) {
	path = strings.TrimPrefix(strings.TrimPrefix(path, t.prefix), "/")
	t.begin(path, reflect.TypeOf(message).String())
	t.describe(message)
	t.end()
	if t.crash != nil {
		t.crash(path, message)
	}
}

// note records an event outside of the actors.
func (t *Trace) note(path, event string, numbers ...int64) {
	t.begin(path, event)
	for _, n := range numbers {
		t.number(n)
	}
	t.end()
}

func (t *Trace) begin(path, event string) {
	t.line = append(t.line[:0], `{"t":`...)
	t.line = strconv.AppendInt(t.line, int64(t.clock.now), 10)
	t.line = append(t.line, `,"at":"`...)
	t.line = append(t.line, path...)
	t.line = append(t.line, `","what":"`...)
	t.line = append(t.line, event...)
	t.line = append(t.line, `","with":"`...)
}

func (t *Trace) number(n int64) {
	t.line = strconv.AppendInt(t.line, n, 10)
	t.line = append(t.line, ' ')
}

func (t *Trace) text(s string) {
	t.line = append(t.line, s...)
	t.line = append(t.line, ' ')
}

func (t *Trace) flag(b bool) {
	if b {
		t.number(1)
	} else {
		t.number(0)
	}
}

func (t *Trace) end() {
	t.line = append(t.line, "\"}\n"...)
	h := t.hash
	for _, c := range t.line {
		h = (h ^ uint64(c)) * fnvPrime
	}
	t.hash = h
	t.events++
	if t.out != nil {
		_, _ = t.out.Write(t.line)
	}
}

// describe adds the fields that are the same in every run of a seed.
func (t *Trace) describe(message any) {
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
		t.text(quoted(m.Reason))
	case *messages.ControlRequest:
		t.number(int64(m.Broker))
		t.number(int64(m.Request.Key()))
		t.number(int64(m.Ticket))
	case *messages.ControlResponse:
		t.number(int64(m.Broker))
		t.number(int64(m.Ticket))
		t.text(quoted(m.Err))
	case *messages.AssignLeader:
		t.number(int64(m.ID))
		t.number(int64(m.LeaderEpoch))
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
		t.text(fmt.Sprintf("%T", m.Reason))
	}
}

func (t *Trace) delivery(d *messages.Delivery) {
	t.number(int64(d.Tag))
	t.number(int64(d.Partition))
	t.number(d.Offset)
	t.number(int64(d.Status))
	t.number(int64(d.Attempts))
}

// quoted is an error's text, fit for a line of JSON.
func quoted(err error) string {
	if err == nil {
		return "-"
	}
	q := strconv.Quote(err.Error())
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, "'")
}

func checksum(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
