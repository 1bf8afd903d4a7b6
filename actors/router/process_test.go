package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/seams"
)

// register gives the router's process a PID.
func (w *world) register() *actor.PID {
	pid, _ := system.ProcessRegistry.Add(w.Process(), w.Settings.Name+"/router-process")
	return pid
}

// TestProduceMessages: each is answered once, the refused at once, and the answer
// goes to ReplyTo, else to the sender, else to nobody.
func TestProduceMessages(t *testing.T) {
	w := newWorld(t)
	w.topic("t")
	w.found(topicOf("t", 0))
	pid := w.register()
	sender, from := newInbox("sender")
	other, replyTo := newInbox("reply-to")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		m    *messages.Produce
		want error
	}{
		{"no topic", &messages.Produce{Record: messages.Record{Tag: 1}}, messages.ErrInvalidRecord},
		{"a negative partition", &messages.Produce{Record: messages.Record{Topic: "t", Tag: 2, Partition: messages.AtPartition(-1)}}, messages.ErrInvalidRecord},
		{"too large", &messages.Produce{Record: messages.Record{Topic: "t", Tag: 3, Opaque: "o", Value: make([]byte, 2<<20)}}, messages.ErrRecordTooLarge},
		{"a context that has ended", &messages.Produce{Record: messages.Record{Topic: "t", Tag: 4}, Context: ended}, context.Canceled},
	} {
		for _, to := range []*inbox{sender, other} {
			m := *c.m
			if to == other {
				m.ReplyTo = replyTo
			}
			sender.clear()
			other.clear()
			system.Root.RequestWithCustomSender(pid, &m, from)
			if all := got[*messages.Delivered](to); len(all) == 1 {
				d := all[0].Delivery
				if !errors.Is(d.Err, c.want) || d.Tag != m.Record.Tag || d.Opaque != m.Record.Opaque || d.Offset != -1 || d.Status != messages.NotPersisted {
					t.Errorf("%s: %+v", c.name, d)
				}
			} else {
				t.Errorf("%s: %d answers", c.name, len(all))
			}
			if n := len(got[*messages.Delivered](sender)) + len(got[*messages.Delivered](other)); n != 1 {
				t.Errorf("%s: %d answers in all", c.name, n)
			}
		}
	}
	system.Root.Send(pid, &messages.Produce{Record: *record("t", "nobody listens")})
	system.Root.Send(pid, &messages.Produce{Record: messages.Record{}})
	if got := w.boxes["t/0"].values(); got != "nobody listens" {
		t.Errorf("the partition got %q", got)
	}
}

// TestWritableFollowsTheRefusal: when there is room again in the account that
// lacked it, once however many records were refused, and after the refusals.
func TestWritableFollowsTheRefusal(t *testing.T) {
	w := newWorld(t)
	w.hungry = true
	w.topic("t")
	w.found(topicOf("t", 0, 1))
	pid := w.register()
	sender, from := newInbox("sender")
	value := strings.Repeat("x", 60_000)
	produce := func(partition int32) {
		system.Root.RequestWithCustomSender(pid, &messages.Produce{Record: *at("t", partition, value)}, from)
	}
	for range 30 {
		produce(0)
	}
	refused := got[*messages.Delivered](sender)
	if len(refused) == 0 || len(refused) == 30 || len(got[*messages.Writable](sender)) != 0 {
		t.Fatalf("%d refused, %d times writable", len(refused), len(got[*messages.Writable](sender)))
	}
	for _, m := range refused {
		if !errors.Is(m.Delivery.Err, messages.ErrBufferFull) || m.Delivery.Status != messages.NotPersisted {
			t.Errorf("%+v", m.Delivery)
		}
	}
	// Somebody else waits, and another leader's room is none of this one's.
	var o outcomes
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	unknown := w.waiting(ctx, at("unknown", 0, strings.Repeat("u", 200_000)), &o, 0)
	produce(1)
	w.boxes["t/1"].settle()
	if n := len(got[*messages.Writable](sender)); n != 0 {
		t.Fatalf("writable %d times though its leader has no room", n)
	}
	w.boxes["t/0"].settle()
	if n := len(got[*messages.Writable](sender)); n != 1 {
		t.Errorf("writable %d times", n)
	}
	if _, last := sender.list[len(sender.list)-1].(*messages.Writable); !last {
		t.Error("the last word is not that there is room")
	}
	produce(0)
	if n := len(got[*messages.Delivered](sender)); n != len(refused) {
		t.Errorf("%d refused after it was writable", n-len(refused))
	}
	cancel()
	_ = result(t, unknown)
}

// TestWritableOfAnUnknownTopic follows when the topic is known.
func TestWritableOfAnUnknownTopic(t *testing.T) {
	w := newWorld(t)
	pid := w.register()
	sender, from := newInbox("sender")
	var o outcomes
	w.fillParking("t", &o)
	system.Root.RequestWithCustomSender(pid, &messages.Produce{Record: *at("t", 0, late)}, from)
	if d := got[*messages.Delivered](sender); len(d) != 1 || !errors.Is(d[0].Delivery.Err, messages.ErrBufferFull) {
		t.Fatalf("%v", d)
	}
	w.found(topicOf("t", 0))
	if n := len(got[*messages.Writable](sender)); n != 1 {
		t.Errorf("writable %d times", n)
	}
}

// TestLifeOfTheProcess: stopping it begins Close, whoever watches hears of the
// end of the tree, and what is not about records goes to the root.
func TestLifeOfTheProcess(t *testing.T) {
	w := newWorld(t)
	pid := w.register()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"Stop", func() { system.Root.Stop(pid) }},
		{"Poison", func() { system.Root.Poison(pid) }},
	} {
		w.root.clear()
		c.do()
		if n := len(got[*messages.BeginClose](w.root)); n != 1 {
			t.Errorf("%s: told to close %d times", c.name, n)
		}
	}
	system.Root.Send(pid, &messages.CloseNow{})
	if len(got[*messages.CloseNow](w.root)) != 1 {
		t.Error("CloseNow does not reach the root")
	}

	var watchers []*inbox
	p := w.Process()
	for i := range 3 {
		in, watcher := newInbox(fmt.Sprint("watcher-", i))
		watchers = append(watchers, in)
		p.SendSystemMessage(pid, &actor.Watch{Watcher: watcher})
		p.SendSystemMessage(pid, &actor.Watch{Watcher: watcher})
		if i == 2 {
			p.SendSystemMessage(pid, &actor.Unwatch{Watcher: watcher})
		}
	}
	p.SendSystemMessage(pid, &actor.Watch{Watcher: actor.NewPID("nonhost", "is no more")})
	p.End(pid)
	for i, want := range []int{1, 1, 0} {
		all := got[*actor.Terminated](watchers[i])
		if len(all) != want {
			t.Errorf("watcher %d was told %d times", i, len(all))
		}
		for _, m := range all {
			if !m.Who.Equal(pid) {
				t.Errorf("watcher %d was told of %v", i, m.Who)
			}
		}
	}
}

// TestTombstoneHoldsNothing of the producer that it stands for.
func TestTombstoneHoldsNothing(t *testing.T) {
	var router weak.Pointer[Router]
	p := func() *Process {
		parking := seams.NewParking()
		s := &messages.Settings{Clock: seams.NewClock(), Parking: parking, Randomness: seams.SeededRandomness(1)}
		_, rootPID := newInbox("root")
		r := New(Config{Settings: s, Budget: memory.NewBudget(bufferBytes, parking), Root: rootPID}, system)
		if _, err := r.Topic("t"); err != nil {
			t.Error(err)
		}
		router = weak.Make(r)
		return r.Process()
	}()
	runtime.GC()
	if router.Value() == nil {
		t.Fatal("the process of a living producer does not hold it")
	}
	p.End(actor.NewPID("nonhost", "ended"))
	runtime.GC()
	if router.Value() != nil {
		t.Error("the tombstone holds the router")
	}
	runtime.KeepAlive(p)
}

// TestTombstone: after the end every message is answered, and nothing else
// happens.
func TestTombstone(t *testing.T) {
	w := newWorld(t)
	pid := w.register()
	w.Process().End(pid)
	w.root.clear()
	sender, from := newInbox("sender")
	fresh := actor.NewPID(pid.Address, pid.Id)
	system.Root.RequestWithCustomSender(fresh, &messages.Produce{Record: messages.Record{Topic: "t", Tag: 3, Opaque: 4, Partition: messages.AtPartition(5)}}, from)
	system.Root.Send(fresh, &messages.Produce{Record: messages.Record{Topic: "t"}, ReplyTo: from})
	system.Root.RequestWithCustomSender(fresh, "anything", from)
	all := got[*messages.Delivered](sender)
	if len(all) != 3 {
		t.Fatalf("%d answers", len(all))
	}
	for i, m := range all {
		if !errors.Is(m.Delivery.Err, messages.ErrClosed) || m.Delivery.Status != messages.NotPersisted || m.Delivery.Offset != -1 {
			t.Errorf("answer %d: %+v", i, m.Delivery)
		}
	}
	if d := all[0].Delivery; d.Topic != "t" || d.Tag != 3 || d.Opaque != 4 || d.Partition != 5 {
		t.Errorf("%+v", d)
	}
	system.Root.Send(fresh, &messages.Produce{}) // nobody to answer
	system.Root.Stop(fresh)
	system.Root.Poison(fresh)
	w.Process().SendSystemMessage(pid, &actor.Unwatch{Watcher: from})
	w.Process().SendSystemMessage(pid, &actor.Watch{Watcher: from})
	if n := len(got[*actor.Terminated](sender)); n != 1 {
		t.Errorf("a late watcher was told %d times", n)
	}
	if len(w.root.list) != 0 {
		t.Errorf("the root was told %v", w.root.list)
	}
}
