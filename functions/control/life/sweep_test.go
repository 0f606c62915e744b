package life

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

func TestKillMovesTheRoom(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	client := w.watch(r.ID, "c1")
	arn := w.task(r.ID, 1).ARN
	w.fleet.Run(arn)
	start := w.clock.MS()
	w.clock.Advance(10e9)
	w.heartbeat("link1", w.report("link1", 1, usage.Session{ID: "s1", Participant: "p1", JoinedMS: start, ParticipantMS: 9000}))
	w.clock.Advance(4e9)
	killed := w.fleet.Kill(arn)
	w.changed(killed)
	w.want(r.ID, lifecycle.Starting, 2)
	equal(t, "client told", w.told(client), "starting/provisioning 2")
	second := w.task(r.ID, 2)
	equal(t, "tasks", len(w.fleet.Tasks()), 2)

	inferred := w.usage(r.ID).Participants[0]
	equal(t, "session at the kill", fmt.Sprint(inferred.LeftMS-start, inferred.MS, inferred.Bounded), "14000 13000 true")

	// What the dead task left behind: its last frame still counts and is refused, its
	// event comes again.
	late := usage.Session{ID: "s1", Participant: "p1", JoinedMS: start, ParticipantMS: 12_500}
	w.replied(w.heartbeat("link1", w.report("link1", 1, late)), "refused wrong_epoch")
	w.changed(killed, killed)
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	w.changed(killed)
	w.want(r.ID, lifecycle.Live, 2)
	equal(t, "client told", w.told(client), "live/live 2")
	equal(t, "events", w.events(r.ID), []string{
		"room.created", "room.starting", "room.live", "participant.joined", "room.starting", "participant.left", "room.live",
	})
	s := w.usage(r.ID).Participants[0]
	equal(t, "session", fmt.Sprint(s.LeftMS-start, s.MS, s.Bounded, s.LeaveReason), "14000 12500 truetask_stopped")

	w.clock.Advance(60e9)
	w.replied(w.ending("link2", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
	w.fleet.Run(second.ARN)
	w.clock.Advance(1e9)
	w.changed(w.fleet.Exit(second.ARN, 0))
	w.want(r.ID, lifecycle.Ended, 2)
	v := w.usage(r.ID)
	equal(t, "usage", fmt.Sprint(v.Status, v.Quality, len(v.Epochs), v.Totals.ParticipantMS, v.Totals.TaskMSRaw, v.Totals.TaskSBillable),
		fmt.Sprint("closed", "bounded", 2, int64(12500), int64(15000), int64(120)))
}

// TestLostStopIsSeenByTheNextSweep: the room is not due for long, but ECS does not
// list its task any more.
func TestLostStopIsSeenByTheNextSweep(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	arn := w.task(r.ID, 1).ARN
	w.fleet.Run(arn)
	w.clock.Advance(2 * time.Minute)
	w.heartbeat("link1", w.report("link1", 1))
	w.fleet.Hide(arn, true) // ECS's list is behind: that proves nothing
	w.sweep()
	w.want(r.ID, lifecycle.Live, 1)
	w.fleet.Hide(arn, false)
	w.fleet.Kill(arn) // and its event is lost
	w.sweep()
	w.want(r.ID, lifecycle.Starting, 2)
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	w.replied(w.ending("link2", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
	w.fleet.Run(w.task(r.ID, 2).ARN)
	w.fleet.Exit(w.task(r.ID, 2).ARN, 0)
	w.sweep()
	w.want(r.ID, lifecycle.Ended, 2)
	equal(t, "usage", w.usage(r.ID).Status, "closed")
}

// TestStoppedBeforeEverything: ECS's word of the end overtakes everything.
func TestStoppedBeforeEverything(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = onCall("start", 1, tookEffect)
	r := w.create()
	w.changed(w.fleet.Exit(w.task(r.ID, 1).ARN, 1))
	w.want(r.ID, lifecycle.Starting, 2)
	// The first task's register frame was under way.
	w.register(r.ID, 1, "link1", signal.LinkRefused+" wrong_epoch")
	w.changed(w.fleet.Exit(w.task(r.ID, 2).ARN, 1))
	equal(t, "reason", w.want(r.ID, lifecycle.Failed, 2).Reason, "start_failed")
	equal(t, "tasks", len(w.fleet.Tasks()), 2)
	equal(t, "usage", w.usage(r.ID).Status, "closed")
}

func TestEventsInAnyOrder(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	client := w.watch(r.ID, "c1")
	arn := w.task(r.ID, 1).ARN
	created := w.fleet.TakeEvents()[0]
	pulling := w.fleet.Pull(arn)
	w.clock.Advance(3e9)
	running := w.fleet.Run(arn)
	w.changed(running, pulling, created, running, pulling)
	equal(t, "client told", w.told(client), "starting/booting 1")
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	w.ending("link1", signal.Ending{Reason: "empty"})
	stopped := w.fleet.Exit(arn, 0)
	w.changed(stopped, running, stopped, created)
	w.want(r.ID, lifecycle.Ended, 1)
	e := w.usage(r.ID).Epochs[0]
	equal(t, "times", fmt.Sprint(e.PullStartedMS, e.StartedMS, e.StoppedMS), fmt.Sprint(pulling.PullStartedMS, running.StartedMS, stopped.StoppedMS))
	equal(t, "stop", fmt.Sprint(e.Stopped, e.StoppedFrom, *e.ExitCode), "trueecs_event0")
	equal(t, "stopped", w.fleet.StopAsked(arn), false)
	w.changed(control.Task{ARN: "arn/x", StartedBy: "somebody", LastStatus: "RUNNING"}) // not ours
	w.changed(control.Task{ARN: "arn/x", StartedBy: "room/none/1", LastStatus: "STOPPED"})
}

func TestTerminatedTaskMoves(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	client := w.watch(r.ID, "c1")
	w.replied(w.ending("link1", signal.Ending{Reason: signal.ReasonTerminated, Final: true}), signal.LinkEndingOK)
	equal(t, "client told", w.told(client), "starting/provisioning 2")
	if _, _, err := w.life.AdmitJoin(w.ctx, r.ID); !errors.Is(err, ErrNotLive) {
		t.Errorf("join while moving: %v", err)
	}
	w.changed(w.fleet.Exit(w.task(r.ID, 1).ARN, 0)) // SIGTERM: exit code 0, and yet the room goes on
	w.want(r.ID, lifecycle.Starting, 2)
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	equal(t, "client told", w.told(client), "live/live 2")
}

// TestSpotInterruptionStartsTheNextTaskAtOnce: ECS's warning alone does it; the old task
// may speak on its link until it is gone, for its usage, and for nothing else.
func TestSpotInterruptionStartsTheNextTaskAtOnce(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	old := w.task(r.ID, 1).ARN
	w.fleet.Run(old)
	warning := w.fleet.Interrupt(old)
	w.changed(warning, warning)
	w.want(r.ID, lifecycle.Starting, 2)
	next := w.task(r.ID, 2).ARN // it runs already
	w.replied(w.ending("link1", signal.Ending{Reason: signal.ReasonTerminated, Final: true}), signal.LinkEndingOK)
	w.replied(w.heartbeat("link1", w.report("link1", 0)), signal.LinkAck)
	w.register(r.ID, 1, "link1b", signal.LinkRegistered) // its link was cut
	room, _ := w.life.Get(w.ctx, r.ID)
	equal(t, "link", room.Link, "")
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	w.sweep()
	room, _ = w.life.Get(w.ctx, r.ID)
	equal(t, "link", room.Link+" "+room.HandingLink+" "+room.HandingTask, "link2 link1b "+old)
	equal(t, "stopped", fmt.Sprint(w.fleet.StopAsked(old), w.fleet.StopAsked(next)), "false false")
	w.replied(w.ending("link1b", signal.Ending{Reason: signal.ReasonTerminated, Final: true}), signal.LinkEndingOK)
	w.fleet.Exit(old, signal.ExitTerminated) // and the event is lost
	w.sweep()
	room, _ = w.life.Get(w.ctx, r.ID)
	equal(t, "hands over", room.HandingTask, "")
	w.want(r.ID, lifecycle.Live, 2)
	equal(t, "tasks", len(w.fleet.Tasks()), 2)
}

// TestDeletedRoomEndsBothTasks: the task that hands over is told too.
func TestDeletedRoomEndsBothTasks(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	old := w.task(r.ID, 1).ARN
	w.fleet.Run(old)
	w.changed(w.fleet.Interrupt(old))
	w.register(r.ID, 2, "link2", signal.LinkRegistered)
	w.post.Take(control.Conn{ID: "link1", Task: true})
	if err := w.life.Delete(w.ctx, r.ID); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"link1", "link2"} {
		frames := w.post.Take(control.Conn{ID: link, Task: true})
		if len(frames) == 0 || frames[len(frames)-1].Type != signal.LinkEnd {
			t.Errorf("%s was told %v", link, frames)
		}
	}
	for epoch, link := range map[int]string{1: "link1", 2: "link2"} {
		w.replied(w.ending(link, signal.Ending{Reason: signal.ReasonDeleted, Final: true}), signal.LinkEndingOK)
		w.changed(w.fleet.Exit(w.task(r.ID, epoch).ARN, 0))
	}
	w.want(r.ID, lifecycle.Ended, 2)
	w.sweep()
	equal(t, "ledger", w.usage(r.ID).Status, "closed")
}

// minutes passes, with a sweep in each.
func (w *world) minutes(n int) {
	for range n {
		w.clock.Advance(60e9)
		_ = w.life.Sweep(w.ctx) // a fault that the case injects is reported
	}
}

// stuck are rooms that lost something on their way.
var stuck = []struct {
	name string
	do   func(w *world) (room string)
	want lifecycle.State
	sum  string // epochs, tasks started
}{
	{"requested, and the creator died", func(w *world) string {
		made, err := w.life.create(w.ctx, newRoom("room_x", request(""), w.clock.Now()), request(""))
		if err != nil {
			w.t.Fatal(err)
		}
		w.sweep()
		w.register(made.ID, 1, "link1", signal.LinkRegistered)
		return made.ID
	}, lifecycle.Live, "1 1"},
	{"start answered by a crash", func(w *world) string {
		w.fleet.Faults = onCall("start", 1, tookEffect)
		id := w.create().ID
		w.minutes(1)
		return id
	}, lifecycle.Starting, "1 1"},
	{"task never registers, its events are lost", func(w *world) string {
		id := w.create().ID
		w.minutes(2)
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		w.register(id, 2, "link2", signal.LinkRegistered)
		return id
	}, lifecycle.Live, "2 2"},
	{"live task died, its event is lost", func(w *world) string {
		id := w.liveRoom().ID
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		return id
	}, lifecycle.Starting, "2 2"},
	{"live task died so long ago that ECS forgot it", func(w *world) string {
		id := w.liveRoom().ID
		w.fleet.Kill(w.task(id, 1).ARN)
		w.fleet.Hide(w.task(id, 1).ARN, true)
		w.minutes(2)
		return id
	}, lifecycle.Starting, "2 2"},
	{"live but silent: ECS says it runs", func(w *world) string {
		id := w.liveRoom().ID
		w.minutes(8)
		if w.fleet.StopAsked(w.task(id, 1).ARN) {
			w.t.Error("stopped for being silent")
		}
		return id
	}, lifecycle.Live, "1 1"},
	{"live but silent for too long", func(w *world) string {
		id := w.liveRoom().ID
		w.minutes(12)
		if !w.fleet.StopAsked(w.task(id, 1).ARN) {
			w.t.Error("not stopped")
		}
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		return id
	}, lifecycle.Starting, "2 2"},
	{"draining: the task does not listen", func(w *world) string {
		id := w.liveRoom().ID
		w.post.Drop("link1")
		if err := w.life.Delete(w.ctx, id); err != nil {
			w.t.Fatal(err)
		}
		w.minutes(8)
		if w.fleet.StopAsked(w.task(id, 1).ARN) {
			w.t.Error("stopped, though its figures may be on their way")
		}
		w.minutes(4)
		if !w.fleet.StopAsked(w.task(id, 1).ARN) {
			w.t.Error("not stopped")
		}
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		return id
	}, lifecycle.Ended, "1 1"},
	{"deleted while RunTask failed and yet took effect", func(w *world) string {
		w.fleet.Faults = onCall("start", 1, tookEffect)
		id := w.create().ID
		if err := w.life.Delete(w.ctx, id); err != nil {
			w.t.Fatal(err)
		}
		w.minutes(2)
		if !w.fleet.StopAsked(w.task(id, 1).ARN) {
			w.t.Error("not stopped")
		}
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		return id
	}, lifecycle.Ended, "1 1"},
	{"deleted while RunTask failed", func(w *world) string {
		w.fleet.Faults = onCall("start", 1, fails)
		id := w.create().ID
		if err := w.life.Delete(w.ctx, id); err != nil {
			w.t.Fatal(err)
		}
		w.minutes(2)
		return id
	}, lifecycle.Ended, "1 0"},
	{"past its maximum duration, task gone mad", func(w *world) string {
		id := w.liveRoom().ID
		for range 62 {
			w.clock.Advance(60e9)
			w.heartbeat("link1", w.report("link1", 2))
			w.sweep()
		}
		w.minutes(2)
		w.fleet.Kill(w.task(id, 1).ARN)
		w.minutes(1)
		return id
	}, lifecycle.Ended, "1 1"},
}

// TestSweepOfStuckStates: whatever was lost, the sweep finds the way on.
func TestSweepOfStuckStates(t *testing.T) {
	for _, c := range stuck {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.get(c.do(w))
			if r.State != c.want {
				t.Errorf("room is %s, want %s (%s)", r.State, c.want, r.Reason)
			}
			equal(t, "epochs and tasks", fmt.Sprint(r.Epoch, len(w.fleet.Tasks())), c.sum)
			if r.State.Final() {
				equal(t, "usage", w.usage(r.ID).Status, ledger.StatusClosed)
				equal(t, "settled", r.Settled, true)
				equal(t, "quota", w.quota(), 0)
			}
			w.events(r.ID)
		})
	}
}

func TestSweepStopsOrphans(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	second := w.fleet.Stray(startedBy(r.ID, 1)).ARN
	lost := w.fleet.Stray(startedBy("room_none", 1)).ARN
	foreign := w.fleet.Stray("somebody").ARN
	w.sweep()
	equal(t, "a second task of a room", w.fleet.StopAsked(second), true)
	equal(t, "a young task without a room", w.fleet.StopAsked(lost), false)
	for range 4 {
		w.clock.Advance(60e9)
		w.heartbeat("link1", w.report("link1", 0))
		w.sweep()
	}
	equal(t, "an old one", w.fleet.StopAsked(lost), true)
	equal(t, "somebody else's", w.fleet.StopAsked(foreign), false)
	equal(t, "the room's own", w.fleet.StopAsked(r.Task), false)
	w.want(r.ID, lifecycle.Live, 1)
}

// TestSweepPages: more due rooms than a page holds.
func TestSweepPages(t *testing.T) {
	w := newWorld(t)
	rooms := 0
	for i := 0; rooms < 250; i++ {
		if id := fmt.Sprint("room_", i); control.Shard(id) == 3 {
			rooms++
			room := newRoom(id, request(""), w.clock.Now())
			w.put(&room)
		}
	}
	w.sweep()
	equal(t, "tasks", len(w.fleet.Tasks()), 250)
}

func TestRoomMessageEta(t *testing.T) {
	w := newWorld(t)
	w.life.Config.StartEtaMS = 25_000
	r := w.create()
	equal(t, "eta", w.life.RoomMessage(r).EtaMS, 25_000)
	w.clock.Advance(20e9)
	equal(t, "eta", w.life.RoomMessage(r).EtaMS, 5000)
	w.clock.Advance(20e9)
	equal(t, "eta", w.life.RoomMessage(r).EtaMS, 0)
}

// TestFinalRoomWithUnprovedTask: whatever brought a room to its end, its record
// stays open until ECS has proved every task's, and the sweep pursues that.
func TestFinalRoomWithUnprovedTask(t *testing.T) {
	w := newWorld(t)
	ran, lost := w.fleet.Stray(startedBy("room_x", 1)), "arn/forgotten"
	room := newRoom("room_x", request(""), w.clock.Now())
	room.State, room.Epoch, room.EndedMS = lifecycle.Failed, 3, w.clock.MS()
	w.put(&room, &control.Ledger{Room: room.ID, OpenedMS: w.clock.MS()},
		&control.Epoch{Room: room.ID, Epoch: 1, AskedMS: w.clock.MS(), Task: ran},
		&control.Epoch{Room: room.ID, Epoch: 2, AskedMS: w.clock.MS(), Task: control.Task{ARN: lost}},
		&control.Epoch{Room: room.ID, Epoch: 3, AskedMS: w.clock.MS()})
	for range 3 {
		w.sweep()
		equal(t, "usage", w.usage(room.ID).Status, ledger.StatusOpen)
		w.clock.Advance(60e9)
	}
	equal(t, "stopped", w.fleet.StopAsked(ran.ARN), true)
	w.fleet.Kill(ran.ARN)
	w.sweep()
	v := w.usage(room.ID)
	equal(t, "usage", fmt.Sprint(v.Status, v.Epochs[0].StoppedFrom, v.Epochs[1].StoppedFrom, v.Epochs[2].StoppedFrom),
		"closedecs_describereconcilerreconciler")
	equal(t, "settled", w.get(room.ID).Settled, true)
}
