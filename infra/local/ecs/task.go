package ecs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"mayfly/functions/control"
	"mayfly/infra/local/identity"
)

// Task statuses that the stand-in tells, in their order.
const (
	statusProvisioning   = "PROVISIONING"
	statusPending        = "PENDING"
	statusRunning        = "RUNNING"
	statusDeprovisioning = "DEPROVISIONING"
	statusStopped        = "STOPPED"
)

// Stop codes of ECS.
const (
	stopFailedToStart = "TaskFailedToStart"
	stopExited        = "EssentialContainerExited"
	stopUser          = "UserInitiated"
	stopSpot          = "SpotInterruption"
)

// stopRequest asks a task to end.
type stopRequest struct {
	code, reason string
	signal       syscall.Signal // first; SIGKILL follows
}

// exitKilled is what a container that got SIGKILL reports.
const exitKilled = 128 + 9

// record is all that is known of a task, as it is in the journal.
type record struct {
	Request control.StartRequest `json:"request"`
	Token   string               `json:"token"`
	Task    control.Task         `json:"task"`
}

// hostLost ends the record of a task whose process died with the one that ran it.
func (r *record) hostLost(atMS int64) {
	killed := exitKilled
	t := &r.Task
	atMS = max(atMS, t.CreatedMS, t.StartedMS, t.StoppingMS, t.ExecStoppedMS)
	if t.LastStatus == statusDeprovisioning { // it had ended by itself, with a code of its own
		t.LastStatus, t.StoppedMS = statusStopped, atMS
		return
	}
	t.LastStatus, t.StopCode, t.StoppedReason = statusStopped, stopExited, "The process that ran the task is gone"
	if t.StartedMS == 0 {
		t.StopCode = stopFailedToStart
	} else {
		t.ExitCode = &killed
	}
	if t.StoppingMS == 0 {
		t.StoppingMS = atMS
	}
	t.StoppedMS, t.ExecStoppedMS = atMS, atMS
}

// task is one task. Its goroutine makes every change of record but the first (launch)
// and that of a task of an earlier process, which has no goroutine (Recover).
type task struct {
	// Set once.
	fleet       *Fleet
	stop        chan stopRequest // capacity 1: the first one counts; nil for a recovered task
	stopped     chan struct{}    // closed after the STOPPED event
	neverStarts bool

	mu      sync.Mutex
	record  record      // guarded by mu
	process *os.Process // guarded by mu: nil unless running
}

func (t *task) snapshot() control.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.Task
}

// recovered says that an earlier process ran the task.
func (t *task) recovered() bool { return t.stop == nil }

func (t *task) request() control.StartRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.Request
}

func (t *task) id() string {
	arn := t.snapshot().ARN
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

// ask requests the stop. Only the first request counts.
func (t *task) ask(r stopRequest) {
	select {
	case t.stop <- r:
	default:
	}
}

func (t *task) signal(s os.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.process == nil {
		return os.ErrProcessDone
	}
	return signalGroup(t.process, s)
}

// update changes the record, counts the version up, and tells journal and events.
func (t *task) update(change func(*record)) {
	t.mu.Lock()
	change(&t.record)
	t.record.Task.Version++
	r := t.record
	t.mu.Unlock()
	f := t.fleet
	f.journal.put(r)
	event, err := f.event(r, f.cfg.Now())
	if err != nil {
		f.cfg.Log.Error("task event", "task", r.Task.ARN, "err", err)
		return
	}
	f.faults.Pass(func() { f.cfg.Emit(event) })
}

func (t *task) nowMS() int64 { return t.fleet.cfg.Now().UnixMilli() }

// run takes the task through its life.
func (t *task) run() {
	defer close(t.stopped)
	// The shares of a Fargate start in AWS's own sample: network at a sixth, image
	// pull from three quarters to seven eighths.
	delay := t.fleet.cfg.StartDelay
	if r, stopped := t.pause(delay / 6); stopped {
		t.end(r.code, r.reason, nil)
		return
	}
	t.update(func(r *record) {
		r.Task.ConnectedMS = t.nowMS()
		r.Task.LastStatus = statusPending
	})
	r, stopped := t.pause(delay * 7 / 12)
	if !stopped {
		t.set(func(r *record) { r.Task.PullStartedMS = t.nowMS() })
		r, stopped = t.pause(delay / 8)
	}
	if !stopped {
		t.set(func(r *record) { r.Task.PullStoppedMS = t.nowMS() })
		r, stopped = t.pause(delay - delay/6 - delay*7/12 - delay/8)
	}
	if stopped {
		t.end(r.code, r.reason, nil)
		return
	}
	if t.neverStarts {
		t.end(stopFailedToStart, "CannotPullContainerError: injected", nil)
		return
	}
	t.execute()
}

// set changes the record without a state change: no event.
func (t *task) set(change func(*record)) {
	t.mu.Lock()
	change(&t.record)
	r := t.record
	t.mu.Unlock()
	t.fleet.journal.put(r)
}

// pause waits for d, or says that the task was asked to stop.
func (t *task) pause(d time.Duration) (r stopRequest, stopped bool) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case r = <-t.stop:
		t.set(func(r *record) { r.Task.StoppingMS = t.nowMS() })
		return r, true
	case <-timer.C:
		return stopRequest{}, false
	}
}

// execute runs the process and sees it to its end.
func (t *task) execute() {
	f, id := t.fleet, t.id()
	f.cfg.Identity.Add(identity.Task{
		ID: id, ARN: t.snapshot().ARN, Family: family,
		Cluster: f.clusterARN(), AZ: t.snapshot().AZ, IP: "127.0.0.1", CPU: vcpus(t.snapshot().CPU), Memory: mib(t.snapshot().Memory),
	})
	defer f.cfg.Identity.Remove(id)
	cmd := t.command(id)
	out := t.output()
	cmd.Stdout, cmd.Stderr = out, out
	if err := f.spawn.start(cmd); err != nil {
		t.end(stopFailedToStart, fmt.Sprintf("CannotStartContainerError: %v", err), nil)
		return
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // ProcessState says all there is
	}()
	t.mu.Lock()
	t.process = cmd.Process
	t.mu.Unlock()
	t.update(func(r *record) {
		r.Task.LastStatus, r.Task.StartedMS = statusRunning, t.nowMS()
	})
	code, reason := stopExited, "Essential container in task exited"
	select {
	case <-exited:
	case r := <-t.stop:
		code, reason = r.code, r.reason
		t.terminate(r, exited)
	}
	t.mu.Lock()
	t.process = nil
	t.mu.Unlock()
	out.flush()
	exit := exitCode(cmd.ProcessState)
	t.end(code, reason, &exit)
}

// command describes the process. Like a container it inherits nothing.
func (t *task) command(id string) *exec.Cmd {
	f, r := t.fleet, t.request()
	cmd := exec.Command(f.cfg.Binary, f.cfg.Args...)
	cmd.Dir = f.cfg.Dir
	for _, v := range environment(r) {
		cmd.Env = append(cmd.Env, v["name"]+"="+v["value"])
	}
	if f.cfg.Env != nil {
		cmd.Env = append(cmd.Env, f.cfg.Env(id)...)
	}
	// A grandchild that holds the output open must not hold up the end.
	cmd.WaitDelay = time.Second
	return cmd
}

func (t *task) output() *lineWriter {
	f := t.fleet
	return &lineWriter{line: func(s string) {
		if f.cfg.Output != nil {
			f.cfg.Output(t.snapshot(), s)
		}
	}}
}

// terminate tells that the task will stop, sends the signal, and SIGKILL after the stop
// timeout.
func (t *task) terminate(s stopRequest, exited <-chan struct{}) {
	t.update(func(r *record) {
		r.Task.StoppingMS, r.Task.StopCode, r.Task.StoppedReason = t.nowMS(), s.code, s.reason
	})
	_ = t.signal(s.signal) // it may have ended just now
	timer := time.NewTimer(t.fleet.cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-exited:
	case <-timer.C:
		_ = t.signal(os.Kill) // it may have ended just now
		<-exited
	}
}

// end tells DEPROVISIONING and STOPPED.
func (t *task) end(code, reason string, exit *int) {
	at := t.nowMS()
	t.update(func(r *record) {
		k := &r.Task
		k.LastStatus, k.StopCode, k.StoppedReason, k.ExitCode = statusDeprovisioning, code, reason, exit
		if k.StoppingMS == 0 {
			k.StoppingMS = at
		}
		r.Task.ExecStoppedMS = at
	})
	t.update(func(r *record) {
		r.Task.LastStatus, r.Task.StoppedMS = statusStopped, max(t.nowMS(), at)
	})
}

// exitCode is what ECS would report: 128 + n for signal n.
func exitCode(state *os.ProcessState) int {
	if state == nil {
		return 1
	}
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	if code := state.ExitCode(); code >= 0 {
		return code
	}
	return 1
}
