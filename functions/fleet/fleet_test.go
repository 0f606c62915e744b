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
		{"no capacity, then throttled", []fault{{failure: capacity}, throttled}, 3, nil},
		{"no capacity", []fault{{failure: capacity}, {failure: capacity}, {failure: capacity}, {failure: capacity}}, 3, control.ErrNoCapacity},
		{"no network interface", []fault{{failure: "RESOURCE:ENI"}}, 2, nil},
		{"vCPU quota", []fault{vcpus, vcpus, vcpus}, 3, control.ErrNoCapacity},
		{"server error that took effect", []fault{{status: 500, code: "ServerException", tookTask: true}}, 2, nil},
		{"server errors", []fault{server, server, server}, 3, control.ErrNoCapacity},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newECS(t)
			s.faults = tt.faults
			f, slept := newFleet(s, "roomtask:7")
			task, err := f.Start(t.Context(), request)
			if !errors.Is(err, tt.want) {
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
		if _, err := fleet.Start(t.Context(), request); err == nil || errors.Is(err, control.ErrNoCapacity) {
			t.Errorf("%+v: Start = %v, want an error that is not about capacity", f, err)
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
	s.faults = []fault{{failure: "RESOURCE:ENI"}}
	f, _ := newFleet(s, "roomtask:7")
	ctx, cancel := context.WithCancel(t.Context())
	f.config.Sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return sleep(ctx, time.Hour)
	}
	_, err := f.Start(ctx, request)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, control.ErrNoCapacity) {
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
	none, err := f.Find(t.Context(), "room/none/1")
	if err != nil || len(none) != 0 {
		t.Errorf("found %+v, %v, want none", none, err)
	}
}
