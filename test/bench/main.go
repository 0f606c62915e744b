// Command bench prints mayfly's local figures, measured on the real programs of this
// machine: how long POST /v1/rooms takes, how long from a task's process start to its
// registration, and how long a join takes until media flows. They are figures, not
// tests: machines differ. `make bench` runs it, and the packet path's benchmarks.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"mayfly/test/robot"
)

const (
	rooms = 100 // created one after the other
	joins = 50  // into one room, one after the other
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// lines collects what the programs print.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) find(re *regexp.Regexp) (ms []float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range re.FindAllSubmatch(l.buf.Bytes(), -1) {
		if v, err := strconv.ParseFloat(string(m[1]), 64); err == nil {
			ms = append(ms, v)
		}
	}
	return ms
}

type target struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
	WS     string `json:"ws_url"`
}

func run() error {
	dir, err := os.MkdirTemp("", "mayfly-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := &lines{}
	info := filepath.Join(dir, "local.json")
	cmd := exec.Command("bin/mayfly", "local", "-addr", "127.0.0.1:0", "-out", dir, "-data", filepath.Join(dir, "data"), "-media-ip", "127.0.0.1", "-task-log", "info")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	var t target
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if data, err := os.ReadFile(info); err == nil && json.Unmarshal(data, &t) == nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("mayfly local does not start:\n%s", out.buf.String())
		}
	}
	posts, err := t.posts()
	if err != nil {
		return err
	}
	show("POST /v1/rooms", posts, 20)
	show("process start to registered", out.find(regexp.MustCompile(`"msg":"room open".*"ready_ms":(\d+)`)), 150)
	answered, media, err := t.joins()
	if err != nil {
		return err
	}
	show("join to joined", answered, 0)
	show("join to first video packet", media, 1000)
	return nil
}

// posts creates rooms one after the other, and ends each, as a busy product would.
func (t target) posts() (ms []float64, err error) {
	for range rooms {
		begin := time.Now()
		room, err := t.create(1)
		if err != nil {
			return nil, err
		}
		ms = append(ms, millis(begin))
		for !t.live(room.ID) {
			time.Sleep(10 * time.Millisecond)
		}
		if err := t.call("DELETE", "/v1/rooms/"+room.ID, nil, nil); err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// joins has one robot publish, and others join, look at it, and leave.
func (t target) joins() (answered, media []float64, err error) {
	room, err := t.create(joins + 1)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	host, err := robot.Join(ctx, robot.Config{WS: t.WS, Ticket: room.Participants[0].Ticket})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range room.Participants[1:] {
		begin := time.Now()
		r, err := robot.Join(ctx, robot.Config{WS: t.WS, Ticket: p.Ticket, Mute: true, Watch: host.Joined.Participant + "/camera"})
		if err != nil {
			return nil, nil, err
		}
		answered = append(answered, millis(begin))
		for r.Packets[0].Video.Load() == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		media = append(media, millis(begin))
		if err := r.Leave(); err != nil {
			return nil, nil, err
		}
	}
	return answered, media, host.Leave()
}

type created struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Participants []struct {
		Ticket string `json:"ticket"`
	} `json:"participants"`
}

func (t target) create(people int) (room created, err error) {
	var list []map[string]any
	for i := range people {
		list = append(list, map[string]any{"identity": fmt.Sprint("robot-", i)})
	}
	return room, t.call("POST", "/v1/rooms", map[string]any{"participants": list, "empty_timeout_s": 2, "max_participants": 100}, &room)
}

func (t target) live(id string) bool {
	var room created
	return t.call("GET", "/v1/rooms/"+id, nil, &room) == nil && room.State == "live"
}

func (t target) call(method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, t.URL+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.APIKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d %s %w", method, path, resp.StatusCode, data, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

func millis(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// show prints one line; aim 0 means that none is set.
func show(what string, ms []float64, aim float64) {
	if len(ms) == 0 {
		fmt.Printf("%-32s no figure\n", what)
		return
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[min(len(ms)-1, int(q*float64(len(ms))))] }
	line := fmt.Sprintf("%-32s n=%-4d p50 %7.1f ms   p95 %7.1f ms   max %7.1f ms", what, len(ms), at(0.5), at(0.95), ms[len(ms)-1])
	if aim > 0 {
		line += fmt.Sprintf("   aim p95 ≤ %.0f ms", aim)
	}
	fmt.Println(line)
}
