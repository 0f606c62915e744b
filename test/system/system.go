package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Limits of what takes a fraction of a second on a machine that has time for it.
const (
	startLimit = time.Minute
	stopLimit  = 45 * time.Second
)

// System is a running `mayfly local`.
type System struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
	WS     string `json:"ws_url"`

	t     testing.TB
	flags []string // set once
	cmd   *exec.Cmd
	dir   string
	done  chan struct{}
	out   *output
}

// output keeps what the programs print.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mayfly-bin-")
	if err != nil {
		return "", err
	}
	for _, p := range []string{"./cmd/mayfly", "./roomtask"} {
		cmd := exec.Command("go", "build", "-o", dir+"/", p)
		cmd.Dir = root()
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", p, err, out)
		}
	}
	return dir, nil
})

// Programs builds the programs once, for tests that start them themselves, and tells
// the directory.
func Programs() (string, error) {
	started.Store(true)
	return build()
}

// Main is the TestMain of packages that start the system: it removes the programs
// that Start built.
func Main(m *testing.M) {
	code := m.Run()
	if started.Load() {
		if dir, err := build(); err == nil {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// started says that build has been asked for.
var started atomic.Bool

// root is the module's directory: tests run in the directory of their package.
func root() string {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "."
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// Start builds the programs once, and runs them on a free port until the test ends.
func Start(t testing.TB, flags ...string) *System {
	t.Helper()
	s := &System{t: t, dir: t.TempDir(), out: &output{}, flags: flags}
	s.run("127.0.0.1:0")
	t.Cleanup(s.stop)
	return s
}

// run starts mayfly local and waits until it takes requests.
func (s *System) run(addr string) {
	s.t.Helper()
	bin, err := build()
	if err != nil {
		s.t.Fatal(err)
	}
	ready := filepath.Join(s.dir, "local.json")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	s.cmd = exec.Command(filepath.Join(bin, "mayfly"), append([]string{
		"local", "-addr", addr, "-out", s.dir, "-data", filepath.Join(s.dir, "data"), "-media-ip", "127.0.0.1",
	}, s.flags...)...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	Until(s.t, startLimit, "mayfly local is up", func() bool {
		data, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(data, s) == nil
	})
}

// Dir is where the programs put their files.
func (s *System) Dir() string { return s.dir }

// Output is what the programs have printed so far.
func (s *System) Output() string { return s.out.String() }

// Restart ends mayfly local with a signal and starts it again on the same address and
// data. Robots lose their WebSockets.
func (s *System) Restart(with syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(with); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(stopLimit):
		s.t.Fatalf("mayfly local does not stop on %v", with)
	}
	s.run(strings.TrimPrefix(s.URL, "http://"))
}

// Freeze stops mayfly local as it stands, or lets it go on. Room tasks are processes of
// their own.
func (s *System) Freeze(on bool) {
	s.t.Helper()
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Outage takes one service of the stand-in for AWS away, or brings it back: table, events
// or gateway.
func (s *System) Outage(service string, out bool) {
	s.t.Helper()
	path := fmt.Sprintf("/local/outage?service=%s&out=%t", service, out)
	if status, err := s.Call(http.MethodPost, path, nil, nil); err != nil || status != http.StatusNoContent {
		s.t.Fatalf("outage of %s: %d %v", service, status, err)
	}
}

func (s *System) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.done:
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Kill() // it may have ended just now
		s.t.Error("mayfly local does not stop on SIGTERM")
	}
	s.keepLogs()
	if s.t.Failed() {
		s.t.Logf("output of mayfly local:\n%s", s.out.String())
	}
}

// Call calls the HTTP API and decodes the answer. A nil body sends none.
func (s *System) Call(method, path string, body, into any, header ...string) (status int, err error) {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		reader = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, reader)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.APIKey)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && len(data) > 0 {
		err = json.Unmarshal(data, into)
	}
	return resp.StatusCode, err
}

// Room is what the tests read of a created room.
type Room struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Code         string `json:"code"` // of a problem
	Participants []struct {
		Identity      string `json:"identity"`
		ParticipantID string `json:"participant_id"`
		Ticket        string `json:"ticket"`
	} `json:"participants"`
}

// Create makes a room for the named participants.
func (s *System) Create(names []string, extra map[string]any) Room {
	s.t.Helper()
	body := map[string]any{"empty_timeout_s": 2}
	var people []map[string]any
	for _, n := range names {
		people = append(people, map[string]any{"identity": n, "name": n})
	}
	if people != nil {
		body["participants"] = people
	}
	for k, v := range extra {
		body[k] = v
	}
	var room Room
	if status, err := s.Call("POST", "/v1/rooms", body, &room); err != nil || status != http.StatusCreated {
		s.t.Fatalf("create: %d %v", status, err)
	}
	return room
}

// State reads a room's state.
func (s *System) State(id string) string {
	var room Room
	_, _ = s.Call("GET", "/v1/rooms/"+id, nil, &room)
	return room.State
}

// TaskPIDs lists the process ids of the room tasks that serve a room ("" = any).
func (s *System) TaskPIDs(room string) (pids []int) {
	out, _ := exec.Command("pgrep", "-P", fmt.Sprint(s.cmd.Process.Pid)).Output()
	for _, f := range strings.Fields(string(out)) {
		env, err := os.ReadFile("/proc/" + f + "/environ")
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00MAYFLY_ROOM="+room)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(f, &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Until polls a condition that crosses processes.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(20 * time.Millisecond)
	}
}
