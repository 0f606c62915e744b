package lifecycle

// Room is what the transitions know and change. Times are Unix milliseconds by
// the control plane's clock.
type Room struct {
	State       State  `json:"state"`
	Phase       string `json:"phase"`            // finer than State, for people who wait: Phase…
	Reason      string `json:"reason,omitempty"` // why it drains, ended or failed
	Epoch       int    `json:"epoch"`            // 0 until the first task is asked for
	Task        string `json:"task,omitempty"`   // ARN of this epoch's task, "" until known
	TaskVersion int64  `json:"task_ver,omitempty"`
	Link        string `json:"link,omitempty"`         // connection of that task's link, "" until registered
	StopAsked   bool   `json:"stop_asked,omitempty"`   // StopTask was asked for this epoch's task
	Said        bool   `json:"said,omitempty"`         // the task of a room that drains has told its last figures
	JoinSeq     uint64 `json:"join_seq"`               // joins admitted, over all epochs
	Rev         int64  `json:"rev"`                    // grows with every change that watchers are told
	StartFails  int    `json:"start_fails,omitempty"`  // tasks in a row that stopped without registering
	ShortLives  int    `json:"short_lives,omitempty"`  // tasks in a row that registered and died soon after
	StartErrors int    `json:"start_errors,omitempty"` // RunTask calls in a row that failed, this epoch

	// Attempt counts this epoch's ways to start a task, from 0. Each has its own token
	// and its own shape, which never change. Asks numbers the attempt's RunTask calls, and
	// Open has a bit for each of them that ECS has not answered: the next attempt may begin
	// only when it is 0, or a call that is still under way could start a second task.
	Attempt int    `json:"attempt,omitempty"`
	Asks    int    `json:"asks,omitempty"`
	Open    uint64 `json:"open,omitempty"`
	Refusal string `json:"start_refusal,omitempty"` // why ECS refused last, this epoch: Reason…

	// The task of an earlier epoch while it hands the room over: it is proved to end
	// soon, and plays on for those who have not moved. It takes no joins.
	HandingEpoch int    `json:"handing_epoch,omitempty"` // 0 = none, as in the fields below
	HandingTask  string `json:"handing_task,omitempty"`
	HandingLink  string `json:"handing_link,omitempty"`
	HandingMS    int64  `json:"handing_ms,omitempty"` // since when

	CreatedMS   int64 `json:"created_ms"`
	EndsAtMS    int64 `json:"ends_at_ms"`              // maximum duration, over all epochs
	QueueMS     int64 `json:"queue_ms,omitempty"`      // how long a start may wait for capacity; 0: the rules' own
	StartingMS  int64 `json:"starting_ms,omitempty"`   // this epoch was claimed
	AskedMS     int64 `json:"asked_ms,omitempty"`      // RunTask was last called for, or a standby task claimed
	TaskMS      int64 `json:"task_ms,omitempty"`       // this epoch's task became known
	LiveMS      int64 `json:"live_ms,omitempty"`       // this epoch's task registered
	FirstLiveMS int64 `json:"first_live_ms,omitempty"` // the first of all
	DrainingMS  int64 `json:"draining_ms,omitempty"`
	EndedMS     int64 `json:"ended_ms,omitempty"` // ended or failed
	PhaseMS     int64 `json:"phase_ms"`           // since when Phase holds
	HeartbeatMS int64 `json:"heartbeat_ms,omitempty"`
	SilentMS    int64 `json:"silent_ms,omitempty"` // since when the sweep has seen the live room silent
	DueAtMS     int64 `json:"due_ms"`              // when the sweep must look at it next
}

// New is a room that was just asked for. It is due at once, so that a start which
// never comes is made good.
func New(nowMS, endsAtMS int64) Room {
	return Room{
		State: Requested, Phase: PhaseRequested, Rev: 1,
		CreatedMS: nowMS, EndsAtMS: endsAtMS, PhaseMS: nowMS, DueAtMS: nowMS,
	}
}

// Phases.
const (
	PhaseRequested    = "requested"
	PhaseQueued       = "queued" // ECS has refused: no capacity, or too many calls; it is asked again
	PhaseProvisioning = "provisioning"
	PhasePulling      = "pulling"
	PhaseBooting      = "booting"
	PhaseLive         = "live"
	PhaseDraining     = "draining"
	PhaseEnded        = "ended"
	PhaseFailed       = "failed"
)

// phaseOrder keeps the phases of a start from going backwards when ECS's events do.
var phaseOrder = map[string]int{PhaseProvisioning: 1, PhasePulling: 2, PhaseBooting: 3}

// Reasons of a room that ended or failed, besides those that a task gives
// (signal.Reason…).
const (
	ReasonDeleted      = "deleted"
	ReasonMaxDuration  = "max_duration"
	ReasonTerminated   = "terminated"    // a task was told to go (SIGTERM): the room moves
	ReasonTaskExited   = "task_exited"   // the task ended by itself and could not say so first
	ReasonNoCapacity   = "no_capacity"   // no task could be started in time
	ReasonStartRefused = "start_refused" // ECS refuses such a task whatever the capacity: a wrong revision, say
	ReasonStartTimeout = "start_timeout" // a start was asked for, and no task came of it
	ReasonStartFailed  = "start_failed"  // tasks stopped before they registered
	ReasonTaskCrashes  = "task_crashes"  // tasks keep dying soon after they registered
)

// Rules are the times (milliseconds) and counts that the transitions keep. A zero
// field means its default.
type Rules struct {
	// ClaimLeaseMS is how long the caller that claimed a start has to call RunTask
	// before the sweep calls it again with the same token. Default 15 s.
	ClaimLeaseMS int64
	// StartTimeoutMS is the most time from a task's being known to its registration:
	// Fargate's p99 is about 90 s. Default 120 s.
	StartTimeoutMS int64
	// QueueMS is the most time from a claim to a task, for rooms that have no limit of
	// their own. Default 120 s.
	QueueMS int64
	// AskGraceMS is how long after a claim a RunTask may still take effect unseen:
	// the Lambda timeout plus ECS's eventual consistency. Default 60 s.
	AskGraceMS int64
	// LeaseMS is how long a live room may be silent before the sweep asks ECS about
	// its task. Default 45 s, over four heartbeats.
	LeaseMS int64
	// SilentLimitMS is how long the sweep watches a silent task, which ECS says is
	// running, before it stops it. It counts from the first sweep that saw the
	// silence, so an outage of the control plane does not count. Default 10 min, as long
	// as a task waits for somebody to take its last figures.
	SilentLimitMS int64
	// DrainLimitMS is how long a task may take to end by itself, if it is heard or has
	// said its last word. Default 60 s.
	DrainLimitMS int64
	// RecheckMS is the time between two looks at a room that waits for ECS.
	// Default 20 s.
	RecheckMS int64
	// HandoverLimitMS is how long a task that must go may play on. ECS kills it 120 s
	// after its warning. Default 150 s.
	HandoverLimitMS int64
	// EndMarginMS is how long after its maximum duration the task may end the room
	// itself before the sweep does. Default 15 s.
	EndMarginMS int64
	// ShortLifeMS is the time live below which a death counts as a crash at start.
	// Default 30 s.
	ShortLifeMS int64
	// MaxStarts is how many tasks in a row may stop without registering. Default 2.
	MaxStarts int
	// MaxShortLives is how many tasks in a row may die soon after registering.
	// Default 5.
	MaxShortLives int
}

// WithDefaults fills in the zero fields.
func (r Rules) WithDefaults() Rules {
	for _, d := range []struct {
		field *int64
		ms    int64
	}{
		{&r.ClaimLeaseMS, 15_000},
		{&r.StartTimeoutMS, 120_000},
		{&r.QueueMS, 120_000},
		{&r.AskGraceMS, 60_000},
		{&r.LeaseMS, 45_000},
		{&r.SilentLimitMS, 600_000},
		{&r.DrainLimitMS, 60_000},
		{&r.RecheckMS, 20_000},
		{&r.HandoverLimitMS, 150_000},
		{&r.EndMarginMS, 15_000},
		{&r.ShortLifeMS, 30_000},
	} {
		if *d.field == 0 {
			*d.field = d.ms
		}
	}
	if r.MaxStarts == 0 {
		r.MaxStarts = 2
	}
	if r.MaxShortLives == 0 {
		r.MaxShortLives = 5
	}
	return r
}
