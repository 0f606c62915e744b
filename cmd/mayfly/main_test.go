package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
)

// TestMain lets the test binary be a room task that starts, never registers, and
// ends when it is told to: only tasks have MAYFLY_ROOM.
func TestMain(m *testing.M) {
	if os.Getenv("MAYFLY_ROOM") != "" {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("not a log line")
		<-term
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// buffer is output that is read while it is written.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// command runs one command and returns its exit code and output.
func command(env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs buffer
	a := app{getenv: func(k string) string { return env[k] }, stdout: &out, stderr: &errs}
	code = a.run(context.Background(), args)
	return code, out.String(), errs.String()
}

func TestExitCodesAndAdvice(t *testing.T) {
	nowhere := map[string]string{"OUT": t.TempDir()}
	for _, tc := range []struct {
		args   []string
		env    map[string]string
		code   int
		stderr string // what the advice must contain
	}{
		{nil, nil, exitUsage, "mayfly local"},
		{[]string{"help"}, nil, exitOK, ""},
		{[]string{"dance"}, nil, exitUsage, "mayfly help"},
		{[]string{"rooms"}, nil, exitUsage, "create, ls, show"},
		{[]string{"rooms", "dance"}, nil, exitUsage, "create, ls, show"},
		{[]string{"rooms", "show"}, nowhere, exitUsage, "one room id"},
		{[]string{"rooms", "ls", "-nonsense"}, nowhere, exitUsage, "-h"},
		{[]string{"rooms", "ls"}, nowhere, exitFault, "MAYFLY_API_KEY"},
		{[]string{"rooms", "ls"}, map[string]string{"MAYFLY_URL": "http://127.0.0.1:1"}, exitFault, "set both"},
		{[]string{"rooms", "ls"}, map[string]string{"MAYFLY_URL": "http://127.0.0.1:1", "MAYFLY_API_KEY": "k"}, exitFault, "still running"},
		{[]string{"rooms", "ls", "-h"}, nil, exitOK, ""},
		{[]string{"key"}, nil, exitUsage, "key new"},
		{[]string{"key", "new", "-tenant", "No Good"}, nil, exitUsage, "a-z"},
		{[]string{"local", "-h"}, nil, exitOK, ""},
		{[]string{"local", "-roomtask", "/nonexistent"}, nowhere, exitFault, "make build"},
		{[]string{"local", "-roomtask", os.Args[0], "-chaos", "2"}, nowhere, exitUsage, "-chaos"},
		{[]string{"local", "-roomtask", os.Args[0], "-task-log", "loud"}, nowhere, exitUsage, "-task-log"},
		{[]string{"local", "extra"}, nowhere, exitUsage, "no arguments"},
		{[]string{"local"}, map[string]string{"COLD": "soon"}, exitUsage, "25s"},
	} {
		code, stdout, stderr := command(tc.env, tc.args...)
		if code != tc.code || !strings.Contains(stderr, tc.stderr) || (code == exitOK) != (stderr == "") || code == exitOK && stdout == "" {
			t.Errorf("%q: exit %d, stdout %.40q, stderr %q", tc.args, code, stdout, stderr)
		}
	}
}

func TestKeyNew(t *testing.T) {
	code, out, _ := command(nil, "key", "new", "-tenant", "acme")
	lines := strings.Fields(out)
	if code != exitOK || len(lines) != 2 || !strings.HasPrefix(lines[0], "rk_live_") {
		t.Fatalf("exit %d, %q", code, out)
	}
	if want := fmt.Sprintf("acme=%x", sha256.Sum256([]byte(lines[0]))); lines[1] != want {
		t.Errorf("parameter %s, want %s", lines[1], want)
	}
	code, out, _ = command(nil, "key", "new", "-json")
	var k struct{ APIKey, Parameter string }
	if err := json.Unmarshal([]byte(strings.ReplaceAll(out, "api_key", "APIKey")), &k); code != exitOK || err != nil || k.APIKey == "" || k.APIKey == lines[0] || !strings.HasPrefix(k.Parameter, "main=") {
		t.Errorf("exit %d, %v, %s", code, err, out)
	}
}

func TestLocalAndItsRooms(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"OUT": dir, "ADDR": "127.0.0.1:0", "ROOMTASK": os.Args[0]}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var screen buffer
	a := app{getenv: func(k string) string { return env[k] }, stdout: &screen, stderr: &screen}
	ended := make(chan int, 1)
	go func() { ended <- a.run(ctx, []string{"local", "-demo"}) }()

	path := filepath.Join(dir, localName)
	until(t, "local.json", func() bool { _, err := os.Stat(path); return err == nil })
	until(t, "the demo room and the task's crash line", func() bool {
		return strings.Contains(screen.String(), "guest-2  http://127.0.0.1:") && strings.Contains(screen.String(), "not a log line")
	})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("local.json: %v %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f localFile
	if err := json.Unmarshal(data, &f); err != nil || !strings.HasPrefix(f.WSURL, "ws://127.0.0.1:") || !strings.Contains(screen.String(), f.APIKey) {
		t.Errorf("%s %v", data, err)
	}

	rooms := func(args ...string) string {
		t.Helper()
		code, out, errs := command(env, append([]string{"rooms"}, args...)...)
		if code != exitOK {
			t.Fatalf("%q: exit %d %s", args, code, errs)
		}
		return out
	}
	out := rooms("create", "-participants", "ada, bob", "-external-id", "lesson 7", "-max-duration", "1h", "-idempotency-key", "k")
	if out != rooms("create", "-participants", "ada,bob", "-external-id", "lesson 7", "-max-duration", "1h", "-idempotency-key", "k") {
		t.Error("one idempotency key, two answers")
	}
	id := regexp.MustCompile(`^room_\w+`).FindString(out)
	if !strings.Contains(out, "\n  ada  "+f.URL+"/call/#room="+id) || !strings.Contains(out, "\n  bob  ") {
		t.Errorf("create: %s", out)
	}
	if out := rooms("ls"); !strings.Contains(out, id) || !strings.Contains(out, "lesson 7") || strings.Count(out, "\nroom_") != 2 {
		t.Errorf("ls: %s", out)
	}
	if out := rooms("ls", "-state", "failed"); strings.Contains(out, id) {
		t.Errorf("ls of failed rooms: %s", out)
	}
	var list struct{ Rooms []roomAnswer }
	if err := json.Unmarshal([]byte(rooms("ls", "-json", "-limit", "1")), &list); err != nil || len(list.Rooms) != 1 || list.Rooms[0].ID != id {
		t.Errorf("ls -json: %+v %v", list, err)
	}
	if out := rooms("show", id); !strings.Contains(out, "lesson 7") || !strings.Contains(out, "starting") {
		t.Errorf("show: %s", out)
	}
	if out := rooms("usage", id); !strings.Contains(out, "open") || !strings.Contains(out, "epoch 1") {
		t.Errorf("usage: %s", out)
	}
	asOperator(t, env)
	if out := rooms("end", id); !strings.Contains(out, id+" is ") {
		t.Errorf("end: %s", out)
	}
	if code, _, errs := command(env, "rooms", "show", "room_none"); code != exitFault || !strings.Contains(errs, "rooms ls") {
		t.Errorf("unknown room: exit %d %s", code, errs)
	}
	wrong := map[string]string{"MAYFLY_URL": f.URL + "/", "MAYFLY_API_KEY": "nonsense"}
	if code, _, errs := command(wrong, "rooms", "ls"); code != exitFault || !strings.Contains(errs, "MAYFLY_API_KEY") {
		t.Errorf("wrong key: exit %d %s", code, errs)
	}

	cancel()
	select {
	case code := <-ended:
		if code != exitOK {
			t.Errorf("exit %d: %s", code, screen.String())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("local does not end")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("local.json stays: %v", err)
	}
	for _, name := range []string{"functions.log", "tasks.log"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// asOperator manages keys, limits and price books of the API that env finds.
func asOperator(t *testing.T, env map[string]string) {
	run := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := command(env, args...)
		if code != want {
			t.Fatalf("%q: exit %d %s", args, code, errs)
		}
		return out + errs
	}
	key := strings.TrimSpace(run(exitOK, "keys", "new", "-tenant", "acme", "-scopes", "rooms:read,keys:write", "-name", "web"))
	if !regexp.MustCompile(`^rk_live_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Fatalf("key %q", key)
	}
	if out := run(exitOK, "keys", "ls", "-tenant", "acme"); !strings.Contains(out, key[:16]) || !strings.Contains(out, "rooms:read,keys:write") || strings.Contains(out, key) {
		t.Errorf("keys ls: %s", out)
	}
	mine := maps.Clone(env)
	var f localFile
	data, err := os.ReadFile(filepath.Join(env["OUT"], localName))
	if err != nil || json.Unmarshal(data, &f) != nil || f.AWS == nil || f.AWS.SessionToken == "" {
		t.Fatalf("local.json: %v %s", err, data)
	}
	mine["MAYFLY_URL"], mine["MAYFLY_API_KEY"] = f.URL, key
	if code, out, errs := command(mine, "keys", "ls"); code != exitOK || !strings.Contains(out, key[:16]) {
		t.Errorf("keys ls with the new key: exit %d %s%s", code, out, errs)
	}
	if code, _, errs := command(mine, "rooms", "create"); code != exitFault || !strings.Contains(errs, "403") {
		t.Errorf("a key without the scope: exit %d %s", code, errs)
	}
	run(exitOK, "keys", "revoke", key[:16], "-tenant", "acme")
	if code, _, errs := command(mine, "keys", "ls"); code != exitFault || !strings.Contains(errs, "401") {
		t.Errorf("a revoked key: exit %d %s", code, errs)
	}
	if out := run(exitOK, "limits", "set", "acme", "-max-rooms", "7"); !strings.Contains(out, `"max_rooms": 7`) {
		t.Errorf("limits set: %s", out)
	}
	if out := run(exitOK, "limits", "show", "acme"); !strings.Contains(out, `"max_rooms": 7`) {
		t.Errorf("limits show: %s", out)
	}
	book := run(exitOK, "pricebook", "show", "current")
	file := filepath.Join(t.TempDir(), "book.json")
	next := regexp.MustCompile(`"id": "[^"]*"`).ReplaceAllString(book, `"id": "next"`)
	if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	run(exitOK, "pricebook", "install", file)
	run(exitOK, "pricebook", "install", file)
	if err := os.WriteFile(file, []byte(strings.Replace(next, `"nano_usd": `, `"nano_usd": 1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(exitFault, "pricebook", "install", file); !strings.Contains(out, "409") {
		t.Errorf("another book of that id: %s", out)
	}
	run(exitUsage, "pricebook", "change")
	run(exitUsage, "limits", "show")
}

func TestAddressInUseIsExplained(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	env := map[string]string{"OUT": t.TempDir(), "ADDR": busy.Addr().String(), "ROOMTASK": os.Args[0]}
	if code, _, errs := command(env, "local"); code != exitFault || !strings.Contains(errs, "ADDR=127.0.0.1:9000") {
		t.Errorf("exit %d %s", code, errs)
	}
}

func TestDataInUseIsExplained(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"OUT": dir, "ADDR": "127.0.0.1:0", "ROOMTASK": os.Args[0], "DATA": filepath.Join(dir, "data")}
	ctx, cancel := context.WithCancel(t.Context())
	var screen buffer
	a := app{getenv: func(k string) string { return env[k] }, stdout: &screen, stderr: &screen}
	ended := make(chan int, 1)
	go func() { ended <- a.run(ctx, []string{"local"}) }()
	until(t, "local.json", func() bool { _, err := os.Stat(filepath.Join(dir, localName)); return err == nil })
	if code, _, errs := command(env, "local"); code != exitFault || !strings.Contains(errs, "another mayfly local uses this DATA") {
		t.Errorf("exit %d %s", code, errs)
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d: %s", code, screen.String())
	}
}

func TestTaskLinesOnTheScreen(t *testing.T) {
	lines := []string{`{"level":"INFO","msg":"a"}`, `{"level":"WARN","msg":"b"}`, `panic: c`}
	for level, want := range map[string]string{
		"info": "room/r/1 " + lines[0] + "\nroom/r/1 " + lines[1] + "\nroom/r/1 panic: c\n",
		"warn": "room/r/1 " + lines[1] + "\nroom/r/1 panic: c\n",
		"off":  "",
	} {
		var file, screen bytes.Buffer
		sink := taskSink(&file, &screen, level)
		for _, l := range lines {
			sink(control.Task{ARN: "arn:task/mayfly/abc", StartedBy: "room/r/1"}, l)
		}
		if diff := cmp.Diff(want, screen.String()); diff != "" {
			t.Errorf("%s: %s", level, diff)
		}
		if strings.Count(file.String(), "abc ") != 3 {
			t.Errorf("file: %s", file.String())
		}
	}
}

func TestDurationFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{"25s": 25 * time.Second, "25": 25 * time.Second, "0.5": 500 * time.Millisecond, "1m": time.Minute, "": -1, "-1s": -1, "2h": -1, "x": -1} {
		var d time.Duration
		err := durationFlag{&d}.Set(text)
		if want >= 0 && (err != nil || d != want) || want < 0 && err == nil {
			t.Errorf("%q: %v %v", text, d, err)
		}
	}
}
