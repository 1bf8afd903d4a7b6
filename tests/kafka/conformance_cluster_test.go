package kafka_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/simulation/model"
)

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
