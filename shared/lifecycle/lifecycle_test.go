package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	taskA, taskB = "arn:task/a", "arn:task/b"
	linkA, linkB = "link-a", "link-b"
	t0           = int64(1_000_000) // creation
	tNow         = t0 + 100_000     // the events of the table
)

// rooms are the states of the table, with what makes a difference within one.
func rooms() map[string]Room {
	requested := New(t0, t0+3_600_000)
	starting := requested
	starting.State, starting.Phase, starting.Epoch, starting.StartingMS = Starting, PhaseProvisioning, 1, t0
	starting.Asks, starting.Open, starting.AskedMS = 1, 1, t0
	queued := starting // ECS has refused every call
	queued.Phase, queued.Open, queued.Refusal, queued.StartErrors = PhaseQueued, 0, ReasonNoCapacity, 1
	known := starting
	known.Task, known.TaskVersion = taskA, 1
	live := known
	live.State, live.Phase, live.Link, live.LiveMS, live.FirstLiveMS = Live, PhaseLive, linkA, t0+20_000, t0+20_000
	live.HeartbeatMS, live.JoinSeq = tNow-20_000, 3
	// Its next epoch has begun: the events of the table are those of the old task.
	moving := live
	moving.State, moving.Phase, moving.Epoch, moving.StartingMS, moving.LiveMS, moving.HeartbeatMS = Starting, PhaseProvisioning, 2, tNow-500, 0, 0
	moving.Task, moving.TaskVersion, moving.Link = "", 0, ""
	moving.HandingEpoch, moving.HandingTask, moving.HandingLink, moving.HandingMS = 1, taskA, linkA, tNow-500
	moved := moving // and lives
	moved.State, moved.Phase, moved.Task, moved.Link = Live, PhaseLive, taskB, "link-c"
	moved.LiveMS, moved.HeartbeatMS = tNow-100, tNow-100
	leaving := moved // and was deleted while the old task plays on
	leaving.State, leaving.Phase, leaving.Reason, leaving.DrainingMS = Draining, PhaseDraining, "deleted", tNow-50
	draining := live
	draining.State, draining.Phase, draining.Reason, draining.DrainingMS = Draining, PhaseDraining, "empty", tNow-1000
	unasked := starting // deleted while RunTask was under way
	unasked.State, unasked.Phase, unasked.Reason, unasked.DrainingMS = Draining, PhaseDraining, "deleted", tNow-1000
	ended := draining
	ended.State, ended.Phase, ended.EndedMS, ended.TaskVersion = Ended, PhaseEnded, tNow-1000, 9
	failed := starting
	failed.State, failed.Phase, failed.EndedMS = Failed, PhaseFailed, tNow-1000
	return map[string]Room{
		"requested": requested, "starting": starting, "queued": queued, "starting+task": known, "live": live,
		"moving": moving, "moved": moved, "leaving": leaving,
		"draining": draining, "draining-task": unasked, "ended": ended, "failed": failed,
	}
}

// events are those of the table: all kinds, with what makes a difference within one.
func events() map[string]Event {
	at := func(e Event) Event {
		e.AtMS = tNow
		return e
	}
	return map[string]Event{
		"claim":             at(Event{Kind: Claim}),
		"started":           at(Event{Kind: Started, Epoch: 1, Task: taskA, Version: 1}),
		"start_failed":      at(Event{Kind: StartFailed, Epoch: 1}),
		"start_failed/no":   at(Event{Kind: StartFailed, Epoch: 1, Refused: true, Reason: ReasonNoCapacity}),
		"start_failed/move": at(Event{Kind: StartFailed, Epoch: 1, Refused: true, Move: true, Shapes: 3, Reason: ReasonNoCapacity}),
		"assigned":          at(Event{Kind: Assigned, Epoch: 1, Task: taskA, Version: 4}),
		"task_seen":         at(Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: 3, Phase: PhaseBooting}),
		"task_stopping":     at(Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: 4, Stopping: true}),
		"task_stopped":      at(Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 5}),
		"task_stopped/0":    at(Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 5, Clean: true}),
		"task_stopped/none": at(Event{Kind: TaskStopped, Epoch: 1}),
		"register":          at(Event{Kind: Register, Epoch: 1, Task: taskA, Link: linkB}),
		"heartbeat":         at(Event{Kind: Heartbeat, Epoch: 1, Task: taskA}),
		"join":              at(Event{Kind: Join}),
		"ending":            at(Event{Kind: Ending, Epoch: 1, Task: taskA, JoinSeq: 3, Reason: "empty"}),
		"ending/behind":     at(Event{Kind: Ending, Epoch: 1, Task: taskA, JoinSeq: 2, Reason: "empty"}),
		"ending/final":      at(Event{Kind: Ending, Epoch: 1, Task: taskA, Final: true, Reason: "max_duration"}),
		"ending/terminated": at(Event{Kind: Ending, Epoch: 1, Task: taskA, Final: true, Reason: ReasonTerminated}),
		"delete":            at(Event{Kind: Delete}),
		"extend":            at(Event{Kind: Extend, EndsMS: t0 + 7_200_000}),
		"due":               at(Event{Kind: Due}),
	}
}

// outcome tells what a step did in one line.
func outcome(prev, next Room, actions []Action, err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return "refused " + r.Code
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", next.State, next.Epoch)
	if next.HandingTask != "" {
		b.WriteString(" handing " + next.HandingTask)
	}
	if next.Link != prev.Link && next.Link != "" {
		b.WriteString(" " + next.Link)
	}
	if next.Reason != prev.Reason {
		b.WriteString(" because " + next.Reason)
	}
	if next.JoinSeq != prev.JoinSeq {
		b.WriteString(" joined")
	}
	if next.EndsAtMS != prev.EndsAtMS {
		fmt.Fprintf(&b, " until %d s", (next.EndsAtMS-t0)/1000)
	}
	for i, a := range actions {
		b.WriteString([]string{": ", ", "}[min(i, 1)] + string(a.Kind))
		for _, s := range []string{a.Name, a.Task, a.Link} {
			if s != "" {
				b.WriteString(" " + s)
			}
		}
		if a.Epoch != 0 {
			fmt.Fprintf(&b, " %d", a.Epoch)
		}
	}
	return b.String()
}

func TestEveryPair(t *testing.T) {
	table := readTable(t)
	seen := map[string]bool{}
	for state, room := range rooms() {
		for name, e := range events() {
			pair := state + " × " + name
			seen[pair] = true
			next, actions, err := Rules{}.Step(room, e)
			got := outcome(room, next, actions, err)
			want, ok := table[pair]
			if !ok {
				t.Errorf("not in the table: %-36s → %s", pair, got)
			} else if got != want {
				t.Errorf("%s\n got %s\nwant %s", pair, got, want)
			}
			checkStep(t, pair, room, e, next, actions, err)
		}
	}
	for pair := range table {
		if !seen[pair] {
			t.Errorf("the table has a pair that does not exist: %s", pair)
		}
	}
}

// readTable parses the table's lines, "state × event → outcome".
func readTable(t *testing.T) map[string]string {
	table := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(pairs)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		pair, want, ok := strings.Cut(strings.TrimSpace(line), "→")
		state, event, ok2 := strings.Cut(pair, "×")
		if !ok || !ok2 {
			t.Fatalf("bad line in the table: %q", line)
		}
		key := strings.TrimSpace(state) + " × " + strings.TrimSpace(event)
		if table[key] != "" {
			t.Fatalf("twice in the table: %s", key)
		}
		table[key] = strings.TrimSpace(want)
	}
	return table
}

// checkStep holds for every step of every room.
func checkStep(t *testing.T, what string, prev Room, e Event, next Room, actions []Action, err error) {
	t.Helper()
	if err != nil {
		if d := cmp.Diff(prev, next); d != "" || actions != nil {
			t.Errorf("%s: a refused step changed the room or acts %v:\n%s", what, actions, d)
		}
		return
	}
	tells, starts := 0, 0
	for _, a := range actions {
		switch a.Kind {
		case Tell:
			tells++
		case Start:
			starts++
			if next.State != Starting || a.Epoch != next.Epoch || a.Attempt != next.Attempt || next.Task != "" {
				t.Errorf("%s: starts epoch %d attempt %d in %s epoch %d attempt %d", what, a.Epoch, a.Attempt, next.State, next.Epoch, next.Attempt)
			}
			if next.Attempt > prev.Attempt && next.Epoch == prev.Epoch && prev.Open&^1 != 0 && prev.Open&(prev.Open-1) != 0 {
				t.Errorf("%s: attempt %d begins while calls %b of the one before are open", what, next.Attempt, prev.Open)
			}
		case Stop:
			if a.Task == "" {
				t.Errorf("%s: stops no task", what)
			}
		case End:
			if a.Link == "" || next.State != Draining && !next.State.Final() {
				t.Errorf("%s: tells %q to end in %s", what, a.Link, next.State)
			}
		}
	}
	if int64(tells) != next.Rev-prev.Rev {
		t.Errorf("%s: rev %d → %d with %d tellings", what, prev.Rev, next.Rev, tells)
	}
	if next.Epoch != prev.Epoch {
		going := (e.Kind == TaskSeen || e.Kind == Started) && e.Stopping || e.Kind == Ending && e.Final && e.Reason == ReasonTerminated
		if going && prev.State != Requested && (prev.State != Live || next.HandingTask != prev.Task || next.HandingEpoch != prev.Epoch) {
			t.Errorf("%s: the task that goes is %q of %d, handing over is %q of %d", what, prev.Task, prev.Epoch, next.HandingTask, next.HandingEpoch)
		}
		proof := e.Kind == TaskStopped || prev.State == Requested || going
		if next.Epoch != prev.Epoch+1 || !proof || starts != 1 && e.Kind != Ending || e.Kind == Ending && (starts != 0 || next.DueAtMS > e.AtMS) {
			t.Errorf("%s: epoch %d → %d without proof, or without a start", what, prev.Epoch, next.Epoch)
		}
	}
	if prev.State.Final() && next.State != prev.State {
		t.Errorf("%s: left a final state", what)
	}
	if prev.State == Draining && next.State != Draining && next.State != Ended {
		t.Errorf("%s: draining became %s", what, next.State)
	}
	if next.JoinSeq != prev.JoinSeq && next.State != Live {
		t.Errorf("%s: a join in %s", what, next.State)
	}
	if h := next.HandingTask; h != "" && (next.HandingEpoch >= next.Epoch || next.Link != "" && next.Link == next.HandingLink) {
		t.Errorf("%s: %s of %d hands over and is in charge", what, h, next.HandingEpoch)
	}
	if next.JoinSeq < prev.JoinSeq || next.Rev < prev.Rev {
		t.Errorf("%s: a counter went back", what)
	}
	if !next.State.Final() && next.State != prev.State && next.DueAtMS < e.AtMS {
		t.Errorf("%s: due %d ms ago", what, e.AtMS-next.DueAtMS)
	}
}

// TestRandomLives feeds rooms anything in any order, and checks the rules that hold
// for every step, and that an accepted event is harmless a second time.
func TestRandomLives(t *testing.T) {
	kinds := []Kind{Claim, Started, StartFailed, TaskSeen, TaskStopped, Register, Heartbeat, Join, Ending, Delete, Extend, Due}
	final := 0
	for seed := range uint64(800) {
		rng := rand.New(rand.NewPCG(seed, 1))
		room := New(t0, t0+3_600_000)
		at := t0
		for i := range 60 {
			at += rng.Int64N(40_000)
			e := Event{
				Kind: kinds[rng.IntN(len(kinds))], AtMS: at, Epoch: max(0, room.Epoch-rng.IntN(2)),
				Version: rng.Int64N(8), Clean: rng.IntN(4) == 0,
				Final: rng.IntN(3) == 0, Reason: []string{"empty", ReasonTerminated}[rng.IntN(2)],
				EndsMS:  at + rng.Int64N(3_600_000),
				JoinSeq: room.JoinSeq - min(room.JoinSeq, rng.Uint64N(2)),
			}
			if e.Kind == Delete && rng.IntN(4) != 0 {
				continue
			}
			e.Link = fmt.Sprintf("link-%d-%d", e.Epoch, rng.IntN(2))
			e.Task, e.Stopping = fmt.Sprint("arn:task/", e.Epoch), rng.IntN(6) == 0
			if e.Kind == TaskStopped && rng.IntN(4) == 0 {
				e.Task = ""
			}
			next, actions, err := Rules{}.Step(room, e)
			what := fmt.Sprintf("seed %d step %d: %s × %+v", seed, i, room.State, e)
			checkStep(t, what, room, e, next, actions, err)
			if err == nil && e.Kind != Join {
				again, more, err := Rules{}.Step(next, e)
				checkStep(t, what+" again", next, e, again, more, err)
				// Only the sweep's look may go on where the first one left off.
				if e.Kind != Due && (again.State != next.State || again.Epoch != next.Epoch) {
					t.Fatalf("%s: the repeat went on from %s %d to %s %d", what, next.State, next.Epoch, again.State, again.Epoch)
				}
			}
			room = next
		}
		if room.State.Final() {
			final++
		}
		if t.Failed() {
			return
		}
	}
	if final == 0 {
		t.Error("no life reached its end: the test walks nowhere")
	}
}

func TestRepeatOfARefusalIsRefused(t *testing.T) {
	room := rooms()["ended"]
	for range 2 {
		_, _, err := Rules{}.Step(room, Event{Kind: Join, AtMS: tNow})
		var r *Refusal
		if !errors.As(err, &r) || r.Code != Over || !strings.Contains(err.Error(), "join refused in ended") {
			t.Fatalf("got %v", err)
		}
	}
}
