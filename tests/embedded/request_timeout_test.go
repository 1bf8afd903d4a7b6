package embedded_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/seams"
)

// rush is how many times as fast the clock of these tests runs: forty seconds
// pass in two.
const rush = 20

// rushing is the machine's clock, sped up. So the timeouts of a test are those of
// a user, slack and all, and nothing in the producer has to be made shorter.
type rushing struct{ seams.Clock }

type rushingTimer struct{ seams.Timer }

func (c rushing) Now() seams.Instant { return rush * c.Clock.Now() }

func (c rushing) Read() (seams.Instant, int64) {
	now, unixMilli := c.Clock.Read()
	return rush * now, unixMilli
}

func (c rushing) NewTimer(fire func()) seams.Timer { return rushingTimer{c.Clock.NewTimer(fire)} }

func (c rushing) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return c.Clock.WithTimeout(parent, d/rush)
}

func (t rushingTimer) Reset(at seams.Instant) { t.Timer.Reset((at + rush - 1) / rush) }

// TestRequestTimeout is about a broker that takes requests and never answers.
func TestRequestTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		own     time.Duration // of the send
		allowed time.Duration
	}{
		"timeout: a broker that never answers is given up after request timeout and slack": {0, 40 * time.Second},
		"timeout: a send's own timeout counts instead":                                     {5 * time.Second, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, 1, map[string]int32{"t": 1})
			w, n, log := watch(cluster), newNetwork(), &logLines{}
			clock := rushing{seams.NewClock()}
			p := newProducer(t, cluster, troupe.WithSeams(troupe.Seams{Clock: clock}), troupe.WithDeliveryTimeout(time.Hour), n.option(), quietly(log))
			warm(t, p, "t", 0)
			release := w.hold(t, anyRequest)
			dials, begin := n.dialed(), clock.Now()
			type sentOut struct {
				r   []troupe.RecordMetadata
				err error
			}
			done := make(chan sentOut, 1)
			go func() {
				r, err := p.Send(within(t, patience), troupe.Send{Topic: "t", Messages: msgs(0, "v"), Timeout: c.own})
				done <- sentOut{r, err}
			}()
			eventually(t, "the request", func() bool { return len(w.of("t", 0)) == 2 })
			eventually(t, "another connection", func() bool { return n.dialed() > dials })
			if waited := clock.Now().Sub(begin); waited < c.allowed {
				t.Errorf("given up after %v", waited)
			}
			lines := log.about(t, "no connection; trying again")
			if len(lines) != 1 {
				t.Fatalf("the log has %v", lines)
			}
			if text, _ := lines[0]["error"].(string); !strings.Contains(text, troupe.ErrRequestTimeout.Error()) || !strings.Contains(text, "within "+c.allowed.String()) {
				t.Errorf("the log has %v", lines)
			}
			release()
			if s := <-done; s.err != nil || len(s.r) != 1 || s.r[0].BaseOffset != 1 {
				t.Errorf("%+v %v", s.r, s.err)
			}
			// The first request was carried out after all, and the second is the same.
			expect(t, values(consumeAll(t, cluster, "t", 2)), []string{"warm", "v"})
		})
	}

	t.Run("timeout: a record without an answer is possibly persisted, and says why", func(t *testing.T) {
		t.Parallel()
		cluster := startCluster(t, 1, map[string]int32{"t": 1})
		w := watch(cluster)
		p := newProducer(t, cluster, troupe.WithSeams(troupe.Seams{Clock: rushing{seams.NewClock()}}), troupe.WithDeliveryTimeout(75*time.Second), quietly(&logLines{}))
		warm(t, p, "t", 0)
		w.hold(t, anyRequest)
		var got outcomes
		must(t, p, to("t", 0, "v"), got.add)
		d := got.wait(t, 1)[0]
		if !errors.Is(d.Err, troupe.ErrDeliveryTimeout) || d.Status != troupe.PossiblyPersisted || !errors.Is(d.LastBrokerError, troupe.ErrRequestTimeout) || d.Attempts < 2 {
			t.Errorf("%v after %d attempts: %v, last %v", d.Status, d.Attempts, d.Err, d.LastBrokerError)
		}
	})
}
