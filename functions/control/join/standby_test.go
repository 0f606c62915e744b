package join

import (
	"encoding/json"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/control/pool"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// Frames of a task that is older or newer than these functions may have members that
// are not known here, and lack some that are.
func TestTasksOfAnotherVersion(t *testing.T) {
	w := newWorld(t)
	room := w.room()
	w.openTask("l1", room.Task)
	link := control.Conn{ID: "l1", Task: true}
	raw, err := json.Marshal(map[string]any{"room": room.ID, "epoch": 1, "task_arn": room.Task, "since_next_year": map[string]any{"x": 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range []string{
		`{"type":"register","seq":1,"body":` + string(raw) + `}`,
		`{"type":"heartbeat","seq":2,"body":{"join_seq":0,"mood":"good","usage":{"seq":1,"at_ms":1,"totals":{"present":0,"moods":3},"sessions":[]}}}`,
	} {
		if err := w.join.TaskFrame(w.ctx, "l1", []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	var types []string
	for _, f := range w.post.Take(link) {
		types = append(types, f.Type)
	}
	if len(types) != 2 || types[0] != signal.LinkRegistered || types[1] != signal.LinkAck || w.get(room.ID).State != lifecycle.Live {
		t.Errorf("answered %v, room %s", types, w.get(room.ID).State)
	}
}

// A standby task speaks over its link before any room, is believed by what the gateway
// saw of it, and gets its room on the same link.
func TestStandbyOverTheLink(t *testing.T) {
	w := newWorld(t)
	w.life.Config.Pool = []pool.Target{{Size: "s", N: 1}}
	if err := w.life.Sweep(w.ctx); err != nil {
		t.Fatal(err)
	}
	task := w.fleet.Tasks()[0]
	slot := task.StartedBy[len("pool/"):]
	hello := signal.Standby{Slot: slot, TaskARN: task.ARN}
	link := control.Conn{ID: "l1", Task: true}

	w.fromTask("l1", signal.LinkStandby, hello) // overtook its $connect
	w.nothing(link)
	w.openTask("l1", "arn/somebody-else")
	w.fromTask("l1", signal.LinkStandby, hello)
	if c := body[signal.Refused](t, w.oneFrame(link, signal.LinkRefused)); c.Code != "bad_identity" {
		t.Errorf("refused with %q", c.Code)
	}
	link.ID = "l2"
	w.openTask("l2", task.ARN)
	w.fromTask("l2", signal.LinkStandby, hello)
	w.oneFrame(link, signal.LinkStanding)
	w.fromTask("l2", signal.LinkHeartbeat, signal.Heartbeat{}) // it has no room to report of
	w.nothing(link)

	made, err := w.life.Create(w.ctx, life.CreateRequest{
		Tenant: "acme", Region: "local", Size: "s", Limits: signal.RoomLimits{MaxParticipants: 2, MaxDurationS: 600},
	})
	if err != nil {
		t.Fatal(err)
	}
	if m := body[signal.Assign](t, w.oneFrame(link, signal.LinkAssign)); m.Room != made.ID || m.Epoch != 1 {
		t.Errorf("assigned %+v", m)
	}
	w.fromTask("l2", signal.LinkRegister, signal.Register{Room: made.ID, Epoch: 1, TaskARN: task.ARN})
	w.oneFrame(link, signal.LinkRegistered)
	if r := w.get(made.ID); r.State != lifecycle.Live || r.Link != "l2" {
		t.Errorf("room %s on %q", r.State, r.Link)
	}
}
