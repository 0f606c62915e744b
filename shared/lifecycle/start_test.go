package lifecycle

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// no is a refusal of the room's last call, at a time.
func no(room Room, atMS int64, move bool) Event {
	return Event{
		Kind: StartFailed, Epoch: room.Epoch, Attempt: room.Attempt, Ask: room.Asks - 1, AtMS: atMS,
		Refused: true, Move: move, Shapes: 3, Reason: ReasonNoCapacity,
	}
}

// TestQueue follows a room through three shapes that ECS refuses, a pause, and again,
// until its own limit.
func TestQueue(t *testing.T) {
	room := New(t0, t0+3_600_000)
	room.QueueMS = 30_000
	room, _ = walk(t, room, Event{Kind: Claim, AtMS: t0})
	for attempt := 1; attempt <= 2; attempt++ { // every shape is tried at once
		var got string
		room, got = walk(t, room, no(room, t0+int64(attempt), true))
		expect(t, got, []string{"starting 1: tell, start 1", "starting 1: start 1"}[attempt-1])
		if room.Attempt != attempt || room.Phase != PhaseQueued || room.Open != 1 {
			t.Fatalf("attempt %d, %s, open %b", room.Attempt, room.Phase, room.Open)
		}
	}
	room, got := walk(t, room, no(room, t0+3, true)) // all were refused: a pause
	expect(t, got, "starting 1")
	if wait := room.DueAtMS - t0 - 3; room.Attempt != 3 || wait != 4000 {
		t.Errorf("attempt %d after a pause of %d ms", room.Attempt, wait)
	}
	room, got = walk(t, room, Event{Kind: Due, AtMS: room.DueAtMS})
	expect(t, got, "starting 1: start 1")
	room, _ = walk(t, room, no(room, t0+29_000, true), no(room, t0+29_000, true)) // told twice counts once
	if room.Attempt != 4 || room.DueAtMS > t0+30_000 {
		t.Errorf("attempt %d, due after %d ms: later than the limit", room.Attempt, room.DueAtMS-t0)
	}
	for room.Open != 0 {
		room, _ = walk(t, room, no(room, t0+29_500, true))
	}
	room, got = walk(t, room, Event{Kind: Due, AtMS: t0 + 30_000})
	expect(t, got, "failed 1 because no_capacity: emit room.failed, tell")
	if room.Phase != PhaseFailed {
		t.Errorf("phase %s", room.Phase)
	}
}

// TestNoShapeChangesWhileACallIsOpen: a call without an answer may yet start a task, so
// the attempt keeps its token and its shape.
func TestNoShapeChangesWhileACallIsOpen(t *testing.T) {
	room, _ := walk(t, New(t0, t0+3_600_000),
		Event{Kind: Claim, AtMS: t0},
		Event{Kind: StartFailed, Epoch: 1, AtMS: t0 + 10}, // no answer
		Event{Kind: Due, AtMS: t0 + 16_000})
	room, got := walk(t, room, no(room, t0+16_010, true))
	expect(t, got, "starting 1: tell")
	if room.Attempt != 0 || room.Open != 1 {
		t.Errorf("attempt %d, open %b", room.Attempt, room.Open)
	}
	first := no(room, t0+16_020, true)
	first.Ask = 0 // the answer comes after all
	room, got = walk(t, room, first)
	expect(t, got, "starting 1: start 1")
	if room.Attempt != 1 || room.Open != 1 || room.Asks != 1 {
		t.Errorf("attempt %d, open %b, asks %d", room.Attempt, room.Open, room.Asks)
	}
	late := first // once more, when the attempt is over
	room, got = walk(t, room, late)
	expect(t, got, "starting 1")
	if room.Open != 1 {
		t.Error("an answer to the last attempt closed a call of this one")
	}
	many := room
	for range 80 {
		many.QueueMS = 3_600_000
		many, _ = walk(t, many, Event{Kind: Due, AtMS: t0 + 20_000})
	}
	for ask := range 82 {
		e := no(many, t0+20_000, true)
		e.Ask = ask
		many, _ = walk(t, many, e)
	}
	if many.Attempt != 1 || many.Open == 0 {
		t.Errorf("after 81 calls: attempt %d, open %b", many.Attempt, many.Open)
	}
}

// TestBusyKeepsTheShape: too many calls say nothing of capacity.
func TestBusyKeepsTheShape(t *testing.T) {
	room, _ := walk(t, New(t0, t0+3_600_000), Event{Kind: Claim, AtMS: t0})
	room, _ = walk(t, room, no(room, t0, false))
	if room.Attempt != 0 || room.Phase != PhaseQueued || room.DueAtMS != t0+1000 {
		t.Errorf("attempt %d, %s, due after %d ms", room.Attempt, room.Phase, room.DueAtMS-t0)
	}
	room, _ = walk(t, room, Event{Kind: Due, AtMS: t0 + 1000},
		Event{Kind: Started, Epoch: 1, Task: taskA, Version: 1, AtMS: t0 + 1001})
	if room.Phase != PhaseProvisioning || room.TaskMS != t0+1001 {
		t.Errorf("%s, known at %d", room.Phase, room.TaskMS-t0)
	}
}

func TestPauseIsSpread(t *testing.T) {
	room, _ := walk(t, New(t0, t0+3_600_000), Event{Kind: Claim, AtMS: t0})
	for jitter, want := range map[int]int64{-5: 1000, 0: 1000, 500: 1500, 999: 2000, 4000: 2000} {
		e := no(room, t0, false)
		e.Jitter = jitter
		next, _ := walk(t, room, e)
		if got := next.DueAtMS - t0; got != want {
			t.Errorf("jitter %d: %d ms, want %d", jitter, got, want)
		}
	}
	room.StartErrors = 30
	e := no(room, t0, false)
	e.Jitter = 999
	if next, _ := walk(t, room, e); next.DueAtMS-t0 != 20_000 {
		t.Errorf("waits %d ms after many failures", next.DueAtMS-t0)
	}
}

// TestStandbyTaskForTheOneWhoMayCall: a claim counts only while nobody else may have
// called RunTask, and only once.
func TestStandbyTaskForTheOneWhoMayCall(t *testing.T) {
	claimed, _ := walk(t, New(t0, t0+3_600_000), Event{Kind: Claim, AtMS: t0})
	assigned := Event{Kind: Assigned, Epoch: 1, Task: taskA, Version: 4, AtMS: t0 + 1}
	room, got := walk(t, claimed, assigned)
	expect(t, got, "starting 1: tell")
	if room.Task != taskA || room.Phase != PhaseBooting || room.TaskVersion != 4 || room.TaskMS != t0+1 {
		t.Errorf("%+v", room)
	}
	twice, _ := walk(t, claimed, Event{Kind: Due, AtMS: t0 + 16_000})
	refused, _ := walk(t, claimed, no(claimed, t0+1, true)) // attempt 1 is under way
	over, _ := walk(t, claimed, Event{Kind: Delete, AtMS: t0})
	for name, c := range map[string]struct {
		room Room
		ask  int
		want string
	}{
		"again":                 {room, 0, "refused claimed"},
		"two calls, the first":  {twice, 0, "refused claimed"},
		"two calls, the second": {twice, 1, "refused claimed"},
		"an attempt before":     {refused, 0, "refused claimed"},
		"deleted":               {over, 0, "refused ended"},
	} {
		e := assigned
		e.Task, e.Ask = taskB, c.ask
		next, actions, err := Rules{}.Step(c.room, e)
		if got := outcome(c.room, next, actions, err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestRandomStarts plays ECS and any number of callers that are slow, crash, or lose
// answers, against an epoch's start, and counts the tasks that come of it.
func TestRandomStarts(t *testing.T) {
	type call struct{ attempt, ask int }
	outcomes := map[string]int{}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		room := New(t0, t0+3_600_000)
		tasks := map[string]bool{} // by token
		var calls []call           // on their way
		at := t0
		apply := func(e Event) []Action {
			e.AtMS, e.Epoch = at, 1
			next, actions, err := Rules{}.Step(room, e)
			if err != nil {
				return nil
			}
			room = next
			for _, a := range actions {
				if a.Kind == Start {
					calls = append(calls, call{a.Attempt, a.Ask})
				}
			}
			return actions
		}
		apply(Event{Kind: Claim})
		for range 60 {
			at += rng.Int64N(8000)
			if room.State != Starting {
				break
			}
			if len(calls) == 0 || rng.IntN(3) == 0 {
				apply(Event{Kind: Due})
				continue
			}
			i := rng.IntN(len(calls))
			c := calls[i]
			calls = append(calls[:i], calls[i+1:]...)
			token := fmt.Sprint("arn:task/", c.attempt)
			fate := rng.IntN(6)
			if seed%4 == 0 { // ECS has nothing at all
				fate = 5
			}
			switch fate {
			case 0: // crashed before the call
			case 1: // took effect, and the answer is lost
				tasks[token] = true
				apply(Event{Kind: StartFailed, Attempt: c.attempt, Ask: c.ask})
			case 2:
				if rng.IntN(2) == 0 {
					apply(Event{Kind: Assigned, Attempt: c.attempt, Ask: c.ask, Task: "arn:task/standby"})
					break
				}
				tasks[token] = true
				apply(Event{Kind: Started, Task: token})
			default:
				if tasks[token] {
					apply(Event{Kind: Started, Task: token})
					break
				}
				e := Event{Kind: StartFailed, Attempt: c.attempt, Ask: c.ask, Refused: true, Move: rng.IntN(3) > 0, Shapes: 3, Reason: ReasonNoCapacity}
				for range 1 + rng.IntN(2) { // a commit may be made twice
					apply(e)
				}
			}
			if room.Task == "arn:task/standby" {
				tasks[room.Task] = true
			}
			if len(tasks) > 1 {
				t.Fatalf("seed %d: tasks %v, attempt %d, %d calls open", seed, tasks, room.Attempt, bits.OnesCount64(room.Open))
			}
		}
		switch {
		case room.Task == "arn:task/standby":
			outcomes["standby"]++
		case room.Task != "":
			outcomes[fmt.Sprint("attempt ", min(room.Attempt, 1))]++
		default:
			outcomes[string(room.State)]++
		}
	}
	for _, want := range []string{"standby", "attempt 0", "attempt 1", "failed", "starting"} {
		if outcomes[want] == 0 {
			t.Errorf("no start came to %s: %v", want, outcomes)
		}
	}
}
