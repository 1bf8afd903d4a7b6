package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/protocol"
)

// Send is a send step, read: a request of one batch to one broker.
type Send struct {
	TopicPartition
	Broker        int32
	Version       int16
	Acks          int16
	TimeoutMillis int32
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
	Count         int
	Bytes         int // of the whole batch; 0 is as it comes
	Codec         int8
	TimeMillis    int64 // of its records, after the script's time
	OldID         bool  // name the topic by the id of its last life
	Unknown       bool  // name the topic by an id that nobody has
	Keyless       []int // records without a key
	Corrupt       bool
	Control       bool
	AppendTime    bool
	OldFormat     bool
	As            string
}

// ParseSend reads a send step.
func ParseSend(s *Step, v Version) (q Send, err error) {
	number := func(name string, byDefault int64) int64 {
		n, bad := s.Number(name, byDefault)
		err = errors.Join(err, bad)
		return n
	}
	producer, epoch, numbered := strings.Cut(s.Args[0], ".")
	q.ProducerID, q.ProducerEpoch, q.BaseSequence = -1, -1, -1
	if numbered {
		e, bad := strconv.ParseInt(epoch, 10, 16)
		err = errors.Join(err, bad)
		q.ProducerID, q.ProducerEpoch, q.BaseSequence = 7000+int64(producer[0]), int16(e), int32(number("seq", 0))
	}
	q.TopicPartition, err = ParsePartition(s.Option("to", "t-0"), err)
	q.Broker = int32(number("at", 1))
	q.Version = int16(number("v", int64(v.NewestProduce())))
	q.TimeoutMillis = int32(number("timeout", 10_000))
	q.Count = int(number("n", 1))
	q.Bytes = int(number("bytes", 0))
	q.TimeMillis = number("time", 0)
	q.Codec = int8(number("codec", 0))
	if acks := s.Option("acks", "all"); acks == "all" {
		q.Acks = -1
	} else {
		q.Acks = int16(number("acks", 0))
	}
	if s.Has("keyless") {
		for _, w := range strings.Split(s.Option("keyless", ""), ",") {
			i, bad := strconv.Atoi(w)
			err = errors.Join(err, bad)
			q.Keyless = append(q.Keyless, i)
		}
	}
	q.OldID, q.Unknown, q.Corrupt, q.Control = s.Has("oldid"), s.Has("unknownid"), s.Has("corrupt"), s.Has("control")
	q.AppendTime, q.OldFormat, q.As = s.Has("appendtime"), s.Has("oldformat"), s.Option("as", "")
	return q, err
}

// ParsePartition reads topic-partition, unless there was an error before.
func ParsePartition(text string, before error) (TopicPartition, error) {
	name, number, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(number, 10, 32)
	return TopicPartition{name, int32(n)}, errors.Join(before, err)
}

// ParseBrokers reads ids with commas between them.
func ParseBrokers(text string) (ids []int32, err error) {
	for _, w := range strings.Split(text, ",") {
		id, bad := strconv.ParseInt(w, 10, 32)
		err = errors.Join(err, bad)
		ids = append(ids, int32(id))
	}
	return ids, err
}

// ParseAssignment reads the replicas of every partition, slashes between them.
func ParseAssignment(text string) (assignment [][]int32, err error) {
	for _, part := range strings.Split(text, "/") {
		ids, bad := ParseBrokers(part)
		err = errors.Join(err, bad)
		assignment = append(assignment, ids)
	}
	return assignment, err
}

// topicOptions are the settings that a script may give to a topic, by Kafka's names.
var topicOptions = []string{"min.insync.replicas", "max.message.bytes", "segment.bytes", "cleanup.policy", "message.timestamp.type"}

// TopicOptions returns the settings of a topic step.
func TopicOptions(s *Step) map[string]string {
	settings := map[string]string{}
	for _, name := range topicOptions {
		if s.Has(name) {
			settings[name] = s.Option(name, "")
		}
	}
	return settings
}

// OwnSize is the size of a scripted batch of one-byte keys and values: a header
// of 61 bytes and 9 for each record, or 8 without a key.
func (q *Send) OwnSize() int { return 61 + 9*q.Count - len(q.Keyless) }

// ScriptExpiration is producer.id.expiration.ms of a cluster that scripts run on.
const ScriptExpiration = time.Hour

// scripted runs scripts on a model. Between two steps everything happens that can.
type scripted struct {
	cluster *Cluster
	version Version
	now     time.Duration
	start   int64
	waiting map[string]Handle
	sent    map[string]Send
	answers map[Handle]*ProduceAnswer
	old     map[string]TopicID
}

// Scripted returns a target that is a model of a version, at a wall clock of
// startMillis.
func Scripted(v Version, startMillis int64) Target {
	return &scripted{
		version: v, start: startMillis, waiting: map[string]Handle{}, sent: map[string]Send{},
		answers: map[Handle]*ProduceAnswer{}, old: map[string]TopicID{},
	}
}

// Do implements Target.
func (t *scripted) Do(s *Step) (Reply, error) {
	if s.Verb == "brokers" {
		n, err := strconv.Atoi(s.Args[0])
		t.cluster = New(Config{
			Version: t.version, Brokers: n, StartMillis: t.start, AutoCreate: true, ProducerIDExpiration: ScriptExpiration,
		})
		return nil, err
	}
	if t.cluster == nil {
		return nil, errors.New("the script does not begin with brokers")
	}
	reply, err := t.do(s)
	t.settle()
	return reply, errors.Join(err, t.cluster.Invariant())
}

func (t *scripted) settle() {
	t.cluster.Settle()
	for _, e := range t.cluster.Advance(t.now) {
		t.answers[e.Handle] = e.Answer
	}
}

func (t *scripted) do(s *Step) (Reply, error) {
	c := t.cluster
	switch s.Verb {
	case "send":
		return t.send(s)
	case "answer":
		q, handle := t.sent[s.Args[0]], t.waiting[s.Args[0]]
		for t.answers[handle] == nil {
			due, waits := c.Deadline()
			if !waits {
				return nil, errors.New("no answer comes")
			}
			t.now = due
			t.settle()
		}
		return t.reply(&q, t.answers[handle]), nil
	case "topic":
		return nil, t.create(s)
	case "delete":
		t.old[s.Args[0]] = c.TopicID(s.Args[0])
		return nil, failed(int16(c.DeleteTopic(s.Args[0])))
	case "metadata":
		return t.metadata(s)
	case "expire":
		c.Expire()
		return nil, nil
	case "lead", "usurp", "trim", "insync":
		tp, err := ParsePartition(s.Args[0], nil)
		if err != nil {
			return nil, err
		}
		ids, err := ParseBrokers(s.Args[1])
		switch {
		case err != nil:
			return nil, err
		case s.Verb == "lead", s.Verb == "usurp":
			return nil, failed(int16(c.Elect(tp, ids[0], s.Verb == "usurp")))
		case s.Verb == "trim":
			if !c.DeleteRecords(tp, int64(ids[0])) {
				err = errors.New("nobody deletes records")
			}
			return nil, err
		}
		t.settle()
		if got := c.InSync(tp); !slices.Equal(slices.Sorted(slices.Values(got)), ids) {
			err = fmt.Errorf("in sync are %v", got)
		}
		return nil, err
	}
	if s.Verb == "clean" {
		tp, err := ParsePartition(s.Args[0], nil)
		for _, b := range c.brokers {
			c.DeleteSegments(tp, b.id)
		}
		return nil, err
	}
	id, err := strconv.Atoi(s.Args[0])
	if err != nil {
		return nil, err
	}
	switch b := int32(id); s.Verb {
	case "stop":
		c.Stop(b)
	case "kill":
		c.Crash(b, LoseNothing)
		c.Fence(b)
	case "start":
		c.Restart(b)
	case "restart":
		c.Stop(b)
		t.settle()
		c.Restart(b)
	case "pause":
		c.Isolate(b, true)
	case "resume":
		c.Isolate(b, false)
		c.Unfence(b)
	case "fence":
		c.Fence(b)
	}
	return nil, nil
}

func failed(code int16) error {
	if code != 0 {
		return fmt.Errorf("error code %d", code)
	}
	return nil
}

func (t *scripted) create(s *Step) error {
	assignment, err := ParseAssignment(s.Option("replicas", "1"))
	if err != nil {
		return err
	}
	var cfg TopicConfig
	for _, each := range []struct {
		name string
		to   *int
	}{
		{"min.insync.replicas", &cfg.MinInSync}, {"max.message.bytes", &cfg.MaxMessageBytes}, {"segment.bytes", &cfg.SegmentBytes},
	} {
		n, bad := s.Number(each.name, 0)
		err = errors.Join(err, bad)
		*each.to = int(n)
	}
	cfg.Compacted = s.Option("cleanup.policy", "") == "compact"
	cfg.LogAppendTime = s.Option("message.timestamp.type", "") == "LogAppendTime"
	return errors.Join(err, failed(int16(t.cluster.CreateAssigned(s.Args[0], assignment, cfg))))
}

func (t *scripted) send(s *Step) (Reply, error) {
	q, err := ParseSend(s, t.version)
	if err != nil {
		return nil, err
	}
	t.now += time.Second
	batch := Batch{
		ProducerID: q.ProducerID, ProducerEpoch: q.ProducerEpoch, BaseSequence: q.BaseSequence, Codec: q.Codec,
		Corrupt: q.Corrupt, Control: q.Control, AppendTime: q.AppendTime, OldFormat: q.OldFormat, Size: max(q.Bytes, q.OwnSize()),
	}
	for i := range q.Count {
		batch.Records = append(batch.Records, Record{
			Value: "v", TimestampMillis: t.start + q.TimeMillis, Keyless: slices.Contains(q.Keyless, i),
		})
	}
	data := PartitionData{Topic: q.Topic, Partition: q.Partition, Batch: batch, TopicID: t.cluster.TopicID(q.Topic)}
	switch {
	case q.OldID:
		data.TopicID = t.old[q.Topic]
	case q.Unknown:
		data.TopicID = TopicID{1, 2, 3}
	}
	o := t.cluster.Produce(t.now, q.Broker, &ProduceRequest{
		Version: q.Version, Acks: q.Acks, Timeout: time.Duration(q.TimeoutMillis) * time.Millisecond, Partitions: []PartitionData{data},
	})
	switch {
	case q.Acks == 0 && o.Cut:
		return Reply{"CLOSED", "end=" + strconv.FormatInt(t.end(&q), 10)}, nil
	case q.Acks == 0:
		return Reply{"SENT", "end=" + strconv.FormatInt(t.end(&q), 10)}, nil
	case o.Cut:
		return nil, errors.New("the broker is down")
	case q.As != "":
		t.sent[q.As], t.waiting[q.As] = q, o.Handle
		if o.Answer != nil {
			return nil, errors.New("it was answered at once")
		}
		return nil, nil
	}
	t.settle()
	for o.Answer == nil {
		if o.Answer = t.answers[o.Handle]; o.Answer == nil {
			t.now, _ = t.cluster.Deadline()
			t.settle()
		}
	}
	return t.reply(&q, o.Answer), nil
}

func (t *scripted) metadata(s *Step) (Reply, error) {
	at, err := s.Number("at", 1)
	if err != nil {
		return nil, err
	}
	m := t.cluster.Metadata(int32(at), []string{s.Args[0]}, s.Has("auto")).Topics[0]
	if len(m.Partitions) == 0 {
		return NewMetadataReply(m.Code.Info().Name, "-", noLeader), nil
	}
	return NewMetadataReply(m.Code.Info().Name, m.Partitions[0].Code.Info().Name, m.Partitions[0].Leader), nil
}

// EndIsTold says whether a reply with a code tells the end of the log. It does
// not where the broker that was asked does not lead it.
func EndIsTold(code protocol.ErrorCode) bool {
	switch code {
	case protocol.NotLeaderOrFollower, protocol.UnknownTopicOrPartition, protocol.UnknownTopicID:
		return false
	}
	return true
}

func (t *scripted) end(q *Send) int64 {
	_, _, end, _ := t.cluster.Offsets(q.TopicPartition, q.Broker)
	return end
}

func (t *scripted) reply(q *Send, a *ProduceAnswer) Reply {
	p := &a.Partitions[0]
	at := "now"
	switch p.LogAppendMillis {
	case -1:
		at = "-"
	case t.start + q.TimeMillis:
		at = "batch"
	}
	var blamed []int32
	for _, e := range p.RecordErrors {
		blamed = append(blamed, e.Index)
	}
	end := t.end(q)
	if !EndIsTold(p.Code) {
		end = -1
	}
	return NewReply(p.Code.Info().Name, p.BaseOffset, at, p.LogStartOffset, blamed, p.Leader, p.LeaderEpoch, a.Nodes, end)
}
