package join

import (
	"errors"
	"slices"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// orders are the last ones that a link was sent.
func (w *world) orders(link string) (o signal.Orders) {
	w.t.Helper()
	frames := w.post.Take(control.Conn{ID: link, Task: true})
	for _, f := range frames {
		if f.Type == signal.LinkOrders {
			o = body[signal.Orders](w.t, f)
		}
	}
	return o
}

func TestEjectedIsRefusedByTicketAndResume(t *testing.T) {
	w := newWorld(t)
	r := w.live("l1")
	token, a := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeJoin, 1, joinBy(token, a))
	in := w.joined("l1")
	if _, _, err := w.life.Eject(w.ctx, r.ID, in.Participant, true); err != nil {
		t.Fatal(err)
	}
	if o := w.orders("l1"); o.Rev != 1 || len(o.Participants) != 1 || !o.Participants[0].Ejected || o.Participants[0].Participant != in.Participant {
		t.Errorf("the task is told %+v", o)
	}
	w.post.Take(control.Conn{ID: "c1"})
	w.send("c2", signal.TypeJoin, 1, joinBy(token, a)) // the very same attempt
	w.refusedWith("c2", signal.CodeEjected, 1)
	w.send("c3", signal.TypeJoin, 1, joinAgain(in.Session.Resume, attempt()))
	w.refusedWith("c3", signal.CodeEjected, 1)
	w.send("c4", signal.TypeWatch, 1, signal.Watch{Resume: in.Session.Resume})
	w.refusedWith("c4", signal.CodeEjected, 1)
	again := w.ticket(r.ID) // another ticket of the same identity
	w.send("c5", signal.TypeJoin, 1, joinBy(again, attempt()))
	w.refusedWith("c5", signal.CodeEjected, 1)
	other := w.ticket(r.ID, func(c *ticket.Claims) { c.Identity = "somebody else" })
	w.send("c6", signal.TypeJoin, 1, joinBy(other, attempt()))
	w.joined("l1")

	// With the ban lifted new tickets are good; the participation that was ended is not.
	ban, err := control.Load[control.Ban](w.ctx, w.store, control.BanKey(r.ID, in.Session.Identity))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Commit(w.ctx, control.Remove(ban)); err != nil {
		t.Fatal(err)
	}
	w.send("c7", signal.TypeJoin, 1, joinBy(again, attempt()))
	w.joined("l1")
	w.send("c8", signal.TypeJoin, 1, joinAgain(in.Session.Resume, attempt()))
	w.refusedWith("c8", signal.CodeEjected, 1)
}

func TestBanEjectsWhoIsInAndKeepsOut(t *testing.T) {
	w := newWorld(t)
	r := w.live("l1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	one := w.joined("l1")
	w.send("c2", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt())) // on another device
	two := w.joined("l1")
	if _, err := w.life.Ban(w.ctx, r.ID, one.Session.Identity); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range w.orders("l1").Participants {
		if o.Ejected {
			out = append(out, o.Participant)
		}
	}
	want := []string{one.Participant, two.Participant}
	slices.Sort(want)
	slices.Sort(out)
	if !slices.Equal(out, want) {
		t.Errorf("ejected %q, want %q", out, want)
	}
	w.send("c3", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	w.refusedWith("c3", signal.CodeEjected, 1)
}

// A ban that is committed between a join's reads and its commit wins.
func TestJoinLosesAgainstABan(t *testing.T) {
	w := newWorld(t)
	r := w.live("l1")
	token := w.ticket(r.ID)
	who, err := w.join.identify(w.ctx, "c1", token, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.life.Ban(w.ctx, r.ID, who.claims.Identity); err != nil {
		t.Fatal(err)
	}
	m := joinBy(token, attempt())
	var fault *signal.Error
	if _, _, err := w.join.admit(w.ctx, who, &m); !errors.As(err, &fault) || fault.Code != signal.CodeEjected {
		t.Errorf("admitted: %v", err)
	}
	write := notBanned(r.ID, who.claims.Identity)
	if err := w.store.Commit(w.ctx, write); !control.LostRace(err) {
		t.Errorf("the join's commit does not see the ban: %v", err)
	}
}

// Orders outlive the task: the next join carries them, and the next epoch's task is told
// everything until it says that it is done.
func TestOrdersSurviveTheEpoch(t *testing.T) {
	w := newWorld(t)
	r := w.live("l1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	in := w.joined("l1")
	listen := signal.Grants{Publish: []string{}, Subscribe: true}
	if _, _, err := w.life.Moderate(w.ctx, r.ID, in.Participant, life.Moderation{Muted: map[string]bool{signal.KindMic: true}, Grants: &listen}); err != nil {
		t.Fatal(err)
	}
	if o := w.orders("l1"); len(o.Participants) != 1 || !slices.Equal(o.Participants[0].Muted, []string{signal.KindMic}) || len(o.Participants[0].Grants.Publish) != 0 {
		t.Fatalf("the task is told %+v", o)
	}
	beat := func(link string, seq, rev uint64) {
		h := signal.Heartbeat{JoinSeq: 1, Orders: rev}
		h.Usage.Seq, h.Usage.AtMS = seq, w.clock.MS()
		w.fromTask(link, signal.LinkHeartbeat, h)
	}
	beat("l1", 1, 0)
	if o := w.orders("l1"); o.Rev != 1 {
		t.Errorf("a task that has not said that it is done is told %+v", o)
	}
	beat("l1", 2, 1)
	if o := w.orders("l1"); o.Rev != 0 || w.get(r.ID).OrderAck != 1 {
		t.Errorf("a task that has is told %+v", o)
	}
	w.kill(r.ID, "l2")
	w.post.Take(control.Conn{ID: "l2", Task: true})
	w.send("c2", signal.TypeJoin, 1, joinAgain(in.Session.Resume, attempt()))
	back := w.joined("l2")
	if s := back.Session; s.OrderRev != 1 || !slices.Equal(s.Muted, []string{signal.KindMic}) || len(s.Grants.Publish) != 0 {
		t.Errorf("the next task's join has %+v", s)
	}
	beat("l2", 1, 0)
	if o := w.orders("l2"); o.Rev != 1 || len(o.Participants) != 1 {
		t.Errorf("the next task is told %+v", o)
	}
}
