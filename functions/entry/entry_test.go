package entry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"mayfly/functions/control"
	"mayfly/functions/control/api"
	"mayfly/functions/control/api/apitest"
	"mayfly/functions/control/controltest"
	"mayfly/functions/emf"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/signal"
)

const taskAPI, clientAPI = "task123", "client123"

// function makes an execution environment. Each takes one event at a time, as in
// Lambda: a lambda.Handler keeps one buffer for all its answers.
type function func() lambda.Handler

// world is the four functions, invoked with JSON as Lambda does.
type world struct {
	t     *testing.T
	clock *controltest.Clock
	store *boltstore.Store
	fleet *controltest.Fleet
	post  *controltest.Post
	log   *lockedBuffer
	meter *lockedBuffer // what it tells of itself, in lines
	key   string        // API key

	rooms, socket, lifecycle, deliver function

	deps   Deps
	waits  []time.Time // when the sweep began to wait
	waited func()      // called when a wait is over; optional
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// environment is a whole one, as the templates set it.
func environment(key string) map[string]string {
	return map[string]string{
		"TABLE": "mayfly", "REGION": "eu-central-1", "CLUSTER": "mayfly", "TASK_DEFINITION": "arn:aws:ecs:eu-central-1:1:task-definition/mayfly:1",
		"SUBNETS": "subnet-1, subnet-2", "SECURITY_GROUPS": "sg-1",
		"CLIENT_WS_ENDPOINT": "https://client123.execute-api.eu-central-1.amazonaws.com/live",
		"TASK_WS_ENDPOINT":   "https://task123.execute-api.eu-central-1.amazonaws.com/live",
		"TASK_API_ID":        taskAPI, "CLIENT_WS_URL": "wss://client123.execute-api.eu-central-1.amazonaws.com/live",
		"PUBLIC_URL": "https://api.example.com/", "ALLOWED_ORIGINS": "https://app.example.com",
		"API_KEYS": api.KeyEntry("acme", key), "TICKET_SECRET": "a secret for tests, 32 bytes long",
		"WEBHOOK_SECRET": "another secret for tests of 32 bytes",
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, clock: clock, store: s, fleet: controltest.NewFleet(clock), post: controltest.NewPost(),
		log: &lockedBuffer{}, meter: &lockedBuffer{}, key: api.NewKey("live")}
	env := environment(w.key)
	c, err := ConfigFromEnv(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	d := Deps{Store: s, Fleet: w.fleet, Post: w.post, Now: clock.Now, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Config: c}
	d.Wait = func(_ context.Context, pause time.Duration) error {
		w.waits = append(w.waits, clock.Now())
		clock.Advance(pause)
		if w.waited != nil {
			w.waited()
		}
		return nil
	}
	d.Meter = emf.New(w.meter, "mayfly", "any", clock.Now)
	w.deps = d
	rooms, err := Rooms(d)
	if err != nil {
		t.Fatal(err)
	}
	deliver, err := Deliver(d)
	if err != nil {
		t.Fatal(err)
	}
	socket, lifecycle := Socket(d), Lifecycle(d)
	w.rooms = func() lambda.Handler { return lambda.NewHandler(rooms) }
	w.socket = func() lambda.Handler { return lambda.NewHandler(socket) }
	w.lifecycle = func() lambda.Handler { return lambda.NewHandler(lifecycle) }
	w.deliver = func() lambda.Handler { return lambda.NewHandler(deliver) }
	return w
}

// invoke invokes a function with an event's JSON and reads its answer.
func (w *world) invoke(f function, event string, answer any) {
	w.t.Helper()
	out, err := f().Invoke(w.t.Context(), []byte(event))
	if err != nil {
		w.t.Fatalf("%v, for %s", err, event)
	}
	if answer != nil {
		if err := json.Unmarshal(out, answer); err != nil {
			w.t.Fatalf("%v, in %s", err, out)
		}
	}
}

// http invokes rooms with an event of payload format 2.0.
func (w *world) http(method, path, query, body string, headers map[string]string) events.APIGatewayV2HTTPResponse {
	w.t.Helper()
	head, err := json.Marshal(headers)
	if err != nil {
		w.t.Fatal(err)
	}
	event := fmt.Sprintf(`{"version":"2.0","routeKey":"$default","rawPath":%s,"rawQueryString":%s,"headers":%s,
		"requestContext":{"accountId":"123456789012","apiId":"http123","domainName":"api.example.com","domainPrefix":"api",
			"http":{"method":%q,"path":%s,"protocol":"HTTP/1.1","sourceIp":"203.0.113.9","userAgent":"curl/8"},
			"requestId":"JKJaXmPLvHcESHA=","routeKey":"$default","stage":"$default","time":"20/Nov/2026:10:00:00 +0000","timeEpoch":1795168800000},
		"body":%q,"isBase64Encoded":true}`, quote(path), quote(query), head, method, quote(path), base64.StdEncoding.EncodeToString([]byte(body)))
	var out events.APIGatewayV2HTTPResponse
	w.invoke(w.rooms, event, &out)
	w.documented(method, path, query, body, headers, out)
	return out
}

// documented holds an exchange to the OpenAPI document, as API Gateway would pass it on.
func (w *world) documented(method, path, query, body string, headers map[string]string, out events.APIGatewayV2HTTPResponse) {
	w.t.Helper()
	x := apitest.Exchange{
		Method: method, Path: path, Query: query, Header: http.Header{}, Body: []byte(body),
		Status: out.StatusCode, AnswerHeader: http.Header{}, Answer: []byte(out.Body),
	}
	if !strings.HasPrefix(path, "/") {
		x.Path = "/" + path
	}
	for name, value := range headers {
		x.Header.Set(name, value)
	}
	for name, value := range out.Headers {
		x.AnswerHeader.Set(name, value)
	}
	if out.IsBase64Encoded {
		raw, err := base64.StdEncoding.DecodeString(out.Body)
		if err != nil {
			w.t.Error(err)
		}
		x.Answer = raw
	}
	if err := apitest.Load(w.t, api.Document()).Check(x); err != nil {
		w.t.Errorf("%s %q: %v", method, path, err)
	}
}

// quote writes a JSON string; %q writes Go's.
func quote(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(raw)
}

func (w *world) auth() map[string]string {
	return map[string]string{"authorization": "Bearer " + w.key, "content-type": "application/json", "host": "api.example.com"}
}

// ws invokes socket with an event of a WebSocket API. identity is the caller's ARN.
func (w *world) ws(apiID, conn, event, body string, headers map[string]string, identity string) events.APIGatewayProxyResponse {
	w.t.Helper()
	head, err := json.Marshal(headers)
	if err != nil {
		w.t.Fatal(err)
	}
	route := map[string]string{"CONNECT": "$connect", "MESSAGE": "$default", "DISCONNECT": "$disconnect"}[event]
	text := fmt.Sprintf(`{"headers":%s,"requestContext":{"routeKey":%q,"messageId":"m1=","eventType":%q,"extendedRequestId":"x=","requestTime":"20/Nov/2026:10:00:00 +0000",
		"messageDirection":"IN","stage":"live","connectedAt":1795168800000,"requestTimeEpoch":1795168800001,
		"identity":{"sourceIp":"203.0.113.7","userArn":%q},"requestId":"r=","domainName":"x.execute-api.eu-central-1.amazonaws.com",
		"connectionId":%q,"apiId":%q},"body":%s,"isBase64Encoded":false}`, head, route, event, identity, conn, apiID, quote(body))
	var out events.APIGatewayProxyResponse
	w.invoke(w.socket, text, &out)
	return out
}

// message sends a frame.
func (w *world) message(apiID, conn, typ string, seq uint64, body any) {
	w.t.Helper()
	data, err := signal.Encode(typ, seq, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if out := w.ws(apiID, conn, "MESSAGE", string(data), nil, ""); out.StatusCode != 200 {
		w.t.Fatalf("%s: status %d", typ, out.StatusCode)
	}
}

// sent takes the only frame that was posted, which is of the type.
func (w *world) sent(c control.Conn, typ string) signal.Frame {
	w.t.Helper()
	f := w.post.Take(c)
	if len(f) != 1 || f[0].Type != typ {
		w.t.Fatalf("%v was sent %+v, want one %s", c, f, typ)
	}
	return f[0]
}

func identityOf(taskARN string) string {
	return "arn:aws:sts::123456789012:assumed-role/mayfly-task/" + taskARN[strings.LastIndex(taskARN, "/")+1:]
}

// link opens the task's link and registers.
func (w *world) link(conn, room string, epoch int) control.Task {
	w.t.Helper()
	tasks := w.fleet.Tasks()
	task := tasks[len(tasks)-1]
	if out := w.ws(taskAPI, conn, "CONNECT", "", nil, identityOf(task.ARN)); out.StatusCode != 200 {
		w.t.Fatalf("task's $connect: status %d", out.StatusCode)
	}
	w.message(taskAPI, conn, signal.LinkRegister, 0, signal.Register{Room: room, Epoch: epoch, TaskARN: task.ARN})
	f := w.sent(control.Conn{ID: conn, Task: true}, signal.LinkRegistered)
	if !strings.Contains(string(f.Body), `"public_ip":"203.0.113.7"`) {
		w.t.Errorf("registered %s", f.Body)
	}
	return task
}

// created is the part of the create answer that these tests read.
type created struct {
	ID           string `json:"id"`
	Participants []struct {
		Participant string `json:"participant_id"`
		Ticket      string `json:"ticket"`
	} `json:"participants"`
}

func (w *world) create() created {
	w.t.Helper()
	out := w.http("POST", "/v1/rooms", "", `{"participants":[{"identity":"alice"}]}`, w.auth())
	var c created
	if err := json.Unmarshal([]byte(out.Body), &c); out.StatusCode != 201 || err != nil || len(c.Participants) != 1 {
		w.t.Fatalf("create: %d %s (%v)", out.StatusCode, out.Body, err)
	}
	return c
}

// taskEventJSON is the EventBridge event of a task, with fields that nobody reads.
func taskEventJSON(task control.Task) string {
	code := "null"
	if task.ExitCode != nil {
		code = fmt.Sprint(*task.ExitCode)
	}
	return fmt.Sprintf(`{"version":"0","id":"3317b2af-7005-947d-b652-f55e762e571a","detail-type":"ECS Task State Change","source":"aws.ecs",
		"account":"123456789012","time":"2026-11-20T10:00:05Z","region":"eu-central-1","resources":[%[1]q],
		"detail":{"clusterArn":"arn:aws:ecs:eu-central-1:123456789012:cluster/mayfly","desiredStatus":"STOPPED","lastStatus":%[2]q,"launchType":"FARGATE",
			"containers":[{"containerArn":"c","exitCode":%[3]s,"lastStatus":%[2]q,"name":"roomtask","taskArn":%[1]q,"unheardOf":{}}],
			"createdAt":"2026-11-20T10:00:00.000Z","pullStartedAt":"2026-11-20T10:00:00.500Z","startedAt":"2026-11-20T10:00:01.000Z",
			"stoppedAt":"2026-11-20T10:00:05.000Z","stopCode":%[4]q,"startedBy":%[5]q,"taskArn":%[1]q,"version":%[6]d}}`,
		task.ARN, task.LastStatus, code, task.StopCode, task.StartedBy, task.Version)
}

// record is a stream record of the table.
func record(t testing.TB, name string, k [2]string) string {
	t.Helper()
	return fmt.Sprintf(`{"eventID":"e1","eventName":%q,"eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"eu-central-1",
		"dynamodb":{"ApproximateCreationDateTime":1795168800,"Keys":{"PK":{"S":%q},"SK":{"S":%q}},
			"NewImage":{"PK":{"S":%q},"SK":{"S":%q},"v":{"N":"1"}},"SequenceNumber":"1","SizeBytes":26,"StreamViewType":"NEW_IMAGE"},
		"eventSourceARN":"arn:aws:dynamodb:eu-central-1:1:table/mayfly/stream/x"}`, name, k[0], k[1], k[0], k[1])
}
