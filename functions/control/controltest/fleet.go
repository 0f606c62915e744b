package controltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"mayfly/functions/control"
)

// Fault is how a call goes wrong.
type Fault int

// Faults.
const (
	NoFault    Fault = iota
	Fails            // an error, and nothing happened
	TookEffect       // an error, although it happened
)

// ErrFault is the error of a fault that has no error of its own.
var ErrFault = errors.New("controltest: fault")

// Fleet is ECS in memory: idempotency tokens, versions that grow with each state
// change, events, tasks that stop only after a while. Tests drive what ECS does by
// itself: Pull, Run, Exit, Kill, FailToStart.
type Fleet struct {
	Clock *Clock // set once
	// Faults is asked before each call ("start", "stop", "describe", "find") how it
	// goes; nil means well. Set once, before use.
	Faults func(call string) Fault
	// Refuse is asked before a task is launched whether ECS refuses; nil means that it
	// never does. Set once, before use.
	Refuse func(r control.StartRequest) error

	mu     sync.Mutex
	tokens map[string]started       // by clientToken; guarded by mu
	tasks  map[string]*control.Task // by ARN; guarded by mu
	asked  map[string]bool          // ARNs that were told to stop; guarded by mu
	hidden map[string]bool          // ARNs that Describe and Find don't know (yet); guarded by mu
	events []control.Task           // not taken yet; guarded by mu
	calls  map[string]int           // guarded by mu
	// conflicts counts tokens that came again with other parameters; guarded by mu.
	conflicts int
}

// NewFleet is an empty cluster.
func NewFleet(c *Clock) *Fleet {
	return &Fleet{
		Clock: c, tokens: map[string]started{}, tasks: map[string]*control.Task{},
		asked: map[string]bool{}, hidden: map[string]bool{}, calls: map[string]int{},
	}
}

var _ control.Fleet = (*Fleet)(nil)

// call counts a call and decides its fault.
func (f *Fleet) call(name string) Fault {
	f.mu.Lock()
	f.calls[name]++
	f.mu.Unlock()
	if f.Faults == nil {
		return NoFault
	}
	return f.Faults(name)
}

// Start implements control.Fleet.
func (f *Fleet) Start(_ context.Context, r control.StartRequest) (control.Task, error) {
	fault := f.call("start")
	if fault == Fails {
		return control.Task{}, control.ErrNoCapacity
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.tokens[r.Token]
	if !ok && f.Refuse != nil {
		if err := f.Refuse(r); err != nil {
			return control.Task{}, err
		}
	}
	if !ok {
		s = started{f.launch(r), r}
		f.tokens[r.Token] = s
	}
	if s.request != r { // ConflictException with the first call's task
		f.conflicts++
	}
	if fault == TookEffect {
		return control.Task{}, ErrFault
	}
	return *f.tasks[s.arn], nil
}

// launch makes the task of a request, and its event. The caller holds mu.
func (f *Fleet) launch(r control.StartRequest) string {
	arn := fmt.Sprintf("arn:aws:ecs:local:000000000000:task/mayfly/%032x", len(f.tasks)+1)
	t := &control.Task{
		ARN: arn, StartedBy: r.StartedBy(), LastStatus: "PROVISIONING",
		Version: 1, CreatedMS: f.Clock.MS(), CPU: "1024", Memory: "2048",
	}
	if r.CPU != 0 {
		t.CPU, t.Memory = strconv.Itoa(r.CPU), strconv.Itoa(r.Memory)
	}
	if r.Spot {
		t.Capacity = "FARGATE_SPOT"
	}
	f.tasks[arn] = t
	f.event(t)
	return arn
}

// started is what a token stands for: the task, and the parameters of its first call.
type started struct {
	arn     string
	request control.StartRequest
}

// Requests lists the calls that started a task, in the order of their tasks.
func (f *Fleet) Requests() []control.StartRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.SortedFunc(maps.Values(f.tokens), func(a, b started) int { return strings.Compare(a.arn, b.arn) })
	out := make([]control.StartRequest, len(all))
	for i, s := range all {
		out[i] = s.request
	}
	return out
}

// Conflicts is how many calls repeated a token with other parameters.
func (f *Fleet) Conflicts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conflicts
}

// Stop implements control.Fleet. The task stops when the test calls Exit.
func (f *Fleet) Stop(_ context.Context, arn, _ string) error {
	fault := f.call("stop")
	if fault == Fails {
		return ErrFault
	}
	f.mu.Lock()
	if _, ok := f.tasks[arn]; ok {
		f.asked[arn] = true
	}
	f.mu.Unlock()
	if fault == TookEffect {
		return ErrFault
	}
	return nil
}

// Describe implements control.Fleet.
func (f *Fleet) Describe(_ context.Context, arn string) (control.Task, error) {
	if f.call("describe") != NoFault {
		return control.Task{}, ErrFault
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[arn]
	if !ok || f.hidden[arn] {
		return control.Task{}, control.ErrTaskUnknown
	}
	return *t, nil
}

// Find implements control.Fleet.
func (f *Fleet) Find(_ context.Context, startedBy string) ([]control.Task, error) {
	if f.call("find") != NoFault {
		return nil, ErrFault
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var found, over []control.Task
	for _, arn := range slices.Sorted(maps.Keys(f.tasks)) {
		t := f.tasks[arn]
		switch {
		case f.hidden[arn] || startedBy != "" && t.StartedBy != startedBy:
		case t.LastStatus != "STOPPED":
			found = append(found, *t)
		case startedBy != "":
			over = append(over, *t)
		}
	}
	if len(found) == 0 {
		return over, nil
	}
	return found, nil
}

// event queues the task's state as an event. The caller holds mu.
func (f *Fleet) event(t *control.Task) { f.events = append(f.events, *t) }

// change moves a task on by one state.
func (f *Fleet) change(arn string, to func(t *control.Task)) control.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tasks[arn]
	if t == nil {
		panic("controltest: no task " + arn)
	}
	if t.LastStatus == "STOPPED" {
		return *t
	}
	to(t)
	t.Version++
	f.event(t)
	return *t
}

// Pull starts the image pull, from which ECS bills.
func (f *Fleet) Pull(arn string) control.Task {
	return f.change(arn, func(t *control.Task) {
		t.LastStatus, t.PullStartedMS = "PENDING", f.Clock.MS()
	})
}

// Run has the container running.
func (f *Fleet) Run(arn string) control.Task {
	return f.change(arn, func(t *control.Task) {
		if t.PullStartedMS == 0 {
			t.PullStartedMS = f.Clock.MS()
		}
		t.LastStatus, t.PullStoppedMS, t.StartedMS = "RUNNING", f.Clock.MS(), f.Clock.MS()
	})
}

// Exit is a container that exits.
func (f *Fleet) Exit(arn string, code int) control.Task {
	return f.change(arn, func(t *control.Task) {
		t.LastStatus, t.ExitCode = "STOPPED", &code
		if t.StopCode == "" {
			t.StopCode = "EssentialContainerExited"
		}
		if f.asked[arn] {
			t.StopCode = "UserInitiated"
		}
		if t.StoppingMS == 0 {
			t.StoppingMS = f.Clock.MS()
		}
		t.StoppedMS = f.Clock.MS()
	})
}

// Kill is SIGKILL, or a lost host.
func (f *Fleet) Kill(arn string) control.Task { return f.Exit(arn, 137) }

// Interrupt is a Spot interruption: the warning that comes two minutes ahead, with
// SIGTERM. The test lets the task exit.
func (f *Fleet) Interrupt(arn string) control.Task {
	return f.change(arn, func(t *control.Task) {
		t.StopCode, t.StoppedReason, t.StoppingMS = "SpotInterruption", "Your Spot Task was interrupted.", f.Clock.MS()
	})
}

// FailToStart is a task that never ran: a bad image, no address.
func (f *Fleet) FailToStart(arn string) control.Task {
	return f.change(arn, func(t *control.Task) {
		t.LastStatus, t.StopCode, t.StoppedMS = "STOPPED", "TaskFailedToStart", f.Clock.MS()
	})
}

// Hide makes the task unknown to Describe and Find: too early, or long ago.
func (f *Fleet) Hide(arn string, hidden bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hidden[arn] = hidden
}

// Stray runs a task that nobody asked this fleet for.
func (f *Fleet) Stray(startedBy string) control.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	arn := fmt.Sprintf("arn:aws:ecs:local:000000000000:task/mayfly/%032x", len(f.tasks)+1)
	f.tasks[arn] = &control.Task{ARN: arn, StartedBy: startedBy, LastStatus: "RUNNING", Version: 3, CreatedMS: f.Clock.MS()}
	return *f.tasks[arn]
}

// TakeEvents returns the events since the last call, in the order they happened.
func (f *Fleet) TakeEvents() []control.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.events
	f.events = nil
	return e
}

// Tasks lists all tasks ever started, oldest first.
func (f *Fleet) Tasks() []control.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []control.Task
	for _, arn := range slices.Sorted(maps.Keys(f.tasks)) {
		all = append(all, *f.tasks[arn])
	}
	return all
}

// StopAsked says whether the task was told to stop.
func (f *Fleet) StopAsked(arn string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[arn]
}

// Calls says how often a method was called.
func (f *Fleet) Calls(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}
