// Package ecs stands in for ECS on Fargate: room tasks are child processes.
//
// Fleet is a control.Fleet with ECS's semantics: clientToken idempotency, Conflict for
// the same token with other parameters (answered by adopting the existing task, as
// functions/fleet does), failures on demand, a start delay, tasks that Describe does
// not know at first, SIGTERM then SIGKILL after the stop timeout, and real "ECS Task
// State Change" events with a growing detail.version, doubled and reordered on demand.
// A task gets no environment but what Fargate would give it, its own process group,
// and its death when this process dies (on Linux). A journal next to the store lets a
// later process tell truthfully what became of the tasks of an earlier one.
//
// infra/local wires it. It must not know what a task does. Read Fleet.Start and
// task.run (task.go); event.go makes the events.
package ecs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mayfly/functions/control"
	"mayfly/infra/local/fault"
	"mayfly/infra/local/identity"
)

// DefaultStopTimeout is Fargate's default time between SIGTERM and SIGKILL.
const DefaultStopTimeout = 30 * time.Second

// stoppedVisible is how long ECS tells of a stopped task.
const stoppedVisible = time.Hour

// Size of a local task whose start says nothing of it, as it is billed on Fargate: 1 vCPU
// and 2 GB. A process takes what the machine has, whatever it was asked for.
const (
	cpuUnits  = "1024"
	memoryMiB = "2048"
)

// Config configures a Fleet.
type Config struct {
	Region  string
	Cluster string
	// Binary is the room task, with Args. Dir is its working directory.
	Binary string
	Args   []string
	Dir    string
	// Env is a task's environment besides MAYFLY_ROOM and MAYFLY_EPOCH.
	Env func(taskID string) []string
	// Identity learns of a task before it starts and forgets it when it has ended.
	Identity *identity.Issuer
	// StartDelay is the time from RunTask to RUNNING; a cold Fargate start takes
	// about 25 s.
	StartDelay  time.Duration
	StopTimeout time.Duration // 0 means DefaultStopTimeout
	// MissingFor makes Describe and Find not know a task that is younger.
	MissingFor time.Duration
	// Emit gets each event. It is called from several goroutines and must not block.
	Emit       func(event json.RawMessage)
	EventFault fault.Fault // Drop loses events, as best-effort delivery may
	Seed       uint64
	// Output gets each line that a task prints. It is called from several goroutines.
	Output func(t control.Task, line string)
	// Journal is the file that remembers tasks; "" remembers none.
	Journal string
	Now     control.Clock
	Log     *slog.Logger
}

// Fault is a failure that Inject arranges for.
type Fault int8

// Faults.
const (
	NoCapacity  Fault = iota // RunTask refuses, nothing is started
	AnswerLost               // the task is started, but RunTask's answer is an error
	NeverStarts              // RunTask accepts, the task stops before it runs
)

// Fleet runs the tasks.
type Fleet struct {
	// Set once.
	cfg     Config
	digest  string // of the binary, stands for the image digest
	spawn   *spawner
	faults  *fault.Line // of events
	closing chan struct{}
	wg      sync.WaitGroup // a goroutine per task, and the journal's
	journal *journal

	mu       sync.Mutex
	tasks    map[string]*task // guarded by mu: by ARN
	tokens   map[string]*task // guarded by mu: by client token
	injected map[Fault]int    // guarded by mu: how many more times
	closed   bool             // guarded by mu
}

var _ control.Fleet = (*Fleet)(nil)

// New makes the fleet. It knows the tasks of the journal as they were; Recover tells
// their end. Close ends it.
func New(c Config) (*Fleet, error) {
	if c.StopTimeout <= 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	if c.Region == "" || c.Cluster == "" || c.Binary == "" {
		return nil, errors.New("ecs: Region, Cluster and Binary must be set")
	}
	digest, err := digestOf(c.Binary)
	if err != nil {
		return nil, fmt.Errorf("ecs: room task binary: %w", err)
	}
	f := &Fleet{
		cfg: c, digest: digest, spawn: newSpawner(), faults: fault.NewLine(c.EventFault, c.Seed, 1),
		closing: make(chan struct{}),
		tasks:   map[string]*task{}, tokens: map[string]*task{}, injected: map[Fault]int{},
	}
	f.journal, err = openJournal(c.Journal, c.Now)
	if err != nil {
		f.spawn.close()
		return nil, err
	}
	for _, r := range f.journal.before {
		t := &task{fleet: f, record: r, stopped: make(chan struct{})}
		close(t.stopped)
		f.tasks[r.Task.ARN], f.tokens[r.Token] = t, t
	}
	if c.Journal != "" {
		f.wg.Go(f.keepAlive)
	}
	return f, nil
}

// Recover tells the end of every task that an earlier process left running. Whatever
// ran is gone with that process, and ended no later than it: at the time by which it is
// known to have ended, never before. Call it once, when events can be handled.
func (f *Fleet) Recover() {
	f.mu.Lock()
	var lost []*task
	for _, t := range f.tasks {
		if t.recovered() && t.snapshot().LastStatus != statusStopped {
			lost = append(lost, t)
		}
	}
	f.mu.Unlock()
	for _, t := range lost {
		t.update(func(r *record) { r.hostLost(f.journal.goneBy) })
	}
}

// keepAlive marks the journal, so that a later process knows how long this one lived.
func (f *Fleet) keepAlive() {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.journal.alive()
		case <-f.closing:
			return
		}
	}
}

// Inject makes the next n starts meet a failure.
func (f *Fleet) Inject(what Fault, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.injected[what] += n
}

// take says whether an injected failure applies now. The caller holds mu.
func (f *Fleet) take(what Fault) bool {
	if f.injected[what] <= 0 {
		return false
	}
	f.injected[what]--
	return true
}

// Start is RunTask.
func (f *Fleet) Start(ctx context.Context, r control.StartRequest) (control.Task, error) {
	if err := ctx.Err(); err != nil {
		return control.Task{}, fmt.Errorf("ecs: start: %w", err)
	}
	if err := checkToken(r.Token); err != nil {
		return control.Task{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	if f.closed {
		return control.Task{}, fmt.Errorf("%w: the stand-in is closing", control.ErrNoCapacity)
	}
	if f.take(NoCapacity) {
		return control.Task{}, fmt.Errorf("%w: Capacity is unavailable at this time", control.ErrNoCapacity)
	}
	t := f.tokens[r.Token]
	switch {
	case t == nil:
		t = f.launch(r)
	case t.request() != r:
		// ECS answers ConflictException with the ARN of the task that the token started.
		f.cfg.Log.Warn("client token used again with other parameters", "token", r.Token, "task", t.id())
		if t.request().StartedBy() != r.StartedBy() {
			return control.Task{}, fmt.Errorf("ecs: conflict: token %s belongs to another room", r.Token)
		}
	}
	if f.take(AnswerLost) {
		return control.Task{}, errors.New("ecs: the answer was lost")
	}
	return t.snapshot(), nil
}

// launch makes a task and its goroutine. The caller holds mu.
func (f *Fleet) launch(r control.StartRequest) *task {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(b[:])
	t := &task{
		fleet: f, stop: make(chan stopRequest, 1), stopped: make(chan struct{}), neverStarts: f.take(NeverStarts),
		record: record{
			Request: r, Token: r.Token,
			Task: control.Task{
				ARN:       fmt.Sprintf("arn:aws:ecs:%s:%s:task/%s/%s", f.cfg.Region, identity.Account, f.cfg.Cluster, id),
				StartedBy: r.StartedBy(), LastStatus: statusProvisioning,
				CPU: sized(r.CPU, cpuUnits), Memory: sized(r.Memory, memoryMiB), Capacity: capacity(r.Spot), AZ: f.cfg.Region + "-a", ImageDigest: f.digest,
				Arch: "x86_64", StorageGiB: 20,
				CreatedMS: f.cfg.Now().UnixMilli(),
			},
		},
	}
	f.tasks[t.record.Task.ARN], f.tokens[r.Token] = t, t
	t.update(func(*record) {}) // version 1, PROVISIONING
	f.wg.Go(t.run)
	return t
}

// sized is a number that was asked for, or that of the task definition.
func sized(asked int, definition string) string {
	if asked > 0 {
		return strconv.Itoa(asked)
	}
	return definition
}

// capacity is the provider's name, as ECS tells it of tasks that a strategy placed.
func capacity(spot bool) string {
	if spot {
		return "FARGATE_SPOT"
	}
	return ""
}

// forget drops tasks that ECS would not tell of any more, but not those of an earlier
// process: the time since is not the control plane's fault. The caller holds mu.
func (f *Fleet) forget() {
	cutoff := f.cfg.Now().Add(-stoppedVisible).UnixMilli()
	for arn, t := range f.tasks {
		if s := t.snapshot(); s.LastStatus == statusStopped && s.StoppedMS < cutoff && !t.recovered() {
			delete(f.tasks, arn)
			delete(f.tokens, t.record.Token)
			f.journal.drop(arn)
		}
	}
}

// checkToken holds the token to what RunTask takes as clientToken.
func checkToken(token string) error {
	if token == "" || len(token) > 64 || strings.ContainsFunc(token, func(r rune) bool { return r < 33 || r > 126 }) {
		return fmt.Errorf("ecs: client token %q is not 1 to 64 printable ASCII characters", token)
	}
	return nil
}

func (f *Fleet) find(arn string) *task {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[arn]
}

// Stop is StopTask.
func (f *Fleet) Stop(_ context.Context, arn, reason string) error {
	if t := f.find(arn); t != nil {
		t.ask(stopRequest{stopUser, reason, syscall.SIGTERM})
	}
	return nil
}

// Interrupt is a Fargate Spot interruption: the warning goes out as a state change
// event and as SIGTERM, and SIGKILL follows after the stop timeout.
func (f *Fleet) Interrupt(arn string) error {
	t := f.find(arn)
	if t == nil {
		return control.ErrTaskUnknown
	}
	t.ask(stopRequest{stopSpot, "Your Spot Task was interrupted.", syscall.SIGTERM})
	return nil
}

// Describe is DescribeTasks for one task.
func (f *Fleet) Describe(_ context.Context, arn string) (control.Task, error) {
	t := f.find(arn)
	if t == nil || f.hidden(t) {
		return control.Task{}, control.ErrTaskUnknown
	}
	return t.snapshot(), nil
}

func (f *Fleet) hidden(t *task) bool {
	return f.cfg.Now().UnixMilli()-t.snapshot().CreatedMS < f.cfg.MissingFor.Milliseconds()
}

// Find is ListTasks and DescribeTasks of tasks whose desired status is RUNNING, or else,
// for one room, STOPPED.
func (f *Fleet) Find(_ context.Context, startedBy string) ([]control.Task, error) {
	f.mu.Lock()
	all := make([]*task, 0, len(f.tasks))
	for _, t := range f.tasks {
		all = append(all, t)
	}
	f.mu.Unlock()
	var out, over []control.Task
	for _, t := range all {
		s := t.snapshot()
		switch {
		case f.hidden(t) || startedBy != "" && s.StartedBy != startedBy:
		case s.LastStatus != statusStopped && s.StoppingMS == 0:
			out = append(out, s)
		default:
			over = append(over, s)
		}
	}
	if startedBy != "" && len(out) == 0 {
		out = over
	}
	slices.SortFunc(out, func(a, b control.Task) int { return strings.Compare(a.ARN, b.ARN) })
	return out, nil
}

// Signal sends a signal to a running task's process group, past ECS: for crashes
// (os.Kill) and stalls.
func (f *Fleet) Signal(arn string, s os.Signal) error {
	t := f.find(arn)
	if t == nil {
		return control.ErrTaskUnknown
	}
	return t.signal(s)
}

// Wait returns when the task has stopped and its last event was emitted.
func (f *Fleet) Wait(ctx context.Context, arn string) error {
	t := f.find(arn)
	if t == nil {
		return control.ErrTaskUnknown
	}
	select {
	case <-t.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops all tasks as StopTask does, and waits for them and for their events.
// When ctx ends first they are killed.
func (f *Fleet) Close(ctx context.Context) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	all := make([]*task, 0, len(f.tasks))
	for _, t := range f.tasks {
		all = append(all, t)
	}
	f.mu.Unlock()
	for _, t := range all {
		// No other task can take a room over from here: SIGINT ends it without a hand-over.
		t.ask(stopRequest{stopUser, "the stand-in is closing", syscall.SIGINT})
	}
	for _, t := range all {
		select {
		case <-t.stopped:
		case <-ctx.Done():
			_ = t.signal(os.Kill) // it may have ended just now
			<-t.stopped
		}
	}
	close(f.closing)
	f.wg.Wait()
	f.faults.Wait()
	f.spawn.close()
	return f.journal.err()
}

// revision is the task definition's that a start names; the stand-in has one.
func revision(r control.StartRequest) string {
	if r.Revision == "" {
		return "1"
	}
	return r.Revision
}

// vcpus and mib are a task's size as its metadata tells it.
func vcpus(units string) float64 {
	n, _ := strconv.Atoi(units) // the stand-in wrote it
	return float64(n) / 1024
}

func mib(memory string) int {
	n, _ := strconv.Atoi(memory) // the stand-in wrote it
	return n
}

// environment is what functions/fleet overrides in a task's environment.
func environment(r control.StartRequest) []map[string]string {
	if r.Slot != "" {
		return []map[string]string{{"name": "MAYFLY_SLOT", "value": r.Slot}}
	}
	return []map[string]string{{"name": "MAYFLY_ROOM", "value": r.Room}, {"name": "MAYFLY_EPOCH", "value": strconv.Itoa(r.Epoch)}}
}
