package entry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

func (w *world) room(id string) control.Room {
	w.t.Helper()
	r, err := control.Load[control.Room](w.t.Context(), w.store, control.RoomKey(id))
	if err != nil {
		w.t.Fatal(err)
	}
	return *r
}

// From the POST to the join, a killed task, and back, through all four functions.
func TestStory(t *testing.T) {
	w := newWorld(t)
	room := w.create()
	client, link := control.Conn{ID: "c1="}, control.Conn{ID: "l1=", Task: true}

	out := w.ws(clientAPI, client.ID, "CONNECT", "", map[string]string{"Origin": "https://app.example.com", "sec-websocket-protocol": "mayfly.v1"}, "")
	if out.StatusCode != http.StatusOK || out.Headers["Sec-WebSocket-Protocol"] != "mayfly.v1" {
		t.Fatalf("$connect: %+v", out)
	}
	w.message(clientAPI, client.ID, signal.TypeWatch, 1, signal.Watch{Ticket: room.Participants[0].Ticket})
	w.sent(client, signal.TypeRoom)
	task := w.link(link.ID, room.ID, 1)
	w.sent(client, signal.TypeRoom)
	w.message(clientAPI, client.ID, signal.TypeJoin, 2, signal.Join{
		Ticket: room.Participants[0].Ticket, Attempt: strings.Repeat("a", 22),
		Offer: signal.Offer{Generation: 1, SDP: "v=0\r\n", Seats: []signal.SeatLine{{Seat: 0, Audio: "0", Video: "1"}}},
	})
	var handed signal.Client
	if err := json.Unmarshal(w.sent(link, signal.LinkClient).Body, &handed); err != nil || handed.Conn != client.ID || handed.Participant != room.Participants[0].Participant {
		t.Fatalf("handed over %+v (%v)", handed, err)
	}
	w.message(taskAPI, link.ID, signal.LinkToClient, 0, signal.ToClient{Conn: client.ID, Frame: signal.Frame{Type: signal.TypeJoined, Seq: 1}})
	w.sent(client, signal.TypeJoined)

	w.fleet.Run(task.ARN)
	w.clock.Advance(time.Minute)
	w.invoke(w.lifecycle, taskEventJSON(w.fleet.Kill(task.ARN)), nil)
	if r := w.room(room.ID); r.State != lifecycle.Starting || r.Epoch != 2 || len(w.fleet.Tasks()) != 2 {
		t.Fatalf("after the kill: room is %s, epoch %d, %d tasks", r.State, r.Epoch, len(w.fleet.Tasks()))
	}
	w.post.Take(client)
	w.link("l2=", room.ID, 2)
	w.sent(client, signal.TypeRoom)

	w.ws(clientAPI, client.ID, "DISCONNECT", "", nil, "")
	w.sent(control.Conn{ID: "l2=", Task: true}, signal.LinkClientGone)
	w.ws(taskAPI, link.ID, "DISCONNECT", "", nil, "")
	if out := w.http("DELETE", "/v1/rooms/"+room.ID, "", "", w.auth()); out.StatusCode != http.StatusAccepted {
		t.Fatalf("delete: %d %s", out.StatusCode, out.Body)
	}
	w.sent(control.Conn{ID: "l2=", Task: true}, signal.LinkEnd)
}

func TestConcurrentInvocationsWithOneKey(t *testing.T) {
	w := newWorld(t)
	headers := w.auth()
	headers["idempotency-key"] = "one"
	const n = 100
	answers := make([]events.APIGatewayV2HTTPResponse, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i] = w.http("POST", "/v1/rooms", "", `{"participants":[{"identity":"a"}]}`, headers) })
	}
	wg.Wait()
	for _, a := range answers {
		if a.StatusCode != http.StatusCreated || a.Body != answers[0].Body {
			t.Fatalf("answers differ: %d %s", a.StatusCode, a.Body)
		}
	}
	if tasks, starts := len(w.fleet.Tasks()), w.fleet.Calls("start"); tasks != 1 || starts != 1 {
		t.Errorf("%d tasks by %d calls, want one", tasks, starts)
	}
	if out := w.http("POST", "/v1/rooms", "", `{"external_id":"other"}`, headers); out.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("another body: %d %s", out.StatusCode, out.Body)
	}
}

func TestHTTPEvents(t *testing.T) {
	w := newWorld(t)
	room := w.create()
	t.Run("request id and problem", func(t *testing.T) {
		out := w.http("GET", "/v1/rooms", "", "", nil)
		if out.StatusCode != http.StatusUnauthorized || !strings.Contains(out.Body, `"request_id":"JKJaXmPLvHcESHA="`) ||
			out.Headers["Content-Type"] != "application/problem+json" {
			t.Errorf("%+v", out)
		}
	})
	t.Run("query", func(t *testing.T) {
		out := w.http("GET", "/v1/rooms", "limit=1&state=starting", "", w.auth())
		if out.StatusCode != http.StatusOK || !strings.Contains(out.Body, room.ID) {
			t.Errorf("%d %s", out.StatusCode, out.Body)
		}
	})
	t.Run("preflight", func(t *testing.T) {
		out := w.http("OPTIONS", "/v1/rooms", "", "", map[string]string{"origin": "https://app.example.com", "access-control-request-method": "POST"})
		if out.StatusCode != http.StatusNoContent || out.Headers["Access-Control-Allow-Origin"] != "https://app.example.com" {
			t.Errorf("%+v", out)
		}
	})
	t.Run("call page", func(t *testing.T) {
		out := w.http("GET", "/call/", "", "", nil)
		if out.StatusCode != http.StatusOK || out.IsBase64Encoded || !strings.Contains(out.Body, "<html") ||
			!strings.Contains(out.Headers["Content-Security-Policy"], "wss://client123.execute-api.eu-central-1.amazonaws.com") {
			t.Errorf("%d %v", out.StatusCode, out.Headers)
		}
	})
	t.Run("hostile paths", func(t *testing.T) {
		for _, path := range []string{"", "x", "//evil.example/v1/rooms", "/v1/rooms/\x00", "/v1/rooms/..%2f", "/call/../../etc/passwd", "/\r\nX: y"} {
			if out := w.http("GET", path, "%zz&;", "", w.auth()); out.StatusCode != http.StatusNotFound {
				t.Errorf("%q: %d %s", path, out.StatusCode, out.Body)
			}
		}
	})
	t.Run("body that is not base64", func(t *testing.T) {
		var out events.APIGatewayV2HTTPResponse
		w.invoke(w.rooms, `{"rawPath":"/v1/rooms","requestContext":{"http":{"method":"POST"}},"body":"!","isBase64Encoded":true}`, &out)
		if out.StatusCode != http.StatusBadRequest {
			t.Errorf("%d", out.StatusCode)
		}
	})
}

func TestBinaryAnswersAreBase64(t *testing.T) {
	picture := []byte{0x89, 'P', 'N', 'G', 0xff, 0x00}
	h := httpHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture) }))
	out, err := h(t.Context(), events.APIGatewayV2HTTPRequest{RawPath: "/"})
	raw, derr := base64.StdEncoding.DecodeString(out.Body)
	if err != nil || derr != nil || !out.IsBase64Encoded || string(raw) != string(picture) || out.StatusCode != http.StatusOK {
		t.Errorf("%+v (%v, %v)", out, err, derr)
	}
}

func TestConnections(t *testing.T) {
	w := newWorld(t)
	good := "arn:aws:sts::123456789012:assumed-role/mayfly-task/0123456789abcdef0123456789abcdef"
	for name, tc := range map[string]struct {
		api, identity string
		headers       map[string]string
		status        int
	}{
		"client":               {clientAPI, "", map[string]string{"Sec-WebSocket-Protocol": "mayfly.v1"}, 200},
		"client, call page":    {clientAPI, "", map[string]string{"Sec-WebSocket-Protocol": "mayfly.v1", "origin": "https://api.example.com"}, 200},
		"client, foreign page": {clientAPI, "", map[string]string{"Sec-WebSocket-Protocol": "mayfly.v1", "ORIGIN": "https://evil.example"}, 403},
		"client, no protocol":  {clientAPI, "", nil, 400},
		"task":                 {taskAPI, good, nil, 200},
		"task, no identity":    {taskAPI, "", nil, 403},
		"task, a user":         {taskAPI, "arn:aws:iam::123456789012:user/mallory", nil, 403},
		"task, a bare role":    {taskAPI, "arn:aws:sts::123456789012:assumed-role/mayfly-task", nil, 403},
	} {
		t.Run(name, func(t *testing.T) {
			if out := w.ws(tc.api, name, "CONNECT", "", tc.headers, tc.identity); out.StatusCode != tc.status {
				t.Errorf("status %d, want %d", out.StatusCode, tc.status)
			}
		})
	}
	t.Run("a client's register goes nowhere", func(t *testing.T) {
		w.ws(clientAPI, "c9", "MESSAGE", `{"type":"register","body":{}}`, nil, good)
		if f := w.sent(control.Conn{ID: "c9"}, signal.TypeError); !strings.Contains(string(f.Body), signal.CodeBadMessage) {
			t.Errorf("sent %s", f.Body)
		}
	})
	t.Run("unknown event type", func(t *testing.T) {
		for _, id := range []string{clientAPI, taskAPI} {
			if out := w.ws(id, "c8", "PARTY", "", nil, ""); out.StatusCode != http.StatusInternalServerError {
				t.Errorf("status %d", out.StatusCode)
			}
		}
	})
}

func TestLifecycleEvents(t *testing.T) {
	w := newWorld(t)
	room := w.create()
	w.fleet.Hide(w.fleet.Tasks()[0].ARN, true)
	stray := w.fleet.Stray("room/room_00000000000000000000000000/1")
	w.clock.Advance(time.Hour)
	w.invoke(w.lifecycle, `{"version":"0","id":"53dc4d37","detail-type":"Scheduled Event","source":"aws.events","account":"1",
		"time":"2026-11-20T11:00:00Z","region":"eu-central-1","resources":["arn:aws:events:eu-central-1:1:rule/sweep"],"detail":{}}`, nil)
	if !w.fleet.StopAsked(stray.ARN) {
		t.Error("the sweep left a task without a room alone")
	}
	if r := w.room(room.ID); r.DueAtMS <= w.clock.MS() {
		t.Errorf("the room (%s) is still due", r.State)
	}
	for _, bad := range []string{`{}`, `[]`, `{"detail-type":"EC2 Instance State-change Notification"}`, `{"detail-type":"ECS Task State Change","detail":{}}`, `{"detail-type":"ECS Task State Change","detail":7}`} {
		if _, err := w.lifecycle().Invoke(t.Context(), []byte(bad)); err == nil {
			t.Errorf("%s is no error", bad)
		}
	}
}

func TestDeliver(t *testing.T) {
	w := newWorld(t)
	room := w.create()
	first := control.EventKey(room.ID, 1)
	batch := fmt.Sprintf(`{"Records":[%s,%s,%s]}`, record(t, "MODIFY", [2]string{"ROOM#" + room.ID, "ROOM"}),
		record(t, "INSERT", [2]string{first.PK, first.SK}), record(t, "REMOVE", [2]string{"CONN#x", "CONN"}))
	for range 2 { // the stream repeats itself
		w.invoke(w.deliver, batch, nil)
	}
	if n := strings.Count(w.log.String(), outbox.RoomCreated); n != 1 {
		t.Errorf("room.created was delivered %d times", n)
	}
	other := w.create() // whose stream record is lost
	w.clock.Advance(2 * time.Minute)
	w.invoke(w.deliver, `{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`, nil)
	if n := strings.Count(w.log.String(), `"room":"`+other.ID+`","type":"`+outbox.RoomCreated); n != 1 {
		t.Errorf("the sweep delivered room.created of the second room %d times", n)
	}
	if _, err := w.deliver().Invoke(t.Context(), []byte(`{"Records":[{"eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"x"}}}}]}`)); err == nil {
		t.Error("a record of another table is no error")
	}
}

func TestConfigFromEnv(t *testing.T) {
	for name, tc := range map[string]struct {
		set  map[string]string
		want string // in the error; "" for none
	}{
		"whole":             {nil, ""},
		"http origin":       {map[string]string{"ALLOWED_ORIGINS": "http://localhost:8080"}, ""},
		"endpoint":          {map[string]string{"CLIENT_WS_ENDPOINT": "wss://x"}, "CLIENT_WS_ENDPOINT"},
		"task endpoint":     {map[string]string{"TASK_WS_ENDPOINT": "nowhere"}, "TASK_WS_ENDPOINT"},
		"signalling":        {map[string]string{"CLIENT_WS_URL": "https://x"}, "CLIENT_WS_URL"},
		"public":            {map[string]string{"PUBLIC_URL": "api.example.com"}, "PUBLIC_URL"},
		"public with query": {map[string]string{"PUBLIC_URL": "https://x/?a=b"}, "PUBLIC_URL"},
		"origin with path":  {map[string]string{"ALLOWED_ORIGINS": "https://x/app"}, "ALLOWED_ORIGINS"},
		"any origin":        {map[string]string{"ALLOWED_ORIGINS": "*"}, "ALLOWED_ORIGINS"},
		"keys":              {map[string]string{"API_KEYS": "acme=xyz"}, "api keys"},
		"secret":            {map[string]string{"TICKET_SECRET": "short"}, "TICKET_SECRET"},
		"webhook secrets":   {map[string]string{"WEBHOOK_SECRET_BEFORE": strings.Repeat("o", 32)}, ""},
		"the one before":    {map[string]string{"WEBHOOK_SECRET_BEFORE": "shorter than 32 bytes"}, "WEBHOOK_SECRET"},
		"webhook secret":    {map[string]string{"WEBHOOK_SECRET": "shorter than 32 bytes"}, "WEBHOOK_SECRET"},
		"rooms":             {map[string]string{"MAX_ROOMS": "many"}, "MAX_ROOMS"},
		"eta":               {map[string]string{"START_ETA_MS": "-1"}, "START_ETA_MS"},
	} {
		t.Run(name, func(t *testing.T) {
			env := environment(testKey)
			for k, v := range tc.set {
				env[k] = v
			}
			_, err := ConfigFromEnv(func(k string) string { return env[k] })
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestConfigValues(t *testing.T) {
	env := environment(testKey)
	env["MAX_ROOMS"], env["REGION"], env["AWS_REGION"] = "7", "", "eu-west-1"
	c, err := ConfigFromEnv(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if c.PublicURL != "https://api.example.com" || len(c.Subnets) != 2 || c.Subnets[1] != "subnet-2" || c.Region != "eu-west-1" ||
		c.Life.MaxRooms != 7 || c.Life.StartEtaMS != 25_000 || len(c.AllowedOrigins) != 2 || c.AllowedOrigins[1] != "https://api.example.com" {
		t.Errorf("%+v", c)
	}
	raw, err := json.Marshal(map[string]any{"secret": c.TicketSecret})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c.TicketSecret), string(raw)} {
		if strings.Contains(text, env["TICKET_SECRET"]) {
			t.Errorf("the configuration prints its secret: %s", text)
		}
	}
}

func TestValidate(t *testing.T) {
	for f, needed := range map[Function][]string{
		RoomsFunction:     {"TABLE", "REGION", "CLUSTER", "TASK_DEFINITION", "SUBNETS", "CLIENT_WS_ENDPOINT", "TASK_WS_ENDPOINT", "CLIENT_WS_URL", "PUBLIC_URL", "API_KEYS", "TICKET_SECRET", "WEBHOOK_SECRET"},
		SocketFunction:    {"TABLE", "CLUSTER", "TASK_DEFINITION", "SUBNETS", "CLIENT_WS_ENDPOINT", "TASK_WS_ENDPOINT", "TASK_API_ID", "PUBLIC_URL"},
		LifecycleFunction: {"TABLE", "CLUSTER", "TASK_DEFINITION", "SUBNETS", "CLIENT_WS_ENDPOINT", "TASK_WS_ENDPOINT"},
		DeliverFunction:   {"TABLE", "WEBHOOK_SECRET"},
	} {
		t.Run(string(f), func(t *testing.T) {
			whole := environment(testKey)
			env := map[string]string{}
			for _, k := range needed {
				env[k] = whole[k]
			}
			check := func() error {
				c, err := ConfigFromEnv(func(k string) string { return env[k] })
				if err != nil {
					t.Fatal(err)
				}
				return c.Validate(f)
			}
			if err := check(); err != nil {
				t.Errorf("with all it needs: %v", err)
			}
			for _, k := range needed {
				delete(env, k)
				if err := check(); err == nil || !strings.Contains(err.Error(), k) {
					t.Errorf("without %s: %v", k, err)
				}
				env[k] = whole[k]
			}
		})
	}
	if err := (Config{}).Validate("party"); err == nil {
		t.Error("an unknown function is valid")
	}
}

// The mains are thin: what is worth testing is not in them.
func TestMainsAreThin(t *testing.T) {
	for _, f := range []Function{RoomsFunction, SocketFunction, LifecycleFunction, DeliverFunction} {
		text, err := os.ReadFile("../" + string(f) + "/main.go")
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 60 {
			t.Errorf("%s has %d lines", f, n)
		}
	}
}

const testKey = "rk_test_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
