package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/shape"
)

var request = control.StartRequest{Room: "room_01", Epoch: 2, Token: "room_01.2", Region: "eu-central-1"}

func newFleet(s *ecsServer, taskDefinition string) (*Fleet, *[]time.Duration) {
	var slept []time.Duration
	return New(s.client(), Config{
		Cluster: "mayfly", TaskDefinition: taskDefinition, Region: "eu-central-1",
		Subnets: []string{"subnet-a", "subnet-b"}, SecurityGroups: []string{"sg-1"},
		Sleep: func(_ context.Context, d time.Duration) error {
			slept = append(slept, d)
			return nil
		},
	}), &slept
}

func TestStart(t *testing.T) {
	s := newECS(t)
	f, _ := newFleet(s, "roomtask:7")
	task, err := f.Start(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	at := started.UnixMilli()
	want := control.Task{
		ARN: s.tasks[0].arn, StartedBy: "room/room_01/2", LastStatus: "RUNNING", Version: 3,
		CreatedMS: at - 20_000, PullStartedMS: at - 3_000, PullStoppedMS: at - 1_000, StartedMS: at,
		CPU: "1024", Memory: "2048", AZ: "eu-central-1a", ImageDigest: "sha256:abc",
	}
	if diff := cmp.Diff(want, task); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	wantBody := map[string]any{
		"cluster": "mayfly", "taskDefinition": "roomtask:7", "clientToken": "room_01.2",
		"startedBy": "room/room_01/2", "count": 1.0, "launchType": "FARGATE", "propagateTags": "TASK_DEFINITION",
		"networkConfiguration": map[string]any{"awsvpcConfiguration": map[string]any{
			"subnets": []any{"subnet-a", "subnet-b"}, "securityGroups": []any{"sg-1"}, "assignPublicIp": "ENABLED",
		}},
		"overrides": map[string]any{"containerOverrides": []any{map[string]any{
			"name": "roomtask",
			"environment": []any{
				map[string]any{"name": "MAYFLY_ROOM", "value": "room_01"},
				map[string]any{"name": "MAYFLY_EPOCH", "value": "2"},
			},
		}}},
	}
	if diff := cmp.Diff(wantBody, s.requests["RunTask"][0]); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestStartTwiceIsOneTask(t *testing.T) {
	s := newECS(t)
	before, _ := newFleet(s, "roomtask:7")
	after, _ := newFleet(s, "roomtask:8") // a deploy in between
	first, err := before.Start(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*Fleet{"same revision": before, "next revision": after} {
		again, err := f.Start(t.Context(), request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("%s (-first +again):\n%s", name, diff)
		}
	}
	s.hidden[first.ARN] = true // ECS has not heard of its own task yet
	again, err := after.Start(t.Context(), request)
	if err != nil || again.ARN != first.ARN || again.StartedBy != "room/room_01/2" {
		t.Errorf("adopting an unknown task = %+v, %v", again, err)
	}
	if len(s.tasks) != 1 {
		t.Errorf("%d tasks started, want 1", len(s.tasks))
	}
}

func TestStartRetries(t *testing.T) {
	const capacity = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
	throttled := fault{status: http.StatusBadRequest, code: "ThrottlingException", message: "Rate exceeded"}
	vcpus := fault{status: http.StatusBadRequest, code: "ClientException", message: "You've reached the limit on the number of vCPUs you can run concurrently"}
	server := fault{status: http.StatusInternalServerError, code: "ServerException", message: "no"}
	tests := []struct {
		name   string
		faults []fault
		calls  int
		want   error // nil: a task
	}{
		{"throttled once", []fault{throttled}, 2, nil},
		{"throttled", []fault{throttled, throttled, throttled}, 3, control.ErrBusy},
		{"throttled, then no capacity", []fault{throttled, {failure: capacity}}, 2, control.ErrNoCapacity},
		{"no capacity", []fault{{failure: capacity}, {failure: capacity}}, 1, control.ErrNoCapacity},
		{"no network interface", []fault{{failure: "RESOURCE:ENI"}}, 1, control.ErrNoCapacity},
		{"vCPU quota", []fault{vcpus, vcpus, vcpus}, 1, control.ErrNoCapacity},
		{"server error that took effect", []fault{{status: 500, code: "ServerException", tookTask: true}}, 2, nil},
		{"server errors", []fault{server, server, server}, 3, errUnsure},
		{"server error, then no capacity", []fault{server, {failure: capacity}}, 2, errUnsure},
		{"server error, then throttled", []fault{server, throttled, throttled}, 3, errUnsure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newECS(t)
			s.faults = tt.faults
			f, slept := newFleet(s, "roomtask:7")
			task, err := f.Start(t.Context(), request)
			if kind := kindOf(err); kind != tt.want { //nolint:errorlint // kinds are compared, not errors
				t.Fatalf("Start = %v, want %v", err, tt.want)
			}
			if tt.want == nil && (len(s.tasks) != 1 || task.ARN != s.tasks[0].arn) {
				t.Errorf("task %q of %d, want the only one", task.ARN, len(s.tasks))
			}
			if got := len(s.requests["RunTask"]); got != tt.calls || len(*slept) != tt.calls-1 {
				t.Errorf("%d calls with %d waits, want %d", got, len(*slept), tt.calls)
			}
			for i, d := range *slept {
				if limit := baseDelay << (i + 1); d < 0 || d >= limit {
					t.Errorf("wait %d is %v, want below %v", i, d, limit)
				}
			}
		})
	}
}

// errUnsure stands for errors that may hide a task.
var errUnsure = errors.New("unsure")

// kindOf is which of control's refusals an error is.
func kindOf(err error) error {
	if err == nil {
		return nil
	}
	for _, kind := range []error{control.ErrNoCapacity, control.ErrBusy, control.ErrRefused} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return errUnsure
}

// A call that nobody answered may have started a task.
func TestNoAnswerIsNoRefusal(t *testing.T) {
	s := newECS(t)
	f, _ := newFleet(s, "roomtask:7")
	s.url = "http://127.0.0.1:1" // nothing listens there
	f.client = s.client()
	if _, err := f.Start(t.Context(), request); !errors.Is(kindOf(err), errUnsure) {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Start(ctx, request); !errors.Is(kindOf(err), errUnsure) {
		t.Errorf("cancelled: %v", err)
	}
}

// A shape becomes overrides and a capacity provider; a revision replaces the one of the
// configuration; a zone is one of the subnets.
func TestStartShaped(t *testing.T) {
	for name, tt := range map[string]struct {
		shape                      shape.Shape
		revision, definition, want string
	}{
		"small, on demand":   {shape.Shape{CPU: 512, Memory: 1024}, "", "roomtask:7", `FARGATE roomtask:7 512/1024 [subnet-a subnet-b]`},
		"Spot":               {shape.Shape{CPU: 1024, Memory: 2048, Spot: true}, "9", "roomtask:7", `FARGATE_SPOT roomtask:9 1024/2048 [subnet-a subnet-b]`},
		"second zone":        {shape.Shape{Zone: 2}, "12", "arn:aws:ecs:eu-central-1:1:task-definition/roomtask:7", `FARGATE arn:aws:ecs:eu-central-1:1:task-definition/roomtask:12 <nil>/<nil> [subnet-b]`},
		"a zone too many":    {shape.Shape{Zone: 3}, "", "roomtask", `FARGATE roomtask <nil>/<nil> [subnet-a]`},
		"no revision before": {shape.Shape{}, "3", "arn:aws:ecs:eu-central-1:1:task-definition/roomtask", `FARGATE arn:aws:ecs:eu-central-1:1:task-definition/roomtask:3 <nil>/<nil> [subnet-a subnet-b]`},
	} {
		s := newECS(t)
		f, _ := newFleet(s, tt.definition)
		r := request
		r.Shape, r.Revision = tt.shape, tt.revision
		for range 2 { // a repeat is the same to the byte, or it would be a conflict
			if _, err := f.Start(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		body := s.requests["RunTask"][0]
		kind := body["launchType"]
		if providers, ok := body["capacityProviderStrategy"].([]any); ok && kind == nil {
			kind = providers[0].(map[string]any)["capacityProvider"]
		}
		over := body["overrides"].(map[string]any)
		subnets := body["networkConfiguration"].(map[string]any)["awsvpcConfiguration"].(map[string]any)["subnets"]
		got := fmt.Sprintf("%v %v %v/%v %v", kind, body["taskDefinition"], over["cpu"], over["memory"], subnets)
		if got != tt.want || len(s.tasks) != 1 {
			t.Errorf("%s: %s, %d tasks, want %s", name, got, len(s.tasks), tt.want)
		}
	}
}

func TestStartGivesUpAtOnce(t *testing.T) {
	for _, f := range []fault{
		{status: http.StatusBadRequest, code: "AccessDeniedException", message: "no"},
		{status: http.StatusBadRequest, code: "InvalidParameterException", message: "TaskDefinition is inactive"},
		{status: http.StatusBadRequest, code: "ClusterNotFoundException", message: "no"},
		{status: http.StatusBadRequest, code: "ClientException", message: "TaskDefinition not found."},
		{failure: "MISSING"},
	} {
		s := newECS(t)
		s.faults = []fault{f}
		fleet, _ := newFleet(s, "roomtask:7")
		if _, err := fleet.Start(t.Context(), request); !errors.Is(kindOf(err), control.ErrRefused) {
			t.Errorf("%+v: Start = %v, want a refusal that is not about capacity", f, err)
		}
		if got := len(s.requests["RunTask"]); got != 1 {
			t.Errorf("%+v: %d calls, want 1", f, got)
		}
	}
	s := newECS(t)
	fleet, _ := newFleet(s, "roomtask:7")
	foreign := request
	foreign.Region = "us-east-1"
	if _, err := fleet.Start(t.Context(), foreign); err == nil || len(s.requests["RunTask"]) != 0 {
		t.Errorf("Start of another Region's room = %v after %d calls, want an error after none", err, len(s.requests["RunTask"]))
	}
}

func TestStartStopsWaiting(t *testing.T) {
	s := newECS(t)
	s.faults = []fault{{status: http.StatusBadRequest, code: "ThrottlingException", message: "Rate exceeded"}}
	f, _ := newFleet(s, "roomtask:7")
	ctx, cancel := context.WithCancel(t.Context())
	f.config.Sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return sleep(ctx, time.Hour)
	}
	_, err := f.Start(ctx, request)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, control.ErrBusy) {
		t.Errorf("Start = %v, want both the cancellation and the refusal", err)
	}
}

func TestStop(t *testing.T) {
	s := newECS(t)
	f, _ := newFleet(s, "roomtask:7")
	task, err := f.Start(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), task.ARN, "room deleted"); err != nil {
		t.Fatal(err)
	}
	got, err := f.Describe(t.Context(), task.ARN)
	if err != nil {
		t.Fatal(err)
	}
	code, at := 137, started.UnixMilli()
	want := task
	want.LastStatus, want.Version, want.StopCode, want.StoppedReason = "STOPPED", 5, "UserInitiated", "room deleted"
	want.StoppingMS, want.StoppedMS, want.ExitCode = at+60_000, at+120_000, &code
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stopped task (-want +got):\n%s", diff)
	}
	if err := f.Stop(t.Context(), "arn:long-gone", "again"); err != nil {
		t.Errorf("stopping what is gone = %v, want nil", err)
	}
}

func TestDescribeUnknown(t *testing.T) {
	s := newECS(t)
	f, _ := newFleet(s, "roomtask:7")
	if _, err := f.Describe(t.Context(), "arn:never"); !errors.Is(err, control.ErrTaskUnknown) {
		t.Errorf("Describe = %v, want ErrTaskUnknown", err)
	}
}

func TestFind(t *testing.T) {
	s := newECS(t)
	s.pageSize = 60
	f, _ := newFleet(s, "roomtask:7")
	const n = 130 // three pages to list, two batches to describe
	for i := range n {
		r := control.StartRequest{Room: fmt.Sprintf("r%d", i), Epoch: 1, Token: fmt.Sprint(i)}
		if _, err := f.Start(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Stop(t.Context(), s.tasks[0].arn, "x"); err != nil {
		t.Fatal(err)
	}
	s.hidden[s.tasks[1].arn] = true // listed, but gone when described
	all, err := f.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n-2 || all[0].StartedBy != "room/r2/1" || all[n-3].StartedBy != "room/r129/1" {
		t.Errorf("found %d tasks, want %d", len(all), n-2)
	}
	one, err := f.Find(t.Context(), "room/r7/1")
	if err != nil {
		t.Fatal(err)
	}
	if len(one) != 1 || one[0].ARN != s.tasks[7].arn {
		t.Errorf("found %+v, want the one task of r7", one)
	}
	over, err := f.Find(t.Context(), "room/r0/1")
	if err != nil || len(over) != 1 || over[0].LastStatus != "STOPPED" {
		t.Errorf("found %+v, %v, want the stopped task of r0", over, err)
	}
	none, err := f.Find(t.Context(), "room/none/1")
	if err != nil || len(none) != 0 {
		t.Errorf("found %+v, %v, want none", none, err)
	}
}
