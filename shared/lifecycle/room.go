package lifecycle

// Room is what the transitions know and change. Times are Unix milliseconds by
// the control plane's clock.
type Room struct {
	State       State  `json:"state"`
	Phase       string `json:"phase"`                  // finer than State, for people who wait: Phase…
	Reason      string `json:"reason,omitempty"`       // why it drains, ended or failed
	Epoch       int    `json:"epoch"`                  // 0 until the first task is asked for
	Task        string `json:"task,omitempty"`         // ARN of this epoch's task, "" until known
	TaskVersion int64  `json:"task_ver,omitempty"`     // highest version of ECS's word on it
	Link        string `json:"link,omitempty"`         // connection of that task's link, "" until registered
	Moving      bool   `json:"moving,omitempty"`       // live, but its task said that it must go: no joins until the next epoch
	StopAsked   bool   `json:"stop_asked,omitempty"`   // StopTask was asked for this epoch's task
	JoinSeq     uint64 `json:"join_seq"`               // joins admitted, over all epochs
	Rev         int64  `json:"rev"`                    // grows with every change that watchers are told
	StartFails  int    `json:"start_fails,omitempty"`  // tasks in a row that stopped without registering
	ShortLives  int    `json:"short_lives,omitempty"`  // tasks in a row that registered and died soon after
	StartErrors int    `json:"start_errors,omitempty"` // RunTask calls in a row that failed, this epoch

	CreatedMS   int64 `json:"created_ms"`
	EndsAtMS    int64 `json:"ends_at_ms"`            // maximum duration, over all epochs
	StartingMS  int64 `json:"starting_ms,omitempty"` // this epoch was claimed
	LiveMS      int64 `json:"live_ms,omitempty"`     // this epoch's task registered
	FirstLiveMS int64 `json:"first_live_ms,omitempty"`
	DrainingMS  int64 `json:"draining_ms,omitempty"`
	EndedMS     int64 `json:"ended_ms,omitempty"` // ended or failed
	PhaseMS     int64 `json:"phase_ms"`           // since when Phase holds
	HeartbeatMS int64 `json:"heartbeat_ms,omitempty"`
	SilentMS    int64 `json:"silent_ms,omitempty"` // since when the sweep has seen a live room silent
	DueAtMS     int64 `json:"due_ms"`              // when the sweep must look at it next
}

// Phases.
const (
	PhaseRequested    = "requested"
	PhaseProvisioning = "provisioning"
	PhasePulling      = "pulling"
	PhaseBooting      = "booting"
	PhaseLive         = "live"
	PhaseDraining     = "draining"
	PhaseEnded        = "ended"
	PhaseFailed       = "failed"
)

// Rules are the times and counts that the transitions keep. Zero fields mean the
// defaults.
type Rules struct {
	StartTimeoutMS int64 // claimed → registered, per epoch
}
