package kafka_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// await repeats a question until it has no objection.
func (r *realTarget) await(ask func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(lookedAt)
	}
}

// admin asks the cluster something by way of a broker that can answer, which
// forwards it. (Brokers name each other as controllers, paused ones too.)
func (r *realTarget) admin(request kmsg.Request) (kmsg.Response, error) {
	return r.ask(r.serving()[0], request)
}

func (r *realTarget) create(s *model.Step) error {
	assignment, err := model.ParseAssignment(s.Option("replicas", "1"))
	if err != nil {
		return err
	}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Version, request.TimeoutMillis = 5, 10_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = r.name(s.Args[0]), -1, -1
	for i, ids := range assignment {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), ids
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
	}
	for name, value := range model.TopicOptions(s) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, kmsg.StringPtr(value)
		topic.Configs = append(topic.Configs, c)
	}
	request.Topics = append(request.Topics, topic)
	response, err := r.admin(request)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(response.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode); err != nil {
		return err
	}
	r.topics[s.Args[0]] = len(assignment)
	return r.await(r.allLed)
}

func (r *realTarget) delete(name string) error {
	told, err := r.metadata(r.serving()[0], name)
	if err != nil {
		return err
	}
	r.old[name] = told.TopicID
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.Version, request.TimeoutMillis, request.TopicNames = 4, 10_000, []string{r.name(name)}
	response, err := r.admin(request)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(response.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode); err != nil {
		return err
	}
	delete(r.topics, name)
	return r.await(func() error {
		for _, id := range r.serving() {
			if _, err := r.metadata(id, name); !errors.Is(err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("broker %d still knows %s: %v", id, name, err)
			}
		}
		return nil
	})
}

// lead makes a replica the leader: it becomes the preferred one, and then there
// is an election.
func (r *realTarget) lead(tp model.TopicPartition, leader int32) error {
	told, err := r.metadata(r.serving()[0], tp.Topic)
	if err != nil {
		return err
	}
	before := told.Partitions[tp.Partition]
	order := append([]int32{leader}, slices.DeleteFunc(slices.Clone(before.Replicas), func(id int32) bool { return id == leader })...)
	err = r.await(func() error {
		if err := r.reorder(tp, order); err != nil {
			return err
		}
		if err := r.elect(tp, 0); err != nil && !errors.Is(err, kerr.ElectionNotNeeded) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.await(func() error {
		if _, err := r.offset(before.Leader, tp, false); before.Leader != leader && !errors.Is(err, kerr.NotLeaderForPartition) {
			return fmt.Errorf("broker %d has not resigned: %v", before.Leader, err)
		}
		return r.agree(tp, nil, leader)
	})
}

func (r *realTarget) reorder(tp model.TopicPartition, replicas []int32) error {
	request := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	request.TimeoutMillis = 10_000
	topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	topic.Topic = r.name(tp.Topic)
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = tp.Partition, replicas
	topic.Partitions = append(topic.Partitions, p)
	request.Topics = append(request.Topics, topic)
	response, err := r.admin(request)
	if err != nil {
		return err
	}
	done := response.(*kmsg.AlterPartitionAssignmentsResponse)
	if err := kerr.ErrorForCode(done.ErrorCode); err != nil {
		return fmt.Errorf("reorder: %w", err)
	}
	return kerr.ErrorForCode(done.Topics[0].Partitions[0].ErrorCode)
}

// elect asks for an election: of the preferred leader (0), or an unclean one (1).
func (r *realTarget) elect(tp model.TopicPartition, kind int8) error {
	request := kmsg.NewPtrElectLeadersRequest()
	request.Version, request.ElectionType, request.TimeoutMillis = 2, kind, 10_000
	topic := kmsg.NewElectLeadersRequestTopic()
	topic.Topic, topic.Partitions = r.name(tp.Topic), []int32{tp.Partition}
	request.Topics = append(request.Topics, topic)
	response, err := r.admin(request)
	if err != nil {
		return err
	}
	elected := response.(*kmsg.ElectLeadersResponse)
	if err := kerr.ErrorForCode(elected.ErrorCode); err != nil {
		return fmt.Errorf("elect: %w", err)
	}
	for _, t := range elected.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("elect: %w", err)
			}
		}
	}
	return nil
}

// tell is a metadata step.
func (r *realTarget) tell(s *model.Step) (model.Reply, error) {
	at, err := s.Number("at", 1)
	if err != nil {
		return nil, err
	}
	told, err := r.metadataOf(int32(at), s.Args[0], s.Has("auto"))
	if told == nil {
		return nil, err
	}
	if s.Has("auto") {
		r.topics[s.Args[0]] = 1
		if err := r.await(r.allLed); err != nil {
			return nil, err
		}
	}
	code := protocol.ErrorCode(told.ErrorCode).Info().Name
	if len(told.Partitions) == 0 {
		return model.NewMetadataReply(code, "-", -1), nil
	}
	p := &told.Partitions[0]
	return model.NewMetadataReply(code, protocol.ErrorCode(p.ErrorCode).Info().Name, p.Leader), nil
}

// clean waits until the brokers have removed the segments before a log's start:
// the first one, that is.
func (r *realTarget) clean(partition string) error {
	return r.await(func() error {
		for _, id := range r.serving() {
			first := filepath.Join(r.cluster.DataDir(int(id)), r.name(partition), "00000000000000000000.log")
			if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is still there: %v", first, err)
			}
		}
		return nil
	})
}

// fenced waits until all other brokers take one for gone.
func (r *realTarget) fenced(broker int32) error {
	return r.await(func() error {
		for _, id := range r.serving() {
			request := kmsg.NewPtrMetadataRequest()
			request.Version, request.Topics = 12, []kmsg.MetadataRequestTopic{}
			response, err := r.ask(id, request)
			if err != nil {
				return err
			}
			for _, b := range response.(*kmsg.MetadataResponse).Brokers {
				if b.NodeID == broker {
					return fmt.Errorf("broker %d still lists %d", id, broker)
				}
			}
		}
		return nil
	})
}

func (r *realTarget) trim(tp model.TopicPartition, before int64) error {
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.Version, request.TimeoutMillis = 2, 10_000
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = r.name(tp.Topic)
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = tp.Partition, before
	topic.Partitions = append(topic.Partitions, p)
	request.Topics = append(request.Topics, topic)
	told, err := r.metadata(r.serving()[0], tp.Topic)
	if err != nil {
		return err
	}
	response, err := r.ask(told.Partitions[tp.Partition].Leader, request)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
}

// agree wants all brokers that can answer to name the same leader of a partition,
// a given one if it is not 0, who says so too; and the given replicas in sync.
func (r *realTarget) agree(tp model.TopicPartition, inSync []int32, leader int32) error {
	for _, id := range r.serving() {
		told, err := r.metadata(id, tp.Topic)
		if err != nil {
			return err
		}
		if int(tp.Partition) >= len(told.Partitions) {
			return fmt.Errorf("broker %d does not know partition %d of %s", id, tp.Partition, tp.Topic)
		}
		p := told.Partitions[tp.Partition]
		if leader == 0 {
			leader = p.Leader
		}
		if p.Leader < 0 || p.Leader != leader {
			return fmt.Errorf("broker %d says that %d leads %v", id, p.Leader, tp)
		}
		if slices.Sort(p.ISR); inSync != nil && !slices.Equal(p.ISR, inSync) {
			return fmt.Errorf("broker %d says that in sync with %v are %v", id, tp, p.ISR)
		}
	}
	if r.paused[leader] {
		return nil
	}
	_, err := r.offset(leader, tp, false)
	return err
}

// allLed wants every partition of the script to have a leader.
func (r *realTarget) allLed() error {
	for name, partitions := range r.topics {
		for i := range partitions {
			if err := r.agree(model.TopicPartition{Topic: name, Partition: int32(i)}, nil, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *realTarget) metadata(broker int32, topic string) (*kmsg.MetadataResponseTopic, error) {
	return r.metadataOf(broker, topic, false)
}

func (r *realTarget) metadataOf(broker int32, topic string, create bool) (*kmsg.MetadataResponseTopic, error) {
	request := kmsg.NewPtrMetadataRequest()
	request.Version, request.AllowAutoTopicCreation = 12, create
	named := kmsg.NewMetadataRequestTopic()
	named.Topic = kmsg.StringPtr(r.name(topic))
	request.Topics = append(request.Topics, named)
	response, err := r.ask(broker, request)
	if err != nil {
		return nil, err
	}
	told := &response.(*kmsg.MetadataResponse).Topics[0]
	slices.SortFunc(told.Partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
	return told, kerr.ErrorForCode(told.ErrorCode)
}

// offset asks a broker where a partition ends: where consumers may read to, if it
// leads it, or where its own log ends, as a debugging replica.
func (r *realTarget) offset(broker int32, tp model.TopicPartition, own bool) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.Version, request.ReplicaID = 5, -1
	if own {
		request.ReplicaID = -2
	}
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = r.name(tp.Topic)
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = tp.Partition, -1, -1
	topic.Partitions = append(topic.Partitions, p)
	request.Topics = append(request.Topics, topic)
	response, err := r.ask(broker, request)
	if err != nil {
		return -1, err
	}
	told := response.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return told.Offset, kerr.ErrorForCode(told.ErrorCode)
}

// initProducer asks a broker for a producer id. The first one of a broker waits
// for its block.
func (r *realTarget) initProducer(broker int32) (id int64, epoch int16, err error) {
	err = r.await(func() error {
		request := kmsg.NewPtrInitProducerIDRequest()
		request.Version, request.ProducerID, request.ProducerEpoch = 4, -1, -1
		response, err := r.ask(broker, request)
		if err != nil {
			return err
		}
		told := response.(*kmsg.InitProducerIDResponse)
		id, epoch = told.ProducerID, told.ProducerEpoch
		return kerr.ErrorForCode(told.ErrorCode)
	})
	return id, epoch, err
}

// ask puts one question to one broker.
func (r *realTarget) ask(broker int32, request kmsg.Request) (kmsg.Response, error) {
	c, err := dialRaw(r.address(broker))
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.within = askTime
	if err := c.write(request); err != nil {
		return nil, err
	}
	response := request.ResponseKind()
	return response, c.readInto(request, response)
}

func (r *realTarget) send(s *model.Step) (model.Reply, error) {
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
