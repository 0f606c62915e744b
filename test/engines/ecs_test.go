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
// RunTask by the create, the task vouched for by DescribeTasks, stopped by the delete,
// and its end found by the sweep's ListTasks and DescribeTasks, with no event at all.
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

	w.ask("DELETE", "/v1/rooms/"+room.ID, "", "", http.StatusAccepted, nil)
	for range 8 { // nobody answers for the task: it is stopped
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	stopped, err := f.Describe(t.Context(), tasks[0].ARN)
	if err != nil || stopped.LastStatus != "STOPPED" || stopped.StoppedReason == "" {
		t.Errorf("the task is %+v, %v", stopped, err)
	}
	w.closedOnce(room.ID, 1)
	equal(t, "places at the end", w.places(), 0)
}
