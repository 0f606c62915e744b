package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control/api"
	"mayfly/functions/entry"
)

// environment is what the templates set, as "NAME=value".
func environment() []string {
	return []string{
		"TABLE=mayfly", "REGION=eu-central-1", "CLUSTER=mayfly", "TASK_DEFINITION=arn:aws:ecs:eu-central-1:1:task-definition/mayfly:1",
		"SUBNETS=subnet-1", "SECURITY_GROUPS=sg-1", "TASK_API_ID=task123", "PUBLIC_URL=https://api.example.com",
		"CLIENT_WS_ENDPOINT=https://c.execute-api.eu-central-1.amazonaws.com/live", "CLIENT_WS_URL=wss://c.execute-api.eu-central-1.amazonaws.com/live",
		"TASK_WS_ENDPOINT=https://t.execute-api.eu-central-1.amazonaws.com/live",
		"API_KEYS=" + api.KeyEntry("acme", api.NewKey("live")), "TICKET_SECRET=a secret for tests, 32 bytes long", "WEBHOOK_SECRET=another secret for tests of 32 bytes",
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "AWS_EC2_METADATA_DISABLED=true",
	}
}

func lookup(env []string) func(string) string {
	return func(name string) string {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func TestDeps(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	for _, f := range []entry.Function{entry.RoomsFunction, entry.SocketFunction, entry.LifecycleFunction, entry.DeliverFunction} {
		d, err := Deps(t.Context(), f, lookup(environment()))
		if err != nil {
			t.Fatal(err)
		}
		if alone := f == entry.DeliverFunction; d.Store == nil || d.Now == nil || d.Log == nil || (d.Fleet == nil) != alone || (d.Post == nil) != alone {
			t.Errorf("%s: %+v", f, d)
		}
	}
	if _, err := Deps(t.Context(), entry.RoomsFunction, lookup(nil)); err == nil || !strings.Contains(err.Error(), "TABLE") {
		t.Errorf("without an environment: %v", err)
	}
	if _, err := Deps(t.Context(), entry.RoomsFunction, lookup([]string{"PUBLIC_URL=x"})); err == nil || !strings.Contains(err.Error(), "PUBLIC_URL") {
		t.Errorf("with a bad URL: %v", err)
	}
}

// Names are for those who hear from tasks and of their end, and only with a domain.
func TestNaming(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	env := append(environment(), "RELAY_DOMAIN=relay.example.net", "RELAY_ZONE=Z1", "RELAY_CERTIFICATE=arn:secret")
	for f, want := range map[entry.Function]bool{
		entry.RoomsFunction: false, entry.SocketFunction: true, entry.LifecycleFunction: true, entry.DeliverFunction: false,
	} {
		for domain, env := range map[bool][]string{true: env, false: environment()} {
			d, err := Deps(t.Context(), f, lookup(env))
			if err != nil || (d.Naming != nil) != (want && domain) {
				t.Errorf("%s, a domain %v: naming %v, %v", f, domain, d.Naming, err)
			}
		}
	}
	for _, missing := range []string{"RELAY_ZONE", "RELAY_CERTIFICATE"} {
		part := slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, missing+"=") })
		if _, err := Deps(t.Context(), entry.SocketFunction, lookup(part)); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

// runtimeAPI is the Lambda runtime API for one invocation.
type runtimeAPI struct {
	event    string
	invoked  chan struct{} // capacity 1: the one event is still to be handed out
	answered chan string   // path, space, body
	done     <-chan struct{}
}

func (a *runtimeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		select {
		case <-a.invoked:
		case <-a.done: // no second event: the test ends
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "r1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", "99999999999999")
		_, _ = io.WriteString(w, a.event) // a process that died is seen by its exit
		return
	}
	body, _ := io.ReadAll(r.Body) // as above
	w.WriteHeader(http.StatusAccepted)
	select {
	case a.answered <- r.URL.Path + " " + string(body):
	case <-a.done: // what a process says of its end is no answer
	}
}

// The binaries start, and answer an event of the runtime API as Lambda runs it.
// Each event is one that needs no AWS to be answered.
func TestMains(t *testing.T) {
	if testing.Short() {
		t.Skip("builds four binaries")
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "../rooms", "../socket", "../lifecycle", "../deliver").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, tc := range map[string]struct{ event, want string }{
		"rooms": {`{"version":"2.0","rawPath":"/healthz","requestContext":{"requestId":"q1","http":{"method":"GET"}}}`, `{\"status\":\"ok\"}`},
		"socket": {`{"headers":{"Sec-WebSocket-Protocol":"mayfly.v1"},"requestContext":{"apiId":"c","connectionId":"x","eventType":"CONNECT"}}`,
			`"Sec-WebSocket-Protocol":"mayfly.v1"`},
		"lifecycle": {`{"detail-type":"something else"}`, `something else`},
		"deliver":   {`{"Records":[{"eventName":"REMOVE"}]}`, `{"batchItemFailures":null}`},
	} {
		t.Run(name, func(t *testing.T) { runMain(t, filepath.Join(dir, name), tc.event, tc.want) })
		t.Run(name+" without configuration", func(t *testing.T) {
			cmd := exec.Command(filepath.Join(dir, name))
			cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}
			out, err := cmd.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("TABLE")) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// runMain starts the binary, hands it one event and reads the answer.
func runMain(t *testing.T, binary, event, want string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a := &runtimeAPI{event: event, invoked: make(chan struct{}, 1), answered: make(chan string, 1), done: ctx.Done()}
	a.invoked <- struct{}{}
	server := httptest.NewServer(a)
	defer server.Close()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(environment(), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(server.URL, "http://"), "PATH="+os.Getenv("PATH"))
	var logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &logs, &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var answer string
	select {
	case answer = <-a.answered:
	case <-ctx.Done():
	}
	cancel()
	_ = cmd.Wait() // killed by the line above
	if !strings.Contains(answer, "/invocation/r1/") || !strings.Contains(answer, want) {
		t.Errorf("answer %q, want %q; logs: %s", answer, want, logs.String())
	}
}
