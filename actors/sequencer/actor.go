package sequencer

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

type sequencer struct {
	settings  *messages.Settings
	root      *actor.PID
	state     *State
	timer     seams.Timer
	crashed   bool // the last incarnation did
	decisions messages.Decisions
}

// Name is the sequencer's name below the root.
const Name = "sequencer"

// Props returns the properties of the sequencer. Its state outlives a restart:
// forgetting an epoch could hand it out twice.
func Props(s *messages.Settings, root *actor.PID) *actor.Props {
	path := s.Name + "/" + Name
	q := &sequencer{settings: s, root: root, decisions: s.DecisionsOf(path), state: newState(config{
		timeout: s.RequestTimeout + s.RequestTimeoutSlack, hedge: s.MetadataHedge, retry: s.Retry, random: s.Randomness.For(path),
	})}
	return s.Props(path, func() actor.Actor { return q })
}

// Receive implements actor.Actor.
func (q *sequencer) Receive(c actor.Context) {
	now := q.settings.Clock.Now()
	publish := false
	switch m := c.Message().(type) {
	case *actor.Started:
		self, system := c.Self(), c.ActorSystem()
		q.timer = q.settings.Clock.NewTimer(func() { system.Root.Send(self, &seams.Woken{}) })
		if q.crashed {
			publish = q.state.need(now) // somebody may have asked, or waits for the answer
		}
	case *messages.NeedIdentity:
		publish = q.state.need(now)
	case *messages.BumpEpoch:
		publish = q.state.bump(m.After, now)
	case *messages.ControlResponse:
		publish = q.state.answered(m, now)
		if m.Err != nil {
			q.settings.Gate.Happened(messages.Occurrence{Kind: messages.LogNoProducerID, Broker: m.Broker, Err: m.Err})
		} else if publish {
			q.settings.Gate.Over(messages.LogNoProducerID)
		}
		if q.state.fatal != nil {
			c.Send(q.root, &messages.ProducerFailed{Err: q.state.fatal})
		}
	case *seams.Woken:
	case *actor.Restarting:
		q.timer.Stop()
		q.crashed = q.settings.Idempotent
		q.state.crashed(now)
		return
	case *actor.Stopping:
		q.timer.Stop()
		return
	default:
		return
	}
	if publish {
		q.decisions.At("has an identity")
		c.Send(q.root, &messages.IdentityChanged{Identity: q.state.identity})
	}
	if request := q.state.step(now); request != nil {
		q.decisions.At("asks")
		request.ReplyTo = c.Self()
		c.Send(q.root, request)
	}
	if at := q.state.nextDeadline(); at != seams.Never {
		q.timer.Reset(at)
	}
}
