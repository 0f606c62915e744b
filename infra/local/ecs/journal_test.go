package ecs

import (
	"path/filepath"
	"testing"
	"time"

	"mayfly/functions/control"
)

// TestStopIsNotBeforeTheEnd is what becomes of a task whose host was killed: whatever the
// host heard of it, up to its own last moment, lies before the stop that the next one tells.
func TestStopIsNotBeforeTheEnd(t *testing.T) {
	const arn = "arn:aws:ecs:local:000000000000:task/mayfly/1"
	began := time.UnixMilli(1_795_000_000_000)
	running := control.Task{ARN: arn, StartedBy: "room/r/1", LastStatus: statusRunning, Version: 3, CreatedMS: began.UnixMilli(), StartedMS: began.UnixMilli() + 50}
	ended := running
	code := 0
	ended.LastStatus, ended.ExitCode, ended.StopCode = statusDeprovisioning, &code, stopExited
	ended.StoppingMS, ended.ExecStoppedMS = began.UnixMilli()+2000, began.UnixMilli()+2000
	for _, c := range []struct {
		name           string
		task           control.Task
		marked, opened time.Duration // after began: the host's last mark, and the next host's start
		stopped        time.Duration // after began
		exit           int
	}{
		{"the next host starts before the next mark was due", running, 3 * time.Second, 3900 * time.Millisecond, 3900 * time.Millisecond, exitKilled},
		{"the host's marks were held up", running, 3 * time.Second, 7 * time.Second, 7 * time.Second, exitKilled},
		{"the next host starts the next day", running, 3 * time.Second, 24 * time.Hour, 3*time.Second + vouched, exitKilled},
		{"the task had ended by itself", ended, 2 * time.Second, 2500 * time.Millisecond, 2500 * time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tasks.json")
			now := began
			host, err := openJournal(path, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			host.put(record{Token: "r.1", Task: c.task})
			now = began.Add(c.marked)
			host.alive()
			if err := host.err(); err != nil {
				t.Fatal(err)
			}
			opened := began.Add(c.opened)
			w := newWorld(t, "wait", func(cfg *Config) {
				cfg.Journal, cfg.Now = path, func() time.Time { return opened }
			})
			w.Recover()
			last, told := w.stopped(arn)
			if len(told) != 1 || last.LastStatus != statusStopped || *last.ExitCode != c.exit {
				t.Fatalf("%d events, %+v", len(told), last)
			}
			if got := time.UnixMilli(last.StoppedMS).Sub(began); got != c.stopped {
				t.Errorf("stopped %v after the start, want %v", got, c.stopped)
			}
			if last.StoppingMS > last.StoppedMS || last.ExecStoppedMS > last.StoppedMS || last.StoppedMS < last.StartedMS {
				t.Errorf("%+v", last)
			}
		})
	}
}
