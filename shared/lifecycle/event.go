package lifecycle

import "fmt"

// Kind names what happened.
type Kind string

// Events. Those about a task carry its Epoch, and its ARN in Task.
const (
	Claim       Kind = "claim"        // somebody wants the task started now
	Started     Kind = "started"      // RunTask answered with a task
	StartFailed Kind = "start_failed" // RunTask failed, or seemed to
	Assigned    Kind = "assigned"     // a standby task was claimed, in the commit of this step
	TaskSeen    Kind = "task_seen"    // ECS says that the task exists and has not stopped
	TaskStopped Kind = "task_stopped" // ECS proved that the task stopped; Task "" means that the epoch never had one
	Register    Kind = "register"     // the task claims the room over its link
	Heartbeat   Kind = "heartbeat"    // the task is there
	Join        Kind = "join"         // a client wants in
	Ending      Kind = "ending"       // the task wants to end, or says that it does
	Delete      Kind = "delete"       // the product ends the room
	Extend      Kind = "extend"       // the product moves the end of the room
	Due         Kind = "due"          // the sweep looks at the room
)

// Event is one thing that happened to a room.
type Event struct {
	Kind    Kind
	AtMS    int64 // Unix ms by the control plane's clock
	Epoch   int
	Task    string
	Version int64  // of ECS's word on the task, 0 if unknown
	Phase   string // TaskSeen: one of provisioning, pulling, booting, or ""
	Link    string // Register
	JoinSeq uint64 // Ending: the highest join that the task has admitted
	Final   bool   // Ending: not a question, the task ends anyway
	Reason  string // Ending, Delete; StartFailed: what the room fails with if it comes to that
	EndsMS  int64  // Extend: the new end, Unix ms
	Clean   bool   // TaskStopped: the task exited by itself, with code 0
	// Stopping says with TaskSeen that ECS is going to stop the task, whose process
	// still runs: a Spot interruption, a retirement, or somebody's StopTask.
	Stopping bool

	Attempt, Ask int // StartFailed, Assigned: which start of the epoch, and which call of it
	// Refused says that ECS has answered, and started nothing. A StartFailed without
	// it may have taken effect.
	Refused bool
	// Move says that this shape cannot be had now, and another may. Shapes is how many
	// there are: after the last of them there is a pause.
	Move   bool
	Shapes int
	Jitter int // StartFailed: a random number from 0 to 999, which spreads the next try
}

// ActionKind names what is to be done.
type ActionKind string

// Actions. Emit belongs to the commit of the step; the others follow it, may be
// lost in a crash, and are asked for again by a later step if they still matter.
const (
	Emit  ActionKind = "emit"  // append the event Name to the room's outbox
	Start ActionKind = "start" // a task for Epoch: one of the standby, or RunTask of Attempt
	Stop  ActionKind = "stop"  // StopTask of Task
	Look  ActionKind = "look"  // ask ECS about Task, feed the answer back
	Find  ActionKind = "find"  // ask ECS whether Epoch has a task, feed the answer back
	End   ActionKind = "end"   // tell the task on Link to end
	Keep  ActionKind = "keep"  // answer Ending: a join won
	Tell  ActionKind = "tell"  // tell the watchers
)

// Action is one thing to be done.
type Action struct {
	Kind    ActionKind
	Name    string // Emit
	Epoch   int    // Start, Find
	Attempt int    // Start: which start of the epoch
	Ask     int    // Start: which call of the attempt
	Task    string // Stop, Look
	Link    string // End
	Reason  string // Stop, End
}

// Names of emitted events.
const (
	EventStarting = "room.starting"
	EventLive     = "room.live"
	EventEnded    = "room.ended"
	EventFailed   = "room.failed"
)

// Codes of a Refusal. The first three are told to a task as signal.Refused.
const (
	WrongEpoch    = "wrong_epoch"
	OtherTask     = "other_task"
	Over          = "ended"          // the room is over, or the task is unwanted
	NotLive       = "not_live"       // not yet, or not just now
	NotRegistered = "not_registered" // the frame overtook its registration: no answer
	Claimed       = "claimed"        // somebody else has started the room
	Impossible    = "impossible"     // no correct sender sends this
)

// Refusal is the error of a Step that does not apply. The room is unchanged.
type Refusal struct {
	State State
	Kind  Kind
	Code  string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("lifecycle: %s refused in %s: %s", r.Kind, r.State, r.Code)
}
