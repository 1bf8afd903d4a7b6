package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// errUnsupportedVersion is what Kafka answers to an ApiVersions of the future.
const errUnsupportedVersion = 35

// maxControl bounds a request that is read in one piece.
const maxControl = 1 << 20

// control answers everything but Produce. It happens a few times per connection,
// so it may allocate.
func (c *connection) control(key, version int16) error {
	req := kmsg.RequestForKey(key)
	if req == nil {
		return fmt.Errorf("unknown request %d", key)
	}
	c.in.text(false) // client id
	if key == keyAPIVersions && version > req.MaxVersion() {
		// The header may be of a form not known here; all that follows is skipped.
		c.in.skip(c.in.left, nil)
		answer := c.apiVersions(0)
		answer.ErrorCode = errUnsupportedVersion
		c.out = answer.AppendTo(c.out)
		return c.in.err
	}
	if version > req.MaxVersion() {
		return fmt.Errorf("%s version %d is not advertised", kmsg.NameForKey(key), version)
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		c.in.tags()
		if key != keyAPIVersions { // its answer must be readable by a client that knows nothing
			c.out = append(c.out, 0)
		}
	}
	if c.in.left > maxControl {
		return fmt.Errorf("%s of %d bytes", kmsg.NameForKey(key), c.in.left)
	}
	body := make([]byte, 0, c.in.left)
	for c.in.left > 0 && c.in.err == nil {
		body = append(body, c.in.take(min(c.in.left, minBuffer))...)
	}
	if c.in.err != nil {
		return c.in.err
	}
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("%s version %d: %w", kmsg.NameForKey(key), version, err)
	}
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		c.out = c.apiVersions(version).AppendTo(c.out)
	case *kmsg.MetadataRequest:
		c.out = c.metadata(req).AppendTo(c.out)
	case *kmsg.InitProducerIDRequest:
		answer := kmsg.NewPtrInitProducerIDResponse()
		answer.SetVersion(version)
		answer.ProducerID = c.nextProducer.Add(1)
		c.out = answer.AppendTo(c.out)
	default:
		return fmt.Errorf("%s is not advertised", kmsg.NameForKey(key))
	}
	return nil
}

func (c *connection) apiVersions(version int16) *kmsg.ApiVersionsResponse {
	answer := kmsg.NewPtrApiVersionsResponse()
	answer.SetVersion(version)
	for _, k := range []struct{ key, min, max int16 }{
		{keyProduce, minProduce, c.maxProduce},
		{keyMetadata, 0, 12},
		{keyAPIVersions, 0, 4},
		{keyInitProducerID, 0, 4},
		// Never served. librdkafka takes from these that a broker knows batches of
		// version 2, and each codec.
		{keyFetch, 0, 12},
		{keyFindCoordinator, 0, 4},
	} {
		a := kmsg.NewApiVersionsResponseApiKey()
		a.ApiKey, a.MinVersion, a.MaxVersion = k.key, k.min, k.max
		answer.ApiKeys = append(answer.ApiKeys, a)
	}
	return answer
}

func (c *connection) metadata(req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	answer := kmsg.NewPtrMetadataResponse()
	answer.SetVersion(req.Version)
	answer.ClusterID = kmsg.StringPtr("nullbroker")
	answer.ControllerID = 0
	for node, address := range c.addresses {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(node), address.IP.String(), int32(address.Port)
		answer.Brokers = append(answer.Brokers, b)
	}
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range c.topics {
			answer.Topics = append(answer.Topics, t.describe())
		}
		return answer
	}
	for _, asked := range req.Topics {
		var t *topic
		unknown := kmsg.NewMetadataResponseTopic()
		if asked.Topic != nil {
			t = c.topics[*asked.Topic]
			unknown.Topic, unknown.ErrorCode = asked.Topic, errUnknownTopic
		} else {
			t = c.byID[asked.TopicID]
			unknown.TopicID, unknown.ErrorCode = asked.TopicID, errUnknownTopicID
		}
		if t == nil {
			answer.Topics = append(answer.Topics, unknown)
		} else {
			answer.Topics = append(answer.Topics, t.describe())
		}
	}
	return answer
}

func (t *topic) describe() kmsg.MetadataResponseTopic {
	d := kmsg.NewMetadataResponseTopic()
	d.Topic, d.TopicID = kmsg.StringPtr(t.name), t.id
	for i := range t.partitions {
		p := kmsg.NewMetadataResponseTopicPartition()
		p.Partition, p.Leader = int32(i), t.partitions[i].leader
		p.Replicas = []int32{p.Leader}
		p.ISR = p.Replicas
		d.Partitions = append(d.Partitions, p)
	}
	return d
}
