package accumulator

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

var update = flag.Bool("update", false, "write what happens into the scripts")

// TestScripts runs every testdata/*.txt. A line at the margin is a step, what is
// indented below it is what must follow; testdata/README.md has the words.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s does not happen as written (go test -update rewrites it):\n%s", name, difference(string(want), got))
			}
		})
	}
}

func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			expected := "(end)"
			if i < len(a) {
				expected = a[i]
			}
			return fmt.Sprintf("line %d\nwant %s\ngot  %s\n\nthe whole:\n%s", i+1, expected, b[i], got)
		}
	}
	return "the script has more lines than happened"
}

// script is one run.
type script struct {
	*rig
	out      bytes.Buffer
	class    messages.Class
	count    map[string]int
	names    []string // by tag − 1
	answers  map[string]int
	contexts map[string]context.CancelCauseFunc
	ctx      map[string]context.Context
	attempts map[uint64]*attempt
	unended  map[uint64]bool
	batches  map[string]*batch
	sentAs   map[numbers]sentBatch // what went out last
	held     map[*attempt][]byte   // what writes that have not ended are reading
	identity messages.Identity
	lastText string
	lastWho  []string
}

func runScript(t *testing.T, text string) string {
	s := &script{
		count: make(map[string]int), answers: make(map[string]int), contexts: make(map[string]context.CancelCauseFunc),
		ctx: make(map[string]context.Context), attempts: make(map[uint64]*attempt), unended: make(map[uint64]bool),
		batches: make(map[string]*batch), sentAs: make(map[numbers]sentBatch), held: make(map[*attempt][]byte), identity: messages.Identity{ProducerID: 7, Generation: 1},
	}
	for n, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		s.out.WriteString(line + "\n")
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if s.rig == nil {
			c := testConfig()
			if words[0] == "config" {
				configure(t, &c, words[1:])
			}
			s.rig = newRig(t, c)
			if words[0] == "config" {
				continue
			}
		}
		if err := s.run(words[0], words[1:]); err != nil {
			t.Fatalf("line %d: %q: %v\n%s", n+1, line, err, s.out.String())
		}
		s.report()
		for a, bytes := range s.held {
			if !slices.Equal(bytes, slices.Concat(a.Slices()...)) {
				t.Fatalf("after line %d: %q: attempt %d is being written and has changed", n+1, line, a.number)
			}
		}
		if err := s.s.invariant(); err != nil {
			t.Fatalf("after line %d: %q: %v\n%s", n+1, line, err, s.out.String())
		}
	}
	for name, n := range s.answers {
		if n != 1 {
			t.Errorf("record %s was answered %d times", name, n)
		}
	}
	return s.out.String()
}

func configure(t *testing.T, c *config, words []string) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		d, _ := time.ParseDuration(value)
		n, _ := strconv.Atoi(value)
		switch key {
		case "linger":
			c.linger = d
		case "timeout":
			c.deliveryTimeout = d
		case "slow":
			c.slowRequest = d
		case "batch":
			c.batchMaxBytes = n
		case "inflight":
			c.maxInFlight = n
		case "unnumbered":
			c.unnumberedInFlight = n
		case "retries":
			c.retry.Retries = n
		case "resend":
			c.resendInnocent = value == "true"
		case "idempotent":
			c.idempotent = value == "true"
		default:
			t.Fatalf("config %q", w)
		}
	}
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, "  "+format+"\n", args...) }

// options reads key=value words.
func options(words []string) map[string]string {
	m := make(map[string]string)
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		m[key] = value
	}
	return m
}

func parseIdentity(text string) (messages.Identity, error) {
	var i messages.Identity
	if text == "none" {
		return messages.NoIdentity, nil
	}
	_, err := fmt.Sscanf(text, "%d/%d", &i.ProducerID, &i.Epoch)
	i.Generation = 1 + int64(i.Epoch) // or given as 9/0.4
	if n, ok := strings.CutPrefix(text, fmt.Sprintf("%d/%d.", i.ProducerID, i.Epoch)); ok {
		i.Generation, err = strconv.ParseInt(n, 10, 64)
	}
	return i, err
}

var (
	acksByName = map[string]messages.Acks{"": messages.AcksAll, "all": messages.AcksAll, "1": messages.AcksLeader, "0": messages.AcksNone}
	laneByName = map[string]messages.Lane{"produce": messages.LaneProduce, "slow": messages.LaneSlow, "noacks": messages.LaneNoAcks}
)

func (s *script) run(word string, words []string) error {
	o := options(words)
	switch word {
	case "append":
		return s.appendRecords(o)
	case "take":
		return s.takeBatch(o)
	case "leader":
		id := -1
		if words[0] != "none" {
			id, _ = strconv.Atoi(words[0])
		}
		epoch, err := strconv.Atoi(o["epoch"])
		s.assign(int32(id), int32(epoch))
		return err
	case "answer", "lost":
		return s.settleAttempt(word, words, o)
	case "identity":
		var err error
		s.identity, err = parseIdentity(words[0])
		return err
	case "advance":
		d, err := time.ParseDuration(words[0])
		s.advance(d)
		return err
	case "cancel":
		s.contexts[words[0]](errors.New(words[0] + " cancelled"))
	case "step":
		s.step()
	case "urge":
		s.s.open.urgent = true
		s.s.review(s.now)
	case "pack":
		s.pack(s.batches[words[0]])
	case "sequence":
		n, err := strconv.Atoi(words[0])
		s.s.nextSequence = int32(n)
		clear(s.sentAs) // as if two billion records had passed
		return err
	case "recall":
		i, err := parseIdentity(words[0])
		next, _ := strconv.Atoi(o["next"])
		_, gap := o["gap"]
		s.s.recall(messages.LastSequence{Identity: i, Next: int32(next), Gap: gap})
		return err
	case "limit":
		s.say("batches up to %d bytes", s.s.limit.bytes)
	case "accept":
		n, err := strconv.Atoi(o["n"])
		bytes, _ := strconv.Atoi(o["bytes"])
		for range n {
			s.s.limit.accepted(bytes, s.s.batchMaxBytes, s.now)
		}
		return err
	case "crash":
		// As a new incarnation finds the state: whole, or with its lines torn.
		if _, torn := o["torn"]; torn {
			s.s.backlogBytes++
		}
		if err := s.s.crashed(s.now); err != nil {
			s.say("mended: everything failed")
		}
		s.step()
	case "failall":
		s.s.failAll(messages.ErrClosed)
	case "retire":
		d, err := time.ParseDuration(words[0])
		s.say("retired %v, keeps %v", s.s.retire(s.now, d), s.s.lastSequence())
		return err
	case "reopen":
		s.s.reopen()
	case "evacuate":
		var leaving []*batch
		s.s.evacuate(s.now, &leaving)
		s.s.failAll(messages.ErrUnknownPartition)
		for _, b := range leaving {
			var names []string
			b.eachRecord(func(i int32, r *protocol.Record) {
				if name := s.names[b.side.tags.at(i)-1]; !b.isAnswered(i) {
					names = append(names, name)
					s.answers[name]++
				}
			})
			s.say("batch %v %v leaves", b.order, names)
			s.s.discard(b)
		}
	default:
		return errors.New("unknown step")
	}
	return nil
}

// appendRecords admits n records named key1, key2, …; each is size bytes with
// its key and overhead left out.
func (s *script) appendRecords(o map[string]string) error {
	n := 1
	if o["n"] != "" {
		n, _ = strconv.Atoi(o["n"])
	}
	size, _ := strconv.Atoi(o["size"])
	codec, err := codecs.Parse(cmpOr(o["codec"], "none"))
	if err != nil {
		return err
	}
	each, _ := time.ParseDuration(cmpOr(o["each"], "0s"))
	_, urgent := o["urgent"]
	var ctx context.Context
	if name := o["ctx"]; name != "" {
		if s.ctx[name] == nil {
			s.ctx[name], s.contexts[name] = context.WithCancelCause(context.Background())
		}
		ctx = s.ctx[name]
	}
	for range n {
		s.count[o["key"]]++
		name := fmt.Sprintf("%s%d", o["key"], s.count[o["key"]])
		value := name + strings.Repeat(".", max(0, size-len(name)))
		s.names = append(s.names, name)
		s.answers[name] = 0
		r := &messages.Record{Value: []byte(value), Tag: uint64(len(s.names))}
		if o["key"] != "" {
			r.Key = []byte(o["key"])
		}
		status := s.append(&messages.Admission{
			Record: r, Callback: s.called, Context: ctx, Acks: acksByName[o["acks"]], Codec: codec, Urgent: urgent,
		})
		if status != messages.Appended {
			s.say("%s refused: closed", name)
			delete(s.answers, name)
		}
		s.now = s.now.Add(each)
	}
	return nil
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (s *script) takeBatch(o map[string]string) error {
	broker, err := strconv.Atoi(cmpOr(o["broker"], "1"))
	if err != nil {
		return err
	}
	if o["identity"] != "" {
		if s.identity, err = parseIdentity(o["identity"]); err != nil {
			return err
		}
	}
	m := messages.TakeRequest{Broker: int32(broker), Identity: s.identity, Class: s.class}
	if o["lane"] != "" {
		m.Class.Lane = laneByName[o["lane"]]
	}
	if o["acks"] != "" {
		m.Class.Acks = acksByName[o["acks"]]
	}
	if v := o["version"]; v != "" {
		n, _ := strconv.Atoi(v)
		m.ProduceVersion = int16(n)
	}
	m.RoomBytes, _ = strconv.Atoi(cmpOr(o["room"], "0"))
	m.Connection, _ = strconv.Atoi(cmpOr(o["connection"], "0"))
	a, status := s.take(m)
	text := [...]string{"done", "more", "no room", "another class", "needs an identity"}[status]
	if a == nil {
		s.say("nothing, %s", text)
		return nil
	}
	s.attempts[a.number] = a
	w := readWire(s.t, a, s.box.settings.Codecs)
	if err := s.asBefore(a, w); err != nil {
		return err
	}
	number := "unnumbered"
	if w.sequence >= 0 {
		number = fmt.Sprintf("sequence %d of %d/%d", w.sequence, w.identity.ProducerID, w.identity.Epoch)
	}
	for i := range w.values {
		w.values[i] = strings.TrimRight(w.values[i], ".")
	}
	s.say("attempt %d: batch %v [%s] %s; %s", a.number, a.batch.order, strings.Join(w.values, " "), number, text)
	if _, hold := o["hold"]; hold {
		s.held[a] = slices.Concat(a.Slices()...)
	} else {
		a.WriteEnded()
	}
	return nil
}

// asBefore holds an attempt against what went out under its number before: a
// broker recognises a repetition by its numbers alone, so it must be one to the
// last byte. The first half of a batch that was refused as too large has the
// number of the whole, and its first records.
func (s *script) asBefore(a *attempt, w wire) error {
	if !a.numbers.has {
		return nil
	}
	before, again := s.sentAs[a.numbers]
	now := sentBatch{slices.Concat(a.Slices()...), slices.Clone(w.values)}
	s.sentAs[a.numbers] = now
	switch {
	case !again || bytes.Equal(before.bytes, now.bytes):
		return nil
	case len(now.values) < len(before.values) && slices.Equal(before.values[:len(now.values)], now.values):
		return nil
	}
	return fmt.Errorf("attempt %d is not what went out under its number before", a.number)
}

// sentBatch is what went out under a number.
type sentBatch struct {
	bytes  []byte
	values []string
}

func (s *script) settleAttempt(word string, words []string, o map[string]string) error {
	n, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	a := s.attempts[uint64(n)]
	if a == nil {
		return errors.New("no such attempt")
	}
	offset, _ := strconv.Atoi(cmpOr(o["offset"], "-1"))
	var m messages.Result
	switch {
	case word == "lost":
		m = lostResult(words[1] == "sent")
	case words[1] == "ok":
		m = okResult(int64(offset))
	default:
		m = errorResult(codeByName(words[2]), int64(offset))
	}
	if o["start"] != "" {
		m.LogStartOffset, err = strconv.ParseInt(o["start"], 10, 64)
		if err != nil {
			return err
		}
	}
	if o["records"] != "" {
		for _, index := range strings.Split(o["records"], ",") {
			i, err := strconv.Atoi(index)
			if err != nil {
				return err
			}
			m.RecordErrors = append(m.RecordErrors, messages.RecordError{Index: int32(i), Message: "bad record " + index})
		}
	}
	if o["hint"] != "" {
		if _, err := fmt.Sscanf(o["hint"], "%d/%d", &m.LeaderID, &m.LeaderEpoch); err != nil {
			return err
		}
	}
	s.deliver(a, m)
	return nil
}

func codeByName(name string) protocol.ErrorCode {
	for code := int16(-1); code < 200; code++ {
		if protocol.LookupError(code).Name == name {
			return protocol.ErrorCode(code)
		}
	}
	return protocol.ErrorCode(999)
}

// advance lets time pass as the box's timer would: a step at each deadline.
func (s *script) advance(d time.Duration) {
	end := s.now.Add(d)
	for range 10_000 {
		at := min(s.s.nextDeadline(s.now), s.s.lingering(s.now))
		if at > end {
			break
		}
		if at > s.now {
			s.now = at
		}
		before := s.out.Len()
		s.step()
		s.report()
		if s.out.Len() > before {
			s.say("  … at %v", time.Duration(s.now)-time.Second)
		}
		if at == s.now && s.s.nextDeadline(s.now) <= s.now {
			s.t.Fatalf("the deadline %v stands still", at)
		}
	}
	s.now = end
}

// called is every record's callback.
func (s *script) called(d messages.Delivery) {
	name := s.names[d.Tag-1]
	s.answers[name]++
	text := d.Status.String()
	if d.Err == nil {
		text += fmt.Sprintf(", attempt %d", d.Attempts)
		if d.LastBrokerError != nil {
			text += ", after " + reason(d.LastBrokerError)
		}
		name += "@" + strconv.FormatInt(d.Offset, 10)
	} else {
		var e *messages.DeliveryError
		if !errors.As(d.Err, &e) || e.Status != d.Status || e.Topic != "t" || e.Partition != 3 || e.Cause == nil {
			s.t.Errorf("%s: odd error %v", name, d.Err)
		}
		text += fmt.Sprintf(", attempt %d: %s", d.Attempts, reason(e.Cause))
	}
	if text != s.lastText {
		s.flushAnswers()
		s.lastText = text
	}
	s.lastWho = append(s.lastWho, name)
}

func reason(err error) string {
	var code protocol.ErrorCode
	switch {
	case errors.Is(err, messages.ErrRetriesExhausted):
		return "retries exhausted"
	case errors.Is(err, messages.ErrRefusedWithBatch):
		return "refused with its batch"
	case errors.As(err, &code):
		return code.Info().Name
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func (s *script) flushAnswers() {
	if len(s.lastWho) > 0 {
		s.say("%s %s", strings.Join(s.lastWho, " "), s.lastText)
	}
	s.lastWho, s.lastText = nil, ""
}

// report writes down what the last step left in its effects.
func (s *script) report() {
	for _, list := range [][]*batch{{s.s.open}, s.s.pending, s.s.inFlight} {
		for _, b := range list {
			if b != nil {
				s.batches[b.order.String()] = b
			}
		}
	}
	fx := s.effects()
	s.flushAnswers()
	for _, b := range fx.compress {
		s.batches[b.order.String()] = b
		s.say("compress batch %v", b.order)
	}
	if fx.announce {
		s.class = fx.class
		s.say("ready: %s, acks %s", fx.class.Lane, fx.class.Acks)
	}
	if fx.refresh != "" {
		s.say("refresh: %s", fx.refresh)
	}
	if fx.bump {
		s.say("bump after %d/%d", fx.bumpFrom.ProducerID, fx.bumpFrom.Epoch)
	}
	if h := fx.hint; h != nil {
		s.say("hint: leader %d, epoch %d", h.LeaderID, h.LeaderEpoch)
	}
	if fx.fatal != nil {
		s.say("fatal: %s", reason(fx.fatal))
	}
}

// TestScriptsAreExplained keeps testdata/README.md complete.
func TestScriptsAreExplained(t *testing.T) {
	text, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var unknown []string
	files, _ := filepath.Glob("testdata/*.txt")
	for _, name := range files {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(script)) {
			word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
			if word != "" && word[0] != '#' && !strings.Contains(string(text), "`"+word) && !slices.Contains(unknown, word) {
				unknown = append(unknown, word)
			}
		}
	}
	if len(unknown) > 0 {
		t.Errorf("testdata/README.md does not explain %v", unknown)
	}
}
