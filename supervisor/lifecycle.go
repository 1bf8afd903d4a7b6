package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/messages"
)

// closeGrace is how long Stop waits for the callbacks of the records that it
// failed itself; a callback may be what is calling it.
const closeGrace = time.Second

// stopGrace is how long Stop waits for the tree to come down. It takes
// milliseconds, unless code of the user's hangs in it: the Close of a connection
// that came from a dialer, or a dispatcher.
const stopGrace = 5 * time.Second

// WaitReady returns when the cluster has answered once, or every broker refuses who we
// are (ErrAuthentication), or with the context's cause and why nobody has answered.
func (t *Troupe) WaitReady(ctx context.Context) error {
	if t.shared.stopped.IsOpen() { // also if the cluster has answered before
		return messages.ErrClosed
	}
	err := t.shared.wait().Wait(ctx)
	switch {
	case t.shared.stopped.IsOpen():
		return messages.ErrClosed
	case err != nil:
		return t.Router.Because(err)
	}
	return t.shared.word()
}

// Drain refuses further records and waits for the outcomes and callbacks of
// those admitted, or for the context, whose cause it then returns.
func (t *Troupe) Drain(ctx context.Context) error {
	t.Router.Refuse(messages.ErrClosed)
	return t.Router.Flush(ctx)
}

// Stop takes the tree down. drained is what Drain returned: if that is an error,
// the records that are left are answered with ErrClosed first. Stop returns
// drained with what was left, and if so that the actors have not ended after stopGrace.
func (t *Troupe) Stop(drained error) error {
	if drained != nil {
		if n := t.Router.Unanswered(); n > 0 {
			drained = t.Router.Because(fmt.Errorf("%w, with %d records or callbacks left", drained, n))
		}
		t.Router.FailAll(messages.ErrClosed)
		grace, cancel := t.settings.Clock.WithTimeout(context.Background(), closeGrace)
		defer cancel()
		_ = t.Router.Flush(grace)
	}
	if t.shared.stopped.IsOpen() {
		return drained
	}
	t.system.Root.Send(t.root, &messages.CloseNow{})
	ctx, cancel := t.settings.Clock.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := t.shared.stopped.Wait(ctx); err != nil {
		t.settings.Log.Error().Dur("waited", stopGrace).Msg("the producer's actors have not ended; something holds up one of their turns")
		return errors.Join(drained, fmt.Errorf("the actors have not ended: %w", err))
	}
	return drained
}

// closeInBackground is Close for those who asked by message: it gives records
// their delivery timeout, and no more.
func closeInBackground(r *root, self *actor.PID, system *actor.ActorSystem) {
	ctx, cancel := r.Settings.Clock.WithTimeout(context.Background(), r.Settings.DeliveryTimeout+r.Settings.RequestTimeout)
	defer cancel()
	_ = r.routes.Flush(ctx)
	system.Root.Send(self, &messages.CloseNow{})
}
