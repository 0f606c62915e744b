package life

import (
	"fmt"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/shape"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// sized is a room that has a size, two zones to start in, and fixed pauses.
func sized(w *world) CreateRequest {
	w.life.Config.Zones = 2
	w.life.Config.Retry.Random = func() float64 { return 0.999 }
	r := request("")
	r.Size, r.Media, r.StartDeadlineS = "m", shape.Video, 100
	return r
}

func (w *world) createAs(r CreateRequest) Room {
	w.t.Helper()
	made, err := w.life.Create(w.ctx, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Room
}

// calls lists the starts that were asked for: end of the token, size, Spot, zone.
func (w *world) calls() []string {
	var all []string
	for _, r := range w.asked {
		all = append(all, fmt.Sprintf("%s %d/%d %v %d", r.Token[len(r.Room):], r.CPU, r.Memory, r.Spot, r.Zone))
	}
	return all
}

// refuse makes ECS refuse starts, and remembers what was asked for.
func (w *world) refuse(with func(control.StartRequest) error) {
	w.fleet.Refuse = func(r control.StartRequest) error {
		w.asked = append(w.asked, r)
		return with(r)
	}
}

// Every shape is asked for, each under its own token, before the creator is answered;
// then the room is queued, and its clients know.
func TestNoCapacityAnywhere(t *testing.T) {
	w := newWorld(t)
	r := sized(w)
	r.Spot = true
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	room := w.createAs(r)
	equal(t, "asked", w.calls(), []string{
		".1 1024/2048 true 0", ".1.1 1024/2048 false 0", ".1.2 1024/2048 false 1", ".1.3 1024/2048 false 2", ".1.4 2048/4096 false 0",
	})
	if room.State != lifecycle.Starting || room.Phase != lifecycle.PhaseQueued || room.Attempt != 5 || room.Open != 0 {
		t.Fatalf("%s %s attempt %d open %b", room.State, room.Phase, room.Attempt, room.Open)
	}
	client := w.watch(room.ID, "c1")
	began := w.clock.MS()
	for w.get(room.ID).State == lifecycle.Starting {
		w.clock.Advance(4 * time.Second)
		w.sweep()
	}
	failed := w.want(room.ID, lifecycle.Failed, 1)
	if took := w.clock.MS() - began; failed.Reason != lifecycle.ReasonNoCapacity || took < 100_000 || took > 104_000 {
		t.Errorf("failed with %s after %d ms", failed.Reason, took)
	}
	equal(t, "client told", w.told(client), "failed/failed 1")
	if rounds := len(w.asked) / 5; rounds < 3 || rounds > 12 {
		t.Errorf("%d rounds in 100 s", rounds)
	}
	w.sweep()
	equal(t, "usage", w.usage(room.ID).Status, "closed")
	equal(t, "quota", w.quota(), 0)
	equal(t, "tasks", len(w.fleet.Tasks()), 0)
	equal(t, "events", w.events(room.ID), []string{"room.created", "room.starting", "room.failed", "usage.closed"})
}

// Capacity that comes while the room is queued is taken, and billed as it is.
func TestCapacityComesBack(t *testing.T) {
	w := newWorld(t)
	full := true
	w.refuse(func(r control.StartRequest) error {
		if full || r.Zone != 2 {
			return control.ErrNoCapacity
		}
		return nil
	})
	room := w.createAs(sized(w))
	client := w.watch(room.ID, "c1")
	w.sweep() // not due yet
	equal(t, "calls", len(w.asked), 4)
	full = false
	w.clock.Advance(20 * time.Second)
	w.sweep()
	equal(t, "client told", w.told(client), "starting/provisioning 1")
	w.register(room.ID, 1, "link1", signal.LinkRegistered)
	live := w.want(room.ID, lifecycle.Live, 1)
	equal(t, "shape", live.Ask, shape.Shape{CPU: 1024, Memory: 2048, Zone: 2})
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	equal(t, "token", w.fleet.Requests()[0].Token, room.ID+".1.6")
}

// Throttled: the same attempt again, after a pause of its own.
func TestThrottledStartWaits(t *testing.T) {
	w := newWorld(t)
	left := 2
	w.refuse(func(control.StartRequest) error {
		if left--; left >= 0 {
			return control.ErrBusy
		}
		return nil
	})
	room := w.createAs(sized(w))
	equal(t, "phase", room.Phase, lifecycle.PhaseQueued)
	for range 3 {
		w.clock.Advance(4 * time.Second)
		w.sweep()
	}
	equal(t, "asked", w.calls(), []string{".1 1024/2048 false 0", ".1 1024/2048 false 0", ".1 1024/2048 false 0"})
	equal(t, "phase", w.get(room.ID).Phase, lifecycle.PhaseProvisioning)
}

// A call whose answer is lost holds the attempt's shape until the task is found.
func TestLostAnswerKeepsTheShape(t *testing.T) {
	w := newWorld(t)
	r := sized(w)
	w.fleet.Faults = onCall("start", 1, tookEffect)
	room := w.createAs(r)
	if room.Phase == lifecycle.PhaseQueued || room.Attempt != 0 || room.Open == 0 {
		t.Fatalf("%s attempt %d open %b", room.Phase, room.Attempt, room.Open)
	}
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	w.clock.Advance(16 * time.Second)
	w.sweep()
	w.want(room.ID, lifecycle.Starting, 1)
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	equal(t, "conflicts", w.fleet.Conflicts(), 0)
	equal(t, "task", w.get(room.ID).Task, w.fleet.Tasks()[0].ARN)
}

// A deployment between two calls changes subnets and the default revision, but not what
// the room asks for.
func TestDeployBetweenCalls(t *testing.T) {
	w := newWorld(t)
	w.life.Config.Revisions = shape.Revisions{Stable: "7"}
	r := sized(w)
	w.fleet.Faults = onCall("start", 1, tookEffect)
	room := w.createAs(r)
	w.life.Config.Revisions, w.life.Config.Zones = shape.Revisions{Stable: "8", Canary: "9", Percent: 100}, 3
	w.clock.Advance(16 * time.Second)
	w.sweep()
	equal(t, "conflicts", w.fleet.Conflicts(), 0)
	equal(t, "tasks", len(w.fleet.Tasks()), 1)
	w.register(room.ID, 1, "link1", signal.LinkRegistered)
	w.fleet.Run(w.task(room.ID, 1).ARN)
	w.changed(w.fleet.Kill(w.task(room.ID, 1).ARN))
	asked := w.fleet.Requests()
	equal(t, "revisions", asked[0].Revision+" "+asked[1].Revision, "7 7") // the room keeps its own
	second := w.createAs(r)
	equal(t, "new room", w.get(second.ID).Revision, "9")
}

// A request that ECS will never grant fails with that reason, and without a task.
func TestRefusedForGood(t *testing.T) {
	w := newWorld(t)
	w.refuse(func(control.StartRequest) error { return fmt.Errorf("%w: no revision 99", control.ErrRefused) })
	r := sized(w)
	r.Revision = "99"
	room := w.createAs(r)
	w.clock.Advance(101 * time.Second)
	w.sweep()
	if got := w.want(room.ID, lifecycle.Failed, 1); got.Reason != lifecycle.ReasonStartRefused {
		t.Errorf("failed with %s", got.Reason)
	}
}

// Spot is for the first task. The next is on demand.
func TestSpotIsNotTriedTwice(t *testing.T) {
	w := newWorld(t)
	r := sized(w)
	r.Spot = true
	room := w.createAs(r)
	w.register(room.ID, 1, "link1", signal.LinkRegistered)
	w.fleet.Run(w.task(room.ID, 1).ARN)
	w.clock.Advance(time.Minute)
	w.changed(w.fleet.Kill(w.task(room.ID, 1).ARN))
	asked := w.fleet.Requests()
	if !asked[0].Spot || asked[1].Spot || asked[1].CPU != 1024 {
		t.Errorf("asked for %+v", asked)
	}
	v := w.usage(room.ID)
	equal(t, "capacity", v.Epochs[0].Capacity, "FARGATE_SPOT")
	equal(t, "line", v.Bill.Cost[0].SKU, "fargate_spot.arm64.vcpu")
}

// Deleted while queued: nothing is under way, so the room is over with the next sweep.
func TestDeleteWhileQueued(t *testing.T) {
	w := newWorld(t)
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	room := w.createAs(sized(w))
	if err := w.life.Delete(w.ctx, room.ID); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Second)
	w.sweep()
	w.want(room.ID, lifecycle.Ended, 1)
	w.sweep()
	equal(t, "usage", w.usage(room.ID).Status, "closed")
}

// The epoch's usage says what the last attempt asked for, in case ECS never describes it.
func TestUsageKnowsWhatWasAsked(t *testing.T) {
	w := newWorld(t)
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	room := w.createAs(sized(w))
	ep, err := control.Load[control.Epoch](w.ctx, w.store, control.EpochKey(room.ID, 1))
	if err != nil || ep.Asked != room.Ask || ep.Asked.CPU == 0 {
		t.Errorf("epoch asked for %+v, room for %+v (%v)", ep.Asked, room.Ask, err)
	}
}
