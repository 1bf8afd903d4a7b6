package simulation

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/simulation/model"
)

// estate is the memory that a run of the campaign leaves to the next, because to
// make all of it anew takes a good part of a run. It decides nothing: what is
// taken out of it is written before it is read.
type estate struct {
	// name is the world's. The actors of a world that left none behind are known
	// to nobody, so their names may be used again; new ones fill the system's
	// registry, which never shrinks.
	name string

	bytes    pages[byte]
	texts    *strings.Builder
	spare    buffers // for answers
	copies   buffers // for what callers give the producer
	heap     []deadline
	spent    []*timer
	timers   pages[timer]
	runnable []turn
	seen     []string
	faults   injector
	sockets  []*socket

	produced  pages[produced]
	callers   []*produced
	sent      []Attempt
	producing []*producing
	records   pages[model.Record]
	entries   pages[Entry]
	writes    []Write

	produceRequest  kmsg.ProduceRequest
	metadataRequest kmsg.MetadataRequest
	versionsRequest kmsg.ApiVersionsRequest
	metadataAnswer  kmsg.MetadataResponse
	versionsAnswer  kmsg.ApiVersionsResponse
	known           model.Metadata
	names           []string
}

var (
	worlds  atomic.Int64
	estates = sync.Pool{New: func() any { return newEstate() }}
)

func newEstate() *estate {
	e := &estate{name: fmt.Sprintf("world-%d", worlds.Add(1))}
	e.bytes.size, e.produced.size, e.records.size, e.entries.size, e.timers.size = 256<<10, 64, 1024, 1024, 64
	e.names = make([]string, 0, 8)
	return e
}

// How much is left to the next world, at the most. A run in which nobody can be
// reached for an hour makes thousands of sockets, one of large records megabytes of
// them, and the garbage collector would keep room for sixteen times as much.
const (
	keptSockets     = 128
	keptAttempts    = 4096
	keptPages       = 8
	keptBufferBytes = 4 << 10
)

// bequeath leaves the estate of a world that is over to another. Nothing of the
// world may be looked at any more.
func (w *World) bequeath() {
	e := w.estate
	w.estate = nil
	clear(w.clock.heap)
	clear(w.scheduler.runnable)
	clear(e.sent)
	clear(e.writes)
	clear(e.callers)
	clear(w.seen)
	e.heap, e.spent, e.runnable, e.seen = w.clock.heap[:0], w.clock.spent, w.scheduler.runnable[:0], w.seen[:0]
	e.sent, e.writes, e.callers = e.sent[:0], e.writes[:0], e.callers[:0]
	if len(e.sockets) > keptSockets {
		clear(e.sockets[keptSockets:])
		e.sockets = e.sockets[:keptSockets]
	}
	if cap(e.sent) > keptAttempts {
		e.sent = nil
	}
	e.spare.keepSmall()
	e.copies.keepSmall()
	e.bytes.rewind()
	e.produced.reset()
	e.records.reset()
	e.entries.reset()
	e.timers.reset()
	estates.Put(e)
}

// textBytes is how much memory is made at a time for the strings of values.
const textBytes = 16 << 10

// text is a string, in one piece of memory with others.
func (e *estate) text(b []byte) string {
	if e.texts == nil || e.texts.Cap()-e.texts.Len() < len(b) {
		e.texts = &strings.Builder{}
		e.texts.Grow(max(textBytes, len(b)))
	}
	from := e.texts.Len()
	e.texts.Write(b)
	return e.texts.String()[from:]
}

// requestFor is an empty request, nil if there is none with that key. Those that
// come often are always the same three.
func (e *estate) requestFor(key int16) kmsg.Request {
	switch key {
	case int16(kmsg.Produce):
		return &e.produceRequest
	case int16(kmsg.Metadata):
		return &e.metadataRequest
	case int16(kmsg.ApiVersions):
		return &e.versionsRequest
	}
	return kmsg.RequestForKey(key)
}

// pages hand out slices that are taken back all at once.
type pages[T any] struct {
	// size is how many items a page has; a slice that needs a good part of one is
	// made for itself.
	size  int
	pages [][]T
	at    int // the page that is handed out of
}

// take hands out room to append n items to.
func (p *pages[T]) take(n int) []T {
	if n > p.size/4 {
		return make([]T, 0, n)
	}
	for {
		if p.at == len(p.pages) {
			p.pages = append(p.pages, make([]T, 0, p.size))
		}
		page := p.pages[p.at]
		if used := len(page); cap(page)-used >= n {
			p.pages[p.at] = page[:used+n]
			return page[used : used : used+n]
		}
		p.at++
	}
}

// rewind takes everything back; reset also lets go of what it points to.
func (p *pages[T]) rewind() {
	if len(p.pages) > keptPages {
		clear(p.pages[keptPages:])
		p.pages = p.pages[:keptPages]
	}
	for i := range p.pages {
		p.pages[i] = p.pages[i][:0]
	}
	p.at = 0
}

func (p *pages[T]) reset() {
	for _, page := range p.pages {
		clear(page)
	}
	p.rewind()
}

// buffers are slices to append to, in no use.
type buffers [][]byte

func (b *buffers) take() []byte {
	n := len(*b)
	if n == 0 {
		return make([]byte, 0, 512)
	}
	free := (*b)[n-1]
	*b = (*b)[:n-1]
	return free[:0]
}

// What stands in slices that somebody must not look at any more: a caller's, and a
// frame's.
var (
	scribbled   = strings.Repeat("#", 256)
	overwritten = strings.Repeat("\xdb", 256)
)

// fill overwrites all of b, in pieces: byte by byte is a part of a run that shows.
func fill(b []byte, with string) {
	for len(b) > 0 {
		b = b[copy(b, with):]
	}
}

// keepSmall lets go of long ones.
func (b *buffers) keepSmall() {
	*b = slices.DeleteFunc(*b, func(free []byte) bool { return cap(free) > keptBufferBytes })
}

func (b *buffers) give(free []byte) { *b = append(*b, free) }
