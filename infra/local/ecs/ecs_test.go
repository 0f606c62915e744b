package ecs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"mayfly/functions/control"
	"mayfly/functions/fleet/taskevent"
	"mayfly/infra/local/fault"
	"mayfly/infra/local/identity"
)

const modeVar = "ECS_TEST_TASK"

// TestMain lets the test binary be the room task: the fleet starts it again with the
// mode in its environment.
func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeVar); mode {
	case "":
		os.Exit(m.Run())
	case "wait", "stubborn":
		got := make(chan os.Signal, 1)
		signal.Notify(got, syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("ready")
		<-got
		fmt.Println("terminating")
		if mode == "stubborn" {
			select {}
		}
		fmt.Print("no newline")
		os.Exit(0)
	case "fleet":
		ownFleet()
	default:
		fmt.Println(strings.Join(os.Environ(), " "))
		code, err := strconv.Atoi(mode)
		if err != nil {
			code = 99
		}
		os.Exit(code)
	}
}

// ownFleet is a process with a fleet of its own, to be killed.
func ownFleet() {
	pids := make(chan string, 1)
	f, err := New(Config{
		Region: "local", Cluster: "mayfly", Binary: os.Args[0], Identity: identity.NewIssuer("local", time.Now),
		Env: func(string) []string { return []string{modeVar + "=wait"} }, Emit: func(json.RawMessage) {},
		Output: func(_ control.Task, line string) { pids <- line },
		Now:    time.Now, Log: slog.New(slog.DiscardHandler), Journal: os.Getenv("JOURNAL"),
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	t, err := f.Start(context.Background(), request("r", 1))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	<-pids
	fmt.Println(f.find(t.ARN).process.Pid)
	select {}
}

// world is a fleet with what it emits.
type world struct {
	*Fleet
	t  *testing.T
	mu sync.Mutex
	// guarded by mu
	events []events.EventBridgeEvent
	lines  []string
	more   chan struct{}
}

func newWorld(t *testing.T, mode string, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, more: make(chan struct{}, 1)}
	cfg := Config{
		Region: "local", Cluster: "mayfly", Binary: os.Args[0], Dir: t.TempDir(),
		Env:      func(id string) []string { return []string{modeVar + "=" + mode, "TASK_ID=" + id} },
		Identity: identity.NewIssuer("local", time.Now),
		Emit:     w.emit, Output: w.output, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Fleet = f
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) emit(raw json.RawMessage) {
	var ev events.EventBridgeEvent
	if err := json.Unmarshal(raw, &ev); err != nil {
		w.t.Errorf("event %s: %v", raw, err)
	}
	w.note(func() { w.events = append(w.events, ev) })
}

func (w *world) output(_ control.Task, line string) {
	w.note(func() { w.lines = append(w.lines, line) })
}

func (w *world) note(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// until waits for a condition on events and output.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.more:
		case <-deadline:
			w.t.Fatalf("never: %s (lines %q)", what, w.lines)
		}
	}
}

func (w *world) line(s string) {
	w.t.Helper()
	w.until("line "+s, func() bool { return slices.Contains(w.lines, s) })
}

func (w *world) start(r control.StartRequest) control.Task {
	w.t.Helper()
	task, err := w.Start(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return task
}

// stopped waits for the end and returns the task and all its events' tasks.
func (w *world) stopped(arn string) (control.Task, []control.Task) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Wait(ctx, arn); err != nil {
		w.t.Fatal(err)
	}
	last, err := w.Describe(ctx, arn)
	if err != nil {
		w.t.Fatal(err)
	}
	return last, w.told(arn)
}

// told is what the events say of a task, read as the control plane reads it.
func (w *world) told(arn string) []control.Task {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []control.Task
	for _, ev := range w.events {
		if ev.DetailType != "ECS Task State Change" || ev.Source != "aws.ecs" || ev.ID == "" || ev.Time.IsZero() {
			w.t.Errorf("envelope %+v", ev)
		}
		task, err := taskevent.Parse(ev.Detail)
		if err != nil {
			w.t.Fatal(err)
		}
		if task.ARN == arn {
			out = append(out, task)
		}
	}
	return out
}

func statuses(tasks []control.Task) (out []string) {
	for _, t := range tasks {
		out = append(out, fmt.Sprintf("%d %s", t.Version, t.LastStatus))
	}
	return out
}

func request(room string, epoch int) control.StartRequest {
	return control.StartRequest{Room: room, Epoch: epoch, Token: fmt.Sprintf("%s.%d", room, epoch), Region: "local"}
}

func TestLifeOfATaskThatEnds(t *testing.T) {
	w := newWorld(t, "7", nil)
	arn := w.start(request("room_A", 2)).ARN
	last, told := w.stopped(arn)
	want := []string{"1 PROVISIONING", "2 PENDING", "3 RUNNING", "4 DEPROVISIONING", "5 STOPPED"}
	if diff := cmp.Diff(want, statuses(told)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(last, told[4]); diff != "" {
		t.Errorf("Describe and the last event differ: %s", diff)
	}
	if *last.ExitCode != 7 || last.StopCode != "EssentialContainerExited" || last.StartedBy != "room/room_A/2" || last.CPU != "1024" ||
		!strings.HasPrefix(last.ImageDigest, "sha256:") {
		t.Errorf("%+v", last)
	}
	times := []int64{last.CreatedMS, last.PullStartedMS, last.PullStoppedMS, last.StartedMS, last.StoppingMS, last.StoppedMS}
	if !slices.IsSorted(times) || times[0] == 0 {
		t.Errorf("times %v", times)
	}
	// Nothing is inherited: the environment is exactly what was given.
	w.mu.Lock()
	env := strings.Fields(w.lines[0])
	w.mu.Unlock()
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	if diff := cmp.Diff([]string{"MAYFLY_ROOM=room_A", "MAYFLY_EPOCH=2", modeVar + "=7", "TASK_ID=" + id}, env,
		cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
		t.Error(diff)
	}
}

func TestStopIsTermThenKill(t *testing.T) {
	for _, tc := range []struct {
		mode    string
		timeout time.Duration
		exit    int
	}{{"wait", time.Minute, 0}, {"stubborn", 50 * time.Millisecond, 137}} {
		t.Run(tc.mode, func(t *testing.T) {
			w := newWorld(t, tc.mode, func(c *Config) { c.StopTimeout = tc.timeout })
			arn := w.start(request("r", 1)).ARN
			w.line("ready")
			if err := w.Stop(t.Context(), arn, "orphan"); err != nil {
				t.Fatal(err)
			}
			last, _ := w.stopped(arn)
			if *last.ExitCode != tc.exit || last.StopCode != "UserInitiated" || last.StoppedReason != "orphan" || last.StoppingMS == 0 {
				t.Errorf("%+v exit %d", last, *last.ExitCode)
			}
			w.line("terminating")
			if tc.mode == "wait" {
				w.line("no newline")
			}
			if err := w.Stop(t.Context(), arn, "again"); err != nil {
				t.Errorf("stop of a stopped task: %v", err)
			}
		})
	}
}

func TestKilledTask(t *testing.T) {
	w := newWorld(t, "wait", nil)
	arn := w.start(request("r", 1)).ARN
	w.line("ready")
	if err := w.Signal(arn, os.Kill); err != nil {
		t.Fatal(err)
	}
	last, _ := w.stopped(arn)
	if *last.ExitCode != 137 || last.StopCode != "EssentialContainerExited" {
		t.Errorf("%+v", last)
	}
	if err := w.Signal(arn, os.Kill); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t, "wait", nil)
	var wg sync.WaitGroup
	arns := make([]string, 20)
	for i := range arns {
		wg.Go(func() {
			task, err := w.Start(t.Context(), request("r", 1))
			if err != nil {
				t.Error(err)
			}
			arns[i] = task.ARN
		})
	}
	wg.Wait()
	if slices.Sort(arns); arns[0] != arns[19] {
		t.Fatal("one token, several tasks")
	}
	w.line("ready")
	changed := request("r", 1)
	changed.Region = "elsewhere"
	if task := w.start(changed); task.ARN != arns[0] {
		t.Error("a conflict is answered by adopting the task")
	}
	foreign := request("other", 1)
	foreign.Token = "r.1"
	if _, err := w.Start(t.Context(), foreign); err == nil {
		t.Error("another room got the task")
	}
	for _, token := range []string{"", strings.Repeat("x", 65), "a b", "é"} {
		r := request("r", 1)
		r.Token = token
		if _, err := w.Start(t.Context(), r); err == nil {
			t.Errorf("token %q accepted", token)
		}
	}
	if err := w.Signal(arns[0], os.Kill); err != nil {
		t.Fatal(err)
	}
	w.stopped(arns[0])
	if task := w.start(request("r", 1)); task.ARN != arns[0] || task.LastStatus != "STOPPED" {
		t.Errorf("token of a stopped task started %+v", task)
	}
	if task := w.start(request("r", 2)); task.ARN == arns[0] {
		t.Error("another token, the same task")
	}
}

func TestInjectedFailures(t *testing.T) {
	w := newWorld(t, "wait", nil)
	w.Inject(NoCapacity, 1)
	if _, err := w.Start(t.Context(), request("a", 1)); !errors.Is(err, control.ErrNoCapacity) {
		t.Errorf("no capacity: %v", err)
	}
	if all, _ := w.Find(t.Context(), ""); len(all) != 0 {
		t.Errorf("started %v", all)
	}
	w.Inject(AnswerLost, 1)
	if _, err := w.Start(t.Context(), request("a", 1)); err == nil {
		t.Error("answer was not lost")
	}
	all, err := w.Find(t.Context(), "room/a/1")
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
	if again := w.start(request("a", 1)); again.ARN != all[0].ARN {
		t.Error("the repeat started another task")
	}
	w.Inject(NeverStarts, 1)
	last, told := w.stopped(w.start(request("b", 1)).ARN)
	if last.StopCode != "TaskFailedToStart" || last.ExitCode != nil || last.StartedMS != 0 {
		t.Errorf("%+v", last)
	}
	if got := statuses(told); slices.Contains(got, "3 RUNNING") {
		t.Errorf("events %v", got)
	}
}

func TestBinaryThatDoesNotRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "task")
	if _, err := New(Config{Region: "local", Cluster: "c", Binary: path}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing binary: %v", err)
	}
	if err := os.WriteFile(path, []byte("not a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "", func(c *Config) { c.Binary = path })
	if last, _ := w.stopped(w.start(request("r", 1)).ARN); last.StopCode != "TaskFailedToStart" {
		t.Errorf("%+v", last)
	}
}

func TestStartDelayAndMissing(t *testing.T) {
	w := newWorld(t, "0", func(c *Config) {
		c.StartDelay = time.Hour
		c.MissingFor = time.Hour
	})
	arn := w.start(request("r", 1)).ARN
	if _, err := w.Describe(t.Context(), arn); !errors.Is(err, control.ErrTaskUnknown) {
		t.Errorf("Describe right after the start: %v", err)
	}
	if all, err := w.Find(t.Context(), ""); len(all) != 0 || err != nil {
		t.Errorf("Find right after the start: %v %v", all, err)
	}
	if _, err := w.Describe(t.Context(), "arn:aws:ecs:local:000000000000:task/mayfly/none"); !errors.Is(err, control.ErrTaskUnknown) {
		t.Errorf("unknown task: %v", err)
	}
	if err := w.Stop(t.Context(), arn, "no longer wanted"); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(t.Context(), arn); err != nil {
		t.Fatal(err)
	}
	told := w.told(arn)
	if diff := cmp.Diff([]string{"1 PROVISIONING", "2 DEPROVISIONING", "3 STOPPED"}, statuses(told)); diff != "" {
		t.Error(diff)
	}
	if last := told[2]; last.StartedMS != 0 || last.StopCode != "UserInitiated" || last.ExitCode != nil {
		t.Errorf("%+v", last)
	}
}

func TestEventsDoubledAndReordered(t *testing.T) {
	w := newWorld(t, "0", func(c *Config) {
		c.Seed = 4
		c.EventFault = fault.Fault{Duplicate: 1, Reorder: 0.5, Window: 20 * time.Millisecond}
	})
	arn := w.start(request("r", 1)).ARN
	w.until("ten events", func() bool { return len(w.events) == 10 })
	versions := map[int64]int{}
	for _, task := range w.told(arn) {
		versions[task.Version]++
	}
	if diff := cmp.Diff(map[int64]int{1: 2, 2: 2, 3: 2, 4: 2, 5: 2}, versions); diff != "" {
		t.Error(diff)
	}
}

func TestCloseStopsAndRefuses(t *testing.T) {
	w := newWorld(t, "wait", nil)
	arn := w.start(request("r", 1)).ARN
	w.line("ready")
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told := w.told(arn); told[len(told)-1].LastStatus != "STOPPED" || *told[len(told)-1].ExitCode != 0 {
		t.Errorf("last event when Close returned: %+v", told[len(told)-1])
	}
	if _, err := w.Start(t.Context(), request("r", 2)); !errors.Is(err, control.ErrNoCapacity) {
		t.Errorf("start after Close: %v", err)
	}
}

func TestCloseKillsWhenTimeIsUp(t *testing.T) {
	w := newWorld(t, "stubborn", nil)
	arn := w.start(request("r", 1)).ARN
	w.line("ready")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if last, _ := w.Describe(t.Context(), arn); *last.ExitCode != 137 {
		t.Errorf("%+v", last)
	}
}

// TestTasksDieWithTheirParent kills a process that has a fleet, then opens its journal.
func TestTasksDieWithTheirParent(t *testing.T) {
	if !tiesLives {
		t.Skip("only Linux ends a child with its parent")
	}
	path := filepath.Join(t.TempDir(), "tasks.json")
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{modeVar + "=fleet", "JOURNAL=" + path}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
		<-time.After(5 * time.Millisecond)
	}

	w := newWorld(t, "wait", func(c *Config) { c.Journal = path })
	arn := w.start(request("r", 1)).ARN // the token is remembered
	before, err := w.Describe(t.Context(), arn)
	if err != nil || before.LastStatus != "RUNNING" {
		t.Fatalf("%+v %v", before, err)
	}
	w.Recover()
	last, told := w.stopped(arn)
	if len(told) != 1 || last.LastStatus != "STOPPED" || *last.ExitCode != 137 || last.Version != before.Version+1 ||
		last.StoppedMS < last.StartedMS || last.StoppedMS > time.Now().UnixMilli() {
		t.Errorf("%d events, %+v", len(told), last)
	}
	if all, _ := w.Find(t.Context(), ""); len(all) != 0 {
		t.Errorf("found %v", all)
	}
	w.Recover()
	if told := w.told(arn); len(told) != 1 {
		t.Error("told again")
	}
}

func TestStoppedTasksAreForgottenAfterAnHour(t *testing.T) {
	var mu sync.Mutex
	shift := time.Duration(0)
	w := newWorld(t, "0", func(c *Config) {
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(shift) }
		c.Journal = filepath.Join(c.Dir, "tasks.json")
	})
	arn := w.start(request("r", 1)).ARN
	w.stopped(arn)
	mu.Lock()
	shift = stoppedVisible + time.Minute
	mu.Unlock()
	w.start(request("r", 2))
	if _, err := w.Describe(t.Context(), arn); !errors.Is(err, control.ErrTaskUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	var got []int
	w := &lineWriter{line: func(s string) { got = append(got, len(s)) }}
	for range 3 {
		fmt.Fprint(w, strings.Repeat("x", maxLine))
	}
	fmt.Fprint(w, "\r\ny")
	w.flush()
	if diff := cmp.Diff([]int{maxLine, maxLine, 1}, got); diff != "" {
		t.Error(diff)
	}
}
