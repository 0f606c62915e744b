package ecs

import (
	"encoding/json"
	"testing"

	"mayfly/functions/fleet/taskevent"
)

// TestInterrupt: the warning of a Spot interruption is an event of a task that still
// runs and will be stopped, together with SIGTERM.
func TestInterrupt(t *testing.T) {
	w := newWorld(t, "wait", nil)
	arn := w.start(request("r", 1)).ARN
	w.line("ready")
	if err := w.Interrupt(arn); err != nil {
		t.Fatal(err)
	}
	w.line("terminating")
	last, _ := w.stopped(arn)
	if *last.ExitCode != 0 || last.StopCode != "SpotInterruption" {
		t.Errorf("%+v", last)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ev := range w.events {
		var d struct{ LastStatus, DesiredStatus, StopCode, StoppedReason string }
		if err := json.Unmarshal(ev.Detail, &d); err != nil {
			t.Fatal(err)
		}
		if d.LastStatus != "RUNNING" || d.DesiredStatus != "STOPPED" {
			continue
		}
		task, err := taskevent.Parse(ev.Detail)
		if err != nil || task.StoppingMS == 0 || task.ExitCode != nil {
			t.Errorf("the warning is read as %+v, %v", task, err)
		}
		if d.StopCode != "SpotInterruption" || d.StoppedReason != "Your Spot Task was interrupted." {
			t.Errorf("the warning says %+v", d)
		}
		return
	}
	t.Error("no warning")
}
