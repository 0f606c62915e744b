package life

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

func TestCreateStartsOneTask(t *testing.T) {
	w := newWorld(t)
	req := request("")
	req.Metadata = json.RawMessage(`{"order":7}`)
	made, err := w.life.Create(w.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	r := w.want(made.ID, lifecycle.Starting, 1)
	task := w.task(r.ID, 1)
	equal(t, "task", r.Task, task.ARN)
	equal(t, "answer is the room as it is", made.Task, task.ARN)
	equal(t, "ends", r.Limits.EndsAtMS, w.clock.MS()+3_600_000)
	equal(t, "metadata", string(r.Metadata), `{"order":7}`)
	equal(t, "events", w.events(r.ID), []string{"room.created", "room.starting"})
	equal(t, "quota", w.quota(), 1)
	v := w.usage(r.ID)
	equal(t, "usage", fmt.Sprint(v.Status, len(v.Epochs), v.Epochs[0].Task == task.ARN), "open1 true")
	if _, err := w.store.Get(w.ctx, control.ListedKey("acme", r.ID)); err != nil {
		t.Errorf("tenant's list: %v", err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	req := request("k")
	req.Answer = json.RawMessage(`{"first":true}`)
	first, err := w.life.Create(w.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	req.Answer = json.RawMessage(`{"second":true}`)
	again, err := w.life.Create(w.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "room", again.ID, first.ID)
	equal(t, "answer", string(again.Answer), `{"first":true}`)
	equal(t, "replayed", fmt.Sprint(first.Replayed, again.Replayed), "false true")

	req.BodyHash = "h2"
	if _, err := w.life.Create(w.ctx, req); !errors.Is(err, ErrIdemReused) {
		t.Errorf("another body: %v", err)
	}
	req.Tenant = "other"
	if other, err := w.life.Create(w.ctx, req); err != nil || other.ID == first.ID {
		t.Errorf("another tenant's key: %v %v", other.ID, err)
	}
	w.clock.Advance(control.IdemTTL + 1e9)
	req = request("k")
	if later, err := w.life.Create(w.ctx, req); err != nil || later.ID == first.ID {
		t.Errorf("a day later: %v %v", later.ID, err)
	}
}

// concurrently runs n calls at once, in a bubble, so that waiting between tries
// takes no time.
func concurrently(t *testing.T, n int, f func(w *world, i int)) *world {
	t.Helper()
	w := newWorld(t)
	synctest.Test(t, func(*testing.T) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { f(w, i) })
		}
		wg.Wait()
	})
	return w
}

func TestHundredCreatesWithOneKey(t *testing.T) {
	ids := make([]string, 100)
	w := concurrently(t, 100, func(w *world, i int) {
		made, err := w.life.Create(w.ctx, request("k"))
		if err != nil {
			t.Error(err)
			return
		}
		ids[i] = made.ID
	})
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("two rooms: %s and %s", ids[0], id)
		}
	}
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	equal(t, "calls of RunTask", w.fleet.Calls("start"), 1)
	equal(t, "quota", w.quota(), 1)
	equal(t, "events", w.events(ids[0]), []string{"room.created", "room.starting"})
}

func TestQuotaHoldsUnderRace(t *testing.T) {
	var mu sync.Mutex
	var made, refused int
	w := concurrently(t, 60, func(w *world, _ int) {
		_, err := w.life.Create(w.ctx, request(""))
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			made++
		case errors.Is(err, ErrQuota):
			refused++
		default:
			t.Error(err)
		}
	})
	equal(t, "made and refused", fmt.Sprint(made, refused), "50 10")
	equal(t, "tasks", len(w.fleet.Tasks()), 50)
	// A room that ends gives its place back, once.
	task := w.fleet.Tasks()[0]
	room, _, _ := parseStartedBy(task.StartedBy)
	if err := w.life.Delete(w.ctx, room); err != nil {
		t.Fatal(err)
	}
	stopped := w.fleet.Exit(task.ARN, 0)
	w.changed(stopped, stopped)
	equal(t, "quota", w.quota(), 49)
	w.create()
}

func TestCreateSurvivesAFleetThatFails(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "start" && w.fleet.Calls("start") < 3 {
			return controltest.Fails
		}
		return controltest.NoFault
	}
	r := w.create()
	w.want(r.ID, lifecycle.Starting, 1)
	equal(t, "tasks", len(w.fleet.Tasks()), 0)
	for range 3 {
		w.clock.Advance(10e9)
		_ = w.life.Sweep(w.ctx) // reports the failed start
	}
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	w.want(r.ID, lifecycle.Live, 1)
}

func TestNoCapacityFailsTheRoom(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "start" {
			return controltest.Fails
		}
		return controltest.NoFault
	}
	r := w.create()
	conn := w.watch(r.ID, "c1")
	for range 14 {
		w.clock.Advance(10e9)
		_ = w.life.Sweep(w.ctx) // reports the failed starts
	}
	got := w.want(r.ID, lifecycle.Failed, 1)
	equal(t, "reason", got.Reason, "no_capacity")
	equal(t, "told", w.told(conn), "failed/failed 1")
	equal(t, "events", w.events(r.ID), []string{"room.created", "room.starting", "room.failed", "usage.closed"})
	equal(t, "quota", w.quota(), 0)
	v := w.usage(r.ID)
	equal(t, "usage", fmt.Sprint(v.Status, v.Totals.TaskMSRaw, v.Totals.TaskSBillable, v.Quality), "closed0 0exact")
}

func TestStartThatTookEffectAlthoughItFailed(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "start" && w.fleet.Calls("start") == 1 {
			return controltest.TookEffect
		}
		return controltest.NoFault
	}
	r := w.create()
	equal(t, "known", w.get(r.ID).Task, "")
	// The task is up before anybody learns of it: ECS vouches for it.
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	w.want(r.ID, lifecycle.Live, 1)
	for range 5 {
		w.clock.Advance(10e9)
		w.heartbeat("link1", w.report("link1", 0))
		w.sweep()
	}
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	equal(t, "stopped", w.fleet.StopAsked(w.task(r.ID, 1).ARN), false)
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	if err := w.life.Delete(w.ctx, "room_none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no room: %v", err)
	}

	t.Run("live", func(t *testing.T) {
		r := w.liveRoom()
		client := w.watch(r.ID, "c1")
		for range 2 { // twice is once
			if err := w.life.Delete(w.ctx, r.ID); err != nil {
				t.Fatal(err)
			}
		}
		link := w.post.Take(control.Conn{ID: "link1", Task: true})
		equal(t, "task told", fmt.Sprint(len(link), link[0].Type, string(link[0].Body)), `1end{"reason":"deleted"}`)
		equal(t, "client told", w.told(client), "draining/draining 1")
		if _, _, err := w.life.AdmitJoin(w.ctx, r.ID); !errors.Is(err, ErrEnded) {
			t.Errorf("join: %v", err)
		}
		w.replied(w.ending("link1", signal.Ending{Reason: "deleted", Final: true}), signal.LinkEndingOK)
		w.changed(w.fleet.Exit(w.task(r.ID, 1).ARN, 0))
		equal(t, "reason", w.want(r.ID, lifecycle.Ended, 1).Reason, "deleted")
		equal(t, "usage", w.usage(r.ID).Status, "closed")
	})

	t.Run("starting", func(t *testing.T) {
		r := w.create()
		if err := w.life.Delete(w.ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		w.want(r.ID, lifecycle.Draining, 1)
		equal(t, "stopped", w.fleet.StopAsked(w.task(r.ID, 1).ARN), true)
		w.register(r.ID, 1, "link2", signal.LinkRefused+" ended")
		w.changed(w.fleet.Exit(w.task(r.ID, 1).ARN, signal.ExitFenced))
		w.want(r.ID, lifecycle.Ended, 1)
	})

	t.Run("requested", func(t *testing.T) {
		made, err := w.life.create(w.ctx, newRoom("room_x", request(""), w.clock.Now()), request(""))
		if err != nil {
			t.Fatal(err)
		}
		before := len(w.fleet.Tasks())
		if err := w.life.Delete(w.ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		w.want(made.ID, lifecycle.Ended, 0)
		equal(t, "usage", w.usage(made.ID).Status, "closed")
		if err := w.life.Allocate(w.ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		equal(t, "new tasks", len(w.fleet.Tasks())-before, 0)
	})
}

func TestAdmitJoinWithWrites(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	if _, _, err := w.life.AdmitJoin(w.ctx, r.ID); !errors.Is(err, ErrNotLive) {
		t.Errorf("starting: %v", err)
	}
	if _, _, err := w.life.AdmitJoin(w.ctx, "room_none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no room: %v", err)
	}
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	claim := func() store.Write {
		wr, err := control.Put(&control.Claim{Room: r.ID, JTI: "j1", AtMS: w.clock.MS()})
		if err != nil {
			t.Fatal(err)
		}
		return wr
	}
	seq, got, err := w.life.AdmitJoin(w.ctx, r.ID, claim())
	if err != nil || seq != 1 || got.JoinSeq != 1 || got.Link != "link1" {
		t.Fatalf("join %d %v %v", seq, got, err)
	}
	var lost *store.ConflictError
	if _, _, err = w.life.AdmitJoin(w.ctx, r.ID, claim()); !errors.As(err, &lost) || lost.Key != control.ClaimKey(r.ID, "j1") {
		t.Errorf("a ticket used twice: %v", err)
	}
	equal(t, "joins", w.get(r.ID).JoinSeq, 1)
}
