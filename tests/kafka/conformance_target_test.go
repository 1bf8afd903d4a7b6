package kafka_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

const (
	patience = 90 * time.Second // for the cluster to reach a state that a step asks for
	lookedAt = 50 * time.Millisecond
	askTime  = 12 * time.Second // for one question that is no part of the script
	// fetchesEnd is longer than a leader holds an empty fetch (replica.fetch.wait.max.ms).
	fetchesEnd = 800 * time.Millisecond
)

// realTarget runs a script on real brokers. Topics get the script's name in front
// of theirs, since scripts share a cluster.
type realTarget struct {
	t       *testing.T
	cluster *kafkacluster.Cluster
	version model.Version
	script  string
	started time.Time
	paused  map[int32]bool
	topics  map[string]int // partitions by name
	old     map[string][16]byte
	waiting map[string]*rawConnection
	sent    map[string]model.Send
}

func newRealTarget(t *testing.T, c *kafkacluster.Cluster, v model.Version, script string, started time.Time) *realTarget {
	return &realTarget{
		t: t, cluster: c, version: v, script: script, started: started, paused: map[int32]bool{}, topics: map[string]int{},
		old: map[string][16]byte{}, waiting: map[string]*rawConnection{}, sent: map[string]model.Send{},
	}
}

func (r *realTarget) close() {
	for _, c := range r.waiting {
		c.close()
	}
	for id := range r.paused {
		r.cluster.Resume(int(id))
	}
}

func (r *realTarget) name(topic string) string { return r.script + "." + topic }

func (r *realTarget) address(broker int32) string {
	return r.cluster.SeedsOf("PLAINTEXT")[broker-1]
}

// serving are the brokers that can answer.
func (r *realTarget) serving() (ids []int32) {
	for _, id := range r.cluster.Running() {
		if !r.paused[int32(id)] {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

// Do implements model.Target.
func (r *realTarget) Do(s *model.Step) (model.Reply, error) {
	switch s.Verb {
	case "brokers":
		if got := strconv.Itoa(cmp.Or(r.cluster.Config().Brokers, 1)); got != s.Args[0] {
			return nil, fmt.Errorf("the cluster has %s brokers", got)
		}
		return nil, nil
	case "send":
		return r.send(s)
	case "answer":
		q := r.sent[s.Args[0]]
		return r.answer(&q, r.waiting[s.Args[0]])
	case "topic":
		return nil, r.create(s)
	case "delete":
		return nil, r.delete(s.Args[0])
	case "metadata":
		return r.tell(s)
	case "expire":
		time.Sleep(4 * expiresEvery)
		return nil, nil
	case "clean":
		return nil, r.clean(s.Args[0])
	case "lead", "usurp", "trim", "insync":
		tp, err := model.ParsePartition(s.Args[0], nil)
		if err != nil {
			return nil, err
		}
		ids, err := model.ParseBrokers(s.Args[1])
		if err != nil {
			return nil, err
		}
		switch s.Verb {
		case "lead":
			err = r.lead(tp, ids[0])
		case "usurp":
			err = r.await(func() error { return r.elect(tp, 1) })
			if err == nil {
				err = r.await(func() error { return r.agree(tp, nil, ids[0]) })
			}
		case "trim":
			err = r.trim(tp, int64(ids[0]))
		default:
			err = r.await(func() error { return r.agree(tp, ids, 0) })
		}
		return nil, err
	}
	id, err := strconv.Atoi(s.Args[0])
	if err != nil {
		return nil, err
	}
	switch s.Verb {
	case "stop":
		r.cluster.Stop(id)
	case "kill":
		r.cluster.Kill(id)
	case "start", "restart":
		r.cluster.Restart(id)
		return nil, r.await(r.allLed)
	case "pause":
		r.cluster.Pause(id)
		r.paused[int32(id)] = true
		time.Sleep(fetchesEnd) // else a fetch under way brings it the next batch
	case "resume":
		r.cluster.Resume(id)
		delete(r.paused, int32(id))
	case "fence":
		return nil, r.fenced(int32(id))
	default:
		err = errors.New("unknown step")
	}
	return nil, err
}

// newsTakes is how long a broker may take to hear who leads.
const newsTakes = 15 * time.Second

// send asks once more while a broker that does not lead has not heard what the
// script says of the leader: such an answer changes nothing.
func (r *realTarget) send(s *model.Step) (model.Reply, error) {
	for end := time.Now().Add(newsTakes); ; time.Sleep(100 * time.Millisecond) {
		reply, err := r.sendOnce(s)
		stale := err == nil && len(reply) > 0 && reply[0] == protocol.NotLeaderOrFollower.Info().Name && !reply.Matches(s.Expect)
		if !stale || time.Now().After(end) {
			return reply, err
		}
	}
}

func (r *realTarget) sendOnce(s *model.Step) (model.Reply, error) {
	q, err := model.ParseSend(s, r.version)
	if err != nil {
		return nil, err
	}
	request := kmsg.NewPtrProduceRequest()
	request.Version, request.Acks, request.TimeoutMillis = q.Version, q.Acks, q.TimeoutMillis
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = r.name(q.Topic)
	switch told, err := r.metadata(q.Broker, q.Topic); {
	case q.OldID:
		topic.TopicID = r.old[q.Topic]
	case q.Unknown:
		topic.TopicID = [16]byte{1, 2, 3}
	case err == nil:
		topic.TopicID = told.TopicID
	}
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = q.Partition, batchBytes(&q, r.started.UnixMilli())
	topic.Partitions = append(topic.Partitions, p)
	request.Topics = append(request.Topics, topic)
	c, err := dialRaw(r.address(q.Broker))
	if err != nil {
		return nil, err
	}
	if err := c.write(request); err != nil {
		c.close()
		return nil, err
	}
	if q.As != "" {
		r.waiting[q.As], r.sent[q.As] = c, q
		return nil, nil
	}
	defer c.close()
	if q.Acks != 0 {
		return r.answer(&q, c)
	}
	// Without an answer, the connection says it: does it serve another request?
	probe, word := kmsg.NewPtrApiVersionsRequest(), "SENT"
	if err := cmp.Or(c.write(probe), c.read(probe)); errors.Is(err, io.EOF) || errors.Is(err, errReset) {
		word = "CLOSED"
	} else if err != nil {
		return nil, err
	}
	end, err := r.offset(q.Broker, q.TopicPartition, true)
	if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.NotLeaderForPartition) {
		end, err = -1, nil
	}
	return model.Reply{word, "end=" + strconv.FormatInt(end, 10)}, err
}

func (r *realTarget) answer(q *model.Send, c *rawConnection) (model.Reply, error) {
	request := kmsg.NewPtrProduceRequest()
	request.Version = q.Version
	response := kmsg.NewPtrProduceResponse()
	if err := c.readInto(request, response); err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("an answer for other partitions: %+v", response)
	}
	p := &response.Topics[0].Partitions[0]
	at := "now"
	switch p.LogAppendTime {
	case -1:
		at = "-"
	case r.started.UnixMilli() + q.TimeMillis:
		at = "batch"
	}
	var blamed []int32
	for _, e := range p.ErrorRecords {
		blamed = append(blamed, e.RelativeOffset)
	}
	code, end := protocol.ErrorCode(p.ErrorCode), int64(-1)
	if model.EndIsTold(code) {
		var err error
		if end, err = r.offset(q.Broker, q.TopicPartition, true); err != nil {
			return nil, err
		}
	}
	leader, epoch, nodes := int32(-1), int32(-1), []int32(nil)
	if q.Version >= 10 {
		leader, epoch = p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch
	}
	for _, b := range response.Brokers {
		nodes = append(nodes, b.NodeID)
	}
	return model.NewReply(code.Info().Name, p.BaseOffset, at, p.LogStartOffset, blamed, leader, epoch, nodes, end), nil
}
