package system_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mayfly/test/robot"
)

// witnessing is the environment variable that makes the test binary a witness: what it
// is to join, as JSON.
const witnessing = "MAYFLY_WITNESS"

// scene is what a witness is to join.
type scene struct {
	WS                  string
	Speakers, Listeners []string // tickets, one of each for a room
}

// testimony is what a witness heard before a moment and after it.
type testimony struct {
	Before, After time.Duration // the longest gap in anybody's sound
	Deaf          int           // robots that heard nothing before, or nothing after
}

// witness is the other process: robots that speak and listen, while a thousand others in
// the test's own process compete for its threads. It answers a moment (Unix ns) on its input with a
// testimony.
func witness() error {
	var s scene
	if err := json.Unmarshal([]byte(os.Getenv(witnessing)), &s); err != nil {
		return err
	}
	var robots []*robot.Robot
	for i, ticket := range append(s.Speakers, s.Listeners...) {
		listens := i >= len(s.Speakers)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: ticket, SoundOnly: true, Mute: listens, Seats: 1, Trace: listens})
		cancel()
		if err != nil {
			return err
		}
		r.Speak(!listens)
		robots = append(robots, r)
	}
	fmt.Println("here")
	var cut int64
	if _, err := fmt.Scan(&cut); err != nil {
		return err
	}
	var said testimony
	for _, r := range robots[len(s.Speakers):] {
		early, late := around(r.Arrivals(), time.Unix(0, cut))
		if len(early) == 0 || len(late) == 0 {
			said.Deaf++
			continue
		}
		g, _ := robot.Gap(early[0].From, early)
		said.Before = max(said.Before, g)
		g, _ = robot.Gap(early[0].From, append(early[len(early)-1:], late...))
		said.After = max(said.After, g)
	}
	for _, r := range robots {
		_ = r.Vanish()
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

// around are the arrivals of the last 3 s before a moment, and all after it.
func around(all []robot.Arrival, cut time.Time) (early, late []robot.Arrival) {
	for _, a := range all {
		switch at := time.Unix(0, a.At); {
		case !at.Before(cut):
			late = append(late, a)
		case at.After(cut.Add(-3 * time.Second)):
			early = append(early, a)
		}
	}
	return early, late
}

// callWitness starts one, and returns when it has joined. tell asks it.
func callWitness(t *testing.T, what scene) (tell func(cut time.Time) testimony) {
	t.Helper()
	raw, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env, cmd.Stderr = append(os.Environ(), witnessing+"="+string(raw)), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it has answered, or was killed with the test's context
	lines := bufio.NewScanner(out)
	if !lines.Scan() || strings.TrimSpace(lines.Text()) != "here" {
		t.Fatalf("the witness did not join: %s", lines.Text())
	}
	return func(cut time.Time) (said testimony) {
		t.Helper()
		_, _ = fmt.Fprintln(in, cut.UnixNano()) // a witness that died says nothing below
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &said) != nil {
			t.Fatalf("the witness says nothing: %s", lines.Text())
		}
		return said
	}
}
