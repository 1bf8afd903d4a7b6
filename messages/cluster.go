package messages

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/partitioners"
)

// BrokerInfo is one node of the cluster.
type BrokerInfo struct {
	ID      int32
	Address string
	Rack    string
}

// PartitionInfo is one partition as metadata describes it.
type PartitionInfo struct {
	partitioners.Partition
	LeaderEpoch int32
}

// TopicInfo is one topic as metadata describes it.
type TopicInfo struct {
	Name string
	// ID is zero on clusters before 2.8 (KIP-516).
	ID [16]byte
	// Err is set when the cluster does not serve the topic; Permanent says that
	// waiting will not help (authorisation, invalid name).
	Err       error
	Permanent bool
	// Gone says that the topic was known before and has been deleted.
	Gone bool
	// Partitions is sorted by id.
	Partitions []PartitionInfo
}

// ClusterView is what the last refresh found. It is immutable.
type ClusterView struct {
	ClusterID string
	// Version counts refreshes.
	Version int
	// AnsweredBy is the broker whose word this is.
	AnsweredBy int32
	Brokers    []BrokerInfo
	Topics     []TopicInfo
}

// ClusterChanged carries a new view from the metadata refresher to the root,
// which starts and readdresses brokers before the router hears of it.
type ClusterChanged struct{ View *ClusterView }

// RoutesChanged carries the same view to the router, with the brokers' PIDs.
type RoutesChanged struct {
	View    *ClusterView
	Brokers map[int32]*actor.PID
}

// RefreshMetadata asks for a refresh soon. Many askers cause one.
type RefreshMetadata struct{ Reason string }

// TrackTopic adds a topic to what the refresher asks for.
type TrackTopic struct{ Name string }

// ForgetTopic removes one that was idle for the metadata idle time.
type ForgetTopic struct{ Name string }

// RefreshFailed tells the router that a refresh found no cluster, with why; its
// parked records carry it in their error if they time out.
type RefreshFailed struct {
	Err error
	// Hopeless says that every broker refuses who we are, and that none ever let us in:
	// records fail at once. It is tried again all the same, since passwords change on
	// either side.
	Hopeless bool
}
