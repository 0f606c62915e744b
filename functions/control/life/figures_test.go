package life

import (
	"slices"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/figures"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// metered is a world whose figures are kept.
func metered(t *testing.T) (*world, *controltest.Meter) {
	w, m := newWorld(t), &controltest.Meter{}
	w.life.Meter = m
	return w, m
}

// TestFiguresOfALife: each phase of a start and the whole, the rooms that are there, and the
// record that stays open until its task is proved stopped.
func TestFiguresOfALife(t *testing.T) {
	w, m := metered(t)
	w.sweep()
	equal(t, "before", m.Last(figures.RoomsActive), 0.0)
	r := w.create()
	w.clock.Advance(7 * time.Second)
	w.changed(w.fleet.Pull(w.task(r.ID, 1).ARN))
	w.clock.Advance(11 * time.Second)
	w.changed(w.fleet.Run(w.task(r.ID, 1).ARN))
	w.clock.Advance(1500 * time.Millisecond)
	w.sweep()
	equal(t, "starting", m.Last(figures.RoomsActive), 1.0)
	w.clock.Advance(500 * time.Millisecond)
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	for phase, want := range map[string]float64{
		lifecycle.PhaseRequested: 0, lifecycle.PhaseProvisioning: 7, lifecycle.PhasePulling: 11, lifecycle.PhaseBooting: 2, figures.PhaseTotal: 20,
	} {
		equal(t, phase, m.Of(figures.RoomStart, phase), []float64{want})
	}
	w.register(r.ID, 1, "link2", signal.LinkRegistered) // its link was cut: no other start
	equal(t, "starts", len(m.Of(figures.RoomStart, figures.PhaseTotal)), 1)

	w.ending("link2", signal.Ending{Final: true, Reason: "empty", Usage: w.report("link2", 0)})
	task := w.task(r.ID, 1).ARN
	w.clock.Advance(2 * time.Second)
	w.sweep()
	equal(t, "draining", m.Last(figures.RoomsActive), 1.0)
	equal(t, "open records of rooms that are over", m.Last(figures.LedgerOpen), 0.0)
	w.changed(w.fleet.Exit(task, 0))
	w.want(r.ID, lifecycle.Ended, 1)
	equal(t, "lag of the close", len(m.Of(figures.LedgerCloseLag, "")), 1)
	w.sweep()
	equal(t, "after", m.Last(figures.RoomsActive), 0.0)
	equal(t, "failures", m.Of(figures.RoomFailures, figures.Other), []float64(nil))
}

// TestFiguresOfAMove: the second task of a room is no start of a room.
func TestFiguresOfAMove(t *testing.T) {
	w, m := metered(t)
	r := w.liveRoom()
	before := len(m.Of(figures.RoomStart, figures.PhaseTotal))
	w.clock.Advance(time.Minute)
	w.changed(w.fleet.Kill(r.Task))
	w.want(r.ID, lifecycle.Starting, 2)
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	equal(t, "starts", len(m.Of(figures.RoomStart, figures.PhaseTotal))-before, 0)
	equal(t, "phases", len(m.Of(figures.RoomStart, lifecycle.PhaseProvisioning)), 1)
}

// TestFiguresOfAnOpenRecord: a room that is over, one of whose tasks nobody proves stopped.
func TestFiguresOfAnOpenRecord(t *testing.T) {
	w, m := metered(t)
	ran := w.fleet.Stray(startedBy("room_x", 1))
	room := newRoom("room_x", request(""), w.clock.Now())
	room.State, room.Phase, room.Epoch, room.EndedMS = lifecycle.Failed, lifecycle.PhaseFailed, 1, w.clock.MS()
	w.put(&room, &control.Ledger{Room: room.ID, OpenedMS: w.clock.MS()}, &control.Epoch{Room: room.ID, Epoch: 1, AskedMS: w.clock.MS(), Task: ran})
	for range 11 {
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	equal(t, "open", m.Last(figures.LedgerOpen), 1.0)
	equal(t, "for", m.Last(figures.LedgerOpenAge), 660.0)
	equal(t, "active", m.Last(figures.RoomsActive), 0.0)
	w.fleet.Kill(ran.ARN)
	for range 2 { // the first closes it
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	equal(t, "open after its proof", m.Last(figures.LedgerOpen), 0.0)
	equal(t, "for after its proof", m.Last(figures.LedgerOpenAge), 0.0)
	equal(t, "lag", m.Of(figures.LedgerCloseLag, ""), []float64{720})
}

// TestFiguresOfOrphans: a task without a room is counted when it is stopped, once.
func TestFiguresOfOrphans(t *testing.T) {
	w, m := metered(t)
	lost := w.fleet.Stray(startedBy("room_none", 1)).ARN
	w.sweep()
	equal(t, "young", m.Of(figures.Orphans, ""), []float64(nil))
	w.clock.Advance(4 * time.Minute)
	w.sweep()
	equal(t, "old", m.Of(figures.Orphans, ""), []float64{1})
	w.fleet.Kill(lost)
	w.clock.Advance(time.Minute)
	w.sweep()
	equal(t, "stopped", m.Of(figures.Orphans, ""), []float64{1})
}

// TestFiguresOfFailures: a room that no capacity was found for, and a task that claims a room
// under another's name.
func TestFiguresOfFailures(t *testing.T) {
	w, m := metered(t)
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	r := w.createAs(sized(w))
	for range 20 {
		w.clock.Advance(12 * time.Second)
		w.sweep()
	}
	w.want(r.ID, lifecycle.Failed, 1)
	equal(t, "failures", m.Of(figures.RoomFailures, lifecycle.ReasonNoCapacity), []float64{1})
	if q := m.Of(figures.RoomStart, figures.PhaseTotal); q != nil {
		t.Errorf("a room that was never live started in %v s", q)
	}
	w.fleet.Refuse = nil
	live := w.createAs(request("other"))
	reply, err := w.life.Register(w.ctx, control.Conn{ID: "c", Task: true}, identity("arn:task/else"), signal.Register{Room: live.ID, Epoch: 1, TaskARN: "arn:task/1"})
	if err != nil {
		t.Fatal(err)
	}
	w.replied(reply, signal.LinkRefused+" bad_identity")
	if got := m.Of(figures.AuthFailures, figures.AuthTask); !slices.Equal(got, []float64{1}) {
		t.Errorf("refused tasks: %v", got)
	}
}

// TestNoCensusOfAPart: while some rooms cannot be listed, no number is told.
func TestNoCensusOfAPart(t *testing.T) {
	_, m := metered(t)
	c := census{nowMS: 1, partial: true}
	c.count(&Room{Room: lifecycle.Room{State: lifecycle.Live}})
	c.record(t.Context(), m)
	equal(t, "told", m.Last(figures.RoomsActive), -1.0)
}
