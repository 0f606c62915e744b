package life

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"mayfly/functions/control"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

func TestRegister(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	client := w.watch(r.ID, "c1")
	reply := w.register(r.ID, 1, "link1", signal.LinkRegistered)
	body := reply.Body.(signal.Registered)
	equal(t, "public address", body.PublicIP, "203.0.113.7")
	equal(t, "limits", body.Limits.EmptyTimeoutS, 20)
	equal(t, "now", body.NowMS, w.clock.MS())
	equal(t, "client told", w.told(client), "live/live 1")
	got := w.want(r.ID, lifecycle.Live, 1)
	equal(t, "link", fmt.Sprint(got.Link, got.SourceIP), "link1203.0.113.7")

	// The link rotates: the same task on a new connection.
	w.register(r.ID, 1, "link2", signal.LinkRegistered)
	equal(t, "link", w.get(r.ID).Link, "link2")
	equal(t, "client told", w.told(client), "")
	// Frames on the old connection count until it closes.
	w.replied(w.heartbeat("link1", w.report("link1", 0)), signal.LinkAck)
	equal(t, "events", w.events(r.ID), []string{"room.created", "room.starting", "room.live"})
}

func TestRegisterRefused(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	own := w.task(r.ID, 1).ARN
	stray := w.fleet.Stray(startedBy("room_other", 1)).ARN
	for _, c := range []struct {
		name string
		who  TaskIdentity
		m    signal.Register
		want string
	}{
		{"somebody else's name", identity(stray), signal.Register{Room: r.ID, Epoch: 1, TaskARN: own}, "refused bad_identity"},
		{"nobody", TaskIdentity{}, signal.Register{Room: r.ID, Epoch: 1, TaskARN: own}, "refused bad_identity"},
		{"no room", identity(own), signal.Register{Room: "room_none", Epoch: 1, TaskARN: own}, "refused not_found"},
		{"second task", identity(stray), signal.Register{Room: r.ID, Epoch: 1, TaskARN: stray}, "refused other_task"},
		{"epoch to come", identity(own), signal.Register{Room: r.ID, Epoch: 2, TaskARN: own}, "refused wrong_epoch"},
	} {
		reply, err := w.life.Register(w.ctx, control.Conn{ID: "x", Task: true}, c.who, c.m)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(c.name)
		w.replied(reply, c.want)
	}
	equal(t, "link", w.get(r.ID).Link, "link1")
}

// TestRegisterBeforeTheAnswer: a task is up before RunTask's answer is recorded, so
// only ECS can say whether the room is its own.
func TestRegisterBeforeTheAnswer(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = onCall("start", 1, tookEffect)
	r := w.create()
	arn := w.task(r.ID, 1).ARN
	stray := w.fleet.Stray(startedBy("room_other", 1)).ARN
	try := func(arn string) *Reply {
		reply, err := w.life.Register(w.ctx, control.Conn{ID: "link1", Task: true}, identity(arn),
			signal.Register{Room: r.ID, Epoch: 1, TaskARN: arn})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	w.replied(try(stray), "refused bad_identity")
	w.fleet.Hide(arn, true)
	w.replied(try(arn), "") // ECS does not know it yet
	w.fleet.Hide(arn, false)
	w.replied(try(arn), "registered")
	equal(t, "ledger", w.usage(r.ID).Epochs[0].Task, arn)
	// RunTask's answer, late, by the sweep's second call or by ECS's events.
	w.changed(w.fleet.Run(arn))
	w.want(r.ID, lifecycle.Live, 1)
}

func TestHeartbeatBeforeRegisterIsNotAnswered(t *testing.T) {
	w := newWorld(t)
	w.create()
	w.replied(w.heartbeat("unknown", w.report("unknown", 0)), "")
	w.replied(w.ending("unknown", signal.Ending{Final: true}), "")
}

func TestHeartbeatTellsWhoCame(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	joined := w.clock.MS()
	w.clock.Advance(5e9)
	alice := usage.Session{ID: "s1", Participant: "p1", JoinedMS: joined, ParticipantMS: 5000}
	first := w.report("link1", 1, alice)
	w.replied(w.heartbeat("link1", first), signal.LinkAck)
	w.replied(w.heartbeat("link1", first), signal.LinkAck) // delivered twice
	equal(t, "present", w.get(r.ID).Present, 1)

	w.clock.Advance(5e9)
	alice.ParticipantMS, alice.LeftMS, alice.LeaveReason = 10_000, w.clock.MS(), "left"
	late := first
	w.replied(w.heartbeat("link1", w.report("link1", 0, alice)), signal.LinkAck)
	w.replied(w.heartbeat("link1", late), signal.LinkAck) // overtaken
	equal(t, "present", w.get(r.ID).Present, 0)
	equal(t, "events", w.events(r.ID), []string{
		"room.created", "room.starting", "room.live", "participant.joined", "participant.left",
	})
	equal(t, "ms", w.usage(r.ID).Totals.ParticipantMS, 10_000)
}

func TestEndingAgreed(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	client := w.watch(r.ID, "c1")
	for range 2 { // the answer may be lost
		w.replied(w.ending("link1", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
	}
	w.want(r.ID, lifecycle.Draining, 1)
	stopped := w.fleet.Exit(w.task(r.ID, 1).ARN, 0)
	w.changed(stopped, stopped)
	equal(t, "reason", w.want(r.ID, lifecycle.Ended, 1).Reason, "empty")
	equal(t, "client told", w.told(client), "draining/draining 1, ended/ended 1")
	equal(t, "events", w.events(r.ID), []string{"room.created", "room.starting", "room.live", "room.ended", "usage.closed"})
	equal(t, "settled", w.get(r.ID).Settled, true)
	// Whatever still comes finds a closed record.
	w.replied(w.ending("link1", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
	w.replied(w.heartbeat("link1", w.report("link1", 3)), "refused ended")
	equal(t, "events", len(w.events(r.ID)), 5)
}

func TestEndingAfterStop(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	w.changed(w.fleet.Exit(w.task(r.ID, 1).ARN, 0)) // ECS was faster than the link
	equal(t, "reason", w.want(r.ID, lifecycle.Ended, 1).Reason, "task_exited")
	w.replied(w.ending("link1", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
}

// TestJoinAgainstEnding: both race for the same room a thousand times; whoever
// loses knows.
func TestJoinAgainstEnding(t *testing.T) {
	w := newWorld(t)
	joins, ends := 0, 0
	for i := range 1000 {
		room := Room{ID: fmt.Sprint("room_", i), Tenant: "acme"}
		room.Room = liveState(w.clock.MS())
		conn := &control.Connection{ID: fmt.Sprint("link", i), Kind: control.ConnTask, Room: room.ID, Epoch: 1, TaskARN: "arn/t"}
		conn.CreatedMS = w.clock.MS()
		w.put(&room, conn, &control.Ledger{Room: room.ID}, &control.Epoch{Room: room.ID, Epoch: 1, Task: control.Task{ARN: "arn/t"}})
		var reply *Reply
		var joinErr, endErr error
		var wg sync.WaitGroup
		wg.Go(func() { _, _, joinErr = w.life.AdmitJoin(w.ctx, room.ID) })
		wg.Go(func() {
			reply, endErr = w.life.Ending(w.ctx, control.Conn{ID: conn.ID, Task: true}, signal.Ending{Reason: "empty"})
		})
		wg.Wait()
		if endErr != nil || reply == nil {
			t.Fatal(reply, endErr)
		}
		switch got := w.get(room.ID); {
		case joinErr == nil && reply.Type == signal.LinkKeep && got.State == lifecycle.Live && got.JoinSeq == 1:
			joins++
		case errors.Is(joinErr, ErrEnded) && reply.Type == signal.LinkEndingOK && got.State == lifecycle.Draining:
			ends++
		default:
			t.Fatalf("round %d: join %v, ending %s, room %s", i, joinErr, reply.Type, got.State)
		}
	}
	t.Logf("%d joins won, %d endings", joins, ends)
}

func liveState(nowMS int64) lifecycle.Room {
	r := lifecycle.New(nowMS, nowMS+3_600_000)
	r.State, r.Phase, r.Epoch, r.Task, r.LiveMS = lifecycle.Live, lifecycle.PhaseLive, 1, "arn/t", nowMS
	r.HeartbeatMS, r.DueAtMS = nowMS, nowMS+45_000
	return r
}

func TestKeepTellsTheJoin(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	for range 3 {
		if _, _, err := w.life.AdmitJoin(w.ctx, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	reply := w.ending("link1", signal.Ending{Reason: "empty", JoinSeq: 2})
	w.replied(reply, signal.LinkKeep)
	equal(t, "join", reply.Body.(signal.Keep).JoinSeq, 3)
	w.want(r.ID, lifecycle.Live, 1)
	w.replied(w.ending("link1", signal.Ending{Reason: "empty", JoinSeq: 3}), signal.LinkEndingOK)
}

// TestWatchers: pushes that fail are made good, connections that are gone forgotten.
func TestWatchers(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	a, b := w.watch(r.ID, "a"), w.watch(r.ID, "b")
	w.watch(r.ID, "gone")
	w.post.Drop("gone")
	w.post.Throttle("b", true)
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	equal(t, "a", w.told(a), "live/live 1")
	equal(t, "b", w.told(b), "")
	w.post.Throttle("b", false)
	w.clock.Advance(10e9)
	w.replied(w.heartbeat("link1", w.report("link1", 0)), signal.LinkAck)
	equal(t, "b", w.told(b), "live/live 1")
	w.told(a)
	w.clock.Advance(10e9)
	w.heartbeat("link1", w.report("link1", 0))
	equal(t, "nothing new", w.told(a)+w.told(b), "")
	conns, err := control.LoadAll[control.RoomConn](w.ctx, w.store, control.RoomPK(r.ID), control.RoomConnPrefix)
	if err != nil || len(conns) != 2 {
		t.Errorf("%d connections left, %v", len(conns), err)
	}
	if _, err := w.store.Get(context.Background(), control.ConnKey("gone")); err == nil {
		t.Error("the connection that is gone still has an item")
	}
}

// TestSweepTellsAgain: a room without heartbeats is told again by the sweep.
func TestSweepTellsAgain(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	c := w.watch(r.ID, "c1")
	w.post.Throttle("c1", true)
	pulling := w.fleet.Pull(w.task(r.ID, 1).ARN)
	if err := w.life.TaskChanged(w.ctx, pulling); !errors.Is(err, control.ErrThrottled) {
		t.Fatalf("a telling that failed: %v", err)
	}
	w.post.Throttle("c1", false)
	w.clock.Advance(30e9)
	w.sweep()
	equal(t, "told", w.told(c), "starting/pulling 1")
}
