package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/troupe-kafka/troupe"
)

// status is what is known of a record. Those that the producer answers with are
// Jepsen's ok, info and fail.
type status uint8

const (
	pending      status = iota // admitted and not answered
	persisted                  // ok
	possibly                   // info
	notPersisted               // fail
	refused                    // not admitted: the call returned an error
)

func (s status) String() string {
	return [...]string{"pending", "persisted", "possibly persisted", "not persisted", "refused"}[s]
}

func statusOf(s troupe.Status) status {
	switch s {
	case troupe.Persisted:
		return persisted
	case troupe.PossiblyPersisted:
		return possibly
	default:
		return notPersisted
	}
}

// record is one record that was handed to a producer. Times count from the start
// of the campaign.
type record struct {
	Topic     uint8 // index into history.Topics
	Status    status
	Answers   uint8 // how many outcomes it got; there must be one
	BadStatus bool  // status and error contradicted each other, or the topic was another
	Key       uint16
	Partition int32 // as answered
	Offset    int64 // as answered; −1 when it is not known
	Sent      time.Duration
	Due       time.Duration // the latest that an outcome may come
	Answered  time.Duration
	Reason    int32 // index into history.Reasons
}

// line is a sequence of records whose order of admission is known: the records of
// one goroutine, or of several that take turns.
type line struct {
	Producer string
	Records  []record
}

// The id of a record is its line and its place in it.
func idOf(line, place int) uint64             { return uint64(line)<<40 | uint64(place) }
func placeOf(id uint64) (line int, place int) { return int(id >> 40), int(id & (1<<40 - 1)) }

// topic says what holds for a topic.
type topic struct {
	Name string
	// Numbered: every producer numbers its batches, so that nothing stands twice.
	// Otherwise acks is 1, and a leader's death may take acknowledged records.
	Numbered bool
	// Fixed: the partitions stay as many as they are, so a key keeps its partition.
	Fixed bool
}

// read is one record as the consumer saw it.
type read struct {
	Topic     uint8
	Partition int32
	Offset    int64
	ID        uint64
	Key       uint16
	Intact    bool // key and value are what belongs to the ID
}

// place is a partition.
type place struct {
	Topic     uint8
	Partition int32
}

// history is all that the checker knows.
type history struct {
	Seed    uint64
	Topics  []topic
	Lines   []line
	Reads   []read // of one partition in the order of offsets
	Reasons []string
	// Leftovers are faults of the runtime that are in no record: what was still
	// there after Close, memory over its bound.
	Leftovers []violation
}

func (h *history) find(id uint64) *record {
	l, n := placeOf(id)
	if l >= len(h.Lines) || n >= len(h.Lines[l].Records) {
		return nil
	}
	return &h.Lines[l].Records[n]
}

// name is how a record is called in a violation.
func (h *history) name(id uint64) string {
	l, n := placeOf(id)
	if l >= len(h.Lines) {
		return fmt.Sprintf("%#x", id)
	}
	return fmt.Sprintf("%s/%d/%d", h.Lines[l].Producer, l, n)
}

// recordLine and readLine are how a history is written: JSON, one value a line.
type recordLine struct {
	ID                       string
	Topic, Status            string
	Answers                  uint8
	Key                      uint16
	Partition                int32
	Offset                   int64
	SentMs, AnsweredMs       float64
	Reason                   string `json:",omitempty"`
	OutcomeContradictsItself bool   `json:",omitempty"`
}

type readLine struct {
	ReadID, Topic string
	Partition     int32
	Offset        int64
	Damaged       bool `json:",omitempty"`
}

// write puts the history, and what goes with it, into a file that a person can
// search: one JSON value a line.
func (h *history) write(file string, extras ...any) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	buffered := bufio.NewWriterSize(out, 1<<20)
	to := json.NewEncoder(buffered)
	put := func(value any) {
		if err == nil {
			err = to.Encode(value)
		}
	}
	put(map[string]any{"Seed": h.Seed, "Topics": h.Topics})
	for _, extra := range extras {
		put(extra)
	}
	for l := range h.Lines {
		for n := range h.Lines[l].Records {
			r := &h.Lines[l].Records[n]
			put(recordLine{
				h.name(idOf(l, n)), h.Topics[r.Topic].Name, r.Status.String(), r.Answers, r.Key, r.Partition, r.Offset,
				float64(r.Sent.Microseconds()) / 1000, float64(r.Answered.Microseconds()) / 1000, h.reason(r), r.BadStatus,
			})
		}
	}
	for _, r := range h.Reads {
		put(readLine{h.name(r.ID), h.Topics[r.Topic].Name, r.Partition, r.Offset, !r.Intact})
	}
	if flushed := buffered.Flush(); err == nil {
		err = flushed
	}
	return err
}

func (h *history) reason(r *record) string {
	if int(r.Reason) < len(h.Reasons) {
		return h.Reasons[r.Reason]
	}
	return ""
}

func (p place) String() string { return fmt.Sprintf("%d of topic %d", p.Partition, p.Topic) }
