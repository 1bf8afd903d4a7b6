package simulation

import (
	"fmt"
	"slices"
	"sync"

	"github.com/troupe-kafka/troupe/protocol"
)

// Kind is one kind of what can go wrong.
type Kind int

// The kinds of faults. Those that happen to something (a request, a write, a
// message) are planned by the number of the occurrence; those that happen by
// themselves are planned by the virtual time.
const (
	CutBeforeAppend     Kind = iota // the connection ends before the request is served
	CutMidAppend                    // the connection ends when some partitions of a request are served
	CutAfterAppend                  // the request is served, its answer is lost
	WriteFails                      // a write ends half-way
	SlowWrite                       // the socket takes its time
	SlowAnswer                      // the broker takes its time
	SlowLink                        // a connection is slow in both directions, as long as it lives
	LateArrival                     // requests of a connection that has ended reach the broker much later
	RequestTwice                    // a numbered Produce is served twice; its answer is the second one
	AnswerTwice                     // an answer arrives twice
	BlackHole                       // no answer, and the connection stays open
	DialRefused                     // nobody listens
	DialHangs                       // the connection never comes up
	StaleView                       // a broker learns late who leads
	TimedOutAfter                   // REQUEST_TIMED_OUT after the request's timeout, appended
	TooFewReplicas                  // NOT_ENOUGH_REPLICAS, not appended
	TooFewAfterAppend               // NOT_ENOUGH_REPLICAS_AFTER_APPEND, appended
	MovedAfterAppend                // NOT_LEADER_OR_FOLLOWER with a base offset, appended, and the leader moves
	UnknownError                    // UNKNOWN_SERVER_ERROR, appended or not
	ErrorAnswer                     // any code of the error table, appended or not as the code allows
	FatalAnswer                     // a code that ends the producer
	Throttled                       // throttle time in the answer
	MetadataFails                   // a metadata request is cut
	NoProducerIDYet                 // COORDINATOR_LOAD_IN_PROGRESS
	ActorCrash                      // an actor panics instead of handling a message
	DecisionCrash                   // a decision panics half-way: an actor's, or a partition's in whoever's turn
	CallbackSlow                    // the user's callback takes its time
	CallbackPanics                  // the user's callback panics
	ContextPanics                   // a record's context panics when an actor asks whether it has ended
	CodecSlow                       // the user's codec takes its time
	AuthenticationFails             // a broker refuses the credentials
	CutAnyTime                      // all connections to a broker end
	BrokerDown                      // a broker is away for a while
	ClusterDown                     // all brokers are away for a while
	RollingUpgrade                  // the brokers restart one after the other, with newer versions
	LeaderMoves                     // another broker leads a partition
	LeaderIsolated                  // a leader without followers: what it appends is lost
	LeaderLost                      // a partition has no leader for a while
	ZombieLeader                    // a broker leads on while another was elected
	TopicRecreated                  // the topic is deleted and created again
	WallClockJumps                  // somebody sets the wall clock; the monotonic clock does not care
	LeaderRestarts                  // a leader ends and leads again: of each producer it knows the last batch
	UncleanElection                 // a follower that has fallen behind leads: what it lacks is lost
	FollowerLags                    // a follower of a partition does not fetch
	RecordsDeleted                  // the beginning of a log is deleted
	ProducersForgotten              // brokers forget the producers that were quiet for too long
	BatchesLimited                  // max.message.bytes of a topic is lowered for a while
	PartitionsAdded                 // a topic gets more partitions
	TopicDeleted                    // the last of the world's topics is deleted
	Kinds                           // how many kinds there are

	firstTimed = CutAnyTime
)

var kindNames = [Kinds]string{
	"cut-before-append", "cut-mid-append", "cut-after-append", "write-fails", "slow-write", "slow-answer", "slow-link", "late-arrival",
	"request-twice", "answer-twice", "black-hole", "dial-refused", "dial-hangs", "stale-view", "timed-out-after-append", "too-few-replicas", "too-few-after-append",
	"moved-after-append", "unknown-error", "error-answer", "fatal-answer", "throttled", "metadata-fails", "no-producer-id-yet", "actor-crash", "decision-crash",
	"callback-slow", "callback-panics", "context-panics", "codec-slow", "authentication-fails", "cut-any-time", "broker-down", "cluster-down", "rolling-upgrade", "leader-moves",
	"leader-isolated", "leader-lost", "zombie-leader", "topic-recreated", "wall-clock-jumps", "leader-restarts", "unclean-election",
	"follower-lags", "records-deleted", "producers-forgotten", "batches-limited", "partitions-added", "topic-deleted",
}

// String returns the kind's name.
func (k Kind) String() string {
	if k < 0 || k >= Kinds {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Timed reports whether faults of the kind happen by themselves, at a time.
func (k Kind) Timed() bool { return k >= firstTimed }

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.Index(kindNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("simulation: no fault is called %q", text)
	}
	*k = Kind(i)
	return nil
}

// producible are the codes that an ErrorAnswer may have: all of the table but
// those that end the producer, and none.
var producible = sync.OnceValue(func() []protocol.ErrorCode { return codesOf(false) })

// fatal are the codes that a FatalAnswer may have.
var fatal = sync.OnceValue(func() []protocol.ErrorCode { return codesOf(true) })

func codesOf(fatal bool) (codes []protocol.ErrorCode) {
	for i := range codeCount {
		code := protocol.ErrorCode(i - 1)
		if code != protocol.None && (code.Info().Action == protocol.Fatal) == fatal {
			codes = append(codes, code)
		}
	}
	return codes
}
