package engines

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mayfly/functions/control"
	"mayfly/functions/control/api"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/hooks"
	"mayfly/functions/entry"
	"mayfly/functions/fleet/taskevent"
	"mayfly/functions/store"
	"mayfly/functions/store/storetest/engine"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

const (
	tenant  = "acme"
	taskAPI = "task123"
)

// world is the four functions over one table.
type world struct {
	t      *testing.T
	engine *engine.Engine // nil: the embedded store
	clock  *controltest.Clock
	store  store.Store
	fleet  *controltest.Fleet
	post   *controltest.Post
	hook   *receiver
	log    *bytes.Buffer
	key    string
	links  int // so far

	rooms     entry.HTTPHandler
	socket    entry.SocketHandler
	lifecycle entry.LifecycleHandler
	deliver   entry.DeliverHandler

	mu      sync.Mutex
	changes []json.RawMessage // of the embedded store, as stream records; guarded by mu
}

// setting changes a world before it begins.
type setting struct {
	env   map[string]string
	wrap  func(http.RoundTripper) http.RoundTripper // between the SDK and the engine
	fleet control.Fleet                             // instead of controltest's
}

// each runs a test on every engine that runs, and on the embedded store.
func each(t *testing.T, s setting, f func(w *world)) {
	t.Run("embedded", func(t *testing.T) { f(newWorld(t, nil, s)) })
	for _, k := range []engine.Kind{engine.DynamoDBLocal, engine.Moto} {
		t.Run(k.Name, func(t *testing.T) { f(newWorld(t, open(t, k, s.wrap), s)) })
	}
}

func open(t *testing.T, k engine.Kind, wrap func(http.RoundTripper) http.RoundTripper) *engine.Engine {
	t.Helper()
	e := engine.Open(t, k, wrap)
	if e == nil {
		t.Skipf("%s is not set; run: %s", k.Variable, k.How("./test/engines"))
	}
	return e
}

func newWorld(t *testing.T, e *engine.Engine, s setting) *world {
	t.Helper()
	w := &world{
		t: t, engine: e, clock: controltest.NewClock(), post: controltest.NewPost(), hook: &receiver{t: t},
		log: &bytes.Buffer{}, key: api.NewKey("test"),
	}
	// The engines measure expiry by their own clock. So the world begins at the present.
	w.clock.Advance(time.Since(w.clock.Now()).Truncate(time.Second))
	w.fleet = controltest.NewFleet(w.clock)
	if e != nil {
		w.store = e.Store
	} else {
		embedded, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: w.clock.Now, NoSync: true, Observe: w.observe})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := embedded.Close(); err != nil {
				t.Error(err)
			}
		})
		w.store = embedded
	}
	w.deploy(s)
	return w
}

// deploy makes the functions.
func (w *world) deploy(s setting) {
	w.t.Helper()
	env := map[string]string{
		"TABLE": "mayfly", "REGION": "eu-central-1", "CLUSTER": "mayfly", "TASK_DEFINITION": "arn:aws:ecs:eu-central-1:1:task-definition/mayfly:1",
		"SUBNETS": "subnet-1,subnet-2", "CLIENT_WS_ENDPOINT": "https://client.example/live", "TASK_WS_ENDPOINT": "https://task.example/live",
		"TASK_API_ID": taskAPI, "CLIENT_WS_URL": "wss://client.example/live", "PUBLIC_URL": "https://api.example.com",
		"API_KEYS": api.KeyEntry(tenant, w.key), "TICKET_SECRET": "a secret for tests, 32 bytes long",
		"WEBHOOK_SECRET": "another secret for tests of 32 bytes", "CREATES_PER_S": "0", "SWEEP_FOR_S": "0",
	}
	maps.Copy(env, s.env)
	c, err := entry.ConfigFromEnv(func(name string) string { return env[name] })
	if err != nil {
		w.t.Fatal(err)
	}
	d := entry.Deps{
		Store: w.store, Fleet: w.fleet, Post: w.post, Now: w.clock.Now, Sender: w.hook, Config: c,
		Log:  slog.New(slog.NewTextHandler(&locked{to: w.log}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Wait: func(_ context.Context, pause time.Duration) error { w.clock.Advance(pause); return nil },
	}
	if s.fleet != nil {
		d.Fleet = s.fleet
	}
	if w.rooms, err = entry.Rooms(d); err == nil {
		w.deliver, err = entry.Deliver(d)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.socket, w.lifecycle = entry.Socket(d), entry.Lifecycle(d)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("warnings:\n%s", w.log)
		}
	})
}

type locked struct {
	mu sync.Mutex
	to *bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// observe makes the stream of the embedded store.
func (w *world) observe(items []store.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, it := range items {
		name := "INSERT"
		if it.Version > 1 {
			name = "MODIFY"
		}
		image := store.Image(it)
		raw, err := json.Marshal(map[string]any{"eventName": name, "dynamodb": map[string]any{
			"Keys": map[string]any{"PK": image["PK"], "SK": image["SK"]}, "NewImage": image, "SequenceNumber": fmt.Sprint(len(w.changes) + 1),
		}})
		if err != nil {
			w.t.Error(err)
		}
		w.changes = append(w.changes, raw)
	}
}

// records are those of the stream that one of deliver's filters lets pass, since the
// last call.
func (w *world) records() []events.DynamoDBEventRecord {
	w.t.Helper()
	w.mu.Lock()
	all := w.changes
	w.changes = nil
	w.mu.Unlock()
	if w.engine != nil {
		var err error
		if all, err = w.engine.Records(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	var out []events.DynamoDBEventRecord
	for _, raw := range all {
		var r events.DynamoDBEventRecord
		if err := json.Unmarshal(raw, &r); err != nil {
			w.t.Fatalf("%v: %s", err, raw)
		}
		kind, ok := r.Change.NewImage["kind"]
		if r.EventName == "INSERT" && ok && slices.Contains([]string{"event", "delivery"}, kind.String()) {
			out = append(out, r)
		}
	}
	return out
}

// pump hands the stream to deliver until nothing more comes of it, and returns how many
// records there were.
func (w *world) pump() int {
	w.t.Helper()
	total := 0
	for range 20 {
		records := w.records()
		if len(records) == 0 {
			return total
		}
		total += len(records)
		out, err := w.deliver(w.t.Context(), events.DynamoDBEvent{Records: records})
		if err != nil || len(out.BatchItemFailures) > 0 {
			w.t.Fatalf("deliver: %+v, %v", out, err)
		}
	}
	w.t.Fatal("the stream does not end")
	return 0
}

// receiver is a product's endpoint, which verifies with the reference library.
type receiver struct {
	t        *testing.T
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook // guarded by mu
	got      map[string]int            // by webhook-id; guarded by mu
}

// Check implements hooks.Sender.
func (r *receiver) Check(string) error { return nil }

// Post implements hooks.Sender.
func (r *receiver) Post(_ context.Context, _ string, header http.Header, body []byte) (hooks.Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.verifier.VerifyIgnoringTimestamp(body, header); err != nil {
		r.t.Errorf("the reference library refuses %s: %v", header.Get("webhook-id"), err)
	}
	if r.got == nil {
		r.got = map[string]int{}
	}
	r.got[header.Get("webhook-id")]++
	return hooks.Answer{Status: http.StatusNoContent}, nil
}

// endpoint has everything sent to the receiver.
func (w *world) endpoint() {
	w.t.Helper()
	var made struct{ Secret string }
	w.ask("POST", "/v1/webhook-endpoints", `{"url":"https://product.example/in"}`, "", http.StatusCreated, &made)
	verifier, err := standardwebhooks.NewWebhook(made.Secret)
	if err != nil {
		w.t.Fatal(err)
	}
	w.hook.verifier = verifier
}

// http invokes rooms. path may have a query.
func (w *world) http(method, path, body, idem string) events.APIGatewayV2HTTPResponse {
	w.t.Helper()
	path, query, _ := strings.Cut(path, "?")
	ev := events.APIGatewayV2HTTPRequest{RawPath: path, RawQueryString: query, Body: body, Headers: map[string]string{
		"authorization": "Bearer " + w.key, "content-type": "application/json",
	}}
	if idem != "" {
		ev.Headers["idempotency-key"] = idem
	}
	ev.RequestContext.HTTP.Method, ev.RequestContext.RequestID = method, "r1"
	out, err := w.rooms(w.t.Context(), ev)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	return out
}

// ask wants a status, and reads the answer.
func (w *world) ask(method, path, body, idem string, status int, into any) string {
	w.t.Helper()
	out := w.http(method, path, body, idem)
	if out.StatusCode != status {
		w.t.Fatalf("%s %s: %d %.500s", method, path, out.StatusCode, out.Body)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(out.Body), into); err != nil {
			w.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return out.Body
}

// created is what the tests read of a room.
type created struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Participants []struct {
		Participant string `json:"participant_id"`
		Ticket      string `json:"ticket"`
	} `json:"participants"`
}

func (w *world) create(body string) (c created) {
	w.t.Helper()
	w.ask("POST", "/v1/rooms", body, "", http.StatusCreated, &c)
	return c
}

// event has a task's state told by EventBridge.
func (w *world) event(tasks ...control.Task) {
	w.t.Helper()
	for _, task := range tasks {
		if err := w.lifecycle(w.t.Context(), taskEvent(task)); err != nil {
			w.t.Errorf("lifecycle: %v", err)
		}
	}
}

// taskEvent is the event of a task's state, as taskevent reads it.
func taskEvent(t control.Task) json.RawMessage {
	detail := map[string]any{
		"taskArn": t.ARN, "startedBy": t.StartedBy, "lastStatus": t.LastStatus, "version": t.Version, "stopCode": t.StopCode,
		"cpu": t.CPU, "memory": t.Memory, "containers": []any{map[string]any{"name": taskevent.Container, "exitCode": t.ExitCode}},
	}
	for name, ms := range map[string]int64{
		"createdAt": t.CreatedMS, "pullStartedAt": t.PullStartedMS, "pullStoppedAt": t.PullStoppedMS, "startedAt": t.StartedMS,
		"stoppingAt": t.StoppingMS, "stoppedAt": t.StoppedMS,
	} {
		if ms != 0 {
			detail[name] = time.UnixMilli(ms).UTC()
		}
	}
	raw, err := json.Marshal(map[string]any{"detail-type": "ECS Task State Change", "source": "aws.ecs", "detail": detail})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return raw
}

// sweep is the schedule.
func (w *world) sweep() {
	w.t.Helper()
	if err := w.lifecycle(w.t.Context(), json.RawMessage(`{"detail-type":"Scheduled Event","source":"aws.events","detail":{}}`)); err != nil {
		w.t.Fatalf("sweep: %v", err)
	}
}

// ws invokes socket.
func (w *world) ws(c control.Conn, event, body, identity string) int {
	w.t.Helper()
	ev := events.APIGatewayWebsocketProxyRequest{Body: body, Headers: map[string]string{"Sec-WebSocket-Protocol": "mayfly.v1"}}
	ev.RequestContext.ConnectionID, ev.RequestContext.EventType, ev.RequestContext.Identity.UserArn = c.ID, event, identity
	ev.RequestContext.Identity.SourceIP, ev.RequestContext.APIID = "203.0.113.7", "client123"
	if c.Task {
		ev.RequestContext.APIID = taskAPI
	}
	out, err := w.socket(w.t.Context(), ev)
	if err != nil {
		w.t.Error(err)
	}
	return out.StatusCode
}

// frame sends a frame.
func (w *world) frame(c control.Conn, typ string, seq uint64, body any) {
	w.t.Helper()
	data, err := signal.Encode(typ, seq, body)
	if err != nil {
		w.t.Error(err)
		return
	}
	if status := w.ws(c, "MESSAGE", string(data), ""); status != http.StatusOK {
		w.t.Errorf("%s is answered %d", typ, status)
	}
}

// link opens the link of a task. Its id begins with what.
func (w *world) link(task control.Task) control.Conn {
	w.t.Helper()
	w.links++
	c := control.Conn{ID: fmt.Sprintf("link%d=", w.links), Task: true}
	identity := "arn:aws:sts::123456789012:assumed-role/mayfly-task/" + task.ARN[strings.LastIndex(task.ARN, "/")+1:]
	if status := w.ws(c, "CONNECT", "", identity); status != http.StatusOK {
		w.t.Fatalf("the task's $connect is answered %d", status)
	}
	return c
}

// register runs the task and has it registered for its room.
func (w *world) register(task control.Task, room string, epoch int) control.Conn {
	w.t.Helper()
	c := w.link(task)
	w.frame(c, signal.LinkRegister, 0, signal.Register{Room: room, Epoch: epoch, TaskARN: task.ARN})
	w.sent(c, signal.LinkRegistered)
	return c
}

// sent takes what was posted to a connection, and wants one frame of the type there.
func (w *world) sent(c control.Conn, typ string) signal.Frame {
	w.t.Helper()
	var types []string
	for _, f := range w.post.Take(c) {
		if f.Type == typ {
			return f
		}
		types = append(types, f.Type+string(f.Body))
	}
	w.t.Fatalf("%s was sent %q, and no %s", c.ID, types, typ)
	return signal.Frame{}
}

// task is the task of a room's epoch.
func (w *world) task(room string, epoch int) control.Task {
	w.t.Helper()
	var found []control.Task
	for _, task := range w.fleet.Tasks() {
		if task.StartedBy == fmt.Sprintf("room/%s/%d", room, epoch) {
			found = append(found, task)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d tasks of %s epoch %d, want one", len(found), room, epoch)
	}
	return found[0]
}

// load reads an entity.
func load[T any, P interface {
	*T
	control.Doc
}](w *world, k store.Key) *T {
	w.t.Helper()
	it, err := w.store.Get(w.t.Context(), k)
	if err != nil {
		w.t.Fatalf("%s %s: %v", k.PK, k.SK, err)
	}
	d := new(T)
	if err := json.Unmarshal(it.Data, d); err != nil {
		w.t.Fatal(err)
	}
	return d
}

// all reads the entities of a partition whose sort keys have the prefix.
func all[T any](w *world, pk, prefix string) []*T {
	w.t.Helper()
	var out []*T
	q := store.QueryOptions{}
	for {
		page, err := w.store.Query(w.t.Context(), pk, prefix, q)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, it := range page.Items {
			d := new(T)
			if err := json.Unmarshal(it.Data, d); err != nil {
				w.t.Fatal(err)
			}
			out = append(out, d)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return out
		}
	}
}

// open rooms of the tenant, as its quota counts them.
func (w *world) places() (n int) {
	w.t.Helper()
	for _, q := range all[control.Quota](w, control.TenantPK(tenant), control.QuotaPrefix) {
		n += q.Rooms
	}
	return n
}

// report is a task's, of what one session used.
func (w *world) report(seq uint64, session string, ms, bytes int64) usage.Report {
	s := usage.Session{
		ID: session, Participant: "p", JoinedMS: w.clock.MS() - ms, ParticipantMS: ms, Transport: "udp",
		BytesOut: usage.Bytes{Total: bytes, Video: bytes}, BytesIn: usage.Bytes{Total: bytes / 2, Video: bytes / 2},
	}
	r := usage.Report{Seq: seq, AtMS: w.clock.MS(), Sessions: []usage.Session{s}}
	r.Totals = usage.Totals{ParticipantMS: ms, Sessions: 1, Present: 1, PeakParticipants: 1, BytesIn: s.BytesIn, BytesOut: s.BytesOut, MessagesIn: int64(seq), MessagesOut: int64(seq)} //nolint:gosec // counts
	return r
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, v := fmt.Sprint(got), fmt.Sprint(want); g != v {
		t.Errorf("%s: got %s, want %s", what, g, v)
	}
}

// beside runs f n times at once, and waits.
func beside(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
