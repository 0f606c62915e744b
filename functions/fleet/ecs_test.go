package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// ecsServer speaks the part of ECS's protocol (JSON 1.1) that the fleet uses, with
// ECS's semantics: tokens, conflicts, failures in good answers, MISSING, pages.
type ecsServer struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	tasks    []*ecsTask                  // guarded by mu; in order of their start
	tokens   map[string]tokenUse         // guarded by mu
	requests map[string][]map[string]any // guarded by mu; bodies by operation
	faults   []fault                     // guarded by mu; for the next calls of RunTask
	hidden   map[string]bool             // guarded by mu; ARNs that Describe does not know yet
	pageSize int                         // set once
}

type tokenUse struct {
	params string
	arn    string
}

type ecsTask struct {
	arn, startedBy string
	stopped        bool
	reason         string
}

// fault is what happens to a call of RunTask.
type fault struct {
	status   int    // with code: an exception
	code     string // "" with failure: HTTP 200 with that failure
	message  string
	failure  string
	tookTask bool // the task is started all the same
}

func newECS(t *testing.T) *ecsServer {
	t.Helper()
	s := &ecsServer{t: t, tokens: map[string]tokenUse{}, requests: map[string][]map[string]any{}, hidden: map[string]bool{}, pageSize: 100}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *ecsServer) client() *ecs.Client {
	return ecs.New(ecs.Options{
		Region: "eu-central-1", BaseEndpoint: &s.url,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
}

func (s *ecsServer) serve(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("read: %v", err)
	}
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonEC2ContainerServiceV20141113.")
	var body map[string]any
	if err := json.Unmarshal(raw, &body); !ok || err != nil {
		s.t.Errorf("request %q %q: %v", r.Header.Get("X-Amz-Target"), raw, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[op] = append(s.requests[op], body)
	status, answer := http.StatusOK, map[string]any(nil)
	switch op {
	case "RunTask":
		status, answer = s.runTask(body)
	case "StopTask":
		status, answer = s.stopTask(body)
	case "DescribeTasks":
		answer = s.describeTasks(body)
	case "ListTasks":
		answer = s.listTasks(body)
	default:
		s.t.Errorf("unknown operation %q", op)
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Errorf("answer: %v", err)
	}
}

func exception(status int, code, message string, more map[string]any) (int, map[string]any) {
	answer := map[string]any{"__type": code, "message": message}
	for k, v := range more {
		answer[k] = v
	}
	return status, answer
}

func (s *ecsServer) runTask(body map[string]any) (int, map[string]any) {
	params, err := json.Marshal(body)
	if err != nil {
		s.t.Errorf("encode: %v", err)
	}
	token, _ := body["clientToken"].(string)
	if used, ok := s.tokens[token]; ok {
		if used.params != string(params) {
			return exception(http.StatusBadRequest, "ConflictException",
				"The clientToken was used with other parameters.", map[string]any{"resourceIds": []string{used.arn}})
		}
		return http.StatusOK, map[string]any{"tasks": []any{s.find(used.arn).json()}, "failures": []any{}}
	}
	var f fault
	if len(s.faults) > 0 {
		f, s.faults = s.faults[0], s.faults[1:]
	}
	var task *ecsTask
	if f == (fault{}) || f.tookTask {
		startedBy, _ := body["startedBy"].(string)
		task = &ecsTask{arn: fmt.Sprintf("arn:aws:ecs:eu-central-1:1:task/mayfly/%032x", len(s.tasks)+1), startedBy: startedBy}
		s.tasks = append(s.tasks, task)
		s.tokens[token] = tokenUse{string(params), task.arn}
	}
	switch {
	case f.code != "":
		return exception(f.status, f.code, f.message, nil)
	case f.failure != "":
		return http.StatusOK, map[string]any{"tasks": []any{}, "failures": []any{map[string]any{"reason": f.failure}}}
	}
	return http.StatusOK, map[string]any{"tasks": []any{task.json()}, "failures": []any{}}
}

func (s *ecsServer) stopTask(body map[string]any) (int, map[string]any) {
	arn, _ := body["task"].(string)
	task := s.find(arn)
	if task == nil {
		return exception(http.StatusBadRequest, "InvalidParameterException", "The referenced task was not found.", nil)
	}
	task.stopped = true
	task.reason, _ = body["reason"].(string)
	return http.StatusOK, map[string]any{"task": task.json()}
}

func (s *ecsServer) describeTasks(body map[string]any) map[string]any {
	arns, _ := body["tasks"].([]any)
	if len(arns) == 0 || len(arns) > 100 {
		s.t.Errorf("DescribeTasks of %d tasks, want 1 to 100", len(arns))
	}
	tasks, failures := []any{}, []any{}
	for _, a := range arns {
		arn, _ := a.(string)
		if task := s.find(arn); task != nil && !s.hidden[arn] {
			tasks = append(tasks, task.json())
		} else {
			failures = append(failures, map[string]any{"arn": arn, "reason": "MISSING"})
		}
	}
	return map[string]any{"tasks": tasks, "failures": failures}
}

func (s *ecsServer) listTasks(body map[string]any) map[string]any {
	if body["startedBy"] != nil && len(body) != 2 && body["nextToken"] == nil {
		s.t.Errorf("ListTasks: startedBy must be the only filter: %v", body)
	}
	arns := []string{}
	for _, task := range s.tasks {
		if task.stopped == (body["desiredStatus"] == "STOPPED") && (body["startedBy"] == nil || body["startedBy"] == task.startedBy) {
			arns = append(arns, task.arn)
		}
	}
	if from, ok := body["nextToken"].(string); ok {
		arns = arns[slices.Index(arns, from):]
	}
	answer := map[string]any{"taskArns": arns}
	if len(arns) > s.pageSize {
		answer["taskArns"], answer["nextToken"] = arns[:s.pageSize], arns[s.pageSize]
	}
	return answer
}

func (s *ecsServer) find(arn string) *ecsTask {
	for _, task := range s.tasks {
		if task.arn == arn {
			return task
		}
	}
	return nil
}

// started is when the server's tasks come up; ECS gives seconds with a fraction.
var started = time.UnixMilli(1_760_000_000_123)

func (t *ecsTask) json() map[string]any {
	seconds := func(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }
	answer := map[string]any{
		"taskArn": t.arn, "startedBy": t.startedBy, "lastStatus": "RUNNING", "version": 3,
		"createdAt": seconds(started.Add(-20 * time.Second)), "pullStartedAt": seconds(started.Add(-3 * time.Second)),
		"pullStoppedAt": seconds(started.Add(-time.Second)), "startedAt": seconds(started),
		"cpu": "1024", "memory": "2048", "availabilityZone": "eu-central-1a",
		"containers": []any{
			map[string]any{"name": "aws-guardduty-agent-x", "imageDigest": "sha256:other", "exitCode": 9},
			map[string]any{"name": "roomtask", "imageDigest": "sha256:abc"},
		},
	}
	if t.stopped {
		answer["lastStatus"], answer["version"] = "STOPPED", 5
		answer["stopCode"], answer["stoppedReason"] = "UserInitiated", t.reason
		answer["stoppingAt"], answer["stoppedAt"] = seconds(started.Add(time.Minute)), seconds(started.Add(2*time.Minute))
		answer["containers"].([]any)[1].(map[string]any)["exitCode"] = 137
	}
	return answer
}
