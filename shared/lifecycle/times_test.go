package lifecycle

import "testing"

// TestForeignTasks: every frame and every word is about one epoch's one task.
func TestForeignTasks(t *testing.T) {
	later := rooms()["live"]
	later.Epoch = 2
	for _, c := range []struct {
		name string
		room Room
		e    Event
		want string
	}{
		{"another task registers", rooms()["live"], Event{Kind: Register, Epoch: 1, Task: taskB, Link: linkB}, "refused other_task"},
		{"another task registers first", rooms()["starting+task"], Event{Kind: Register, Epoch: 1, Task: taskB, Link: linkB}, "refused other_task"},
		{"another task's heartbeat", rooms()["live"], Event{Kind: Heartbeat, Epoch: 1, Task: taskB}, "refused other_task"},
		{"another task's ending", rooms()["live"], Event{Kind: Ending, Epoch: 1, Task: taskB, Final: true}, "refused other_task"},
		{"an old epoch registers", later, Event{Kind: Register, Epoch: 1, Task: taskA, Link: linkB}, "refused wrong_epoch"},
		{"an old epoch's heartbeat", later, Event{Kind: Heartbeat, Epoch: 1, Task: taskA}, "refused wrong_epoch"},
		{"an old epoch's ending", later, Event{Kind: Ending, Epoch: 1, Task: taskA, Final: true}, "refused wrong_epoch"},
		{"an epoch to come registers", rooms()["live"], Event{Kind: Register, Epoch: 2, Task: taskB}, "refused wrong_epoch"},
		{"an epoch to come stops", rooms()["live"], Event{Kind: TaskStopped, Epoch: 2, Task: taskB}, "refused impossible"},
		{"an old epoch stops late", later, Event{Kind: TaskStopped, Epoch: 1, Task: taskB, Version: 9}, "live 2"},
		{"an old epoch's task runs", later, Event{Kind: TaskSeen, Epoch: 1, Task: taskB, Version: 9}, "live 2: stop arn:task/b"},
		{"an old epoch's task is found by a late start", later, Event{Kind: Started, Epoch: 1, Task: taskB}, "live 2: stop arn:task/b"},
		{"a second task of this epoch", rooms()["live"], Event{Kind: TaskSeen, Epoch: 1, Task: taskB, Version: 2}, "live 1: stop arn:task/b"},
		{"a second task of this epoch stops", rooms()["live"], Event{Kind: TaskStopped, Epoch: 1, Task: taskB, Version: 2}, "live 1"},
		{"an unknown event", rooms()["live"], Event{Kind: "party"}, "refused impossible"},
	} {
		c.e.AtMS = tNow
		next, actions, err := Rules{}.Step(c.room, c.e)
		if got := outcome(c.room, next, actions, err); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		checkStep(t, c.name, c.room, c.e, next, actions, err)
	}
}

// walk applies events in order; each must be accepted. It returns the last outcome.
func walk(t *testing.T, room Room, events ...Event) (Room, string) {
	t.Helper()
	last := ""
	for _, e := range events {
		next, actions, err := Rules{}.Step(room, e)
		if err != nil {
			t.Fatal(err)
		}
		last = outcome(room, next, actions, err)
		room = next
	}
	return room, last
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStartThatNeverComes(t *testing.T) {
	room, _ := walk(t, New(t0, t0+3_600_000), Event{Kind: Claim, AtMS: t0})
	for i := range 3 { // every failure waits longer, and the start is asked for again
		at := room.DueAtMS
		var got string
		room, got = walk(t, room, Event{Kind: Due, AtMS: at})
		expect(t, got, "starting 1: start 1")
		room, _ = walk(t, room, Event{Kind: StartFailed, Epoch: 1, AtMS: at + 100})
		if wait, want := room.DueAtMS-at-100, int64(1000)<<i; wait != want {
			t.Errorf("waits %d ms after failure %d, want %d", wait, i+1, want)
		}
	}
	room, got := walk(t, room, Event{Kind: Due, AtMS: t0 + 120_000})
	expect(t, got, "starting 1: find 1") // a failed call may have started a task
	_, got = walk(t, room, Event{Kind: TaskStopped, Epoch: 1, AtMS: t0 + 120_001})
	expect(t, got, "failed 1 because no_capacity: emit room.failed, tell")
	room, got = walk(t, room, Event{Kind: TaskSeen, Epoch: 1, Task: taskA, AtMS: t0 + 120_001}, Event{Kind: Due, AtMS: t0 + 140_000})
	expect(t, got, "starting 1: look arn:task/a") // there was one after all, and it has its time to register
	_, got = walk(t, room, Event{Kind: Due, AtMS: t0 + 240_001})
	expect(t, got, "starting 1: stop arn:task/a, look arn:task/a")
}

func TestTaskThatNeverRegisters(t *testing.T) {
	room, got := walk(t, New(t0, t0+3_600_000),
		Event{Kind: Claim, AtMS: t0},
		Event{Kind: Started, Epoch: 1, Task: taskA, Version: 1, AtMS: t0 + 200},
		Event{Kind: Due, AtMS: t0 + 120_200})
	expect(t, got, "starting 1: stop arn:task/a, look arn:task/a")
	if _, _, err := (Rules{}).Step(room, Event{Kind: Register, Epoch: 1, Task: taskA, AtMS: t0 + 120_500}); err == nil {
		t.Error("a task that is being stopped was let in")
	}
	room, got = walk(t, room, Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 5, AtMS: t0 + 125_000})
	expect(t, got, "starting 2: emit room.starting, start 2, tell")
	_, got = walk(t, room, Event{Kind: TaskStopped, Epoch: 2, Task: taskB, Version: 5, AtMS: t0 + 130_000})
	expect(t, got, "failed 2 because start_failed: emit room.failed, tell")
}

func TestSilenceIsNotDeath(t *testing.T) {
	room := rooms()["live"]
	due := room.HeartbeatMS + 45_000
	room, got := walk(t, room, Event{Kind: Due, AtMS: due})
	expect(t, got, "live 1: look arn:task/a")
	// The control plane was away for an hour: that was not the task's silence.
	away := rooms()["live"]
	away.EndsAtMS += 9_000_000
	_, got = walk(t, away, Event{Kind: Due, AtMS: due + 3_000_000})
	expect(t, got, "live 1: look arn:task/a")
	_, got = walk(t, room, Event{Kind: Due, AtMS: due + 600_000})
	expect(t, got, "live 1: stop arn:task/a, look arn:task/a")
	room, _ = walk(t, room, Event{Kind: Heartbeat, Epoch: 1, Task: taskA, AtMS: due + 300_000})
	if room.SilentMS != 0 || room.DueAtMS != due+345_000 {
		t.Errorf("after a heartbeat: silent since %d, due %d", room.SilentMS, room.DueAtMS)
	}
}

func TestHeartbeatsSpareTheRoom(t *testing.T) {
	room := rooms()["live"]
	room.HeartbeatMS, room.DueAtMS = tNow, tNow+45_000
	changes := 0
	for i := range int64(30) { // five minutes of heartbeats
		next, _ := walk(t, room, Event{Kind: Heartbeat, Epoch: 1, Task: taskA, AtMS: tNow + i*10_000})
		if next != room {
			changes++
		}
		if next.DueAtMS < tNow+i*10_000+20_000 {
			t.Errorf("due %d ms after a heartbeat", next.DueAtMS-tNow-i*10_000)
		}
		room = next
	}
	if changes != 14 {
		t.Errorf("30 heartbeats wrote the room %d times, want every second one", changes)
	}
}

func TestMaximumDuration(t *testing.T) {
	ends := rooms()["live"].EndsAtMS
	live := rooms()["live"]
	live.HeartbeatMS = ends
	_, got := walk(t, live, Event{Kind: Due, AtMS: ends + 14_999})
	expect(t, got, "live 1") // the task ends it by itself
	_, got = walk(t, live, Event{Kind: Due, AtMS: ends + 15_000})
	expect(t, got, "draining 1 because max_duration: tell, end link-a")
	_, got = walk(t, rooms()["starting+task"], Event{Kind: Due, AtMS: ends + 15_000})
	expect(t, got, "draining 1 because max_duration: tell, stop arn:task/a")
	_, got = walk(t, rooms()["requested"], Event{Kind: Due, AtMS: ends + 15_000})
	expect(t, got, "ended 0 because max_duration: emit room.ended, tell")
	for _, state := range []string{"starting+task", "live"} { // no new epoch for a room that is over
		_, got = walk(t, rooms()[state], Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 5, AtMS: ends})
		expect(t, got, "ended 1 because max_duration: emit room.ended, tell")
	}
	_, got = walk(t, rooms()["live"], Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: 5, Stopping: true, AtMS: ends})
	expect(t, got, "draining 1 because max_duration: tell, end link-a")
}

func TestCrashLoopFails(t *testing.T) {
	room := rooms()["live"]
	at := tNow
	for i := range 5 {
		room.LiveMS = at
		at += 5000
		var got string
		room, got = walk(t, room, Event{Kind: TaskStopped, Epoch: room.Epoch, Task: taskA, Version: 5, AtMS: at})
		if i == 4 {
			expect(t, got, "failed 5 because task_crashes: emit room.failed, tell")
			break
		}
		room, _ = walk(t, room, Event{Kind: Register, Epoch: room.Epoch, Task: taskA, Link: linkA, AtMS: at})
	}
	// A task that lived for a while starts the count anew.
	room = rooms()["live"]
	room.ShortLives = 4
	room, got := walk(t, room, Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 5, AtMS: tNow})
	expect(t, got, "starting 2: emit room.starting, start 2, tell")
	if room.ShortLives != 0 {
		t.Errorf("%d short lives after a long one", room.ShortLives)
	}
}

func TestDrainingIsPursued(t *testing.T) {
	room, got := walk(t, rooms()["draining"], Event{Kind: Due, AtMS: tNow + 58_999})
	expect(t, got, "draining 1: end link-a, look arn:task/a")
	for _, heard := range []Event{
		{Kind: Heartbeat, Epoch: 1, Task: taskA, AtMS: tNow + 58_999},
		{Kind: Register, Epoch: 1, Task: taskA, Link: linkA, AtMS: tNow + 58_999},
		{Kind: Ending, Epoch: 1, Task: taskA, Final: true, AtMS: tNow + 2_000}, // with its last figures
	} {
		there, _ := walk(t, room, heard)
		_, got = walk(t, there, Event{Kind: Due, AtMS: tNow + 59_000})
		expect(t, got, "draining 1: stop arn:task/a, look arn:task/a")
	}
	_, got = walk(t, room, Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 9, Clean: true, AtMS: tNow + 60_000})
	expect(t, got, "ended 1: emit room.ended, tell")

	young := rooms()["draining-task"] // RunTask may still take effect
	young.StartingMS = tNow - 10_000
	room, got = walk(t, young, Event{Kind: Due, AtMS: tNow})
	expect(t, got, "draining 1")
	if room.DueAtMS != tNow+50_000 {
		t.Errorf("due in %d ms, want when no RunTask can be under way", room.DueAtMS-tNow)
	}
	_, got = walk(t, room, Event{Kind: Due, AtMS: room.DueAtMS})
	expect(t, got, "draining 1: find 1")
}

// TestDrainBehindACutLink: the order to end does not reach the task, nor its figures the
// ledger. It is not stopped for that as long as it would wait itself, from when the sweep
// first sees the silence: an outage in which nobody sweeps does not count.
func TestDrainBehindACutLink(t *testing.T) {
	room, got := walk(t, rooms()["live"], Event{Kind: Delete, AtMS: tNow})
	expect(t, got, "draining 1 because deleted: tell, end link-a")
	const seen, pursued = tNow + 300_000, "draining 1: end link-a, look arn:task/a"
	for _, at := range []int64{seen, seen + 300_000, seen + 599_999} {
		room, got = walk(t, room, Event{Kind: Due, AtMS: at})
		expect(t, got, pursued)
	}
	_, got = walk(t, room, Event{Kind: Due, AtMS: seen + 600_000})
	expect(t, got, "draining 1: stop arn:task/a, look arn:task/a")
	back, got := walk(t, room, Event{Kind: Heartbeat, Epoch: 1, Task: taskA, AtMS: seen + 599_999})
	expect(t, got, "draining 1: end link-a")
	if back.SilentMS != 0 {
		t.Errorf("silent since %d ms, though it was heard", back.SilentMS-tNow)
	}
}

func TestPhasesOnlyAdvance(t *testing.T) {
	seen := func(v int64, phase string) Event {
		return Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: v, Phase: phase, AtMS: tNow}
	}
	room, got := walk(t, rooms()["starting+task"], seen(3, PhaseBooting))
	expect(t, got, "starting 1: tell")
	room, got = walk(t, room, seen(2, PhasePulling), seen(3, PhaseBooting), seen(4, PhaseProvisioning))
	expect(t, got, "starting 1")
	if room.Phase != PhaseBooting {
		t.Errorf("phase went back to %s", room.Phase)
	}
}

// TestDrainThatIsNotHeardOf: the word of a task that ends by itself may be lost, so ECS
// is asked long before the task would be stopped.
func TestDrainThatIsNotHeardOf(t *testing.T) {
	room, _ := walk(t, rooms()["live"], Event{Kind: Ending, Epoch: 1, Task: taskA, JoinSeq: rooms()["live"].JoinSeq, Reason: "empty", AtMS: tNow})
	if room.State != Draining || room.DueAtMS != tNow+20_000 {
		t.Fatalf("%s, due after %d ms", room.State, room.DueAtMS-tNow)
	}
	room, got := walk(t, room, Event{Kind: Due, AtMS: tNow + 20_000})
	expect(t, got, "draining 1: end "+room.Link+", look arn:task/a")
	_, got = walk(t, room, Event{Kind: Due, AtMS: tNow + 60_000})
	expect(t, got, "draining 1: stop arn:task/a, look arn:task/a")
}
