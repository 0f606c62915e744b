package model

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/fleet/taskevent"
)

const stopped = "STOPPED"

// Times of ECS, in milliseconds.
const (
	networkMS = 500       // RunTask to a network interface
	pullMS    = 1_500     // from there to the image pull, from which on ECS bills
	runMS     = 900       // from there to the running container
	slowMS    = 150_000   // more than a start may take
	endMS     = 1_200     // from the exit to STOPPED
	stopMS    = 30_000    // SIGTERM to SIGKILL
	warnMS    = 120_000   // the same on Spot
	youngMS   = 15_000    // how long DescribeTasks may not know a task
	forgetMS  = 3_600_000 // how long a stopped task is described
)

// cluster is ECS: it owns the times that the bill is made of.
type cluster struct {
	w      *World
	tokens map[string]*ecsTask
	tasks  map[string]*ecsTask // by ARN
	order  []*ecsTask
	calls  uint32 // of DescribeTasks and ListTasks
}

// ecsTask is one task.
type ecsTask struct {
	task    control.Task
	room    string // "" while it stands by
	epoch   int
	slot    *slotFacts // of the warm pool; nil for a room's own
	label   string
	twin    bool // nobody was told of it
	ending  bool // told to stop, or stopping
	gone    bool // its process has ended
	stopMS  int64
	process *roomTask // nil until it runs
}

func newCluster(w *World) *cluster {
	return &cluster{w: w, tokens: map[string]*ecsTask{}, tasks: map[string]*ecsTask{}}
}

func (t *ecsTask) actor(w *World, what string) uint64 {
	if t.slot != nil {
		return name("slot "+what+t.suffix(), t.slot.n)
	}
	return w.actor(t.room, what+t.suffix(), t.epoch)
}

func (t *ecsTask) suffix() string {
	if t.twin {
		return "'"
	}
	return ""
}

// start is RunTask.
func (c *cluster) start(inv *invocation, r control.StartRequest) (control.Task, error) {
	w := c.w
	t := c.tokens[r.Token]
	if v, yes := w.chance.Draw(StartFails, inv.actor, inv.calls); yes {
		err := [4]error{control.ErrNoCapacity, control.ErrBusy, control.ErrNoCapacity, control.ErrRefused}[v%4]
		if t != nil {
			err = control.ErrBusy // a repeat finds its task, or is throttled
		}
		w.say("%s: RunTask of %s refuses: %v", inv.label, r.StartedBy(), err)
		return control.Task{}, err
	}
	if t == nil {
		if had := c.had(r); len(had) > 0 {
			w.fail("%s has task %s, and RunTask starts another", r.StartedBy(), had[0].label)
		}
		t = c.launch(r, false)
		c.tokens[r.Token] = t
		if _, yes := w.chance.Draw(Twin, t.actor(w, "twin"), 0); yes {
			w.say("a second task for %s", t.label)
			c.launch(r, true)
		}
	}
	if _, yes := w.chance.Draw(StartLost, inv.actor, inv.calls); yes {
		w.say("%s: RunTask's answer is lost", inv.label)
		return control.Task{}, errAWS
	}
	return t.task, nil
}

// launch makes a task and plans its life.
func (c *cluster) launch(r control.StartRequest, twin bool) *ecsTask {
	w := c.w
	arn := fmt.Sprintf("arn:aws:ecs:eu-central-1:000000000000:task/mayfly/%032x", len(c.order)+1)
	t := &ecsTask{room: r.Room, epoch: r.Epoch, twin: twin, task: control.Task{
		ARN: arn, StartedBy: r.StartedBy(), LastStatus: "PROVISIONING", CreatedMS: w.now,
		CPU: strconv.Itoa(cmp.Or(r.CPU, 1024)), Memory: strconv.Itoa(cmp.Or(r.Memory, 2048)), Capacity: capacity(r.Spot), Arch: "arm64", AZ: "eu-central-1a",
	}}
	t.label = fmt.Sprintf("%s.%d%s", w.label(r.Room), r.Epoch, t.suffix())
	if r.Slot != "" {
		t.slot = w.slot(r.Slot)
		t.room, t.epoch = t.slot.room, t.slot.epoch
		t.label = fmt.Sprintf("standby %d%s", t.slot.n, t.suffix())
	}
	c.tasks[arn] = t
	c.order = append(c.order, t)
	c.change(t, func() {})
	slow := int64(0)
	if _, yes := w.chance.Draw(SlowStart, t.actor(w, "slow"), 0); yes {
		slow = slowMS
		w.say("task %s starts slowly", t.label)
	}
	w.in(networkMS, func() { c.live(t, func() { t.task.LastStatus, t.task.ConnectedMS = "PENDING", w.now }) })
	w.in(networkMS+pullMS+slow, func() { c.live(t, func() { t.task.PullStartedMS = w.now }) })
	w.in(networkMS+pullMS+slow+runMS, func() { c.run(t) })
	return t
}

func capacity(spot bool) string {
	if spot {
		return "FARGATE_SPOT"
	}
	return "FARGATE"
}

// live changes a task that is on its way to run.
func (c *cluster) live(t *ecsTask, to func()) {
	if !t.ending {
		c.change(t, to)
	}
}

// change changes the task, counts its version, and tells.
func (c *cluster) change(t *ecsTask, to func()) {
	to()
	t.task.Version++
	if c.w.trace {
		c.w.say("ecs: task %s is %s, version %d", t.label, t.task.LastStatus, t.task.Version)
	}
	c.w.event(t)
}

// run starts the container.
func (c *cluster) run(t *ecsTask) {
	w := c.w
	if t.ending {
		return
	}
	if _, yes := w.chance.Draw(NeverStarts, t.actor(w, "never starts"), 0); yes {
		t.task.StopCode, t.task.StoppedReason = "TaskFailedToStart", "CannotPullContainerError"
		c.end(t, nil)
		return
	}
	c.change(t, func() { t.task.LastStatus, t.task.StartedMS, t.task.PullStoppedMS = "RUNNING", w.now, w.now })
	c.boot(t)
	if v, yes := w.chance.Draw(Kill, t.actor(w, "kill"), 0); yes {
		w.in(int64(v%240_000), func() {
			if !t.gone {
				w.say("task %s is killed", t.label)
				w.kills++
				c.exited(t, 137)
			}
		})
	}
	if v, yes := w.chance.Draw(Terminate, t.actor(w, "terminate"), 0); yes {
		w.in(int64(v%200_000), func() {
			if !t.gone && !t.ending {
				w.say("ECS ends task %s", t.label)
				t.task.StopCode, t.task.StoppedReason = "SpotInterruption", "Your Spot Task was interrupted."
				c.terminate(t, warnMS)
			}
		})
	}
}

// stop is StopTask.
func (c *cluster) stop(inv *invocation, arn, reason string) error {
	w := c.w
	v, fails := w.chance.Draw(StopFails, inv.actor, inv.calls)
	if fails && v&1 == 0 {
		w.say("%s: StopTask fails", inv.label)
		return errAWS
	}
	if t := c.tasks[arn]; t != nil && !t.ending {
		t.task.StopCode, t.task.StoppedReason = "UserInitiated", reason
		w.say("%s stops task %s: %s", inv.label, t.label, reason)
		c.terminate(t, stopMS)
	}
	if fails {
		w.say("%s: StopTask's answer is lost", inv.label)
		return errAWS
	}
	return nil
}

// terminate is SIGTERM, and SIGKILL some time after.
func (c *cluster) terminate(t *ecsTask, patience int64) {
	w := c.w
	t.ending = true
	t.stopMS = w.now
	if t.process == nil {
		c.change(t, func() { t.task.StoppingMS = w.now })
		w.in(endMS/2, func() { c.end(t, nil) })
		return
	}
	c.change(t, func() { t.task.StoppingMS = w.now })
	if _, deaf := w.chance.Draw(Deaf, t.actor(w, "deaf"), 0); deaf {
		w.say("task %s does not hear SIGTERM", t.label)
	} else {
		t.process.terminate()
	}
	w.in(patience, func() {
		if !t.gone {
			w.say("task %s is killed, for it did not end", t.label)
			c.exited(t, 137)
		}
	})
}

// exited is the end of the task's process.
func (c *cluster) exited(t *ecsTask, code int) {
	if t.gone {
		return
	}
	t.process.died()
	if t.task.StopCode == "" {
		t.task.StopCode = "EssentialContainerExited"
	}
	c.w.say("task %s exits with %d", t.label, code)
	c.end(t, &code)
}

// end tells DEPROVISIONING, and STOPPED when the task is gone for good.
func (c *cluster) end(t *ecsTask, code *int) {
	if t.gone {
		return
	}
	w := c.w
	t.gone, t.ending = true, true
	c.change(t, func() {
		t.task.LastStatus, t.task.ExitCode, t.task.ExecStoppedMS = "DEPROVISIONING", code, w.now
		if t.task.StoppingMS == 0 {
			t.task.StoppingMS = w.now
		}
	})
	w.in(endMS, func() { c.change(t, func() { t.task.LastStatus, t.task.StoppedMS = stopped, w.now }) })
}

// describe is DescribeTasks.
func (c *cluster) describe(inv *invocation, arn string) (control.Task, error) {
	w := c.w
	if _, yes := w.chance.Draw(AskFails, inv.actor, inv.calls); yes {
		w.say("%s: DescribeTasks fails", inv.label)
		return control.Task{}, errAWS
	}
	t := c.tasks[arn]
	if t == nil || c.missing(t) || t.task.StoppedMS != 0 && w.now > t.task.StoppedMS+forgetMS {
		return control.Task{}, control.ErrTaskUnknown
	}
	return t.task, nil
}

// missing says whether ECS does not know a young task yet.
func (c *cluster) missing(t *ecsTask) bool {
	if c.w.now >= t.task.CreatedMS+youngMS {
		return false
	}
	c.calls++
	_, yes := c.w.chance.Draw(Missing, t.actor(c.w, "missing"), c.calls)
	return yes
}

// find is ListTasks and DescribeTasks.
func (c *cluster) find(inv *invocation, startedBy string) ([]control.Task, error) {
	if _, yes := c.w.chance.Draw(AskFails, inv.actor, inv.calls); yes {
		c.w.say("%s: ListTasks fails", inv.label)
		return nil, errAWS
	}
	var found, over []control.Task
	for _, t := range c.order {
		if startedBy != "" && startedBy == t.task.StartedBy && t.ending && c.w.now < t.task.CreatedMS+forgetMS {
			over = append(over, t.task)
		}
		if !t.ending && (startedBy == "" || startedBy == t.task.StartedBy) && !c.missing(t) {
			found = append(found, t.task)
		}
	}
	if len(found) == 0 {
		return over, nil
	}
	return found, nil
}

// idle says that nothing runs.
func (c *cluster) idle() bool {
	for _, t := range c.order {
		if t.task.LastStatus != stopped {
			return false
		}
	}
	return true
}

// of lists the tasks of an epoch.
func (c *cluster) of(room string, epoch int) []*ecsTask {
	var found []*ecsTask
	for _, t := range c.order {
		if t.room == room && t.epoch == epoch {
			found = append(found, t)
		}
	}
	return found
}

// detail is the part of an event that the functions read, in ECS's form.
type detail struct {
	TaskARN       string            `json:"taskArn"`
	StartedBy     string            `json:"startedBy"`
	LastStatus    string            `json:"lastStatus"`
	Version       int64             `json:"version"`
	StopCode      string            `json:"stopCode,omitempty"`
	StoppedReason string            `json:"stoppedReason,omitempty"`
	CreatedAt     *time.Time        `json:"createdAt,omitempty"`
	PullStartedAt *time.Time        `json:"pullStartedAt,omitempty"`
	PullStoppedAt *time.Time        `json:"pullStoppedAt,omitempty"`
	StartedAt     *time.Time        `json:"startedAt,omitempty"`
	StoppingAt    *time.Time        `json:"stoppingAt,omitempty"`
	StoppedAt     *time.Time        `json:"stoppedAt,omitempty"`
	ConnectedAt   *time.Time        `json:"connectivityAt,omitempty"`
	ExecStoppedAt *time.Time        `json:"executionStoppedAt,omitempty"`
	CPU           string            `json:"cpu"`
	Capacity      string            `json:"capacityProviderName,omitempty"`
	Memory        string            `json:"memory"`
	AZ            string            `json:"availabilityZone"`
	Attributes    []map[string]any  `json:"attributes"`
	Containers    []containerDetail `json:"containers"`
}

type containerDetail struct {
	Name     string `json:"name"`
	ExitCode *int   `json:"exitCode,omitempty"`
}

// eventOf is the task as "ECS Task State Change" tells it.
func eventOf(t control.Task) (json.RawMessage, error) {
	at := func(ms int64) *time.Time {
		if ms == 0 {
			return nil
		}
		u := time.UnixMilli(ms).UTC()
		return &u
	}
	raw, err := json.Marshal(detail{
		TaskARN: t.ARN, StartedBy: t.StartedBy, LastStatus: t.LastStatus, Version: t.Version, StopCode: t.StopCode,
		StoppedReason: t.StoppedReason, CreatedAt: at(t.CreatedMS), PullStartedAt: at(t.PullStartedMS), PullStoppedAt: at(t.PullStoppedMS),
		StartedAt: at(t.StartedMS), StoppingAt: at(t.StoppingMS), StoppedAt: at(t.StoppedMS), ConnectedAt: at(t.ConnectedMS),
		ExecStoppedAt: at(t.ExecStoppedMS), CPU: t.CPU, Capacity: t.Capacity, Memory: t.Memory, AZ: t.AZ,
		Attributes: []map[string]any{{"name": taskevent.ArchAttribute, "value": t.Arch}},
		Containers: []containerDetail{{Name: taskevent.Container, ExitCode: t.ExitCode}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode task: %w", err)
	}
	return raw, nil
}
