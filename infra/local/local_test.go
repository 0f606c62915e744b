package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mayfly/functions/control"
	"mayfly/infra/local/ecs"
	"mayfly/roomtask/link"
	msg "mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Variables that make the test binary a room task, or a stand-in of its own.
const (
	fakeVar = "LOCAL_TEST_TASK"
	hostVar = "LOCAL_TEST_HOST"
)

// TestMain lets the test binary be another process.
func TestMain(m *testing.M) {
	if os.Getenv(fakeVar) != "" {
		os.Exit(fakeTask())
	}
	if dir := os.Getenv(hostVar); dir != "" {
		os.Exit(hostStandIn(dir))
	}
	os.Exit(m.Run())
}

// fakeTask is a room task without media: it gets its credentials, dials the link with
// a signed request, registers, and ends when it is told or terminated.
func fakeTask() int {
	creds, err := link.TaskCredentials(os.Getenv)
	if err != nil {
		fmt.Println(err)
		return msg.ExitConfig
	}
	arn, err := link.TaskARN(context.Background(), os.Getenv("ECS_CONTAINER_METADATA_URI_V4"))
	if err != nil {
		fmt.Println(err)
		return msg.ExitConfig
	}
	epoch, err := strconv.Atoi(os.Getenv("MAYFLY_EPOCH"))
	if err != nil {
		return msg.ExitConfig
	}
	frames := make(chan msg.Frame, 16)
	l := link.New(link.Config{
		URL: os.Getenv("MAYFLY_LINK_URL"), Region: os.Getenv("MAYFLY_REGION"), Credentials: creds,
		Hello: func() (string, any) {
			return msg.LinkRegister, msg.Register{Room: os.Getenv("MAYFLY_ROOM"), Epoch: epoch, TaskARN: arn, Version: "fake", StartedMS: time.Now().UnixMilli()}
		},
		OnFrame: func(f msg.Frame) { frames <- f },
		Log:     slog.New(slog.NewTextHandler(os.Stdout, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	linked := make(chan struct{})
	go func() { defer close(linked); l.Run(ctx) }()
	defer func() { cancel(); <-linked }()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	return fakeLoop(l, frames, term)
}

func fakeLoop(l *link.Link, frames <-chan msg.Frame, term <-chan os.Signal) int {
	seq := uint64(0)
	end := func(reason string) {
		seq++
		l.Send(msg.LinkEnding, msg.Ending{Reason: reason, Final: true, Usage: usage.Report{Seq: seq, AtMS: time.Now().UnixMilli(), Final: true}})
	}
	patience := time.NewTimer(time.Hour)
	for {
		select {
		case <-patience.C:
			return msg.ExitLost
		case <-term:
			end(msg.ReasonTerminated)
			patience.Reset(5 * time.Second)
		case f := <-frames:
			fmt.Println("frame", f.Type)
			switch f.Type {
			case msg.LinkEnd:
				end(msg.ReasonDeleted)
			case msg.LinkEndingOK:
				return msg.ExitEnded
			case msg.LinkRefused:
				return msg.ExitFenced
			}
		}
	}
}

// world is a stand-in with what it says.
type world struct {
	*Local
	t *testing.T

	mu    sync.Mutex
	lines []string // guarded by mu: events and task output
}

func (w *world) note(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

func (w *world) has(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.lines, func(l string) bool { return strings.Contains(l, part) })
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t}
	var logs logBuffer
	cfg := Config{
		Addr: "127.0.0.1:0", RoomTask: os.Args[0], TaskEnv: []string{fakeVar + "=1"}, NoSync: true,
		Event:      w.note,
		TaskOutput: func(_ control.Task, line string) { w.note(line) },
		Log:        slog.New(slog.NewTextHandler(&logs, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	l, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Local = l
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			w.mu.Lock()
			t.Log(strings.Join(w.lines, "\n"))
			w.mu.Unlock()
			t.Log(logs.String())
		}
	})
	return w
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// until polls: what is awaited happens in other processes.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatal("never: " + what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

type room struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Epoch        int    `json:"epoch"`
	SignalURL    string `json:"signalling_url"`
	Participants []struct {
		Ticket  string `json:"ticket"`
		CallURL string `json:"call_url"`
	} `json:"participants"`
}

func (w *world) api(method, path, body string, into any) {
	w.t.Helper()
	if err := w.call(w.t.Context(), method, path, body, into); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create() room {
	w.t.Helper()
	var r room
	w.api("POST", "/v1/rooms", `{"participants":[{"identity":"ada"}]}`, &r)
	return r
}

func (w *world) await(id, state string, epoch int) {
	w.t.Helper()
	w.until(fmt.Sprintf("room %s, epoch %d", state, epoch), func() bool {
		var r room
		w.api("GET", "/v1/rooms/"+id, "", &r)
		return r.State == state && r.Epoch == epoch
	})
}

func (w *world) onlyTask() control.Task {
	w.t.Helper()
	all, err := w.Fleet().Find(w.t.Context(), "")
	if err != nil || len(all) != 1 {
		w.t.Fatalf("tasks %v %v", all, err)
	}
	return all[0]
}

func TestRoomFromPostToBill(t *testing.T) {
	w := newWorld(t, nil)
	r := w.create()
	w.await(r.ID, "live", 1)
	task := w.onlyTask()
	if task.StartedBy != "room/"+r.ID+"/1" {
		t.Errorf("started by %s", task.StartedBy)
	}
	w.api("DELETE", "/v1/rooms/"+r.ID, "", new(any))
	w.await(r.ID, "ended", 1)
	for _, line := range []string{"room.created", "room.live", "room.ended", "usage.closed", "frame registered"} {
		w.until(line, func() bool { return w.has(line) })
	}
	last, err := w.Fleet().Describe(t.Context(), task.ARN)
	if err != nil || *last.ExitCode != msg.ExitEnded {
		t.Errorf("%+v %v", last, err)
	}
	if all, err := w.Fleet().Find(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("tasks left: %v %v", all, err)
	}
}

func TestKilledTaskIsReplaced(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EventFault.Duplicate, c.EventFault.Reorder = 0.5, 0.5 })
	r := w.create()
	w.await(r.ID, "live", 1)
	if err := w.Fleet().Signal(w.onlyTask().ARN, os.Kill); err != nil {
		t.Fatal(err)
	}
	w.await(r.ID, "live", 2)
}

func TestLostAnswerOfRunTaskStartsOneTask(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.SweepEvery = 20 * time.Millisecond })
	w.Fleet().Inject(ecs.AnswerLost, 1)
	r := w.create()
	w.await(r.ID, "live", 1)
	w.onlyTask()
}

// TestRestartRecoversRooms kills a whole stand-in, tasks and all, and starts another
// on its data.
func TestRestartRecoversRooms(t *testing.T) {
	dir := t.TempDir()
	host := exec.Command(os.Args[0])
	host.Env = []string{hostVar + "=" + dir, "TMPDIR=" + os.TempDir()}
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err := errors.Join(err, host.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // killed
	told := strings.Fields(line)
	if len(told) != 3 {
		t.Fatalf("host says %q", line)
	}
	id, arn, key := told[0], told[1], told[2]

	w := newWorld(t, func(c *Config) { c.DataDir = dir })
	if w.APIKey() != key {
		t.Error("another API key")
	}
	w.await(id, "live", 2)
	if task := w.onlyTask(); task.ARN == arn {
		t.Error("the old task is said to run")
	}
	if last, err := w.Fleet().Describe(t.Context(), arn); err != nil || last.LastStatus != "STOPPED" || last.StoppedMS < last.StartedMS || *last.ExitCode != 137 {
		t.Errorf("old task: %+v %v", last, err)
	}
}

// hostStandIn is a process with a stand-in and one live room, to be killed.
func hostStandIn(dir string) int {
	ctx := context.Background()
	l, err := Start(ctx, Config{Addr: "127.0.0.1:0", DataDir: dir, RoomTask: os.Args[0], TaskEnv: []string{fakeVar + "=1"}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var r room
	if err := l.call(ctx, "POST", "/v1/rooms", "{}", &r); err != nil {
		fmt.Println(err)
		return 1
	}
	for r.State != "live" {
		if err := l.call(ctx, "GET", "/v1/rooms/"+r.ID, "", &r); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	tasks, err := l.Fleet().Find(ctx, "")
	if err != nil || len(tasks) != 1 {
		fmt.Println(tasks, err)
		return 1
	}
	fmt.Println(r.ID, tasks[0].ARN, l.APIKey())
	select {}
}

func TestLinkWantsTheTasksSignature(t *testing.T) {
	w := newWorld(t, nil)
	_, resp, err := websocket.Dial(t.Context(), "ws"+w.URL()[4:]+"/link", nil)
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("unsigned link: %v", err)
	}
}

func TestClientWatchesTheStart(t *testing.T) {
	w := newWorld(t, nil)
	r := w.create()
	if r.SignalURL != w.WSURL() {
		t.Errorf("signalling URL %s", r.SignalURL)
	}
	header := http.Header{"Origin": {w.URL()}}
	c, _, err := websocket.Dial(t.Context(), r.SignalURL, &websocket.DialOptions{Subprotocols: []string{msg.Version}, HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != msg.Version {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	watch, err := msg.Encode(msg.TypeWatch, 1, msg.Watch{Ticket: r.Participants[0].Ticket})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context(), websocket.MessageText, watch); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var f msg.Frame
		var state msg.Room
		if json.Unmarshal(data, &f) != nil || f.Type != msg.TypeRoom || json.Unmarshal(f.Body, &state) != nil {
			t.Fatalf("frame %s", data)
		}
		if state.State == "live" {
			break
		}
	}
	header.Set("Origin", "https://evil.example")
	if _, resp, err := websocket.Dial(t.Context(), r.SignalURL, &websocket.DialOptions{Subprotocols: []string{msg.Version}, HTTPHeader: header}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin: %v", err)
	}
}

func TestPagesForPeople(t *testing.T) {
	w := newWorld(t, nil)
	get := func(path string, change func(*http.Request)) (int, string, http.Header) {
		r := httptest.NewRequest("GET", w.URL()+path, nil)
		r.RemoteAddr = "127.0.0.1:9"
		if change != nil {
			change(r)
		}
		rec := httptest.NewRecorder()
		w.route(rec, r)
		body, err := io.ReadAll(rec.Result().Body)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Code, string(body), rec.Header()
	}
	code, _, h := get("/new", nil)
	where := h.Get("Location")
	if code != http.StatusSeeOther || !regexp.MustCompile(`^http://127\.0\.0\.1:\d+/call/#room=room_\w+&ticket=`).MatchString(where) {
		t.Fatalf("/new: %d %s", code, where)
	}
	id := regexp.MustCompile(`room_\w+`).FindString(where)
	if code, _, h := get("/new?room="+id, nil); code != http.StatusSeeOther || !strings.Contains(h.Get("Location"), id) || h.Get("Location") == where {
		t.Errorf("second ticket: %d %s", code, h.Get("Location"))
	}
	if code, body, _ := get("/new?room=room_none", nil); code != http.StatusBadGateway {
		t.Errorf("unknown room: %d %s", code, body)
	}
	code, body, h := get("/", nil)
	if code != 200 || !strings.Contains(body, w.APIKey()) || !strings.Contains(body, "/new?room="+id) || h.Get("Content-Security-Policy") == "" {
		t.Errorf("landing page: %d %s", code, body)
	}
	for name, change := range map[string]func(*http.Request){
		"other machine": func(r *http.Request) { r.RemoteAddr = "192.0.2.7:9" },
		"other name":    func(r *http.Request) { r.Host = "evil.example" },
		"other site":    func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		if code, _, _ := get("/new", change); code != http.StatusForbidden {
			t.Errorf("/new from %s: %d", name, code)
		}
		if _, body, _ := get("/", change); strings.Contains(body, w.APIKey()) || strings.Contains(body, id) {
			t.Errorf("landing page tells %s the key", name)
		}
	}
	if code, body, _ := get("/nothing", nil); code != 404 || !strings.Contains(body, "No such path") {
		t.Errorf("unknown path is the API's: %d %s", code, body)
	}
}

func TestStartFailsWithAReason(t *testing.T) {
	busy := newWorld(t, nil)
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no binary", Config{}, "no room task binary"},
		{"binary that is not there", Config{RoomTask: "/nonexistent"}, "room task binary"},
		{"address in use", Config{RoomTask: os.Args[0], Addr: busy.URL()[len("http://"):]}, "listen on"},
		{"bad media address", Config{RoomTask: os.Args[0], Addr: "127.0.0.1:0", MediaIP: "here"}, "media address"},
		{"bad origin", Config{RoomTask: os.Args[0], Addr: "127.0.0.1:0", Origins: "localhost:3000"}, "ALLOWED_ORIGINS"},
		{"bad public URL", Config{RoomTask: os.Args[0], Addr: "127.0.0.1:0", PublicURL: "ftp://x"}, "PUBLIC_URL"},
	} {
		l, err := Start(t.Context(), tc.cfg)
		if err == nil {
			err = errors.Join(errors.New("started"), l.Close(t.Context()))
		}
		if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
