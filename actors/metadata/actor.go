package metadata

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

type refresher struct {
	settings  *messages.Settings
	root      *actor.PID
	state     *State
	timer     seams.Timer
	decisions messages.Decisions
}

// Name is the refresher's name below the root.
const Name = "metadata"

// Props returns the properties of the refresher. Its state outlives a restart.
func Props(s *messages.Settings, root *actor.PID) *actor.Props {
	path := s.Name + "/" + Name
	r := &refresher{settings: s, root: root, decisions: s.DecisionsOf(path), state: newState(config{
		seeds: len(s.Seeds), maxAge: s.MetadataMaxAge, minAge: s.MetadataMinAge, timeout: s.RequestTimeout + s.RequestTimeoutSlack,
		hedge: s.MetadataHedge, autoCreate: s.AllowAutoTopicCreate, retry: s.Retry, random: s.Randomness.For(path),
	})}
	return s.Props(path, func() actor.Actor { return r })
}

// Receive implements actor.Actor.
func (r *refresher) Receive(c actor.Context) {
	now := r.settings.Clock.Now()
	switch m := c.Message().(type) {
	case *actor.Started:
		self, system := c.Self(), c.ActorSystem()
		r.timer = r.settings.Clock.NewTimer(func() { system.Root.Send(self, &seams.Woken{}) })
	case *messages.TrackTopic:
		r.state.track(m.Name, now)
	case *messages.ForgetTopic:
		r.state.forget(m.Name)
	case *messages.RefreshMetadata:
		r.state.want(now)
	case *messages.ControlResponse:
		view, err := r.state.answered(m, now)
		r.decisions.At("knows the cluster")
		if view != nil {
			r.settings.Counters.Shard(0).Add(messages.CountRefreshes, 1)
			r.settings.Gate.Over(messages.LogNoMetadata)
			c.Send(r.root, &messages.ClusterChanged{View: view})
		}
		if err != nil {
			r.settings.Counters.Shard(0).Add(messages.CountRefreshesFailed, 1)
			r.settings.Gate.Happened(messages.Occurrence{Kind: messages.LogNoMetadata, Broker: m.Broker, Err: err})
			c.Send(r.root, &messages.RefreshFailed{Err: err, Hopeless: r.state.hopeless()})
		}
	case *seams.Woken:
	case *actor.Restarting:
		r.timer.Stop()
		r.state.crashed(now)
		return
	case *actor.Stopping:
		r.timer.Stop()
		return
	default:
		return
	}
	if request := r.state.step(now); request != nil {
		r.decisions.At("asks")
		request.ReplyTo = c.Self()
		c.Send(r.root, request)
	}
	if at := r.state.nextDeadline(); at != seams.Never {
		r.timer.Reset(at)
	}
}
