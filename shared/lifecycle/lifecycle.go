// Package lifecycle is a room's life across the control plane, its table and ECS:
// the states, and the one pure function that moves between them. (The loop inside
// the task's process that serves the room is another machine: roomtask/room.)
//
// functions/control/life calls Step for everything that happens to a room, and
// commits what it returns; the task and the clients only use the names. The
// package does no I/O and reads no clock: the time of an event is part of it.
// Read step.go after this page.
//
//	stateDiagram-v2
//	    [*] --> requested: create
//	    requested --> starting: claim, due
//	    requested --> ended: delete
//	    starting --> starting: task stopped before it registered (next epoch), start failed (same epoch)
//	    starting --> live: register
//	    starting --> draining: delete, past its end
//	    starting --> failed: too many failed starts
//	    live --> live: join, heartbeat, ending refused (keep)
//	    live --> starting: the task is going (hand over to the next epoch)
//	    live --> starting: task stopped (next epoch)
//	    live --> draining: ending agreed, delete, past its end
//	    live --> ended: task exited by itself
//	    live --> failed: tasks keep dying
//	    draining --> ended: task stopped
//	    ended --> [*]
//	    failed --> [*]
//
// Two rules keep one task per room. A start that is repeated keeps its epoch, and
// so its idempotency token: it finds the first task instead of starting a second.
// And the epoch grows only with proof that its task is over, or is going: ECS says
// that it stopped or will be stopped, or the task itself says that it was told to go.
// A lost lease, a silent link or a timeout never starts a second task. A task that is
// going hands the room over (handover.go): it is fenced from joins and from being the
// room's link from the moment the next epoch begins.
package lifecycle

// State is a room's place in its life.
type State string

// States. ended and failed are final.
const (
	Requested State = "requested" // committed; no task asked for yet
	Starting  State = "starting"  // RunTask sent or about to be; not registered
	Live      State = "live"      // a task is registered and takes joins
	Draining  State = "draining"  // ending: no more joins, the task is going
	Ended     State = "ended"
	Failed    State = "failed"
)

// Final says that nothing happens any more.
func (s State) Final() bool { return s == Ended || s == Failed }
