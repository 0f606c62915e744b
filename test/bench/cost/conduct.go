package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	short, search       bool
	floor               bool
	only, rows, profile string
	repeat              int
	window              time.Duration
}

// scenario is one size of room.
type scenario struct {
	name                    string
	publishers, subscribers int
	light                   bool
	repeat                  int
	alone                   bool // the yardstick is far past its limit there, and takes long to show it
}

// scenarios: the ones that a target is about run several times. With twenty-five
// thousand packets a second and more, full receivers would saturate the generator.
var scenarios = []scenario{
	{name: "1x10", publishers: 1, subscribers: 10, repeat: 1},
	{name: "1x50", publishers: 1, subscribers: 50, repeat: 1},
	{name: "1x100", publishers: 1, subscribers: 100, repeat: 3},
	{name: "4x4", publishers: 4, subscribers: 4, repeat: 1},
	{name: "10x10", publishers: 10, subscribers: 10, repeat: 3},
	{name: "10x50 light", publishers: 10, subscribers: 50, light: true, repeat: 2},
	{name: "10x100 light", publishers: 10, subscribers: 100, light: true, repeat: 1, alone: true},
	{name: halfLoad, publishers: 10, light: true, repeat: 3, alone: true},
}

// halfLoad has as many light subscribers as keep half of the server's processor busy,
// which differs from machine to machine.
const halfLoad = "half load"

// row is one server in one configuration.
type row struct {
	name, kind string
	twcc       bool
	light      bool // takes part in light scenarios: there is no feedback there, so twcc makes no difference
}

var rows = []row{
	{name: "mayfly", kind: kindMayfly, twcc: true},
	{name: "mayfly -twcc", kind: kindMayfly, light: true},
	{name: "yardstick", kind: kindYardstick, twcc: true, light: true},
}

// keys of rows for the flag.
var rowKeys = map[string]string{"twcc": "mayfly", "plain": "mayfly -twcc", "yardstick": "yardstick"}

const (
	windowLength = 2 * time.Second
	shortWindow  = 1500 * time.Millisecond
	searchWindow = 2 * time.Second
	searchSettle = 2500 * time.Millisecond
	settleLimit  = 20 * time.Second
	settleLight  = 3 * time.Second // there is no estimate to wait for
	// lossLimit is what counts as no loss: a machine that is shared drops a few packets
	// whenever the receiver's processor is taken away.
	lossLimit = 0.0005
	runLimit  = 3 * time.Minute
)

// results by scenario and row.
type results map[string]map[string][]sample

// sample is an outcome and the memory of the server before anybody joined.
type sample struct {
	outcome
	Empty memoryUse
}

func conduct(o options) error {
	defer func(from time.Time) { fmt.Printf("cost: %.0f s in all\n", time.Since(from).Seconds()) }(time.Now())
	all := results{}
	for _, s := range scenarios {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), s.name) {
			continue
		}
		if s.name == halfLoad {
			if s.subscribers = o.halfLoad(all); s.subscribers == 0 {
				continue
			}
		}
		o.measure(all, s)
	}
	for _, w := range floors {
		if !o.floor {
			break
		}
		if _, err := floor(os.Stderr, w); err != nil {
			fmt.Fprintln(os.Stderr, "null relay:", err)
		}
	}
	var found map[string]found
	if o.search && !o.short {
		found = searchAll(o)
	}
	return report(os.Stdout, all, found)
}

// measure runs a scenario's rows in turn, as often as they are repeated.
func (o options) measure(all results, s scenario) {
	repeat := s.repeat
	if o.repeat > 0 {
		repeat = o.repeat
	} else if o.short {
		repeat = 1
	}
	for turn := range repeat { // interleaved: what disturbs the machine disturbs all
		for _, r := range rows {
			if s.light && !r.light || s.alone && r.kind != kindMayfly || !o.wants(r) {
				continue
			}
			if turn > 0 && o.repeat == 0 && !r.twcc && !s.light {
				continue // no target is about it
			}
			w := work{
				Publishers: s.publishers, Subscribers: s.subscribers, Light: s.light, TWCC: r.twcc && !s.light,
				Window: o.window, Settle: settleLimit, Profile: profileName(o, s, r),
			}
			if s.light {
				w.Settle = settleLight
			}
			if o.short {
				w.Window = shortWindow
			}
			got, err := run(r, w)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", s.name, r.name, err)
				continue
			}
			all.add(s.name, r.name, got[0])
			show(os.Stderr, s, r, got[0])
		}
	}
}

// halfLoad is how many light subscribers keep half of a processor busy: in proportion to
// what 50 keep busy, and once more from there, because a packet costs more the fewer there
// are. 0 if nothing could be run.
func (o options) halfLoad(all results) int {
	const row = "mayfly -twcc"
	o.repeat, o.profile = 1, ""
	guess := scenario{name: "10x50 light", publishers: 10, subscribers: 50, light: true, alone: true}
	for range 2 {
		if len(all[guess.name][row]) == 0 {
			o.measure(all, guess)
		}
		got := all[guess.name][row]
		if len(got) == 0 {
			return 0
		}
		guess.subscribers = int(math.Round(0.5 / summarize(got).cores * float64(guess.subscribers)))
		guess.name = halfLoad + "?"
	}
	return guess.subscribers
}

func (o options) wants(r row) bool {
	if o.rows == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(o.rows, ","), func(k string) bool { return rowKeys[k] == r.name })
}

func (r results) add(scenario, row string, s sample) {
	if r[scenario] == nil {
		r[scenario] = map[string][]sample{}
	}
	r[scenario][row] = append(r[scenario][row], s)
}

func profileName(o options, s scenario, r row) string {
	if o.profile == "" {
		return ""
	}
	name := strings.NewReplacer(" ", "-").Replace(s.name + "." + r.name)
	return filepath.Join(o.profile, name)
}

// run starts a server and a generator, and ends both.
func run(r row, w work) (got []sample, err error) {
	me, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var env []string
	if w.Profile != "" {
		env = append(os.Environ(), "MAYFLY_PPROF=1")
	}
	server, line, err := startServer(me, env, "-role", "server", "-kind", r.kind)
	if err != nil {
		return nil, err
	}
	defer stop(server)
	w.Server, w.PID = line, server.Process.Pid
	time.Sleep(200 * time.Millisecond) // until it has settled
	empty, err := memory(w.PID)
	if err != nil {
		return nil, err
	}
	err = generated(me, "generate", w, func(d *json.Decoder) error {
		var o outcome
		if err := d.Decode(&o); err != nil {
			return err
		}
		got = append(got, sample{o, empty})
		return nil
	})
	if err == nil && len(got) == 0 {
		err = errors.New("no outcome")
	}
	return got, err
}

// startServer starts one on its processor, and reads the line that tells its address.
func startServer(me string, env []string, args ...string) (server *exec.Cmd, line string, err error) {
	server = exec.Command(me, args...)
	server.Env, server.Stderr = env, os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if _, err := server.StdinPipe(); err != nil { // it ends when this process does
		return nil, "", err
	}
	if err := startPinned(server, 0); err != nil {
		return nil, "", err
	}
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		stop(server)
		return nil, "", errors.New("the server does not start")
	}
	return server, strings.TrimSpace(line), nil
}

func stop(server *exec.Cmd) {
	_ = server.Process.Kill()
	_ = server.Wait() // it was killed
}

// generated runs the generator in a role, and reads what it found until there is no more.
func generated(me, role string, work any, read func(*json.Decoder) error) (err error) {
	gen := exec.Command(me, "-role", role)
	gen.Stderr = os.Stderr
	in, err := gen.StdinPipe()
	if err != nil {
		return err
	}
	out, err := gen.StdoutPipe()
	if err != nil {
		return err
	}
	if err := startPinned(gen, 1); err != nil {
		return err
	}
	late := time.AfterFunc(runLimit, func() { _ = gen.Process.Kill() })
	defer late.Stop()
	defer func() { err = errors.Join(err, gen.Wait()) }()
	if err := json.NewEncoder(in).Encode(work); err != nil {
		return err
	}
	for dec := json.NewDecoder(out); ; {
		if err := read(dec); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// found is the highest rate that a row carried without loss.
type found struct {
	packets float64 // a second
	last    sample  // the smallest that lost; zero if none did
	best    sample
}

// searchAll adds light subscribers to ten publishers until packets are lost, in steps of
// about a fifth of what is found, and then tries the middle of the last step on a new server,
// which begins a step below: whoever comes to a server that is nearly full already makes it
// lose packets that it would carry. Both servers are searched by the same rule.
func searchAll(o options) map[string]found {
	all := map[string]found{}
	for _, r := range rows {
		if !r.light || !o.wants(r) {
			continue
		}
		step, first := 10, 30
		if r.kind == kindMayfly {
			step, first = 20, 100
		}
		w := work{Publishers: 10, Subscribers: first, Light: true, Window: searchWindow, Settle: searchSettle, Search: &search{Step: step, Most: 15 * step}}
		var f found
		f.try(r, w)
		if middle := f.best.Subscribers + step/2; f.packets > 0 && middle < f.last.Subscribers {
			w.Subscribers, w.Search = f.best.Subscribers-step, &search{Step: middle - (f.best.Subscribers - step), Most: middle}
			f.try(r, w)
		}
		all[r.name] = f
	}
	return all
}

// try runs the steps of a search, and notes what they gave.
func (f *found) try(r row, w work) {
	got, err := run(r, w)
	if err != nil {
		fmt.Fprintf(os.Stderr, "search, %s: %v\n", r.name, err)
	}
	for _, s := range got {
		show(os.Stderr, scenario{name: fmt.Sprintf("10x%d light", s.Subscribers)}, r, s)
		rate := float64(s.Packets) / s.Seconds
		switch {
		case s.loss() > lossLimit:
			if f.last.Subscribers == 0 || s.Subscribers < f.last.Subscribers {
				f.last = s
			}
		case rate > f.packets:
			f.packets, f.best = rate, s
		}
	}
}
