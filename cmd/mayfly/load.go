package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mayfly/infra/local"
	"mayfly/test/load"
	"mayfly/test/robot"
)

const loadUsage = `mayfly load fills rooms with robots, shows how they fare, and says PASS or FAIL.

Without -url it starts a stand-in of its own for the time. With -url (and -key, or
MAYFLY_API_KEY) it loads that deployment: what is not on this machine is not loaded
with more than ` + loadFreeText + ` participants unless -yes says that it may be.

The first -cameras participants of each room send three layers of video, the first
-mics send sound, of whom one speaks. Everybody watches all cameras. The window that
counts begins when all have joined and 5 s have passed. Exit code 1 = FAIL.

Example:
  mayfly load -rooms 4 -parts 4 -duration 20s
  mayfly load -url https://api.example.com -rooms 10 -parts 8 -yes -json`

// loadFree is how many participants may go to somebody else's machines unasked.
const (
	loadFree     = 50
	loadFreeText = "50"
)

// loadOptions are the flags of "mayfly load".
type loadOptions struct {
	cfg              load.Config
	url, key         string
	roomTask         string
	targets          string
	layers           int
	yes, asJSON, off bool
}

func (a app) loadOptions(args []string) (loadOptions, error) {
	var o loadOptions
	fs := a.flags("load", loadUsage)
	fs.IntVar(&o.cfg.Rooms, "rooms", 2, "rooms")
	fs.IntVar(&o.cfg.Parts, "parts", 4, "participants of each room")
	fs.IntVar(&o.cfg.Cameras, "cameras", -1, "of them with a camera; default all, at most 4")
	fs.IntVar(&o.cfg.Mics, "mics", -1, "of them with a microphone; default all")
	fs.IntVar(&o.layers, "layers", 3, "simulcast layers of a camera: 320×180, 640×360, 1280×720")
	fs.IntVar(&o.cfg.Width, "width", 0, "width at which pictures are watched; default by their number")
	fs.IntVar(&o.cfg.Height, "height", 0, "height at which pictures are watched")
	fs.BoolVar(&o.cfg.RED, "red", false, "take redundant audio")
	fs.DurationVar(&o.cfg.Duration, "duration", 20*time.Second, "the window that counts")
	fs.Float64Var(&o.cfg.JoinRate, "join-rate", 20, "joins a second, over all rooms")
	fs.StringVar(&o.url, "url", "", "the HTTP API to load; default a stand-in started for the time")
	fs.StringVar(&o.key, "key", a.getenv("MAYFLY_API_KEY"), "its API key [MAYFLY_API_KEY]")
	fs.StringVar(&o.roomTask, "roomtask", "", "room task of the stand-in; default: roomtask beside this program")
	fs.StringVar(&o.targets, "targets", "", "JSON file of targets (docs/testing.md); default: those built in")
	fs.BoolVar(&o.off, "no-targets", false, "measure only, and pass")
	fs.BoolVar(&o.yes, "yes", false, "the deployment at -url may be loaded with more than "+loadFreeText+" participants")
	fs.BoolVar(&o.asJSON, "json", false, "print the result as JSON, and no table")
	if _, err := parse(fs, args, 0, "no arguments, only flags"); err != nil {
		return o, err
	}
	if o.cfg.Cameras < 0 {
		o.cfg.Cameras = min(o.cfg.Parts, 4)
	}
	if o.cfg.Mics < 0 {
		o.cfg.Mics = o.cfg.Parts
	}
	if o.layers < 1 || o.layers > len(robot.Layers) {
		return o, usageError{fmt.Sprintf("-layers is from 1 to %d", len(robot.Layers))}
	}
	if (o.cfg.Width == 0) != (o.cfg.Height == 0) {
		return o, usageError{"-width and -height go together"}
	}
	o.cfg.Layers = robot.Layers[:o.layers]
	if o.url == "" {
		return o, nil
	}
	if o.key == "" {
		return o, usageError{"-url needs -key or MAYFLY_API_KEY"}
	}
	here, err := loopback(o.url)
	if err != nil {
		return o, usageError{fmt.Sprintf("-url: %v", err)}
	}
	if n := o.cfg.Rooms * o.cfg.Parts; !here && !o.yes && n > loadFree {
		return o, usageError{fmt.Sprintf("%d participants on machines that are not this one: say -yes if that may be", n)}
	}
	return o, nil
}

// loopback says whether a URL is on this machine, by its text: a name other than
// localhost may be anywhere.
func loopback(raw string) (bool, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return false, err
	}
	if u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return false, fmt.Errorf("%q is not a URL like https://api.example.com", raw)
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// errTargets is the failure of a run whose numbers have been printed.
var errTargets = errors.New("FAIL")

// load is "mayfly load".
func (a app) load(ctx context.Context, args []string) (err error) {
	o, err := a.loadOptions(args)
	if err != nil {
		return err
	}
	targets, err := load.ReadTargets(o.targets)
	if err != nil {
		return usageError{err.Error()}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := client{url: strings.TrimSuffix(o.url, "/"), key: o.key, http: httpClient()}
	if o.url == "" {
		l, err := startLocal(ctx, o.roomTask, o.cfg.Rooms)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close(context.Background())) }()
		c.url, c.key = l.URL(), l.APIKey()
	}
	o.cfg.API = func(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
		return c.do(ctx, method, path, body, nil)
	}
	if !o.asJSON {
		o.cfg.Out = a.stdout
		fmt.Fprintf(a.stdout, "%d rooms × %d participants, %d with a camera of %d layers; robots on %s\n",
			o.cfg.Rooms, o.cfg.Parts, o.cfg.Cameras, o.layers, load.Machine())
	}
	res, err := load.Run(ctx, o.cfg)
	if err != nil {
		return err
	}
	verdicts, err := targets.Judge(res)
	if err != nil {
		return err
	}
	if o.off {
		verdicts = nil
	}
	return a.loadSays(o, res, verdicts)
}

// loadSays prints the end.
func (a app) loadSays(o loadOptions, res load.Result, verdicts []load.Verdict) error {
	pass := load.Kept(verdicts)
	if o.asJSON {
		err := a.printJSON(struct {
			load.Result
			Verdicts []load.Verdict `json:"verdicts"`
			Pass     bool           `json:"pass"`
		}{res, verdicts, pass})
		if err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.stdout, "\n%.0f s: %.1f Mbit/s, %.0f packets/s and %.0f frames/s received by %d robots in %d rooms\n",
			res.Seconds, res.Mbps, res.PacketsPerS, res.FramesPerS, res.Participants, res.Rooms)
		if res.TaskCPU > 0 {
			fmt.Fprintf(a.stdout, "tasks: %.2f cores in all, %.2f the busiest; %.1f µs a packet; %.0f MB the largest, grew by %.1f MB\n",
				res.TaskCPU, res.TaskCPUMost, res.CPUPerPacketUS, res.TaskRSSMB, res.TaskRSSGrowthMB)
		}
		if res.JoinFailures > 0 {
			fmt.Fprintf(a.stdout, "%d robots did not get in: %s\n", res.JoinFailures, res.FirstFailure)
		}
		for _, v := range verdicts {
			word, sign := "ok  ", "≤"
			if !v.Kept {
				word = "FAIL"
			}
			if !v.AtMost {
				sign = "≥"
			}
			fmt.Fprintf(a.stdout, "  %s  %-24s %10.4g  %s %g\n", word, v.Figure, v.Got, sign, v.Bound)
		}
		if pass {
			fmt.Fprintln(a.stdout, "PASS")
		}
	}
	if !pass {
		return errTargets
	}
	return nil
}

// startLocal starts a stand-in on loopback alone.
func startLocal(ctx context.Context, roomTask string, rooms int) (*local.Local, error) {
	if roomTask == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		roomTask = filepath.Join(filepath.Dir(self), "roomtask")
	}
	if _, err := os.Stat(roomTask); err != nil {
		return nil, fmt.Errorf("no room task at %s: build it with \"make build\", or name it with -roomtask", roomTask)
	}
	return local.Start(ctx, local.Config{
		Addr: "127.0.0.1:0", MediaIP: "127.0.0.1", RoomTask: roomTask, NoSync: true, MaxRooms: max(rooms, 50), StopTimeout: 10 * time.Second,
	})
}
