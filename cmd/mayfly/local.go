package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mayfly/functions/control"
	"mayfly/infra/local"
	"mayfly/infra/local/fault"
	"mayfly/infra/local/gateway"
	msg "mayfly/shared/signal"
)

const localUsage = `mayfly local runs everything on this machine, without AWS: the HTTP API, the call page,
both WebSocket APIs, the table, and one room task process per room. It prints a line
per room event and writes out/local.json (url, api_key, ws_url) for scripts.

Every flag can be set by the environment variable in brackets. Ctrl-C ends all rooms
as ECS would; a second Ctrl-C kills them.

Example:
  ADDR=127.0.0.1:9000 COLD=25s mayfly local`

// localOptions are the flags of "mayfly local".
type localOptions struct {
	cfg                  local.Config
	out                  string
	taskLog              string
	relayName, relayCert string
	demo                 bool
	chaos                float64
}

// passed are variables of this process that a task may want to see.
var passed = []string{"MAYFLY_UDP_PORT", "MAYFLY_TCP_PORT", "MAYFLY_LOG", "MAYFLY_PPROF", "GOCOVERDIR", "GODEBUG", "GOTRACEBACK", "GORACE"}

func (a app) localOptions(args []string) (localOptions, error) {
	var o localOptions
	fs := a.flags("local", localUsage)
	env := func(name, standard string) string {
		if v := a.getenv(name); v != "" {
			return v
		}
		return standard
	}
	cold := durationFlag{&o.cfg.Cold}
	if v := a.getenv("COLD"); v != "" {
		if err := cold.Set(v); err != nil {
			return o, usageError{fmt.Sprintf("COLD: %v", err)}
		}
	}
	fs.StringVar(&o.cfg.Addr, "addr", env("ADDR", "127.0.0.1:8080"), "address to listen on [ADDR]")
	fs.StringVar(&o.cfg.PublicURL, "public-url", a.getenv("PUBLIC_URL"), "URL at which browsers reach it, if not http://<addr> [PUBLIC_URL]")
	fs.StringVar(&o.cfg.Origins, "origins", a.getenv("ALLOWED_ORIGINS"), "pages of your own that may connect, as http://localhost:3000, by commas [ALLOWED_ORIGINS]")
	fs.StringVar(&o.cfg.DataDir, "data", a.getenv("DATA"), "directory that keeps rooms and keys over a restart; without it they are temporary [DATA]")
	fs.StringVar(&o.out, "out", a.outDir(), "directory for local.json and the logs [OUT]")
	fs.StringVar(&o.cfg.RoomTask, "roomtask", a.getenv("ROOMTASK"), "room task binary; default: roomtask beside this program [ROOMTASK]")
	fs.StringVar(&o.cfg.MediaIP, "media-ip", a.getenv("MAYFLY_MEDIA_IP"), "address on which tasks take media, or two by a comma, one of each family; default: that of -addr, or for a loopback -addr this machine's own [MAYFLY_MEDIA_IP]")
	fs.StringVar(&o.relayName, "relay-name", "", "name under which clients reach the tasks' relays by TLS; with -relay-cert")
	fs.DurationVar(&o.cfg.RelaySpread, "relay-spread", 0, "how long a task's name takes to be known, as a DNS record does")
	fs.StringVar(&o.relayCert, "relay-cert", "", "certificate chain and key of that name, one PEM file")
	fs.Var(cold, "cold", "time that a task takes to start, as 25s, to feel Fargate's [COLD]")
	fs.StringVar(&o.taskLog, "task-log", env("TASK_LOG", "warn"), "task log lines to show: debug, info, warn, error or off; all are in tasks.log [TASK_LOG]")
	fs.BoolVar(&o.demo, "demo", false, "create a first room and print its call URLs")
	fs.Float64Var(&o.chaos, "chaos", 0, "share of signalling messages and task events to lose, double and reorder each, 0 to 0.5")
	fs.Uint64Var(&o.cfg.Seed, "seed", 1, "which ones -chaos picks")
	fs.Float64Var(&o.cfg.TimeScale, "time-scale", 1, "how much faster the WebSocket idle timeout and lifetime pass")
	fs.BoolVar(&o.cfg.SplitPosts, "split-posts", false, "split posted messages over 32 KB into frames instead of closing with 1009")
	fs.DurationVar(&o.cfg.SweepEvery, "sweep", 2*time.Second, "schedule of the sweep")
	fs.StringVar(&o.cfg.Pool, "pool", "", "tasks that stand by without a room, by size, as m=2")
	fs.IntVar(&o.cfg.MaxRooms, "max-rooms", 0, "most rooms at once (default 50)")
	if _, err := parse(fs, args, 0, "no arguments, only flags"); err != nil {
		return o, err
	}
	return o, o.finish(a)
}

// finish checks what flags cannot.
func (o *localOptions) finish(a app) error {
	if o.chaos < 0 || o.chaos > 0.5 {
		return usageError{"-chaos is a share from 0 to 0.5"}
	}
	f := fault.Fault{Drop: o.chaos, Duplicate: o.chaos, Reorder: o.chaos}
	for _, g := range []*gateway.Faults{&o.cfg.ClientFaults, &o.cfg.TaskFaults} {
		g.Seed, g.In, g.Out, g.LoseDisconnect = o.cfg.Seed, f, f, o.chaos
	}
	o.cfg.EventFault = f
	if o.taskLog != "off" && new(slog.Level).UnmarshalText([]byte(o.taskLog)) != nil {
		return usageError{fmt.Sprintf("-task-log %q is not debug, info, warn, error or off", o.taskLog)}
	}
	if (o.relayName == "") != (o.relayCert == "") {
		return usageError{"-relay-name and -relay-cert go together"}
	}
	if o.relayCert != "" {
		pem, err := os.ReadFile(o.relayCert)
		if err != nil {
			return fmt.Errorf("certificate of the relay: %w", err)
		}
		o.cfg.RelayTLS = &msg.RelayTLS{Name: o.relayName, Chain: string(pem), Key: string(pem)}
	}
	if o.cfg.RoomTask == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		o.cfg.RoomTask = filepath.Join(filepath.Dir(self), "roomtask")
	}
	if _, err := os.Stat(o.cfg.RoomTask); err != nil {
		return fmt.Errorf("no room task at %s: build it with \"make build\", or name it with -roomtask", o.cfg.RoomTask)
	}
	for _, name := range passed {
		if v := a.getenv(name); v != "" {
			o.cfg.TaskEnv = append(o.cfg.TaskEnv, name+"="+v)
		}
	}
	return nil
}

// local is "mayfly local".
func (a app) local(ctx context.Context, args []string) error {
	o, err := a.localOptions(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	functions, err := os.Create(filepath.Join(o.out, "functions.log"))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer functions.Close()
	tasks, err := os.Create(filepath.Join(o.out, "tasks.log"))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer tasks.Close()

	screen := &lockedWriter{w: a.stdout}
	o.cfg.Log = slog.New(slog.NewMultiHandler(
		slog.NewJSONHandler(functions, nil),
		slog.NewTextHandler(screen, &slog.HandlerOptions{Level: slog.LevelWarn}),
	))
	o.cfg.Event = func(line string) { fmt.Fprintln(screen, line) }
	o.cfg.TaskOutput = taskSink(&lockedWriter{w: tasks}, screen, o.taskLog)

	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	l, err := local.Start(ctx, o.cfg)
	if err != nil {
		return startHint(err)
	}
	return errors.Join(a.untilInterrupted(ctx, l, o, screen, interrupts), a.end(l, screen, interrupts))
}

// untilInterrupted tells the way in, and waits.
func (a app) untilInterrupted(ctx context.Context, l *local.Local, o localOptions, screen io.Writer, interrupts <-chan os.Signal) error {
	path := filepath.Join(o.out, localName)
	if err := writeLocalFile(path, localFileOf(l)); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }() // it names an API that is gone
	fmt.Fprint(screen, banner(l, o))
	if o.demo {
		if err := demo(ctx, l, screen); err != nil {
			return err
		}
	}
	select {
	case <-interrupts:
	case <-ctx.Done():
	}
	return nil
}

func localFileOf(l *local.Local) localFile {
	c := l.Product()
	return localFile{
		URL: l.URL(), APIKey: l.APIKey(), WSURL: l.WSURL(), OperatorKey: l.OperatorKey(),
		AWS: &awsCredentials{Region: local.Region, AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token},
	}
}

// end closes the stand-in; a further interrupt kills what takes too long.
func (a app) end(l *local.Local, screen io.Writer, interrupts <-chan os.Signal) error {
	running, err := l.Fleet().Find(context.Background(), "")
	if err == nil && len(running) > 0 {
		fmt.Fprintf(screen, "ending %d room tasks; Ctrl-C again kills them\n", len(running))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Close(ctx) }()
	select {
	case err := <-done:
		return err
	case <-interrupts:
		cancel()
		return <-done
	}
}

// startHint adds what to do to the errors that a newcomer meets.
func startHint(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; another program has the address: choose one with ADDR=127.0.0.1:9000", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w; choose a port above 1023 with ADDR=127.0.0.1:9000", err)
	case strings.Contains(err.Error(), "timeout") && strings.Contains(err.Error(), "boltstore"):
		return fmt.Errorf("%w; another mayfly local uses this DATA directory", err)
	}
	return err
}

// writeLocalFile writes the file whole or not at all: scripts wait for it.
func writeLocalFile(path string, f localFile) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".next"
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("local.json: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("local.json: %w", err)
	}
	return nil
}

func banner(l *local.Local, o localOptions) string {
	start := "they start at once (COLD=25s to feel Fargate's start)"
	if o.cfg.Cold > 0 {
		start = fmt.Sprintf("they take %v to start, as on Fargate", o.cfg.Cold)
	}
	data := "temporary (DATA=out/data keeps rooms and the key over a restart)"
	if o.cfg.DataDir != "" {
		data = o.cfg.DataDir
	}
	return fmt.Sprintf(`
mayfly local: everything on this machine, no AWS

  call page    %[1]s/new   opens a new call; %[1]s/ shows more
  API          %[1]s/v1/rooms
  API key      %[2]s
  signalling   %[3]s
  room tasks   %[4]s, one process per room; %[5]s
  data         %[6]s
  for scripts  %[7]s; logs in %[8]s and %[9]s

  curl -s %[1]s/v1/rooms -H 'Authorization: Bearer %[2]s' \
    -H 'Content-Type: application/json' -d '{"participants":[{"identity":"ada"},{"identity":"bob"}]}'

A line per room event follows. Ctrl-C ends all rooms.

`, l.URL(), l.APIKey(), l.WSURL(), o.cfg.RoomTask, start, data,
		filepath.Join(o.out, localName), filepath.Join(o.out, "functions.log"), filepath.Join(o.out, "tasks.log"))
}

// demo creates a room and prints its call URLs.
func demo(ctx context.Context, l *local.Local, screen io.Writer) error {
	a := app{getenv: func(string) string { return "" }, stdout: screen, stderr: screen}
	c := client{url: l.URL(), key: l.APIKey(), http: httpClient()}
	run, err := a.roomsCreate(a.flags("demo", ""), nil)
	if err != nil {
		return err
	}
	return run(ctx, c, false)
}

// taskSink writes task output to its file, and what is loud enough to the screen.
func taskSink(file, screen io.Writer, level string) func(control.Task, string) {
	least, off := slog.LevelWarn, level == "off"
	if !off {
		_ = least.UnmarshalText([]byte(level)) // checked with the flags
	}
	return func(t control.Task, line string) {
		id := t.ARN[strings.LastIndexByte(t.ARN, '/')+1:]
		fmt.Fprintf(file, "%s %s\n", id, line)
		var entry struct {
			Level slog.Level `json:"level"`
			Msg   string     `json:"msg"`
		}
		// A line that is no log entry is a crash: it is shown unless all is off.
		if off || json.Unmarshal([]byte(line), &entry) == nil && entry.Level < least {
			return
		}
		fmt.Fprintf(screen, "%s %s\n", t.StartedBy, line)
	}
}

// lockedWriter lets goroutines share a writer, a line at a time.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// durationFlag takes "25s" or plain seconds.
type durationFlag struct{ d *time.Duration }

func (f durationFlag) String() string {
	if f.d == nil {
		return "0s"
	}
	return f.d.String()
}

func (f durationFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if seconds, plain := strconv.ParseFloat(text, 64); plain == nil {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d < 0 || d > time.Hour {
		return fmt.Errorf("%q is not a time like 25s, at most 1h", text)
	}
	*f.d = d
	return nil
}

var _ flag.Value = durationFlag{}
