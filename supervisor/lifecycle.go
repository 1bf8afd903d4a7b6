package supervisor

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// closeGrace is how long Close waits for the callbacks of the records that it
// failed itself; a callback may be what is calling it.
const closeGrace = time.Second

// WaitReady returns when the cluster has answered once, or with the context's
// cause.
func (t *Troupe) WaitReady(ctx context.Context) error {
	select {
	case <-t.shared.stopped: // also if the cluster has answered before
		return messages.ErrClosed
	default:
	}
	select {
	case <-t.shared.ready:
		return nil
	case <-t.shared.stopped:
		return messages.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close refuses further records, waits for the outcomes of those admitted until
// the context ends, answers the rest, and takes the tree down. It returns nil
// when every record had its outcome in time.
func (t *Troupe) Close(ctx context.Context) error {
	t.Router.Refuse(messages.ErrClosed)
	err := t.Router.Flush(ctx)
	if err != nil {
		t.Router.FailAll(messages.ErrClosed)
		grace, cancel := t.settings.Clock.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		_ = t.Router.Flush(grace)
	}
	t.system.Root.Send(t.root, &messages.CloseNow{})
	<-t.shared.stopped
	return err
}

// Stopped is closed when the tree is down.
func (t *Troupe) Stopped() <-chan struct{} { return t.shared.stopped }

// closeInBackground is Close for those who asked by message: it gives records
// their delivery timeout, and no more.
func closeInBackground(r *root, self *actor.PID, system *actor.ActorSystem) {
	ctx, cancel := r.Settings.Clock.WithTimeout(context.Background(), r.Settings.DeliveryTimeout+r.Settings.RequestTimeout)
	defer cancel()
	_ = r.routes.Flush(ctx)
	system.Root.Send(self, &messages.CloseNow{})
}
