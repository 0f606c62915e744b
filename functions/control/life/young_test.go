package life

import (
	"fmt"
	"testing"

	"mayfly/functions/control/controltest"
	"mayfly/shared/lifecycle"
)

// TestAYoungTaskOfAnOldEpochIsNotGone: RunTask was refused for longer than ECS may
// not know a new task; then it worked, and ECS does not know the task yet. That is no
// proof that it has stopped, or a second one would run beside it.
func TestAYoungTaskOfAnOldEpochIsNotGone(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = onCall("start", 1, fails)
	r := w.create()
	w.clock.Advance(90e9)
	w.sweep()
	arn := w.task(r.ID, 1).ARN
	w.fleet.Hide(arn, true)
	w.clock.Advance(31e9) // past the start's time: the sweep looks at the task
	w.sweep()
	w.want(r.ID, lifecycle.Starting, 1)
	w.fleet.Hide(arn, false)
	w.fleet.Run(arn)
	equal(t, "tasks", len(w.fleet.Tasks()), 1)

	w.fleet.Hide(arn, true)
	w.clock.Advance(60e9) // by now it would be known
	w.sweep()
	w.want(r.ID, lifecycle.Starting, 2)
}

// TestATaskThatNobodyHeardOfIsBilled: every answer of RunTask and every event of the
// task was lost, and it has stopped by the time that ECS is asked. Its time is billed.
func TestATaskThatNobodyHeardOfIsBilled(t *testing.T) {
	w := newWorld(t)
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "start" {
			return tookEffect
		}
		return none
	}
	r := w.create()
	arn := w.task(r.ID, 1).ARN
	w.fleet.Pull(arn)
	w.clock.Advance(7e9)
	w.fleet.Kill(arn)
	for range 30 {
		w.clock.Advance(10e9)
		_ = w.life.Sweep(w.ctx) // RunTask's answers go on being lost
	}
	e := w.usage(r.ID).Epochs[0]
	equal(t, "first epoch", fmt.Sprint(e.Stopped, e.TaskMSRaw, e.Task), fmt.Sprint(true, 7000, arn))
}
