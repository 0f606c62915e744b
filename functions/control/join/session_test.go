package join

import (
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

func (w *world) sessions(room string) []*control.Session {
	w.t.Helper()
	all, err := control.LoadAll[control.Session](w.ctx, w.store, control.RoomPK(room), control.SessionPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// TestSessionOpensWithTheJoin: the ledger knows a participant from the very commit
// that admits the join, wherever the function crashes: there is never an admitted
// join without its session, nor a session without a join.
func TestSessionOpensWithTheJoin(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; at <= 3; at++ {
			w := newWorld(t)
			r := w.live("link1")
			token, try := w.ticket(r.ID), attempt()
			proc := controltest.NewProcess(w.store, w.fleet, w.post)
			w.use(proc.Store(), proc.Fleet(), proc.Post())
			proc.CrashAt(at, after)
			_ = w.join.ClientFrame(w.ctx, "c1", encode(t, signal.TypeJoin, 1, joinBy(token, try)))
			w.use(w.store, w.fleet, w.post)
			if n := len(w.sessions(r.ID)); uint64(n) != w.get(r.ID).JoinSeq {
				t.Errorf("crash at %d: %d sessions, %d joins admitted", at, n, w.get(r.ID).JoinSeq)
			}
			w.send("c2", signal.TypeJoin, 1, joinBy(token, try)) // the client repeats it
			all := w.sessions(r.ID)
			if len(all) != 1 || all[0].Epoch != 1 || all[0].Seq != 0 || all[0].AdmittedMS == 0 || all[0].Role != "participant" || len(all[0].IdentityHash) != 64 {
				t.Errorf("crash at %d: sessions %+v", at, all)
			}
		}
	}
}

// TestRefusedJoinOpensNoSession: nothing is written for a ticket that was used.
func TestRefusedJoinOpensNoSession(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token := w.ticket(r.ID)
	w.send("c1", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.send("c2", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.refusedWith("c2", signal.CodeTicketUsed, 1)
	if n := len(w.sessions(r.ID)); n != 1 {
		t.Errorf("%d sessions after a refused join", n)
	}
}

// TestSecondStayIsASessionOfItsOwn: a participant that the task took for lost repeats
// its join. Secret and attempt stay, the session is new.
func TestSecondStayIsASessionOfItsOwn(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token, try := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeJoin, 1, joinBy(token, try))
	first := w.joined("link1").Session
	w.send("c2", signal.TypeJoin, 1, joinBy(token, try))
	if again := w.joined("link1").Session; again.ID != first.ID {
		t.Fatalf("a repeat has session %s, not %s", again.ID, first.ID)
	}
	now := w.clock.MS()
	w.fromTask("link1", signal.LinkHeartbeat, signal.Heartbeat{JoinSeq: 2, Usage: usage.Report{Seq: 1, AtMS: now, Sessions: []usage.Session{
		{ID: first.ID, Participant: "p", JoinedMS: now - 30_000, LeftMS: now, ParticipantMS: 30_000, LeaveReason: signal.ReasonLost},
	}}})
	w.oneFrame(control.Conn{ID: "link1", Task: true}, signal.LinkAck)
	w.send("c3", signal.TypeJoin, 1, joinBy(token, try))
	second := w.joined("link1").Session
	if second.ID == first.ID || second.Resume != first.Resume {
		t.Errorf("second stay %+v, first %+v", second, first)
	}
	if all := w.sessions(r.ID); len(all) != 2 {
		t.Errorf("%d sessions", len(all))
	}
}

// TestWireTime: how long a client's WebSocket was open is known after it has gone.
func TestWireTime(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(r.ID)})
	w.clock.Advance(90e9)
	for range 2 { // $disconnect may come twice
		if err := w.join.CloseClient(w.ctx, "c1"); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(5e9)
	}
	all, err := control.LoadAll[control.Wire](w.ctx, w.store, control.RoomPK(r.ID), control.WirePrefix)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d wires, %v", len(all), err)
	}
	if got := all[0]; got.Conn != "c1" || got.Kind != control.ConnClient || got.ClosedMS-got.OpenedMS != 90_000 {
		t.Errorf("wire %+v", got)
	}
	if got := all[1]; got.Conn != "link1" || got.Kind != control.ConnTask || got.ClosedMS != 0 {
		t.Errorf("wire %+v", got)
	}
}
