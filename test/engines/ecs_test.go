package engines

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/fleet"
	"mayfly/functions/fleet/fleettest"
	"mayfly/functions/store/storetest/engine"
	"mayfly/shared/lifecycle"
)

// A room on AWS's own table engine and moto's ECS, the AWS clients in front of both:
// RunTask by the create, StopTask by the delete of a room whose task was not heard of yet,
// and both ends found by the sweep's ListTasks and DescribeTasks, with no event at all.
func TestRoomOnRealEngines(t *testing.T) {
	e := open(t, engine.DynamoDBLocal, nil)
	cfg, c, ok := fleettest.Moto(t)
	if !ok {
		t.Skipf("%s is not set; run: scripts/moto.sh run scripts/dynamodb-local.sh run go test ./test/engines", fleettest.Variable)
	}
	f := fleet.Connect(cfg, c)
	revision := c.TaskDefinition[strings.LastIndexByte(c.TaskDefinition, ':')+1:]
	w := newWorld(t, e, setting{fleet: f, env: map[string]string{"TASK_REVISION": revision}})
	room := w.create(`{"size":"s"}`)
	tasks, err := f.Find(t.Context(), "room/"+room.ID+"/1")
	if err != nil || len(tasks) != 1 {
		t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	equal(t, "the room's task", load[control.Room](w, control.RoomKey(room.ID)).Task, tasks[0].ARN)
	w.register(tasks[0], room.ID, 1)
	equal(t, "the room", load[control.Room](w, control.RoomKey(room.ID)).State, lifecycle.Live)

	early := w.create(`{"size":"s"}`) // deleted before its task is heard of: it is stopped at once
	second, err := f.Find(t.Context(), "room/"+early.ID+"/1")
	if err != nil || len(second) != 1 {
		t.Fatalf("%d tasks, %v", len(second), err)
	}
	for _, id := range []string{early.ID, room.ID} {
		w.ask("DELETE", "/v1/rooms/"+id, "", "", http.StatusAccepted, nil)
	}
	stopped, err := f.Describe(t.Context(), second[0].ARN)
	if err != nil || stopped.LastStatus != "STOPPED" || stopped.StoppedReason == "" {
		t.Errorf("the task of the room that was deleted early is %+v, %v", stopped, err)
	}
	for range 8 { // moto's tasks come to their end by being looked at
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	w.closedOnce(early.ID, 1)
	w.closedOnce(room.ID, 1)
	equal(t, "places at the end", w.places(), 0)
}
