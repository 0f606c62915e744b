package lifecycle

import "testing"

// TestHandOver is a Spot interruption from the warning to the old task's end: whoever
// tells first, the task or ECS, the next epoch begins once, and of both tasks only one
// may ever take a join.
func TestHandOver(t *testing.T) {
	warning := Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: 4, Stopping: true, AtMS: tNow}
	said := Event{Kind: Ending, Epoch: 1, Task: taskA, Final: true, Reason: ReasonTerminated, AtMS: tNow}
	for name, order := range map[string][2]Event{"ECS first": {warning, said}, "the task first": {said, warning}} {
		room, got := walk(t, rooms()["live"], order[0])
		expect(t, got, map[Kind]string{
			TaskSeen: "starting 2 handing arn:task/a: emit room.starting, start 2, tell",
			Ending:   "starting 2 handing arn:task/a: emit room.starting, tell", // the sweep may start it at once
		}[order[0].Kind])
		room, _ = walk(t, room, order[1], order[0], order[1])
		if room.Epoch != 2 || room.State != Starting || room.Asks != 1 {
			t.Errorf("%s: %s %d, asked %d times", name, room.State, room.Epoch, room.Asks)
		}
		room, _ = walk(t, room,
			Event{Kind: Started, Epoch: 2, Task: taskB, Version: 1, AtMS: tNow + 50},
			Event{Kind: Register, Epoch: 1, Task: taskA, Link: "link-a2", AtMS: tNow + 100}) // its link was cut
		if room.Link != "" || room.HandingLink != "link-a2" {
			t.Errorf("%s: link %q, handing over %q", name, room.Link, room.HandingLink)
		}
		room, got = walk(t, room, Event{Kind: Register, Epoch: 2, Task: taskB, Link: linkB, AtMS: tNow + 200})
		expect(t, got, "live 2 handing arn:task/a link-b: emit room.live, tell")
		_, got = walk(t, room, Event{Kind: Ending, Epoch: 2, Task: taskB, JoinSeq: room.JoinSeq, Reason: "empty", AtMS: tNow + 300})
		expect(t, got, "live 2 handing arn:task/a: keep") // those who have not moved are still to come
		room, _ = walk(t, room, Event{Kind: Join, AtMS: tNow + 400},
			Event{Kind: TaskStopped, Epoch: 1, Task: taskA, Version: 6, AtMS: tNow + 900})
		if room.HandingTask != "" || room.State != Live || room.Epoch != 2 {
			t.Errorf("%s: %+v", name, room)
		}
	}
}

// TestHandOverIsBounded: a task that should have ended long ago is stopped, and so is
// one whose successor must go as well.
func TestHandOverIsBounded(t *testing.T) {
	moved := rooms()["moved"]
	seen := Event{Kind: TaskSeen, Epoch: 1, Task: taskA, Version: 4}
	seen.AtMS = moved.HandingMS + 149_999
	_, got := walk(t, moved, seen)
	expect(t, got, "live 2 handing arn:task/a")
	seen.AtMS++
	_, got = walk(t, moved, seen)
	expect(t, got, "live 2 handing arn:task/a: stop arn:task/a")
	again := Event{Kind: Ending, Epoch: 2, Task: taskB, Final: true, Reason: ReasonTerminated, AtMS: tNow}
	room, got := walk(t, moved, again)
	expect(t, got, "starting 3 handing arn:task/b: stop arn:task/a, emit room.starting, tell")
	_, _, err := Rules{}.Step(room, Event{Kind: Heartbeat, Epoch: 1, Task: taskA, AtMS: tNow})
	expect(t, outcome(room, room, nil, err), "refused wrong_epoch")
}
